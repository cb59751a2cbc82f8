//! Approvals in SQLite.

use super::{ApprovalQuery, ApprovalStore, StoreError};
use crate::domain::Timestamp;
use crate::domain::approval::Approval;
use crate::domain::id::ApprovalId;
use crate::embedded::EmbeddedStore;
use async_trait::async_trait;

fn unavailable() -> StoreError {
    StoreError::Unavailable {
        source: "not written yet".into(),
    }
}

#[async_trait]
impl ApprovalStore for EmbeddedStore {
    async fn create(&self, _: &Approval) -> Result<(), StoreError> {
        Err(unavailable())
    }

    async fn read(&self, _: &ApprovalId) -> Result<Approval, StoreError> {
        Err(unavailable())
    }

    async fn replace(&self, _: &Approval) -> Result<(), StoreError> {
        Err(unavailable())
    }

    async fn list(&self, _: &ApprovalQuery) -> Result<Vec<Approval>, StoreError> {
        Err(unavailable())
    }

    async fn overdue(&self, _: Timestamp) -> Result<Vec<Approval>, StoreError> {
        Err(unavailable())
    }

    async fn take_feed(&self, _: &str) -> Result<Vec<ApprovalId>, StoreError> {
        Err(unavailable())
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        Err(unavailable())
    }
}
