//! The embedded store: approvals, journal, grants, chat links and tickets in one SQLite file in WAL mode, for
//! gateway and bot on one machine.
//!
//! One thread writes and commits what arrives together; two threads read. No call runs SQLite on a tokio worker,
//! and every call ends within [`CALL_SECONDS_MAX`]: a file that is locked, full or gone is `Unavailable`.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

mod reader;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

pub use schema::OpenError;

use reader::Reader;
use writer::Writer;

/// No call takes longer, whatever the file, its disk or the other process do.
pub const CALL_SECONDS_MAX: u64 = 5;

const CALL_TIME_MAX: Duration = Duration::from_secs(CALL_SECONDS_MAX);

/// Calls that may wait for each thread; more wait for room, within their own deadline.
const CALLS_WAITING_MAX: usize = 1024;

/// A store in one SQLite file, cheap to clone. Gateway and bot may open the same file as two processes.
///
/// Implements [`crate::approvals::ApprovalStore`], [`crate::journal::Journal`], [`crate::grants::GrantStore`],
/// [`crate::chat_links::ChatLinkStore`] and [`crate::tickets::TicketStore`]. A call whose future is dropped
/// may or may not have been carried out.
#[derive(Clone, Debug)]
pub struct EmbeddedStore(Arc<Threads>);

#[derive(Debug)]
struct Threads {
    path: PathBuf,
    writer: Writer,
    /// Single records and the feed.
    points: Reader,
    /// Lists and searches: a long one must not hold up a decision.
    scans: Reader,
}

/// Why SQLite did not do what it was asked, in words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Trouble(String);

/// What a piece of work on the file makes: its own answer, or SQLite's error.
pub(crate) type Work<T, E> = rusqlite::Result<Result<T, E>>;

impl EmbeddedStore {
    /// Opens the file, made with mode 0600 when missing, and brings its schema up to date.
    ///
    /// Blocks for at most some seconds: meant for the start of a program. Refuses a file of a newer version, and one
    /// that is not a store of ours, without touching it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| OpenError::Unavailable {
            path: path.display().to_string(),
            source,
        };
        let writing = schema::open(path)?;
        let reading = || schema::open_to_read(path).map_err(|error| failed(error.into()));
        let (points, scans) = (reading()?, reading()?);
        Ok(Self(Arc::new(Threads {
            path: path.to_owned(),
            writer: Writer::start(writing).map_err(|error| failed(error.into()))?,
            points: Reader::start("store-points", points).map_err(|error| failed(error.into()))?,
            scans: Reader::start("store-scans", scans).map_err(|error| failed(error.into()))?,
        })))
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Changes the file. The answer comes once the change is on disk; an `Err` of the work undoes only this work.
    pub(crate) async fn write<T, E, W>(&self, work: W) -> Result<Result<T, E>, Trouble>
    where
        T: Send + 'static,
        E: Send + 'static,
        W: FnOnce(&Connection) -> Work<T, E> + Send + 'static,
    {
        self.within(self.0.writer.call(work)).await
    }

    /// Reads a few rows.
    pub(crate) async fn read_points<T, E, W>(&self, work: W) -> Result<Result<T, E>, Trouble>
    where
        T: Send + 'static,
        E: Send + 'static,
        W: FnOnce(&Connection) -> Work<T, E> + Send + 'static,
    {
        self.within(self.0.points.call(work)).await
    }

    /// Reads what may be many rows.
    pub(crate) async fn read_scan<T, E, W>(&self, work: W) -> Result<Result<T, E>, Trouble>
    where
        T: Send + 'static,
        E: Send + 'static,
        W: FnOnce(&Connection) -> Work<T, E> + Send + 'static,
    {
        self.within(self.0.scans.call(work)).await
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        let answer = match tokio::time::timeout(CALL_TIME_MAX, call).await {
            Ok(answer) => answer,
            Err(_) => Err(Trouble(format!(
                "no answer within {CALL_SECONDS_MAX} s: it is locked by another process, or its disk does not answer"
            ))),
        };
        answer.map_err(|trouble| Trouble(format!("{}: {trouble}", self.0.path.display())))
    }
}

impl Trouble {
    fn of(error: &rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let hint = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => " (another process holds its lock)",
            Some(ErrorCode::DiskFull) => " (make room: nothing runs until the store can be written)",
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                " (this program must be able to write the file and its directory)"
            }
            Some(ErrorCode::OperationInterrupted) => " (it took too long: narrow the question)",
            _ => "",
        };
        Self(format!("{error}{hint}"))
    }

    fn ended() -> Self {
        Self("the store's thread has ended: restart this program".to_owned())
    }
}

/// Reads a text of a row. Bytes that are no UTF-8 become a text that equals nothing that was ever written.
pub(crate) fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    let bytes = row.get_ref(column)?.as_bytes()?;
    let damaged = |_| format!("\u{fffd} not UTF-8: {}", hex::encode(bytes));
    Ok(std::str::from_utf8(bytes).map_or_else(damaged, str::to_owned))
}

pub(crate) fn text_or_null(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    if matches!(row.get_ref(column)?, ValueRef::Null) {
        Ok(None)
    } else {
        text(row, column).map(Some)
    }
}
