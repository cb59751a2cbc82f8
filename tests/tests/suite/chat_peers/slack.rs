//! `@slack/bolt` and `slack_bolt` against the fake Slack, in both modes.

use super::{Bot, node, python};
use countersign_tests::chat::Seal;
use countersign_tests::slack::{CHANNEL, Endpoints, Message, Slack, TEAM, User};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const BOB: &str = "U0BOB";

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Socket,
    Http,
}

async fn start(program: PathBuf, script: &str, mode: Mode) -> (Slack, Bot) {
    let slack = Slack::start().await.unwrap();
    let bob = User::member(BOB, "bob");
    let variables = BTreeMap::from([
        ("SLACK_API_URL", slack.api_url()),
        ("SLACK_APP", slack.app_token()),
        ("SLACK_BOT", slack.bot_token(TEAM)),
        ("SLACK_SECRET", slack.signing_secret()),
        ("CHANNEL", CHANNEL.to_owned()),
        ("PERSON", BOB.to_owned()),
        ("PERSON_EMAIL", bob.email.clone().unwrap()),
    ]);
    slack.add_user(TEAM, bob);
    let argument = if mode == Mode::Socket { "socket" } else { "http" };
    let bot = Bot::start(program, &[script, argument], variables).await;
    if mode == Mode::Http {
        let url = format!("http://127.0.0.1:{}/slack/events", bot.port);
        let url: url::Url = url.parse().unwrap();
        slack.use_endpoints(Some(Endpoints {
            interactions: url.clone(),
            commands: url.clone(),
            events: url,
        }));
    }
    (slack, bot)
}

async fn check(program: PathBuf, script: &str, mode: Mode) {
    let (slack, bot) = start(program, script, mode).await;
    a_direct_message_and_a_file_are_kept(&slack);
    a_card_is_approved(&slack).await;
    a_card_is_denied_for_a_reason(&slack).await;
    an_event_is_heard(&slack).await;
    match mode {
        Mode::Socket => what_sockets_do(&slack).await,
        Mode::Http => what_signatures_do(&slack).await,
    }
    bot.end().await;
}

fn a_direct_message_and_a_file_are_kept(slack: &Slack) {
    let direct = slack.direct_messages(TEAM, BOB);
    assert_eq!(direct.iter().map(Message::text).collect::<Vec<_>>()[..1], ["below"]);
    let file = slack.files(TEAM).remove(0);
    assert_eq!(
        (file.name.as_str(), file.content.as_slice()),
        ("operation.sql", &b"select 1"[..])
    );
    assert_eq!(slack.ephemerals(TEAM, BOB).remove(0).text(), "only you");
}

/// A command makes a card. Gives it.
async fn card(slack: &Slack, text: &str) -> Message {
    let answer = slack
        .person(TEAM, BOB)
        .command(CHANNEL, "/countersign", text)
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    let said = answer.body.as_str().or(answer.body["text"].as_str());
    assert_eq!(said, Some("posting"));
    let posted = |slack: &Slack| {
        let mut all = slack.messages(TEAM, CHANNEL);
        all.retain(|message| message.text() == text);
        all.pop()
    };
    slack.wait_for("a card", posted).await.unwrap()
}

async fn a_card_is_approved(slack: &Slack) {
    let card = card(slack, "first").await;
    assert_eq!(card.buttons(), ["Approve", "Deny"]);
    assert_eq!(card.body["metadata"]["event_payload"], json!({"approval": "K7Q2M4XA"}));
    let answer = slack
        .person(TEAM, BOB)
        .click(CHANNEL, &card.ts, "approve")
        .await
        .unwrap();
    assert_eq!((answer.status, answer.deliveries), (200, 1));
    let changed = |slack: &Slack| {
        slack
            .messages(TEAM, CHANNEL)
            .into_iter()
            .find(|message| message.edits == 1)
    };
    let changed = slack.wait_for("the card to change", changed).await.unwrap();
    assert_eq!(
        (changed.ts.as_str(), changed.text()),
        (card.ts.as_str(), "approved by U0BOB")
    );
    assert!(changed.buttons().is_empty());
    assert!(
        slack
            .person(TEAM, BOB)
            .click(CHANNEL, &card.ts, "approve")
            .await
            .is_err()
    );
    let thanked = |slack: &Slack| slack.ephemerals(TEAM, BOB).pop().filter(|said| said.text() == "thanks");
    slack.wait_for("thanks", thanked).await.unwrap();
}

async fn a_card_is_denied_for_a_reason(slack: &Slack) {
    let card = card(slack, "second").await;
    let bob = slack.person(TEAM, BOB);
    bob.click(CHANNEL, &card.ts, "deny").await.unwrap();
    let view = slack
        .wait_for("a modal", |slack| slack.views(TEAM, BOB).pop())
        .await
        .unwrap();
    let answer = bob.submit(&view, &[("reason", "text", "no")]).await.unwrap();
    assert_eq!(answer.body["response_action"], "errors");
    assert!(slack.views(TEAM, BOB)[0].is_open);
    bob.submit(&view, &[("reason", "text", "too risky")]).await.unwrap();
    assert!(!slack.views(TEAM, BOB)[0].is_open);
    let answered = |slack: &Slack| slack.replies(TEAM, CHANNEL, &card.ts).pop();
    let reply = slack.wait_for("an answer in the thread", answered).await.unwrap();
    assert_eq!(reply.text(), "denied: too risky");
}

async fn an_event_is_heard(slack: &Slack) {
    let event = json!({"type": "app_mention", "user": BOB, "text": "hi", "ts": "1700000000.000100",
        "channel": CHANNEL, "event_ts": "1700000000.000100"});
    assert_eq!(slack.event(TEAM, event).await.unwrap().status, 200);
    let heard = |slack: &Slack| {
        slack
            .messages(TEAM, CHANNEL)
            .pop()
            .filter(|said| said.text() == "hello U0BOB")
    };
    slack.wait_for("a greeting", heard).await.unwrap();
}

async fn what_sockets_do(slack: &Slack) {
    slack.redeliver_after(Duration::from_millis(500));
    let late = slack
        .person(TEAM, BOB)
        .command(CHANNEL, "/countersign", "late")
        .await
        .unwrap();
    assert_eq!(late.deliveries, 2, "what is not acknowledged comes again");
    slack.redeliver_after(Duration::from_secs(3));
    slack.disconnect("refresh_requested");
    card(slack, "after a refresh").await;
    slack.outage(true);
    assert_eq!(slack.connections(), 0);
    slack.outage(false);
    card(slack, "after an outage").await;
}

async fn what_signatures_do(slack: &Slack) {
    assert_eq!(
        slack.challenge("3eZbrw1aB").await.unwrap().body["challenge"],
        "3eZbrw1aB"
    );
    for seal in [Seal::Forged, Seal::Aged(Duration::from_secs(301)), Seal::None] {
        slack.seal(seal);
        let answer = slack
            .person(TEAM, BOB)
            .command(CHANNEL, "/countersign", "forged")
            .await
            .unwrap();
        assert!((400..500).contains(&answer.status), "{seal:?}: {answer:?}");
    }
    slack.seal(Seal::Good);
    assert!(
        slack
            .messages(TEAM, CHANNEL)
            .iter()
            .all(|message| message.text() != "forged")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slack_bolt_for_node_works_over_sockets() {
    check(node(), "slack_bolt.mjs", Mode::Socket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slack_bolt_for_node_works_over_http() {
    check(node(), "slack_bolt.mjs", Mode::Http).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slack_bolt_for_python_works_over_sockets() {
    check(python(), "slack_bolt_test.py", Mode::Socket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slack_bolt_for_python_works_over_http() {
    check(python(), "slack_bolt_test.py", Mode::Http).await;
}
