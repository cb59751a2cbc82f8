//! A store of grants that fails by a schedule.

use super::{GrantError, GrantStore};
use crate::domain::grant::Grant;
use crate::domain::id::{GrantId, SessionId};
use crate::flaky::Schedule;
use async_trait::async_trait;

/// A store behind a bad line.
#[derive(Debug)]
pub struct FlakyGrants<S> {
    store: S,
    schedule: Schedule,
}

impl<S> FlakyGrants<S> {
    pub fn new(store: S, schedule: Schedule) -> Self {
        Self { store, schedule }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, GrantError>>) -> Result<T, GrantError> {
        let failed = |lost| GrantError::Unavailable { source: Box::new(lost) };
        self.schedule.befall(call, failed).await
    }
}

#[async_trait]
impl<S: GrantStore> GrantStore for FlakyGrants<S> {
    async fn create(&self, grant: &Grant) -> Result<(), GrantError> {
        self.call(self.store.create(grant)).await
    }

    async fn read(&self, id: GrantId) -> Result<Grant, GrantError> {
        self.call(self.store.read(id)).await
    }

    async fn replace(&self, next: &Grant) -> Result<(), GrantError> {
        self.call(self.store.replace(next)).await
    }

    async fn of_session(&self, session: SessionId) -> Result<Vec<Grant>, GrantError> {
        self.call(self.store.of_session(session)).await
    }
}
