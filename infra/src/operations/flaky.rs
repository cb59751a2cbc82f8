//! A store of operations that fails on purpose.

use super::{OperationError, OperationStore, WholeOperation};
use crate::domain::id::Digest;
use async_trait::async_trait;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// How the calls of a [`Flaky`] store end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As the store's own.
    Well,
    /// Every call fails and does nothing.
    Down,
    /// Of three calls one fails and does nothing, one does its work and fails all the same, one works.
    EveryOther,
}

/// Wraps a store so that calls fail, before or after their effect, as calls over a network do.
pub struct Flaky<S> {
    inner: S,
    mood: AtomicU8,
    calls: AtomicU64,
    failures: AtomicU64,
}

#[derive(Debug, thiserror::Error)]
#[error("failed on purpose")]
struct OnPurpose;

#[derive(Clone, Copy)]
enum Fate {
    Works,
    FailsBefore,
    FailsAfter,
}

impl<S> Flaky<S> {
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            mood: AtomicU8::new(0),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Wraps a store in [`Mood::EveryOther`].
    pub fn every_other(inner: S) -> Self {
        let flaky = Self::new(inner);
        flaky.feel(Mood::EveryOther);
        flaky
    }

    pub fn feel(&self, mood: Mood) {
        let code = match mood {
            Mood::Well => 0,
            Mood::Down => 1,
            Mood::EveryOther => 2,
        };
        self.mood.store(code, Ordering::SeqCst);
    }

    /// How many calls failed so far.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::SeqCst)
    }

    fn fate(&self) -> Fate {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let fate = match (self.mood.load(Ordering::SeqCst), call % 3) {
            (1, _) | (2, 0) => Fate::FailsBefore,
            (2, 1) => Fate::FailsAfter,
            _ => Fate::Works,
        };
        if !matches!(fate, Fate::Works) {
            self.failures.fetch_add(1, Ordering::SeqCst);
        }
        fate
    }

    async fn call<T>(&self, work: impl Future<Output = Result<T, OperationError>>) -> Result<T, OperationError> {
        let failure = || OperationError::Unavailable {
            source: Box::new(OnPurpose),
        };
        match self.fate() {
            Fate::Works => work.await,
            Fate::FailsBefore => Err(failure()),
            Fate::FailsAfter => {
                work.await?;
                Err(failure())
            }
        }
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
