//! A vote that was clicked in a chat: it counts once its person has proved anew who they are.

use super::browser::Browser;
use crate::api::room::Room;
use axum::http::{StatusCode, header};
use chrono::{TimeDelta, Utc};
use countersign_infra::chat_links::ChatLinkStore;
use countersign_infra::domain::approval::{Approval, Choice, Via};
use countersign_infra::domain::chat_link::ChatLink;
use countersign_infra::domain::example::chat_account;
use countersign_infra::domain::ticket::{ConfirmVote, Purpose, Ticket};
use countersign_infra::tickets::TicketStore;
use serde_json::json;
use std::time::Duration;

/// What a bot writes down of a click.
const CLICK: &str = r#"{"payload_sha256":"0a1b","signed":"2026-01-01T00:00:00Z"}"#;

/// A click of bob's chat account.
async fn clicked(room: &Room, approval: &Approval, choice: Choice) -> String {
    clicked_with(room, approval, choice, false).await
}

async fn clicked_with(room: &Room, approval: &Approval, choice: Choice, grants: bool) -> String {
    let linked = ChatLink::link(
        chat_account(1),
        room.person("bob"),
        None,
        Utc::now() - TimeDelta::days(1),
    );
    room.store.put(&linked, None).await.unwrap();
    let vote = Purpose::ConfirmVote(ConfirmVote {
        account: chat_account(1),
        approval: approval.id.clone(),
        choice,
        reason: Some("ticket 12".to_owned()),
        grants,
        evidence: Some(CLICK.to_owned()),
    });
    let (secret, ticket) = Ticket::new([1; 32], vote, Utc::now(), Duration::from_secs(600));
    TicketStore::create(&room.store, &ticket).await.unwrap();
    format!("/confirm/{}", secret.reveal())
}

/// Where the page sends who has to prove anew who they are.
fn anew(at: &str) -> String {
    format!("/sign-in?return_to={}&anew=true", at.replace('/', "%2F"))
}

#[tokio::test]
async fn a_click_counts_once_its_person_has_signed_in_anew() {
    let room = Room::new().await;
    let approval = room.held([1; 5]).await;
    let at = clicked(&room, &approval, Choice::Approve).await;
    let mut bob = Browser::of(&room);
    bob.sign_in("bob").await;
    let answer = bob.get(&at).await;
    assert_eq!(
        answer.headers[header::LOCATION],
        anew(&at).as_str(),
        "a session from before is not enough"
    );
    bob.get("/approvals").await;
    let answer = bob.post(&at, &[]).await;
    // A page of its own: a form may not lead to the issuer.
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.text().contains(&anew(&at).replace('&', "&amp;")));
    assert_eq!(room.stored(&approval.id).await, approval, "nor for the form itself");
    let journey = bob.leave(&anew(&at)).await;
    assert_eq!(
        (journey.query["prompt"].as_str(), journey.query["max_age"].as_str()),
        ("login", "0")
    );
    let back = journey.back(&room, journey.payload(&room, "bob"));
    assert_eq!(bob.get(&back).await.headers[header::LOCATION], at.as_str());
    let page = bob.get(&at).await.text();
    for told in [
        "slack:T0001:U0001",
        "DELETE FROM orders WHERE id = 7",
        "ticket 12",
        "alice wants to write orders",
    ] {
        assert!(page.contains(told), "{told}: {page}");
    }
    let answer = bob.post(&at, &[]).await;
    assert_eq!(
        answer.headers[header::LOCATION],
        format!("/approvals/{}", approval.id).as_str()
    );
    let stored = room.stored(&approval.id).await;
    let ballot = &stored.votes[0].ballot;
    assert_eq!(
        (ballot.via, ballot.choice, ballot.reason.as_deref()),
        (Via::Console, Choice::Approve, Some("ticket 12"))
    );
    let evidence = ballot.evidence.as_deref().unwrap();
    assert!(
        evidence.contains("slack:T0001:U0001") && evidence.ends_with(CLICK),
        "{evidence}"
    );
    let link = ChatLinkStore::read(&room.store, &chat_account(1))
        .await
        .unwrap()
        .unwrap();
    assert!(
        link.is_fresh(Utc::now(), Duration::from_secs(60)),
        "the sign-in counts for the link too"
    );
    assert_eq!(bob.get(&at).await.status, StatusCode::NOT_FOUND, "the click is used up");
}

#[tokio::test]
async fn what_a_rule_wants_approved_after_a_fresh_sign_in_is_approved_no_other_way() {
    let room = Room::new().await;
    let approval = room.held_with([1; 5], "alice", |new| {
        new.terms.clauses[0].rule = "fresh-only".to_owned()
    });
    let approval = approval.await;
    let votes = format!("/api/v1/approvals/{}/votes", approval.id);
    let answer = room
        .post("bob", &votes, json!({"choice": "approve", "via": "cli"}))
        .await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(
        answer.detail().contains("asks for a fresh sign-in"),
        "{}",
        answer.detail()
    );

    let own = format!("/approvals/{}", approval.id);
    let mut bob = Browser::of(&room);
    bob.sign_in("bob").await;
    let page = bob.get(&own).await.text();
    assert!(
        page.contains("value=\"approve\" disabled>") && page.contains("sign in anew"),
        "{page}"
    );
    let answer = bob
        .post(&format!("{own}/decide"), &[("choice", "approve"), ("reason", "")])
        .await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_eq!(room.stored(&approval.id).await, approval, "nothing counts");

    let journey = bob.leave(&anew(&own)).await;
    let back = journey.back(&room, journey.payload(&room, "bob"));
    assert_eq!(bob.get(&back).await.headers[header::LOCATION], own.as_str());
    let page = bob.get(&own).await.text();
    assert!(page.contains("value=\"approve\">"), "{page}");
    let answer = bob
        .post(&format!("{own}/decide"), &[("choice", "approve"), ("reason", "")])
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(room.stored(&approval.id).await.votes.len(), 1);
}

#[tokio::test]
async fn an_issuer_that_did_not_ask_anew_proves_nothing() {
    let room = Room::new().await;
    let approval = room.held([1; 5]).await;
    let at = clicked(&room, &approval, Choice::Approve).await;
    let mut bob = Browser::of(&room);
    for (auth_time, expected) in [
        (json!(Utc::now().timestamp() - 3600), "did not ask you anew"),
        (json!(null), "auth_time"),
    ] {
        let journey = bob.leave(&anew(&at)).await;
        let mut payload = journey.payload(&room, "bob");
        payload.insert("auth_time".to_owned(), auth_time);
        let back = journey.back(&room, payload);
        let answer = bob.get(&back).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.text().contains(expected), "{}", answer.text());
    }
}

#[tokio::test]
async fn only_the_person_of_the_chat_account_confirms() {
    let room = Room::new().await;
    let approval = room.held([1; 5]).await;
    let at = clicked(&room, &approval, Choice::Deny).await;
    let mut dora = Browser::of(&room);
    dora.sign_in_at(&anew(&at), "dora").await;
    let answer = dora.get(&at).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.text().contains("speaks for somebody else"), "{}", answer.text());
    dora.get("/approvals").await;
    assert_eq!(dora.post(&at, &[]).await.status, StatusCode::FORBIDDEN);
    assert_eq!(room.stored(&approval.id).await, approval);
    let mut bob = Browser::of(&room);
    bob.sign_in_at(&anew(&at), "bob").await;
    bob.get(&at).await;
    assert_eq!(bob.post(&at, &[]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(room.stored(&approval.id).await.state.as_str(), "denied");
}

#[tokio::test]
async fn what_is_longer_than_the_page_is_read_before_it_is_confirmed() {
    let room = Room::new().await;
    let (approval, _) = room.held_long([1; 5]).await;
    let at = clicked(&room, &approval, Choice::Approve).await;
    let mut bob = Browser::of(&room);
    bob.sign_in_at(&anew(&at), "bob").await;
    let page = bob.get(&at).await.text();
    assert!(page.contains("only the beginning"), "{page}");
    let refused = bob.post(&at, &[]).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text());
    let mut part = 1;
    while bob
        .get(&format!("/approvals/{}?part={part}", approval.id))
        .await
        .text()
        .contains("Next part")
    {
        part += 1;
    }
    bob.get(&at).await;
    assert_eq!(
        bob.post(&at, &[]).await.status,
        StatusCode::SEE_OTHER,
        "the link stayed good"
    );
    assert_eq!(room.stored(&approval.id).await.state.as_str(), "approved");
}

#[tokio::test]
async fn a_click_that_grants_is_shown_as_one_and_counts_as_one() {
    let room = Room::new().await;
    let approval = room.held_with([1; 5], "alice", |new| new.terms.grant_seconds = Some(900));
    let approval = approval.await;
    let at = clicked_with(&room, &approval, Choice::Approve, true).await;
    let mut bob = Browser::of(&room);
    bob.sign_in_at(&anew(&at), "bob").await;
    let page = bob.get(&at).await.text();
    assert!(page.contains("and what is alike for 15m"), "{page}");
    assert_eq!(bob.post(&at, &[]).await.status, StatusCode::SEE_OTHER);
    assert!(room.stored(&approval.id).await.votes[0].ballot.grants);
}
