//! Signed digests of this gateway's sessions: every hour that had any, and when the gateway stops.
//!
//! A digest is on this disk before it is sent, then in the recording store, then its SHA-256 in the journal; only then
//! is the next one made. A gateway that has no sessions sends nothing.

mod dead;
mod files;
mod ledger;

pub use files::FileError;
pub use ledger::Ledger;

use crate::journal::{NotJournaled, SessionJournal};
use crate::sessions::SessionRegistry;
use chrono::{DurationRound, TimeDelta, Utc};
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::audit::{Chain, Happening};
use countersign_infra::domain::id::{Digest, RunId, SessionId};
use countersign_infra::journal::{Journal, JournalError};
use countersign_infra::recordings::digest::{
    DigestError, Draft, LINES_MAX, RunChain, RunDigest, SessionLine, SignedDigest,
};
use countersign_infra::recordings::key::SigningKey;
use countersign_infra::recordings::{RecordingError, RecordingStore};
use files::{OnItsWay, RunFiles};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

/// Digests are signed so long after the hour at most: not by all gateways in the same second.
const JITTER_SECONDS_MAX: u64 = 120;
/// How long the store may take for one digest.
const STORE_WAIT_MAX: Duration = Duration::from_secs(30);
/// After a failure the next attempt comes so much later.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// A run is found dead for so long before its last digest is made of the journal: by then the indexes of the journal
/// know of its last sessions, and what is in the spool is settled. A last digest is never made again.
const DEAD_FOR: Duration = Duration::from_secs(60);
/// How long the last digest may hold up the end of the gateway.
const END_WAIT_MAX: Duration = Duration::from_secs(15);

/// Why a digest is not signed, stored and journaled. It is tried again, also by the next start.
#[derive(Debug, thiserror::Error)]
pub enum NotDigested {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the digest cannot be made: {0}")]
    Draft(#[from] DigestError),
    #[error(transparent)]
    Store(#[from] RecordingError),
    #[error("the recording store did not answer within {} s", STORE_WAIT_MAX.as_secs())]
    StoreSilent,
    #[error(transparent)]
    Journal(#[from] NotJournaled),
    #[error(transparent)]
    JournalRead(#[from] JournalError),
    #[error("the run's files cannot be worked on: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// What digests are made with.
#[derive(Clone)]
pub struct Means {
    pub gateway: String,
    pub key: Arc<SigningKey>,
    pub recordings: Arc<dyn RecordingStore>,
    pub journal: Arc<dyn Journal>,
    /// Where runs keep what is needed to end their digests.
    pub directory: PathBuf,
}

/// Signs the digests of this run, and the last ones of runs that died.
pub struct Digests {
    means: Means,
    sessions: SessionRegistry,
    /// Held across the writing on purpose: one digest follows the other. Every wait within is bounded.
    own: Mutex<Option<Run>>,
    /// Runs whose last digest is still to be made, and since when they are known to be dead.
    dead: std::sync::Mutex<BTreeMap<RunId, Instant>>,
}

/// A run whose digests this gateway writes.
struct Run {
    files: Arc<RunFiles>,
    chain: RunChain,
}

impl Digests {
    /// Begins the run's files. Nothing is sent yet.
    pub async fn begin(means: Means, sessions: SessionRegistry) -> Result<Self, NotDigested> {
        let chain = RunChain::begin(&means.gateway, sessions.run(), Utc::now());
        let (directory, begun) = (means.directory.clone(), chain.clone());
        let files = Arc::new(tokio::task::spawn_blocking(move || RunFiles::begin(&directory, &begun)).await??);
        Ok(Self {
            means,
            sessions,
            own: Mutex::new(Some(Run { files, chain })),
            dead: std::sync::Mutex::default(),
        })
    }

    pub fn means(&self) -> &Means {
        &self.means
    }

    /// Signs a digest after each hour that had sessions, until `stop`. What is being written then is finished.
    pub async fn keep(&self, stop: CancellationToken) {
        loop {
            let signed = self.sign(Utc::now(), false).await;
            let mut wait = until_due(Utc::now(), jitter(self.sessions.run()));
            if let Err(error) = signed {
                tracing::error!(%error, "a digest of sessions is not written yet");
                wait = wait.min(AGAIN_AFTER);
            }
            // All arms may be dropped: none has done anything.
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = self.sessions.full() => {}
            }
        }
    }

    /// Signs what there is to say now: nothing where there was no session since the last digest.
    pub async fn sign(&self, now: Timestamp, ends: bool) -> Result<(), NotDigested> {
        let mut own: MutexGuard<'_, Option<Run>> = self.own.lock().await;
        let Some(run) = own.as_mut() else { return Ok(()) };
        self.sessions.named(&self.means.resend(run).await?);
        let lines = self.sessions.lines();
        if !lines.is_empty() || (ends && run.chain.digests > 0) {
            self.means.sign_all(run, now, &lines, (ends, false)).await?;
            self.sessions.named(&lines);
        }
        if ends {
            run.settle().await?;
            *own = None;
        }
        Ok(())
    }

    /// Signs the last digest of this run, within a bound. What is not done by then the next start does.
    pub async fn end(&self) {
        match tokio::time::timeout(END_WAIT_MAX, self.sign(Utc::now(), true)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the last digest of this run is left to the next start"),
            Err(_) => tracing::error!("the last digest of this run took too long: it is left to the next start"),
        }
    }

    /// Writes the last digest of each run that left its files here and was found dead a minute ago. Call it after what
    /// those runs left in the spool was settled.
    pub async fn settle_the_dead(&self, now: Instant) -> Result<(), NotDigested> {
        let directory = self.means.directory.clone();
        let mut first = Ok(());
        let found = tokio::task::spawn_blocking(move || RunFiles::of_the_dead(&directory)).await??;
        for files in self.dead_for_long(found, now) {
            // One that cannot be settled must not keep the others from it.
            first = first.and(self.means.bury(Arc::new(files)).await);
        }
        first
    }

    /// Lets those go that were found dead a moment ago only.
    fn dead_for_long(&self, found: Vec<RunFiles>, now: Instant) -> Vec<RunFiles> {
        let mut dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *dead);
        for files in &found {
            dead.insert(files.run(), before.get(&files.run()).copied().unwrap_or(now));
        }
        let since = |files: &RunFiles| dead.get(&files.run()).copied().unwrap_or(now);
        found
            .into_iter()
            .filter(|files| now.saturating_duration_since(since(files)) >= DEAD_FOR)
            .collect()
    }
}

impl Means {
    async fn bury(&self, files: Arc<RunFiles>) -> Result<(), NotDigested> {
        let for_reading = files.clone();
        let Some(chain) = tokio::task::spawn_blocking(move || for_reading.chain()).await?? else {
            return Ok(tokio::task::spawn_blocking(move || files.settle()).await??);
        };
        let mut run = Run { files, chain };
        self.resend(&mut run).await?;
        if !run.chain.ended {
            let lines = dead::lines(self, &run.chain).await?;
            if !lines.is_empty() || run.chain.digests > 0 {
                self.sign_all(&mut run, Utc::now(), &lines, (true, true)).await?;
                tracing::warn!(gateway = run.chain.gateway, run = %run.chain.run, sessions = lines.len(),
                    "the last digest of a run that was interrupted is signed");
            }
        }
        run.settle().await
    }

    /// Signs lines in as many digests as they need.
    async fn sign_all(
        &self,
        run: &mut Run,
        now: Timestamp,
        lines: &[SessionLine],
        (ends, interrupted): (bool, bool),
    ) -> Result<(), NotDigested> {
        let mut parts: Vec<&[SessionLine]> = lines.chunks(LINES_MAX).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let last = parts.len() - 1;
        for (index, part) in parts.into_iter().enumerate() {
            let draft = Draft {
                to: now,
                sessions: part.to_vec(),
                ends: ends && index == last,
                interrupted,
            };
            let signed = run.chain.sign(draft, &self.key)?;
            let (files, for_sending) = (run.files.clone(), signed.clone());
            tokio::task::spawn_blocking(move || files.send(&for_sending)).await??;
            self.deliver(run, signed).await?;
        }
        Ok(())
    }

    /// Sends again what may not have arrived, and says what was in it.
    async fn resend(&self, run: &mut Run) -> Result<Vec<SessionLine>, NotDigested> {
        let files = run.files.clone();
        let Some(OnItsWay { digest, object }) = tokio::task::spawn_blocking(move || files.on_its_way()).await?? else {
            return Ok(Vec::new());
        };
        let sessions = digest.sessions.clone();
        if digest.number != run.chain.digests {
            run.keep().await?;
            return Ok(sessions);
        }
        let (day, name) = digest.place();
        let signed = SignedDigest {
            sha256: Digest::of(object.as_bytes()),
            bytes: object.into(),
            digest,
            day,
            name,
        };
        self.deliver(run, signed).await?;
        Ok(sessions)
    }

    /// To the store, then to the journal, then the run moves on. May be repeated with the same digest.
    async fn deliver(&self, run: &mut Run, signed: SignedDigest) -> Result<(), NotDigested> {
        let (day, name) = (signed.day, signed.name.to_string());
        let put = self.recordings.put_digest(day, &name, signed.bytes.clone());
        tokio::time::timeout(STORE_WAIT_MAX, put)
            .await
            .map_err(|_| NotDigested::StoreSilent)??;
        self.journal(&signed).await?;
        run.chain.follow(&signed.digest, signed.sha256)?;
        run.keep().await
    }

    /// A session of the journal for each digest: nothing else is said there, and so no failure outlasts its own.
    async fn journal(&self, signed: &SignedDigest) -> Result<(), NotDigested> {
        let RunDigest { run, number, .. } = signed.digest;
        let happening = Happening::DigestSigned {
            name: format!("{}/{}", signed.day.format("%Y/%m/%d"), signed.name),
            run,
            number,
            sha256: signed.sha256,
            sessions: signed.digest.sessions.len() as u64,
            ends: signed.digest.ends,
        };
        let chain = Chain::new(SessionId(uuid::Uuid::now_v7()), self.gateway.clone(), None, None);
        let journal = SessionJournal::new(self.journal.clone(), chain);
        Ok(journal.append(vec![happening]).await?)
    }
}

impl Run {
    async fn keep(&self) -> Result<(), NotDigested> {
        let (files, chain) = (self.files.clone(), self.chain.clone());
        Ok(tokio::task::spawn_blocking(move || files.keep(&chain)).await??)
    }

    async fn settle(&self) -> Result<(), NotDigested> {
        let files = self.files.clone();
        Ok(tokio::task::spawn_blocking(move || files.settle()).await??)
    }
}

/// Spreads gateways over the first minutes of the hour; the same for the whole run.
fn jitter(run: RunId) -> Duration {
    let random = run.0.as_u128() & u128::from(u32::MAX);
    Duration::from_secs(random as u64 % JITTER_SECONDS_MAX)
}

/// Until the next full hour, and a little.
fn until_due(now: Timestamp, jitter: Duration) -> Duration {
    let hour = TimeDelta::hours(1);
    let next = now.duration_trunc(hour).map_or(now, |begin| begin + hour);
    (next - now).to_std().unwrap_or_default() + jitter
}

#[cfg(test)]
mod tests;
