//! Recordings as files under a directory.
//!
//! An object is written to a temporary file, synced, linked under its name (which never replaces another) and the
//! directory synced: what a call returned `Ok` for survives the loss of power.

use super::chain::MANIFEST_BYTES_MAX;
use super::format::CHUNK_BYTES_MAX;
use super::layout::{self, DIGEST_BYTES_MAX, DIGESTS_MAX, SESSIONS_MAX};
use super::{Link, RecordingError, RecordingObject, RecordingStore};
use crate::domain::id::SessionId;
use async_trait::async_trait;
use bytes::Bytes;
use chrono::NaiveDate;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file operation that failed, with the file it was about.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
struct DiskError {
    path: PathBuf,
    source: io::Error,
}

/// Recordings on the local disk. Files are readable by the owner only.
#[derive(Clone, Debug)]
pub struct DiskRecordings {
    root: PathBuf,
}

impl DiskRecordings {
    /// Keeps recordings in `recordings/` and `digests/` under `data_dir`, which are made when the first object comes.
    pub fn under(data_dir: &Path) -> Self {
        Self {
            root: data_dir.to_owned(),
        }
    }

    /// Where the objects of a session lie.
    pub fn directory(&self, session: SessionId) -> PathBuf {
        self.root.join(layout::session(session))
    }

    async fn put(&self, directory: PathBuf, name: String, bytes: Bytes) -> Result<(), RecordingError> {
        blocking(move || put(&directory, &name, &bytes)).await
    }

    async fn put_object(
        &self,
        session: SessionId,
        object: RecordingObject,
        bytes: Bytes,
    ) -> Result<(), RecordingError> {
        self.put(self.directory(session), layout::object(object), bytes).await
    }

    async fn read_object(
        &self,
        session: SessionId,
        object: RecordingObject,
        max: usize,
    ) -> Result<Option<Bytes>, RecordingError> {
        let path = self.directory(session).join(layout::object(object));
        blocking(move || read(&path, max)).await
    }
}

#[async_trait]
impl RecordingStore for DiskRecordings {
    async fn put_chunk(&self, session: SessionId, number: u64, bytes: Bytes) -> Result<(), RecordingError> {
        self.put_object(session, RecordingObject::Chunk(number), bytes).await
    }

    async fn put_manifest(&self, session: SessionId, bytes: Bytes) -> Result<(), RecordingError> {
        self.put_object(session, RecordingObject::Manifest, bytes).await
    }

    async fn chunks(&self, session: SessionId) -> Result<u64, RecordingError> {
        let directory = self.directory(session);
        let names = blocking(move || names(&directory)).await?;
        let names = names.ok_or(RecordingError::NotFound(session))?;
        Ok(layout::unbroken(
            names.iter().filter_map(|name| layout::chunk_number(name)).collect(),
        ))
    }

    async fn read_chunk(&self, session: SessionId, number: u64) -> Result<Bytes, RecordingError> {
        let found = self
            .read_object(session, RecordingObject::Chunk(number), CHUNK_BYTES_MAX)
            .await?;
        found.ok_or(RecordingError::NotFound(session))
    }

    async fn read_manifest(&self, session: SessionId) -> Result<Option<Bytes>, RecordingError> {
        self.read_object(session, RecordingObject::Manifest, MANIFEST_BYTES_MAX)
            .await
    }

    async fn sessions(&self, day: NaiveDate, after: Option<SessionId>) -> Result<Vec<SessionId>, RecordingError> {
        let directory = self.root.join(layout::day(day));
        let names = blocking(move || names(&directory)).await?.unwrap_or_default();
        let mut sessions = names
            .iter()
            .filter_map(|name| layout::session_named(name))
            .filter(|session| after.is_none_or(|after| *session > after))
            .collect::<Vec<_>>();
        sessions.sort_unstable();
        sessions.truncate(SESSIONS_MAX);
        Ok(sessions)
    }

    async fn put_digest(&self, day: NaiveDate, name: &str, bytes: Bytes) -> Result<(), RecordingError> {
        layout::check_digest(name, &bytes)?;
        self.put(self.root.join(layout::digests(day)), name.to_owned(), bytes)
            .await
    }

    async fn digests(&self, day: NaiveDate) -> Result<Vec<String>, RecordingError> {
        let directory = self.root.join(layout::digests(day));
        let shown = directory.display().to_string();
        let mut names = blocking(move || names(&directory)).await?.unwrap_or_default();
        names.retain(|name| layout::check_digest_name(name).is_ok());
        if names.len() > DIGESTS_MAX {
            return Err(layout::too_many_digests(&shown));
        }
        names.sort_unstable();
        Ok(names)
    }

    async fn read_digest(&self, day: NaiveDate, name: &str) -> Result<Bytes, RecordingError> {
        layout::check_digest_name(name)?;
        let path = self.root.join(layout::digests(day)).join(name);
        let shown = path.display().to_string();
        let found = blocking(move || read(&path, DIGEST_BYTES_MAX)).await?;
        found.ok_or(RecordingError::NoDigest(shown))
    }

    async fn link(&self, _: SessionId, _: RecordingObject, _: Duration) -> Result<Option<Link>, RecordingError> {
        Ok(None)
    }

    async fn probe(&self) -> Result<(), RecordingError> {
        let root = self.root.join("recordings");
        blocking(move || probe(&root).map_err(unavailable(&root))).await
    }
}

/// Runs file operations off the async threads. A dropped call may still have its effect.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RecordingError> + Send + 'static,
) -> Result<T, RecordingError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(RecordingError::Unavailable {
            source: Box::new(error),
        }),
    }
}

fn put(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), RecordingError> {
    let path = directory.join(name);
    if let Some(result) = compare(&path, bytes)? {
        return result;
    }
    let is_new_directory = !directory.exists();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(unavailable(directory))?;
    let temporary = directory.join(format!(".{name}.{}", uuid::Uuid::now_v7().simple()));
    let written = write_synced(&temporary, bytes).and_then(|()| match fs::hard_link(&temporary, &path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        linked => linked.map(|()| true),
    });
    let removed = fs::remove_file(&temporary);
    let is_new = written.map_err(unavailable(&path))?;
    removed.map_err(unavailable(&temporary))?;
    if !is_new {
        return compare(&path, bytes)?.unwrap_or_else(|| Err(exists(&path)));
    }
    sync_directories(directory, is_new_directory).map_err(unavailable(directory))
}

/// What is already there decides: the same bytes are accepted, others are not. None: nothing is there.
fn compare(path: &Path, bytes: &[u8]) -> Result<Option<Result<(), RecordingError>>, RecordingError> {
    let found = read(path, bytes.len())?;
    Ok(found.map(|found| if found == bytes { Ok(()) } else { Err(exists(path)) }))
}

fn exists(path: &Path) -> RecordingError {
    RecordingError::Exists(path.display().to_string())
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Writes a file and takes it away again.
fn probe(root: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    let path = root.join(format!(".probe.{}", uuid::Uuid::now_v7().simple()));
    let written = write_synced(&path, b"probe");
    let removed = fs::remove_file(&path);
    written.and(removed)
}

/// Syncs the session's directory and, if that was made, the four above it, any of which may be new too.
fn sync_directories(directory: &Path, is_new: bool) -> io::Result<()> {
    directory
        .ancestors()
        .take(if is_new { 5 } else { 1 })
        .try_for_each(|path| File::open(path)?.sync_all())
}

/// Reads at most one byte more than `max`, so that a longer file shows and never fills the memory.
fn read(path: &Path, max: usize) -> Result<Option<Bytes>, RecordingError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unavailable(path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unavailable(path))?;
    Ok(Some(bytes.into()))
}

/// The names in a directory; none when there is no such directory.
fn names(directory: &Path) -> Result<Option<Vec<String>>, RecordingError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unavailable(directory)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(unavailable(directory))?.file_name().into_string());
    }
    Ok(Some(names))
}

fn unavailable(path: &Path) -> impl FnOnce(io::Error) -> RecordingError {
    let path = path.to_owned();
    move |source| RecordingError::Unavailable {
        source: Box::new(DiskError { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recordings::contract;
    use crate::recordings::flaky::Flaky;
    use std::os::unix::fs::PermissionsExt;

    fn session() -> SessionId {
        SessionId(uuid::Uuid::now_v7())
    }

    #[tokio::test]
    async fn the_disk_keeps_the_contract() {
        let directory = tempfile::tempdir().unwrap();
        contract::check(&DiskRecordings::under(directory.path())).await.unwrap();
    }

    #[tokio::test]
    async fn the_disk_keeps_the_contract_while_calls_fail_before_and_after_their_effect() {
        let directory = tempfile::tempdir().unwrap();
        let flaky = Flaky::every_other(DiskRecordings::under(directory.path()));
        contract::check(&flaky).await.unwrap();
        assert!(flaky.failures() > 10);
    }

    #[tokio::test]
    async fn a_day_of_many_sessions_is_listed_page_by_page() {
        let directory = tempfile::tempdir().unwrap();
        contract::check_long_listing(&DiskRecordings::under(directory.path()))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn objects_lie_under_the_day_of_the_session_and_are_readable_by_the_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let store = DiskRecordings::under(directory.path());
        let id: SessionId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        store.put_chunk(id, 0, Bytes::from_static(b"a")).await.unwrap();
        let path = directory
            .path()
            .join("recordings/2023/06/30/01890a5d-ac96-774b-bcce-b302099a8057/0.chunk");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "no temporary file is left");
    }

    #[tokio::test]
    async fn chunks_count_up_to_the_first_gap_and_unfinished_files_do_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let store = DiskRecordings::under(directory.path());
        let id = session();
        for number in [0, 1, 3] {
            store.put_chunk(id, number, Bytes::from_static(b"a")).await.unwrap();
        }
        fs::write(store.directory(id).join(".2.chunk.1234"), b"half").unwrap();
        assert_eq!(store.chunks(id).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_written_is_an_error_that_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("recordings"), b"a file stands in the way").unwrap();
        let store = DiskRecordings::under(directory.path());
        let error = store
            .put_chunk(session(), 0, Bytes::from_static(b"a"))
            .await
            .unwrap_err();
        assert!(matches!(error, RecordingError::Unavailable { .. }));
        assert!(error.to_string().contains("recordings"), "{error}");
        store.probe().await.unwrap_err();
    }

    #[tokio::test]
    async fn a_probe_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let store = DiskRecordings::under(directory.path());
        store.probe().await.unwrap();
        assert_eq!(fs::read_dir(directory.path().join("recordings")).unwrap().count(), 0);
    }
}
