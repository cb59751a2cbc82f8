//! The journal in SQLite.

use super::{Journal, JournalError, JournalQuery, Page};
use crate::domain::audit::Event;
use crate::domain::id::SessionId;
use crate::embedded::EmbeddedStore;
use async_trait::async_trait;

fn unavailable() -> JournalError {
    JournalError::Unavailable {
        source: "not written yet".into(),
    }
}

#[async_trait]
impl Journal for EmbeddedStore {
    async fn append(&self, _: &[Event]) -> Result<(), JournalError> {
        Err(unavailable())
    }

    async fn session(&self, _: SessionId) -> Result<Vec<Event>, JournalError> {
        Err(unavailable())
    }

    async fn search(&self, _: &JournalQuery) -> Result<Page, JournalError> {
        Err(unavailable())
    }
}
