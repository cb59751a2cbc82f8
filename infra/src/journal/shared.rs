//! A journal that many people's events share, as those of an API or of a bot: one writer, and a session per start of the
//! program and day.

use crate::approvals::{ApprovalStore, ApprovalStoreExt, ChangeError, StoreError};
use crate::domain::Timestamp;
use crate::domain::approval::{Approval, Change};
use crate::domain::audit::{Chain, Event, Happening};
use crate::domain::id::{ApprovalId, SessionId};
use crate::domain::identity::Person;
use crate::journal::{Journal, JournalError};
use chrono::{TimeDelta, Utc};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

/// Notes that may wait for the writer; more callers wait for a place.
const WAITING_MAX: usize = 256;
/// Notes that share one write.
const BATCH_MAX: usize = 32;
/// Events that are kept while the journal does not answer; then further notes are refused until it does. With those of
/// one batch they are no more than one write may have.
const UNSURE_MAX: usize = 32;
/// How long one decision may take. Others wait for it.
const DECISION_MAX: Duration = Duration::from_secs(9);

/// A session of this journal goes on no longer: a store that keeps events for some days keeps whole sessions.
const SESSION_LASTS: TimeDelta = TimeDelta::days(1);

/// What the writer is asked to write.
enum Entry {
    Note(Box<Note>),
    Decision(Box<Decision>),
}

struct Note {
    person: Person,
    what: Happening,
    written: oneshot::Sender<Result<(), String>>,
}

/// A change of an approval, with the event that tells of it.
struct Decision {
    person: Person,
    what: Happening,
    approval: ApprovalId,
    change: Change,
    now: Timestamp,
    made: oneshot::Sender<Result<Approval, ChangeError>>,
}

/// The way to the writer.
pub struct SharedJournal {
    entries: mpsc::Sender<Entry>,
}

/// The note could not be written: what it notes must not be answered as done.
#[derive(Debug, thiserror::Error)]
#[error("the journal is unavailable: {0}")]
pub struct NotNoted(String);

impl SharedJournal {
    pub fn start(
        journal: Arc<dyn Journal>,
        approvals: Arc<dyn ApprovalStore>,
        program: String,
        tasks: &TaskTracker,
    ) -> Self {
        let (entries, waiting) = mpsc::channel(WAITING_MAX);
        tasks.spawn(write(journal, approvals, program, waiting));
        Self { entries }
    }

    /// Notes what a person did; `Ok` means durable. When dropped midway the note may or may not be written.
    pub async fn note(&self, person: &Person, what: Happening) -> Result<(), NotNoted> {
        let (written, answer) = oneshot::channel();
        let person = person.clone();
        let gone = || NotNoted("its writer has stopped".to_owned());
        let note = Entry::Note(Box::new(Note { person, what, written }));
        self.entries.send(note).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?.map_err(NotNoted)
    }

    /// Changes an approval and notes it, in one transaction. `Unavailable`: whether it was changed is not known; it was
    /// noted if it was. Every other error: neither was done.
    pub async fn decide(
        &self,
        person: &Person,
        what: Happening,
        approval: &ApprovalId,
        change: Change,
        now: Timestamp,
    ) -> Result<Approval, ChangeError> {
        let (made, answer) = oneshot::channel();
        let gone = || {
            let source = "the journal's writer has stopped".into();
            ChangeError::Store(StoreError::Unavailable { source })
        };
        let decision = Decision {
            person: person.clone(),
            what,
            approval: approval.clone(),
            change,
            now,
            made,
        };
        let sent = self.entries.send(Entry::Decision(Box::new(decision))).await;
        sent.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn write(
    journal: Arc<dyn Journal>,
    approvals: Arc<dyn ApprovalStore>,
    gateway: String,
    mut waiting: mpsc::Receiver<Entry>,
) {
    let mut writer = Writer::new(journal, gateway);
    let mut entries = Vec::with_capacity(BATCH_MAX);
    while waiting.recv_many(&mut entries, BATCH_MAX).await > 0 {
        let mut notes = Vec::new();
        for entry in entries.drain(..) {
            match entry {
                Entry::Note(note) => notes.push(*note),
                Entry::Decision(decision) => {
                    writer.note(std::mem::take(&mut notes)).await;
                    writer.decide(approvals.as_ref(), *decision).await;
                }
            }
        }
        writer.note(notes).await;
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

    async fn note(&mut self, notes: Vec<Note>) {
        if notes.is_empty() {
            return;
        }
        let result = self.write(&notes).await;
        for note in notes {
            // A caller that has gone needs no answer.
            drop(note.written.send(result.clone()));
        }
    }

    async fn write(&mut self, notes: &[Note]) -> Result<(), String> {
        self.turn(Utc::now());
        if self.unsure.len() > UNSURE_MAX {
            let unsure = std::mem::take(&mut self.unsure);
            self.append(unsure).await?;
        }
        let mut events = std::mem::take(&mut self.unsure);
        for note in notes {
            let event = self.next(&note.person, note.what.clone());
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
                self.begin_anew(&error);
                Err(error.to_string())
            }
        }
    }

    async fn decide(&mut self, approvals: &dyn ApprovalStore, decision: Decision) {
        self.turn(Utc::now());
        let event = self.next(&decision.person, decision.what);
        let events: Vec<Event> = self.unsure.iter().chain([&event]).cloned().collect();
        let change = approvals.change_with(&decision.approval, decision.change, decision.now, &events);
        let made = match tokio::time::timeout(DECISION_MAX, change).await {
            Ok(made) => made,
            Err(_) => {
                let source = format!("no answer within {} s", DECISION_MAX.as_secs()).into();
                Err(ChangeError::Store(StoreError::Unavailable { source }))
            }
        };
        match &made {
            Ok(_) => {
                self.last = Some(event);
                self.unsure.clear();
            }
            // The event may be there, or come to be there: another chain begins, which it cannot disturb.
            Err(ChangeError::Store(error @ (StoreError::Unavailable { .. } | StoreError::Taken { .. }))) => {
                self.begin_anew(error);
            }
            Err(
                ChangeError::Rejected(_)
                | ChangeError::Store(StoreError::NotFound(_) | StoreError::Conflict { .. } | StoreError::Damaged { .. }),
            ) => {}
        }
        drop(decision.made.send(made));
    }

    /// Begins another session after a day.
    fn turn(&mut self, now: Timestamp) {
        let is_old = self.session.made().is_some_and(|made| now - made > SESSION_LASTS);
        if is_old && self.unsure.is_empty() {
            *self = Self::new(self.journal.clone(), std::mem::take(&mut self.gateway));
        }
    }

    fn begin_anew(&mut self, error: &dyn std::error::Error) {
        tracing::error!(%error, session = %self.session, "the API's journal goes on as another session");
        *self = Self::new(self.journal.clone(), std::mem::take(&mut self.gateway));
    }

    fn next(&self, person: &Person, what: Happening) -> Event {
        self.chain(person).next(Utc::now(), what)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::example::alice;
    use crate::embedded::EmbeddedStore;

    #[tokio::test]
    async fn another_day_has_another_session() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
        let mut writer = Writer::new(Arc::new(store.clone()), "g1".to_owned());
        let (day, now) = (writer.session, Utc::now());
        writer.turn(now);
        assert_eq!(writer.session, day);
        let event = writer.next(&alice(), Happening::GatewaySent { what: String::new() });
        writer.unsure.push(event);
        writer.turn(now + TimeDelta::hours(25));
        assert_eq!(writer.session, day, "what may be written yet belongs to it");
        writer.unsure.clear();
        writer.turn(now + TimeDelta::hours(25));
        assert_ne!(writer.session, day);
        assert_eq!(writer.gateway, "g1");
    }
}
