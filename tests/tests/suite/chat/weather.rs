//! Chats that are away, refuse, or lose answers: no card is lost, none doubled, and decisions do not wait for them.

use super::held::{ENDED, Held, all_ended, in_discord, in_slack};
use super::{BOB, chats, check_requests, custom_id, discord_card, psql, said, slack_card};
use countersign_tests::bot::{ChatOptions, Way};
use countersign_tests::chat::Fault;
use countersign_tests::{discord, slack};
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
    check_requests(&chats);
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
    check_requests(&chats);
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
    check_requests(&chats);
}

/// Two chats' ways of posting.
const POSTS: (&str, &str) = ("chat.postMessage", "POST /channels/{channel}/messages");

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_a_minute_delays_no_decision_and_after_it_every_card_stands_once_with_its_outcome() {
    const OUTAGE: Duration = Duration::from_secs(60);
    let chats = chats(ChatOptions::new(Way::Connected)).await.unwrap();
    chats.slack.outage(true);
    let began = Instant::now();
    let mut ids = Vec::new();
    for number in 1..=6 {
        let statement = format!("update orders set state = state where id = {number}");
        let held = Held::open(&chats, &statement).await.unwrap();
        ids.push(held.id.clone());
        let took = if number % 2 == 0 {
            held.approve(&chats).await.unwrap()
        } else {
            let card = discord_card(&chats).await.unwrap();
            let clicked = Instant::now();
            let click = chats.discord.person(BOB.1);
            click
                .click(discord::CHANNEL, &card.id, &custom_id(&card, "approve"))
                .await
                .unwrap();
            held.answered(clicked).await.unwrap()
        };
        assert!(took < Duration::from_secs(3), "decision {number} waited for {took:?}");
        tokio::time::sleep_until((began + OUTAGE * number / 7).into()).await;
    }
    let waits = Held::open(&chats, "update orders set state = state where id = 7")
        .await
        .unwrap();
    tokio::time::sleep_until((began + OUTAGE).into()).await;
    assert!(in_slack(&chats).is_empty());
    chats.slack.outage(false);
    all_ended(&chats, &ids, Duration::from_secs(30)).await;
    let card = slack_card(&chats).await.unwrap();
    assert!(card.body.to_string().contains(&waits.id), "{:?}", card.body);
    ids.push(waits.id.clone());
    let clicked = Instant::now();
    let click = chats.slack.person(slack::TEAM, BOB.0);
    click.click(slack::CHANNEL, &card.ts, "approve").await.unwrap();
    waits.answered(clicked).await.unwrap();
    all_ended(&chats, &ids, Duration::from_secs(30)).await;
    check_requests(&chats);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_limits_and_errors_of_both_chats_at_once_double_nothing_and_lose_nothing() {
    let chats = chats(ChatOptions::new(Way::Signed)).await.unwrap();
    for fault in [
        Fault::DoneButStatus(502),
        Fault::RateLimited(Duration::from_secs(2)),
        Fault::DoneButDrop,
        Fault::Status(500),
        Fault::Drop,
        Fault::RateLimited(Duration::from_secs(1)),
        Fault::DoneButStatus(504),
    ] {
        chats.slack.fail_next(Some(POSTS.0), 1, fault);
        chats.discord.fail_next(Some(POSTS.1), 1, fault);
        chats.slack.fail_next(Some("chat.update"), 1, fault);
        let change = Some("PATCH /channels/{channel}/messages/{message}");
        chats.discord.fail_next(change, 1, fault);
    }
    let mut held = Vec::new();
    for number in 1..=12 {
        let statement = format!("update orders set state = state where id = {number}");
        held.push(Held::open(&chats, &statement).await.unwrap());
    }
    let ids: Vec<String> = held.iter().map(|held| held.id.clone()).collect();
    for held in held {
        let took = held.approve(&chats).await.unwrap();
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
    all_ended(&chats, &ids, Duration::from_secs(60)).await;
    check_requests(&chats);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_that_says_nothing_holds_up_no_card_of_the_other() {
    let chats = chats(ChatOptions::new(Way::Signed)).await.unwrap();
    chats.slack.fail_next(Some(POSTS.0), 1000, Fault::Silent);
    let began = Instant::now();
    let mut ids = Vec::new();
    for number in 1..=8 {
        let statement = format!("update orders set state = state where id = {number}");
        ids.push(Held::open(&chats, &statement).await.unwrap());
    }
    let shown = chats.discord.wait_for("the cards in Discord", |_| {
        let shown = in_discord(&chats);
        ids.iter().all(|held| shown.contains_key(&held.id)).then_some(())
    });
    shown
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", chats.bot_log()));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    check_requests(&chats);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_comes_once_the_bot_is_in_the_channel_and_the_cause_is_told_once() {
    const LATER: &str = "C0LATER";
    let options = ChatOptions {
        route: format!(
            "targets = [\"nothing*\"]\n[[bot.route]]\nchannels = [\"slack:{}:{LATER}\", \"slack:{}:{}\"]",
            slack::TEAM,
            slack::TEAM,
            slack::CHANNEL
        ),
        ..ChatOptions::new(Way::Signed)
    };
    let chats = chats(options).await.unwrap();
    chats.slack.add_channel(slack::TEAM, LATER, "later", false);
    let held = Held::open(&chats, "update orders set state = state where id = 1")
        .await
        .unwrap();
    let told = chats.slack.wait_for("the cause in the log", |_| {
        chats.bot_log().contains("the app is not in the channel").then_some(())
    });
    told.await.unwrap();
    slack_card(&chats).await.unwrap();
    chats.slack.invite(slack::TEAM, LATER);
    let began = Instant::now();
    let card =
        countersign_tests::wait::eventually("the card in the other channel", Duration::from_secs(120), async || {
            chats.slack.messages(slack::TEAM, LATER).pop()
        });
    let card = card
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", chats.bot_log()));
    eprintln!("the card came {:?} after the bot was invited", began.elapsed());
    assert!(card.body.to_string().contains(&held.id));
    held.approve(&chats).await.unwrap();
    let told = chats.bot_log().matches("messages cannot be posted there").count();
    assert_eq!(told, 1, "{}", chats.bot_log());
    let once = chats.slack.wait_for("the outcome in both", |_| {
        let cards = chats.slack.messages(slack::TEAM, LATER);
        let ended = cards.iter().filter(|card| card.body.to_string().contains("UPDATE 1"));
        // The card, and the note below it.
        (ended.count() == 2).then_some(cards.len())
    });
    assert_eq!(once.await.unwrap(), 2);
    // The other channel's note comes after this one's.
    let here = chats.slack.wait_for("the outcome where the bot was before", |_| {
        (in_slack(&chats).into_values().collect::<Vec<_>>() == [ENDED]).then_some(())
    });
    here.await.unwrap();
    check_requests(&chats);
}
