//! Whole operations as files: `operations/<digest>` under a directory.
//!
//! An object is written to a temporary file, synced, renamed to its name and the directory synced: a reader finds the
//! whole of it or nothing, and what a call returned `Ok` for survives the loss of power.

use super::envelope::ENVELOPE_BYTES_MAX;
use super::keys::KeySource;
use super::sealing::{Sealing, blocking};
use super::{OperationError, OperationStore, WholeOperation};
use crate::domain::id::Digest;
use async_trait::async_trait;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long one file may take.
const DISK_WAIT_MAX: Duration = Duration::from_secs(30);

/// A file operation that failed, with the file it was about.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
struct DiskError {
    path: PathBuf,
    source: io::Error,
}

/// Operations on the local disk. Files are readable by the owner only.
#[derive(Clone)]
pub struct DiskOperations {
    directory: PathBuf,
    sealing: Sealing,
}

impl DiskOperations {
    /// Keeps operations in `operations/` under `data_dir`, which is made when the first one comes.
    pub fn under(data_dir: &Path, keys: Arc<dyn KeySource>) -> Self {
        Self {
            directory: data_dir.join("operations"),
            sealing: Sealing::new(keys),
        }
    }

    /// Where the object of an operation lies.
    pub fn path(&self, digest: Digest) -> PathBuf {
        self.directory.join(digest.to_string())
    }
}

#[async_trait]
impl OperationStore for DiskOperations {
    async fn keep(&self, digest: Digest, operation: &WholeOperation) -> Result<(), OperationError> {
        let sealed = self.sealing.seal(digest, operation).await?;
        let path = self.path(digest);
        timely(move || put(&path, &sealed)).await
    }

    async fn read(&self, digest: Digest) -> Result<WholeOperation, OperationError> {
        let path = self.path(digest);
        let found = timely(move || read(&path)).await?;
        let bytes = found.ok_or(OperationError::NotFound(digest))?;
        self.sealing.open(digest, bytes).await
    }
}

async fn timely<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OperationError> + Send + 'static,
) -> Result<T, OperationError> {
    match tokio::time::timeout(DISK_WAIT_MAX, blocking(work)).await {
        Ok(result) => result,
        Err(late) => Err(OperationError::Unavailable { source: late.into() }),
    }
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), OperationError> {
    let directory = path.parent().unwrap_or(path);
    let is_new_directory = !directory.exists();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(unavailable(directory))?;
    let temporary = directory.join(format!(".{}", uuid::Uuid::now_v7().simple()));
    let written = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // What could not be written whole is of no use to anybody.
        drop(fs::remove_file(&temporary));
        return Err(unavailable(path)(error));
    }
    directory
        .ancestors()
        .take(if is_new_directory { 2 } else { 1 })
        .try_for_each(|path| File::open(path)?.sync_all())
        .map_err(unavailable(directory))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads at most one byte more than an envelope may have: a longer file does not decrypt, and never fills the memory.
fn read(path: &Path) -> Result<Option<Vec<u8>>, OperationError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unavailable(path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(ENVELOPE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unavailable(path))?;
    Ok(Some(bytes))
}

fn unavailable(path: &Path) -> impl FnOnce(io::Error) -> OperationError {
    let path = path.to_owned();
    move |source| OperationError::Unavailable {
        source: Box::new(DiskError { path, source }),
    }
}
