//! The API's own journal: one session per start of the gateway, and one writer.

use chrono::Utc;
use countersign_infra::domain::audit::{Chain, Event, Happening};
use countersign_infra::domain::id::SessionId;
use countersign_infra::domain::identity::Person;
use countersign_infra::journal::{Journal, JournalError};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

/// Notes that may wait for the writer; more callers wait for a place.
const WAITING_MAX: usize = 256;
/// Notes that share one write.
const BATCH_MAX: usize = 64;
/// Events that are kept while the journal does not answer; then further notes are refused until it does.
const UNSURE_MAX: usize = 1024;

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
    let mut writer = Writer::new(journal, gateway);
    let mut notes = Vec::with_capacity(BATCH_MAX);
    while waiting.recv_many(&mut notes, BATCH_MAX).await > 0 {
        let result = writer.write(&notes).await;
        for note in notes.drain(..) {
            // A caller that has gone needs no answer.
            drop(note.written.send(result.clone()));
        }
    }
}

/// The chain's end, and the events of which it is not known whether they were written.
struct Writer {
    journal: Arc<dyn Journal>,
    gateway: String,
    session: SessionId,
    last: Option<Event>,
    unsure: Vec<Event>,
}

impl Writer {
    fn new(journal: Arc<dyn Journal>, gateway: String) -> Self {
        let session = SessionId(uuid::Uuid::now_v7());
        let (last, unsure) = (None, Vec::new());
        Self {
            journal,
            gateway,
            session,
            last,
            unsure,
        }
    }

    async fn write(&mut self, notes: &[Note]) -> Result<(), String> {
        if self.unsure.len() + notes.len() > UNSURE_MAX {
            let unsure = std::mem::take(&mut self.unsure);
            self.append(unsure).await?;
        }
        let mut events = std::mem::take(&mut self.unsure);
        for note in notes {
            let event = self.chain(&note.person).next(Utc::now(), note.what.clone());
            self.last = Some(event.clone());
            events.push(event);
        }
        self.append(events).await
    }

    /// Events of which it is not known whether they were written are written again, as they are, before others.
    async fn append(&mut self, events: Vec<Event>) -> Result<(), String> {
        match self.journal.append(&events).await {
            Ok(()) => Ok(()),
            Err(error @ JournalError::Unavailable { .. }) => {
                self.unsure = events;
                Err(error.to_string())
            }
            Err(error @ (JournalError::Taken { .. } | JournalError::Damaged { .. } | JournalError::BadQuery(_))) => {
                tracing::error!(%error, session = %self.session, "the API's journal goes on as another session");
                *self = Self::new(self.journal.clone(), std::mem::take(&mut self.gateway));
                Err(error.to_string())
            }
        }
    }

    /// The chain as it goes on with an event of this person: many people's events share it.
    fn chain(&self, person: &Person) -> Chain {
        match &self.last {
            None => Chain::new(self.session, &self.gateway, Some(person), None),
            Some(last) => Chain::resume(&Event {
                person: Some(person.key.clone()),
                person_name: Some(person.name.clone()),
                ..last.clone()
            }),
        }
    }
}
