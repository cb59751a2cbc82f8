//! The journal: append-only events, chained per session.

use crate::domain::Timestamp;
use crate::domain::audit::Event;
use crate::domain::id::SessionId;
use async_trait::async_trait;

#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod dynamodb;
pub mod embedded;
mod moment;
pub use moment::Moment;
#[cfg(any(test, feature = "contract"))]
pub mod flaky;

/// Why the journal did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The session already has another event of this number: there is another writer.
    #[error("session {session} already has another event {seq}")]
    Taken { session: SessionId, seq: u64 },
    /// What is stored is not what was written.
    #[error("event {seq} of session {session} is damaged in the journal: {why}")]
    Damaged { session: SessionId, seq: u64, why: String },
    /// What was asked makes no sense (a page that was never given out).
    #[error("the question is not understood: {0}")]
    BadQuery(String),
    /// The journal could not be reached or could not write. Whether the event was written is not known.
    #[error("the journal is unavailable: {source}")]
    Unavailable {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Which events to find, newest first. Every field narrows.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct JournalQuery {
    /// Person's name, e-mail address or subject.
    pub who: Option<String>,
    pub target: Option<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Names of happenings (`asked`, `refused`, ...).
    pub events: Vec<String>,
    /// A text that the event's display text, message or reason contains, any case.
    pub text: Option<String>,
    pub approval: Option<String>,
    pub session: Option<SessionId>,
    /// At most this many; 0 means 100, more than 1000 means 1000. A page may hold fewer though more follow: only
    /// `Page::next` says that.
    pub limit: usize,
    /// Continue after this place (`Page::next`).
    pub after: Option<String>,
}

#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Page {
    pub events: Vec<Event>,
    /// Where the next page starts; none when this is the last.
    pub next: Option<String>,
}

/// A journal. Every implementation passes `journal::contract`.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Appends events, all or none; `Ok` means durable. Concurrent calls share one commit.
    ///
    /// An event that is there already, the same in every byte, is accepted: after `Unavailable` a caller may repeat
    /// the call until it knows.
    async fn append(&self, events: &[Event]) -> Result<(), JournalError>;

    /// All events of one session in order; none where there is no such session. `Damaged` names the first event whose
    /// stored bytes, or the columns that searches read, are not what was written.
    async fn session(&self, id: SessionId) -> Result<Vec<Event>, JournalError>;

    async fn after(&self, _: SessionId, _: u64, _: usize) -> Result<Vec<Event>, JournalError> {
        Ok(vec![])
    }

    /// Finds events for readers.
    async fn search(&self, query: &JournalQuery) -> Result<Page, JournalError>;
}

pub const EVENTS_MAX: usize = 90;
pub(crate) const PAGE_BYTES_MAX: usize = 4 << 20;
impl JournalQuery {
    pub fn check(&self) -> Result<Self, JournalError> {
        Ok(self.clone())
    }
    pub fn matches(
        &self,
        _: &Event,
        _: Option<&std::collections::BTreeSet<crate::domain::identity::PersonKey>>,
    ) -> bool {
        true
    }
}
