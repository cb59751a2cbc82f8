//! The bot as a Lambda function, under the runtime emulator: what stands still loses nothing and does nothing later.

use crate::chat::{BOB, chats, discord_card, is_open, psql, said, slack_card, the_story};
use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use countersign_infra::domain::secret::Secret;
use countersign_infra::ring::{RingKey, SIGNATURE_HEADER, TIME_HEADER};
use countersign_tests::bot::{ChatOptions, Chats, RING_KEY, Way};
use countersign_tests::chat::Fault;
use countersign_tests::wait::eventually;
use countersign_tests::{discord, slack};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// Chats give up what is not answered by then.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_decided_through_a_function() {
    the_story(Way::Function).await;
}

/// An event of `events/`.
fn documented(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("events")
        .join(format!("{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn body(event: &Value) -> String {
    let body = event["body"].as_str().unwrap();
    match event["isBase64Encoded"].as_bool().unwrap() {
        true => String::from_utf8(STANDARD.decode(body).unwrap()).unwrap(),
        false => body.to_owned(),
    }
}

/// Signs a body as whoever sends it does, with the names of its headers.
fn sign(chats: &Chats, path: &str, body: &str) -> [(&'static str, String); 2] {
    if path.contains("/slack/") {
        let (time, signature) = chats.slack.sign(body);
        [("x-slack-request-timestamp", time), ("x-slack-signature", signature)]
    } else if path.contains("/discord/") {
        let (time, signature) = chats.discord.sign(body);
        [("x-signature-timestamp", time), ("x-signature-ed25519", signature)]
    } else {
        let key = RingKey::new(Secret::new(RING_KEY.to_owned())).unwrap();
        let (time, signature) = key.sign(Utc::now(), body.as_bytes());
        [(TIME_HEADER, time), (SIGNATURE_HEADER, signature)]
    }
}

/// An event of `events/`, signed now.
fn signed(chats: &Chats, name: &str) -> Value {
    let mut event = documented(name);
    for (header, value) in sign(chats, event["rawPath"].as_str().unwrap(), &body(&event)) {
        let place = &mut event["headers"][header];
        assert!(place.is_string(), "{name} has no {header}");
        *place = value.into();
    }
    event
}

/// Puts one byte into the body that was not signed.
fn tamper(event: &mut Value) {
    let text = format!("{} ", body(event));
    event["body"] = match event["isBase64Encoded"].as_bool().unwrap() {
        true => STANDARD.encode(text).into(),
        false => text.into(),
    };
}

fn with_other_case(event: &mut Value) {
    let headers = event["headers"].as_object().unwrap().clone();
    let upper = headers.into_iter().map(|(name, value)| (name.to_uppercase(), value));
    event["headers"] = Value::Object(upper.collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_events_are_answered_and_those_whose_body_was_changed_are_refused() {
    let chats = chats(ChatOptions::new(Way::Function)).await.unwrap();
    let function = chats.function().unwrap();
    let no_approval = "There is no approval QJF6HN4C";
    for (name, status, wanted) in [
        ("slack-button.function-url", 200, ""),
        ("slack-button.http-api", 200, ""),
        ("slack-form.function-url", 200, no_approval),
        ("slack-url-verification.http-api-stage", 200, "3eZbrw1aBm2rZgRNFdxV"),
        ("slack-command.http-api-stage", 200, "/countersign pending"),
        ("discord-ping.function-url", 200, "{\"type\":1}"),
        ("discord-command.http-api", 200, "Nothing waits"),
        ("discord-modal.function-url", 200, no_approval),
        ("discord-button.http-api", 200, no_approval),
        ("discord-button.function-url", 200, no_approval),
        ("ring.function-url", 404, ""),
        ("ring.http-api-stage", 404, ""),
    ] {
        let mut tampered = signed(&chats, name);
        tamper(&mut tampered);
        let answer = function.invoke(&tampered).await.unwrap();
        assert_eq!(answer["statusCode"], 401, "{name}, tampered: {answer}");

        let answer = function.invoke(&signed(&chats, name)).await.unwrap();
        assert_eq!(answer["statusCode"], status, "{name}: {answer}");
        let text = answer["body"].as_str().unwrap_or_default();
        let is_empty = wanted.is_empty() && text.is_empty();
        assert!(
            is_empty || (!wanted.is_empty() && text.contains(wanted)),
            "{name}: {answer}"
        );
    }
    let told = chats.slack.wait_for("the answers to both clicks", |slack| {
        let told = slack.ephemerals(slack::TEAM, BOB.0).into_iter();
        let told = told.filter(|message| message.text().contains(no_approval));
        (told.count() == 2).then_some(())
    });
    told.await.unwrap();

    // HTTP has no case of headers, whatever stands before the function.
    let mut event = signed(&chats, "ring.http-api-stage");
    with_other_case(&mut event);
    assert_eq!(function.invoke(&event).await.unwrap()["statusCode"], 404);
    // Only the stage that the event names stands before the path: this leads nowhere, where nobody looks at a signature.
    let mut event = signed(&chats, "ring.http-api-stage");
    tamper(&mut event);
    event["requestContext"]["stage"] = "other".into();
    event["rawPath"] = "/other/prod/ring".into();
    assert_eq!(function.invoke(&event).await.unwrap()["statusCode"], 404);
}

/// How long a request takes until it is answered.
async fn timed<T>(request: impl Future<Output = Result<T>>) -> (T, Duration) {
    let asked = Instant::now();
    let answer = request.await.unwrap();
    (answer, asked.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_too_late_is_told_before_the_function_stands_still() {
    let chats = chats(ChatOptions::new(Way::Function)).await.unwrap();
    let waiting = psql(&chats, "delete from orders where id = 7");
    let card = slack_card(&chats).await.unwrap();
    discord_card(&chats).await.unwrap();
    chats.function().unwrap().stands_still().await.unwrap();

    // Slack takes the form for the reason, and does not say so.
    chats.slack.fail_next(Some("views.open"), 1, Fault::Silent);
    let bob = chats.slack.person(slack::TEAM, BOB.0);
    let (answer, took) = timed(bob.click(slack::CHANNEL, &card.ts, "deny")).await;
    assert_eq!(answer.status, 200);
    assert!(took < ANSWER_LIMIT, "{took:?}");
    let could_not = |slack: &slack::Slack| {
        let mut told = slack.ephemerals(slack::TEAM, BOB.0).into_iter();
        told.find(|message| message.text().contains("could not be opened"))
    };
    assert!(could_not(&chats.slack).is_none(), "Slack has not been given up yet");
    chats.slack.wait_for("what became of it", could_not).await.unwrap();

    bob.click(slack::CHANNEL, &card.ts, "approve").await.unwrap();
    let output = waiting.await.unwrap().unwrap();
    assert!(said(&output).contains("DELETE 1"), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_that_end_after_an_answer_lose_nothing() {
    let mut chats = chats(ChatOptions::new(Way::Function)).await.unwrap();
    let waiting = psql(&chats, "delete from orders where id = 7");
    let card = slack_card(&chats).await.unwrap();
    discord_card(&chats).await.unwrap();
    let bob = chats.slack.person(slack::TEAM, BOB.0);
    let (answer, took) = timed(bob.click(slack::CHANNEL, &card.ts, "approve")).await;
    for sandbox in chats.function().unwrap().sandboxes() {
        sandbox.end().unwrap();
    }
    assert_eq!(answer.status, 200);
    assert!(took < ANSWER_LIMIT, "{took:?}");
    // The vote was written before it was answered.
    let output = waiting.await.unwrap().unwrap();
    assert!(said(&output).contains("DELETE 1"), "{}", said(&output));
    chats.stop_bot();
    chats.start_bot().await.unwrap();
    chats
        .slack
        .wait_for("the outcome on the card", |slack| {
            let messages = slack.messages(slack::TEAM, slack::CHANNEL).into_iter();
            let mut cards = messages.filter(|message| message.ts == card.ts);
            cards.find(|card| !is_open(&card.buttons()) && card.body.to_string().contains("DELETE 1"))
        })
        .await
        .unwrap();
    let cards = |text: String| text.contains("delete from orders where id = 7");
    let in_slack = chats.slack.messages(slack::TEAM, slack::CHANNEL).into_iter();
    assert_eq!(
        in_slack
            .filter(|message| message.thread_ts.is_none() && cards(message.body.to_string()))
            .count(),
        1
    );
    let in_discord = chats.discord.messages(discord::CHANNEL).into_iter();
    assert_eq!(in_discord.filter(|message| cards(message.body.to_string())).count(), 1);
    let (code, audit) = chats.world.gateway.run("bob", &["audit", "--limit", "50"]).unwrap();
    assert_eq!(code, 0, "{audit}");
    let text = card.text();
    let id = text.split_whitespace().next().unwrap();
    let voted = |line: &str| line.contains(&format!("{id} approve")) && !line.contains("does not count");
    assert!(audit.lines().any(voted), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_is_answered_in_time_and_its_card_is_posted_once_however_slow_the_chat_is() {
    let chats = chats(ChatOptions::new(Way::Function)).await.unwrap();
    chats.slack.fail_next(Some("chat.postMessage"), 1, Fault::Silent);
    let waiting = psql(&chats, "delete from orders where id = 7");
    let number = chats.world.waiting().await.unwrap().number;
    let asked = "the bot asks Slack";
    let posts = |slack: &slack::Slack| {
        slack
            .requests()
            .into_iter()
            .find(|request| request.method == "chat.postMessage")
    };
    chats.slack.wait_for(asked, posts).await.unwrap();
    // Rings that come meanwhile find somebody at it.
    let key = RingKey::new(Secret::new(RING_KEY.to_owned())).unwrap();
    let mut event = documented("ring.function-url");
    let ring = format!(r#"{{"approval":"{number}"}}"#);
    let (time, signature) = key.sign(Utc::now(), ring.as_bytes());
    event["headers"][TIME_HEADER] = time.into();
    event["headers"][SIGNATURE_HEADER] = signature.into();
    event["body"] = ring.into();
    let function = chats.function().unwrap();
    let (answer, took) = timed(function.invoke(&event)).await;
    assert_eq!(answer["statusCode"], 202, "{answer}");
    assert!(took < ANSWER_LIMIT, "{took:?}");
    let cards = || {
        let messages = chats.slack.messages(slack::TEAM, slack::CHANNEL).into_iter();
        messages.filter(|message| is_open(&message.buttons())).count()
    };
    let card = eventually("the card", Duration::from_secs(60), async || {
        (cards() > 0).then_some(())
    });
    card.await.unwrap();
    function.stands_still().await.unwrap();
    assert_eq!(cards(), 1);
    discord_card(&chats).await.unwrap();
    let log = chats.world.gateway.log();
    assert!(!log.contains("the bot does not take rings"), "{log}");
    let rings = function.sandboxes().iter().map(|sandbox| sandbox.events()).sum::<u64>();
    // Pauses between rings double: no storm while a chat is slow.
    assert!(rings < 40, "{rings} events for one card");
    waiting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_scope_is_named_at_a_start() {
    let mut chats = chats(ChatOptions::new(Way::Function)).await.unwrap();
    chats.stop_bot();
    chats.slack.take_scope(slack::TEAM, "chat:write");
    chats.start_bot().await.unwrap();
    chats.function().unwrap().stands_still().await.unwrap();
    let log = chats.bot_log();
    assert!(log.contains("chat:write"), "{log}");
}
