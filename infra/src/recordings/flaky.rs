//! A recording store that fails on purpose.

use super::{Link, RecordingError, RecordingObject, RecordingStore};
use crate::domain::id::SessionId;
use async_trait::async_trait;
use bytes::Bytes;
use chrono::NaiveDate;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// How the calls of a [`Flaky`] store end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As the store's own.
    Well,
    /// Every call fails and does nothing.
    Down,
    /// Of three calls one fails and does nothing, one does its work and fails all the same, one works.
    EveryOther,
    /// No call does anything or is answered before the mood changes; then it fails.
    Silent,
}

/// Wraps a store so that calls fail, before or after their effect, as calls over a network do.
pub struct Flaky<S> {
    inner: S,
    mood: AtomicU8,
    calls: AtomicU64,
    failures: AtomicU64,
    changed: Notify,
}

const SILENT: u8 = 3;

#[derive(Debug, thiserror::Error)]
#[error("failed on purpose")]
struct OnPurpose;

#[derive(Clone, Copy)]
enum Fate {
    Works,
    FailsBefore,
    FailsAfter,
    Hangs,
}

impl<S> Flaky<S> {
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            mood: AtomicU8::new(0),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            changed: Notify::new(),
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
            Mood::Silent => SILENT,
        };
        self.mood.store(code, Ordering::SeqCst);
        self.changed.notify_waiters();
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
            (SILENT, _) => Fate::Hangs,
            _ => Fate::Works,
        };
        if !matches!(fate, Fate::Works) {
            self.failures.fetch_add(1, Ordering::SeqCst);
        }
        fate
    }

    async fn mood_changed(&self) {
        loop {
            // Listens before it looks, so that a change in between is not missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.mood.load(Ordering::SeqCst) != SILENT {
                return;
            }
            changed.await;
        }
    }

    async fn call<T>(&self, work: impl Future<Output = Result<T, RecordingError>>) -> Result<T, RecordingError> {
        let failure = || RecordingError::Unavailable {
            source: Box::new(OnPurpose),
        };
        match self.fate() {
            Fate::Works => work.await,
            Fate::FailsBefore => Err(failure()),
            Fate::Hangs => {
                self.mood_changed().await;
                Err(failure())
            }
            Fate::FailsAfter => {
                work.await?;
                Err(failure())
            }
        }
    }
}

#[async_trait]
impl<S: RecordingStore> RecordingStore for Flaky<S> {
    async fn put_chunk(&self, session: SessionId, number: u64, bytes: Bytes) -> Result<(), RecordingError> {
        self.call(self.inner.put_chunk(session, number, bytes)).await
    }

    async fn put_manifest(&self, session: SessionId, bytes: Bytes) -> Result<(), RecordingError> {
        self.call(self.inner.put_manifest(session, bytes)).await
    }

    async fn chunks(&self, session: SessionId) -> Result<u64, RecordingError> {
        self.call(self.inner.chunks(session)).await
    }

    async fn read_chunk(&self, session: SessionId, number: u64) -> Result<Bytes, RecordingError> {
        self.call(self.inner.read_chunk(session, number)).await
    }

    async fn read_manifest(&self, session: SessionId) -> Result<Option<Bytes>, RecordingError> {
        self.call(self.inner.read_manifest(session)).await
    }

    async fn sessions(&self, day: NaiveDate, after: Option<SessionId>) -> Result<Vec<SessionId>, RecordingError> {
        self.call(self.inner.sessions(day, after)).await
    }

    async fn put_digest(&self, day: NaiveDate, name: &str, bytes: Bytes) -> Result<(), RecordingError> {
        self.call(self.inner.put_digest(day, name, bytes)).await
    }

    async fn digests(&self, day: NaiveDate) -> Result<Vec<String>, RecordingError> {
        self.call(self.inner.digests(day)).await
    }

    async fn read_digest(&self, day: NaiveDate, name: &str) -> Result<Bytes, RecordingError> {
        self.call(self.inner.read_digest(day, name)).await
    }

    async fn link(
        &self,
        session: SessionId,
        object: RecordingObject,
        valid: Duration,
    ) -> Result<Option<Link>, RecordingError> {
        self.call(self.inner.link(session, object, valid)).await
    }

    async fn probe(&self) -> Result<(), RecordingError> {
        self.call(self.inner.probe()).await
    }
}
