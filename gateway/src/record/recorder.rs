//! What a session's loop holds: records its bytes.

use super::session::{Progress, Session, WriteError};
use super::spool::Shared;
use super::{ANCHOR_INTERVAL, Anchor, Direction, RecordError, blocking, lock};
use countersign_infra::domain::session::SessionHeader;
use countersign_infra::recordings::format::{FRAME_BYTES_MAX, Kind};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::time::timeout_at;

/// Closed files of frames that may wait to be compressed before the session waits.
const UNSEALED_MAX: u64 = 2;
/// Most bytes of a session's header as JSON.
const HEADER_BYTES_MAX: usize = 512 << 10;

/// Records one session. Dropped without `finish`, its recording stays in the spool for
/// [`Spool::recover`](super::Spool::recover).
pub struct Recorder {
    session: Arc<Session>,
    shared: Arc<Shared>,
    /// A call was dropped while it had recorded only a part.
    is_torn: bool,
    is_finished: bool,
    anchored: Mutex<Anchored>,
}

struct Anchored {
    at: Instant,
    anchor: Anchor,
}

impl Recorder {
    pub(super) fn begin(
        session: Arc<Session>,
        shared: Arc<Shared>,
        header: &SessionHeader,
    ) -> Result<Self, RecordError> {
        let recorder = Self {
            session,
            shared,
            is_torn: false,
            is_finished: false,
            anchored: Mutex::new(Anchored {
                at: Instant::now(),
                anchor: Anchor::START,
            }),
        };
        let json = serde_json::to_vec(header).map_err(|error| recorder.broken(&error.to_string()))?;
        // Half the buffer: it is empty still, and the header goes in whole.
        let mut pieces = json.chunks(FRAME_BYTES_MAX / 2).peekable();
        let mut fits = json.len() <= HEADER_BYTES_MAX;
        while let Some(piece) = pieces.next().filter(|_| fits) {
            fits = recorder
                .session
                .append(Kind::Header, &[piece], pieces.peek().is_some())
                .is_some();
        }
        if fits {
            Ok(recorder)
        } else {
            Err(recorder.broken("its header is too long: the person is in too many groups"))
        }
    }

    /// Records bytes, all `parts` together. They are copied once; most calls do not wait. When the buffer is full it is
    /// written out, which waits at most `wait_max` for room in the spool.
    ///
    /// An error means that the session must end. Not cancel safe for more than 64 KiB at once: a call that is dropped
    /// midway leaves a part recorded, and every later call is an error.
    pub async fn record(&mut self, direction: Direction, parts: &[&[u8]]) -> Result<(), RecordError> {
        self.append(Kind::Wire(direction), parts).await
    }

    /// Records a remark of the gateway, which `replay` shows between the messages.
    pub async fn note(&mut self, text: &str) -> Result<(), RecordError> {
        self.append(Kind::Event, &[text.as_bytes()]).await
    }

    /// The chunks so far; each is in the spool or in the store.
    pub fn anchor(&self) -> Anchor {
        self.session.progress().sealed
    }

    /// The anchor to write to the journal now: at most one every 5 s, and only if there are new chunks.
    pub fn anchor_due(&self, now: Instant) -> Option<Anchor> {
        let anchor = self.anchor();
        let mut anchored = lock(&self.anchored);
        if anchor == anchored.anchor || now.saturating_duration_since(anchored.at) < ANCHOR_INTERVAL {
            return None;
        }
        *anchored = Anchored { at: now, anchor };
        Some(anchor)
    }

    /// Waits until all that was recorded so far is in a file of the spool, so that it survives the end of this process
    /// (`kill -9`). Waits at most `wait_max` for room. Cancel safe.
    pub async fn durable(&mut self) -> Result<(), RecordError> {
        self.check()?;
        self.shared.check_store()?;
        if self.session.has_buffered() {
            self.write_out(false, self.deadline()).await?;
        }
        Ok(())
    }

    /// Ends the recording with a signed manifest.
    ///
    /// Returns when the store has confirmed all of it; after `wait_max` already when all of it is in the spool, from
    /// where it is sent as soon as the store takes it. The anchor is final either way.
    pub async fn finish(self, why: &str) -> Result<Anchor, RecordError> {
        let finished = self.close(why).await?;
        let anchor = finished.anchor();
        finished.send().await;
        Ok(anchor)
    }

    /// Puts the signed manifest into the spool. It stays there until [`Finished::send`], so that the journal can be told
    /// of the end first: killed in between, [`Spool::recover`](super::Spool::recover) returns the session once more.
    /// Waits at most `wait_max`.
    pub async fn close(self, why: &str) -> Result<Finished, RecordError> {
        self.check()?;
        let deadline = self.deadline();
        self.write_out(true, deadline).await?;
        self.wait_for(deadline, |progress| progress.sealed.chunks == progress.rotated)
            .await?;
        let (session, shared, why) = (Arc::clone(&self.session), Arc::clone(&self.shared), why.to_owned());
        let anchor = blocking(&self.session.dir, move || session.close(&shared, false, &why)).await?;
        Ok(Finished { recorder: self, anchor })
    }

    async fn append(&mut self, kind: Kind, parts: &[&[u8]]) -> Result<(), RecordError> {
        self.check()?;
        match self.session.append(kind, parts, false) {
            Some(false) => Ok(()),
            Some(true) => {
                self.shared.check_store()?;
                self.write_out(false, self.deadline()).await
            }
            None => self.append_pieces(kind, parts).await,
        }
    }

    /// What is longer than a frame goes in pieces; what did not fit into the buffer goes after it was written out.
    async fn append_pieces(&mut self, kind: Kind, parts: &[&[u8]]) -> Result<(), RecordError> {
        self.shared.check_store()?;
        self.is_torn = true;
        self.write_out(false, self.deadline()).await?;
        if self.session.append(kind, parts, false).is_none() {
            let pieces: Vec<&[u8]> = parts.iter().flat_map(|part| part.chunks(FRAME_BYTES_MAX)).collect();
            for (at, piece) in pieces.iter().enumerate() {
                let more = at + 1 < pieces.len();
                if self.session.append(kind, &[piece], more).is_none() {
                    self.write_out(false, self.deadline()).await?;
                    let fits = self.session.append(kind, &[piece], more).is_some();
                    fits.then_some(()).ok_or_else(|| self.broken("its buffer stays full"))?;
                }
            }
        }
        self.is_torn = false;
        Ok(())
    }

    fn deadline(&self) -> tokio::time::Instant {
        tokio::time::Instant::now() + self.shared.wait_max
    }

    async fn write_out(&self, rotate: bool, deadline: tokio::time::Instant) -> Result<(), RecordError> {
        self.wait_for(deadline, |progress| {
            progress.rotated <= progress.sealed.chunks + UNSEALED_MAX
        })
        .await?;
        loop {
            // Listens before it looks, so that room made in between is not missed.
            let mut room = std::pin::pin!(self.shared.room.space.notified());
            room.as_mut().enable();
            let result = self.try_write_out(rotate).await;
            self.session.ship_again(&self.shared, tokio::time::Instant::now());
            match result {
                Ok(()) => return Ok(()),
                Err(WriteError::Failed(error)) => return Err(error),
                Err(WriteError::Full) => timeout_at(deadline, room).await.map_err(|_| self.full())?,
            }
        }
    }

    async fn try_write_out(&self, rotate: bool) -> Result<(), WriteError> {
        let _permit = self.shared.writers.acquire().await;
        let (session, shared) = (Arc::clone(&self.session), Arc::clone(&self.shared));
        match tokio::task::spawn_blocking(move || session.write_out(&shared, rotate)).await {
            Ok(result) => result,
            Err(error) => {
                let error = io::Error::other(error);
                Err(WriteError::Failed(RecordError::io(&self.session.dir)(error)))
            }
        }
    }

    async fn wait_for(
        &self,
        deadline: tokio::time::Instant,
        reached: impl FnMut(&Progress) -> bool,
    ) -> Result<(), RecordError> {
        let mut progress = self.session.progress.subscribe();
        match timeout_at(deadline, progress.wait_for(reached)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                self.session.check()?;
                self.session.check_stuck()?;
                self.shared.check_store()?;
                Err(self.full())
            }
        }
    }

    fn check(&self) -> Result<(), RecordError> {
        if self.is_torn {
            return Err(self.broken("a call was dropped when it had recorded only a part"));
        }
        self.session.check()
    }

    #[cfg(test)]
    pub(super) fn buffer_capacity(&self) -> usize {
        self.session.buffer_capacity()
    }

    fn full(&self) -> RecordError {
        RecordError::SpoolFull {
            bytes_max: self.shared.room.bytes_max,
            waited_seconds: self.shared.wait_max.as_secs(),
        }
    }

    fn broken(&self, message: &str) -> RecordError {
        RecordError::Broken {
            session: self.session.id,
            message: message.to_owned(),
        }
    }
}

/// A recording whose manifest is in the spool. Dropped, it is left there for
/// [`Spool::recover`](super::Spool::recover).
pub struct Finished {
    recorder: Recorder,
    anchor: Anchor,
}

impl Finished {
    /// What the recording ended with.
    pub fn anchor(&self) -> Anchor {
        self.anchor
    }

    /// Lets the manifest go to the store, and waits at most `wait_max` until all of the recording is there; it is sent
    /// as soon as the store takes it in any case. Cancel safe.
    pub async fn send(mut self) {
        let recorder = &mut self.recorder;
        recorder.is_finished = true;
        recorder.session.release();
        recorder.session.ship(&recorder.shared);
        let done = recorder.wait_for(recorder.deadline(), |progress| progress.done);
        if done.await.is_err() {
            tracing::warn!(session = %recorder.session.id, "the end of a recording waits in the spool for the store");
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.is_finished {
            self.session.left.store(true, Ordering::Release);
        }
    }
}
