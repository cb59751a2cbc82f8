//! The stores on DynamoDB keep what the embedded ones keep.

use chrono::{TimeDelta, Utc};
use countersign_infra::approvals::contract;
use countersign_infra::approvals::flaky::FlakyApprovals;
use countersign_infra::chat_links::{self, flaky::FlakyChatLinks};
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::audit::{Chain, Event, Happening, verify_chain};
use countersign_infra::domain::example::alice;
use countersign_infra::domain::id::SessionId;
use countersign_infra::domain::identity::Person;
use countersign_infra::dynamodb::{DynamoStore, OpenError};
use countersign_infra::flaky::Schedule;
use countersign_infra::grants::{self, flaky::FlakyGrants};
use countersign_infra::journal;
use countersign_infra::journal::flaky::FlakyJournal;
use countersign_infra::journal::{Journal, JournalQuery};
use countersign_tests::cloud::Cloud;
use std::sync::Arc;

/// A store in a table of its own.
async fn store() -> DynamoStore {
    let cloud = Cloud::shared().await.unwrap();
    let table = cloud.table().await.unwrap();
    DynamoStore::open(&cloud.aws().await, &table, None).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn approvals_in_dynamodb_keep_the_contract() {
    contract::holds(Arc::new(store().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn approvals_in_dynamodb_keep_the_contract_on_a_bad_line() {
    for seed in [1, 2] {
        contract::holds(Arc::new(FlakyApprovals::new(store().await, Schedule::new(seed)))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_in_dynamodb_keeps_the_contract() {
    journal::contract::holds(Arc::new(store().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_in_dynamodb_keeps_the_contract_on_a_bad_line() {
    let flaky = FlakyJournal::new(store().await, Schedule::new(1));
    journal::contract::holds(Arc::new(flaky)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_are_answered_as_by_every_other_journal() {
    // Fewer sessions and mixtures than the embedded store is asked: each page is many requests.
    journal::contract::compare(Arc::new(store().await), 4711, 8, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_in_dynamodb_keep_the_contract_also_on_a_bad_line() {
    grants::contract::holds(Arc::new(store().await)).await;
    let flaky = FlakyGrants::new(store().await, Schedule::new(1));
    grants::contract::holds(Arc::new(flaky)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_links_in_dynamodb_keep_the_contract_also_on_a_bad_line() {
    chat_links::contract::holds(Arc::new(store().await)).await;
    let flaky = FlakyChatLinks::new(store().await, Schedule::new(1));
    chat_links::contract::holds(Arc::new(flaky)).await;
}

#[tokio::test]
async fn a_table_that_is_missing_or_another_one_is_told_with_what_to_do() {
    let cloud = Cloud::shared().await.unwrap();
    let aws = cloud.aws().await;
    let missing = DynamoStore::open(&aws, "no-such-table", None).await.unwrap_err();
    assert!(matches!(missing, OpenError::Missing(_)));
    assert!(missing.to_string().contains("Terraform module `store`"), "{missing}");
}

/// Days that the journal of the following checks keeps.
const KEPT_DAYS: i64 = 30;

fn days_ago(days: i64) -> Timestamp {
    Utc::now() - TimeDelta::days(days)
}

/// The events of a session of this person, each so many days ago; the first is its start.
fn session_of(person: &Person, target: &str, days: &[i64]) -> Vec<Event> {
    let begun = days_ago(days[0]);
    let made = uuid::Timestamp::from_unix(uuid::NoContext, begun.timestamp().unsigned_abs(), 0);
    let id = SessionId(uuid::Uuid::new_v7(made));
    let mut chain = Chain::new(id, "gateway-1", Some(person), Some(target.to_owned()));
    let what = |day: &i64| format!("{day} days ago");
    let note = |day: &i64| chain.next(days_ago(*day), Happening::GatewaySent { what: what(day) });
    days.iter().map(note).collect()
}

#[tokio::test]
async fn a_session_is_kept_whole_or_gone_whole() {
    let cloud = Cloud::shared().await.unwrap();
    let table = cloud.table().await.unwrap();
    let retention = Some(TimeDelta::days(KEPT_DAYS));
    let store = DynamoStore::open(&cloud.aws().await, &table, retention).await.unwrap();
    let find = async |query: JournalQuery| store.search(&query).await.unwrap().events;
    let by_session = |id| JournalQuery {
        session: Some(id),
        ..JournalQuery::default()
    };
    // Its first event is older than what is kept, its last one is not.
    let straddling = session_of(&alice(), "orders", &[35, 33, 29]);
    store.append(&straddling).await.unwrap();
    let id = straddling[0].session;
    assert_eq!(store.session(id).await.unwrap(), straddling);
    assert_eq!(verify_chain(&store.session(id).await.unwrap()), Ok(()));
    assert_eq!(store.first(id).await.unwrap().as_ref(), straddling.first());
    assert_eq!(find(by_session(id)).await.len(), 3);
    // One that lasted longer than any should.
    let long = session_of(&alice(), "orders", &[60, 59, 20, 1]);
    store.append(&long).await.unwrap();
    let id = long[0].session;
    assert_eq!(store.session(id).await.unwrap(), []);
    assert_eq!(store.first(id).await.unwrap(), None);
    assert_eq!(store.last(id).await.unwrap().as_ref(), long.last());
    let late: Vec<Event> = long[2..].iter().rev().cloned().collect();
    assert_eq!(find(by_session(id)).await, late);
    // One that is over.
    let over = session_of(&alice(), "orders", &[60, 59, 58]);
    store.append(&over).await.unwrap();
    let id = over[0].session;
    assert_eq!(store.session(id).await.unwrap(), []);
    assert_eq!(store.last(id).await.unwrap(), None);
    assert_eq!(find(by_session(id)).await, []);
    let everything = find(JournalQuery::default()).await;
    assert_eq!(everything.len(), straddling.len() + late.len());
}
