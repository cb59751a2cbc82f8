//! Where announcements live: which chat messages show which approval.

use crate::domain::Timestamp;
use crate::domain::announcement::Announcement;
use crate::domain::id::ApprovalId;
use async_trait::async_trait;

#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod dynamodb;
pub mod embedded;
#[cfg(any(test, feature = "contract"))]
pub mod flaky;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AnnouncementError {
    /// The record is not the one that was read; here is what it is now.
    #[error("the announcement changed in the meantime")]
    Conflict { current: Option<Box<Announcement>> },
    /// What is stored is not what was written.
    #[error("the announcement of {approval} is damaged in the store: {why}")]
    Damaged { approval: ApprovalId, why: String },
    /// The store could not be reached or could not write. Whether the change was made is not known.
    #[error("the store of announcements is unavailable: {source}")]
    Unavailable {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A store of announcements. Every implementation passes `announcements::contract`.
///
/// Each change is conditional on the whole record that was read. A call that returns `Ok` is durable.
#[async_trait]
pub trait AnnouncementStore: Send + Sync + 'static {
    /// The announcement of an approval, strongly consistent.
    async fn read(&self, approval: &ApprovalId) -> Result<Option<Announcement>, AnnouncementError>;

    /// Writes a record in place of `former`, or where there is none. After `Unavailable` a `Conflict` whose `current` is
    /// `next` says that it was written.
    async fn put(&self, next: &Announcement, former: Option<&Announcement>) -> Result<(), AnnouncementError>;

    /// Approvals whose announcement was due by then, the longest due first, at most so many. DynamoDB may be late.
    async fn due(&self, by: Timestamp, limit: usize) -> Result<Vec<ApprovalId>, AnnouncementError>;
}
