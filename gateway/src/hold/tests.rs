use super::*;
use async_trait::async_trait;
use chrono::{SubsecRound, TimeDelta};
use countersign_infra::approvals::{ApprovalQuery, StoreTime, Tell};
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::approval::{Ballot, Choice};
use countersign_infra::domain::audit::Chain;
use countersign_infra::domain::example::{alice, ballot, bob, header, request, terms};
use countersign_infra::domain::id::SessionId;
use countersign_infra::embedded::EmbeddedStore;
use countersign_infra::journal::Journal;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use tokio_util::sync::CancellationToken;

#[derive(PartialEq)]
enum Lost {
    None,
    All,
    Of(ApprovalId),
}

/// A store of approvals and a journal, with troubles to choose.
struct Trouble {
    store: EmbeddedStore,
    /// Whose changes are lost on their way.
    lost: Mutex<Lost>,
    /// No read is answered.
    silent: AtomicBool,
    /// What the store's clock is ahead of this machine's.
    seconds_ahead: AtomicI64,
}

impl Trouble {
    fn lose(&self, lost: Lost) {
        *self.lost.lock().unwrap() = lost;
    }

    fn loses(&self, id: &ApprovalId) -> bool {
        match &*self.lost.lock().unwrap() {
            Lost::None => false,
            Lost::All => true,
            Lost::Of(lost) => lost == id,
        }
    }
}

#[async_trait]
impl ApprovalStore for Trouble {
    async fn create(&self, approval: &Approval, events: &[Event]) -> Result<(), StoreError> {
        self.store.create(approval, events).await
    }

    async fn read(&self, id: &ApprovalId) -> Result<Approval, StoreError> {
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.store.read(id).await
    }

    async fn replace(&self, next: &Approval, events: &[Event], tell: Tell) -> Result<(), StoreError> {
        if self.loses(&next.id) {
            let source = "lost on purpose".into();
            return Err(StoreError::Unavailable { source });
        }
        self.store.replace(next, events, tell).await
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
        let ahead = TimeDelta::seconds(self.seconds_ahead.load(Ordering::SeqCst));
        let now = self.store.now().await?;
        Ok(StoreTime {
            time: now.time + ahead,
            ..now
        })
    }
}

/// Two gateways on one store.
struct Scene {
    _directory: tempfile::TempDir,
    trouble: Arc<Trouble>,
    journal: Arc<dyn Journal>,
    ours: Arc<Holds>,
    others: Arc<Holds>,
    writers: Writers,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
        let journal: Arc<dyn Journal> = Arc::new(store.clone());
        let trouble = Arc::new(Trouble {
            store,
            lost: Mutex::new(Lost::None),
            silent: AtomicBool::new(false),
            seconds_ahead: AtomicI64::new(0),
        });
        let url = "https://gateway.example".parse().unwrap();
        let holds = |name: &str| Holds::new(trouble.clone(), name.to_owned(), &url).unwrap();
        let writers = Writers {
            journal: journal.clone(),
            sessions: Default::default(),
        };
        Self {
            _directory: directory,
            ours: holds("ours"),
            others: holds("others"),
            trouble,
            journal,
            writers,
        }
    }

    /// A session with its journal, as far as something is asked.
    async fn session(&self) -> (SessionJournal, AccessRequest) {
        let id = SessionId(uuid::Uuid::now_v7());
        let chain = Chain::new(id, "gateway-1", Some(&alice()), Some("orders".to_owned()));
        let journal = SessionJournal::new(self.journal.clone(), chain);
        let header = header(id, alice());
        journal.append(vec![Happening::SessionOpened { header }]).await.unwrap();
        let request = AccessRequest {
            session: id,
            ..request()
        };
        (journal, request)
    }

    /// Something held by a gateway that has let its lease end, in a state.
    async fn left(&self, executing: bool) -> ApprovalId {
        let (journal, request) = self.session().await;
        let digest = request.digest();
        let mut record = self.others.new_record(&request, digest, terms(1)).unwrap();
        record.lease.until = (Utc::now() + TimeDelta::milliseconds(200)).trunc_subsecs(6);
        let opened = journal.append_with(vec![held(&record)], |events| {
            let (store, record) = (&self.trouble.store, record.clone());
            async move { store.open(&record, &events).await.map_err(undone) }
        });
        opened.await.unwrap();
        if executing {
            self.vote(&record.id, ballot(bob(), Choice::Approve)).await;
            let execute = Change::Execute {
                epoch: self.others.epoch,
            };
            self.trouble
                .store
                .change(&record.id, execute, Utc::now())
                .await
                .unwrap();
        }
        record.id
    }

    async fn vote(&self, id: &ApprovalId, ballot: Ballot) {
        let vote = Change::Vote(ballot);
        self.trouble.store.change(id, vote, Utc::now()).await.unwrap();
    }

    async fn state(&self, id: &ApprovalId) -> &'static str {
        self.trouble.read(id).await.unwrap().state.as_str()
    }

    /// The codes of the ends that the journal tells of an approval, and the states of answered operations.
    async fn told(&self, id: &ApprovalId) -> Vec<String> {
        let session = self.trouble.read(id).await.unwrap().session;
        let events = self.journal.session(session).await.unwrap();
        assert_eq!(countersign_infra::domain::audit::verify_chain(&events), Ok(()));
        let ends = events.into_iter().filter_map(|event| {
            if let Happening::Answered { outcome, .. } = event.what {
                return Some(outcome.summary);
            }
            let is_of_it = event.what.approval() == Some(id);
            let Happening::Refused { code, .. } = event.what else {
                return None;
            };
            is_of_it.then_some(code)
        });
        ends.collect()
    }

    async fn until(&self, id: &ApprovalId, state: &str) {
        let started = Instant::now();
        while self.state(id).await != state {
            assert!(
                started.elapsed() < Duration::from_secs(40),
                "it is still {}",
                self.state(id).await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Looks after what the gateway keeps until the record has this state and nothing is kept any more.
    async fn keep_until(&self, id: &ApprovalId, state: &str) {
        let started = Instant::now();
        while self.state(id).await != state || !self.ours.kept().is_empty() {
            let (is, kept) = (self.state(id).await, self.ours.kept().len());
            assert!(
                started.elapsed() < Duration::from_secs(40),
                "it is {is}, {kept} are kept"
            );
            self.ours.look_after(id, &self.writers).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn bury_until(&self, done: impl AsyncFn() -> bool) {
        let started = Instant::now();
        while !done().await {
            assert!(started.elapsed() < Duration::from_secs(30), "nothing was buried");
            drop(self.ours.bury(&self.writers).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn answered(request: &AccessRequest) -> (Outcome, Happening) {
    let outcome = Outcome {
        ok: true,
        summary: "DELETE 1".to_owned(),
        rows: Some(1),
        duration_ms: 3,
    };
    let happening = Happening::Answered {
        operation: request.digest(),
        outcome: outcome.clone(),
        bytes: 20,
    };
    (outcome, happening)
}

#[tokio::test]
async fn what_a_dead_holder_left_changes_together_with_its_event() {
    let scene = Scene::new();
    let (pending, executing) = (scene.left(false).await, scene.left(true).await);
    tokio::time::sleep(Duration::from_millis(2300)).await;
    scene.trouble.lose(Lost::All);
    scene.ours.bury(&scene.writers).await.unwrap();
    for (id, state) in [(&pending, "pending"), (&executing, "executing")] {
        assert_eq!((scene.state(id).await, scene.told(id).await), (state, Vec::new()));
    }
    // One that cannot be changed keeps no other from its end.
    scene.trouble.lose(Lost::Of(pending.clone()));
    scene
        .bury_until(async || scene.state(&executing).await == "unknown")
        .await;
    assert_eq!(
        (scene.state(&pending).await, scene.told(&pending).await),
        ("pending", Vec::new())
    );
    scene.trouble.lose(Lost::None);
    scene
        .bury_until(async || scene.state(&executing).await == "unknown" && scene.state(&pending).await == "abandoned")
        .await;
    assert_eq!(scene.told(&pending).await, ["abandoned"]);
    assert_eq!(scene.told(&executing).await, ["unknown"]);
}

#[tokio::test]
async fn a_clock_that_is_off_takes_nobody_for_dead() {
    let scene = Scene::new();
    let id = scene.left(true).await;
    scene.trouble.seconds_ahead.store(-30, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(2300)).await;
    scene.ours.bury(&scene.writers).await.unwrap();
    assert_eq!(scene.state(&id).await, "executing");
    scene.trouble.seconds_ahead.store(0, Ordering::SeqCst);
    scene.bury_until(async || scene.state(&id).await == "unknown").await;
}

#[tokio::test]
async fn a_session_of_this_gateway_stays_the_only_writer_of_its_journal() {
    let scene = Scene::new();
    let id = scene.left(false).await;
    let record = scene.trouble.read(&id).await.unwrap();
    let live = scene
        .writers
        .sessions
        .register(&header(record.session, alice()), CancellationToken::new());
    scene.bury_until(async || scene.state(&id).await == "abandoned").await;
    assert_eq!(scene.told(&id).await, Vec::<String>::new());
    drop(live);
}

#[tokio::test]
async fn an_outcome_that_could_not_be_put_on_record_is_put_there_once_with_its_event() {
    let scene = Scene::new();
    let (journal, request) = scene.session().await;
    let hold = scene
        .ours
        .open(&request, request.digest(), terms(1), &journal)
        .await
        .unwrap();
    let id = hold.record().id.clone();
    scene.vote(&id, ballot(bob(), Choice::Approve)).await;
    hold.execute(request.digest(), &journal).await.unwrap();
    scene.trouble.lose(Lost::All);
    let (outcome, happening) = answered(&request);
    let finished = scene.ours.finish(&id, outcome, happening, &journal).await;
    assert!(finished.is_err(), "the session ends: it cannot know what is on record");
    assert_eq!(scene.state(&id).await, "executing");
    scene.trouble.lose(Lost::None);
    let stop = CancellationToken::new();
    let (ours, writers, keep_stop) = (scene.ours.clone(), scene.writers.clone(), stop.clone());
    let keeping = tokio::spawn(async move { ours.look_after_kept(&writers, keep_stop).await });
    scene.until(&id, "done").await;
    assert_eq!(scene.told(&id).await, ["DELETE 1"]);
    stop.cancel();
    keeping.await.unwrap();
    assert!(scene.ours.kept().is_empty());
}

#[tokio::test]
async fn what_is_given_up_while_the_store_is_away_is_ended_as_it_was_meant_when_it_is_back() {
    for (expected, code) in [
        ("withdrawn", "withdrawn"),
        ("revoked", "revoked"),
        ("abandoned", "unready"),
    ] {
        let scene = Scene::new();
        let (journal, request) = scene.session().await;
        let opened = scene.ours.open(&request, request.digest(), terms(1), &journal).await;
        let hold = opened.unwrap();
        let id = hold.record().id.clone();
        scene.trouble.lose(Lost::All);
        let refusal = match expected {
            "withdrawn" => hold.withdraw("cancelled by the client", &journal).await,
            "revoked" => hold.revoke("the policy changed", &journal).await,
            _ => hold.abandon("the gateway stops", &journal).await,
        };
        assert!(!refusal.on_record, "{refusal:?}");
        assert_eq!((scene.state(&id).await, scene.told(&id).await), ("pending", vec![]));
        scene.trouble.lose(Lost::None);
        scene.keep_until(&id, expected).await;
        assert_eq!(scene.told(&id).await, [code]);
    }
}

#[tokio::test]
async fn a_hold_that_nobody_ended_is_ended_by_its_gateway_and_its_session_tells_of_it() {
    let scene = Scene::new();
    let (journal, request) = scene.session().await;
    let opened = scene.ours.open(&request, request.digest(), terms(1), &journal).await;
    let hold = opened.unwrap();
    let id = hold.record().id.clone();
    drop(hold);
    scene.keep_until(&id, "abandoned").await;
    assert_eq!(scene.told(&id).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_runs_for_a_session_that_is_gone_without_a_word_is_not_kept_for_ever() {
    let scene = Scene::new();
    let (journal, request) = scene.session().await;
    let opened = scene.ours.open(&request, request.digest(), terms(1), &journal).await;
    let hold = opened.unwrap();
    let id = hold.record().id.clone();
    scene.vote(&id, ballot(bob(), Choice::Approve)).await;
    hold.execute(request.digest(), &journal).await.unwrap();
    let header = header(request.session, alice());
    let session = scene.writers.sessions.register(&header, CancellationToken::new());
    scene.ours.look_after(&id, &scene.writers).await;
    assert_eq!(scene.state(&id).await, "executing");
    drop(session);
    scene.keep_until(&id, "unknown").await;
    assert_eq!(scene.told(&id).await, ["outcome not known: the session is gone"]);
}

#[tokio::test]
async fn a_store_that_never_answers_is_given_up_in_time_however_often_the_wait_is_interrupted() {
    let scene = Scene::new();
    let (journal, request) = scene.session().await;
    let opened = scene.ours.open(&request, request.digest(), terms(1), &journal).await;
    let mut hold = opened.unwrap();
    scene.trouble.silent.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let refusal = loop {
        match tokio::time::timeout(Duration::from_secs(5), hold.decided()).await {
            Ok(decided) => break decided.err().unwrap(),
            Err(_) => assert!(started.elapsed() < STORE_WAIT_MAX * 2, "it waits for ever"),
        }
    };
    assert_eq!(refusal.cause, Cause::Unready);
    assert!(
        started.elapsed() <= STORE_WAIT_MAX + Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn every_end_by_the_holder_is_one_write_with_its_event() {
    for (expected, code) in [
        ("withdrawn", "withdrawn"),
        ("abandoned", "unready"),
        ("revoked", "revoked"),
    ] {
        let scene = Scene::new();
        let (journal, request) = scene.session().await;
        let hold = scene
            .ours
            .open(&request, request.digest(), terms(1), &journal)
            .await
            .unwrap();
        let id = hold.record().id.clone();
        let refusal = match expected {
            "withdrawn" => hold.withdraw("cancelled by the client", &journal).await,
            "abandoned" => hold.abandon("the gateway stops", &journal).await,
            _ => hold.revoke("the policy changed", &journal).await,
        };
        assert!(refusal.on_record);
        assert_eq!(
            (scene.state(&id).await, scene.told(&id).await),
            (expected, vec![code.to_owned()])
        );
    }
}

#[tokio::test]
async fn who_denied_first_is_named_to_the_holder_that_gives_up() {
    let scene = Scene::new();
    let (journal, request) = scene.session().await;
    let hold = scene
        .ours
        .open(&request, request.digest(), terms(1), &journal)
        .await
        .unwrap();
    let id = hold.record().id.clone();
    scene.vote(&id, ballot(bob(), Choice::Deny)).await;
    let refusal = hold.withdraw("cancelled by the client", &journal).await;
    assert!(
        refusal.message.contains("denied by bob") && !refusal.on_record,
        "{refusal:?}"
    );
    assert_eq!(scene.told(&id).await, Vec::<String>::new(), "the session tells of it");
}
