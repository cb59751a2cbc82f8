//! Where `replay` and `verify` find a session: at a gateway, or in the data of a gateway on this machine.

use super::client::{ClientError, ConnectArgs, GatewayClient};
use crate::config::{Config, Store};
use crate::stores::STORE_FILE;
use anyhow::Context;
use bytes::Bytes;
use countersign_infra::domain::audit::{Event, Happening};
use countersign_infra::domain::id::SessionId;
use countersign_infra::embedded::EmbeddedStore;
use countersign_infra::journal::{Journal, JournalError};
use countersign_infra::recordings::chain::Anchor;
use countersign_infra::recordings::disk::DiskRecordings;
use countersign_infra::recordings::key::{PUBLIC_FILE, PublicKey};
use countersign_infra::recordings::proof::Witness;
use countersign_infra::recordings::{RecordingError, RecordingStore};
use std::path::{Path, PathBuf};

/// The directory of the recording's keys within the data directory.
const KEYS_DIRECTORY: &str = "keys";

/// Where to find a session's journal and recording.
#[derive(Clone, Debug, clap::Args)]
pub struct SourceArgs {
    /// Reads the data of the gateway with this configuration itself, on this machine, without asking the gateway.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The public key of recordings in PEM, from a place that whoever holds the recordings cannot change. Without it
    /// the key is the one that the gateway names.
    #[arg(long, env = "COUNTERSIGN_RECORDING_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// A place that has sessions.
pub struct Source {
    from: From,
    key: Option<PathBuf>,
}

enum From {
    Gateway(GatewayClient),
    Disk {
        journal: EmbeddedStore,
        recordings: DiskRecordings,
        key: PathBuf,
    },
}

/// What a recording consists of.
pub struct Recording {
    pub chunks: u64,
    /// None while the session lives.
    pub manifest: Option<Bytes>,
    /// What to check it with.
    pub key: PublicKey,
    /// The key came from the caller, not from the place that holds the recording.
    pub is_own_key: bool,
}

impl SourceArgs {
    pub fn open(&self) -> anyhow::Result<Source> {
        let Some(path) = &self.config else {
            let from = From::Gateway(self.connect.connect()?);
            let key = self.key.clone();
            return Ok(Source { from, key });
        };
        let config = Config::load(path)?;
        match config.store {
            Store::Embedded {} => Source::disk(&config.gateway.data_dir, self.key.clone()),
            Store::Aws(_) => anyhow::bail!("this build has no AWS stores"),
        }
    }
}

impl Source {
    /// The data directory of a gateway with the embedded store.
    pub fn disk(data: &Path, key: Option<PathBuf>) -> anyhow::Result<Self> {
        let file = data.join(STORE_FILE);
        // Opening would make it.
        anyhow::ensure!(
            file.is_file(),
            "there is no store at {}: did this gateway ever run?",
            file.display()
        );
        let from = From::Disk {
            journal: EmbeddedStore::open(&file)?,
            recordings: DiskRecordings::under(data),
            key: data.join(KEYS_DIRECTORY).join(PUBLIC_FILE),
        };
        Ok(Self { from, key })
    }

    /// All events of a session; none when the journal does not know it. An event that was damaged in the store is an error, see [`damage`].
    pub async fn events(&self, session: SessionId) -> anyhow::Result<Vec<Event>> {
        match &self.from {
            From::Gateway(client) => match client.events(session).await {
                Err(ClientError::No(problem)) if problem.status == 404 => Ok(Vec::new()),
                events => Ok(events?),
            },
            From::Disk { journal, .. } => Ok(journal.session(session).await?),
        }
    }

    /// What the recording of a session consists of; none when there is none.
    pub async fn recording(&self, session: SessionId) -> anyhow::Result<Option<Recording>> {
        let (chunks, manifest, pem) = match &self.from {
            From::Gateway(client) => match client.recording(session).await {
                Err(ClientError::No(problem)) if problem.status == 404 => return Ok(None),
                other => other?,
            },
            From::Disk { recordings, key, .. } => match recordings.chunks(session).await {
                Err(RecordingError::NotFound(_)) => return Ok(None),
                chunks => (chunks?, recordings.read_manifest(session).await?, read(key)?),
            },
        };
        let own = self.key.as_deref().map(read).transpose()?;
        let is_own_key = own.is_some();
        let key = PublicKey::from_pem(&own.unwrap_or(pem)).context("the public key of recordings")?;
        Ok(Some(Recording {
            chunks,
            manifest,
            key,
            is_own_key,
        }))
    }

    pub async fn chunk(&self, session: SessionId, number: u64) -> anyhow::Result<Bytes> {
        match &self.from {
            From::Gateway(client) => Ok(client.chunk(session, number).await?),
            From::Disk { recordings, .. } => Ok(recordings.read_chunk(session, number).await?),
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("the public key {} cannot be read", path.display()))
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
            | Happening::DigestSigned { .. } => {}
        }
    }
    witness
}

fn anchor(chunks: u64, last: countersign_infra::domain::id::Digest) -> Anchor {
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
