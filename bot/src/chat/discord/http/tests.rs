use super::*;
use crate::answer::Answers;
use crate::chat::discord::example::{self, Script};
use crate::chat::inbound::BODY_BYTES_MAX;
use crate::chat::{Answer, Ask};
use aws_lc_rs::signature::Ed25519KeyPair;
use axum::http::Request;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::time::Duration;
use tower::ServiceExt;

/// A request as Discord sends it, and what may be wrong with it.
struct Sent {
    body: Vec<u8>,
    signed_body: Vec<u8>,
    key: Ed25519KeyPair,
    age_seconds: i64,
}

impl Sent {
    fn new(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self {
            signed_body: body.clone(),
            body,
            key: example::key(),
            age_seconds: 0,
        }
    }

    fn request(&self) -> Request<Body> {
        let timestamp = (Utc::now().timestamp() - self.age_seconds).to_string();
        let signature = self.key.sign(&[timestamp.as_bytes(), &self.signed_body].concat());
        Request::post("/discord/interactions")
            .header(TIMESTAMP, timestamp)
            .header(SIGNATURE, hex::encode(signature))
            .body(Body::from(self.body.clone()))
            .unwrap()
    }
}

fn click() -> Sent {
    Sent::new(example::click("approve:QJF6HN4C").to_string())
}

fn other_key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap()
}

/// Two guilds of one application, and one of another.
fn intake(script: &Arc<Script>) -> Arc<DiscordIntake> {
    let guilds = [
        example::guild("1"),
        example::guild("3"),
        example::of_application("4", "5", &other_key()),
    ];
    intake_of(guilds.into(), script)
}

fn intake_of(guilds: Vec<super::super::DiscordGuild>, script: &Arc<Script>) -> Arc<DiscordIntake> {
    let chats = guilds
        .into_iter()
        .map(|guild| Arc::new(DiscordChat::new(guild).unwrap()));
    DiscordIntake::new(chats.collect(), Arc::clone(script) as Arc<dyn Answers>)
}

async fn send(intake: &Arc<DiscordIntake>, request: Request<Body>) -> (StatusCode, Value) {
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
async fn a_ping_is_answered_if_it_is_signed() {
    let intake = intake(&Script::silent());
    for age_seconds in [0, 2] {
        let ping = Sent {
            age_seconds,
            ..Sent::new(example::ping().to_string())
        };
        assert_eq!(
            send(&intake, ping.request()).await,
            (StatusCode::OK, json!({"type": 1}))
        );
    }
    check(
        Sent {
            key: other_key(),
            ..Sent::new(example::ping().to_string())
        },
        Turned::Foreign,
        StatusCode::UNAUTHORIZED,
    )
    .await;
}

#[tokio::test]
async fn a_signed_click_is_answered_with_its_evidence() {
    let script = Script::silent();
    let intake = intake(&script);
    let sent = click();
    assert_eq!(
        send(&intake, sent.request()).await,
        (StatusCode::OK, json!({"type": 6}))
    );
    let request = script.requests().remove(0);
    assert_eq!(request.account.to_string(), "discord:1:42");
    assert_eq!(request.evidence.payload, Digest::of(&sent.body));
    assert!(inbound::is_fresh(request.evidence.signed.unwrap(), Utc::now()));
}

#[tokio::test]
async fn what_is_tampered_stale_foreign_or_unsigned_is_unauthorized() {
    let unauthorized = StatusCode::UNAUTHORIZED;
    let mut tampered = click();
    tampered.body.push(b' ');
    check(tampered, Turned::Tampered, unauthorized).await;
    let stranger = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    check(
        Sent {
            key: stranger,
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
            key: other_key(),
            ..click()
        },
        Turned::Foreign,
        unauthorized,
    )
    .await;
    for (field, other) in [
        ("guild_id", json!("4")),
        ("guild_id", json!("7")),
        ("application_id", json!("5")),
    ] {
        let mut foreign = example::click("approve:QJF6HN4C");
        foreign[field] = other;
        check(Sent::new(foreign.to_string()), Turned::Foreign, unauthorized).await;
    }
}

#[tokio::test]
async fn a_signature_that_is_none_is_unauthorized() {
    for (name, value) in [
        (SIGNATURE, ""),
        (SIGNATURE, "zz"),
        (SIGNATURE, "00"),
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
    let mut unread = Sent::new("{");
    unread.signed_body = b"[".to_vec();
    check(unread, Turned::Tampered, StatusCode::UNAUTHORIZED).await;
    check(Sent::new("{"), Turned::Malformed, StatusCode::BAD_REQUEST).await;
    // A body that was not decoded on its way here is not the one that was signed.
    let mut encoded = click();
    encoded.body = b"eyJ0eXBlIjoxfQ==".to_vec();
    check(encoded, Turned::Tampered, StatusCode::UNAUTHORIZED).await;
    check(
        Sent::new(vec![b' '; BODY_BYTES_MAX + 1]),
        Turned::TooLarge,
        StatusCode::PAYLOAD_TOO_LARGE,
    )
    .await;
}

#[tokio::test]
async fn a_repeat_changes_nothing() {
    let script = Script::silent();
    let intake = intake(&script);
    assert_eq!(send(&intake, click().request()).await.0, StatusCode::OK);
    for age_seconds in [2, 4] {
        let sent = Sent { age_seconds, ..click() };
        assert_eq!(send(&intake, sent.request()).await.0, StatusCode::ACCEPTED);
    }
    assert_eq!((script.asked().len(), intake.counters().of(Turned::Resent)), (1, 2));
}

#[tokio::test]
async fn a_copy_of_a_request_is_unauthorized() {
    for sent in [click(), Sent::new(example::ping().to_string())] {
        let script = Script::silent();
        let intake = intake(&script);
        let (mut parts, _) = sent.request().into_parts();
        let copy =
            |parts: &axum::http::request::Parts| Request::from_parts(parts.clone(), Body::from(sent.body.clone()));
        assert_eq!(send(&intake, copy(&parts)).await.0, StatusCode::OK);
        let asked = script.asked().len();
        assert_eq!(send(&intake, copy(&parts)).await.0, StatusCode::UNAUTHORIZED);
        // The same signature in other letters.
        let signature = parts.headers[SIGNATURE].to_str().unwrap().to_ascii_uppercase();
        parts.headers.insert(SIGNATURE, signature.parse().unwrap());
        assert_eq!(send(&intake, copy(&parts)).await.0, StatusCode::UNAUTHORIZED);
        assert_eq!(
            (script.asked().len(), intake.counters().of(Turned::Repeated)),
            (asked, 2)
        );
    }
}

#[tokio::test]
async fn a_click_in_a_direct_message_is_of_one_of_the_applications_guilds() {
    let mut direct = example::click("approve:QJF6HN4C");
    direct.as_object_mut().unwrap().remove("guild_id");
    direct.as_object_mut().unwrap().remove("member");
    direct["user"] = json!({"id": "42", "username": "bob"});
    let script = Script::silent();
    let one = intake_of(vec![example::guild("1")], &script);
    assert_eq!(
        send(&one, Sent::new(direct.to_string()).request()).await.0,
        StatusCode::OK
    );
    assert_eq!(script.requests().remove(0).account.to_string(), "discord:1:42");
    let script = Script::silent();
    let several = intake(&script);
    assert_eq!(
        send(&several, Sent::new(direct.to_string()).request()).await.0,
        StatusCode::OK
    );
    let request = script.requests().remove(0);
    let others: Vec<String> = request.or_of.iter().map(ToString::to_string).collect();
    assert_eq!(
        (request.account.to_string().as_str(), others.as_slice()),
        ("discord:1:42", &["discord:3:42".to_owned()][..])
    );
}

#[tokio::test]
async fn a_form_and_a_large_command_are_asked() {
    let script = Script::answering(Answer::say("It was approved by carol before."));
    let intake = intake(&script);
    let text = "\u{5e9}".repeat(100_000);
    let options = json!([{"name": "audit", "type": 1, "options": [{"name": "query", "type": 3, "value": text}]}]);
    let (status, answer) = send(&intake, Sent::new(example::command(options).to_string()).request()).await;
    assert_eq!((status, &answer["data"]["flags"]), (StatusCode::OK, &json!(64)));
    assert_eq!(answer["data"]["content"], "It was approved by carol before\\.");
    let text = format!("audit {text}");
    assert_eq!(script.asked(), [Ask::Command { text }]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_late_is_announced_in_time_and_not_broken_off() {
    let script = Script::slow(Answer::Silent, Duration::from_secs(20));
    let intake = intake(&script);
    let started = Instant::now();
    let (status, answer) = send(&intake, click().request()).await;
    assert!(started.elapsed() <= Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(
        (status, &answer["type"], &answer["data"]["flags"]),
        (StatusCode::OK, &json!(5), &json!(64))
    );
    assert_eq!(script.done(), 0);
    intake.drain(Duration::from_secs(120)).await;
    assert_eq!(script.done(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_signed_bytes_make_it_panic_or_reach_anybody(body in prop::collection::vec(any::<u8>(), 0..200)) {
        static SHARED: LazyLock<(Arc<Script>, Arc<DiscordIntake>)> = LazyLock::new(|| {
            let script = Script::silent();
            let intake = intake(&script);
            (script, intake)
        });
        let (script, intake) = &*SHARED;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (status, _) = runtime.block_on(send(intake, Sent::new(body).request()));
        prop_assert_eq!(status, StatusCode::BAD_REQUEST);
        prop_assert_eq!(script.asked(), []);
    }
}
