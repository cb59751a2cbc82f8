//! One session's journal: its only writer, so that its chain has no fork.

use crate::refusal::Refusal;
use chrono::Utc;
use countersign_infra::domain::audit::{Chain, Event, Happening};
use countersign_infra::domain::id::SessionId;
use countersign_infra::journal::{Journal, JournalError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long one append may take before the session ends.
const APPEND_WAIT_MAX: Duration = Duration::from_secs(10);
/// Notes that wait for the next append.
const NOTES_MAX: usize = 64;

/// Appends to the journal of one session, in order.
///
/// Once an append has failed the chain cannot be known to be whole: every later one fails too, and so nothing of
/// the session runs any more.
pub struct SessionJournal {
    journal: Arc<dyn Journal>,
    /// Held across the append on purpose: one writer at a time is what keeps the chain whole. The wait is bounded.
    writer: Mutex<Writer>,
}

struct Writer {
    chain: Chain,
    notes: Vec<Event>,
    failed: bool,
}

/// What became of a change that was to be written in one transaction with the events that tell of it.
#[derive(Debug)]
pub enum Undone<E> {
    /// Neither the change nor the events were written.
    NotWritten(E),
    /// Whether they were written is not known; it was both or neither.
    NotKnown(E),
}

/// Why a change and its events are not both on record.
#[derive(Debug)]
pub enum NotTold<E> {
    /// The store refused the change: neither is on record, and the session's journal goes on.
    Refused(E),
    /// Neither may be on record, or both: nothing of the session runs any more.
    Journal(NotJournaled),
}

/// The event is not known to be on record.
#[derive(Debug, thiserror::Error)]
pub enum NotJournaled {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the store did not say whether it was written: {0}")]
    NotKnown(String),
    #[error("the journal did not answer within {} seconds", APPEND_WAIT_MAX.as_secs())]
    TimedOut,
    #[error("an earlier event of this session could not be written")]
    FailedBefore,
}

impl NotJournaled {
    /// What the client is told when something could not be put on record.
    pub fn refusal(&self) -> Refusal {
        Refusal::unready("the journal", self)
    }
}

impl SessionJournal {
    pub fn new(journal: Arc<dyn Journal>, chain: Chain) -> Self {
        Self {
            journal,
            writer: Mutex::new(Writer {
                chain,
                notes: Vec::new(),
                failed: false,
            }),
        }
    }

    /// Goes on with the journal of a session whose writer is gone. None when it has no events.
    pub async fn resume(journal: Arc<dyn Journal>, session: SessionId) -> Result<Option<Self>, JournalError> {
        let last = journal.last(session).await?;
        Ok(last.map(|last| Self::new(journal.clone(), Chain::resume(&last))))
    }

    /// Appends events, after the notes that wait. `Ok` means durable. Waits at most ten seconds.
    pub async fn append(&self, happenings: Vec<Happening>) -> Result<(), NotJournaled> {
        let mut writer = self.writer.lock().await;
        writer.note(happenings);
        self.flush(&mut writer).await
    }

    /// Writes a change of the store and the events that tell of it, after the notes that wait, in one transaction: `write`
    /// is given the events, and says what became of both. Waits at most ten seconds.
    pub async fn append_with<T, E, F, W>(&self, happenings: Vec<Happening>, write: W) -> Result<T, NotTold<E>>
    where
        E: std::fmt::Display,
        F: Future<Output = Result<T, Undone<E>>>,
        W: FnOnce(Vec<Event>) -> F,
    {
        let mut writer = self.writer.lock().await;
        if writer.failed {
            return Err(NotTold::Journal(NotJournaled::FailedBefore));
        }
        let (chain, noted) = (writer.chain.clone(), writer.notes.len());
        writer.note(happenings);
        // Set first: a caller that is dropped while it waits leaves a chain of unknown length.
        writer.failed = true;
        match tokio::time::timeout(APPEND_WAIT_MAX, write(writer.notes.clone())).await {
            Ok(Ok(done)) => {
                writer.failed = false;
                writer.notes.clear();
                Ok(done)
            }
            Ok(Err(Undone::NotWritten(error))) => {
                writer.failed = false;
                writer.chain = chain;
                writer.notes.truncate(noted);
                Err(NotTold::Refused(error))
            }
            Ok(Err(Undone::NotKnown(error))) => Err(NotTold::Journal(NotJournaled::NotKnown(error.to_string()))),
            Err(_) => Err(NotTold::Journal(NotJournaled::TimedOut)),
        }
    }

    /// Waits until no append is under way: one that is dropped midway would be the last of its session.
    pub async fn idle(&self) {
        drop(self.writer.lock().await);
    }

    /// Notes an event that is written with the next append, or at the end of the session.
    pub async fn note(&self, happening: Happening) -> Result<(), NotJournaled> {
        let mut writer = self.writer.lock().await;
        writer.note([happening]);
        if writer.notes.len() < NOTES_MAX {
            Ok(())
        } else {
            self.flush(&mut writer).await
        }
    }

    async fn flush(&self, writer: &mut Writer) -> Result<(), NotJournaled> {
        if writer.failed {
            return Err(NotJournaled::FailedBefore);
        }
        if writer.notes.is_empty() {
            return Ok(());
        }
        // Set first: a caller that is dropped while it waits leaves a chain of unknown length.
        writer.failed = true;
        let append = self.append_again(&writer.notes);
        tokio::time::timeout(APPEND_WAIT_MAX, append)
            .await
            .map_err(|_| NotJournaled::TimedOut)??;
        writer.failed = false;
        writer.notes.clear();
        Ok(())
    }
}

/// How long to wait before an append is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

impl SessionJournal {
    /// Tries again while the journal cannot be reached: the same event is only ever written once. The caller bounds
    /// the time.
    async fn append_again(&self, events: &[Event]) -> Result<(), JournalError> {
        loop {
            match self.journal.append(events).await {
                Err(JournalError::Unavailable { source }) => {
                    tracing::warn!(error = source, "the journal is not available: trying again");
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                done => return done,
            }
        }
    }
}

impl Writer {
    fn note(&mut self, happenings: impl IntoIterator<Item = Happening>) {
        let now = Utc::now();
        for happening in happenings {
            let event = self.chain.next(now, happening);
            self.notes.push(event);
        }
    }
}
