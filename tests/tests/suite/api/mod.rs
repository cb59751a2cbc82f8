//! The HTTP API: who may see, vote and read what, and what bad input is told.

mod audit;
mod audit_operations;
mod cli;
mod description;
mod operation;
pub mod room;
mod shape;
mod votes;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use countersign_gateway::console::ApiLimits;
use countersign_tests::issuer::{Claims, Signing};
use room::{AUDIENCE, Room};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_caller_without_a_good_token_is_told_so_and_sees_nothing() {
    let room = Room::new().await;
    let claims = |lifetime_seconds, audience: &str| Claims {
        lifetime_seconds,
        ..Claims::person("alice", audience, &[])
    };
    let good = room.token("alice");
    let expired = room.issuer.token(&claims(-3600, AUDIENCE));
    let foreign = room.issuer.token(&claims(3600, "another"));
    let payload = claims(3600, AUDIENCE).payload(&room.issuer.name());
    let unsigned = room.issuer.sign(payload, Signing::Unsigned);
    for authorization in [
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some(format!("Basic {good}")),
        Some(good.clone()),
        Some("Bearer not-a-token".to_owned()),
        Some(format!("Bearer {expired}")),
        Some(format!("Bearer {foreign}")),
        Some(format!("Bearer {unsigned}")),
        Some(format!("Bearer {good}x")),
    ] {
        let mut request = Request::builder().uri("/api/v1/approvals");
        if let Some(value) = &authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let answer = room.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{authorization:?}");
        assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
        assert!(!answer.detail().contains(&good));
    }
    assert_eq!(room.get("alice", "/api/v1/approvals").await.status, StatusCode::OK);
}

#[tokio::test]
async fn two_authorization_headers_are_refused() {
    let room = Room::new().await;
    let token = format!("Bearer {}", room.token("bob"));
    let request = room.request(Method::GET, "alice", "/api/v1/whoami");
    let request = request.header(header::AUTHORIZATION, token);
    let answer = room.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn whoami_says_who_the_token_speaks_for() {
    let room = Room::new().await;
    let answer = room.get("oscar", "/api/v1/whoami").await.json();
    assert_eq!(answer["person"]["name"], "oscar");
    assert_eq!(answer["person"]["groups"], json!(["auditors"]));
    assert_eq!(answer["may_audit"], true);
    assert_eq!(room.get("alice", "/api/v1/whoami").await.json()["may_audit"], false);
}

#[tokio::test]
async fn every_answer_bears_the_security_headers_and_an_id_of_our_own() {
    let room = Room::new().await;
    for path in ["/healthz", "/api/v1/whoami", "/nothing", "/api/v1/approvals/!"] {
        let request = room
            .request(Method::GET, "alice", path)
            .header("x-request-id", "chosen");
        let answer = room.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert_eq!(answer.headers[header::X_FRAME_OPTIONS], "DENY");
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("frame-ancestors 'none'"));
        assert_ne!(answer.headers["x-request-id"], "chosen");
    }
}

#[tokio::test]
async fn a_body_that_is_not_understood_is_refused_before_anything_is_done() {
    let room = Room::new().await;
    let approval = room.held([1; 5]).await;
    let path = format!("/api/v1/approvals/{}/votes", approval.id);
    let good = json!({"choice": "approve", "via": "cli"}).to_string();
    let long = json!({"choice": "approve", "via": "cli", "reason": "x".repeat(501)}).to_string();
    let huge = json!({"choice": "approve", "via": "cli", "reason": "x".repeat(70_000)}).to_string();
    let with = |field: &str| good.replace('}', &format!(",{field}}}"));
    for (content_type, body, status) in [
        ("text/plain", good.as_str(), 415),
        ("application/x-www-form-urlencoded", "choice=approve&via=cli", 415),
        ("application/json", "", 400),
        ("application/json", "{", 400),
        ("application/json", "[]", 422),
        ("application/json", r#"{"choice":"approve"}"#, 422),
        ("application/json", r#"{"choice":"maybe","via":"cli"}"#, 422),
        ("application/json", r#"{"choice":"approve","via":"slack"}"#, 422),
        ("application/json", &with(r#""voter":"bob""#), 422),
        ("application/json", &with(r#""via":"console""#), 422),
        ("application/json", &with(r#""reason":"fine\r\nSet-Cookie: a=b""#), 400),
        ("application/json", &with("\"reason\":\"\\u202Eenif\""), 400),
        ("application/json", &long, 400),
        ("application/json", &huge, 413),
    ] {
        let request = room.request(Method::POST, "bob", &path);
        let request = request.header(header::CONTENT_TYPE, content_type);
        let answer = room.send(request.body(Body::from(body.to_owned())).unwrap()).await;
        let shown = body.get(..body.len().min(80));
        assert_eq!(answer.status.as_u16(), status, "{shown:?}: {:?}", answer.detail());
    }
    assert_eq!(room.stored(&approval.id).await, approval);
    assert!(room.noted("decided").await.is_empty());
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let limits = ApiLimits {
        request_time_max: Duration::from_millis(200),
        ..ApiLimits::default()
    };
    let room = Room::with_limits(limits).await;
    room.issuer.behave(countersign_tests::issuer::Behaviour::Silent);
    let answer = room.get("alice", "/api/v1/whoami").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers[header::RETRY_AFTER], "1");
}

#[tokio::test]
async fn more_requests_than_the_bound_are_sent_away_and_the_process_still_says_that_it_lives() {
    let limits = ApiLimits {
        requests_max: 0,
        ..ApiLimits::default()
    };
    let room = Room::with_limits(limits).await;
    let answer = room.get("alice", "/api/v1/whoami").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.detail().contains("too many"));
    assert_eq!(room.get("alice", "/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_gateway_is_ready_until_one_of_its_parts_is_not() {
    let room = Room::new().await;
    let answer = room.get("alice", "/readyz").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json());
    let names: Vec<_> = answer.json()["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].clone())
        .collect();
    assert_eq!(
        json!(names),
        json!(["approvals", "clock", "journal", "recordings", "policy"])
    );

    let room = Room::new().await;
    std::fs::write(room.directory.path().join("policy.cedar"), "permit (").unwrap();
    room.policy.reload_now().await.unwrap_err();
    let answer = room.get("alice", "/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let checks = answer.json()["checks"].clone();
    let failing: Vec<_> = checks.as_array().unwrap().iter().filter(|c| c["ok"] == false).collect();
    assert_eq!(failing.len(), 1);
    assert_eq!(failing[0]["name"], "policy");
}

#[tokio::test]
async fn targets_name_the_gateway_as_the_place_to_connect_to() {
    let room = Room::new().await;
    let answer = room.get("alice", "/api/v1/targets").await.json();
    assert_eq!(
        answer["targets"],
        json!([{"name": "orders", "kind": "postgres", "host": "gateway.example.com", "port": 6432, "database": "shop"}])
    );
}
