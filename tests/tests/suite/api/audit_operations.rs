//! Operations through the API and the command line: what was asked, and what became of it.

use super::cli::{Desk, holds};
use super::room::Room;
use axum::http::StatusCode;
use chrono::Utc;
use countersign_infra::domain::access_request::Place;
use countersign_infra::domain::approval::{Outcome, Terms};
use countersign_infra::domain::audit::{Chain, Event, Happening, VerdictWord};
use countersign_infra::domain::effect::{EffectKind, Effects};
use countersign_infra::domain::id::{ApprovalId, Digest, SessionId};
use countersign_infra::journal::Journal;
use serde_json::{Value, json};

const READ: &str = "SELECT name FROM customers";
const APPROVED: &str = "DELETE FROM orders WHERE id = 7";
const DENIED: &str = "DELETE FROM orders\nWHERE id = 8";
const DROPPED: &str = "DROP TABLE orders";
const LOST: &str = "UPDATE orders SET total = 0";

impl Room {
    /// A session of that person in which five operations were asked that ended in every way of interest.
    pub async fn asked(&self, name: &str) -> SessionId {
        let id = SessionId(uuid::Uuid::now_v7());
        let person = self.person(name);
        let mut chain = Chain::new(id, "g1", Some(&person), Some("orders".to_owned()));
        let told = [
            vec![
                asked(READ, EffectKind::Read),
                judged(READ, VerdictWord::Allow),
                answered(READ),
            ],
            held(APPROVED, 8),
            vec![executing(APPROVED, 8), answered(APPROVED)],
            held(DENIED, 9),
            vec![refused(DENIED, Some(9), "countersign: denied by dora: not today")],
            vec![
                asked(DROPPED, EffectKind::Ddl),
                judged(DROPPED, VerdictWord::Deny),
                refused(DROPPED, None, "countersign: denied by policy: no ddl"),
            ],
            held(LOST, 10),
            vec![executing(LOST, 10), closed()],
        ];
        let events: Vec<Event> = told
            .into_iter()
            .flatten()
            .map(|what| chain.next(Utc::now(), what))
            .collect();
        self.store.append(&events).await.unwrap();
        id
    }
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn number(number: u8) -> ApprovalId {
    ApprovalId::from_random([number; 5])
}

fn asked(text: &str, kind: EffectKind) -> Happening {
    let mut effects = Effects::default();
    effects.add_object(kind, "orders");
    Happening::Asked {
        operation: digest(text),
        display: text.to_owned(),
        display_bytes: text.len() as u64,
        size_bytes: text.len() as u64,
        effects,
        place: Place {
            target: "orders".to_owned(),
            database: "shop".to_owned(),
            role: "app".to_owned(),
            search_path: "public".to_owned(),
        },
        in_transaction: false,
    }
}

fn judged(text: &str, verdict: VerdictWord) -> Happening {
    Happening::Verdict {
        operation: digest(text),
        verdict,
        rules: vec!["a-rule".to_owned()],
        reasons: Vec::new(),
    }
}

fn held(text: &str, approval: u8) -> Vec<Happening> {
    let held = Happening::Held {
        operation: digest(text),
        approval: number(approval),
        terms: Terms {
            clauses: Vec::new(),
            expires_seconds: 600,
            grant_seconds: None,
            critical: false,
            reasons: Vec::new(),
        },
        deadline: Utc::now(),
    };
    vec![asked(text, EffectKind::Write), judged(text, VerdictWord::Hold), held]
}

fn executing(text: &str, approval: u8) -> Happening {
    Happening::Executing {
        operation: digest(text),
        approval: number(approval),
        votes: digest("votes"),
        approvers: vec!["bob".to_owned()],
    }
}

fn answered(text: &str) -> Happening {
    Happening::Answered {
        operation: digest(text),
        outcome: Outcome {
            ok: true,
            summary: "DELETE 1".to_owned(),
            rows: Some(1),
            duration_ms: 3,
        },
        bytes: 17,
    }
}

fn refused(text: &str, approval: Option<u8>, message: &str) -> Happening {
    Happening::Refused {
        operation: Some(digest(text)),
        approval: approval.map(number),
        code: "denied".to_owned(),
        message: message.to_owned(),
    }
}

fn closed() -> Happening {
    Happening::SessionClosed {
        why: "the gateway ended without closing it".to_owned(),
        chunks: 1,
        last: digest("last"),
    }
}

/// What was asked, of an answer.
fn displays(answer: &Value) -> Vec<&str> {
    let operations = answer["operations"].as_array().unwrap();
    operations
        .iter()
        .map(|operation| operation["display"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn only_those_whom_the_policy_lets_look_for_operations_and_that_is_journaled() {
    let room = Room::new().await;
    room.asked("alice").await;
    for (name, status) in [("alice", 403), ("bob", 403), ("eve", 403), ("oscar", 200)] {
        let answer = room
            .get(name, "/api/v1/audit/operations?state=denied&text=delete")
            .await;
        assert_eq!(answer.status.as_u16(), status, "{name}");
    }
    let noted = room.noted("audit_queried").await;
    let [noted] = noted.as_slice() else { panic!("{noted:?}") };
    let query = r#"operations {"state":"denied","text":"delete"}"#.to_owned();
    assert_eq!(noted.what, Happening::AuditQueried { query });
    assert_eq!(noted.person_name.as_deref(), Some("oscar"));
}

#[tokio::test]
async fn operations_are_found_by_each_filter_and_tell_their_ends() {
    let room = Room::new().await;
    let session = room.asked("alice").await;
    room.asked("bob").await;
    let everything = [LOST, DROPPED, DENIED, APPROVED, READ];
    for (query, expected) in [
        ("who=ALICE", &everything[..]),
        ("who=alice@example.com", &[]),
        ("who=nobody", &[]),
        (&format!("session={session}"), &everything),
        ("who=alice&state=denied", &[DROPPED, DENIED]),
        ("who=alice&state=denied,unknown", &[LOST, DROPPED, DENIED]),
        ("who=alice&state=expired", &[]),
        ("who=alice&target=orders&text=where+ID", &[DENIED, APPROVED]),
        ("target=ledger", &[]),
        ("who=alice&since=1h&state=done", &[APPROVED, READ]),
        ("until=1h", &[]),
        (&format!("who=alice&approval={}", number(9)), &[DENIED]),
        (&format!("who=alice&approval={}&state=done", number(9)), &[]),
        ("who=alice&limit=2", &[LOST, DROPPED]),
    ] {
        let answer = room.get("oscar", &format!("/api/v1/audit/operations?{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}");
        assert_eq!(displays(&answer.json()), expected, "{query}");
    }
    let query = format!("/api/v1/audit/operations?session={session}");
    let answer = room.get("oscar", &query).await.json();
    let [lost, _, denied, approved, _] = answer["operations"].as_array().unwrap().as_slice() else {
        panic!("{answer}")
    };
    assert_eq!((&lost["state"], &lost["outcome"]), (&json!("unknown"), &json!(null)));
    assert_eq!(
        (&denied["state"], &denied["decided_by"]),
        (&json!("denied"), &json!(["dora"]))
    );
    assert_eq!(denied["message"], "countersign: denied by dora: not today");
    assert_eq!(
        (&approved["state"], &approved["decided_by"]),
        (&json!("done"), &json!(["bob"]))
    );
    assert_eq!(approved["outcome"]["rows"], 1);
}

#[tokio::test]
async fn pages_of_operations_follow_each_other() {
    let room = Room::new().await;
    room.asked("alice").await;
    room.asked("bob").await;
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = room
            .get("oscar", &format!("/api/v1/audit/operations?limit=3{after}"))
            .await
            .json();
        seen.extend(displays(&page).into_iter().map(str::to_owned));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, [[LOST, DROPPED, DENIED, APPROVED, READ]; 2].concat());
}

#[tokio::test]
async fn a_question_about_operations_that_is_not_understood_is_refused() {
    let room = Room::new().await;
    let long = format!("text={}", "x".repeat(201));
    for query in [
        "whoo=alice",
        "event=asked",
        "state=deny",
        "state=denied,approved",
        "since=yesterday",
        "until=1w",
        "approval=1",
        "session=1",
        "limit=many",
        "after=made-up",
        "who=a&who=b",
        "text=%00",
        &long,
    ] {
        let answer = room.get("oscar", &format!("/api/v1/audit/operations?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        answer.detail();
    }
}

#[tokio::test]
async fn the_command_line_lists_operations_by_flags_and_by_words() {
    let desk = Desk::new().await;
    desk.room.asked("alice").await;
    let by_flags = desk
        .run("oscar", &["audit", "--operations", "--who", "alice", "--since", "1h"])
        .await;
    assert_eq!(by_flags.code, 0, "{}", by_flags.err);
    let approval = number(8).to_string();
    holds(
        &by_flags,
        &[
            "STATE",
            "alice",
            "orders",
            "done",
            "write orders",
            &approval,
            "bob",
            "dora",
            "policy a-rule",
            "sent, outcome not known",
            "DELETE FROM orders",
        ],
    );
    assert!(
        !by_flags.out.contains("WHERE id = 8"),
        "not the first line alone:\n{}",
        by_flags.out
    );
    for arguments in [
        &[
            "audit",
            "who:alice",
            "on:orders",
            "since:24h",
            "state:denied",
            "text:delete from",
        ][..],
        &["audit", r#"who:alice on:orders state:denied text:"delete from""#],
        &["audit", "--state", "denied", "--who", "alice", "--text", "delete from"],
        &["audit", "--state", "denied", "who:alice", "text:DELETE", "--all"],
    ] {
        let said = desk.run("oscar", arguments).await;
        assert_eq!(said.code, 0, "{arguments:?}: {}", said.err);
        let lines: Vec<&str> = said.out.lines().collect();
        assert_eq!(lines.len(), 2, "{arguments:?}:\n{}", said.out);
        assert!(
            lines[1].contains("dora") && lines[1].ends_with("DELETE FROM orders"),
            "{}",
            lines[1]
        );
    }
    let one = desk.run("oscar", &["audit", "--operations", "--limit", "1"]).await;
    let after = one.out.lines().last().unwrap().trim_start_matches("More: --after ");
    let next = desk
        .run("oscar", &["audit", "--operations", "--limit", "1", "--after", after])
        .await;
    holds(&next, &["DROP TABLE orders"]);
    let all = desk
        .run("oscar", &["audit", "--operations", "--all", "--json"])
        .await
        .json();
    assert_eq!(displays(&all), [LOST, DROPPED, DENIED, APPROVED, READ]);
    let none = desk.run("oscar", &["audit", "who:nobody"]).await;
    assert_eq!((none.code, none.out.as_str()), (0, "Nothing was found.\n"));
    let events = desk
        .run("oscar", &["audit", "--all", "--event", "asked", "--json"])
        .await
        .json();
    assert_eq!(events["events"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn words_that_make_no_question_are_wrong_usage() {
    let desk = Desk::new().await;
    for (arguments, why) in [
        (&["audit", "alice"][..], "has no key"),
        (&["audit", "whom:alice"], "there is no key"),
        (&["audit", "state:deny"], "there is no state"),
        (&["audit", "--state", "deny"], "there is no state"),
        (&["audit", "who:alice", "--who", "bob"], "`who` is there twice"),
        (&["audit", "who:alice", "--event", "asked"], "cannot be used with"),
        (&["audit", r#"text:"delete"#], "not closed"),
    ] {
        let said = desk.run("oscar", arguments).await;
        assert_eq!(said.code, 2, "{arguments:?}: {}", said.err);
        assert!(said.err.contains(why), "{arguments:?}: {}", said.err);
    }
}
