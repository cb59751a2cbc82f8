//! Collects what the store and the journal say of the runs of gateways in a time.

use super::sweep::Span;
use crate::cli::recording::Source;
use chrono::{NaiveDate, TimeDelta};
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::audit::{Event, Happening, verify_chain};
use countersign_infra::domain::id::{Digest, RunId, SessionId};
use countersign_infra::domain::session::SessionHeader;
use countersign_infra::journal::JournalQuery;
use countersign_infra::recordings::digest::{DigestName, RunDigest};
use std::collections::{BTreeMap, BTreeSet};

/// Events of one page of the journal.
const PAGE: usize = 1000;
/// A session gets its number a moment before the journal has it, and a digest may be signed in between.
pub const MOMENT: TimeDelta = TimeDelta::minutes(1);

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Broken {
    /// `digest`, `run`, `session` or `journal`, and which.
    pub about: String,
    pub what: String,
}

impl Broken {
    pub fn new(about: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            about: about.into(),
            what: what.into(),
        }
    }
}

/// A run of a gateway, as it is told from several sides.
#[derive(Default)]
pub struct Run {
    pub gateway: Option<String>,
    /// What lies in the store, by number.
    pub digests: BTreeMap<u64, Stored>,
    /// What the journal says was signed, by number.
    pub signed: BTreeMap<u64, Signed>,
    /// The sessions that the journal says were opened, by number.
    pub opened: BTreeMap<u64, Opened>,
}

pub struct Stored {
    pub digest: RunDigest,
    pub sha256: Digest,
    pub place: String,
}

#[derive(Clone)]
pub struct Signed {
    pub sha256: Digest,
    pub name: String,
    pub at: Timestamp,
}

#[derive(Clone, Copy)]
pub struct Opened {
    pub session: SessionId,
    pub at: Timestamp,
}

#[derive(Default)]
pub struct Gathered {
    pub runs: BTreeMap<RunId, Run>,
    /// The sessions that have a recording in the store.
    pub listed: BTreeSet<SessionId>,
    pub keys: BTreeSet<String>,
    pub broken: Vec<Broken>,
}

impl Gathered {
    /// The journal is read first: what is opened or signed in the meantime is then in the store, not the other way.
    pub async fn gather(source: &Source, span: &Span) -> anyhow::Result<Self> {
        let mut all = Self::default();
        let first_event = all.journal(source, span).await?;
        let first = span.since.or(first_event).unwrap_or(span.now);
        let days = days((first - MOMENT).date_naive(), span.now.date_naive());
        for day in &days {
            all.digests_of(source, *day, span).await?;
        }
        all.earlier_digests(source, &days).await?;
        for day in days {
            let listed = source.sessions(day).await?;
            all.listed
                .extend(listed.into_iter().filter(|session| is_since(*session, span)));
        }
        Ok(all)
    }

    /// Returns when the first event was.
    async fn journal(&mut self, source: &Source, span: &Span) -> anyhow::Result<Option<Timestamp>> {
        let mut first = None;
        let mut query = JournalQuery {
            since: span.since,
            events: vec!["session_opened".to_owned(), "digest_signed".to_owned()],
            limit: PAGE,
            ..JournalQuery::default()
        };
        loop {
            let page = source.search(&query).await?;
            first = page.events.last().map(|event| event.at).or(first);
            page.events.into_iter().for_each(|event| self.event(event));
            match page.next {
                Some(next) if query.after.as_ref() != Some(&next) => query.after = Some(next),
                Some(_) | None => return Ok(first),
            }
        }
    }

    fn event(&mut self, event: Event) {
        if let Happening::DigestSigned { .. } = event.what
            && let Err(broken) = verify_chain(std::slice::from_ref(&event))
        {
            let about = format!("journal of session {}", event.session);
            self.broken.push(Broken::new(about, broken.to_string()));
        }
        let at = event.at;
        if let Happening::SessionOpened { header } = &event.what {
            self.opened(header, at);
        }
        if let Happening::DigestSigned {
            name,
            run: id,
            number,
            sha256,
            ..
        } = event.what
        {
            let run = self.runs.entry(id).or_default();
            run.gateway.get_or_insert(event.gateway);
            let before = run.signed.insert(number, Signed { sha256, name, at });
            if before.is_some_and(|before| before.sha256 != sha256) {
                let what = format!("it has two different digests with number {number}");
                self.broken.push(Broken::new(format!("run {id}"), what));
            }
        }
    }

    fn opened(&mut self, header: &SessionHeader, at: Timestamp) {
        let session = header.id;
        let run = self.runs.entry(header.number.run).or_default();
        // Its own sessions know a run's gateway best: another gateway may have signed for it.
        run.gateway = Some(header.gateway.clone());
        let before = run.opened.insert(header.number.number, Opened { session, at });
        if let Some(before) = before.filter(|before| before.session != session) {
            let what = format!("session {} has the same number of the same run", before.session);
            self.broken.push(Broken::new(format!("session {session}"), what));
        }
    }

    async fn digests_of(&mut self, source: &Source, day: NaiveDate, span: &Span) -> anyhow::Result<()> {
        let (names, keys) = source.digests(day).await?;
        for name in names {
            let place = format!("{}/{name}", day.format("%Y/%m/%d"));
            let Ok(parsed) = name.parse::<DigestName>() else {
                self.broken.push(Broken::new(
                    format!("digests/{place}"),
                    "no gateway gives a digest such a name",
                ));
                continue;
            };
            let Some(bytes) = source.digest(day, &name).await? else {
                continue;
            };
            match RunDigest::read(&bytes, &keys) {
                Err(error) => self
                    .broken
                    .push(Broken::new(format!("digests/{place}"), error.to_string())),
                Ok(digest) if digest.place() != (day, parsed) => {
                    let what = "it is another digest, stored under this name";
                    self.broken.push(Broken::new(format!("digests/{place}"), what));
                }
                Ok(digest) if span.since.is_some_and(|since| digest.to < since - MOMENT) => {}
                Ok(digest) => self.stored(digest, Digest::of(&bytes), place),
            }
        }
        Ok(())
    }

    fn stored(&mut self, digest: RunDigest, sha256: Digest, place: String) {
        self.keys.insert(digest.key().to_string());
        let (number, run) = (digest.number, self.runs.entry(digest.run).or_default());
        run.gateway.get_or_insert_with(|| digest.gateway.clone());
        let about = format!("digests/{place}");
        let stored = Stored { digest, sha256, place };
        if let Some(before) = run.digests.insert(number, stored) {
            let what = format!("digests/{} has the same number of the same run", before.place);
            self.broken.push(Broken::new(about, what));
        }
    }

    /// What was journaled in this time may have been signed on a day before it.
    async fn earlier_digests(&mut self, source: &Source, days: &[NaiveDate]) -> anyhow::Result<()> {
        let missing: Vec<Signed> = self
            .runs
            .values()
            .flat_map(|run| {
                let is_missing = |number: &u64| !run.digests.contains_key(number);
                run.signed
                    .iter()
                    .filter(move |(number, _)| is_missing(number))
                    .map(|(_, signed)| signed.clone())
            })
            .collect();
        for signed in missing {
            let Some((day, name)) = signed.name.rsplit_once('/') else {
                continue;
            };
            let Ok(day) = NaiveDate::parse_from_str(day, "%Y/%m/%d") else {
                continue;
            };
            if days.contains(&day) {
                continue;
            }
            let (_, keys) = source.digests(day).await?;
            let bytes = source.digest(day, name).await?;
            let digest = bytes.as_ref().map(|bytes| RunDigest::read(bytes, &keys));
            if let (Some(bytes), Some(Ok(digest))) = (bytes, digest) {
                self.stored(digest, Digest::of(&bytes), signed.name);
            }
        }
        Ok(())
    }
}

fn days(from: NaiveDate, to: NaiveDate) -> Vec<NaiveDate> {
    from.iter_days().take_while(|day| *day <= to).collect()
}

fn is_since(session: SessionId, span: &Span) -> bool {
    match (span.since, session.made()) {
        (Some(since), Some(made)) => made >= since,
        (None, _) | (_, None) => true,
    }
}
