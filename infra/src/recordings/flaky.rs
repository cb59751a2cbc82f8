//! A recording store that fails on purpose.

use super::{Link, RecordingError, RecordingObject, RecordingStore};
use crate::domain::id::SessionId;
pub use crate::flaky::Mood;
use crate::flaky::Moods;
use async_trait::async_trait;
use bytes::Bytes;
use chrono::NaiveDate;
use std::time::Duration;

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

    async fn call<T>(&self, call: impl Future<Output = Result<T, RecordingError>>) -> Result<T, RecordingError> {
        let failed = |lost| RecordingError::Unavailable { source: Box::new(lost) };
        self.moods.befall(call, failed).await
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
