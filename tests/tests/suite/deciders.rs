//! Many people, two gateways, one store: every approval ends in one way, whoever clicks when, and no vote is lost.

use chrono::{TimeDelta, Utc};
use countersign_infra::approvals::{ApprovalStore, ApprovalStoreExt, ChangeError};
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::approval::{Approval, Change, Choice, Outcome, State};
use countersign_infra::domain::example::{EPOCH, ballot, new_approval, person, terms};
use countersign_infra::domain::id::ApprovalId;
use countersign_infra::dynamodb::DynamoStore;
use countersign_infra::embedded::EmbeddedStore;
use countersign_tests::cloud::Cloud;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const APPROVALS: u32 = 1000;
const DECIDERS: u32 = 8;
const QUORUM: u32 = 2;
/// Approvals that are decided at the same time.
const AT_ONCE: usize = 24;

type Store = Arc<dyn ApprovalStore>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_approvals_in_one_file_are_decided_once_each() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let handle = || Arc::new(EmbeddedStore::open(&path).unwrap()) as Store;
    decide_all([handle(), handle()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_approvals_in_dynamodb_are_decided_once_each() {
    let cloud = Cloud::shared().await.unwrap();
    let table = cloud.table().await.unwrap();
    let mut handles = Vec::new();
    for _ in 0..2 {
        let store = DynamoStore::open(&cloud.aws().await, &table, None).await.unwrap();
        handles.push(Arc::new(store) as Store);
    }
    decide_all([handles[0].clone(), handles[1].clone()]).await;
}

async fn decide_all(gateways: [Store; 2]) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut cases = JoinSet::new();
    for number in 0..APPROVALS {
        let (gateways, room) = (gateways.clone(), Arc::clone(&room));
        cases.spawn(async move {
            let _room = room.acquire_owned().await.unwrap();
            decide(&gateways, number).await
        });
    }
    let ends = cases.join_all().await;
    let count = |wanted: &str| ends.iter().filter(|end| **end == wanted).count();
    let (done, denied, expired) = (count("done"), count("denied"), count("expired"));
    assert_eq!(done + denied + expired, ends.len(), "{ends:?}");
    assert!(
        done > 0 && denied > 0,
        "{done} done, {denied} denied, {expired} expired"
    );
}

/// One approval: eight people at both gateways, the holder that runs it, and, in every fourth, a deadline that passes
/// meanwhile. Says how it ended.
async fn decide(gateways: &[Store; 2], number: u32) -> &'static str {
    let made = Utc::now();
    let approval = opened(number, made);
    let [first, second] = gateways;
    first.open(&approval, &[]).await.unwrap();
    let mut people = JoinSet::new();
    for decider in 0..DECIDERS {
        let store = if decider % 2 == 0 { first } else { second }.clone();
        let (id, choice) = (approval.id.clone(), choice_of(number, decider));
        let vote = Change::Vote(ballot(person(&format!("dba{decider}"), &["dba"]), choice));
        people.spawn(async move { store.change(&id, vote, made + TimeDelta::seconds(1)).await });
    }
    if number.is_multiple_of(4) {
        let (store, id, deadline) = (second.clone(), approval.id.clone(), approval.deadline);
        people.spawn(async move { store.change(&id, Change::Expire, deadline).await });
    }
    let held = run(first.clone(), approval.clone());
    let (changes, ran) = tokio::join!(people.join_all(), held);
    let votes = changes.iter().filter(|change| is_vote_that_counts(change)).count();
    let last = second.read(&approval.id).await.unwrap();
    check_end(&last, votes, ran)
}

/// The holder: looks until there is an end, and runs what is approved, once for each time that the store lets it.
async fn run(store: Store, approval: Approval) -> usize {
    let mut ran = 0;
    loop {
        let record = store.read(&approval.id).await.unwrap();
        record.continues(&approval).unwrap();
        match record.state {
            State::Pending => tokio::task::yield_now().await,
            State::Approved { .. } => {
                record.verify(approval.operation.digest, Utc::now()).unwrap();
                // Two tasks of a confused holder try at once.
                let execute = || store.change(&approval.id, Change::Execute { epoch: EPOCH }, Utc::now());
                let (one, other) = tokio::join!(execute(), execute());
                ran += [one, other].iter().filter(|sent| sent.is_ok()).count();
            }
            State::Executing { .. } => {
                let outcome = Outcome {
                    ok: true,
                    summary: "DELETE 1".to_owned(),
                    rows: Some(1),
                    duration_ms: 1,
                };
                let finish = Change::Finish { epoch: EPOCH, outcome };
                store.change(&approval.id, finish, Utc::now()).await.unwrap();
            }
            State::Denied { .. }
            | State::Expired { .. }
            | State::Withdrawn { .. }
            | State::Abandoned { .. }
            | State::Revoked { .. }
            | State::Done { .. }
            | State::Unknown { .. } => return ran,
        }
    }
}

fn check_end(last: &Approval, votes: usize, ran: usize) -> &'static str {
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
    match &last.state {
        State::Done { .. } => {
            assert_eq!((ran, denials, votes), (1, 0, QUORUM as usize), "{last:?}");
            "done"
        }
        State::Denied { .. } => {
            assert_eq!((ran, denials), (0, 1), "{last:?}");
            "denied"
        }
        State::Expired { .. } => {
            assert_eq!((ran, denials), (0, 0), "{last:?}");
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

fn is_vote_that_counts(change: &Result<Approval, ChangeError>) -> bool {
    match change {
        Ok(changed) => !matches!(changed.state, State::Expired { .. }),
        Err(ChangeError::Rejected(_)) => false,
        Err(ChangeError::Store(error)) => panic!("a decider was told: {error}"),
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

fn opened(number: u32, made: Timestamp) -> Approval {
    let mut new = new_approval(terms(QUORUM));
    let [a, b, c, d] = number.to_be_bytes();
    new.id = ApprovalId::from_random([0xde, a, b, c, d]);
    new.lease.until = made + TimeDelta::seconds(600);
    Approval::open(new, made).unwrap()
}
