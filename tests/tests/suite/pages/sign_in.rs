//! Signing in by a browser: one browser, one journey, one use.

use super::browser::Browser;
use crate::api::room::{PAGES, PAGES_CLIENT, Room};
use axum::http::{StatusCode, header};
use chrono::Utc;
use countersign_tests::issuer::Behaviour;
use serde_json::json;

#[tokio::test]
async fn a_browser_goes_to_the_issuer_with_all_that_binds_its_way_back() {
    let room = Room::new().await;
    let mut browser = Browser::of(&room);
    let journey = browser.leave("/sign-in?return_to=%2Fapprovals%3Fall%3Dtrue").await;
    let field = |name: &str| journey.query.get(name).cloned().unwrap_or_default();
    assert_eq!(field("client_id"), PAGES_CLIENT);
    assert_eq!(field("response_type"), "code");
    assert_eq!(field("scope"), "openid groups");
    assert_eq!(field("redirect_uri"), format!("{PAGES}/sign-in/callback"));
    assert_eq!(field("code_challenge_method"), "S256");
    for name in ["state", "nonce", "code_challenge"] {
        assert_eq!(field(name).len(), 43, "{name}");
    }
    assert!(!journey.query.contains_key("prompt"));
    let cookie = &browser.cookies["__Host-countersign-browser"];
    assert!(!journey.query.values().any(|value| value.contains(cookie.as_str())));
    let back = journey.back(&room, journey.payload(&room, "bob"));
    let answer = browser.get(&back).await;
    assert_eq!(answer.headers[header::LOCATION], "/approvals?all=true");
    let set = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(set.starts_with("__Host-countersign-session="), "{set}");
    for attribute in ["; Path=/", "; HttpOnly", "; SameSite=Lax", "; Secure"] {
        assert!(set.contains(attribute), "{set}");
    }
    let lasts = set
        .split("Max-Age=")
        .nth(1)
        .and_then(|rest| rest.split(';').next())
        .unwrap();
    assert!((3500..=3660).contains(&lasts.parse::<u32>().unwrap()), "{lasts}");
    assert!(browser.get("/approvals").await.text().contains("bob"));
}

#[tokio::test]
async fn a_state_is_good_once_and_only_in_the_browser_that_has_it() {
    let room = Room::new().await;
    let (mut alice, mut mallory) = (Browser::of(&room), Browser::of(&room));
    let journey = alice.leave("/sign-in").await;
    mallory.leave("/sign-in").await;
    let back = journey.back(&room, journey.payload(&room, "mallory"));
    // Without a cookie, with another browser's, and what is no state of a sign-in.
    let foreign = mallory.get(&back).await;
    assert_eq!(foreign.status, StatusCode::BAD_REQUEST);
    assert!(
        foreign.text().contains("not begun in this browser"),
        "{}",
        foreign.text()
    );
    let bare = Browser::of(&room).get(&back).await;
    assert_eq!(bare.status, StatusCode::BAD_REQUEST);
    for state in ["", "x", &mallory.cookies["__Host-countersign-browser"]] {
        let answer = alice.get(&format!("/sign-in/callback?code=c&state={state}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{state}");
        assert!(answer.text().contains("is over"), "{}", answer.text());
    }
    assert_eq!(alice.get(&back).await.status, StatusCode::SEE_OTHER);
    let again = alice.get(&back).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST, "the state is used up");
    assert!(!mallory.cookies.contains_key("__Host-countersign-session"));
}

#[tokio::test]
async fn what_the_issuer_sends_back_is_of_this_very_journey() {
    let room = Room::new().await;
    let mut browser = Browser::of(&room);
    let mut check = async |changed: serde_json::Value, more: &str, expected: &str| {
        let journey = browser.leave("/sign-in").await;
        let mut payload = journey.payload(&room, "bob");
        payload.extend(changed.as_object().unwrap().clone());
        let back = journey.back(&room, payload);
        let answer = browser.get(&format!("{back}{more}")).await;
        let page = answer.text();
        if expected.is_empty() {
            assert_eq!(answer.status, StatusCode::SEE_OTHER, "{page}");
        } else {
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{page}");
            assert!(page.contains(expected), "{expected}: {page}");
        }
    };
    check(json!({}), "", "").await;
    check(json!({"nonce": "another"}), "", "its nonce is another").await;
    check(json!({"nonce": null}), "", "its nonce is another").await;
    check(json!({"aud": "countersign"}), "", "this gateway expects").await;
    check(json!({"exp": Utc::now().timestamp() - 60}), "", "expired").await;
    check(json!({}), &format!("&iss={}", room.issuer.name()), "").await;
    check(json!({}), "&iss=https%3A%2F%2Fevil.example", "was asked").await;
    check(
        json!({}),
        "&error=access_denied",
        "did not sign you in: &quot;access_denied&quot;",
    )
    .await;
    check(
        json!({"sub": "<script>alert(1)</script>", "preferred_username": "<b>"}),
        "",
        "",
    )
    .await;
}

#[tokio::test]
async fn a_code_of_another_journey_signs_nobody_in() {
    let room = Room::new().await;
    let mut browser = Browser::of(&room);
    let (first, second) = (browser.leave("/sign-in").await, browser.leave("/sign-in").await);
    let stolen = first.back(&room, first.payload(&room, "bob"));
    let code = stolen.split("code=").nth(1).unwrap().split('&').next().unwrap();
    let answer = browser
        .get(&format!(
            "/sign-in/callback?code={code}&state={}",
            second.query["state"]
        ))
        .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.text().contains("did not take the code"), "{}", answer.text());
    assert!(!browser.cookies.contains_key("__Host-countersign-session"));
}

#[tokio::test]
async fn an_issuer_that_is_away_is_told_as_such() {
    let room = Room::new().await;
    let mut browser = Browser::of(&room);
    room.issuer.behave(Behaviour::Down);
    let answer = browser.get("/sign-in").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
    assert!(answer.text().contains("does not answer"));
}
