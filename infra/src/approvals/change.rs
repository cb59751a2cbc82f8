//! Changes of stored approvals: read, apply, replace, until it is known what happened.

use super::{ApprovalStore, StoreError};
use crate::domain::Timestamp;
use crate::domain::approval::{Approval, Change, Rejected};
use crate::domain::id::ApprovalId;
use async_trait::async_trait;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state machine refused; the text is for the person who tried.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

/// What every approval store can do beside its own calls.
#[async_trait]
pub trait ApprovalStoreExt: ApprovalStore {
    /// Writes a new record, again where it is not known whether it was written. `Conflict`: the number is taken by
    /// another approval.
    async fn open(&self, approval: &Approval) -> Result<(), StoreError> {
        self.create(approval).await
    }

    /// Makes one change of a record and returns it as it is now.
    async fn change(&self, id: &ApprovalId, change: Change, now: Timestamp) -> Result<Approval, ChangeError> {
        let current = self.read(id).await?;
        let next = current.apply(change, now)?;
        self.replace(&next).await?;
        Ok(next)
    }
}

impl<S: ApprovalStore + ?Sized> ApprovalStoreExt for S {}
