//! The OpenAPI description is what is served: no route more, none less, and answers of the shapes that it names.

use super::room::{Answer, Room};
use super::shape;
use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use bytes::Bytes;
use countersign_gateway::console::description;
use serde_json::{Value, json};

const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

fn described() -> Value {
    serde_json::to_value(description()).unwrap()
}

/// Every operation: its path, its method in lower case, and what the description says of it.
fn operations(description: &Value) -> Vec<(String, String, Value)> {
    let paths = description["paths"].as_object().unwrap();
    let of_path = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().unwrap().clone();
        let path = path.clone();
        methods
            .into_iter()
            .map(move |(method, operation)| (path.clone(), method, operation))
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

/// A path with something in each of its places.
fn filled(path: &str) -> String {
    let places = ["{id}", "{number}", "{day}", "{name}"];
    places
        .iter()
        .fold(path.to_owned(), |path, place| path.replace(place, "x"))
}

#[tokio::test]
async fn every_described_operation_is_served_and_nothing_else() {
    let room = Room::new().await;
    let description = described();
    let operations = operations(&description);
    assert_eq!(operations.len(), 25);
    for (path, _, _) in &operations {
        let filled = filled(path);
        for method in METHODS {
            let name = method.as_str().to_lowercase();
            let is_described = description["paths"][path].get(&name).is_some();
            let request = room.request(method, "oscar", &filled);
            let answer = room.send(request.body(Body::empty()).unwrap()).await;
            let served = answer.status != StatusCode::METHOD_NOT_ALLOWED && answer.status != StatusCode::NOT_FOUND;
            assert_eq!(served, is_described, "{name} {path}: {}", answer.status);
        }
    }
    for path in [
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v2/approvals",
        "/api/v1/approvals/",
        "/metrics",
        "/.env",
    ] {
        let answer = room.get("oscar", path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        answer.detail();
    }
}

#[tokio::test]
async fn only_health_the_description_and_the_ways_to_sign_in_and_decide_are_served_without_a_token() {
    let room = Room::new().await;
    let description = described();
    for (path, method, operation) in operations(&description) {
        let request = axum::http::Request::builder()
            .method(method.to_uppercase().as_str())
            .uri(filled(&path));
        let answer = room.send(request.body(Body::empty()).unwrap()).await;
        let open = [
            "/healthz",
            "/readyz",
            "/api/v1/openapi.json",
            "/api/v1/sign-in",
            "/approvals/{id}",
        ];
        let open = open.contains(&path.as_str());
        assert_eq!(answer.status != StatusCode::UNAUTHORIZED, open, "{method} {path}");
        assert_eq!(operation.get("security") == Some(&json!([{}])), open, "{method} {path}");
        assert_eq!(operation["responses"].get("401").is_none(), open, "{method} {path}");
    }
}

#[tokio::test]
async fn the_description_is_served_as_it_is() {
    let room = Room::new().await;
    let answer = room.get("alice", "/api/v1/openapi.json").await;
    assert_eq!(answer.json(), described());
    assert_eq!(answer.json()["openapi"], "3.1.0");
}

#[tokio::test]
async fn answers_have_the_shapes_that_the_description_names() {
    let room = Room::new().await;
    let (session, _, _guard) = room.session("alice").await;
    room.recordings
        .put_chunk(session.id, 0, Bytes::from_static(b"chunk"))
        .await
        .unwrap();
    room.asked("alice").await;
    let pending = room.held([1; 5]).await.id;
    let decided = room.held([2; 5]).await.id;
    let withdrawn = room.held([3; 5]).await.id;
    let (long, _) = room.held_long([4; 5]).await;
    let vote = json!({"choice": "deny", "via": "cli", "reason": "no"});
    let votes = "/api/v1/approvals/{id}/votes";
    let sessions = "/api/v1/sessions/{id}";
    let whole = "/api/v1/approvals/{id}/operation";
    let id = session.id.to_string();
    let (links, digests) = ("/api/v1/sessions/{id}/recording/links", "/api/v1/digests/{day}/{name}");
    let (day, nobody) = (session.opened.date_naive(), uuid::Uuid::now_v7());
    let digest = format!("13-{}-0.json", session.number.run);
    room.recordings
        .put_digest(day, &digest, Bytes::from_static(b"digest"))
        .await
        .unwrap();

    let posted = |path: &str, name, id: &str| (path.to_owned(), name, id.to_owned());
    for ((path, name, id), body) in [
        (posted(votes, "bob", decided.as_str()), vote.clone()),
        (posted(votes, "bob", decided.as_str()), vote.clone()),
        (posted(votes, "alice", pending.as_str()), vote.clone()),
        (posted(votes, "eve", pending.as_str()), vote.clone()),
        (posted(votes, "bob", "!"), vote),
        (
            posted(votes, "bob", long.id.as_str()),
            json!({"choice": "approve", "via": "cli"}),
        ),
        (
            posted("/api/v1/approvals/{id}/withdraw", "alice", withdrawn.as_str()),
            json!({}),
        ),
        (
            posted("/api/v1/approvals/{id}/withdraw", "bob", pending.as_str()),
            json!({}),
        ),
        (posted(&format!("{sessions}/end"), "oscar", &id), json!({})),
        (posted(&format!("{sessions}/end"), "alice", &id), json!({})),
    ] {
        let answer = room.post(name, &path.replace("{id}", &id), body).await;
        check("post", &path, &answer);
    }
    for (path, filled, name) in [
        ("/healthz", "/healthz", "alice"),
        ("/readyz", "/readyz", "alice"),
        ("/api/v1/sign-in", "/api/v1/sign-in", "alice"),
        ("/api/v1/whoami", "/api/v1/whoami", "alice"),
        ("/api/v1/targets", "/api/v1/targets", "alice"),
        ("/api/v1/approvals", "/api/v1/approvals", "bob"),
        ("/api/v1/approvals", "/api/v1/approvals?limit=1", "bob"),
        ("/api/v1/approvals", "/api/v1/approvals?nothing=1", "bob"),
        ("/api/v1/approvals/{id}", &format!("/api/v1/approvals/{decided}"), "bob"),
        (
            "/api/v1/approvals/{id}",
            &format!("/api/v1/approvals/{withdrawn}"),
            "alice",
        ),
        ("/api/v1/approvals/{id}", &format!("/api/v1/approvals/{pending}"), "eve"),
        (whole, &format!("/api/v1/approvals/{}/operation", long.id), "bob"),
        (
            whole,
            &format!("/api/v1/approvals/{}/operation?exact=true", long.id),
            "oscar",
        ),
        (
            whole,
            &format!("/api/v1/approvals/{}/operation?exact=true", long.id),
            "bob",
        ),
        (
            whole,
            &format!("/api/v1/approvals/{}/operation?exact=perhaps", long.id),
            "bob",
        ),
        (whole, &format!("/api/v1/approvals/{decided}/operation"), "bob"),
        ("/api/v1/audit", "/api/v1/audit", "oscar"),
        ("/api/v1/audit", "/api/v1/audit?limit=1", "oscar"),
        ("/api/v1/audit", "/api/v1/audit", "alice"),
        ("/api/v1/audit/operations", "/api/v1/audit/operations", "oscar"),
        ("/api/v1/audit/operations", "/api/v1/audit/operations?limit=1", "oscar"),
        ("/api/v1/audit/operations", "/api/v1/audit/operations?state=x", "oscar"),
        ("/api/v1/audit/operations", "/api/v1/audit/operations", "alice"),
        ("/api/v1/sessions", "/api/v1/sessions", "alice"),
        ("/api/v1/sessions", "/api/v1/sessions?all=true&limit=1", "oscar"),
        (
            "/api/v1/sessions/{id}/events",
            &format!("/api/v1/sessions/{id}/events"),
            "alice",
        ),
        (
            "/api/v1/sessions/{id}/recording",
            &format!("/api/v1/sessions/{id}/recording"),
            "oscar",
        ),
        (
            "/api/v1/sessions/{id}/recording/{number}",
            &format!("/api/v1/sessions/{id}/recording/0"),
            "oscar",
        ),
        (
            "/api/v1/sessions/{id}/recording/{number}",
            &format!("/api/v1/sessions/{id}/recording/0"),
            "bob",
        ),
        (links, &format!("/api/v1/sessions/{id}/recording/links"), "oscar"),
        (links, &format!("/api/v1/sessions/{nobody}/recording/links"), "oscar"),
        (
            links,
            &format!("/api/v1/sessions/{id}/recording/links?valid_seconds=43201"),
            "oscar",
        ),
        (links, &format!("/api/v1/sessions/{id}/recording/links"), "bob"),
        ("/api/v1/recordings", &format!("/api/v1/recordings?day={day}"), "oscar"),
        ("/api/v1/recordings", "/api/v1/recordings?day=today", "oscar"),
        ("/api/v1/recordings", &format!("/api/v1/recordings?day={day}"), "bob"),
        ("/api/v1/digests", &format!("/api/v1/digests?day={day}"), "oscar"),
        ("/api/v1/digests", "/api/v1/digests", "oscar"),
        ("/api/v1/digests", &format!("/api/v1/digests?day={day}"), "bob"),
        (digests, &format!("/api/v1/digests/{day}/{digest}"), "oscar"),
        (digests, &format!("/api/v1/digests/1970-01-01/{digest}"), "oscar"),
        (digests, &format!("/api/v1/digests/{day}/digest"), "oscar"),
        (digests, &format!("/api/v1/digests/{day}/{digest}"), "bob"),
    ] {
        check("get", path, &room.get(name, filled).await);
    }
}

/// Holds an answer against what the description says of that operation and status.
fn check(method: &str, path: &str, answer: &Answer) {
    let description = described();
    let status = answer.status.as_str();
    let response = &description["paths"][path][method]["responses"][status];
    assert!(
        response.is_object(),
        "{method} {path} answers {status}, which is not described"
    );
    let Some(contents) = response["content"].as_object() else {
        assert!(answer.body.is_empty(), "{method} {path} {status} has a body");
        return;
    };
    let content_type = answer.headers[header::CONTENT_TYPE].to_str().unwrap();
    let content = contents.get(content_type);
    let content = content.unwrap_or_else(|| panic!("{method} {path} {status}: {content_type} is not described"));
    if content_type.ends_with("json") {
        let place = format!("{method} {path} {status}");
        shape::check(&description, &content["schema"], &answer.json(), &place).unwrap();
    }
}
