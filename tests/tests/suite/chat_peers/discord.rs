//! discord.js and `discord-interactions` against the fake Discord, by its Gateway and by signed requests.

use super::{Bot, drivers, node, python};
use countersign_tests::chat::{Fault, Request, Seal};
use countersign_tests::discord::{APPLICATION, CHANNEL, Discord, GUILD, Message, User};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

const BOB: &str = "1100000000000000042";

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Gateway,
    Http,
}

async fn check(mode: Mode) {
    let discord = Discord::start().await.unwrap();
    discord.add_member(User::member(BOB, "bob"));
    discord.heartbeat(Duration::from_millis(500));
    let variables = BTreeMap::from([
        ("DISCORD_API", discord.api_url()),
        ("DISCORD_TOKEN", discord.token()),
        ("DISCORD_KEY", discord.public_key()),
        ("APPLICATION", APPLICATION.to_owned()),
        ("GUILD", GUILD.to_owned()),
        ("CHANNEL", CHANNEL.to_owned()),
        ("PERSON", BOB.to_owned()),
    ]);
    // One refusal for now is nothing to a client that waits as it is told.
    discord.fail_next(None, 1, Fault::RateLimited(Duration::from_millis(300)));
    let argument = if mode == Mode::Gateway { "gateway" } else { "http" };
    let bot = Bot::start(node(), &["discord_js.mjs", argument], variables).await;
    if mode == Mode::Http {
        let url = format!("http://127.0.0.1:{}/", bot.port);
        discord.use_endpoint(Some(url.parse().unwrap()));
    }
    what_was_written_is_kept(&discord);
    a_card_is_approved(&discord).await;
    a_card_is_denied_for_a_reason(&discord).await;
    a_quiet_answer_is_for_one(&discord).await;
    match mode {
        Mode::Gateway => what_sessions_do(&discord).await,
        Mode::Http => what_signatures_do(&discord).await,
    }
    bot.end().await;
    let requests = discord.requests();
    let said = faults(&requests);
    let described = said
        .trim()
        .strip_suffix(" requests")
        .unwrap_or_else(|| panic!("{said}"));
    let described: usize = described.parse().unwrap_or_else(|_| panic!("{said}"));
    assert!(described >= 14, "{described}");
}

fn what_was_written_is_kept(discord: &Discord) {
    let direct = discord.direct_messages(BOB);
    assert_eq!(direct.iter().map(Message::content).collect::<Vec<_>>(), ["two"]);
    assert_eq!(direct[0].files, [("operation.sql".to_owned(), b"select 1".to_vec())]);
    let top = discord.messages(CHANNEL).remove(0);
    assert_eq!(discord.messages(&top.id).remove(0).content(), "in the thread");
}

/// A command makes a card. Gives it.
async fn card(discord: &Discord, title: &str) -> Message {
    let options = json!([{"name": "text", "type": 3, "value": title}]);
    discord
        .person(BOB)
        .command(CHANNEL, "countersign", options)
        .await
        .unwrap();
    let posted = |discord: &Discord| with_title(discord, title);
    discord.wait_for("a card", posted).await.unwrap()
}

fn with_title(discord: &Discord, title: &str) -> Option<Message> {
    let mut all = discord.messages(CHANNEL);
    all.retain(|message| message.body["embeds"][0]["title"] == json!(title));
    all.pop()
}

async fn a_card_is_approved(discord: &Discord) {
    let card = card(discord, "first").await;
    assert_eq!(card.buttons(), ["Approve", "Deny"]);
    let bob = discord.person(BOB);
    let answer = bob.click(CHANNEL, &card.id, "approve:K7Q2M4XA").await.unwrap();
    assert_eq!(answer.body["type"], 7);
    let changed = with_title(discord, &format!("approved by {BOB}")).unwrap();
    assert_eq!(
        (changed.id.as_str(), changed.edits > card.edits),
        (card.id.as_str(), true)
    );
    assert!(changed.buttons().is_empty());
    assert!(bob.click(CHANNEL, &card.id, "approve:K7Q2M4XA").await.is_err());
}

async fn a_card_is_denied_for_a_reason(discord: &Discord) {
    let card = card(discord, "second").await;
    let bob = discord.person(BOB);
    let answer = bob.click(CHANNEL, &card.id, "deny:K7Q2M4XA").await.unwrap();
    assert_eq!(answer.body["type"], 9);
    let modal = discord.modals(BOB).pop().unwrap();
    bob.submit(&modal, &[("reason", "too risky")]).await.unwrap();
    assert_eq!(discord.messages(CHANNEL).pop().unwrap().content(), "denied: too risky");
}

async fn a_quiet_answer_is_for_one(discord: &Discord) {
    let before = discord.messages(CHANNEL).len();
    let options = json!([{"name": "text", "type": 3, "value": "quiet"}]);
    let answer = discord
        .person(BOB)
        .command(CHANNEL, "countersign", options)
        .await
        .unwrap();
    assert_eq!(answer.body["type"], 5);
    let said = |discord: &Discord| Some(discord.ephemerals(BOB)).filter(|said| said.len() == 2);
    let said = discord.wait_for("two answers", said).await.unwrap();
    assert_eq!(said[0].body["embeds"][0]["title"], "quiet");
    assert_eq!(
        (said[0].body["flags"].as_u64(), said[1].content()),
        (Some(64), "and more")
    );
    assert_eq!(discord.messages(CHANNEL).len(), before);
}

async fn what_sessions_do(discord: &Discord) {
    let before = discord.sessions();
    assert_eq!(before.len(), 1);
    discord.reconnect();
    comes_back(discord).await;
    assert_eq!(discord.sessions(), before, "it resumes");
    card(discord, "after a reconnect").await;
    discord.close(4000);
    comes_back(discord).await;
    card(discord, "after a close").await;
    discord.invalidate(false);
    comes_back(discord).await;
    assert_ne!(discord.sessions(), before, "it identifies anew");
    card(discord, "after an invalid session").await;
}

async fn comes_back(discord: &Discord) {
    let connected = |discord: &Discord| (discord.connections() == 1).then_some(());
    discord.wait_for("a session", connected).await.unwrap();
}

async fn what_signatures_do(discord: &Discord) {
    discord.probe().await.unwrap();
    let options = json!([{"name": "text", "type": 3, "value": "forged"}]);
    for seal in [Seal::Forged, Seal::Aged(Duration::from_secs(301)), Seal::None] {
        discord.seal(seal);
        let answer = discord
            .person(BOB)
            .command(CHANNEL, "countersign", options.clone())
            .await
            .unwrap();
        assert_eq!(answer.status, 401, "{seal:?}");
    }
    discord.seal(Seal::Good);
    assert!(with_title(discord, "forged").is_none());
}

/// What Discord's description finds wrong with requests, a line each; at the end how many it describes.
pub fn faults(requests: &[Request]) -> String {
    let lines = requests
        .iter()
        .map(|request| json!({"method": request.method, "body": request.body}));
    let lines: String = lines.map(|line| format!("{line}\n")).collect();
    let mut checker = Command::new(python())
        .arg(drivers().join("check_discord.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = checker.stdin.take().unwrap();
    let writing = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = checker.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discord_js_works_over_the_gateway() {
    check(Mode::Gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discord_interactions_verifies_signed_requests() {
    check(Mode::Http).await;
}

#[test]
fn a_request_that_discord_would_refuse_is_noticed() {
    let request = |body: Value| Request {
        method: "POST /channels/{channel}/messages".to_owned(),
        path: String::new(),
        body,
        when: chrono::Utc::now(),
    };
    let bad = request(json!({"embeds": [{"title": "x".repeat(257)}]}));
    assert_eq!(faults(&[request(json!({"content": "x"}))]).trim(), "1 requests");
    assert!(faults(&[bad]).lines().count() > 1);
}
