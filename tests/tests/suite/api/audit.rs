//! The audit through the API: for those whom the policy lets, and themselves under audit.

use super::room::Room;
use axum::http::StatusCode;
use bytes::Bytes;
use chrono::Utc;
use countersign_infra::domain::audit::{Chain, Happening};
use countersign_infra::journal::{EVENTS_MAX, Journal};
use serde_json::json;

#[tokio::test]
async fn only_those_whom_the_policy_lets_read_the_audit() {
    let room = Room::new().await;
    let (session, _, _guard) = room.session("alice").await;
    let recording = format!("/api/v1/sessions/{}/recording", session.id);
    let chunk = format!("{recording}/0");
    let bytes = Bytes::from_static(b"chunk");
    room.recordings.put_chunk(session.id, 0, bytes.clone()).await.unwrap();
    for path in ["/api/v1/audit", &recording, &chunk] {
        assert_eq!(room.get("alice", path).await.status, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(room.get("bob", path).await.status, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(room.get("oscar", path).await.status, StatusCode::OK, "{path}");
    }
    let facts = room.get("oscar", &recording).await.json();
    assert_eq!((&facts["chunks"], &facts["manifest"]), (&json!(1), &json!(null)));
    assert!(facts["key"].as_str().unwrap().starts_with("-----BEGIN PUBLIC KEY-----"));
    assert_eq!(room.get("oscar", &chunk).await.body, bytes);
    assert_eq!(
        room.get("oscar", &format!("{recording}/1")).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        room.get("oscar", &format!("{recording}/-1")).await.status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        room.get("oscar", &format!("{recording}/x")).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn reading_the_audit_is_itself_journaled() {
    let room = Room::new().await;
    let (session, _, _guard) = room.session("alice").await;
    room.get("oscar", "/api/v1/audit?who=alice&since=24h").await;
    room.get("oscar", &format!("/api/v1/sessions/{}/events", session.id))
        .await;
    room.get("oscar", "/api/v1/sessions?all=true").await;
    // The parts of one recording are one reading.
    for part in ["", "/3", "/4"] {
        room.get("oscar", &format!("/api/v1/sessions/{}/recording{part}", session.id))
            .await;
    }
    let noted = room.noted("audit_queried").await;
    let queries: Vec<_> = noted
        .iter()
        .map(|event| {
            let Happening::AuditQueried { query } = &event.what else {
                panic!("{:?}", event.what)
            };
            query.as_str()
        })
        .collect();
    assert_eq!(queries.len(), 4);
    assert_eq!(queries[0], r#"audit {"who":"alice","since":"24h"}"#);
    assert!(queries[1].contains(&session.id.to_string()));
    assert_eq!(queries[3], format!("recording of session {}", session.id));
    assert!(noted.iter().all(|event| event.person_name.as_deref() == Some("oscar")));
}

#[tokio::test]
async fn a_search_finds_what_its_filters_say() {
    let room = Room::new().await;
    let (_alice, _, _one) = room.session("alice").await;
    let (_bob, _, _two) = room.session("bob").await;
    let count = async |query: &str| {
        let answer = room.get("oscar", &format!("/api/v1/audit?{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.json());
        answer.json()["events"].as_array().unwrap().len()
    };
    assert_eq!(count("who=alice").await, 2);
    assert_eq!(count("who=alice&event=session_opened").await, 1);
    assert_eq!(count("target=orders&event=session_opened,gateway_sent").await, 4);
    assert_eq!(count("who=nobody").await, 0);
    assert_eq!(count("who=bob&until=1h").await, 0);
    assert_eq!(count("who=bob&since=1h").await, 2);
    assert_eq!(count("target=orders&limit=3").await, 3);
}

#[tokio::test]
async fn a_filter_is_a_value_and_never_a_piece_of_a_query() {
    let room = Room::new().await;
    let (_alice, _, _guard) = room.session("alice").await;
    for text in [
        "' OR '1'='1",
        "%",
        "_",
        "alice'--",
        "\"; DROP TABLE events; --",
        "*",
        "(",
        "al%",
    ] {
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for field in ["who", "target", "text"] {
            let answer = room
                .get(
                    "oscar",
                    &format!("/api/v1/audit?event=session_opened&{field}={encoded}"),
                )
                .await;
            assert_eq!(answer.status, StatusCode::OK, "{field} {text}: {}", answer.json());
            assert_eq!(answer.json()["events"], json!([]), "{field} {text}");
        }
    }
    let all = room.get("oscar", "/api/v1/audit?event=session_opened").await.json();
    assert_eq!(all["events"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_filter_that_is_not_understood_is_refused_instead_of_ignored() {
    let room = Room::new().await;
    let long = format!("who={}", "x".repeat(201));
    for query in [
        "whoo=alice",
        "since=yesterday",
        "until=1w",
        "event=delete",
        "event=asked,nothing",
        "approval=1",
        "limit=many",
        "after=made-up",
        "who=a&who=b",
        "who=a%0d%0ab",
        "text=%00",
        &long,
    ] {
        let answer = room.get("oscar", &format!("/api/v1/audit?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        answer.detail();
    }
}

#[tokio::test]
async fn people_read_the_events_of_their_own_sessions_and_nobody_elses() {
    let room = Room::new().await;
    let (session, _, _guard) = room.session("alice").await;
    let path = format!("/api/v1/sessions/{}/events", session.id);
    for (name, status) in [("alice", 200), ("bob", 404), ("eve", 404), ("oscar", 200)] {
        assert_eq!(room.get(name, &path).await.status.as_u16(), status, "{name}");
    }
    let events = room.get("alice", &path).await.json();
    assert_eq!(events["events"][0]["event"], "session_opened");
    assert_eq!(events["next"], json!(null));
    let rest = room.get("alice", &format!("{path}?from=1")).await.json();
    assert_eq!(rest["events"].as_array().unwrap().len(), 1);
    let absent = "/api/v1/sessions/01890a5d-ac96-774b-bcce-b302099a8057/events";
    assert_eq!(room.get("oscar", absent).await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        room.get("oscar", "/api/v1/sessions/1/events").await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn sessions_are_listed_to_their_people_and_to_those_who_may_watch() {
    let room = Room::new().await;
    let (alice, _, guard) = room.session("alice").await;
    let (_bob, _, _two) = room.session("bob").await;
    for (name, count) in [("alice", 1), ("bob", 1), ("eve", 0), ("oscar", 2)] {
        for path in ["/api/v1/sessions", "/api/v1/sessions?all=true"] {
            let list = room.get(name, path).await.json();
            assert_eq!(list["sessions"].as_array().unwrap().len(), count, "{name} {path}");
        }
    }
    let live = room.get("alice", "/api/v1/sessions").await.json();
    assert_eq!(live["sessions"][0]["id"], json!(alice.id));
    assert_eq!(live["sessions"][0]["state"], "idle");
    drop(guard);
    let live = room.get("alice", "/api/v1/sessions").await.json();
    assert_eq!(live["sessions"], json!([]));
    let all = room.get("alice", "/api/v1/sessions?all=true").await.json();
    assert_eq!(all["sessions"][0]["state"], json!(null));
}

#[tokio::test]
async fn a_session_is_ended_by_its_person_or_by_those_whom_the_policy_lets() {
    let room = Room::new().await;
    let (session, token, _guard) = room.session("alice").await;
    let path = format!("/api/v1/sessions/{}/end", session.id);
    assert_eq!(room.post("eve", &path, json!({})).await.status, StatusCode::NOT_FOUND);
    assert_eq!(room.post("oscar", &path, json!({})).await.status, StatusCode::FORBIDDEN);
    assert!(!token.is_cancelled());
    assert_eq!(room.post("bob", &path, json!({})).await.status, StatusCode::ACCEPTED);
    assert!(token.is_cancelled());
    let (own, token, _guard) = room.session("alice").await;
    let path = format!("/api/v1/sessions/{}/end", own.id);
    assert_eq!(room.post("alice", &path, json!({})).await.status, StatusCode::ACCEPTED);
    assert!(token.is_cancelled());
}

#[tokio::test]
async fn a_long_session_is_read_in_pages() {
    let room = Room::new().await;
    let (session, _, _guard) = room.session("alice").await;
    let last = room.store.last(session.id).await.unwrap().unwrap();
    let mut chain = Chain::resume(&last);
    let note = |number: u64| {
        let what = number.to_string();
        chain.next(Utc::now(), Happening::GatewaySent { what })
    };
    let events: Vec<_> = (2..1500).map(note).collect();
    for part in events.chunks(EVENTS_MAX) {
        room.store.append(part).await.unwrap();
    }
    let path = format!("/api/v1/sessions/{}/events", session.id);
    for (from, count, next) in [
        (0, 1000, json!(1000)),
        (1, 1000, json!(1001)),
        (500, 1000, json!(null)),
        (1499, 1, json!(null)),
        (1500, 0, json!(null)),
    ] {
        let page = room.get("alice", &format!("{path}?from={from}")).await.json();
        let events = page["events"].as_array().unwrap();
        assert_eq!((events.len(), &page["next"]), (count, &next), "from {from}");
        let first = events.first().map(|event| event["seq"].as_u64());
        assert!(first.is_none_or(|first| first == Some(from)), "from {from}");
    }
}
