//! The stores on DynamoDB keep what the embedded ones keep.

use countersign_infra::approvals::contract;
use countersign_infra::approvals::flaky::FlakyApprovals;
use countersign_infra::chat_links::{self, flaky::FlakyChatLinks};
use countersign_infra::dynamodb::{DynamoStore, OpenError};
use countersign_infra::flaky::Schedule;
use countersign_infra::grants::{self, flaky::FlakyGrants};
use countersign_infra::journal;
use countersign_infra::journal::flaky::FlakyJournal;
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
