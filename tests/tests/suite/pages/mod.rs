//! The pages, as browsers see them: who gets in, what is shown, and what a form may do.

mod browser;
mod channel;
mod chromium;
mod confirm;
mod connect;
mod forms;
mod link;
mod review;
mod sign_in;
mod stage;

use super::api::room::Room;
use axum::http::{StatusCode, header};
use browser::Browser;

#[tokio::test]
async fn every_page_bears_headers_that_bound_what_a_browser_does_with_it() {
    let room = Room::new().await;
    let approval = room.held([1; 5]).await;
    let mut bob = Browser::of(&room);
    bob.sign_in("bob").await;
    let own = format!("/approvals/{}", approval.id);
    let nobody = Browser::of(&room).get("/sign-in?issuer=x").await;
    for answer in [
        bob.get("/approvals").await,
        bob.get(&own).await,
        bob.get("/approvals/00000000").await,
        bob.get("/link/nothing").await,
        bob.get("/confirm/nothing").await,
        bob.get("/connect/nothing").await,
        bob.get("/nothing").await,
        bob.post(&format!("{own}/decide"), &[("choice", "maybe")]).await,
        nobody,
    ] {
        let page = answer.text();
        assert_eq!(
            answer.headers[header::CONTENT_TYPE],
            "text/html; charset=utf-8",
            "{page}"
        );
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        let (_, nonce) = policy.split_once("style-src 'nonce-").unwrap();
        let (nonce, rest) = nonce.split_once('\'').unwrap();
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert_eq!(rest, "; form-action 'self'; base-uri 'none'; frame-ancestors 'none'");
        assert!(nonce.len() >= 22 && page.contains(&format!("<style nonce=\"{nonce}\">")));
        for (name, value) in [
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ] {
            assert_eq!(answer.headers[&name], value, "{name}");
        }
        for foreign in ["<script", "http://", "src=", "onclick", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}: {page}");
        }
        assert!(page.contains("name=\"viewport\""));
    }
    let first = bob.get("/approvals").await;
    let second = bob.get("/approvals").await;
    let policy = |answer: &super::api::room::Answer| answer.headers[header::CONTENT_SECURITY_POLICY].clone();
    assert_ne!(policy(&first), policy(&second), "a nonce is used once");
}

#[tokio::test]
async fn who_is_not_signed_in_is_sent_to_sign_in_and_programs_are_told_how_to_decide() {
    let room = Room::new().await;
    let approval = room.held([1; 5]).await;
    let own = format!("/approvals/{}", approval.id);
    let mut browser = Browser::of(&room);
    for path in ["/approvals", &own, "/link/x", "/confirm/x", "/connect/x"] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
        let expected = format!("/sign-in?return_to={}", path.replace('/', "%2F"));
        assert_eq!(answer.headers[header::LOCATION].to_str().unwrap(), expected);
    }
    let told = browser.as_program(&own).await;
    assert_eq!(told.status, StatusCode::OK);
    assert_eq!(told.headers[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    assert!(
        told.text()
            .contains(&format!("countersign approvals approve {}", approval.id))
    );
    // The API goes on as it is, whatever a browser says it takes.
    let answer = browser.get("/api/v1/approvals").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.detail().contains("Authorization"));
}

#[tokio::test]
async fn a_form_counts_only_from_a_page_of_this_session() {
    let room = Room::new().await;
    let approval = room.held([1; 5]).await;
    let (own, decide) = (
        format!("/approvals/{}", approval.id),
        format!("/approvals/{}/decide", approval.id),
    );
    let (mut bob, mut dora) = (Browser::of(&room), Browser::of(&room));
    bob.sign_in("bob").await;
    dora.sign_in("dora").await;
    bob.get(&own).await;
    dora.get(&own).await;
    let doras = dora.csrf.clone();
    let approve = [("choice", "approve")];
    let here = [("origin", "null"), ("sec-fetch-site", "same-origin")];
    let own_csrf = bob.csrf.clone();
    for (csrf, headers, status) in [
        ("", &here[..], 403),
        ("x", &here, 403),
        (&doras, &here, 403),
        (&own_csrf, &[], 403),
        (&own_csrf, &[("origin", "https://evil.example")], 403),
        (&own_csrf, &[("origin", "null")], 403),
        (&own_csrf, &[("sec-fetch-site", "cross-site")], 403),
        (
            &own_csrf,
            &[("sec-fetch-site", "same-site"), ("origin", super::api::room::PAGES)],
            403,
        ),
    ] {
        let answer = bob.post_with(&decide, csrf, &approve, headers).await;
        assert_eq!(
            answer.status.as_u16(),
            status,
            "{csrf:?} {headers:?}: {}",
            answer.text()
        );
    }
    assert_eq!(room.stored(&approval.id).await, approval);
    let stranger = Browser::of(&room).post_with(&decide, &own_csrf, &approve, &here).await;
    assert_eq!(stranger.status, StatusCode::UNAUTHORIZED);
    assert_eq!(room.stored(&approval.id).await, approval);
    // As an older browser sends it.
    let origin = [("origin", super::api::room::PAGES)];
    let answer = bob.post_with(&decide, &own_csrf, &approve, &origin).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    assert_eq!(room.stored(&approval.id).await.state.as_str(), "approved");
}

#[tokio::test]
async fn who_signs_out_is_out_with_every_copy_of_the_cookie() {
    let room = Room::new().await;
    let mut bob = Browser::of(&room);
    bob.sign_in("bob").await;
    let mut copy = bob.clone();
    bob.get("/approvals").await;
    let out = bob.post("/sign-out", &[]).await;
    assert_eq!(out.status, StatusCode::OK);
    let cleared = out.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(
        cleared.starts_with("__Host-countersign-session=;") && cleared.contains("Max-Age=0"),
        "{cleared}"
    );
    for browser in [&mut bob, &mut copy] {
        assert_eq!(browser.get("/approvals").await.status, StatusCode::SEE_OTHER);
    }
}
