//! The spool: a bounded directory that all recordings of a gateway share.

use super::neighbours::{self, Dead, TAKEN_MAX, Taken};
use super::recover;
use super::room::Room;
use super::session::Session;
use super::{CHUNK_AGE_MAX, RecordError, Recorder, Recovered, WRITE_INTERVAL, blocking, lock};
use countersign_infra::domain::id::SessionId;
use countersign_infra::domain::session::SessionHeader;
use countersign_infra::recordings::RecordingStore;
use countersign_infra::recordings::key::SigningKey;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Threads that write frames at the same time.
const WRITERS_MAX: usize = 8;
/// Chunks that are compressed at the same time, in all sessions together.
const SEALERS_MAX: usize = 2;
/// Chunks on their way to the store at the same time, in all sessions together.
const UPLOADS_MAX: usize = 32;
/// A session may fill a quarter of the spool, so that one cannot stop all others.
const SHARE_OF_SESSION: u64 = 4;
/// But never less than this.
const SHARE_BYTES_MIN: u64 = 4 << 20;
/// A finished session's directory gets this ending before it is removed.
pub(super) const GONE: &str = "gone";

/// The directory through which all recordings of a gateway go on their way to the store.
pub struct Spool {
    shared: Arc<Shared>,
}

/// What sessions and background tasks have in common.
pub(super) struct Shared {
    pub dir: PathBuf,
    /// In this directory.
    bytes: AtomicU64,
    pub room: Arc<Room>,
    pub store: Arc<dyn RecordingStore>,
    pub key: Arc<SigningKey>,
    pub wait_max: Duration,
    pub sessions: Mutex<HashMap<SessionId, Arc<Session>>>,
    /// Broken recordings, with their bytes: their directories stay until a person takes them away.
    given_up: Mutex<HashMap<SessionId, u64>>,
    failing: Mutex<Option<Failing>>,
    pub writers: Semaphore,
    pub sealers: Semaphore,
    pub uploads: Semaphore,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
    /// The directory that this spool shares with those of other gateways.
    beside: Option<PathBuf>,
    /// Locked as long as it is open.
    _lock: File,
}

struct Failing {
    since: Instant,
    /// None while the store has only not answered yet.
    message: Option<String>,
}

impl Spool {
    /// Opens the spool and starts its background task. Must be called within a tokio runtime. `bytes_max` bounds what
    /// lies in the directory, and in those that it [adopts](Self::adopt) (each chunk that is being compressed may add its own size for a moment); `wait_max`
    /// bounds how long a session waits for room or for the store.
    ///
    /// `Locked` when another process has it open.
    pub fn open(
        dir: &Path,
        bytes_max: u64,
        store: Arc<dyn RecordingStore>,
        key: Arc<SigningKey>,
        wait_max: Duration,
    ) -> Result<Self, RecordError> {
        let taken = neighbours::take_own(dir)?;
        let means = Means {
            room: Arc::new(Room::new(bytes_max, 0)),
            store,
            key,
            wait_max,
        };
        Self::of(taken, means, None)
    }

    /// Opens a spool of its own in a directory that several gateways on one disk share, so that each can complete what
    /// another one left behind. What an earlier run left there is found by [`adopt`](Self::adopt), and counts before. As `open` otherwise.
    pub fn open_beside(
        directory: &Path,
        bytes_max: u64,
        store: Arc<dyn RecordingStore>,
        key: Arc<SigningKey>,
        wait_max: Duration,
    ) -> Result<Self, RecordError> {
        let taken = neighbours::take_new(directory)?;
        let beside = neighbours::take_dead(directory, 0)?.bytes_beside;
        let means = Means {
            room: Arc::new(Room::new(bytes_max, beside)),
            store,
            key,
            wait_max,
        };
        Self::of(taken, means, Some(directory.to_owned()))
    }

    fn of(taken: Taken, means: Means, beside: Option<PathBuf>) -> Result<Self, RecordError> {
        let Taken { dir, lock } = taken;
        let Means {
            room,
            store,
            key,
            wait_max,
        } = means;
        remove_gone(&dir)?;
        neighbours::leave_key(&dir, key.public())?;
        let bytes = bytes_in(&dir)?;
        room.add(bytes);
        let shared = Arc::new(Shared {
            bytes: AtomicU64::new(bytes),
            dir,
            room,
            store,
            key,
            wait_max,
            sessions: Mutex::default(),
            given_up: Mutex::default(),
            failing: Mutex::default(),
            writers: Semaphore::new(WRITERS_MAX),
            sealers: Semaphore::new(SEALERS_MAX),
            uploads: Semaphore::new(UPLOADS_MAX),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            beside,
            _lock: lock,
        });
        shared.tasks.spawn(tend(Arc::clone(&shared)));
        Ok(Self { shared })
    }

    /// Uploads what an earlier run or a dropped [`Recorder`] left behind and closes those recordings as interrupted.
    /// Sessions that are being recorded are not touched. Does not wait for the store. Called once, after `open`.
    ///
    /// Returns the recordings that are closed for good in the spool, so that the journal can close their sessions
    /// (some may be closed there already: look first). They end in the store with [`release`](Self::release), not
    /// before: killed in between, the next start returns them again. A directory that cannot be understood is logged
    /// and left where it is.
    pub async fn recover(&self) -> Result<Vec<Recovered>, RecordError> {
        recover::recover(&self.shared, |_| true).await
    }

    /// As `recover`, again and again: of what recorders of this run left behind, that of sessions that are over, and what
    /// could not be read before. What goes wrong is logged.
    pub async fn recover_left(&self, is_over: impl Fn(SessionId) -> bool) -> Vec<Recovered> {
        let recovered = recover::recover(&self.shared, is_over).await;
        recovered.unwrap_or_else(|error| {
            tracing::warn!(%error, "the recording spool cannot be looked at");
            Vec::new()
        })
    }

    /// Lets the ends of recovered recordings go to the store. Waits for that at most `wait_max`; what the store does not
    /// take by then goes on being uploaded in the background.
    pub async fn release(&self, recovered: &[Recovered]) {
        recover::release(&self.shared, recovered).await;
    }

    /// Opens the spools beside this one whose gateways are gone, a few at a time: `recover` them. Their chunks stay as
    /// the other gateway signed them; what is still to be signed is signed with the key of this one. None where this
    /// spool was not opened beside others, or another gateway was faster. Looks at the local disk only; what goes wrong there is logged.
    pub async fn adopt(&self) -> Vec<Spool> {
        let Some(beside) = self.shared.beside.clone() else {
            return Vec::new();
        };
        let directory = beside.clone();
        let found = blocking(&directory, move || neighbours::take_dead(&beside, TAKEN_MAX)).await;
        let Dead { taken, bytes_beside } = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "the spools of other gateways cannot be looked at");
                return Vec::new();
            }
        };
        let means = || Means {
            room: Arc::clone(&self.shared.room),
            store: Arc::clone(&self.shared.store),
            key: Arc::clone(&self.shared.key),
            wait_max: self.shared.wait_max,
        };
        let open = |taken: Taken| {
            let path = taken.dir.clone();
            match Self::of(taken, means(), Some(directory.clone())) {
                Ok(spool) => Some(spool),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "the spool of a gateway that is gone cannot be opened");
                    None
                }
            }
        };
        let adopted = taken.into_iter().filter_map(open).collect();
        self.shared.room.set_beside(bytes_beside);
        adopted
    }

    /// Removes the directory of a spool that shares a directory with others, if nothing is left in it, and says whether
    /// it did. It must not be used any more.
    pub async fn remove_if_empty(&self) -> Result<bool, RecordError> {
        if self.shared.beside.is_none() || !lock(&self.shared.sessions).is_empty() {
            return Ok(false);
        }
        let dir = self.shared.dir.clone();
        let removed = blocking(&self.shared.dir, move || neighbours::remove_if_empty(&dir)).await?;
        if removed {
            self.stop_tasks().await;
        }
        Ok(removed)
    }

    /// Begins the recording of a session; its header is the first frame. Does no I/O.
    pub fn open_session(&self, header: &SessionHeader) -> Result<Recorder, RecordError> {
        self.shared.check_store()?;
        self.shared.check_room()?;
        let session = Arc::new(Session::new(&self.shared.dir, header));
        let mut sessions = lock(&self.shared.sessions);
        if sessions.insert(header.id, Arc::clone(&session)).is_some() {
            return Err(RecordError::Broken {
                session: header.id,
                message: "it is being recorded already".to_owned(),
            });
        }
        drop(sessions);
        Recorder::begin(session, Arc::clone(&self.shared), header)
    }

    /// Bytes that lie in the spool.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// How long, and why, nothing could be sent to the store; none while all is well.
    pub fn failing(&self) -> Option<(Duration, String)> {
        let failing = lock(&self.shared.failing);
        let failing = failing.as_ref()?;
        Some((failing.since.elapsed(), failing.message.clone()?))
    }

    /// Stops the background tasks and waits for the file operation that each is in. Call it after the sessions have
    /// ended; what is not uploaded by then stays in the spool for the next start.
    pub async fn stop(&self) {
        self.stop_tasks().await;
        if let Err(error) = self.remove_if_empty().await {
            tracing::warn!(%error, "an empty spool was not removed");
        }
    }

    async fn stop_tasks(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

/// What a spool works with, beside its directory.
struct Means {
    room: Arc<Room>,
    store: Arc<dyn RecordingStore>,
    key: Arc<SigningKey>,
    wait_max: Duration,
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl Shared {
    /// The most bytes that one session may have in the spool.
    pub fn share(&self) -> u64 {
        (self.room.bytes_max / SHARE_OF_SESSION).max(SHARE_BYTES_MIN)
    }

    /// Takes room for bytes that are about to be written; false when there is none.
    pub fn reserve(&self, count: u64) -> bool {
        let is_reserved = self.room.reserve(count);
        if is_reserved {
            self.bytes.fetch_add(count, Ordering::Relaxed);
        }
        is_reserved
    }

    /// Counts bytes that were written without asking for room.
    pub fn add(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
        self.room.add(count);
    }

    /// Gives room back.
    pub fn release(&self, count: u64) {
        self.bytes.fetch_sub(count, Ordering::Relaxed);
        self.room.release(count);
    }

    /// Corrects the count of a session's bytes that was made when the spool was opened.
    pub fn settle_count(&self, before: u64, now: u64) {
        self.add(now.saturating_sub(before));
        self.release(before.saturating_sub(now));
    }

    /// Whether a session's directory is nothing to recover.
    pub fn knows(&self, session: &SessionId) -> bool {
        lock(&self.sessions).contains_key(session) || lock(&self.given_up).contains_key(session)
    }

    /// Leaves a broken recording to a person. Its bytes count until its directory is taken away.
    pub fn give_up(&self, session: SessionId, bytes: u64) {
        lock(&self.given_up).insert(session, bytes);
    }

    /// Counts no more what a person took away. Blocks.
    pub fn forget_taken_away(&self) {
        lock(&self.given_up).retain(|session, bytes| {
            let is_there = self.dir.join(session.to_string()).exists();
            if !is_there {
                self.release(*bytes);
            }
            is_there
        });
    }

    /// From now on the store owes an answer: a store that is silent is down like one that fails.
    pub fn store_asked(&self) {
        let since = Instant::now();
        lock(&self.failing).get_or_insert(Failing { since, message: None });
    }

    pub fn store_failed(&self, message: &str) {
        let mut failing = lock(&self.failing);
        let since = failing.as_ref().map_or_else(Instant::now, |failing| failing.since);
        if failing.as_ref().is_none_or(|failing| failing.message.is_none()) {
            tracing::warn!(message, "the recording store fails; recordings wait in the spool");
        }
        *failing = Some(Failing {
            since,
            message: Some(message.to_owned()),
        });
    }

    pub fn store_answered(&self) {
        if let Some(failing) = lock(&self.failing).take().filter(|failing| failing.message.is_some()) {
            let seconds = failing.since.elapsed().as_secs();
            tracing::info!(seconds, "the recording store answers again");
        }
    }

    /// An error while a new session would have no room at all.
    fn check_room(&self) -> Result<(), RecordError> {
        let (bytes, bytes_max) = (self.room.bytes(), self.room.bytes_max);
        if bytes < bytes_max {
            return Ok(());
        }
        Err(RecordError::NoRoom { bytes, bytes_max })
    }

    /// An error once the store has been failing for longer than sessions may wait.
    pub fn check_store(&self) -> Result<(), RecordError> {
        match &*lock(&self.failing) {
            Some(failing) if failing.since.elapsed() >= self.wait_max => Err(RecordError::StoreDown {
                seconds: failing.since.elapsed().as_secs(),
                message: failing
                    .message
                    .clone()
                    .unwrap_or_else(|| "it does not answer".to_owned()),
            }),
            Some(_) | None => Ok(()),
        }
    }

    fn all_sessions(&self) -> Vec<Arc<Session>> {
        lock(&self.sessions).values().cloned().collect()
    }
}

/// What is left in a spool that somebody else is to take counts no more here.
impl Drop for Shared {
    fn drop(&mut self) {
        self.room.release(self.bytes.load(Ordering::Relaxed));
    }
}

/// The one background task of a spool: writes out what is in memory, closes chunks that are old enough, and tries
/// again what could not be sent.
async fn tend(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(WRITE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Both arms may be dropped midway: neither has done anything yet.
    while shared.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let now = Instant::now();
        let sessions = shared.all_sessions();
        let due = sessions
            .iter()
            .filter(|session| session.is_dirty(now))
            .cloned()
            .collect::<Vec<_>>();
        if !due.is_empty() {
            let (dir, for_writing) = (shared.dir.clone(), Arc::clone(&shared));
            let written = blocking(&dir, move || {
                write_all(&for_writing, &due, now);
                Ok(())
            });
            if let Err(error) = written.await {
                tracing::error!(%error, "the recording spool was not written");
            }
        }
        for session in &sessions {
            session.ship_again(&shared, now);
        }
        lock(&shared.sessions).retain(|id, session| {
            let is_left = session.is_broken() && session.left.load(Ordering::Acquire);
            if is_left {
                shared.give_up(*id, session.bytes());
            }
            !is_left
        });
    }
}

/// An error here is not lost: the bytes stay in memory, and the session's own next call meets it.
fn write_all(shared: &Shared, sessions: &[Arc<Session>], now: Instant) {
    for session in sessions {
        let result = session.write_out(shared, session.is_older_than(CHUNK_AGE_MAX, now));
        let failed_before = session.is_write_failing.swap(result.is_err(), Ordering::Relaxed);
        if let (Err(error), false) = (result, failed_before) {
            tracing::warn!(session = %session.id, %error, "recorded bytes wait in memory");
        }
    }
}

/// Removes directories of finished sessions whose removal was interrupted.
fn remove_gone(dir: &Path) -> Result<(), RecordError> {
    for entry in fs::read_dir(dir).map_err(RecordError::io(dir))? {
        let path = entry.map_err(RecordError::io(dir))?.path();
        if path.extension().is_some_and(|ending| ending == GONE) {
            fs::remove_dir_all(&path).map_err(RecordError::io(&path))?;
        }
    }
    Ok(())
}

/// What lies in a spool. Blocks.
pub(super) fn bytes_in(dir: &Path) -> Result<u64, RecordError> {
    let mut sum = 0;
    for entry in fs::read_dir(dir).map_err(RecordError::io(dir))? {
        let path = entry.map_err(RecordError::io(dir))?.path();
        if path.is_dir() {
            sum += super::session::spooled_bytes(&path)?;
        }
    }
    Ok(sum)
}

/// The size of a file; 0 when there is none.
pub(super) fn size_of(path: &Path) -> Result<u64, RecordError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(RecordError::io(path)(error)),
    }
}
