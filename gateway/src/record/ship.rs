//! A session's way to the store: chunks are made, sent and confirmed, in order, and again after a failure.

use super::session::{Progress, Session};
use super::spool::Shared;
use super::{RecordError, blocking, lock};
use countersign_infra::backoff::Backoff;
use countersign_infra::recordings::RecordingError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// How long the store may take for one object.
const UPLOAD_MAX: Duration = Duration::from_secs(30);
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));

/// One of the two things that are done for a session at the same time: chunks go on being made while the store takes its
/// time, so that the spool and not a slow store sets a session's pace.
#[derive(Default)]
pub(super) struct Work {
    is_going_on: AtomicBool,
    retry: Mutex<Retry>,
}

/// When the next attempt is due after a failure.
struct Retry {
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            backoff: BACKOFF,
            not_before: None,
        }
    }
}

impl Work {
    /// False when it is going on already.
    fn begin(&self) -> bool {
        !self.is_going_on.swap(true, Ordering::AcqRel)
    }

    fn end(&self) {
        self.is_going_on.store(false, Ordering::Release);
    }

    fn succeeded(&self) {
        *lock(&self.retry) = Retry::default();
    }

    fn failed(&self) {
        let mut retry = lock(&self.retry);
        let pause = retry.backoff.pause();
        retry.not_before = Some(Instant::now() + pause);
    }

    fn is_due(&self, now: Instant) -> bool {
        lock(&self.retry).not_before.is_none_or(|moment| now >= moment)
    }
}

/// The next thing to send for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Upload(u64),
    UploadManifest,
}

/// Why a step was not done.
enum Failure {
    /// The store may take it later.
    Store(String),
    /// This machine's own disk may later.
    Local(RecordError),
    /// It never will.
    Never(String),
    /// The spool stops.
    Stopped,
}

impl Progress {
    fn has_to_seal(self) -> bool {
        self.sealed.chunks < self.rotated
    }

    fn next_to_send(self) -> Option<Step> {
        if self.confirmed < self.sealed.chunks {
            Some(Step::Upload(self.confirmed))
        } else if self.closed && self.released && !self.done {
            Some(Step::UploadManifest)
        } else {
            None
        }
    }
}

impl Session {
    /// Starts to make and to send what there is, unless that is going on already.
    pub fn ship(self: &Arc<Self>, shared: &Arc<Shared>) {
        self.start_sealing(shared);
        self.start_sending(shared);
    }

    /// As `ship`, once the time has come after a failure.
    pub fn ship_again(self: &Arc<Self>, shared: &Arc<Shared>, now: Instant) {
        if self.sealing.is_due(now) {
            self.start_sealing(shared);
        }
        if self.sending.is_due(now) {
            self.start_sending(shared);
        }
    }

    fn start_sealing(self: &Arc<Self>, shared: &Arc<Shared>) {
        let idle = !self.progress().has_to_seal() || self.is_broken() || shared.stop.is_cancelled();
        if idle || !self.sealing.begin() {
            return;
        }
        let (session, shared) = (Arc::clone(self), Arc::clone(shared));
        shared.tasks.clone().spawn(async move {
            let result = session.seal_all(&shared).await;
            session.sealing.end();
            match result {
                // What came up between the last look and the flag.
                Ok(()) => session.start_sealing(&shared),
                Err(failure) => session.failed(&shared, &session.sealing, failure),
            }
        });
    }

    fn start_sending(self: &Arc<Self>, shared: &Arc<Shared>) {
        let idle = self.progress().next_to_send().is_none() || self.is_broken() || shared.stop.is_cancelled();
        if idle || !self.sending.begin() {
            return;
        }
        let (session, shared) = (Arc::clone(self), Arc::clone(shared));
        shared.tasks.clone().spawn(async move {
            let result = session.send_all(&shared).await;
            session.sending.end();
            match result {
                Ok(()) => session.start_sending(&shared),
                Err(failure) => session.failed(&shared, &session.sending, failure),
            }
        });
    }

    fn failed(&self, shared: &Shared, work: &Work, failure: Failure) {
        match failure {
            Failure::Store(message) => shared.store_failed(&message),
            Failure::Local(error) => self.stuck(Some(error)),
            Failure::Never(message) => return self.break_off(&message),
            Failure::Stopped => return,
        }
        work.failed();
    }

    async fn seal_all(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<(), Failure> {
        while self.progress().has_to_seal() {
            if shared.stop.is_cancelled() {
                return Err(Failure::Stopped);
            }
            self.seal(shared).await?;
            self.start_sending(shared);
        }
        Ok(())
    }

    async fn send_all(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<(), Failure> {
        while let Some(step) = self.progress().next_to_send() {
            if shared.stop.is_cancelled() {
                return Err(Failure::Stopped);
            }
            match step {
                Step::Upload(number) => self.upload(shared, number).await?,
                Step::UploadManifest => self.upload_manifest(shared).await?,
            }
        }
        Ok(())
    }

    async fn seal(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<(), Failure> {
        let _permit = shared.sealers.acquire().await;
        self.off_thread(shared, |session, shared| session.seal_next(shared))
            .await?;
        self.sealing.succeeded();
        self.stuck(None);
        Ok(())
    }

    async fn upload(self: &Arc<Self>, shared: &Arc<Shared>, number: u64) -> Result<(), Failure> {
        let _permit = shared.uploads.acquire().await;
        let bytes = read(&self.chunk_path(number)).await?;
        send(shared, shared.store.put_chunk(self.id, number, bytes)).await?;
        self.sending.succeeded();
        self.off_thread(shared, move |session, shared| session.drop_chunk(shared, number))
            .await
    }

    async fn upload_manifest(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<(), Failure> {
        let _permit = shared.uploads.acquire().await;
        let bytes = read(&self.manifest_path()).await?;
        send(shared, shared.store.put_manifest(self.id, bytes)).await?;
        self.off_thread(shared, |session, shared| session.remove(shared)).await
    }

    async fn off_thread(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        work: impl FnOnce(&Session, &Shared) -> Result<(), RecordError> + Send + 'static,
    ) -> Result<(), Failure> {
        let (session, shared) = (Arc::clone(self), Arc::clone(shared));
        let done = blocking(&self.dir, move || work(&session, &shared)).await;
        done.map_err(Failure::Local)
    }
}

async fn read(path: &std::path::Path) -> Result<bytes::Bytes, Failure> {
    match tokio::fs::read(path).await {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(Failure::Local(RecordError::io(path)(error))),
    }
}

/// Sends one object. Dropped midway it may have been stored: it is sent again with the same bytes.
async fn send(shared: &Shared, call: impl Future<Output = Result<(), RecordingError>>) -> Result<(), Failure> {
    shared.store_asked();
    let bounded = tokio::time::timeout(UPLOAD_MAX, call);
    let Some(result) = shared.stop.run_until_cancelled(bounded).await else {
        return Err(Failure::Stopped);
    };
    match result {
        Ok(Ok(())) => {
            shared.store_answered();
            Ok(())
        }
        Ok(Err(error @ RecordingError::Unavailable { .. })) => Err(Failure::Store(error.to_string())),
        Ok(Err(
            error @ (RecordingError::Exists(_)
            | RecordingError::Invalid(_)
            | RecordingError::NotFound(_)
            | RecordingError::NoDigest(_)),
        )) => {
            shared.store_answered();
            Err(Failure::Never(error.to_string()))
        }
        Err(_) => Err(Failure::Store(format!("no answer within {} s", UPLOAD_MAX.as_secs()))),
    }
}
