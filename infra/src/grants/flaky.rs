//! A store of grants that fails by a schedule: before the write, after it, or late.

use super::{GrantError, GrantStore};
use crate::approvals::flaky::{Fault, Schedule};
use crate::domain::grant::Grant;
use crate::domain::id::{GrantId, SessionId};
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

    async fn call<T>(&self, call: impl Future<Output = Result<T, GrantError>> + Send) -> Result<T, GrantError> {
        let lost = |what: &str| GrantError::Unavailable { source: what.into() };
        match self.schedule.next() {
            Fault::None => call.await,
            Fault::Before => Err(lost("the call was lost")),
            Fault::After => call.await.and(Err(lost("the answer was lost"))),
            Fault::Late(wait) => {
                tokio::time::sleep(wait).await;
                call.await
            }
        }
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
