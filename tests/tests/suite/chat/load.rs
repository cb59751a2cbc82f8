//! Many approvals, and several bots: every card stands once in each chat, with its outcome, and decisions do not wait.

use super::held::{Held, Session, all_ended};
use super::{ALICE, BOB, check_requests};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use countersign_tests::bot::{ChatOptions, Chats, Way};
use countersign_tests::ports::free_port;
use countersign_tests::{discord, slack};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const TWO_BOTS: u32 = 36;
const MANY: u32 = 500;
/// Connections that hold one statement after another.
const SESSIONS: u32 = 50;
const MINUTE: Duration = Duration::from_secs(60);
/// Messages a second in one channel. Slack takes about one, Discord too: then a thousand messages would take a quarter of an
/// hour. The chats here are as much faster as the test is shorter.
const A_SECOND: f64 = 15.0;

/// A world with one decider who is linked: alice is not written to, so that what is counted are the channels.
async fn chats(options: ChatOptions) -> Chats {
    let chats = Chats::start(options).await.unwrap();
    for (name, (slack_user, discord_user)) in [("alice", ALICE), ("bob", BOB)] {
        chats.slack.add_user(slack::TEAM, slack::User::member(slack_user, name));
        chats.discord.add_member(discord::User::member(discord_user, name));
    }
    chats.link("bob", &["dba"], BOB.0, BOB.1).await.unwrap();
    chats
}

fn statement(number: u32) -> String {
    format!("update orders set state = state where id = {}", 1 + number % 60)
}

/// Where gateways ring: hands each ring to every bot, as it is.
async fn spread(port: u16, bots: Arc<Mutex<Vec<u16>>>) {
    async fn ring(State(bots): State<Arc<Mutex<Vec<u16>>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
        let bots = bots.lock().unwrap().clone();
        let rung = bots.into_iter().map(|port| {
            let url = format!("http://127.0.0.1:{port}/ring");
            let ring = reqwest::Client::new().post(url).body(body.clone());
            let ring = headers
                .iter()
                .filter(|(name, _)| name.as_str().starts_with("x-countersign"))
                .fold(ring, |ring, (name, value)| ring.header(name, value));
            async move { ring.send().await.ok().map(|answer| answer.status()) }
        });
        let answers = futures_util::future::join_all(rung).await;
        let answers = answers.into_iter().flatten();
        answers.min().unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
    }
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let router = Router::new().route("/ring", post(ring)).with_state(bots);
    tokio::spawn(async move { axum::serve(listener, router).await });
}

async fn two_bots(way: Way) {
    let (port, bots) = (free_port().unwrap(), Arc::default());
    spread(port, Arc::clone(&bots)).await;
    let mut chats = chats(ChatOptions {
        ring_url: Some(format!("http://127.0.0.1:{port}").parse().unwrap()),
        ..ChatOptions::new(way)
    })
    .await;
    let (_another, other) = chats.another_bot().await.unwrap();
    bots.lock().unwrap().extend([chats.bot_port(), other]);

    let mut held = Vec::new();
    for number in 0..TWO_BOTS {
        held.push(Held::open(&chats, &statement(number)).await.unwrap());
        if number == TWO_BOTS / 2 {
            // In the midst of what it posts.
            chats.kill_bot().unwrap();
            bots.lock().unwrap().retain(|port| *port == other);
        }
    }
    let ids: Vec<String> = held.iter().map(|held| held.id.clone()).collect();
    let mut latencies = Vec::new();
    for held in held {
        latencies.push(held.approve(&chats).await.unwrap());
    }
    // What the dead bot was at is taken up when its turn is over.
    all_ended(&chats, &ids, Duration::from_secs(60)).await;
    check_latencies("two bots", latencies);
    check_requests(&chats);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_bots_that_connect_show_each_approval_once_though_one_is_killed() {
    two_bots(Way::Connected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_bots_that_take_signed_requests_show_each_approval_once_though_one_is_killed() {
    two_bots(Way::Signed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_five_hundred_approvals_in_a_minute_no_card_is_lost_or_doubled_and_no_decision_waits() {
    let chats = Arc::new(chats(ChatOptions::new(Way::Connected)).await);
    chats.slack.limit("chat.postMessage", A_SECOND);
    chats.discord.limit("POST /channels/{channel}/messages", A_SECOND);
    let began = Instant::now();
    let mut running = JoinSet::new();
    for session in 0..SESSIONS {
        let chats = Arc::clone(&chats);
        running.spawn(async move {
            let mut connection = Session::open(&chats).await.unwrap();
            let mut decided = Vec::new();
            for number in (session..MANY).step_by(SESSIONS as usize) {
                tokio::time::sleep_until((began + MINUTE * number / MANY).into()).await;
                let held = connection.hold(&statement(number)).await.unwrap();
                let id = held.id.clone();
                // Some are decided before a chat can have shown them, some after.
                tokio::time::sleep(Duration::from_millis(u64::from(number % 8) * 500)).await;
                decided.push((id, held.approve(&chats).await.unwrap()));
            }
            decided
        });
    }
    let decided = running.join_all().await.into_iter().flatten();
    let took = began.elapsed();
    let (ids, latencies): (Vec<String>, Vec<Duration>) = decided.unzip();
    assert_eq!(ids.len(), MANY as usize);
    check_latencies("five hundred in a minute", latencies);
    all_ended(&chats, &ids, Duration::from_secs(80)).await;
    let requests = chats.slack.requests().len() + chats.discord.requests().len();
    eprintln!(
        "all decided after {took:?}, all shown after {:?}, by {requests} requests",
        began.elapsed()
    );
    check_requests(&chats);
}

/// Decisions take what they take without a chat: figures say 0.2 s. The bounds leave room for tests that run beside.
fn check_latencies(what: &str, mut latencies: Vec<Duration>) {
    latencies.sort();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    let (half, most) = (at(50), at(99));
    eprintln!("{what}: from the vote to the statement's answer p50 {half:?}, p99 {most:?}");
    assert!(half < Duration::from_secs(1), "p50 {half:?}");
    assert!(most < Duration::from_secs(5), "p99 {most:?}");
}
