//! The embedded store: approvals and journal in one SQLite file.

use std::path::Path;
use std::sync::Arc;

/// A store in one SQLite file, cheap to clone. Gateway and bot may open the same file as two processes.
#[derive(Clone)]
pub struct EmbeddedStore {
    _parts: Arc<()>,
}

/// Why the file could not be opened as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{path} was written by a newer version of Countersign (schema {found}, this program knows {known}): use that version"
    )]
    Newer { path: String, found: i64, known: i64 },
    #[error("{path} is not a Countersign store: {why}")]
    Foreign { path: String, why: String },
    #[error("the store {path} cannot be opened: {source}")]
    Unavailable {
        path: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl EmbeddedStore {
    /// Opens the file, made with mode 0600 when missing, and brings its schema up to date. Blocks for at most some
    /// seconds: meant for the start of a program.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let _ = path.as_ref();
        Ok(Self { _parts: Arc::default() })
    }
}
