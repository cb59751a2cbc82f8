//! A store that takes longer than a chat waits: the chat is told in time, and the true answer comes later.

use super::{BOB, chats, psql};
use countersign_infra::stores::STORE_FILE;
use countersign_tests::bot::{ChatOptions, Chats, Way};
use countersign_tests::{discord, slack};
use rusqlite::Connection;
use serde_json::json;
use std::time::Duration;

/// Longer than chats wait, and less than the store waits for its file.
const LOCKED_FOR: Duration = Duration::from_millis(3300);

/// Keeps everybody from writing for a while. Each question of the audit is written down before it is answered.
async fn locked(chats: &Chats, meanwhile: impl Future<Output = ()>) {
    let file = Connection::open(chats.world.gateway.data().join(STORE_FILE)).unwrap();
    file.execute_batch("BEGIN IMMEDIATE").unwrap();
    tokio::join!(tokio::time::sleep(LOCKED_FOR), meanwhile);
    file.execute_batch("ROLLBACK").unwrap();
}

async fn a_late_answer_comes(way: Way) {
    let chats = chats(ChatOptions::new(way)).await.unwrap();
    assert!(psql(&chats, "select 4711").await.unwrap().unwrap().status.success());

    let person = chats.slack.person(slack::TEAM, BOB.0);
    locked(&chats, async {
        person
            .command(slack::CHANNEL, "/countersign", "audit who:alice")
            .await
            .unwrap();
    })
    .await;
    let told = || chats.slack.ephemerals(slack::TEAM, BOB.0).into_iter();
    let answer = chats.slack.wait_for("the late answer in Slack", |_| {
        told().find(|message| message.body.to_string().contains("select 4711"))
    });
    answer
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", chats.bot_log()));
    let all: Vec<String> = told().map(|message| message.body.to_string()).collect();
    assert!(!all.iter().any(|told| told.contains("takes its time")), "{all:?}");

    let person = chats.discord.person(BOB.1);
    let options =
        json!([{"type": 1, "name": "audit", "options": [{"type": 3, "name": "query", "value": "who:alice"}]}]);
    locked(&chats, async {
        person.command(discord::CHANNEL, "countersign", options).await.unwrap();
    })
    .await;
    let told = || chats.discord.ephemerals(BOB.1).into_iter();
    let answer = chats.discord.wait_for("the late answer in Discord", |_| {
        told().find(|message| message.body.to_string().contains("select 4711"))
    });
    answer
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", chats.bot_log()));
    assert_eq!(told().count(), 1, "it takes the place of the first");

    let log = chats.bot_log();
    assert!(
        !log.contains("/actions/") && !log.contains("/webhooks/"),
        "the way to answer is a secret: {log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_late_comes_over_a_connection() {
    a_late_answer_comes(Way::Connected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_late_comes_after_a_signed_request() {
    a_late_answer_comes(Way::Signed).await;
}
