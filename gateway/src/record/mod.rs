//! The recorder: every byte of both directions, after masking, into signed chunks by way of a local spool.

use countersign_infra::domain::id::SessionId;
use countersign_infra::domain::session::SessionHeader;
use countersign_infra::recordings::RecordingStore;
pub use countersign_infra::recordings::chain::Anchor;
pub use countersign_infra::recordings::format::Direction;
use countersign_infra::recordings::key::SigningKey;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why something is not recorded. The session that gets it must end: nothing runs on unrecorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// What the recording store has not confirmed fills the spool, and nothing left it in time.
    #[error(
        "the recording spool is full ({bytes_max} bytes wait for the recording store) and stayed full for \
         {waited_seconds} s: look at the store, or raise limits.spool_bytes_max"
    )]
    SpoolFull { bytes_max: u64, waited_seconds: u64 },
    /// The recording store has been failing for longer than sessions may wait for it.
    #[error("the recording store has been failing for {seconds} s: {message}")]
    StoreDown { seconds: u64, message: String },
    /// The disk of the spool is full.
    #[error("the disk that holds the recording spool {path} is full: free some space")]
    DiskFull { path: PathBuf },
    /// The spool could not be read or written.
    #[error("recording spool {path}: {source}")]
    Spool {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Another gateway uses this spool.
    #[error("another gateway uses the recording spool {path}: give each its own gateway.data_dir")]
    Locked { path: PathBuf },
    /// The recording cannot go on; nothing that is retried will help.
    #[error("the recording of session {session} is broken: {message}")]
    Broken { session: SessionId, message: String },
}

/// What [`Spool::recover`] closed: for the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub session: SessionId,
    pub chunks: u64,
    pub last: countersign_infra::domain::id::Digest,
}

/// The directory through which all recordings of a gateway go on their way to the store.
pub struct Spool {}

impl Spool {
    /// Opens the spool and starts its background task. Runs within a tokio runtime.
    pub fn open(
        dir: &Path,
        bytes_max: u64,
        store: Arc<dyn RecordingStore>,
        key: Arc<SigningKey>,
        wait_max: Duration,
    ) -> Result<Self, RecordError> {
        let _ = (bytes_max, store, key, wait_max);
        Err(RecordError::Locked { path: dir.to_owned() })
    }

    /// Uploads what an earlier run left behind and closes those recordings as interrupted. Sessions that are being
    /// recorded are not touched.
    pub async fn recover(&self) -> Result<Vec<Recovered>, RecordError> {
        Ok(Vec::new())
    }

    /// Begins the recording of a session; its header is the first frame.
    pub fn open_session(&self, header: &SessionHeader) -> Result<Recorder, RecordError> {
        let _ = header;
        Ok(Recorder {})
    }

    /// Stops the background task and waits for what it does at the moment. Call it after the sessions have ended.
    pub async fn stop(&self) {}
}

/// Records one session. Dropped without `finish`, its recording stays in the spool for [`Spool::recover`].
pub struct Recorder {}

impl Recorder {
    /// Records bytes, all `parts` together. The bytes are copied once; most calls do not wait.
    ///
    /// Errors end the session. Not cancel safe: a dropped call may have recorded a part.
    pub async fn record(&mut self, direction: Direction, parts: &[&[u8]]) -> Result<(), RecordError> {
        let _ = (direction, parts);
        Ok(())
    }

    /// Records a remark of the gateway, shown by `replay`.
    pub async fn note(&mut self, text: &str) -> Result<(), RecordError> {
        let _ = text;
        Ok(())
    }

    /// The chunks so far. They are in the spool or in the store.
    pub fn anchor(&self) -> Anchor {
        Anchor::START
    }

    /// The anchor to journal now: at most every 5 s, and only if there are new chunks.
    pub fn anchor_due(&self, now: Instant) -> Option<Anchor> {
        let _ = now;
        None
    }

    /// Waits until all that was recorded so far survives the end of this process (`kill -9`).
    pub async fn durable(&mut self) -> Result<(), RecordError> {
        Ok(())
    }

    /// Ends the recording with a signed manifest.
    pub async fn finish(self, why: &str) -> Result<Anchor, RecordError> {
        let _ = why;
        Ok(Anchor::START)
    }
}
