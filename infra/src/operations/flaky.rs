//! A store of operations that fails on purpose.

use super::{OperationError, OperationStore, WholeOperation};
use crate::domain::id::Digest;
pub use crate::flaky::Mood;
use crate::flaky::Moods;
use async_trait::async_trait;

/// Wraps a store so that calls fail, before or after their effect, as calls over a network do.
pub struct Flaky<S> {
    inner: S,
    moods: Moods,
}

impl<S> Flaky<S> {
    pub fn new(inner: S) -> Self {
        let moods = Moods::new(Mood::Well);
        Self { inner, moods }
    }

    /// Wraps a store in [`Mood::EveryOther`].
    pub fn every_other(inner: S) -> Self {
        let moods = Moods::new(Mood::EveryOther);
        Self { inner, moods }
    }

    pub fn feel(&self, mood: Mood) {
        self.moods.feel(mood);
    }

    /// How many calls failed so far.
    pub fn failures(&self) -> u64 {
        self.moods.failures()
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, OperationError>>) -> Result<T, OperationError> {
        let failed = |lost| OperationError::Unavailable { source: Box::new(lost) };
        self.moods.befall(call, failed).await
    }
}

#[async_trait]
impl<S: OperationStore> OperationStore for Flaky<S> {
    async fn keep(&self, digest: Digest, operation: &WholeOperation) -> Result<(), OperationError> {
        self.call(self.inner.keep(digest, operation)).await
    }

    async fn read(&self, digest: Digest) -> Result<WholeOperation, OperationError> {
        self.call(self.inner.read(digest)).await
    }
}
