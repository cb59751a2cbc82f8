//! The journal: append-only events, chained per session.

use crate::domain::audit::Event;
use crate::domain::id::SessionId;
use async_trait::async_trait;

#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod dynamodb;
pub mod embedded;
#[cfg(any(test, feature = "contract"))]
pub mod flaky;
mod moment;
pub mod operations;
mod query;
pub mod reading;
mod retention;
mod shared;
pub mod words;

pub use moment::{InvalidMoment, Moment, NoMoment};
pub use operations::{AuditedOperation, JournalExt, OperationPage, OperationQuery, OperationState};
pub use query::{CheckedQuery, JournalQuery, PAGE_BYTES_MAX, PEOPLE_MAX, people_words, searched_text};

pub use retention::{Retention, SESSION_MAX};
pub use shared::{NotNoted, SharedJournal};

pub(crate) use query::too_many_people;

/// Events that one call may append, or that one change of an approval may bring: what one transaction holds of every
/// engine.
pub const EVENTS_MAX: usize = 90;

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

    /// For how long events are kept; none: for ever.
    fn retention(&self) -> Option<Retention>;

    /// All events of one session in order; none where there is no such session, and where its time
    /// [is over](Retention::is_over). `Damaged` names the first event whose
    /// stored bytes, or the columns that searches read, are not what was written.
    async fn session(&self, id: SessionId) -> Result<Vec<Event>, JournalError>;

    /// Events of one session with a number above `seq`, in order: at most `limit`, counted as in [`JournalQuery`].
    ///
    /// Fewer than `limit` may come though more follow (see [`PAGE_BYTES_MAX`]); none comes only where there is none.
    /// `Damaged` as in [`session`](Self::session).
    async fn after(&self, session: SessionId, seq: u64, limit: usize) -> Result<Vec<Event>, JournalError>;

    /// The first event of a session that is there; none where there is no such session, and where its time
    /// [is over](Retention::is_over). That it is the one with number
    /// 0 is what verification shows.
    async fn first(&self, session: SessionId) -> Result<Option<Event>, JournalError>;

    /// The last event of a session; none where there is no such session.
    async fn last(&self, session: SessionId) -> Result<Option<Event>, JournalError>;

    /// Finds events for readers: those that [`JournalQuery::matches`] says, newest first. An event that comes while
    /// somebody pages appears only if it is older than the page before; none is lost or doubled. DynamoDB may be late: an event of
    /// a moment ago can be missing.
    async fn search(&self, query: &JournalQuery) -> Result<Page, JournalError>;

    /// Says whether the journal answers. Costs one small read.
    async fn probe(&self) -> Result<(), JournalError>;
}
