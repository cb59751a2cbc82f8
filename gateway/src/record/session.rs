//! One session's part of the spool: the buffer in memory, the files of frames, and the chunks made of them.

use super::ship::Work;
use super::spool::Shared;
use super::{RecordError, lock};
use bytes::Bytes;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::id::SessionId;
use countersign_infra::domain::session::SessionHeader;
use countersign_infra::recordings::chain::{Anchor, Chain, End};
use countersign_infra::recordings::format::{FRAME_BYTES_MAX, FRAME_HEAD_BYTES, FrameBuffer, Kind, PLAIN_BYTES_MAX};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Most bytes of frames that a session keeps in memory before they are written out.
pub(super) const BUFFER_BYTES_MAX: usize = 128 << 10;
const HEAD: &str = "head";
const MANIFEST: &str = "manifest";

pub(super) struct Session {
    pub id: SessionId,
    pub dir: PathBuf,
    begun: Instant,
    pub started: Timestamp,
    buffer: Mutex<Buffer>,
    files: Mutex<Files>,
    /// The chain of the chunks that are sealed. Locked by one thread for as long as it seals.
    chain: Mutex<Chain>,
    pub progress: watch::Sender<Progress>,
    /// Bytes of this session in the spool.
    bytes: AtomicU64,
    broken: OnceLock<String>,
    /// What the disk said when a chunk could not be made, until one is.
    stuck: Mutex<Option<RecordError>>,
    /// Its recorder is gone without having finished it.
    pub left: AtomicBool,
    pub sealing: Work,
    pub sending: Work,
    /// The last attempt of the background task to write failed, and was logged.
    pub is_write_failing: AtomicBool,
}

/// How far a session's chunks have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Files of frames that get no more frames.
    pub rotated: u64,
    /// Chunks made of them.
    pub sealed: Anchor,
    /// Chunks that the store has confirmed.
    pub confirmed: u64,
    /// The manifest is in the spool.
    pub closed: bool,
    /// The manifest may be sent: the journal knows of the end, or need not.
    pub released: bool,
    /// The store has confirmed the manifest too.
    pub done: bool,
}

#[derive(Default)]
struct Buffer {
    frames: FrameBuffer,
    /// When the oldest frame came that is in no closed file.
    since: Option<Instant>,
}

#[derive(Default)]
struct Files {
    is_made: bool,
    /// The number of the file that gets the next frames.
    open: u64,
    open_bytes: u64,
}

/// What a session's directory says of the chunks that left it.
#[derive(Serialize, Deserialize)]
pub(super) struct Head {
    pub chain: Chain,
    pub started: Timestamp,
}

impl Session {
    pub fn new(spool: &Path, header: &SessionHeader) -> Self {
        let dir = spool.join(header.id.to_string());
        Self::with(dir, header.opened, Chain::new(header.id), Files::default(), 0, 0)
    }

    /// A session of an earlier run: files of frames up to `rotated` are there, chunks up to `confirmed` are gone.
    pub fn of_earlier_run(dir: PathBuf, head: Head, rotated: u64, confirmed: u64) -> Result<Self, RecordError> {
        let bytes = spooled_bytes(&dir)?;
        let files = Files {
            is_made: true,
            open: rotated,
            open_bytes: 0,
        };
        let session = Self::with(dir, head.started, head.chain, files, confirmed, bytes);
        let closed = session.path(MANIFEST).exists();
        session.progress.send_modify(|progress| progress.closed = closed);
        session.left.store(true, Ordering::Relaxed);
        Ok(session)
    }

    fn with(dir: PathBuf, started: Timestamp, chain: Chain, files: Files, confirmed: u64, bytes: u64) -> Self {
        let progress = Progress {
            rotated: files.open,
            sealed: chain.anchor(),
            confirmed,
            closed: false,
            released: false,
            done: false,
        };
        Self {
            id: chain.session,
            dir,
            begun: Instant::now(),
            started,
            buffer: Mutex::default(),
            files: Mutex::new(files),
            chain: Mutex::new(chain),
            progress: watch::Sender::new(progress),
            bytes: AtomicU64::new(bytes),
            broken: OnceLock::new(),
            stuck: Mutex::default(),
            left: AtomicBool::new(false),
            sealing: Work::default(),
            sending: Work::default(),
            is_write_failing: AtomicBool::new(false),
        }
    }

    /// Bytes of this session in the spool.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Appends a frame to the buffer if it fits; otherwise the buffer must be written out first. Returns whether the
    /// buffer wants to be written out now.
    pub fn append(&self, kind: Kind, parts: &[&[u8]], more: bool) -> Option<bool> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let now = Instant::now();
        let mut buffer = lock(&self.buffer);
        if length > FRAME_BYTES_MAX || buffer.frames.len() + FRAME_HEAD_BYTES + length > BUFFER_BYTES_MAX {
            return None;
        }
        let micros = u64::try_from(now.duration_since(self.begun).as_micros()).unwrap_or(u64::MAX);
        buffer.frames.push(kind, micros, parts, more);
        buffer.since.get_or_insert(now);
        Some(buffer.frames.len() >= BUFFER_BYTES_MAX / 2)
    }

    pub fn has_buffered(&self) -> bool {
        !lock(&self.buffer).frames.is_empty()
    }

    #[cfg(test)]
    pub fn buffer_capacity(&self) -> usize {
        lock(&self.buffer).frames.capacity()
    }

    /// Something is in memory only, or the open chunk is old enough to be closed.
    pub fn is_dirty(&self, now: Instant) -> bool {
        !self.is_broken() && (self.has_buffered() || self.is_older_than(super::CHUNK_AGE_MAX, now))
    }

    pub fn is_older_than(&self, age: Duration, now: Instant) -> bool {
        lock(&self.buffer)
            .since
            .is_some_and(|since| now.duration_since(since) >= age)
    }

    /// Writes the buffer to the open file of frames, and closes that file if it is full or `rotate` says so.
    /// Blocks. On an error the bytes stay in memory.
    pub fn write_out(&self, shared: &Shared, rotate: bool) -> Result<(), WriteError> {
        let mut files = lock(&self.files);
        let frames = lock(&self.buffer).frames.take();
        if let Err(error) = self.write_frames(shared, &mut files, &frames) {
            lock(&self.buffer).frames.put_back(frames);
            // What fills the spool may be this very file: closed, it can be compressed and leave.
            if files.open_bytes > 0 {
                self.rotate(&mut files);
            }
            return Err(error);
        }
        let is_full = files.open_bytes as usize > PLAIN_BYTES_MAX - BUFFER_BYTES_MAX;
        if files.open_bytes > 0 && (rotate || is_full) {
            self.rotate(&mut files);
        }
        let mut buffer = lock(&self.buffer);
        if files.open_bytes == 0 {
            buffer.since = (!buffer.frames.is_empty()).then(Instant::now);
        }
        // Only a session that streams keeps its memory: a thousand idle ones must cost little.
        if frames.len() >= BUFFER_BYTES_MAX / 2 {
            buffer.frames.reuse(frames);
        }
        Ok(())
    }

    fn write_frames(&self, shared: &Shared, files: &mut Files, frames: &[u8]) -> Result<(), WriteError> {
        if frames.is_empty() {
            return Ok(());
        }
        self.check().map_err(WriteError::Failed)?;
        let count = frames.len() as u64;
        if files.open_bytes as usize + frames.len() > PLAIN_BYTES_MAX {
            self.rotate(files);
        }
        if self.bytes.load(Ordering::Relaxed) + count > shared.share() || !shared.reserve(count) {
            return Err(WriteError::Full);
        }
        match self.append_to_file(files, frames) {
            Ok(()) => {
                files.open_bytes += count;
                self.bytes.fetch_add(count, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                shared.release(count);
                Err(WriteError::Failed(error))
            }
        }
    }

    fn append_to_file(&self, files: &mut Files, frames: &[u8]) -> Result<(), RecordError> {
        if !files.is_made {
            self.make_directory()?;
            files.is_made = true;
        }
        let path = self.frames_path(files.open);
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(RecordError::io(&path))?;
        file.write_all(frames).map_err(|error| {
            // A part may have been written: a frame that is torn in the middle of the file would end all after it.
            if let Err(undo) = file.set_len(files.open_bytes) {
                self.break_off(&format!("{}: {undo}, after {error}", path.display()));
            }
            RecordError::io(&path)(error)
        })
    }

    fn make_directory(&self) -> Result<(), RecordError> {
        match fs::DirBuilder::new().mode(0o700).create(&self.dir) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(RecordError::io(&self.dir)(error)),
        }
        self.write_head(&lock(&self.chain))
    }

    fn rotate(&self, files: &mut Files) {
        files.open += 1;
        files.open_bytes = 0;
        let open = files.open;
        self.progress.send_modify(|progress| progress.rotated = open);
    }

    /// Makes a chunk of the oldest closed file of frames. Blocks. Nothing is lost when it is interrupted: the frames
    /// go only after the chunk and the head that counts it are in place.
    pub fn seal_next(&self, shared: &Shared) -> Result<(), RecordError> {
        let mut chain = lock(&self.chain);
        let number = chain.chunks;
        let frames_path = self.frames_path(number);
        let frames = Bytes::from(fs::read(&frames_path).map_err(RecordError::io(&frames_path))?);
        let mut next = chain.clone();
        let chunk = next.seal(&frames, &shared.key).map_err(|error| {
            self.break_off(&format!("{}: {error}", frames_path.display()));
            self.broken_error()
        })?;
        let chunk_path = self.chunk_path(number);
        // An attempt before this one may have come as far as the chunk.
        let replaced = super::spool::size_of(&chunk_path)?;
        write_atomically(&chunk_path, &chunk)?;
        self.count_added(shared, chunk.len() as u64);
        self.count_gone(shared, replaced);
        self.write_head(&next)?;
        *chain = next;
        let anchor = chain.anchor();
        self.progress.send_modify(|progress| progress.sealed = anchor);
        drop(chain);
        fs::remove_file(&frames_path).map_err(RecordError::io(&frames_path))?;
        self.count_gone(shared, frames.len() as u64);
        Ok(())
    }

    /// Puts the signed manifest into the spool, unless it is there. Blocks. All frames must be sealed.
    pub fn close(&self, shared: &Shared, interrupted: bool, why: &str) -> Result<Anchor, RecordError> {
        let chain = lock(&self.chain);
        let path = self.path(MANIFEST);
        if !path.exists() {
            let end = End {
                started: self.started,
                ended: if interrupted {
                    self.started + Duration::from_micros(chain.micros.min(i64::MAX as u64))
                } else {
                    chrono::Utc::now()
                },
                interrupted,
                why: why.to_owned(),
            };
            write_atomically(&path, &chain.close(end, &shared.key))?;
        }
        self.progress.send_modify(|progress| progress.closed = true);
        Ok(chain.anchor())
    }

    /// Lets the manifest go to the store, which ends the recording in the spool.
    pub fn release(&self) {
        self.progress.send_modify(|progress| progress.released = true);
    }

    /// Removes a chunk that the store has confirmed. Blocks.
    pub fn drop_chunk(&self, shared: &Shared, number: u64) -> Result<(), RecordError> {
        let path = self.chunk_path(number);
        let size = super::spool::size_of(&path)?;
        fs::remove_file(&path).map_err(RecordError::io(&path))?;
        self.count_gone(shared, size);
        self.progress.send_modify(|progress| progress.confirmed = number + 1);
        Ok(())
    }

    /// Removes the directory of a recording that the store has confirmed wholly. Blocks.
    pub fn remove(&self, shared: &Shared) -> Result<(), RecordError> {
        let gone = self.dir.with_extension(super::spool::GONE);
        fs::rename(&self.dir, &gone).map_err(RecordError::io(&self.dir))?;
        lock(&shared.sessions).remove(&self.id);
        self.progress.send_modify(|progress| progress.done = true);
        super::neighbours::remove_all(&gone)
    }

    pub fn write_head(&self, chain: &Chain) -> Result<(), RecordError> {
        write_head(&self.dir, chain, self.started)
    }

    pub fn frames_path(&self, number: u64) -> PathBuf {
        self.path(&format!("{number}.frames"))
    }

    pub fn chunk_path(&self, number: u64) -> PathBuf {
        self.path(&format!("{number}.chunk"))
    }

    pub fn manifest_path(&self) -> PathBuf {
        self.path(MANIFEST)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn count_added(&self, shared: &Shared, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
        shared.add(count);
    }

    fn count_gone(&self, shared: &Shared, count: u64) {
        self.bytes.fetch_sub(count, Ordering::Relaxed);
        shared.release(count);
    }

    /// Gives the recording up: every later call is an error. What is in the spool stays there.
    pub fn break_off(&self, message: &str) {
        tracing::error!(session = %self.id, message, "a recording is broken; its files stay in the spool");
        let _ = self.broken.set(message.to_owned());
    }

    /// Says that the way to the store is stuck at this machine's own disk, or no longer.
    pub fn stuck(&self, error: Option<RecordError>) {
        let mut stuck = lock(&self.stuck);
        if let (Some(error), None) = (&error, &*stuck) {
            tracing::warn!(session = %self.id, %error, "a recording waits in the spool");
        }
        *stuck = error;
    }

    /// Why no chunk can be made.
    pub fn check_stuck(&self) -> Result<(), RecordError> {
        lock(&self.stuck).as_ref().map_or(Ok(()), |error| Err(error.again()))
    }

    pub fn is_broken(&self) -> bool {
        self.broken.get().is_some()
    }

    pub fn check(&self) -> Result<(), RecordError> {
        if self.is_broken() {
            return Err(self.broken_error());
        }
        Ok(())
    }

    fn broken_error(&self) -> RecordError {
        RecordError::Broken {
            session: self.id,
            message: self.broken.get().cloned().unwrap_or_default(),
        }
    }
}

/// Why the buffer was not written out.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// Wait until bytes leave the spool.
    #[error("the recording spool is full")]
    Full,
    #[error(transparent)]
    Failed(RecordError),
}

pub(super) fn write_head(dir: &Path, chain: &Chain, started: Timestamp) -> Result<(), RecordError> {
    let path = dir.join(HEAD);
    let head = Head {
        chain: chain.clone(),
        started,
    };
    let json = serde_json::to_vec(&head).map_err(|error| RecordError::io(&path)(error.into()))?;
    write_atomically(&path, &json)
}

/// Reads a session's head; none when there is none.
pub(super) fn read_head(dir: &Path) -> Result<Option<Head>, RecordError> {
    let path = dir.join(HEAD);
    match fs::read(&path) {
        Ok(json) => serde_json::from_slice(&json)
            .map(Some)
            .map_err(|error| RecordError::io(&path)(error.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RecordError::io(&path)(error)),
    }
}

/// Bytes of frames and chunks in a session's directory: what the spool's bound counts.
pub(super) fn spooled_bytes(dir: &Path) -> Result<u64, RecordError> {
    let mut sum = 0;
    for entry in fs::read_dir(dir).map_err(RecordError::io(dir))? {
        let path = entry.map_err(RecordError::io(dir))?.path();
        if path
            .extension()
            .is_some_and(|ending| ending == "frames" || ending == "chunk")
        {
            sum += super::spool::size_of(&path)?;
        }
    }
    Ok(sum)
}

/// Writes a file so that it is there wholly or not at all.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let temporary = path.with_extension("new");
    let write = || {
        let mut options = OpenOptions::new();
        let mut file: File = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        // On a full disk every byte counts. Where it cannot be removed, the next attempt writes over it.
        let _ = fs::remove_file(&temporary);
        RecordError::io(path)(error)
    })
}
