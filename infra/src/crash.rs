//! Stores that end their process at a named write, as a power cut would: what a restart must cope with.

use crate::approvals::{ApprovalQuery, ApprovalStore, StoreError, StoreTime, Tell};
use crate::domain::Timestamp;
use crate::domain::approval::Approval;
use crate::domain::audit::Event;
use crate::domain::id::{ApprovalId, Digest, SessionId};
use crate::journal::{Journal, JournalError, JournalQuery, Page, Retention};
use crate::operations::{OperationError, OperationStore, WholeOperation};
use crate::recordings::{Link, RecordingError, RecordingObject, RecordingStore};
use async_trait::async_trait;
use bytes::Bytes;
use chrono::NaiveDate;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// On which side of a write the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Before,
    After,
}

/// A place where the process ends: `before create`, `after replace executing`, `before append asked`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    side: Side,
    /// The write: `create`, `replace STATE`, `append EVENT`, `keep`, `put_chunk`, `put_manifest`.
    write: String,
}

/// The text names no such place.
#[derive(Debug, thiserror::Error)]
#[error("a place to crash at is `before` or `after` and the name of a write")]
pub struct NoSuchPoint;

impl FromStr for CrashPoint {
    type Err = NoSuchPoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (side, write) = text.split_once(' ').ok_or(NoSuchPoint)?;
        let side = match side {
            "before" => Side::Before,
            "after" => Side::After,
            _ => return Err(NoSuchPoint),
        };
        let write = write.to_owned();
        Ok(Self { side, write })
    }
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Before => "before",
            Side::After => "after",
        };
        write!(f, "{side} {}", self.write)
    }
}

impl CrashPoint {
    async fn around<T>(&self, writes: &[String], call: impl Future<Output = T>) -> T {
        let is_here = writes.contains(&self.write);
        if is_here && self.side == Side::Before {
            die();
        }
        let done = call.await;
        if is_here {
            die();
        }
        done
    }
}

/// Ends this process at once: nothing is flushed, no destructor runs, no other thread goes on meanwhile.
fn die() -> ! {
    std::process::abort();
}

/// A store that ends its process.
pub struct Crashing<S: ?Sized> {
    store: Arc<S>,
    point: CrashPoint,
}

impl<S: ?Sized> Crashing<S> {
    pub fn new(store: Arc<S>, point: &CrashPoint) -> Self {
        let point = point.clone();
        Self { store, point }
    }
}

#[async_trait]
impl<S: ApprovalStore + ?Sized> ApprovalStore for Crashing<S> {
    async fn create(&self, approval: &Approval, events: &[Event]) -> Result<(), StoreError> {
        let writes = ["create".to_owned()];
        self.point.around(&writes, self.store.create(approval, events)).await
    }

    async fn read(&self, id: &ApprovalId) -> Result<Approval, StoreError> {
        self.store.read(id).await
    }

    async fn replace(&self, next: &Approval, events: &[Event], tell: Tell) -> Result<(), StoreError> {
        let writes = [format!("replace {}", next.state.as_str())];
        self.point.around(&writes, self.store.replace(next, events, tell)).await
    }

    async fn list(&self, query: &ApprovalQuery) -> Result<Vec<Approval>, StoreError> {
        self.store.list(query).await
    }

    async fn overdue(&self, now: Timestamp) -> Result<Vec<Approval>, StoreError> {
        self.store.overdue(now).await
    }

    async fn take_feed(&self, gateway: &str) -> Result<Vec<ApprovalId>, StoreError> {
        self.store.take_feed(gateway).await
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        self.store.now().await
    }
}

#[async_trait]
impl<S: Journal + ?Sized> Journal for Crashing<S> {
    async fn append(&self, events: &[Event]) -> Result<(), JournalError> {
        let writes: Vec<String> = events
            .iter()
            .map(|event| format!("append {}", event.what.name()))
            .collect();
        self.point.around(&writes, self.store.append(events)).await
    }

    fn retention(&self) -> Option<Retention> {
        self.store.retention()
    }

    async fn session(&self, id: SessionId) -> Result<Vec<Event>, JournalError> {
        self.store.session(id).await
    }

    async fn after(&self, id: SessionId, seq: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        self.store.after(id, seq, limit).await
    }

    async fn first(&self, id: SessionId) -> Result<Option<Event>, JournalError> {
        self.store.first(id).await
    }

    async fn last(&self, id: SessionId) -> Result<Option<Event>, JournalError> {
        self.store.last(id).await
    }

    async fn search(&self, query: &JournalQuery) -> Result<Page, JournalError> {
        self.store.search(query).await
    }

    async fn probe(&self) -> Result<(), JournalError> {
        Journal::probe(self.store.as_ref()).await
    }
}

#[async_trait]
impl<S: OperationStore + ?Sized> OperationStore for Crashing<S> {
    async fn keep(&self, digest: Digest, operation: &WholeOperation) -> Result<(), OperationError> {
        let writes = ["keep".to_owned()];
        self.point.around(&writes, self.store.keep(digest, operation)).await
    }

    async fn read(&self, digest: Digest) -> Result<WholeOperation, OperationError> {
        self.store.read(digest).await
    }
}

#[async_trait]
impl<S: RecordingStore + ?Sized> RecordingStore for Crashing<S> {
    async fn put_chunk(&self, session: SessionId, number: u64, bytes: Bytes) -> Result<(), RecordingError> {
        let writes = ["put_chunk".to_owned()];
        self.point
            .around(&writes, self.store.put_chunk(session, number, bytes))
            .await
    }

    async fn put_manifest(&self, session: SessionId, bytes: Bytes) -> Result<(), RecordingError> {
        let writes = ["put_manifest".to_owned()];
        self.point
            .around(&writes, self.store.put_manifest(session, bytes))
            .await
    }

    async fn chunks(&self, session: SessionId) -> Result<u64, RecordingError> {
        self.store.chunks(session).await
    }

    async fn read_chunk(&self, session: SessionId, number: u64) -> Result<Bytes, RecordingError> {
        self.store.read_chunk(session, number).await
    }

    async fn read_manifest(&self, session: SessionId) -> Result<Option<Bytes>, RecordingError> {
        self.store.read_manifest(session).await
    }

    async fn sessions(&self, day: NaiveDate, after: Option<SessionId>) -> Result<Vec<SessionId>, RecordingError> {
        self.store.sessions(day, after).await
    }

    async fn put_digest(&self, day: NaiveDate, name: &str, bytes: Bytes) -> Result<(), RecordingError> {
        self.store.put_digest(day, name, bytes).await
    }

    async fn digests(&self, day: NaiveDate) -> Result<Vec<String>, RecordingError> {
        self.store.digests(day).await
    }

    async fn read_digest(&self, day: NaiveDate, name: &str) -> Result<Bytes, RecordingError> {
        self.store.read_digest(day, name).await
    }

    async fn link(
        &self,
        session: SessionId,
        object: RecordingObject,
        valid: Duration,
    ) -> Result<Option<Link>, RecordingError> {
        self.store.link(session, object, valid).await
    }

    async fn probe(&self) -> Result<(), RecordingError> {
        self.store.probe().await
    }
}
