use super::*;
use crate::record::Direction;
use async_trait::async_trait;
use countersign_infra::domain::approval::{Change, Choice, Outcome};
use countersign_infra::domain::audit::Chain;
use countersign_infra::domain::example;
use countersign_infra::domain::session::{SessionHeader, SessionNumber};
use countersign_infra::embedded::EmbeddedStore;
use countersign_infra::journal::{JournalQuery, Page, Retention};
use countersign_infra::recordings::RecordingStore;
use countersign_infra::recordings::chain::Anchor;
use countersign_infra::recordings::disk::DiskRecordings;
use countersign_infra::recordings::flaky::{Flaky, Mood};
use countersign_infra::recordings::key::{Keyring, SigningKey};
use countersign_infra::recordings::proof::{Report, Verifier, Witness};
use std::sync::atomic::{AtomicBool, Ordering};

/// What all gateways share: the stores, and the disk of their spools.
struct House {
    dir: tempfile::TempDir,
    recordings: Arc<Flaky<DiskRecordings>>,
    journal: Arc<dyn Journal>,
    switch: Arc<Switch>,
    keys: std::sync::Mutex<Keyring>,
}

/// A journal that can be switched off.
struct Switch {
    journal: EmbeddedStore,
    off: AtomicBool,
}

impl Switch {
    fn check(&self) -> Result<(), JournalError> {
        if self.off.load(Ordering::SeqCst) {
            let source = "switched off".into();
            return Err(JournalError::Unavailable { source });
        }
        Ok(())
    }
}

#[async_trait]
impl Journal for Switch {
    async fn append(&self, events: &[Event]) -> Result<(), JournalError> {
        self.check()?;
        self.journal.append(events).await
    }

    fn retention(&self) -> Option<Retention> {
        self.journal.retention()
    }

    async fn session(&self, id: SessionId) -> Result<Vec<Event>, JournalError> {
        self.check()?;
        self.journal.session(id).await
    }

    async fn after(&self, id: SessionId, seq: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        self.check()?;
        self.journal.after(id, seq, limit).await
    }

    async fn first(&self, id: SessionId) -> Result<Option<Event>, JournalError> {
        self.check()?;
        self.journal.first(id).await
    }

    async fn last(&self, id: SessionId) -> Result<Option<Event>, JournalError> {
        self.check()?;
        self.journal.last(id).await
    }

    async fn probe(&self) -> Result<(), JournalError> {
        self.check()
    }

    async fn search(&self, query: &JournalQuery) -> Result<Page, JournalError> {
        self.check()?;
        self.journal.search(query).await
    }
}

struct Gateway {
    spool: Spool,
    sessions: SessionRegistry,
}

fn house() -> House {
    let dir = tempfile::tempdir().unwrap();
    let switch = Arc::new(Switch {
        journal: EmbeddedStore::open(dir.path().join("countersign.db")).unwrap(),
        off: AtomicBool::new(false),
    });
    House {
        recordings: Arc::new(Flaky::new(DiskRecordings::under(dir.path()))),
        journal: switch.clone(),
        switch,
        keys: std::sync::Mutex::new(Keyring::new([])),
        dir,
    }
}

impl House {
    fn trail(&self) -> Trail {
        Trail {
            journal: self.journal.clone(),
            approvals: Arc::new(self.switch.journal.clone()),
        }
    }

    fn gateway(&self) -> Gateway {
        let key = Arc::new(SigningKey::generate().unwrap());
        self.keys.lock().unwrap().add(key.public().clone());
        let store = Arc::clone(&self.recordings) as Arc<dyn RecordingStore>;
        let wait_max = Duration::from_secs(20);
        let spool = Spool::open_beside(&self.dir.path().join("spools"), 1 << 30, store, key, wait_max).unwrap();
        let sessions = SessionRegistry::default();
        Gateway { spool, sessions }
    }

    /// A session that is on record and then loses its gateway, or its recorder only.
    async fn leave(&self, gateway: &Gateway) -> SessionHeader {
        let header = header(&gateway.sessions);
        let mut chain = Chain::new(header.id, "g1", Some(&header.person), None);
        let opened = Happening::SessionOpened { header: header.clone() };
        let opened = chain.next(chrono::Utc::now(), opened);
        self.journal.append(&[opened]).await.unwrap();
        let mut recorder = gateway.spool.open_session(&header).unwrap();
        let bytes: &[&[u8]] = &[b"before the end"];
        recorder.record(Direction::ClientToGateway, bytes).await.unwrap();
        recorder.durable().await.unwrap();
        header
    }

    /// The ends of a session that the journal knows.
    async fn ends(&self, id: SessionId) -> Vec<Anchor> {
        let events = self.switch.journal.session(id).await.unwrap();
        let end = |event: Event| {
            let Happening::SessionClosed { chunks, last, .. } = event.what else {
                return None;
            };
            Some(Anchor { chunks, last })
        };
        events.into_iter().filter_map(end).collect()
    }

    /// Verifies a stored recording against the journal's one end of it.
    async fn verify(&self, id: SessionId) -> Report {
        let [closed] = <[Anchor; 1]>::try_from(self.ends(id).await).unwrap();
        let witness = Witness {
            closed: Some(closed),
            ..Witness::default()
        };
        let keys = self.keys.lock().unwrap().clone();
        let mut verifier = Verifier::new(id, &keys, witness).unwrap();
        for number in 0..self.recordings.chunks(id).await.unwrap() {
            let chunk = self.recordings.read_chunk(id, number).await.unwrap();
            verifier.chunk(&chunk).unwrap();
        }
        let manifest = self.recordings.read_manifest(id).await.unwrap();
        verifier.finish(manifest.as_deref()).unwrap()
    }

    fn spools(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("spools")).unwrap().count()
    }
}

impl Gateway {
    async fn look(&self, house: &House, adopted: &mut Vec<Spool>) {
        let settler = Settler {
            spool: &self.spool,
            stores: &house.trail(),
            sessions: &self.sessions,
        };
        settler.look(adopted).await;
    }
}

/// As far as one process can: its locks are free, and nothing of it is finished any more.
async fn kill(gateway: Gateway) {
    gateway.spool.stop().await;
}

fn header(sessions: &SessionRegistry) -> SessionHeader {
    let id = SessionId(uuid::Uuid::now_v7());
    SessionHeader {
        gateway: "g1".to_owned(),
        number: SessionNumber {
            run: sessions.run(),
            number: 0,
        },
        opened: chrono::Utc::now(),
        ..example::header(id, example::alice())
    }
}

#[tokio::test]
async fn the_session_of_a_dead_gateway_is_completed_and_journaled_by_a_neighbour_once() {
    let house = house();
    let (dead, one, other) = (house.gateway(), house.gateway(), house.gateway());
    let session = house.leave(&dead).await.id;
    kill(dead).await;
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        tokio::join!(one.look(&house, &mut ones), other.look(&house, &mut others));
    }
    assert!(ones.is_empty() && others.is_empty(), "nothing is left of it");
    assert!(house.verify(session).await.manifest.unwrap().interrupted);
    assert_eq!(house.spools(), 2, "those of the gateways that live");
}

#[tokio::test]
async fn a_session_that_the_journal_closed_already_is_not_closed_again() {
    let house = house();
    let (dead, other) = (house.gateway(), house.gateway());
    let header = house.leave(&dead).await;
    let ended = header.id;
    house.recordings.feel(Mood::Down);
    let recovered = dead.spool.recover_left(|_| true).await;
    for one in &recovered {
        journal_end(&house.trail(), one).await.unwrap();
    }
    // The gateway is killed after the journal knew, and before the store had the end.
    kill(dead).await;
    house.recordings.feel(Mood::Well);
    other.look(&house, &mut Vec::new()).await;
    house.verify(ended).await;
}

#[tokio::test]
async fn an_end_that_cannot_be_journaled_stays_in_the_spool_until_it_can() {
    let house = house();
    let (dead, other) = (house.gateway(), house.gateway());
    let session = house.leave(&dead).await.id;
    kill(dead).await;
    let mut adopted = Vec::new();
    house.switch.off.store(true, Ordering::SeqCst);
    other.look(&house, &mut adopted).await;
    assert_eq!(adopted.len(), 1);
    assert_eq!(house.recordings.read_manifest(session).await.unwrap(), None);
    house.switch.off.store(false, Ordering::SeqCst);
    other.look(&house, &mut adopted).await;
    assert!(adopted.is_empty());
    house.verify(session).await;
}

#[tokio::test]
async fn a_recording_that_could_not_be_read_when_its_spool_was_taken_over_is_tried_again() {
    let house = house();
    let dead = house.gateway();
    let session = house.leave(&dead).await.id;
    kill(dead).await;
    let spools = std::fs::read_dir(house.dir.path().join("spools")).unwrap();
    let dir = spools.map(|entry| entry.unwrap().path()).next().unwrap();
    let head = dir.join(session.to_string()).join("head");
    let aside = head.with_file_name("aside");
    std::fs::rename(&head, &aside).unwrap();
    std::fs::create_dir(&head).unwrap();
    let (other, mut adopted) = (house.gateway(), Vec::new());
    other.look(&house, &mut adopted).await;
    assert_eq!(adopted.len(), 1);
    std::fs::remove_dir(&head).unwrap();
    std::fs::rename(&aside, &head).unwrap();
    other.look(&house, &mut adopted).await;
    assert!(adopted.is_empty());
    house.verify(session).await;
}

#[tokio::test]
async fn what_a_session_of_this_gateway_left_is_closed_once_the_session_is_over() {
    let house = house();
    let gateway = house.gateway();
    let header = house.leave(&gateway).await;
    let guard = gateway.sessions.register(&header, CancellationToken::new());
    gateway.look(&house, &mut Vec::new()).await;
    assert_eq!(house.ends(header.id).await, [], "its own task may still be journaling");
    drop(guard);
    gateway.look(&house, &mut Vec::new()).await;
    house.verify(header.id).await;
}

#[tokio::test]
async fn an_earlier_run_of_a_gateway_with_a_spool_of_its_own_is_settled_at_the_start() {
    let house = house();
    let key = Arc::new(SigningKey::generate().unwrap());
    house.keys.lock().unwrap().add(key.public().clone());
    let open = || {
        let store = Arc::clone(&house.recordings) as Arc<dyn RecordingStore>;
        let wait_max = Duration::from_secs(20);
        Spool::open(
            &house.dir.path().join("spool"),
            1 << 30,
            store,
            Arc::clone(&key),
            wait_max,
        )
        .unwrap()
    };
    let gateway = Gateway {
        spool: open(),
        sessions: SessionRegistry::default(),
    };
    let session = house.leave(&gateway).await.id;
    kill(gateway).await;
    let spool = open();
    house.switch.off.store(true, Ordering::SeqCst);
    earlier_run(&spool, &house.trail()).await;
    spool.stop().await;
    drop(spool);
    assert_eq!(house.recordings.read_manifest(session).await.unwrap(), None);
    house.switch.off.store(false, Ordering::SeqCst);
    earlier_run(&open(), &house.trail()).await;
    house.verify(session).await;
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_keeps_no_gateway_from_starting_and_is_settled_later() {
    let house = house();
    let key = Arc::new(SigningKey::generate().unwrap());
    house.keys.lock().unwrap().add(key.public().clone());
    let open = || {
        let store = Arc::clone(&house.recordings) as Arc<dyn RecordingStore>;
        let wait_max = Duration::from_secs(20);
        let directory = house.dir.path().join("spool");
        Spool::open(&directory, 1 << 30, store, Arc::clone(&key), wait_max).unwrap()
    };
    let gateway = || Gateway {
        spool: open(),
        sessions: SessionRegistry::default(),
    };
    let dead = gateway();
    let session = house.leave(&dead).await.id;
    kill(dead).await;
    let next = gateway();
    house.switch.off.store(true, Ordering::SeqCst);
    earlier_run(&next.spool, &house.trail()).await;
    house.switch.off.store(false, Ordering::SeqCst);
    next.look(&house, &mut Vec::new()).await;
    house.verify(session).await;
}

#[tokio::test]
async fn an_end_that_only_the_record_knows_is_told_before_the_session_is_closed() {
    let house = house();
    let gateway = house.gateway();
    let header = house.leave(&gateway).await;
    let store = &house.switch.journal;
    let mut record = example::pending(example::terms(1));
    record.session = header.id;
    let resumed = SessionJournal::resume(house.journal.clone(), header.id).await.unwrap();
    let held = Happening::Held {
        operation: record.operation.digest,
        approval: record.id.clone(),
        terms: record.terms.clone(),
        deadline: record.deadline,
    };
    // What was sent before it was answered after it was held.
    let answered = Happening::Answered {
        operation: countersign_infra::domain::id::Digest::of(b"select 1"),
        outcome: Outcome::not_known("it does not matter", 1),
        bytes: 0,
    };
    resumed.unwrap().append(vec![held, answered]).await.unwrap();
    store.open(&record, &[]).await.unwrap();
    let deny = Change::Vote(example::ballot(example::bob(), Choice::Deny));
    store.change(&record.id, deny, example::at(6)).await.unwrap();
    kill(gateway).await;

    let next = house.gateway();
    next.look(&house, &mut Vec::new()).await;
    let events = house.switch.journal.session(header.id).await.unwrap();
    let names: Vec<_> = events.iter().map(|event| event.what.name()).collect();
    assert_eq!(
        names,
        ["session_opened", "held", "answered", "refused", "session_closed"]
    );
    let told = matches!(&events[3].what, Happening::Refused { code, .. } if code == "denied");
    assert!(told, "{:?}", events[3]);
    house.verify(header.id).await;
}
