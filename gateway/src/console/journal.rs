//! The API's own journal: one session per start of the gateway, and one writer.

use chrono::Utc;
use countersign_infra::domain::audit::{Event, Happening};
use countersign_infra::domain::id::{Digest, SessionId};
use countersign_infra::domain::identity::Person;
use countersign_infra::journal::{Journal, JournalError};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

/// Notes that may wait for the writer; more callers wait for a place.
const WAITING_MAX: usize = 256;
/// Notes that share one write.
const BATCH_MAX: usize = 64;

struct Note {
    person: Person,
    what: Happening,
    written: oneshot::Sender<Result<(), String>>,
}

/// The way to the writer.
pub struct ApiJournal {
    notes: mpsc::Sender<Note>,
}

/// The note could not be written: what it notes must not be answered as done.
#[derive(Debug, thiserror::Error)]
#[error("the journal is unavailable: {0}")]
pub struct NotNoted(String);

impl ApiJournal {
    pub fn start(journal: Arc<dyn Journal>, gateway: String, tasks: &TaskTracker) -> Self {
        let (notes, waiting) = mpsc::channel(WAITING_MAX);
        tasks.spawn(write(journal, gateway, waiting));
        Self { notes }
    }

    /// Notes what a person did; `Ok` means durable. When dropped midway the note may or may not be written.
    pub async fn note(&self, person: &Person, what: Happening) -> Result<(), NotNoted> {
        let (written, answer) = oneshot::channel();
        let person = person.clone();
        let gone = || NotNoted("its writer has stopped".to_owned());
        let note = Note { person, what, written };
        self.notes.send(note).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?.map_err(NotNoted)
    }
}

async fn write(journal: Arc<dyn Journal>, gateway: String, mut waiting: mpsc::Receiver<Note>) {
    let mut chain = Chain::new(gateway);
    let mut notes = Vec::with_capacity(BATCH_MAX);
    while waiting.recv_many(&mut notes, BATCH_MAX).await > 0 {
        let mut next = chain.clone();
        let events: Vec<Event> = notes.iter().map(|note| next.next(&note.person, note.what.clone())).collect();
        let result = journal.append(&events).await;
        chain = match &result {
            Ok(()) => next,
            // Whether it was written is not known: what follows starts a chain of its own instead of guessing.
            Err(JournalError::Taken { .. } | JournalError::Unavailable { .. }) => Chain::new(chain.gateway),
        };
        for note in notes.drain(..) {
            let told = result.as_ref().map(|()| ()).map_err(ToString::to_string);
            // A caller that has gone needs no answer.
            let _ = note.written.send(told);
        }
    }
}

#[derive(Clone)]
struct Chain {
    gateway: String,
    session: SessionId,
    seq: u64,
    last: Digest,
}

impl Chain {
    fn new(gateway: String) -> Self {
        let session = SessionId(uuid::Uuid::now_v7());
        let (seq, last) = (0, Digest::ZERO);
        Self { gateway, session, seq, last }
    }

    fn next(&mut self, person: &Person, what: Happening) -> Event {
        let mut event = Event {
            session: self.session,
            seq: self.seq,
            at: Utc::now(),
            gateway: self.gateway.clone(),
            person: Some(person.key.clone()),
            person_name: Some(person.name.clone()),
            target: None,
            what,
            previous: self.last,
            hash: Digest::ZERO,
        };
        event.hash = Digest::of(&serde_json::to_vec(&event).unwrap_or_default());
        self.seq += 1;
        self.last = event.hash;
        event
    }
}
