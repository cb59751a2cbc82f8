//! Approvals through the API: who sees them, whose vote counts, and what the others are told.

use super::room::Room;
use axum::http::StatusCode;
use countersign_infra::domain::approval::State;
use countersign_infra::domain::audit::{Happening, verify_chain};
use countersign_infra::journal::Journal;
use serde_json::{Value, json};

fn approve() -> Value {
    json!({"choice": "approve", "via": "cli", "reason": "ticket 12"})
}

fn deny() -> Value {
    json!({"choice": "deny", "via": "console", "reason": "not today"})
}

#[tokio::test]
async fn an_approval_exists_only_for_its_requester_its_approvers_and_auditors() {
    let room = Room::new().await;
    let approval = room.held([1; 5]).await;
    for (name, sees) in [("alice", true), ("bob", true), ("oscar", true), ("eve", false)] {
        let one = room.get(name, &format!("/api/v1/approvals/{}", approval.id)).await;
        let list = room.get(name, "/api/v1/approvals").await;
        assert_eq!(one.status == StatusCode::OK, sees, "{name}");
        assert_eq!(
            list.json()["approvals"].as_array().unwrap().len(),
            usize::from(sees),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_foreign_approval_is_answered_like_one_that_is_not_there() {
    let room = Room::new().await;
    let there = room.held([1; 5]).await.id;
    let absent = "00000000";
    for path in ["", "/votes", "/withdraw"] {
        let ask = async |id: &str| {
            let path_and_id = format!("/api/v1/approvals/{id}{path}");
            let answer = match path {
                "" => room.get("eve", &path_and_id).await,
                "/votes" => room.post("eve", &path_and_id, approve()).await,
                _ => room.post("eve", &path_and_id, json!({})).await,
            };
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
            answer.detail().replace(id, "ID")
        };
        assert_eq!(ask(there.as_str()).await, ask(absent).await);
    }
    let before = room.get("eve", &format!("/api/v1/approvals?before={there}")).await;
    let absent = room.get("eve", &format!("/api/v1/approvals?before={absent}")).await;
    assert_eq!(
        (before.status, absent.status),
        (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND)
    );
    let noted = room.noted("decided").await;
    assert_eq!(noted.len(), 1, "the try to vote is noted");
    assert!(matches!(&noted[0].what, Happening::Decided { accepted: false, .. }));
}

#[tokio::test]
async fn the_link_of_a_notice_says_how_to_decide_and_nothing_of_the_approval() {
    let room = Room::new().await;
    let there = room.held([1; 5]).await.id;
    let tell = async |id: &str| {
        let answer = room.get("eve", &format!("/approvals/{id}")).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(
            answer.headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/plain")
        );
        String::from_utf8(answer.body).unwrap().replace(id, "ID")
    };
    let said = tell(there.as_str()).await;
    assert!(said.contains("countersign approvals approve ID"), "{said}");
    assert_eq!(said, tell("00000000").await);
    let script = room.get("eve", "/approvals/%3Cscript%3E").await;
    assert_eq!(script.status, StatusCode::BAD_REQUEST);
    assert!(!script.detail().contains('<'));
}

#[tokio::test]
async fn an_approval_is_shown_with_its_quorum_and_whether_the_reader_may_vote() {
    let room = Room::new().await;
    let id = room.held([1; 5]).await.id;
    for (name, may_vote) in [("alice", false), ("bob", true), ("oscar", false)] {
        let shown = room.get(name, &format!("/api/v1/approvals/{id}")).await.json();
        assert_eq!(shown["may_vote"], may_vote, "{name}");
        assert_eq!(shown["state"], "pending");
        assert_eq!(shown["quorum"][0]["quorum"], 1);
        assert!(shown["seconds_left"].as_u64().unwrap() > 500);
    }
}

#[tokio::test]
async fn a_vote_of_an_approver_counts_and_is_journaled_before_the_answer() {
    let room = Room::new().await;
    let id = room.held([1; 5]).await.id;
    let answer = room
        .post("bob", &format!("/api/v1/approvals/{id}/votes"), approve())
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json());
    assert_eq!(answer.json()["state"], "approved");
    assert_eq!(answer.json()["quorum"][0]["approved_by"], json!(["bob"]));
    let stored = room.stored(&id).await;
    assert!(matches!(stored.state, State::Approved { .. }));
    let noted = room.noted("decided").await;
    assert_eq!(noted[0].person_name.as_deref(), Some("bob"));
    let Happening::Decided {
        approval,
        choice,
        accepted,
        reason,
        why,
    } = &noted[0].what
    else {
        panic!("{:?}", noted[0].what)
    };
    assert_eq!((approval, choice.as_str(), *accepted), (&id, "approve", true));
    assert_eq!((reason.as_deref(), why), (Some("ticket 12"), &None));
}

#[tokio::test]
async fn a_vote_that_does_not_count_is_told_why_and_what_stands() {
    let room = Room::new().await;
    let check = async |number: u8, name: &str, body: Value, status: StatusCode, says: &str, state: &str| {
        let id = room.held([number; 5]).await.id;
        if number >= 10 {
            let first = room
                .post("dora", &format!("/api/v1/approvals/{id}/votes"), deny())
                .await;
            assert_eq!(first.status, StatusCode::OK);
        }
        let answer = room.post(name, &format!("/api/v1/approvals/{id}/votes"), body).await;
        assert_eq!(answer.status, status, "{number} {name}");
        assert!(answer.detail().contains(says), "{}", answer.detail());
        assert_eq!(answer.json()["approval"]["state"], state);
        let noted = room.noted("decided").await;
        assert!(matches!(
            &noted.last().unwrap().what,
            Happening::Decided {
                accepted: false,
                why: Some(_),
                ..
            }
        ));
    };
    let no = StatusCode::CONFLICT;
    check(1, "alice", approve(), no, "you asked for this yourself", "pending").await;
    check(2, "alice", deny(), no, "you asked for this yourself", "pending").await;
    check(3, "oscar", approve(), no, "none of the groups", "pending").await;
    check(10, "bob", approve(), no, "denied by dora", "denied").await;
    check(11, "bob", deny(), no, "denied by dora", "denied").await;
}

#[tokio::test]
async fn a_requester_who_is_a_dba_too_cannot_approve_their_own() {
    let room = Room::new().await;
    let id = room.held_with([1; 5], "bob", |_| {}).await.id;
    let answer = room
        .post("bob", &format!("/api/v1/approvals/{id}/votes"), approve())
        .await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_eq!(room.stored(&id).await.state, State::Pending);
}

#[tokio::test]
async fn one_person_counts_once_towards_a_quorum() {
    let room = Room::new().await;
    let id = room
        .held_with([1; 5], "alice", |new| new.terms.clauses[0].quorum = 2)
        .await
        .id;
    let path = format!("/api/v1/approvals/{id}/votes");
    assert_eq!(room.post("bob", &path, approve()).await.json()["state"], "pending");
    let again = room.post("bob", &path, approve()).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert!(again.detail().contains("voted already"));
    assert_eq!(room.post("dora", &path, approve()).await.json()["state"], "approved");
}

#[tokio::test]
async fn of_many_votes_at_once_each_person_counts_once_and_the_record_stays_whole() {
    let room = Room::new().await;
    let id = room
        .held_with([1; 5], "alice", |new| new.terms.clauses[0].quorum = 2)
        .await
        .id;
    let path = format!("/api/v1/approvals/{id}/votes");
    let (a, b, c, d) = tokio::join!(
        room.post("bob", &path, approve()),
        room.post("bob", &path, approve()),
        room.post("dora", &path, approve()),
        room.post("dora", &path, approve()),
    );
    let counted = [a, b, c, d]
        .iter()
        .filter(|answer| answer.status == StatusCode::OK)
        .count();
    assert_eq!(counted, 2);
    let stored = room.stored(&id).await;
    assert_eq!(stored.votes.len(), 2);
    assert!(matches!(stored.state, State::Approved { .. }));
}

#[tokio::test]
async fn the_requester_alone_withdraws() {
    let room = Room::new().await;
    let id = room.held([1; 5]).await.id;
    let path = format!("/api/v1/approvals/{id}/withdraw");
    let foreign = room.post("bob", &path, json!({})).await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    let own = room.post("alice", &path, json!({"reason": "wrong row"})).await;
    assert_eq!(own.status, StatusCode::OK);
    assert_eq!(own.json()["state"], "withdrawn");
    let late = room.post("alice", &path, json!({})).await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    let vote = room
        .post("bob", &format!("/api/v1/approvals/{id}/votes"), approve())
        .await;
    assert!(vote.detail().contains("withdrawn"), "{}", vote.detail());
}

#[tokio::test]
async fn a_number_is_read_as_people_type_it_and_anything_else_is_refused() {
    let room = Room::new().await;
    let id = room.held([0; 5]).await.id;
    assert_eq!(id.as_str(), "00000000");
    for (text, status) in [
        ("00000000", 200),
        ("0000-0000", 200),
        ("oooo-OOOO", 200),
        ("0000%200000", 200),
        ("0000000", 400),
        ("000000000", 400),
        ("0000000!", 400),
        ("%F0%9F%98%80", 400),
        ("%FF", 400),
        ("'%20OR%201=1--", 400),
        ("..%2F..%2Fetc", 400),
        ("00000000%0d%0aX:%20y", 400),
        (&"0".repeat(5000), 400),
    ] {
        let answer = room.get("alice", &format!("/api/v1/approvals/{text}")).await;
        assert_eq!(answer.status.as_u16(), status, "{text}");
    }
}

#[tokio::test]
async fn a_list_is_paged_without_a_gap_and_filters_that_are_not_known_are_refused() {
    let room = Room::new().await;
    for number in 0..7 {
        room.held([number; 5]).await;
    }
    room.held_with([100; 5], "bob", |new| {
        new.terms.clauses[0].approvers = vec!["security".to_owned()]
    })
    .await;
    let denied = room.held([101; 5]).await.id;
    room.post("bob", &format!("/api/v1/approvals/{denied}/votes"), deny())
        .await;
    let (mut seen, mut path) = (Vec::new(), "/api/v1/approvals?state=pending&limit=3".to_owned());
    loop {
        let page = room.get("alice", &path).await.json();
        let approvals = page["approvals"].as_array().unwrap().clone();
        assert!(approvals.len() <= 3);
        seen.extend(
            approvals
                .iter()
                .map(|approval| approval["id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => path = format!("/api/v1/approvals?state=pending&limit=3&before={next}"),
            None => break,
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 7);
    for query in [
        "stat=pending",
        "state=open",
        "limit=x",
        "limit=-1",
        "before=1",
        "state=pending&state=any",
    ] {
        let answer = room.get("alice", &format!("/api/v1/approvals?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn what_the_api_notes_is_one_unbroken_chain_of_many_people() {
    let room = Room::new().await;
    let id = room
        .held_with([1; 5], "alice", |new| new.terms.clauses[0].quorum = 2)
        .await
        .id;
    let path = format!("/api/v1/approvals/{id}/votes");
    tokio::join!(
        room.post("alice", &path, approve()),
        room.post("bob", &path, approve()),
        room.post("dora", &path, deny()),
        room.get("oscar", "/api/v1/audit"),
    );
    let session = room.noted("decided").await[0].session;
    let events = room.store.session(session).await.unwrap();
    assert_eq!(events.len(), 4);
    verify_chain(&events).unwrap();
    let mut names: Vec<_> = events.iter().map(|event| event.person_name.clone().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["alice", "bob", "dora", "oscar"]);
}
