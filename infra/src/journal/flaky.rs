//! A journal that fails by a schedule.

use super::{Journal, JournalError, JournalQuery, Page, Retention};
use crate::domain::audit::Event;
use crate::domain::id::SessionId;
use crate::flaky::Schedule;
use async_trait::async_trait;

/// A journal behind a bad line.
#[derive(Debug)]
pub struct FlakyJournal<J> {
    journal: J,
    schedule: Schedule,
}

impl<J> FlakyJournal<J> {
    pub fn new(journal: J, schedule: Schedule) -> Self {
        Self { journal, schedule }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, JournalError>>) -> Result<T, JournalError> {
        let failed = |lost| JournalError::Unavailable { source: Box::new(lost) };
        self.schedule.befall(call, failed).await
    }
}

#[async_trait]
impl<J: Journal> Journal for FlakyJournal<J> {
    async fn append(&self, events: &[Event]) -> Result<(), JournalError> {
        self.call(self.journal.append(events)).await
    }

    fn retention(&self) -> Option<Retention> {
        self.journal.retention()
    }

    async fn session(&self, id: SessionId) -> Result<Vec<Event>, JournalError> {
        self.call(self.journal.session(id)).await
    }

    async fn after(&self, session: SessionId, seq: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        self.call(self.journal.after(session, seq, limit)).await
    }

    async fn first(&self, session: SessionId) -> Result<Option<Event>, JournalError> {
        self.call(self.journal.first(session)).await
    }

    async fn last(&self, session: SessionId) -> Result<Option<Event>, JournalError> {
        self.call(self.journal.last(session)).await
    }

    async fn probe(&self) -> Result<(), JournalError> {
        self.call(self.journal.probe()).await
    }

    async fn search(&self, query: &JournalQuery) -> Result<Page, JournalError> {
        self.call(self.journal.search(query)).await
    }
}
