//! A store of approvals that fails by a schedule.

use super::{ApprovalQuery, ApprovalStore, StoreError, StoreTime, Tell};
use crate::domain::Timestamp;
use crate::domain::approval::Approval;
use crate::domain::audit::Event;
use crate::domain::id::ApprovalId;
use crate::flaky::Schedule;
use async_trait::async_trait;

/// An approval store behind a bad line.
#[derive(Debug)]
pub struct FlakyApprovals<S> {
    store: S,
    schedule: Schedule,
}

impl<S> FlakyApprovals<S> {
    pub fn new(store: S, schedule: Schedule) -> Self {
        Self { store, schedule }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let failed = |lost| StoreError::Unavailable { source: Box::new(lost) };
        self.schedule.befall(call, failed).await
    }
}

#[async_trait]
impl<S: ApprovalStore> ApprovalStore for FlakyApprovals<S> {
    async fn create(&self, approval: &Approval, events: &[Event]) -> Result<(), StoreError> {
        self.call(self.store.create(approval, events)).await
    }

    async fn read(&self, id: &ApprovalId) -> Result<Approval, StoreError> {
        self.call(self.store.read(id)).await
    }

    async fn replace(&self, next: &Approval, events: &[Event], tell: Tell) -> Result<(), StoreError> {
        self.call(self.store.replace(next, events, tell)).await
    }

    async fn list(&self, query: &ApprovalQuery) -> Result<Vec<Approval>, StoreError> {
        self.call(self.store.list(query)).await
    }

    async fn overdue(&self, now: Timestamp) -> Result<Vec<Approval>, StoreError> {
        self.call(self.store.overdue(now)).await
    }

    async fn take_feed(&self, gateway: &str) -> Result<Vec<ApprovalId>, StoreError> {
        self.call(self.store.take_feed(gateway)).await
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        self.call(self.store.now()).await
    }
}
