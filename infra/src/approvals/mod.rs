//! Where approvals live: the only meeting point of gateway and bot.

use crate::domain::Timestamp;
use crate::domain::approval::Approval;
use crate::domain::audit::Event;
use crate::domain::id::{ApprovalId, SessionId};
use async_trait::async_trait;
use chrono::TimeDelta;

mod change;
mod clock;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod dynamodb;
pub mod embedded;
#[cfg(any(test, feature = "contract"))]
pub mod flaky;

pub use change::{ApprovalStoreExt, ChangeError};
pub use clock::{ClockOff, StoreClock};

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such record.
    #[error("there is no approval {0}")]
    NotFound(ApprovalId),
    /// The record has changed since it was read; here is what it is now. A new id: there is one already.
    #[error("the approval changed in the meantime")]
    Conflict { current: Box<Approval> },
    /// The session of the events already has another event of this number: there is another writer. Nothing was
    /// written.
    #[error("session {session} already has another event {seq}")]
    Taken { session: SessionId, seq: u64 },
    /// What is stored is not what was written.
    #[error("approval {id} is damaged in the store: {why}")]
    Damaged { id: ApprovalId, why: String },
    /// The store could not be reached or could not write. Whether the change was made is not known.
    #[error("the approval store is unavailable: {source}")]
    Unavailable {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Whether the gateway that holds an operation is told of a change through its feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    Holder,
    /// The holder made the change itself.
    Nobody,
}

/// Which approvals to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct ApprovalQuery {
    /// Only those that wait for votes.
    pub pending_only: bool,
    /// Only those made before this approval (for paging); `NotFound` where there is no such approval.
    pub before: Option<ApprovalId>,
    /// At most this many; 0 means 100, more than 1000 means 1000.
    pub limit: usize,
}

/// A store of approvals, on one engine with the journal. Every implementation passes `approvals::contract`.
///
/// Each change is one conditional write; a call that returns `Ok` is durable.
#[async_trait]
pub trait ApprovalStore: Send + Sync + 'static {
    /// Writes a new record and the journal events that tell of it, all or nothing. `Conflict` when the number is taken.
    async fn create(&self, approval: &Approval, events: &[Event]) -> Result<(), StoreError>;

    /// Reads a record, strongly consistent.
    async fn read(&self, id: &ApprovalId) -> Result<Approval, StoreError>;

    /// Writes `next` in place of the record of version `next.version - 1`, and where asked to tells the holder's gateway
    /// of it through the feed. The journal events that tell of the change are written with it: all or nothing, in one
    /// transaction. Events that are there already, the same in every byte, are accepted, as by
    /// [`Journal::append`](crate::journal::Journal::append).
    async fn replace(&self, next: &Approval, events: &[Event], tell: Tell) -> Result<(), StoreError>;

    /// Lists, for people: never decides anything. DynamoDB may be late: a record of a moment ago can be missing. Each record
    /// that is listed is as it is now.
    async fn list(&self, query: &ApprovalQuery) -> Result<Vec<Approval>, StoreError>;

    /// Approvals in `pending`, `approved` or `executing` whose lease ended before `now`: their holders are taken for
    /// dead. At most 1000, the longest dead first. DynamoDB may be late, as for a list.
    async fn overdue(&self, now: Timestamp) -> Result<Vec<Approval>, StoreError>;

    /// Takes the feed of one gateway: which of its approvals changed since the last call. A hint, never the truth.
    async fn take_feed(&self, gateway: &str) -> Result<Vec<ApprovalId>, StoreError>;

    /// The store's clock, to compare with the gateway's own.
    async fn now(&self) -> Result<StoreTime, StoreError>;
}

/// What a store's clock says as its answer arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreTime {
    pub time: Timestamp,
    /// How far from the truth that may be: the clock may count whole seconds, and the answer was on its way for a while.
    pub within: TimeDelta,
}

/// How many records a list returns.
pub(crate) fn limit(asked: usize) -> usize {
    match asked {
        0 => 100,
        more => more.min(1000),
    }
}
