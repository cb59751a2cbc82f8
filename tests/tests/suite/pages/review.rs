//! The review page: the whole is seen before it is approved, by whoever may.

use super::browser::Browser;
use crate::api::room::Room;
use axum::http::StatusCode;
use countersign_infra::approvals::ApprovalStoreExt;
use countersign_infra::domain::access_request::{Part, Protocol};
use countersign_infra::domain::approval::{Approval, Change, Outcome, State, Via};
use countersign_infra::domain::audit::Happening;
use countersign_infra::domain::display::{escape, head};
use countersign_infra::operations::WholeOperation;

const APPROVE: &str = "name=\"choice\" value=\"approve\">";
const NOT_YET: &str = "name=\"choice\" value=\"approve\" disabled>";
const DENY: &str = "name=\"choice\" value=\"deny\">";

/// What is held, of a text of many parts.
async fn long(room: &Room) -> (Approval, String) {
    let display: String = (0..4000)
        .map(|row| format!("insert into orders values ({row}, 'long');\n"))
        .collect();
    let (short, _) = room.held_long([9; 5]).await;
    let whole = WholeOperation {
        protocol: Protocol::Postgres,
        person: short.requester.key.clone(),
        place: short.place.clone(),
        parts: vec![Part {
            tag: "query".to_owned(),
            bytes: display.clone().into(),
        }],
        display: display.as_str().into(),
    };
    room.operations.keep(whole.digest(), &whole).await.unwrap();
    let approval = room.held_with([1; 5], "alice", |new| {
        new.operation.digest = whole.digest();
        new.operation.display = head(&display).to_owned();
        new.operation.display_bytes = display.len() as u64;
    });
    (approval.await, display)
}

/// The text that a page shows of the operation.
fn shown(page: &str) -> String {
    let (_, rest) = page.split_once("<pre aria-label=\"The operation\">\n").unwrap();
    rest.split("</pre>").next().unwrap().to_owned()
}

#[tokio::test]
async fn an_approver_sees_all_there_is_to_know_and_decides() {
    let room = Room::new().await;
    let approval = room.held([1; 5]).await;
    let mut bob = Browser::of(&room);
    bob.sign_in("bob").await;
    let list = bob.get("/approvals").await.text();
    assert!(list.contains(&format!("href=\"/approvals/{}\"", approval.id)), "{list}");
    let own = format!("/approvals/{}", approval.id);
    let page = bob.get(&own).await.text();
    for told in [
        "alice wants to write orders on orders",
        "alice &lt;alice@example.com&gt;",
        "127.0.0.1:50000 (psql)",
        "orders, database shop",
        "app, search_path public",
        "DELETE FROM orders WHERE id = 7",
        "0 of 1",
        "1 of dba",
        &approval.operation.digest.to_string(),
        APPROVE,
        DENY,
    ] {
        assert!(page.contains(told), "{told}: {page}");
    }
    assert!(
        !page.contains("http-equiv=\"refresh\""),
        "a form that is filled is not loaded anew"
    );
    let fields = [("choice", "approve"), ("reason", "ticket 12 <i>&")];
    let answer = bob.post(&format!("{own}/decide"), &fields).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    let stored = room.stored(&approval.id).await;
    assert_eq!(stored.state.as_str(), "approved");
    let ballot = &stored.votes[0].ballot;
    assert_eq!(
        (ballot.via, ballot.reason.as_deref()),
        (Via::Console, Some("ticket 12 <i>&"))
    );
    let page = bob.get(&own).await.text();
    assert!(
        page.contains("bob approve (console): ticket 12 &lt;i&gt;&amp;"),
        "{page}"
    );
    assert!(
        page.contains("http-equiv=\"refresh\"") && !page.contains(APPROVE),
        "{page}"
    );
    assert_eq!(room.noted("decided").await.len(), 1);
}

#[tokio::test]
async fn what_is_alike_is_granted_only_where_the_rules_grant() {
    let room = Room::new().await;
    let plain = room.held([1; 5]).await;
    let granting = room.held_with([2; 5], "alice", |new| new.terms.grant_seconds = Some(900));
    let granting = granting.await;
    let mut bob = Browser::of(&room);
    bob.sign_in("bob").await;
    let page = bob.get(&format!("/approvals/{}", plain.id)).await.text();
    assert!(!page.contains("value=\"grant\""), "{page}");
    let refused = bob
        .post(&format!("/approvals/{}/decide", plain.id), &[("choice", "grant")])
        .await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text());
    let own = format!("/approvals/{}", granting.id);
    let page = bob.get(&own).await.text();
    assert!(
        page.contains("value=\"grant\">Approve, and what is alike for 15m"),
        "{page}"
    );
    let answer = bob.post(&format!("{own}/decide"), &[("choice", "grant")]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    assert!(room.stored(&granting.id).await.votes[0].ballot.grants);
    assert!(
        bob.get(&own)
            .await
            .text()
            .contains("bob approve and what is alike (console)")
    );
}

#[tokio::test]
async fn the_page_shows_the_outcome_when_there_is_one() {
    let room = Room::new().await;
    let approval = room.held([1; 5]).await;
    let (mut bob, mut alice) = (Browser::of(&room), Browser::of(&room));
    bob.sign_in("bob").await;
    alice.sign_in("alice").await;
    let own = format!("/approvals/{}", approval.id);
    bob.get(&own).await;
    bob.post(&format!("{own}/decide"), &[("choice", "approve")]).await;
    let outcome = Outcome {
        ok: true,
        summary: "DELETE 1".to_owned(),
        rows: Some(1),
        duration_ms: 12,
    };
    let epoch = approval.lease.epoch;
    for change in [Change::Execute { epoch }, Change::Finish { epoch, outcome }] {
        room.store
            .change(&approval.id, change, chrono::Utc::now())
            .await
            .unwrap();
    }
    for browser in [&mut alice, &mut bob] {
        let page = browser.get(&own).await.text();
        assert!(
            page.contains("DELETE 1") && !page.contains("http-equiv=\"refresh\""),
            "{page}"
        );
        let replay = format!("countersign replay {}", approval.session);
        assert!(page.contains("id=\"recording\"") && page.contains(&replay), "{page}");
    }
    assert!(matches!(room.stored(&approval.id).await.state, State::Done { .. }));
}

#[tokio::test]
async fn a_long_operation_is_approved_only_after_its_last_part_was_served() {
    let room = Room::new().await;
    let (approval, display) = long(&room).await;
    let own = format!("/approvals/{}", approval.id);
    let (mut bob, mut dora) = (Browser::of(&room), Browser::of(&room));
    bob.sign_in("bob").await;
    dora.sign_in("dora").await;
    let first = bob.get(&own).await.text();
    let parts: u64 = first
        .split("part 1 of ")
        .nth(1)
        .unwrap()
        .split('<')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(parts > 3, "{parts}");
    // Who goes to the last part at once has not read what is between.
    let last = format!("{own}?part={parts}");
    let page = bob.get(&last).await.text();
    assert!(page.contains(NOT_YET) && !page.contains(APPROVE), "{page}");
    let decide = format!("{own}/decide");
    let refused = bob.post(&decide, &[("choice", "approve")]).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(
        refused.text().contains("read the whole of it before you approve"),
        "{}",
        refused.text()
    );
    let mut read = shown(&first);
    for part in 2..=parts {
        let page = bob.get(&format!("{own}?part={part}")).await.text();
        read.push_str(&shown(&page));
        assert_eq!(page.contains(APPROVE), part == parts, "part {part}");
        assert_eq!(page.contains(NOT_YET), part < parts, "part {part}");
        assert_eq!(page.contains("Next part"), part < parts);
    }
    assert_eq!(read, display.replace('\'', "&#39;").replace("&#39;", "'"));
    assert_eq!(
        bob.get(&format!("{own}?part={}", parts + 1)).await.status,
        StatusCode::NOT_FOUND
    );
    let readings = room.noted("audit_queried").await;
    assert_eq!(readings.len(), 1, "the reading is journaled once");
    assert!(matches!(&readings[0].what, Happening::AuditQueried { query } if query.contains(approval.id.as_str())));
    // Dora has not read it, and may deny it all the same.
    dora.get(&own).await;
    let refused = dora.post(&decide, &[("choice", "approve")]).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let answer = bob.post(&decide, &[("choice", "approve")]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    assert_eq!(room.stored(&approval.id).await.state.as_str(), "approved");
}

#[tokio::test]
async fn what_was_read_at_one_gateway_counts_at_another() {
    let room = Room::new().await;
    let (approval, _) = long(&room).await;
    let own = format!("/approvals/{}", approval.id);
    let (cookies, csrf) = {
        let mut bob = Browser::of(&room);
        bob.sign_in("bob").await;
        bob.get(&own).await;
        bob.get(&format!("{own}?part=2")).await;
        (bob.cookies.clone(), bob.csrf.clone())
    };
    let room = room.moved_to("g2");
    let mut bob = Browser::of(&room);
    (bob.cookies, bob.csrf) = (cookies, csrf);
    let mut part = 3;
    while bob
        .get(&format!("{own}?part={part}"))
        .await
        .text()
        .contains("Next part")
    {
        part += 1;
    }
    let answer = bob.post(&format!("{own}/decide"), &[("choice", "approve")]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
}

#[tokio::test]
async fn who_may_not_decide_is_told_why_and_who_may_not_see_is_told_nothing() {
    let room = Room::new().await;
    let approval = room.held([1; 5]).await;
    let own = format!("/approvals/{}", approval.id);
    let decide = format!("{own}/decide");
    for (name, expected) in [
        ("alice", "You asked for this yourself: somebody else has to decide."),
        ("oscar", "You are in none of the groups that may decide: dba."),
    ] {
        let mut browser = Browser::of(&room);
        browser.sign_in(name).await;
        let page = browser.get(&own).await.text();
        assert!(page.contains(expected), "{name}: {page}");
        assert!(
            !page.contains(APPROVE) && !page.contains(NOT_YET) && !page.contains(DENY),
            "{name}"
        );
        let refused = browser.post(&decide, &[("choice", "approve")]).await;
        assert_eq!(refused.status, StatusCode::CONFLICT);
        assert!(refused.text().contains(expected), "{name}: {}", refused.text());
    }
    let mut eve = Browser::of(&room);
    eve.sign_in("eve").await;
    let (there, absent) = (eve.get(&own).await, eve.get("/approvals/00000000").await);
    assert_eq!(
        (there.status, absent.status),
        (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND)
    );
    eve.get("/approvals").await;
    assert_eq!(
        eve.post(&decide, &[("choice", "deny")]).await.status,
        StatusCode::NOT_FOUND
    );
    assert!(
        eve.get("/approvals?all=true")
            .await
            .text()
            .contains("Nothing that you may see")
    );
    assert_eq!(room.stored(&approval.id).await, approval);
    let mut bob = Browser::of(&room);
    bob.sign_in("bob").await;
    bob.get(&own).await;
    bob.post(&decide, &[("choice", "deny"), ("reason", "not today")]).await;
    let late = bob.post(&decide, &[("choice", "approve")]).await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    assert!(late.text().contains("Too late: denied by bob"), "{}", late.text());
    assert!(bob.get(&own).await.text().contains("not today"));
}

#[tokio::test]
async fn texts_of_others_are_inert_and_what_would_not_be_seen_is_shown() {
    let room = Room::new().await;
    let hostile = "<script>alert(1)</script>\r\nSet-Cookie: a=b \u{202e}gnp\u{200b}\" onload=\"x";
    let approval = room.held_with([1; 5], "alice", |new| {
        new.requester.name = hostile.to_owned();
        new.client.application = hostile.to_owned();
        new.place.database = hostile.to_owned();
        new.terms.reasons = vec![hostile.to_owned()];
        new.operation.display = escape(&format!("select '{hostile}'"));
        new.operation.display_bytes = new.operation.display.len() as u64;
    });
    let own = format!("/approvals/{}", approval.await.id);
    let mut bob = Browser::of(&room);
    bob.sign_in("bob").await;
    for path in [own.as_str(), "/approvals"] {
        let answer = bob.get(path).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(!answer.headers.contains_key("set-cookie"));
        let page = answer.text();
        assert!(
            !page.contains("<script") && !page.contains("\" onload=") && !page.contains('\u{202e}'),
            "{page}"
        );
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;\\u{d}"), "{page}");
        assert!(page.contains("\\u{202e}"), "{page}");
    }
    assert!(
        bob.get(&own)
            .await
            .text()
            .contains("<mark>\\u{202e}</mark>gnp<mark>\\u{200b}</mark>")
    );
    for reason in ["two\r\nlines", "turned \u{202e}"] {
        let refused = bob
            .post(&format!("{own}/decide"), &[("choice", "deny"), ("reason", reason)])
            .await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{reason:?}");
    }
}
