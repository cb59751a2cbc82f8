//! Recordings: what went over a session's wire, in signed and chained chunks.

use crate::domain::Timestamp;
use crate::domain::id::SessionId;
use async_trait::async_trait;
use bytes::Bytes;
use chrono::NaiveDate;
use std::fmt;
use std::time::Duration;

pub mod chain;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod digest;
pub mod disk;
#[cfg(any(test, feature = "contract"))]
pub mod flaky;
pub mod format;
pub mod key;
mod layout;
pub mod proof;
pub mod s3;
mod signed;

pub use layout::{DIGEST_BYTES_MAX, DIGESTS_MAX, SESSIONS_MAX};

#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("there is no recording of session {0}")]
    NotFound(SessionId),
    #[error("there is no digest {0}")]
    NoDigest(String),
    /// An object with this name exists and is not the same.
    #[error("{0} exists already and differs")]
    Exists(String),
    /// Nothing that a store could ever take or have; no store was asked.
    #[error("{0}")]
    Invalid(String),
    #[error("the recording store is unavailable: {source}")]
    Unavailable {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// An object of a session's recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordingObject {
    Chunk(u64),
    Manifest,
}

/// Lets whoever has it read one object until it expires.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    pub url: url::Url,
    pub until: Timestamp,
}

impl fmt::Debug for Link {
    /// Leaves the query out: its signature is what opens the object.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.url.clone();
        shown.set_query(None);
        f.debug_struct("Link")
            .field("url", &shown.as_str())
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// A store of recording objects. Every implementation passes `recordings::contract`.
///
/// Objects are written once: the same bytes again are accepted, other bytes are `Exists`. A call that is dropped may have had
/// its effect. In S3 a put ends within 20 s, a read or each page of a listing within 10 s, a link within 10 s without asking
/// the bucket, a probe within 3 s. The disk has no deadline: a call ends when the disk answers.
#[async_trait]
pub trait RecordingStore: Send + Sync + 'static {
    async fn put_chunk(&self, session: SessionId, number: u64, bytes: Bytes) -> Result<(), RecordingError>;

    async fn put_manifest(&self, session: SessionId, bytes: Bytes) -> Result<(), RecordingError>;

    /// How many chunks there are, without a gap from 0.
    async fn chunks(&self, session: SessionId) -> Result<u64, RecordingError>;

    async fn read_chunk(&self, session: SessionId, number: u64) -> Result<Bytes, RecordingError>;

    /// The manifest; none while the session lives.
    async fn read_manifest(&self, session: SessionId) -> Result<Option<Bytes>, RecordingError>;

    /// The sessions whose recordings lie under a UTC day (that of the session's id), ascending by id: the first
    /// [`SESSIONS_MAX`] of those `after` a session. A session that still lives is among them from its first chunk on.
    async fn sessions(&self, day: NaiveDate, after: Option<SessionId>) -> Result<Vec<SessionId>, RecordingError>;

    /// Keeps a digest of the sessions of a day: at most [`DIGEST_BYTES_MAX`], its name at most 200 of `A-Z a-z 0-9 . _ -`
    /// and not beginning with a dot; anything else is `Invalid`.
    async fn put_digest(&self, day: NaiveDate, name: &str, bytes: Bytes) -> Result<(), RecordingError>;

    /// The names of a day's digests, ascending. More than [`DIGESTS_MAX`] of them are an error, never cut.
    async fn digests(&self, day: NaiveDate) -> Result<Vec<String>, RecordingError>;

    async fn read_digest(&self, day: NaiveDate, name: &str) -> Result<Bytes, RecordingError>;

    /// A link that lets an auditor fetch an object over HTTPS for `valid` (at most a week, and never longer than the
    /// gateway's own credentials); none where the store has no such thing. It is made without asking the store: whether
    /// the object is there shows when it is fetched.
    async fn link(
        &self,
        session: SessionId,
        object: RecordingObject,
        valid: Duration,
    ) -> Result<Option<Link>, RecordingError>;

    /// Writes something of no session, to see that the store takes objects.
    async fn probe(&self) -> Result<(), RecordingError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_shows_its_object_and_hides_what_opens_it() {
        let link = Link {
            url: "https://bucket.example/recordings/0.chunk?X-Amz-Signature=5ec2e7"
                .parse()
                .unwrap(),
            until: chrono::DateTime::UNIX_EPOCH,
        };
        let shown = format!("{link:?}");
        assert!(shown.contains("https://bucket.example/recordings/0.chunk"), "{shown}");
        assert!(!shown.contains("5ec2e7"), "{shown}");
    }
}
