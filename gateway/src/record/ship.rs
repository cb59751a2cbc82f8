//! A session's way to the store: seal, upload, confirm, in order, and again after a failure.

use super::session::{Progress, Session};
use super::spool::Shared;
use super::{RecordError, blocking, lock};
use countersign_infra::recordings::RecordingError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// How long the store may take for one object.
const UPLOAD_MAX: Duration = Duration::from_secs(30);
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// When a session's next attempt is due after a failure.
#[derive(Default)]
pub(super) struct Retry {
    failures: u32,
    not_before: Option<Instant>,
}

/// The next thing to do for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Seal,
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
    /// Chunks are made before they are sent, so that frames do not lie about uncompressed behind a slow store.
    fn step(&self) -> Option<Step> {
        if self.sealed.chunks < self.rotated {
            Some(Step::Seal)
        } else if self.confirmed < self.sealed.chunks {
            Some(Step::Upload(self.confirmed))
        } else if self.closed && self.released && !self.done {
            Some(Step::UploadManifest)
        } else {
            None
        }
    }
}

impl Session {
    /// Starts to ship what there is, unless that is going on already.
    pub fn ship(self: &Arc<Self>, shared: &Arc<Shared>) {
        let idle = self.progress().step().is_none() || self.is_broken() || shared.stop.is_cancelled();
        if idle || self.shipping.swap(true, Ordering::AcqRel) {
            return;
        }
        let (session, shared_) = (Arc::clone(self), Arc::clone(shared));
        shared.tasks.spawn(async move {
            let result = session.ship_all(&shared_).await;
            session.shipping.store(false, Ordering::Release);
            match result {
                // What came up between the last look and the flag.
                Ok(()) => session.ship(&shared_),
                Err(Failure::Store(message)) => {
                    shared_.store_failed(&message);
                    session.ship_later();
                }
                Err(Failure::Local(error)) => {
                    session.stuck(Some(error));
                    session.ship_later();
                }
                Err(Failure::Never(message)) => session.break_off(&message),
                Err(Failure::Stopped) => {}
            }
        });
    }

    /// Ships what there is once the time has come after a failure.
    pub fn ship_again(self: &Arc<Self>, shared: &Arc<Shared>, now: Instant) {
        if lock(&self.retry).not_before.is_none_or(|moment| now >= moment) {
            self.ship(shared);
        }
    }

    fn ship_later(&self) {
        let mut retry = lock(&self.retry);
        let wait = (RETRY_MIN * 2u32.saturating_pow(retry.failures.min(8))).min(RETRY_MAX);
        retry.failures = retry.failures.saturating_add(1);
        retry.not_before = Some(Instant::now() + wait);
    }

    async fn ship_all(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<(), Failure> {
        while let Some(step) = self.progress().step() {
            if shared.stop.is_cancelled() {
                return Err(Failure::Stopped);
            }
            match step {
                Step::Seal => self.seal(shared).await?,
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
        self.stuck(None);
        Ok(())
    }

    async fn upload(self: &Arc<Self>, shared: &Arc<Shared>, number: u64) -> Result<(), Failure> {
        let _permit = shared.uploads.acquire().await;
        let bytes = read(&self.chunk_path(number)).await?;
        send(shared, shared.store.put_chunk(self.id, number, bytes)).await?;
        *lock(&self.retry) = Retry::default();
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
