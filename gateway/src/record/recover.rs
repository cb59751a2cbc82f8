//! What an earlier run left in the spool: rebuilt, closed as interrupted, and sent.

use super::session::{Head, Session, read_head, spooled_bytes, write_head};
use super::spool::Shared;
use super::{RecordError, blocking, lock};
use bytes::Bytes;
use countersign_infra::domain::id::{Digest, SessionId};
use countersign_infra::recordings::format::whole_frames;
use countersign_infra::recordings::key::Keyring;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::{Instant, timeout_at};

const WHY: &str = "the gateway ended before the session did";

/// A recording that [`Spool::recover`](super::Spool::recover) closed: for the journal first, then for
/// [`Spool::release`](super::Spool::release).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub session: SessionId,
    pub chunks: u64,
    pub last: Digest,
}

pub(super) async fn recover(shared: &Arc<Shared>) -> Result<Vec<Recovered>, RecordError> {
    let mut sessions = left_by_recorders(shared);
    sessions.extend(left_by_earlier_runs(shared).await?);
    Ok(close_all(shared, sessions).await)
}

pub(super) async fn recover_left(shared: &Arc<Shared>, is_over: impl Fn(SessionId) -> bool) -> Vec<Recovered> {
    let mut sessions = left_by_recorders(shared);
    sessions.retain(|session| is_over(session.id));
    close_all(shared, sessions).await
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

async fn left_by_earlier_runs(shared: &Arc<Shared>) -> Result<Vec<Arc<Session>>, RecordError> {
    let for_reading = Arc::clone(shared);
    let found = blocking(&shared.dir, move || {
        let mut found = Vec::new();
        let left = session_directories(&for_reading)?;
        if left.is_empty() {
            return Ok(found);
        }
        let keys = super::neighbours::keys_of(&for_reading.dir, for_reading.key.public());
        for (id, dir) in left {
            let before = spooled_bytes(&dir)?;
            match load(&dir, id, &keys) {
                Ok(Some(session)) => {
                    for_reading.release(before.saturating_sub(session.bytes()));
                    found.push(Arc::new(session));
                }
                Ok(None) => {
                    for_reading.release(before);
                    fs::remove_dir_all(&dir).map_err(RecordError::io(&dir))?;
                }
                Err(error) => tracing::error!(session = %id, %error, "a recording in the spool cannot be recovered"),
            }
        }
        Ok(found)
    })
    .await?;
    let mut sessions = lock(&shared.sessions);
    sessions.extend(found.iter().map(|session| (session.id, Arc::clone(session))));
    Ok(found)
}

/// The directories of sessions that this run does not know.
fn session_directories(shared: &Shared) -> Result<Vec<(SessionId, PathBuf)>, RecordError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(&shared.dir).map_err(RecordError::io(&shared.dir))? {
        let path = entry.map_err(RecordError::io(&shared.dir))?.path();
        let id = path
            .file_name()
            .and_then(|name| name.to_str()?.parse::<SessionId>().ok());
        let known = |id: &SessionId| lock(&shared.sessions).contains_key(id);
        found.extend(id.filter(|id| path.is_dir() && !known(id)).map(|id| (id, path)));
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
    count_uncounted_chunk(dir, &mut head, &chunks, keys).map_err(broken)?;
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
    let rotated = keep_whole_frames(dir, sealed, &frames)?;
    Session::of_earlier_run(dir.to_owned(), head, rotated, confirmed).map(Some)
}

/// A chunk was put in place, and the process ended before the head counted it.
fn count_uncounted_chunk(dir: &Path, head: &mut Head, chunks: &[u64], keys: &Keyring) -> Result<(), String> {
    let number = head.chain.chunks;
    if !chunks.contains(&number) {
        return Ok(());
    }
    let path = dir.join(format!("{number}.chunk"));
    let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    head.chain.follow(&bytes, keys).map_err(|error| error.to_string())?;
    write_head(dir, &head.chain, head.started).map_err(|error| error.to_string())
}

/// Cuts torn tails off, removes files that are chunks already, and closes gaps. Returns the next number.
fn keep_whole_frames(dir: &Path, sealed: u64, numbers: &[u64]) -> Result<u64, RecordError> {
    let mut next = sealed;
    for number in numbers {
        let path = dir.join(format!("{number}.frames"));
        let bytes = Bytes::from(fs::read(&path).map_err(RecordError::io(&path))?);
        let whole = whole_frames(&bytes);
        if *number < sealed || whole == 0 {
            fs::remove_file(&path).map_err(RecordError::io(&path))?;
            continue;
        }
        if whole < bytes.len() {
            tracing::warn!(path = %path.display(), bytes = bytes.len() - whole, "a torn frame is cut off");
            let file = fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .map_err(RecordError::io(&path))?;
            file.set_len(whole as u64).map_err(RecordError::io(&path))?;
        }
        if *number != next {
            let to = dir.join(format!("{next}.frames"));
            fs::rename(&path, &to).map_err(RecordError::io(&path))?;
        }
        next += 1;
    }
    Ok(next)
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
