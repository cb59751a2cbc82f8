//! Chats that are away, refuse, or lose answers: no card is lost, none doubled, and decisions do not wait for them.

use super::{BOB, chats, psql, said, slack_card};
use countersign_tests::bot::{ChatOptions, Way};
use countersign_tests::chat::Fault;
use countersign_tests::slack;
use std::collections::HashMap;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_does_not_wait_for_a_chat_that_is_away_and_its_card_comes_later_once() {
    let mut chats = chats(ChatOptions::new(Way::Connected)).await.unwrap();
    chats.slack.outage(true);
    let waiting = psql(&chats, "delete from orders where id = 7");
    let began = Instant::now();
    let id = loop {
        let (_, list) = chats.world.gateway.run("bob", &["approvals", "list"]).unwrap();
        if let Some(line) = list.lines().find(|line| line.contains("alice")) {
            break line.split_whitespace().next().unwrap().to_owned();
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{list}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let (code, text) = chats.world.gateway.run("bob", &["approvals", "approve", &id]).unwrap();
    assert_eq!(code, 0, "{text}");
    assert!(said(&waiting.await.unwrap().unwrap()).contains("DELETE 1"));
    chats.stop_bot();
    chats.slack.outage(false);
    chats.start_bot().await.unwrap();
    let card = chats.slack.wait_for("the card, after all", |slack| {
        slack
            .messages(slack::TEAM, slack::CHANNEL)
            .into_iter()
            .find(|message| message.body.to_string().contains(&id))
    });
    let card = card
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", chats.bot_log()));
    assert!(card.body.to_string().contains("approved by bob"), "{:?}", card.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_limits_and_errors_of_a_chat_double_no_card_and_lose_none() {
    let chats = chats(ChatOptions::new(Way::Connected)).await.unwrap();
    for fault in [
        Fault::DoneButStatus(500),
        Fault::RateLimited(Duration::from_secs(1)),
        Fault::DoneButDrop,
        Fault::Status(503),
    ] {
        chats.slack.fail_next(Some("chat.postMessage"), 1, fault);
    }
    let waiting: Vec<_> = (1..=6)
        .map(|id| psql(&chats, &format!("update orders set state = state where id = {id}")))
        .collect();
    let cards = chats.slack.wait_for("six cards", |slack| {
        let messages = slack.messages(slack::TEAM, slack::CHANNEL);
        let mut cards: HashMap<String, usize> = HashMap::new();
        for message in messages.iter().filter(|message| message.thread_ts.is_none()) {
            *cards
                .entry(message.text().split_whitespace().next()?.to_owned())
                .or_default() += 1;
        }
        (cards.len() == 6).then_some(cards)
    });
    let cards = cards
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", chats.bot_log()));
    assert!(cards.values().all(|count| *count == 1), "{cards:?}");
    for message in chats.slack.messages(slack::TEAM, slack::CHANNEL) {
        chats
            .slack
            .person(slack::TEAM, BOB.0)
            .click(slack::CHANNEL, &message.ts, "approve")
            .await
            .unwrap();
    }
    for statement in waiting {
        assert!(said(&statement.await.unwrap().unwrap()).contains("UPDATE 1"));
    }
    let all = chats.slack.wait_for("every outcome", |slack| {
        let messages = slack.messages(slack::TEAM, slack::CHANNEL);
        let cards = messages.iter().filter(|message| message.thread_ts.is_none());
        (cards.filter(|card| card.body.to_string().contains("UPDATE 1")).count() == 6).then_some(messages.len())
    });
    all.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_is_brought_up_to_date_by_a_bot_that_was_started_anew() {
    let mut chats = chats(ChatOptions::new(Way::Connected)).await.unwrap();
    let waiting = psql(&chats, "delete from orders where id = 7");
    let card = slack_card(&chats).await.unwrap();
    chats.stop_bot();
    let id = card.text().split_whitespace().next().unwrap().to_owned();
    let (code, text) = chats
        .world
        .gateway
        .run("bob", &["approvals", "deny", &id, "--reason", "no"])
        .unwrap();
    assert_eq!(code, 0, "{text}");
    assert!(said(&waiting.await.unwrap().unwrap()).contains("denied"));
    chats.start_bot().await.unwrap();
    let after = chats.slack.wait_for("the denial on the card", |slack| {
        let cards = slack.messages(slack::TEAM, slack::CHANNEL).into_iter();
        cards
            .into_iter()
            .find(|message| message.ts == card.ts && message.body.to_string().contains("denied by bob"))
    });
    after
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", chats.bot_log()));
}
