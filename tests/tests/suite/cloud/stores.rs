//! The stores on DynamoDB keep what the embedded ones keep.

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{TimeDelta, Utc};
use countersign_infra::announcements::{self, flaky::FlakyAnnouncements};
use countersign_infra::approvals::contract;
use countersign_infra::approvals::flaky::FlakyApprovals;
use countersign_infra::chat_links::{self, flaky::FlakyChatLinks};
use countersign_infra::directory::{self, flaky::FlakyDirectory};
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::audit::{Chain, Event, Happening, verify_chain};
use countersign_infra::domain::example::alice;
use countersign_infra::domain::id::SessionId;
use countersign_infra::domain::identity::{Person, PersonKey};
use countersign_infra::dynamodb::{DynamoStore, OpenError};
use countersign_infra::flaky::Schedule;
use countersign_infra::grants::{self, flaky::FlakyGrants};
use countersign_infra::journal;
use countersign_infra::journal::flaky::FlakyJournal;
use countersign_infra::journal::{EVENTS_MAX, Journal, JournalError, JournalQuery};
use countersign_infra::tickets::{self, flaky::FlakyTickets};
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
async fn the_directory_in_dynamodb_keeps_the_contract() {
    directory::contract::holds(Arc::new(store().await)).await;
    directory::contract::holds(Arc::new(FlakyDirectory::new(store().await, Schedule::new(1)))).await;
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
async fn announcements_in_dynamodb_keep_the_contract_also_on_a_bad_line() {
    announcements::contract::holds(Arc::new(store().await)).await;
    let flaky = FlakyAnnouncements::new(store().await, Schedule::new(1));
    announcements::contract::holds(Arc::new(flaky)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_links_in_dynamodb_keep_the_contract_also_on_a_bad_line() {
    chat_links::contract::holds(Arc::new(store().await)).await;
    let flaky = FlakyChatLinks::new(store().await, Schedule::new(1));
    chat_links::contract::holds(Arc::new(flaky)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_in_dynamodb_keep_the_contract_also_on_a_bad_line() {
    tickets::contract::holds(Arc::new(store().await)).await;
    let flaky = FlakyTickets::new(store().await, Schedule::new(1));
    tickets::contract::holds(Arc::new(flaky)).await;
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

#[tokio::test]
async fn nothing_of_a_person_outlives_what_is_kept() {
    let cloud = Cloud::shared().await.unwrap();
    let (table, aws) = (cloud.table().await.unwrap(), cloud.aws().await);
    let retention = Some(TimeDelta::days(KEPT_DAYS));
    let store = DynamoStore::open(&aws, &table, retention).await.unwrap();
    let events = session_of(&alice(), "orders", &[1, 0]);
    store.append(&events).await.unwrap();
    let scanned = aws.dynamodb.scan().table_name(&table).send().await.unwrap();
    let items = scanned.items();
    assert!(items.len() > events.len(), "{items:?}");
    let longest = (Utc::now() + TimeDelta::days(KEPT_DAYS + 10)).timestamp();
    for item in items {
        let expires = item["expires"].as_n().unwrap().parse::<i64>().unwrap();
        assert!(expires <= longest, "{item:?}");
        let is_event = item["pk"].as_s().unwrap().starts_with("SESSION#");
        // What leads to an event is there as long as any that was written on the same day.
        let shortest = KEPT_DAYS + if is_event { 6 } else { 8 };
        assert!(
            expires >= (Utc::now() + TimeDelta::days(shortest)).timestamp() - 60,
            "{item:?}"
        );
    }
    // Marks that have expired lead nowhere, and count no more.
    for number in 0..30 {
        let key = PersonKey {
            subject: format!("sub-{number}"),
            ..alice().key
        };
        let of_old = Person { key, ..alice() };
        store.append(&session_of(&of_old, "orders", &[0])).await.unwrap();
    }
    let by_name = JournalQuery {
        who: Some("Alice".to_owned()),
        ..JournalQuery::default()
    };
    assert!(matches!(store.search(&by_name).await, Err(JournalError::BadQuery(_))));
    let scanned = aws.dynamodb.scan().table_name(&table).send().await.unwrap();
    let words = scanned.items().iter().filter(|item| {
        let subject = item.get("subject").and_then(|subject| subject.as_s().ok());
        subject.is_some_and(|subject| *subject != alice().key.subject)
    });
    for word in words {
        let mut word = word.clone();
        word.insert("expires".to_owned(), AttributeValue::N("1".to_owned()));
        let put = aws.dynamodb.put_item().table_name(&table).set_item(Some(word));
        put.send().await.unwrap();
    }
    assert_eq!(store.search(&by_name).await.unwrap().events.len(), events.len());
}

#[tokio::test]
async fn a_search_that_finds_nothing_for_many_days_pauses() {
    let store = store().await;
    let days: Vec<i64> = (0..150).rev().collect();
    for part in session_of(&alice(), "orders", &days).chunks(EVENTS_MAX) {
        store.append(part).await.unwrap();
    }
    let mut query = JournalQuery {
        text: Some("149 days ago".to_owned()),
        ..JournalQuery::default()
    };
    let page = store.search(&query).await.unwrap();
    assert_eq!(page.events, []);
    query.after = page.next;
    assert!(query.after.is_some());
    let page = store.search(&query).await.unwrap();
    assert_eq!((page.events.len(), page.next), (1, None));
}
