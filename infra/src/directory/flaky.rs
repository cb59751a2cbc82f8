//! A directory that fails by a schedule.

use super::{DirectoryError, DirectoryStore};
use crate::domain::directory::DirectoryEntry;
use crate::domain::identity::PersonKey;
use crate::flaky::Schedule;
use async_trait::async_trait;

/// A store behind a bad line.
#[derive(Debug)]
pub struct FlakyDirectory<S> {
    store: S,
    schedule: Schedule,
}

impl<S> FlakyDirectory<S> {
    pub fn new(store: S, schedule: Schedule) -> Self {
        Self { store, schedule }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, DirectoryError>>) -> Result<T, DirectoryError> {
        let failed = |lost| DirectoryError::Unavailable { source: Box::new(lost) };
        self.schedule.befall(call, failed).await
    }
}

#[async_trait]
impl<S: DirectoryStore> DirectoryStore for FlakyDirectory<S> {
    async fn keep(&self, entry: &DirectoryEntry) -> Result<(), DirectoryError> {
        self.call(self.store.keep(entry)).await
    }

    async fn read(&self, person: &PersonKey) -> Result<Option<DirectoryEntry>, DirectoryError> {
        self.call(self.store.read(person)).await
    }

    async fn find(&self, mailbox: &str) -> Result<Vec<DirectoryEntry>, DirectoryError> {
        self.call(self.store.find(mailbox)).await
    }
}
