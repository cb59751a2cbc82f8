//! Where grants live. The gateway that holds a session reads its grants at each use; whoever may, revokes them.

use crate::domain::grant::Grant;
use crate::domain::id::{GrantId, SessionId};
use async_trait::async_trait;

#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod embedded;
#[cfg(any(test, feature = "contract"))]
pub mod flaky;

/// Grants of one session that are read: more were never given.
pub const GRANTS_MAX: usize = 1000;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("there is no grant {0}")]
    NotFound(GrantId),
    /// The record has changed since it was read; here is what it is now. A new id: there is one already.
    #[error("the grant changed in the meantime")]
    Conflict { current: Box<Grant> },
    /// What is stored is not what was written.
    #[error("grant {id} is damaged in the store: {why}")]
    Damaged { id: GrantId, why: String },
    /// The store could not be reached or could not write. Whether the change was made is not known.
    #[error("the store of grants is unavailable: {source}")]
    Unavailable {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A store of grants. Every implementation passes `grants::contract`.
///
/// Each change is one conditional write; a call that returns `Ok` is durable. After `Unavailable` the caller reads what
/// there is: a use that may have been counted is not counted again.
#[async_trait]
pub trait GrantStore: Send + Sync + 'static {
    /// Writes a new record. `Conflict` when there is one of its id.
    async fn create(&self, grant: &Grant) -> Result<(), GrantError>;

    /// Reads a record, strongly consistent.
    async fn read(&self, id: GrantId) -> Result<Grant, GrantError>;

    /// Writes `next` in place of the record of version `next.version - 1`.
    async fn replace(&self, next: &Grant) -> Result<(), GrantError>;

    /// All grants of a session, the oldest first, strongly consistent; those that are over too. At most
    /// [`GRANTS_MAX`]. One that is damaged fails the call: it may be a revocation.
    async fn of_session(&self, session: SessionId) -> Result<Vec<Grant>, GrantError>;
}
