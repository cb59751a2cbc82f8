//! The proof of all sessions of a time: that none is missing, and each is as it was written.

use super::gather::{Broken, Gathered, MOMENT, Run};
use super::session::{Said, UnknownSession, examine};
use crate::cli::recording::{Found, Source};
use chrono::TimeDelta;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::display::escape;
use countersign_infra::domain::id::{Digest, RunId, SessionId};
use countersign_infra::journal::Retention;
use countersign_infra::recordings::chain::Anchor;
use countersign_infra::recordings::digest::{DigestError, RunChain};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// A session that no digest names is missing from them after so long: a digest is made each hour, and a little later.
const DIGESTED_AFTER: TimeDelta = TimeDelta::minutes(135);

/// The time that is looked at.
pub struct Span {
    /// None: from the beginning.
    pub since: Option<Timestamp>,
    pub now: Timestamp,
}

pub struct Sweep<'s> {
    source: &'s Source,
    span: Span,
    gateway: Option<String>,
    is_quick: bool,
    found: Swept,
    /// What is to be looked at, and what digests say of it.
    sessions: BTreeMap<SessionId, Said>,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Swept {
    pub verified: bool,
    /// Everything that is not as it was written; the first thing first.
    pub broken: Vec<Broken>,
    since: Option<Timestamp>,
    now: Timestamp,
    /// The journal keeps events for so many days: nothing before them was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_days: Option<i64>,
    runs: usize,
    digests: usize,
    sessions: usize,
    chunks: u64,
    /// Sessions that are too new to be in a digest.
    in_no_digest_yet: usize,
    /// Recordings were looked for, and not read.
    quick: bool,
    /// The keys of the digests.
    keys: Vec<String>,
    /// The keys came from the caller, not from the place that holds the recordings.
    own_key: bool,
}

impl<'s> Sweep<'s> {
    pub fn new(source: &'s Source, span: Span, gateway: Option<String>, is_quick: bool) -> Self {
        let found = Swept {
            now: span.now,
            quick: is_quick,
            own_key: source.has_own_keys(),
            ..Swept::default()
        };
        Self {
            source,
            span,
            gateway,
            is_quick,
            found,
            sessions: BTreeMap::new(),
        }
    }

    pub async fn run(mut self) -> anyhow::Result<Swept> {
        let kept = self.begin_with_what_is_kept().await?;
        let mut gathered = Gathered::gather(self.source, &self.span).await?;
        self.found.broken.append(&mut gathered.broken);
        self.found.keys = gathered.keys.into_iter().collect();
        let mut others = Vec::new();
        for (id, run) in &gathered.runs {
            if self.gateway.is_none() || self.gateway == run.gateway {
                self.check_run(*id, run);
            } else {
                others.extend(run.opened.values().map(|opened| opened.session));
            }
        }
        for session in gathered.listed {
            if !others.contains(&session) {
                self.sessions.entry(session).or_default();
            }
        }
        self.sessions
            .retain(|session, _| !matches!((session.made(), kept), (Some(made), Some(kept)) if made < kept));
        self.check_sessions().await?;
        self.found.verified = self.found.broken.is_empty();
        Ok(self.found)
    }

    /// What is older than the first whole day that the journal keeps has an end that is in order: digests and
    /// recordings may outlive it, and nothing speaks for them any more. Returns when that day began.
    async fn begin_with_what_is_kept(&mut self) -> anyhow::Result<Option<Timestamp>> {
        let now = self.span.now;
        let retention = self.source.retention(now.date_naive()).await?;
        let kept = retention.map(|retention| retention.whole_since(now));
        self.span.since = self.span.since.max(kept);
        self.found.since = self.span.since;
        self.found.retention_days = retention.map(Retention::days);
        Ok(kept)
    }

    fn check_run(&mut self, id: RunId, run: &Run) {
        self.found.runs += 1;
        self.found.digests += run.digests.len();
        self.check_missing(id, run);
        self.check_chain(id, run);
        self.check_named(id, run);
        for stored in run.digests.values() {
            let is_told = stored.digest.to < self.span.now - MOMENT;
            for line in stored.digest.sessions.iter().filter(|line| !line.session.0.is_nil()) {
                let said = self.sessions.entry(line.session).or_default();
                said.anchors.push(line.anchor());
                // A session of which nothing was recorded never began: nothing is to be found of it.
                said.closed |= line.closed && line.chunks > 0;
                // Or it was about to begin when the digest was signed, and a later one takes that back.
                said.open = !line.closed && (is_told || said.open);
            }
        }
        for opened in run.opened.values() {
            self.sessions.entry(opened.session).or_default();
        }
    }

    /// Store and journal know the same digests.
    fn check_missing(&mut self, id: RunId, run: &Run) {
        for (number, signed) in &run.signed {
            let about = format!("digests/{}", signed.name);
            let of = named(id, run);
            match run.digests.get(number) {
                None => self.broken(
                    about,
                    format!(
                        "it is missing: the journal says that digest {number} of {of} was signed at {}",
                        signed.at
                    ),
                ),
                Some(stored) if stored.sha256 != signed.sha256 => {
                    self.broken(
                        about,
                        format!("it is not the digest {number} of {of} that the journal knows"),
                    );
                }
                Some(_) => {}
            }
        }
        for (number, stored) in &run.digests {
            // The journal is told last: a moment ago it may not have known.
            let to = stored.digest.to;
            let is_told = self.span.since.is_none_or(|since| to >= since) && to < self.span.now - DIGESTED_AFTER;
            if is_told && !run.signed.contains_key(number) {
                let about = format!("digests/{}", stored.place);
                self.broken(about, "the journal does not know that it was signed");
            }
        }
    }

    fn check_chain(&mut self, id: RunId, run: &Run) {
        let mut chain: Option<RunChain> = None;
        for (number, stored) in &run.digests {
            let about = format!("digests/{}", stored.place);
            let begin = || match number {
                0 => Some(RunChain::begin(&stored.digest.gateway, id, stored.digest.from)),
                _ => None,
            };
            let followed = match chain.take().or_else(begin) {
                Some(mut before) => before.follow(&stored.digest, stored.sha256),
                // What is before it is not looked at, but the journal may know its hash.
                None => self.check_first(run, *number, stored.digest.previous, &about),
            };
            if let Err(error) = followed {
                self.broken(about, error.to_string());
            }
            chain = Some(RunChain::after(&stored.digest, stored.sha256));
        }
    }

    fn check_first(&mut self, run: &Run, number: u64, previous: Digest, about: &str) -> Result<(), DigestError> {
        let before = number.checked_sub(1).and_then(|before| run.signed.get(&before));
        if before.is_some_and(|before| before.sha256 != previous) {
            self.broken(about, "it does not follow the digest before it that the journal knows");
        }
        if self.span.since.is_none() {
            let (found, expected) = (number, 0);
            return Err(DigestError::Number { found, expected });
        }
        Ok(())
    }

    /// Each session that the journal knows stands in a digest, once it is old enough.
    fn check_named(&mut self, id: RunId, run: &Run) {
        let last = run.digests.values().next_back();
        let (next, is_over) = last.map_or((0, false), |last| (last.digest.next, last.digest.ends));
        for (number, opened) in &run.opened {
            let about = format!("session {}", opened.session);
            let mut digests = run.digests.values().map(|stored| &stored.digest);
            let digest = digests.find(|digest| (digest.first..digest.next).contains(number));
            let line = digest.and_then(|digest| digest.sessions.iter().find(|line| line.number == *number));
            let of = named(id, run);
            match line {
                Some(line) if line.session == opened.session => {}
                Some(line) => self.broken(
                    about,
                    format!("as number {number} of {of} the digest names session {}", line.session),
                ),
                None if *number < next => self.broken(about, format!("no digest names it (number {number} of {of})")),
                None if is_over => self.broken(
                    about,
                    format!("it is number {number} of {of}, whose last digest ends with number {next}"),
                ),
                None if opened.at < self.span.now - DIGESTED_AFTER => self.broken(
                    about,
                    format!(
                        "no digest names it (number {number} of {of}), though it was opened at {}: a digest is missing, \
                         or the gateway died and has not come back",
                        opened.at
                    ),
                ),
                None => self.found.in_no_digest_yet += 1,
            }
        }
    }

    async fn check_sessions(&mut self) -> anyhow::Result<()> {
        for (session, said) in std::mem::take(&mut self.sessions) {
            let about = format!("session {session}");
            if self.is_quick {
                self.look_for(session, &said, about).await?;
                continue;
            }
            match examine(self.source, session, &said).await {
                // Its number was given, and then nothing of it came to be.
                Err(error) if error.is::<UnknownSession>() => {}
                Err(error) => return Err(error),
                Ok(finding) => {
                    self.found.sessions += 1;
                    self.found.chunks += finding.chunks;
                    if let Some(broken) = finding.broken {
                        self.broken(about, broken);
                    }
                }
            }
        }
        Ok(())
    }

    /// The journal and the recording are there, and as long as digests say; the last chunk that they say of is as it was.
    async fn look_for(&mut self, session: SessionId, said: &Said, about: String) -> anyhow::Result<()> {
        let last = said.anchors.iter().copied().max_by_key(|anchor| anchor.chunks);
        let last = last.unwrap_or(Anchor::START);
        let Found { events, recording } = self.source.session(session).await?;
        let (is_journaled, there) = (!events?.is_empty(), recording.map_or(0, |recording| recording.chunks));
        if !is_journaled && (there > 0 || said.has_begun()) {
            self.broken(about, "the journal: it has no event of this session");
        } else if there < last.chunks {
            self.broken(
                about,
                format!(
                    "the recording: it has {there} chunks, but the gateway's digest knows of {}",
                    last.chunks
                ),
            );
        } else if let Some(number) = last.chunks.checked_sub(1) {
            self.found.chunks += 1;
            let chunk = self.source.chunk(session, number).await?;
            if chunk.is_none_or(|chunk| Digest::of(&chunk) != last.last) {
                self.broken(
                    about,
                    format!("the recording: chunk {number} is not the one that the gateway's digest names"),
                );
            }
        }
        self.found.sessions += usize::from(is_journaled);
        Ok(())
    }

    fn broken(&mut self, about: impl Into<String>, what: impl Into<String>) {
        self.found.broken.push(Broken::new(about, what));
    }
}

fn named(id: RunId, run: &Run) -> String {
    match &run.gateway {
        Some(gateway) => format!("run {id} of gateway {gateway}"),
        None => format!("run {id}"),
    }
}

impl fmt::Display for Swept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(first) = self.broken.first() {
            writeln!(f, "BROKEN: {}: {}", escape(&first.about), escape(&first.what))?;
            return match self.broken.len() {
                1 => Ok(()),
                all => writeln!(f, "and {} more: --json names them all", all - 1),
            };
        }
        let since = self.since.map_or("the beginning".to_owned(), |since| {
            since.format("%Y-%m-%d %H:%M:%S UTC").to_string()
        });
        writeln!(f, "everything since {since}")?;
        if let Some(days) = self.retention_days {
            writeln!(
                f,
                "  kept      the journal keeps {days} days: what is older is not verified any more"
            )?;
        }
        let keys = match self.keys.len() {
            0 => "by nobody".to_owned(),
            1 => format!("by key {}", self.keys.join("")),
            _ => format!("by keys {}", self.keys.join(", ")),
        };
        writeln!(
            f,
            "  digests   {} of {} runs of gateways, signed {keys}, numbered without a gap, as the journal knows them",
            self.digests, self.runs
        )?;
        let depth = match self.quick {
            true => "each there with its journal, as long as the digests say; not read",
            false => "each with its journal and recording as they were written",
        };
        writeln!(f, "  sessions  {}, {depth}; {} chunks read", self.sessions, self.chunks)?;
        if self.in_no_digest_yet > 0 {
            writeln!(
                f,
                "  too new   {} sessions are in no digest yet: that none is missing among the newest is not proved",
                self.in_no_digest_yet
            )?;
        }
        writeln!(
            f,
            "This proves that nobody without the gateways' private keys removed a session, a digest or a part of a \
             recording\nthat a digest names. It does not prove that the gateways wrote what happened."
        )?;
        if !self.own_key && self.digests > 0 {
            writeln!(
                f,
                "The public keys came from the same place as the recordings: give your own copies with --key to be sure."
            )?;
        }
        writeln!(f, "VERIFIED")
    }
}
