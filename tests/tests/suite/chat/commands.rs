//! `/countersign ...` in both chats.

use super::refusals::told;
use super::{ALICE, BOB, CAROL, chats, check_requests, psql, said, slack_card};
use countersign_infra::journal::{Journal, JournalQuery};
use countersign_tests::bot::{ChatOptions, Chats, Way};
use countersign_tests::wait::eventually;
use countersign_tests::{discord, slack};
use serde_json::json;
use std::time::Duration;

async fn slack_says(chats: &Chats, user: &str, text: &str, wanted: &str) -> String {
    let before = chats.slack.ephemerals(slack::TEAM, user).len();
    chats
        .slack
        .person(slack::TEAM, user)
        .command(slack::CHANNEL, "/countersign", text)
        .await
        .unwrap();
    let found = chats.slack.wait_for(wanted, |slack| {
        let told = slack.ephemerals(slack::TEAM, user).into_iter().skip(before);
        told.map(|message| message.body.to_string())
            .find(|told| told.contains(wanted))
    });
    let all: Vec<String> = chats
        .slack
        .ephemerals(slack::TEAM, user)
        .iter()
        .map(|said| said.body.to_string())
        .collect();
    found
        .await
        .unwrap_or_else(|error| panic!("{text}: {error}: {:?}\n{}", all.last(), chats.bot_log()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_and_what_happened_is_asked_in_the_chat() {
    let chats = chats(ChatOptions::new(Way::Signed)).await.unwrap();
    slack_says(&chats, BOB.0, "help", "/countersign audit").await;
    slack_says(&chats, BOB.0, "pending", "Nothing waits").await;
    let waiting = psql(&chats, "delete from orders where id = 7");
    let card = slack_card(&chats).await.unwrap();
    let id = card.text().split_whitespace().next().unwrap().to_owned();
    slack_says(&chats, BOB.0, "pending", &id).await;
    slack_says(&chats, BOB.0, &format!("show {id}"), "delete from orders where id = 7").await;
    slack_says(&chats, BOB.0, "show ZZZZZZZZ", "There is no approval ZZZZZZZZ").await;
    slack_says(&chats, BOB.0, "sessions", "alice").await;
    slack_says(&chats, ALICE.0, &format!("approve {id}"), "You asked for this yourself").await;
    slack_says(
        &chats,
        BOB.0,
        &format!("deny {id} not <now>"),
        &format!("{id} is denied"),
    )
    .await;
    assert!(said(&waiting.await.unwrap().unwrap()).contains("not <now>"));

    let audited = slack_says(
        &chats,
        BOB.0,
        "audit who:alice on:shop since:24h state:denied",
        "delete from orders",
    )
    .await;
    assert!(audited.contains("denied"), "{audited}");
    slack_says(&chats, ALICE.0, "audit who:alice", "does not let you audit").await;
    slack_says(&chats, BOB.0, "audit who", "has no key").await;
    let query = JournalQuery {
        events: vec!["audit_queried".to_owned()],
        text: Some("operations (chat) who:alice on:shop since:24h state:denied".to_owned()),
        ..JournalQuery::default()
    };
    let noted = chats.store().unwrap().search(&query).await.unwrap().events;
    assert_eq!(noted.len(), 1);
    assert_eq!(noted[0].person_name.as_deref(), Some("bob"));

    // The same in Discord.
    let options =
        json!([{"type": 1, "name": "audit", "options": [{"type": 3, "name": "query", "value": "who:alice"}]}]);
    chats
        .discord
        .person(BOB.1)
        .command(discord::CHANNEL, "countersign", options)
        .await
        .unwrap();
    let told = chats.discord.wait_for("the answer", |discord| {
        let told = discord.ephemerals(BOB.1);
        told.into_iter()
            .find(|message| message.body.to_string().contains("delete from orders"))
    });
    told.await.unwrap();
    check_requests(&chats);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_audit_is_paged_and_comes_as_a_file_too() {
    let chats = chats(ChatOptions::new(Way::Connected)).await.unwrap();
    let (slack_user, discord_user) = CAROL;
    let carol = slack::User::member(slack_user, "carol");
    chats.slack.add_user(slack::TEAM, carol);
    chats.link("carol", &["dba"], slack_user, discord_user).await.unwrap();
    let many: String = (0..25).map(|number| format!("select {number} as number;")).collect();
    for statement in many.split_inclusive(';') {
        assert!(psql(&chats, statement).await.unwrap().unwrap().status.success());
    }
    let first = slack_says(&chats, BOB.0, "audit who:alice text:\"as number\"", "select 24").await;
    assert!(!first.contains("select 3 "), "{first}");
    let file = chats.slack.wait_for("the file", |slack| {
        slack.files(slack::TEAM).pop().filter(|file| file.is_complete)
    });
    let file = file.await.unwrap();
    let text = String::from_utf8(file.content).unwrap();
    assert_eq!(text.lines().count(), 26, "{text}");
    assert!(file.name.ends_with(".csv"), "{}", file.name);

    // Older, and older again, until there is no more.
    let older = async |from: &str| {
        let message = chats.slack.ephemerals(slack::TEAM, BOB.0).into_iter().rev();
        let message = message
            .into_iter()
            .find(|message| message.body.to_string().contains(from))
            .unwrap();
        let bob = chats.slack.person(slack::TEAM, BOB.0);
        bob.click_seen(&message, "page-0").await.unwrap();
        message
    };
    let stolen = older("select 24").await;
    let wait = async |wanted: &str| {
        let found = chats.slack.wait_for(wanted, |slack| {
            let told = slack
                .ephemerals(slack::TEAM, BOB.0)
                .into_iter()
                .map(|message| message.body.to_string());
            told.into_iter().find(|told| told.contains(wanted))
        });
        found.await.unwrap()
    };
    wait("select 14 as").await;
    older("select 14 as").await;
    let last = wait("select 0 as").await;
    assert!(last.contains("5 operations"), "{last}");

    // Of no use to somebody else, who may audit too.
    let stolen = slack::Message {
        shown_to: Some(CAROL.0.to_owned()),
        ..stolen
    };
    let carol = chats.slack.person(slack::TEAM, CAROL.0);
    carol.click_seen(&stolen, "page-0").await.unwrap();
    told(&chats, CAROL.0, "That page is over").await;
    let hers = chats.slack.ephemerals(slack::TEAM, CAROL.0);
    assert!(
        !hers.iter().any(|said| said.body.to_string().contains("as number")),
        "{hers:?}"
    );
    slack_says(&chats, CAROL.0, "audit who:alice text:\"as number\"", "select 24").await;
    check_requests(&chats);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_says_at_its_start_what_it_lacks() {
    let mut chats = chats(ChatOptions::new(Way::Connected)).await.unwrap();
    let lacks = ["lack permissions: Embed Links", "countersign-bot register"];
    // View Channel, Send Messages, Read Message History.
    chats.discord.permit(1 << 10 | 1 << 11 | 1 << 16, 0);
    chats.discord.forget_commands();
    chats.stop_bot();
    chats.start_bot().await.unwrap();
    let said = eventually("the bot says what it lacks", Duration::from_secs(30), async || {
        let log = chats.bot_log();
        lacks.iter().all(|lack| log.contains(lack)).then_some(())
    });
    said.await
        .unwrap_or_else(|error| panic!("{error}\n{}", chats.bot_log()));
}
