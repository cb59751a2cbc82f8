use super::session::Finding;
use super::sweep::Swept;
use super::*;
use crate::cli::recording::Source;
use crate::digests::{Digests, Means};
use crate::record::{Anchor, Direction, Spool};
use crate::sessions::SessionRegistry;
use async_trait::async_trait;
use chrono::TimeDelta;
use countersign_infra::domain::audit::{Chain, Event, Happening};
use countersign_infra::domain::session::{SessionHeader, SessionNumber};
use countersign_infra::domain::{Timestamp, example};
use countersign_infra::embedded::EmbeddedStore;
use countersign_infra::journal::{Journal, JournalError, JournalQuery, Page, Retention};
use countersign_infra::operations::OperationStore;
use countersign_infra::operations::disk::DiskOperations;
use countersign_infra::operations::keys::FileKeys;
use countersign_infra::recordings::digest::RunDigest;
use countersign_infra::recordings::disk::DiskRecordings;
use countersign_infra::recordings::key::{Keyring, SigningKey};
use countersign_infra::stores::Stores;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

mod digests;
mod one;

/// A gateway's data, and the gateway's parts that write it.
struct Data {
    dir: tempfile::TempDir,
    key: Arc<SigningKey>,
    spool: Spool,
    journal: EmbeddedStore,
    /// For how many days the journal says that it keeps events.
    kept_days: Option<i64>,
    recordings: Arc<DiskRecordings>,
    sessions: SessionRegistry,
    digests: Digests,
}

/// Where whole operations would be: nothing of them is verified.
fn operations(dir: &Path) -> Arc<dyn OperationStore> {
    let keys = FileKeys::load_or_create(&dir.join("keys/operations.key")).unwrap();
    Arc::new(DiskOperations::under(dir, Arc::new(keys)))
}

impl Data {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = Arc::new(SigningKey::load_or_create(&dir.path().join("keys")).unwrap());
        let recordings = Arc::new(DiskRecordings::under(dir.path()));
        let (spool_dir, wait) = (dir.path().join("spool"), Duration::from_secs(20));
        let spool = Spool::open(&spool_dir, 1 << 30, recordings.clone(), key.clone(), wait).unwrap();
        let journal = EmbeddedStore::open(dir.path().join("countersign.db")).unwrap();
        let sessions = SessionRegistry::default();
        let means = Means {
            gateway: "g1".to_owned(),
            key: key.clone(),
            recordings: recordings.clone(),
            journal: Arc::new(journal.clone()),
            directory: dir.path().join("runs"),
        };
        let digests = Digests::begin(means, sessions.clone()).await.unwrap();
        Self {
            dir,
            key,
            spool,
            journal,
            kept_days: None,
            recordings,
            sessions,
            digests,
        }
    }

    /// A session that was recorded in so many chunks and is over.
    async fn recorded(&self, chunks: u64) -> SessionId {
        self.recorded_until(chunks, Journaled::Closed).await
    }

    async fn recorded_until(&self, chunks: u64, journaled: Journaled) -> SessionId {
        self.recorded_at(Utc::now(), chunks, journaled).await
    }

    async fn recorded_at(&self, opened: Timestamp, chunks: u64, journaled: Journaled) -> SessionId {
        let header = header(opened, |id| self.sessions.number(id));
        let guard = self.sessions.register(&header, CancellationToken::new());
        let mut recorder = self.spool.open_session(&header).unwrap();
        let noise: Vec<u8> = (0..(chunks - 1) * (1 << 20) + 1000)
            .map(|place| ((place * 2_654_435_761) >> 13) as u8)
            .collect();
        recorder.record(Direction::ClientToGateway, &[&noise]).await.unwrap();
        let anchor = recorder.finish("the client left").await.unwrap();
        assert_eq!(anchor.chunks, chunks);
        guard.closed(anchor);
        self.journal(&header, anchor, journaled).await;
        header.id
    }

    async fn journal(&self, header: &SessionHeader, anchor: Anchor, journaled: Journaled) {
        let mut chain = Chain::new(header.id, "g1", Some(&header.person), Some("orders".to_owned()));
        let Anchor { chunks, last } = anchor;
        let (now, header) = (header.opened, header.clone());
        let mut events = vec![
            chain.next(now, Happening::SessionOpened { header }),
            chain.next(now, Happening::RecordingAnchor { chunks, last }),
        ];
        if let Journaled::Closed = journaled {
            let why = "the client left".to_owned();
            events.push(chain.next(now, Happening::SessionClosed { why, chunks, last }));
        }
        self.journal.append(&events).await.unwrap();
    }

    fn source(&self, own: Option<Keyring>) -> Source {
        let stores = Stores {
            approvals: Arc::new(self.journal.clone()),
            journal: match self.kept_days {
                None => Arc::new(self.journal.clone()),
                Some(days) => Arc::new(Keeping(self.journal.clone(), days)),
            },
            recordings: self.recordings.clone(),
            operations: operations(self.dir.path()),
            chat_links: Arc::new(self.journal.clone()),
            directory: Arc::new(self.journal.clone()),
            tickets: Arc::new(self.journal.clone()),
            announcements: Arc::new(self.journal.clone()),
            grants: Arc::new(self.journal.clone()),
        };
        Source::stores(stores, &self.dir.path().join("keys"), own)
    }

    async fn examine(&self, session: SessionId) -> Finding {
        self.examine_with(session, None).await
    }

    async fn examine_with(&self, session: SessionId, own: Option<Keyring>) -> Finding {
        examine(&self.source(own), session, &Said::default()).await.unwrap()
    }

    async fn sweep(&self) -> Swept {
        self.sweep_at(Utc::now(), false).await
    }

    async fn sweep_at(&self, now: chrono::DateTime<Utc>, is_quick: bool) -> Swept {
        let span = Span { since: None, now };
        let source = self.source(None);
        Sweep::new(&source, span, None, is_quick).run().await.unwrap()
    }

    fn recording(&self, session: SessionId) -> PathBuf {
        self.recordings.directory(session)
    }

    /// The files of the digests, in order.
    fn digest_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut open = vec![self.dir.path().join("digests")];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { &mut open } else { &mut files }.push(path);
            }
        }
        files.sort_by_key(|path| read(path, &self.key).number);
        files
    }
}

/// A journal that says that it keeps events for so many days.
struct Keeping(EmbeddedStore, i64);

#[async_trait]
impl Journal for Keeping {
    async fn append(&self, events: &[Event]) -> Result<(), JournalError> {
        self.0.append(events).await
    }

    fn retention(&self) -> Option<Retention> {
        Some(Retention::new(TimeDelta::days(self.1)))
    }

    async fn session(&self, id: SessionId) -> Result<Vec<Event>, JournalError> {
        self.0.session(id).await
    }

    async fn after(&self, session: SessionId, seq: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        self.0.after(session, seq, limit).await
    }

    async fn first(&self, session: SessionId) -> Result<Option<Event>, JournalError> {
        self.0.first(session).await
    }

    async fn last(&self, session: SessionId) -> Result<Option<Event>, JournalError> {
        self.0.last(session).await
    }

    async fn search(&self, query: &JournalQuery) -> Result<Page, JournalError> {
        self.0.search(query).await
    }

    async fn probe(&self) -> Result<(), JournalError> {
        Journal::probe(&self.0).await
    }
}

/// How far the journal of a session goes.
#[derive(Clone, Copy)]
enum Journaled {
    Opened,
    Closed,
}

fn read(path: &Path, key: &SigningKey) -> RunDigest {
    RunDigest::read(&std::fs::read(path).unwrap(), key.public()).unwrap()
}

fn header(opened: Timestamp, number: impl FnOnce(SessionId) -> SessionNumber) -> SessionHeader {
    let (seconds, nanos) = (opened.timestamp().unsigned_abs(), opened.timestamp_subsec_nanos());
    let made = uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos);
    let id = SessionId(uuid::Uuid::new_v7(made));
    SessionHeader {
        gateway: "g1".to_owned(),
        number: number(id),
        opened,
        ..example::header(id, example::alice())
    }
}
