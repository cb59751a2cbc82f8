//! Many people, two gateways, one store: every approval ends in one way, whoever clicks when, no vote is lost, and the
//! journal tells of each.

use chrono::Utc;
use countersign_gateway::hold::{Executing, Holds, Ready};
use countersign_gateway::journal::SessionJournal;
use countersign_infra::approvals::{ApprovalStore, ChangeError};
use countersign_infra::domain::access_request::AccessRequest;
use countersign_infra::domain::approval::{Approval, Change, Choice, Outcome, State, Terms};
use countersign_infra::domain::audit::{Chain, Event, Happening, verify_chain};
use countersign_infra::domain::example::{ballot, header, person, request, terms};
use countersign_infra::domain::id::{ApprovalId, SessionId};
use countersign_infra::dynamodb::DynamoStore;
use countersign_infra::embedded::EmbeddedStore;
use countersign_infra::journal::{Journal, JournalQuery, SharedJournal};
use countersign_tests::cloud::Cloud;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const APPROVALS: u32 = 1000;
const DECIDERS: u32 = 8;
const QUORUM: u32 = 2;
/// Approvals that are decided at the same time.
const AT_ONCE: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_approvals_in_one_file_are_decided_once_each() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let gateway = |name| Gateway::on(name, EmbeddedStore::open(&path).unwrap());
    decide_all([gateway("one"), gateway("two")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_approvals_in_dynamodb_are_decided_once_each() {
    let cloud = Cloud::shared().await.unwrap();
    let table = cloud.table().await.unwrap();
    let aws = cloud.aws().await;
    let gateway = async |name| Gateway::on(name, DynamoStore::open(&aws, &table, None).await.unwrap());
    decide_all([gateway("one").await, gateway("two").await]).await;
}

/// What decides in a gateway: its holds, and its API's way to the store.
#[derive(Clone)]
struct Gateway {
    approvals: Arc<dyn ApprovalStore>,
    journal: Arc<dyn Journal>,
    holds: Arc<Holds>,
    api: Arc<SharedJournal>,
    stop: CancellationToken,
}

impl Gateway {
    fn on<S: ApprovalStore + Journal + Clone>(name: &str, store: S) -> Self {
        let approvals: Arc<dyn ApprovalStore> = Arc::new(store.clone());
        let journal: Arc<dyn Journal> = Arc::new(store);
        let url = "https://gateway.example".parse().unwrap();
        let holds = Holds::new(approvals.clone(), name.to_owned(), &url).unwrap();
        let tasks = TaskTracker::new();
        let api = SharedJournal::start(journal.clone(), approvals.clone(), name.to_owned(), &tasks);
        let stop = CancellationToken::new();
        let (following, until) = (holds.clone(), stop.clone());
        tokio::spawn(async move { following.follow_feed(until).await });
        Self {
            approvals,
            journal,
            holds,
            api: Arc::new(api),
            stop,
        }
    }

    async fn vote(&self, id: &ApprovalId, decider: u32, choice: Choice) -> Result<Approval, ChangeError> {
        let voter = person(&format!("dba{decider}"), &["dba"]);
        let what = Happening::Decided {
            approval: id.clone(),
            choice: choice.as_str().to_owned(),
            reason: None,
            accepted: true,
            why: None,
        };
        let vote = Change::Vote(ballot(voter.clone(), choice));
        self.api.decide(&voter, what, id, vote, Utc::now()).await
    }
}

async fn decide_all(gateways: [Gateway; 2]) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut cases = JoinSet::new();
    for number in 0..APPROVALS {
        let (gateways, room) = (gateways.clone(), Arc::clone(&room));
        cases.spawn(async move {
            let _room = room.acquire_owned().await.unwrap();
            decide(&gateways, number).await
        });
    }
    let (ends, votes): (Vec<&str>, Vec<usize>) = cases.join_all().await.into_iter().unzip();
    let count = |wanted: &str| ends.iter().filter(|end| **end == wanted).count();
    let (done, denied, expired) = (count("done"), count("denied"), count("expired"));
    assert_eq!(done + denied + expired, ends.len(), "{ends:?}");
    assert!(
        done > 0 && denied > 0 && expired > 0,
        "{done} done, {denied} denied, {expired} expired"
    );
    assert_eq!(decided_events(&gateways[0].journal).await, votes.iter().sum::<usize>());
    gateways.iter().for_each(|gateway| gateway.stop.cancel());
}

/// One approval: the holder that runs it, eight people at both gateways, and, in every fourth, a deadline that passes
/// meanwhile. Says how it ended, and how many votes count.
async fn decide(gateways: &[Gateway; 2], number: u32) -> (&'static str, usize) {
    let [first, second] = gateways;
    let holder = if number.is_multiple_of(2) { first } else { second };
    let (journal, request) = session(holder).await;
    let digest = request.digest();
    let mut hold = holder
        .holds
        .open(&request, digest, terms_of(number), &journal)
        .await
        .unwrap();
    let id = hold.record().id.clone();
    let mut people = JoinSet::new();
    for decider in 0..deciders_of(number) {
        let gateway = if decider % 2 == 0 { first } else { second }.clone();
        let (id, choice) = (id.clone(), choice_of(number, decider));
        people.spawn(async move { gateway.vote(&id, decider, choice).await });
    }
    let held = async {
        let ready = match hold.decided().await {
            Ok(Ready::Approved) => Ok(()),
            Ok(Ready::Due) => hold.expire(&journal).await,
            Err(refusal) => Err(refusal),
        };
        if ready.is_err() {
            return 0;
        }
        let Ok(Executing { id, .. }) = hold.execute(digest, &journal).await else {
            return 0;
        };
        let (outcome, answered) = outcome(&request);
        holder.holds.finish(&id, outcome, answered, &journal).await.unwrap();
        1
    };
    let (changes, ran) = tokio::join!(people.join_all(), held);
    let votes = changes.iter().filter(|change| counts(change)).count();
    let last = second.approvals.read(&id).await.unwrap();
    let events = first.journal.session(request.session).await.unwrap();
    (check_end(&last, votes, ran, &events), votes)
}

async fn session(gateway: &Gateway) -> (SessionJournal, AccessRequest) {
    let id = SessionId(uuid::Uuid::now_v7());
    let request = AccessRequest {
        session: id,
        ..request()
    };
    let chain = Chain::new(id, "gateway-1", Some(&request.person), None);
    let journal = SessionJournal::new(gateway.journal.clone(), chain);
    let header = header(id, request.person.clone());
    journal.append(vec![Happening::SessionOpened { header }]).await.unwrap();
    (journal, request)
}

fn outcome(request: &AccessRequest) -> (Outcome, Happening) {
    let outcome = Outcome {
        ok: true,
        summary: "DELETE 1".to_owned(),
        rows: Some(1),
        duration_ms: 1,
    };
    let answered = Happening::Answered {
        operation: request.digest(),
        outcome: outcome.clone(),
        bytes: 0,
    };
    (outcome, answered)
}

fn check_end(last: &Approval, votes: usize, ran: usize, events: &[Event]) -> &'static str {
    assert_eq!(
        last.votes.len(),
        votes,
        "a vote was lost, or counted without being there: {last:?}"
    );
    let denials = last
        .votes
        .iter()
        .filter(|vote| vote.ballot.choice == Choice::Deny)
        .count();
    assert_eq!(verify_chain(events), Ok(()));
    let told = |name: &str| events.iter().filter(|event| event.what.name() == name).count();
    let told = (told("held"), told("executing"), told("answered"), told("refused"));
    match &last.state {
        State::Done { .. } => {
            assert_eq!(
                (ran, denials, votes, told),
                (1, 0, QUORUM as usize, (1, 1, 1, 0)),
                "{last:?}"
            );
            "done"
        }
        State::Denied { .. } => {
            // The session tells of it with what it tells its client.
            assert_eq!((ran, denials, told), (0, 1, (1, 0, 0, 0)), "{last:?}");
            "denied"
        }
        State::Expired { .. } => {
            assert_eq!((ran, denials, told), (0, 0, (1, 0, 0, 1)), "{last:?}");
            assert!(votes < QUORUM as usize, "{last:?}");
            "expired"
        }
        other @ (State::Pending
        | State::Approved { .. }
        | State::Withdrawn { .. }
        | State::Abandoned { .. }
        | State::Revoked { .. }
        | State::Executing { .. }
        | State::Unknown { .. }) => panic!("it ended as {other:?}"),
    }
}

fn counts(change: &Result<Approval, ChangeError>) -> bool {
    match change {
        Ok(_) => true,
        Err(ChangeError::Rejected(_)) => false,
        Err(ChangeError::Store(error)) => panic!("a decider was told: {error}"),
    }
}

/// How many decisions the journal tells of.
async fn decided_events(journal: &Arc<dyn Journal>) -> usize {
    let mut query = JournalQuery {
        events: vec!["decided".to_owned()],
        limit: 1000,
        ..JournalQuery::default()
    };
    let mut found = 0;
    loop {
        let page = journal.search(&query).await.unwrap();
        found += page.events.len();
        match page.next {
            Some(next) => query.after = Some(next),
            None => return found,
        }
    }
}

/// In every third approval one of the eight denies, another one each time.
fn choice_of(number: u32, decider: u32) -> Choice {
    if number.is_multiple_of(3) && decider == number / 3 % DECIDERS {
        Choice::Deny
    } else {
        Choice::Approve
    }
}

/// In every eighth approval only one person is there.
fn deciders_of(number: u32) -> u32 {
    if number % 8 == 4 { 1 } else { DECIDERS }
}

fn terms_of(number: u32) -> Terms {
    let terms = terms(QUORUM);
    if number.is_multiple_of(4) {
        Terms {
            expires_seconds: 4,
            ..terms
        }
    } else {
        terms
    }
}
