use super::*;
use crate::answer::Answers;
use crate::chat::inbound::BODY_BYTES_MAX;
use crate::chat::slack::example::{self, Script};
use crate::chat::{Answer, Ask};
use axum::body::Bytes;
use axum::http::Request;
use proptest::prelude::*;
use serde_json::Value;
use std::sync::LazyLock;
use std::time::Duration;
use tower::ServiceExt;

/// A request as Slack sends it, and what may be wrong with it.
struct Sent {
    path: &'static str,
    body: Vec<u8>,
    signed_body: Vec<u8>,
    secret: &'static str,
    age_seconds: i64,
}

impl Sent {
    fn new(path: &'static str, body: Vec<u8>) -> Self {
        Self {
            path,
            signed_body: body.clone(),
            body,
            secret: "one",
            age_seconds: 0,
        }
    }

    fn request(&self) -> Request<Body> {
        let timestamp = (Utc::now().timestamp() - self.age_seconds).to_string();
        let mac = example::mac(self.secret, &timestamp, &self.signed_body);
        Request::post(self.path)
            .header(TIMESTAMP, timestamp)
            .header(SIGNATURE, format!("v0={}", hex::encode(mac)))
            .body(Body::from(self.body.clone()))
            .unwrap()
    }
}

fn click() -> Sent {
    Sent::new(
        "/slack/interactions",
        example::form(&example::click("approve", "QJF6HN4C")),
    )
}

fn command() -> Sent {
    Sent::new("/slack/commands", example::command("pending"))
}

/// Two workspaces of secrets of their own, and a third that shares the first one's app.
fn intake(script: &Arc<Script>) -> Arc<SlackIntake> {
    let chat = |team, secret| Arc::new(SlackChat::new(example::workspace(team, secret), false).unwrap());
    let chats = vec![chat("T1", "one"), chat("T2", "two"), chat("T3", "one")];
    SlackIntake::new(chats, Arc::clone(script) as Arc<dyn Answers>)
}

async fn send(intake: &Arc<SlackIntake>, request: Request<Body>) -> (StatusCode, Value) {
    let response = router(Arc::clone(intake)).oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), BODY_BYTES_MAX)
        .await
        .unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn check(sent: Sent, why: Turned, status: StatusCode) {
    let script = Script::silent();
    let intake = intake(&script);
    assert_eq!(send(&intake, sent.request()).await.0, status, "{why:?}");
    assert_eq!(intake.counters().of(why), 1, "{why:?}");
    assert_eq!(script.asked(), [], "{why:?}");
}

#[tokio::test]
async fn a_signed_click_is_answered_with_its_evidence() {
    let script = Script::silent();
    let intake = intake(&script);
    let sent = click();
    assert_eq!(send(&intake, sent.request()).await.0, StatusCode::OK);
    let request = script.requests().remove(0);
    assert_eq!(request.account.to_string(), "slack:T1:U1");
    assert_eq!(request.evidence.payload, Digest::of(&sent.body));
    assert!(inbound::is_fresh(request.evidence.signed.unwrap(), Utc::now()));
}

#[tokio::test]
async fn what_is_tampered_stale_foreign_or_unsigned_is_unauthorized() {
    let unauthorized = StatusCode::UNAUTHORIZED;
    let mut tampered = click();
    tampered.body.push(b' ');
    check(tampered, Turned::Tampered, unauthorized).await;
    check(
        Sent {
            secret: "three",
            ..click()
        },
        Turned::Tampered,
        unauthorized,
    )
    .await;
    check(
        Sent {
            age_seconds: 302,
            ..click()
        },
        Turned::Stale,
        unauthorized,
    )
    .await;
    check(
        Sent {
            age_seconds: -302,
            ..click()
        },
        Turned::Stale,
        unauthorized,
    )
    .await;
    check(
        Sent {
            secret: "two",
            ..click()
        },
        Turned::Foreign,
        unauthorized,
    )
    .await;
    check(
        Sent {
            secret: "two",
            ..command()
        },
        Turned::Foreign,
        unauthorized,
    )
    .await;
    for (field, other) in [
        ("team", json!({"id": "T4"})),
        ("api_app_id", json!("A2")),
        ("api_app_id", json!(null)),
    ] {
        let mut foreign = example::click("approve", "QJF6HN4C");
        foreign[field] = other;
        let foreign = Sent::new("/slack/interactions", example::form(&foreign));
        check(foreign, Turned::Foreign, unauthorized).await;
    }
}

#[tokio::test]
async fn a_signature_that_is_none_is_unauthorized() {
    for (name, value) in [
        (SIGNATURE, "v0="),
        (SIGNATURE, "v0=zz"),
        (SIGNATURE, "v1=00"),
        (SIGNATURE, ""),
        (TIMESTAMP, "-1"),
        (TIMESTAMP, "now"),
        (TIMESTAMP, "9223372036854775807"),
    ] {
        let script = Script::silent();
        let intake = intake(&script);
        let mut request = click().request();
        request.headers_mut().insert(name, value.parse().unwrap());
        assert_eq!(
            send(&intake, request).await.0,
            StatusCode::UNAUTHORIZED,
            "{name}: {value}"
        );
        let mut request = click().request();
        request.headers_mut().remove(name);
        assert_eq!(send(&intake, request).await.0, StatusCode::UNAUTHORIZED, "no {name}");
        assert_eq!(script.asked(), []);
    }
}

#[tokio::test]
async fn the_body_is_verified_before_it_is_read() {
    let unread = Sent {
        secret: "three",
        ..Sent::new("/slack/interactions", b"payload={".to_vec())
    };
    check(unread, Turned::Tampered, StatusCode::UNAUTHORIZED).await;
    let unread = Sent::new("/slack/interactions", b"payload={".to_vec());
    check(unread, Turned::Malformed, StatusCode::BAD_REQUEST).await;
    // A body that was not decoded on its way here is not the one that was signed.
    let mut encoded = click();
    encoded.body = b"cGF5bG9hZD17fQ==".to_vec();
    check(encoded, Turned::Tampered, StatusCode::UNAUTHORIZED).await;
}

#[tokio::test]
async fn a_repeat_is_told_that_it_arrived_and_changes_nothing() {
    let script = Script::silent();
    let intake = intake(&script);
    for age_seconds in [0, 2, 4] {
        let sent = Sent { age_seconds, ..click() };
        assert_eq!(send(&intake, sent.request()).await.0, StatusCode::OK);
    }
    assert_eq!((script.asked().len(), intake.counters().of(Turned::Resent)), (1, 2));
}

#[tokio::test]
async fn a_copy_of_a_request_is_unauthorized() {
    let challenge = json!({"type": "url_verification", "challenge": "3eZb"}).to_string();
    let told =
        json!({"type": "event_callback", "team_id": "T1", "api_app_id": "A1", "event": {"type": "x"}}).to_string();
    let event = |body: String| Sent::new("/slack/events", body.into_bytes());
    for sent in [click(), command(), event(challenge), event(told)] {
        let script = Script::silent();
        let intake = intake(&script);
        let (parts, _) = sent.request().into_parts();
        let copy = || Request::from_parts(parts.clone(), Body::from(sent.body.clone()));
        assert_eq!(send(&intake, copy()).await.0, StatusCode::OK, "{}", sent.path);
        let asked = script.asked().len();
        for _ in 0..2 {
            assert_eq!(send(&intake, copy()).await.0, StatusCode::UNAUTHORIZED, "{}", sent.path);
        }
        assert_eq!(
            (script.asked().len(), intake.counters().of(Turned::Repeated)),
            (asked, 2)
        );
    }
}

#[tokio::test]
async fn workspaces_that_share_an_app_are_told_apart() {
    let script = Script::silent();
    let intake = intake(&script);
    let mut third = example::click("approve", "QJF6HN4C");
    third["team"] = json!({"id": "T3"});
    let sent = Sent::new("/slack/interactions", example::form(&third));
    assert_eq!(send(&intake, sent.request()).await.0, StatusCode::OK);
    assert_eq!(script.requests().remove(0).account.to_string(), "slack:T3:U1");
}

#[tokio::test]
async fn large_bodies_are_taken_up_to_their_bound() {
    let script = Script::silent();
    let intake = intake(&script);
    let text = "\u{5e9}".repeat(100_000);
    let sent = Sent::new("/slack/commands", example::command(&text));
    assert_eq!(send(&intake, sent.request()).await.0, StatusCode::OK);
    assert_eq!(script.asked(), [Ask::Command { text }]);
    let larger = Sent::new("/slack/commands", vec![b'a'; BODY_BYTES_MAX + 1]);
    check(larger, Turned::TooLarge, StatusCode::PAYLOAD_TOO_LARGE).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_not_waited_for() {
    let intake = intake(&Script::silent());
    let (parts, _) = click().request().into_parts();
    let endless = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    let (status, _) = send(&intake, Request::from_parts(parts, endless)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_command_is_answered_in_the_response_for_this_person_alone() {
    let intake = intake(&Script::answering(Answer::say("Nothing waits, <@U1>.")));
    let (status, message) = send(&intake, command().request()).await;
    assert_eq!(
        (status, &message["response_type"]),
        (StatusCode::OK, &json!("ephemeral"))
    );
    assert_eq!(message["text"], "Nothing waits, &lt;@U1&gt;.");
    let words = message.pointer("/blocks/0/elements/0/elements/0").unwrap();
    assert_eq!(words, &json!({"type": "text", "text": "Nothing waits, <@U1>."}));
}

#[tokio::test]
async fn a_form_turns_into_its_answer() {
    let sent = || Sent::new("/slack/interactions", example::form(&example::submission(json!("no"))));
    let intake = intake(&Script::answering(Answer::say("It was approved by carol before.")));
    let (status, answer) = send(&intake, sent().request()).await;
    assert_eq!((status, &answer["response_action"]), (StatusCode::OK, &json!("update")));
    assert!(answer["view"].to_string().contains("approved by carol"), "{answer}");
    let silent = self::intake(&Script::silent());
    assert_eq!(send(&silent, sent().request()).await, (StatusCode::OK, Value::Null));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_late_is_announced_in_time_and_not_broken_off() {
    let script = Script::slow(Answer::Silent, Duration::from_secs(20));
    let intake = intake(&script);
    let started = Instant::now();
    let (status, message) = send(&intake, command().request()).await;
    assert!(started.elapsed() <= Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(
        (status, &message["text"]),
        (StatusCode::OK, &json!("This takes a moment."))
    );
    assert_eq!(script.done(), 0);
    intake.drain(Duration::from_secs(60)).await;
    assert_eq!(script.done(), 1);
}

#[tokio::test]
async fn a_challenge_is_answered_if_it_is_signed() {
    let body = json!({"type": "url_verification", "challenge": "3eZb"})
        .to_string()
        .into_bytes();
    let intake = intake(&Script::silent());
    let sent = Sent::new("/slack/events", body);
    let answer = send(&intake, sent.request()).await;
    assert_eq!(answer, (StatusCode::OK, json!({"challenge": "3eZb"})));
    let unsigned = Sent {
        secret: "three",
        ..sent
    };
    assert_eq!(send(&intake, unsigned.request()).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_event_of_another_workspace_is_foreign() {
    let event = |team| json!({"type": "event_callback", "team_id": team, "api_app_id": "A1", "event": {"type": "x"}});
    let intake = intake(&Script::silent());
    for (team, status) in [("T1", StatusCode::OK), ("T2", StatusCode::UNAUTHORIZED)] {
        let sent = Sent::new("/slack/events", event(team).to_string().into_bytes());
        assert_eq!(send(&intake, sent.request()).await.0, status, "{team}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_signed_bytes_make_it_panic_or_reach_anybody(body in prop::collection::vec(any::<u8>(), 0..200), path in 0_usize..3) {
        static SHARED: LazyLock<(Arc<Script>, Arc<SlackIntake>)> = LazyLock::new(|| {
            let script = Script::silent();
            let intake = intake(&script);
            (script, intake)
        });
        let (script, intake) = &*SHARED;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let path = ["/slack/interactions", "/slack/commands", "/slack/events"][path];
        let (status, _) = runtime.block_on(send(intake, Sent::new(path, body).request()));
        prop_assert_eq!(status, StatusCode::BAD_REQUEST);
        prop_assert_eq!(script.asked(), []);
    }
}
