//! Where commands find sessions, recordings and digests: at a gateway, or in the stores of a gateway's configuration.

mod remote;
mod walk;

pub use walk::Walk;

use super::client::{ClientError, ConnectArgs, GatewayClient};
use crate::catalog::{Catalog, Listed, RecordingPage};
use crate::console::LinkList;
use anyhow::Context;
use bytes::Bytes;
use chrono::{NaiveDate, TimeDelta, Utc};
use countersign_infra::config::{Config, Store};
use countersign_infra::domain::audit::{Event, Happening};
use countersign_infra::domain::id::{Digest, SessionId};
use countersign_infra::journal::{JournalError, JournalQuery, Page, Retention};
use countersign_infra::recordings::RecordingError;
use countersign_infra::recordings::chain::Anchor;
use countersign_infra::recordings::key::{Keyring, PublicKey};
use countersign_infra::recordings::proof::Witness;
use countersign_infra::stores::{STORE_FILE, Stores};
use std::path::PathBuf;
use std::time::Duration;

/// The directory of the recording's keys within the data directory.
const KEYS_DIRECTORY: &str = "keys";
/// A session that lives moves on while it is looked at: so often it is looked at again, and so much later.
const LOOKS_MAX: usize = 4;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// What was journaled longer ago is in the store by now, or the store does not take it.
const RECENT: TimeDelta = TimeDelta::minutes(1);

/// Where to find sessions and recordings.
#[derive(Clone, Debug, clap::Args)]
pub struct SourceArgs {
    /// Reads the stores of the gateway with this configuration itself (its directory, or DynamoDB and S3), without
    /// asking the gateway.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The public key of recordings in PEM, from a place that whoever holds the recordings cannot change; or a
    /// directory of such keys (*.pub.pem). May be given several times: each gateway signs with a key of its own.
    /// Without it the keys are those that the gateway names.
    #[arg(long, env = "COUNTERSIGN_RECORDING_KEY", value_name = "PATH", value_delimiter = ':')]
    key: Vec<PathBuf>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// A place that has sessions.
pub struct Source {
    from: From,
    own: Option<Keyring>,
}

enum From {
    Gateway(GatewayClient),
    Stores {
        stores: Box<Stores>,
        catalog: Catalog,
        keys: PathBuf,
    },
}

/// What a recording consists of.
#[derive(Clone)]
pub struct Recording {
    pub chunks: u64,
    /// None while the session lives.
    pub manifest: Option<Bytes>,
    /// What to check it with.
    pub keys: Keyring,
    /// The keys came from the caller, not from the place that holds the recording.
    pub is_own_key: bool,
}

/// What there is of a session.
pub struct Found {
    /// An event that was damaged in the store is an error, see [`damage`].
    pub events: anyhow::Result<Vec<Event>>,
    pub recording: Option<Recording>,
}

impl SourceArgs {
    pub async fn open(&self) -> anyhow::Result<Source> {
        let own = match self.key.as_slice() {
            [] => None,
            places => Some(Keyring::load(places).context("--key")?),
        };
        let from = match &self.config {
            None => From::Gateway(self.connect.connect().await?),
            Some(path) => From::open(&Config::load(path)?).await?,
        };
        Ok(Source { from, own })
    }
}

impl From {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        let data = &config.gateway.data_dir;
        let file = data.join(STORE_FILE);
        match &config.store {
            // Opening would make it.
            Store::Embedded {} => anyhow::ensure!(
                file.is_file(),
                "there is no store at {}: did this gateway ever run?",
                file.display()
            ),
            Store::Aws(_) => {}
        }
        Ok(Self::of(crate::stores::open(config).await?, data.join(KEYS_DIRECTORY)))
    }

    /// Stores that are open; `keys` is where the gateway that owns them keeps its keys.
    fn of(stores: Stores, keys: PathBuf) -> Self {
        Self::Stores {
            catalog: Catalog {
                recordings: stores.recordings.clone(),
                journal: stores.journal.clone(),
                listed: Listed::default(),
            },
            stores: Box::new(stores),
            keys,
        }
    }
}

impl Source {
    #[cfg(test)]
    pub fn stores(stores: Stores, keys: &std::path::Path, own: Option<Keyring>) -> Self {
        let from = From::of(stores, keys.to_owned());
        Self { from, own }
    }

    /// The keys came from the caller.
    pub fn has_own_keys(&self) -> bool {
        self.own.is_some()
    }

    /// What there is of a session now. While a session lives its journal, its chunks and its manifest are not written
    /// in one moment: what does not fit yet is looked at again, for two seconds at most.
    pub async fn session(&self, session: SessionId) -> anyhow::Result<Found> {
        let mut looks = 1;
        loop {
            // In this order: a recording is never behind what was journaled of it before.
            let events = self.events(session).await;
            let recording = self.recording(session).await?;
            if looks == LOOKS_MAX || !is_between(&events, recording.as_ref()) {
                return Ok(Found { events, recording });
            }
            looks += 1;
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    async fn events(&self, session: SessionId) -> anyhow::Result<Vec<Event>> {
        match &self.from {
            From::Gateway(client) => match client.events(session).await {
                Err(ClientError::No(problem)) if problem.status == 404 => Ok(Vec::new()),
                events => Ok(events?),
            },
            From::Stores { stores, .. } => Ok(stores.journal.session(session).await?),
        }
    }

    /// What the recording of a session consists of; none when there is none.
    async fn recording(&self, session: SessionId) -> anyhow::Result<Option<Recording>> {
        let (chunks, manifest, named) = match &self.from {
            From::Gateway(client) => match client.recording(session).await {
                Err(ClientError::No(problem)) if problem.status == 404 => return Ok(None),
                other => {
                    let (chunks, manifest, pems) = other?;
                    (chunks, manifest, keyring(&pems)?)
                }
            },
            From::Stores { stores, .. } => {
                let recordings = &stores.recordings;
                // First: a manifest never has fewer chunks before it than it counts.
                let manifest = recordings.read_manifest(session).await?;
                match recordings.chunks(session).await {
                    Err(RecordingError::NotFound(_)) => return Ok(None),
                    Ok(0) if manifest.is_none() => return Ok(None),
                    chunks => (chunks?, manifest, self.keys_beside()?),
                }
            }
        };
        Ok(Some(Recording {
            chunks,
            manifest,
            keys: self.own.clone().unwrap_or(named),
            is_own_key: self.has_own_keys(),
        }))
    }

    /// One chunk; none when it is not there.
    pub async fn chunk(&self, session: SessionId, number: u64) -> anyhow::Result<Option<Bytes>> {
        match &self.from {
            From::Gateway(client) => none_if_absent(client.chunk(session, number).await),
            From::Stores { stores, .. } => match stores.recordings.read_chunk(session, number).await {
                Err(RecordingError::NotFound(_)) => Ok(None),
                chunk => Ok(Some(chunk?)),
            },
        }
    }

    /// A page of the journal.
    pub async fn search(&self, query: &JournalQuery) -> anyhow::Result<Page> {
        match &self.from {
            From::Gateway(client) => Ok(client.search(query).await?),
            From::Stores { stores, .. } => Ok(stores.journal.search(query).await?),
        }
    }

    /// The names of a day's digests, and what to check them with.
    pub async fn digests(&self, day: NaiveDate) -> anyhow::Result<(Vec<String>, Keyring)> {
        let (names, named) = match &self.from {
            From::Gateway(client) => {
                let list = client.digests(day).await?;
                (list.digests, keyring(&list.keys)?)
            }
            From::Stores { stores, .. } => (stores.recordings.digests(day).await?, self.keys_beside()?),
        };
        Ok((names, self.own.clone().unwrap_or(named)))
    }

    /// For how long the journal keeps events; none: for ever.
    pub async fn retention(&self, today: NaiveDate) -> anyhow::Result<Option<Retention>> {
        match &self.from {
            From::Gateway(client) => {
                let days = client.digests(today).await?.retention_days;
                let kept = days.and_then(TimeDelta::try_days);
                Ok(kept.map(Retention::new))
            }
            From::Stores { stores, .. } => Ok(stores.journal.retention()),
        }
    }

    /// One digest; none when it is not there.
    pub async fn digest(&self, day: NaiveDate, name: &str) -> anyhow::Result<Option<Bytes>> {
        match &self.from {
            From::Gateway(client) => none_if_absent(client.digest(day, name).await),
            From::Stores { stores, .. } => match stores.recordings.read_digest(day, name).await {
                Err(RecordingError::NoDigest(_)) => Ok(None),
                digest => Ok(Some(digest?)),
            },
        }
    }

    /// A page of a day's recordings, newest first.
    pub async fn recordings(
        &self,
        day: NaiveDate,
        after: Option<SessionId>,
        limit: usize,
    ) -> anyhow::Result<RecordingPage> {
        match &self.from {
            From::Gateway(client) => Ok(client.recordings(day, after, limit).await?),
            From::Stores { catalog, .. } => Ok(catalog.page(day, after, limit).await?),
        }
    }

    /// All sessions of a day that have a recording.
    pub async fn sessions(&self, day: NaiveDate) -> anyhow::Result<Vec<SessionId>> {
        match &self.from {
            From::Gateway(client) => {
                let (mut sessions, mut after) = (Vec::new(), None);
                loop {
                    let page = client.recordings(day, after, crate::catalog::LIMIT_MAX).await?;
                    sessions.extend(page.recordings.iter().map(|recording| recording.session));
                    match page.next {
                        next @ Some(_) if next != after => after = next,
                        Some(_) | None => return Ok(sessions),
                    }
                }
            }
            From::Stores { catalog, .. } => Ok(catalog.sessions(day).await?),
        }
    }

    /// Links to the objects of a recording; only a gateway gives them.
    pub async fn links(&self, session: SessionId, valid: Duration, from: u64) -> anyhow::Result<LinkList> {
        match &self.from {
            From::Gateway(client) => Ok(client.links(session, valid, from).await?),
            From::Stores { .. } => anyhow::bail!("links are given by a gateway, which journals it: leave --config out"),
        }
    }

    fn keys_beside(&self) -> anyhow::Result<Keyring> {
        match (&self.own, &self.from) {
            (Some(own), _) => Ok(own.clone()),
            (None, From::Stores { keys, .. }) => Keyring::load(std::slice::from_ref(keys))
                .context("no public key of recordings: give the gateways' with --key"),
            (None, From::Gateway(_)) => Ok(Keyring::new([])),
        }
    }
}

fn keyring(pems: &[String]) -> anyhow::Result<Keyring> {
    let keys = pems.iter().map(|pem| PublicKey::from_pem(pem));
    let keys = keys
        .collect::<Result<Vec<_>, _>>()
        .context("a public key of recordings")?;
    Ok(Keyring::new(keys))
}

fn none_if_absent(read: Result<Bytes, ClientError>) -> anyhow::Result<Option<Bytes>> {
    match read {
        Err(ClientError::No(problem)) if problem.status == 404 => Ok(None),
        read => Ok(Some(read?)),
    }
}

/// The journal and the recording of a session that lives, or has just ended, seen at two different moments: the end is
/// journaled before the manifest reaches the store.
fn is_between(events: &anyhow::Result<Vec<Event>>, recording: Option<&Recording>) -> bool {
    let Ok(events) = events else { return false };
    let witness = witness(events);
    let is_closed = witness.closed.is_some();
    let is_finished = recording.is_some_and(|recording| recording.manifest.is_some());
    let anchors = witness.anchors.iter().chain(&witness.closed);
    let known = anchors.map(|anchor| anchor.chunks).max().unwrap_or(0);
    let there = recording.map_or(0, |recording| recording.chunks);
    let is_recent = events.last().is_some_and(|last| Utc::now() - last.at < RECENT);
    (is_finished && !is_closed && !events.is_empty()) || (is_recent && (known > there || is_closed && !is_finished))
}

/// What a session's events say of its recording.
pub fn witness(events: &[Event]) -> Witness {
    let mut witness = Witness::default();
    for event in events {
        match &event.what {
            Happening::SessionOpened { header } => witness.header = Some(header.clone()),
            Happening::RecordingAnchor { chunks, last } => witness.anchors.push(anchor(*chunks, *last)),
            Happening::SessionClosed { chunks, last, .. } => witness.closed = Some(anchor(*chunks, *last)),
            Happening::Asked { .. }
            | Happening::Verdict { .. }
            | Happening::Held { .. }
            | Happening::Executing { .. }
            | Happening::Answered { .. }
            | Happening::Refused { .. }
            | Happening::GatewaySent { .. }
            | Happening::CopyReceived { .. }
            | Happening::AuditQueried { .. }
            | Happening::Decided { .. }
            | Happening::SignInRefused { .. }
            | Happening::ChatLinked { .. }
            | Happening::DigestSigned { .. } => {}
        }
    }
    witness
}

fn anchor(chunks: u64, last: Digest) -> Anchor {
    Anchor { chunks, last }
}

/// What an error says of data that was changed in the store; none when it is about something else.
pub fn damage(error: &anyhow::Error) -> Option<String> {
    if let Some(error @ JournalError::Damaged { .. }) = error.downcast_ref() {
        return Some(error.to_string());
    }
    match error.downcast_ref() {
        Some(ClientError::Damaged(detail)) => Some(detail.clone()),
        Some(_) | None => None,
    }
}
