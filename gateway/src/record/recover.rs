//! What an earlier run left in the spool: rebuilt, closed as interrupted, and sent.

use super::session::{Head, Session, read_head, spooled_bytes, write_atomically, write_head};
use super::spool::Shared;
use super::{RecordError, blocking, lock};
use bytes::Bytes;
use countersign_infra::domain::id::{Digest, SessionId};
use countersign_infra::recordings::format::{FrameBuffer, Kind, PLAIN_BYTES_MAX, frames, whole_frames};
use countersign_infra::recordings::key::Keyring;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::{Instant, timeout_at};

const WHY: &str = "the gateway ended before the session did";
const LOST_HERE: &str = "recorded bytes are lost here: the machine ended before its disk had them";

/// A recording that [`Spool::recover`](super::Spool::recover) closed: for the journal first, then for
/// [`Spool::release`](super::Spool::release).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub session: SessionId,
    pub chunks: u64,
    pub last: Digest,
}

pub(super) async fn recover(
    shared: &Arc<Shared>,
    is_over: impl Fn(SessionId) -> bool,
) -> Result<Vec<Recovered>, RecordError> {
    let mut sessions = left_by_recorders(shared);
    sessions.retain(|session| is_over(session.id));
    sessions.extend(left_by_earlier_runs(shared).await?);
    Ok(close_all(shared, sessions).await)
}

async fn close_all(shared: &Arc<Shared>, sessions: Vec<Arc<Session>>) -> Vec<Recovered> {
    let deadline = Instant::now() + shared.wait_max;
    let mut closed = Vec::new();
    for session in sessions {
        match close(shared, &session, deadline).await {
            Ok(recovered) => closed.push(recovered),
            Err(error) => tracing::error!(session = %session.id, %error, "a recording could not be closed"),
        }
    }
    closed
}

/// Lets the manifests of closed recordings go to the store, and waits for that at most `wait_max`.
pub(super) async fn release(shared: &Arc<Shared>, recovered: &[Recovered]) {
    let deadline = Instant::now() + shared.wait_max;
    let found = |one: &Recovered| lock(&shared.sessions).get(&one.session).cloned();
    let sessions = recovered.iter().filter_map(found).collect::<Vec<_>>();
    for session in &sessions {
        session.release();
        session.ship(shared);
    }
    for session in sessions {
        let mut progress = session.progress.subscribe();
        let done = progress.wait_for(|progress| progress.done);
        if timeout_at(deadline, done).await.is_err() {
            tracing::warn!(session = %session.id, "a recovered recording waits in the spool for the store");
        }
    }
}

fn left_by_recorders(shared: &Shared) -> Vec<Arc<Session>> {
    let sessions = lock(&shared.sessions);
    let is_left = |session: &&Arc<Session>| {
        session.left.load(Ordering::Acquire) && !session.is_broken() && !session.progress().released
    };
    sessions.values().filter(is_left).cloned().collect()
}

/// What this run does not know, or could not read when it looked before.
async fn left_by_earlier_runs(shared: &Arc<Shared>) -> Result<Vec<Arc<Session>>, RecordError> {
    let for_reading = Arc::clone(shared);
    let found = blocking(&shared.dir, move || {
        for_reading.forget_taken_away();
        let mut found = Vec::new();
        let left = session_directories(&for_reading)?;
        if left.is_empty() {
            return Ok(found);
        }
        let keys = super::neighbours::keys_of(&for_reading.dir, for_reading.key.public());
        for (id, dir) in left {
            match take_up(&for_reading, id, &dir, &keys) {
                Ok(session) => found.extend(session.map(Arc::new)),
                // One that cannot be taken up must not keep the others from it.
                Err(error) => {
                    tracing::error!(session = %id, %error, "a recording in the spool cannot be recovered");
                    if is_final(&error) {
                        for_reading.give_up(id, spooled_bytes(&dir).unwrap_or_default());
                    }
                }
            }
        }
        Ok(found)
    })
    .await?;
    let mut sessions = lock(&shared.sessions);
    sessions.extend(found.iter().map(|session| (session.id, Arc::clone(session))));
    Ok(found)
}

/// Whether the next look would find the same.
fn is_final(error: &RecordError) -> bool {
    match error {
        RecordError::Broken { .. } => true,
        // What was read makes no sense.
        RecordError::Spool { source, .. } => {
            matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
        }
        RecordError::SpoolFull { .. }
        | RecordError::NoRoom { .. }
        | RecordError::StoreDown { .. }
        | RecordError::DiskFull { .. }
        | RecordError::Locked { .. } => false,
    }
}

/// None when nothing was recorded in it; then it is removed.
fn take_up(shared: &Shared, id: SessionId, dir: &Path, keys: &Keyring) -> Result<Option<Session>, RecordError> {
    let before = spooled_bytes(dir)?;
    let session = load(dir, id, keys)?;
    match &session {
        Some(session) => shared.settle_count(before, session.bytes()),
        None => {
            fs::remove_dir_all(dir).map_err(RecordError::io(dir))?;
            shared.settle_count(before, 0);
        }
    }
    Ok(session)
}

/// The directories of sessions that this run does not know and has not given up.
fn session_directories(shared: &Shared) -> Result<Vec<(SessionId, PathBuf)>, RecordError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(&shared.dir).map_err(RecordError::io(&shared.dir))? {
        let path = entry.map_err(RecordError::io(&shared.dir))?.path();
        let id = path
            .file_name()
            .and_then(|name| name.to_str()?.parse::<SessionId>().ok());
        // In this order: a session whose recording is complete is forgotten once its directory is gone.
        let is_new = |id: &SessionId| !shared.knows(id) && path.is_dir();
        found.extend(id.filter(is_new).map(|id| (id, path)));
    }
    found.sort_unstable();
    Ok(found)
}

/// Builds a session from its directory; none when nothing was recorded in it.
fn load(dir: &Path, id: SessionId, keys: &Keyring) -> Result<Option<Session>, RecordError> {
    let broken = |message: String| RecordError::Broken { session: id, message };
    let chunks = numbered(dir, "chunk")?;
    let frames = numbered(dir, "frames")?;
    let Some(mut head) = read_head(dir)? else {
        return if chunks.is_empty() && frames.is_empty() {
            Ok(None)
        } else {
            Err(broken(format!("{} has no head", dir.display())))
        };
    };
    if head.chain.session != id {
        return Err(broken(format!("the head names session {}", head.chain.session)));
    }
    count_uncounted_chunk(dir, &mut head, &chunks, keys)?;
    let sealed = head.chain.chunks;
    let confirmed = chunks.first().copied().unwrap_or(sealed).min(sealed);
    if !chunks
        .iter()
        .filter(|number| **number < sealed)
        .copied()
        .eq(confirmed..sealed)
    {
        return Err(broken("a chunk is missing in the spool".to_owned()));
    }
    let rotated = keep_whole_frames(dir, &head, &frames)?;
    Session::of_earlier_run(dir.to_owned(), head, rotated, confirmed).map(Some)
}

/// A chunk was put in place, and the process ended before the head counted it.
fn count_uncounted_chunk(dir: &Path, head: &mut Head, chunks: &[u64], keys: &Keyring) -> Result<(), RecordError> {
    let number = head.chain.chunks;
    if !chunks.contains(&number) {
        return Ok(());
    }
    let path = dir.join(format!("{number}.chunk"));
    let bytes = fs::read(&path).map_err(RecordError::io(&path))?;
    let followed = head.chain.follow(&bytes, keys);
    followed.map_err(|error| RecordError::Broken {
        session: head.chain.session,
        message: error.to_string(),
    })?;
    write_head(dir, &head.chain, head.started)
}

/// Removes files that are chunks already, and cuts off what was torn by the end of the gateway. Returns the next number.
///
/// Files are written one after the other, so only the last one can be torn by that. An earlier one is cut, empty or
/// missing when the machine lost its power: what is lost in the middle is said there, before all of it is signed.
fn keep_whole_frames(dir: &Path, head: &Head, numbers: &[u64]) -> Result<u64, RecordError> {
    let sealed = head.chain.chunks;
    let mut left = BTreeMap::new();
    for number in numbers {
        let path = frames_path(dir, *number);
        let bytes = Bytes::from(fs::read(&path).map_err(RecordError::io(&path))?);
        let whole = whole_frames(&bytes);
        if *number < sealed {
            fs::remove_file(&path).map_err(RecordError::io(&path))?;
        } else {
            left.insert(*number, (bytes, whole));
        }
    }
    let filled = |(number, (_, whole)): (&u64, &(Bytes, usize))| (*whole > 0).then_some(*number);
    let Some(last) = left.iter().filter_map(filled).next_back() else {
        return left
            .keys()
            .try_fold(sealed, |next, number| drop_frames(dir, *number).and(Ok(next)));
    };
    for number in left.keys().filter(|number| **number > last) {
        drop_frames(dir, *number)?;
    }
    let mut micros = head.chain.micros;
    for number in sealed..=last {
        let path = frames_path(dir, number);
        let (bytes, whole) = left.remove(&number).unwrap_or_default();
        micros = last_micros(&bytes, micros);
        let torn = bytes.len() - whole;
        if number == last && torn > 0 {
            tracing::warn!(path = %path.display(), bytes = torn, "a torn frame is cut off");
            cut(&path, whole)?;
        } else if torn > 0 || whole == 0 {
            tracing::error!(path = %path.display(), bytes = torn, "recorded bytes are lost in the middle of a recording");
            write_atomically(&path, &with_remark(&bytes, micros))?;
        }
    }
    Ok(last + 1)
}

fn frames_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number}.frames"))
}

/// In place: the disk may be full.
fn cut(path: &Path, length: usize) -> Result<(), RecordError> {
    let file = fs::OpenOptions::new().write(true).open(path);
    file.and_then(|file| file.set_len(length as u64))
        .map_err(RecordError::io(path))
}

/// Nothing whole is in it.
fn drop_frames(dir: &Path, number: u64) -> Result<(), RecordError> {
    let path = frames_path(dir, number);
    tracing::warn!(path = %path.display(), "a file without a whole frame is removed");
    fs::remove_file(&path).map_err(RecordError::io(&path))
}

/// When the last of the whole frames was recorded.
fn last_micros(bytes: &Bytes, before: u64) -> u64 {
    let whole = frames(bytes).map_while(Result::ok);
    whole.map(|frame| frame.micros).fold(before, u64::max)
}

/// The whole frames, and that something was lost after them.
fn with_remark(bytes: &Bytes, micros: u64) -> Vec<u8> {
    let mut remark = FrameBuffer::default();
    remark.push(Kind::Event, micros, &[LOST_HERE.as_bytes()], false);
    let remark = remark.take();
    // A file is as long as a chunk may be: where the remark has no room, the frame before it goes.
    let room = bytes.len().min(PLAIN_BYTES_MAX - remark.len());
    let mut kept = bytes.slice(..whole_frames(&bytes.slice(..room))).to_vec();
    kept.extend_from_slice(&remark);
    kept
}

fn numbered(dir: &Path, ending: &str) -> Result<Vec<u64>, RecordError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(RecordError::io(dir))? {
        let path = entry.map_err(RecordError::io(dir))?.path();
        let is_one = path.extension().is_some_and(|found| found == ending);
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        numbers.extend(number.filter(|_| is_one));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Seals what is left and puts the manifest into the spool; the store need not answer for that.
async fn close(shared: &Arc<Shared>, session: &Arc<Session>, deadline: Instant) -> Result<Recovered, RecordError> {
    let (writing, shared_) = (Arc::clone(session), Arc::clone(shared));
    blocking(&session.dir, move || match writing.write_out(&shared_, true) {
        Ok(()) => Ok(()),
        Err(error) => Err(RecordError::Broken {
            session: writing.id,
            message: error.to_string(),
        }),
    })
    .await?;
    session.ship(shared);
    let mut progress = session.progress.subscribe();
    let sealed = progress.wait_for(|progress| progress.sealed.chunks == progress.rotated);
    if !matches!(timeout_at(deadline, sealed).await, Ok(Ok(_))) {
        session.check()?;
        session.check_stuck()?;
        return Err(RecordError::Broken {
            session: session.id,
            message: "its chunks were not made in time; it is tried again later".to_owned(),
        });
    }
    let (closing, shared_) = (Arc::clone(session), Arc::clone(shared));
    let anchor = blocking(&session.dir, move || closing.close(&shared_, true, WHY)).await?;
    session.ship(shared);
    Ok(Recovered {
        session: session.id,
        chunks: anchor.chunks,
        last: anchor.last,
    })
}
