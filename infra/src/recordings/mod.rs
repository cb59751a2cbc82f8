//! Recordings: what went over a session's wire, in signed and chained chunks.

use crate::domain::id::SessionId;
use async_trait::async_trait;
use bytes::Bytes;

pub mod chain;
pub mod contract;
pub mod disk;
pub mod flaky;
pub mod format;
pub mod key;
pub mod proof;

#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("there is no recording of session {0}")]
    NotFound(SessionId),
    /// An object with this name exists and is not the same.
    #[error("{0} exists already and differs")]
    Exists(String),
    #[error("the recording store is unavailable: {source}")]
    Unavailable {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A store of recording objects. Every implementation passes `recordings::contract`.
///
/// Objects are written once: the same bytes again are accepted, other bytes are `Exists`.
#[async_trait]
pub trait RecordingStore: Send + Sync + 'static {
    async fn put_chunk(&self, session: SessionId, number: u64, bytes: Bytes) -> Result<(), RecordingError>;

    async fn put_manifest(&self, session: SessionId, bytes: Bytes) -> Result<(), RecordingError>;

    /// How many chunks there are, without a gap from 0.
    async fn chunks(&self, session: SessionId) -> Result<u64, RecordingError>;

    async fn read_chunk(&self, session: SessionId, number: u64) -> Result<Bytes, RecordingError>;

    /// The manifest; none while the session lives.
    async fn read_manifest(&self, session: SessionId) -> Result<Option<Bytes>, RecordingError>;

    /// Writes something of no session, to see that the store takes objects.
    async fn probe(&self) -> Result<(), RecordingError>;
}
