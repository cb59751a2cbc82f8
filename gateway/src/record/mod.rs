//! The recorder: every byte of both directions, after masking, into signed chunks by way of a local spool.
//!
//! ```text
//! record() -> buffer -> <n>.frames -> <n>.chunk (compressed, signed) -> store -> gone from the spool
//!            memory     spool         spool
//! ```
//! What `durable()` returned for, and whatever is older than [`WRITE_INTERVAL`], is in a file of the spool: it
//! survives the end of this process (`kill -9`). The spool does not wait for the disk (no fsync): what the store has
//! not confirmed can be lost with the machine's power, and then the journal's anchors show that it is missing.

mod neighbours;
mod recorder;
mod recover;
mod room;
mod session;
mod ship;
mod spool;

pub use countersign_infra::recordings::chain::Anchor;
pub use countersign_infra::recordings::format::Direction;
pub use recorder::{Finished, Recorder};
pub use recover::Recovered;
pub use spool::Spool;

use countersign_infra::domain::id::SessionId;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long recorded bytes stay in memory only, unless `durable()` is called.
pub const WRITE_INTERVAL: Duration = Duration::from_millis(250);
/// How old the first frame of a chunk becomes before the chunk is closed and sent.
pub const CHUNK_AGE_MAX: Duration = Duration::from_secs(5);
/// How often a session's recording is anchored in the journal.
pub const ANCHOR_INTERVAL: Duration = Duration::from_secs(5);

/// Why something is not recorded. The session that gets it must end: nothing runs on unrecorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// What the recording store has not confirmed fills the spool, and nothing left it in time.
    #[error(
        "the recording spool is full ({bytes_max} bytes) and stayed full for {waited_seconds} s, because the recording \
         store is too slow or down: look at the store, or raise limits.spool_bytes_max"
    )]
    SpoolFull { bytes_max: u64, waited_seconds: u64 },
    /// What waits for the recording store leaves no room for another session.
    #[error(
        "the recording spool is full: {bytes} bytes wait for the recording store, also those of gateways that are gone, \
         and {bytes_max} may: look at the store, take broken recordings out of the spool, or raise limits.spool_bytes_max"
    )]
    NoRoom { bytes: u64, bytes_max: u64 },
    /// The recording store has been failing for longer than sessions may wait for it.
    #[error("nothing could be sent to the recording store for {seconds} s: {message}")]
    StoreDown { seconds: u64, message: String },
    /// The disk of the spool is full.
    #[error("the disk is full that holds the recording spool ({path}): free some space there")]
    DiskFull { path: PathBuf },
    /// The spool could not be read or written.
    #[error("recording spool, {path}: {source}")]
    Spool {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Another gateway uses this spool.
    #[error("another gateway uses the recording spool {path}: give each gateway a data_dir of its own")]
    Locked { path: PathBuf },
    /// The recording cannot go on; nothing that is retried will help.
    #[error("the recording of session {session} is broken: {message}")]
    Broken { session: SessionId, message: String },
}

impl RecordError {
    /// The same error once more.
    fn again(&self) -> Self {
        match self {
            Self::SpoolFull {
                bytes_max,
                waited_seconds,
            } => Self::SpoolFull {
                bytes_max: *bytes_max,
                waited_seconds: *waited_seconds,
            },
            Self::NoRoom { bytes, bytes_max } => Self::NoRoom {
                bytes: *bytes,
                bytes_max: *bytes_max,
            },
            Self::StoreDown { seconds, message } => Self::StoreDown {
                seconds: *seconds,
                message: message.clone(),
            },
            Self::DiskFull { path } => Self::DiskFull { path: path.clone() },
            Self::Spool { path, source } => Self::Spool {
                path: path.clone(),
                source: io::Error::new(source.kind(), source.to_string()),
            },
            Self::Locked { path } => Self::Locked { path: path.clone() },
            Self::Broken { session, message } => Self::Broken {
                session: *session,
                message: message.clone(),
            },
        }
    }

    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| {
            if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
                Self::DiskFull { path }
            } else {
                Self::Spool { path, source }
            }
        }
    }
}

/// Locks, also after a thread panicked while it held the lock: no value here is ever left half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs file operations off the async threads.
async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, RecordError> + Send + 'static,
) -> Result<T, RecordError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(RecordError::io(path)(io::Error::other(error))),
    }
}

#[cfg(test)]
mod tests;
