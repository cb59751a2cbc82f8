//! The whole of an operation through the API: who reads it, that it is journaled, and that nobody approves what they
//! have seen only the beginning of.

use super::room::Room;
use axum::http::StatusCode;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use countersign_infra::domain::approval::State;
use countersign_infra::domain::audit::{Event, Happening};
use countersign_infra::domain::id::ApprovalId;
use serde_json::{Value, json};

fn votes(id: &ApprovalId) -> String {
    format!("/api/v1/approvals/{id}/votes")
}

fn operation(id: &ApprovalId) -> String {
    format!("/api/v1/approvals/{id}/operation")
}

fn approve() -> Value {
    json!({"choice": "approve", "via": "cli"})
}

async fn readings(room: &Room) -> Vec<(String, String)> {
    let noted = room.noted("audit_queried").await;
    let reading = |event: Event| {
        let words = event.what.words().concat();
        (event.person_name.unwrap(), words)
    };
    noted.into_iter().map(reading).collect()
}

#[tokio::test]
async fn the_whole_text_is_for_those_who_see_the_approval_and_each_reading_is_journaled() {
    let room = Room::new().await;
    let (approval, whole) = room.held_long([1; 5]).await;
    for name in ["alice", "bob", "oscar"] {
        let answer = room.get(name, &operation(&approval.id)).await;
        assert_eq!(answer.status, StatusCode::OK, "{name}");
        let view = answer.json();
        assert_eq!(view["display"], json!(&*whole.display));
        assert_eq!(view["bytes"], json!(whole.display.len()));
        assert_eq!(view["digest"], json!(whole.digest()));
        assert_eq!((&view["as_asked"], &view["parts"]), (&json!(true), &json!(null)));
    }
    let strange = room.get("eve", &operation(&approval.id)).await;
    assert_eq!(strange.status, StatusCode::NOT_FOUND);
    let words = format!("operation of approval {}, whole text", approval.id);
    let wanted = ["alice", "bob", "oscar"].map(|name| (name.to_owned(), words.clone()));
    assert_eq!(readings(&room).await, wanted);
}

#[tokio::test]
async fn the_exact_parts_are_for_auditors_alone() {
    let room = Room::new().await;
    let (approval, whole) = room.held_long([1; 5]).await;
    let path = format!("{}?exact=true", operation(&approval.id));
    for (name, status) in [
        ("alice", StatusCode::FORBIDDEN),
        ("bob", StatusCode::FORBIDDEN),
        ("eve", StatusCode::NOT_FOUND),
    ] {
        let answer = room.get(name, &path).await;
        assert_eq!(answer.status, status, "{name}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("secret"), "{name}");
    }
    assert_eq!(readings(&room).await, []);
    let view = room.get("oscar", &path).await.json();
    let part = &whole.parts[0];
    assert_eq!(
        view["parts"],
        json!([{"tag": part.tag, "base64": BASE64_STANDARD.encode(&part.bytes)}])
    );
    let words = format!("operation of approval {}, exact parts", approval.id);
    assert_eq!(readings(&room).await, [("oscar".to_owned(), words)]);
}

#[tokio::test]
async fn nobody_approves_what_they_have_seen_only_the_beginning_of() {
    let room = Room::new().await;
    let (approval, _) = room.held_long([1; 5]).await;
    // The reading of somebody else, and of another approval, is not theirs.
    let (other, _) = room.held_long([2; 5]).await;
    room.get("dora", &operation(&approval.id)).await;
    room.get("bob", &operation(&other.id)).await;
    let answer = room.post("bob", &votes(&approval.id), approve()).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(answer.detail().contains("--whole"), "{}", answer.detail());
    assert_eq!(answer.json()["approval"]["state"], "pending");
    assert_eq!(room.stored(&approval.id).await.state, State::Pending);
    let Happening::Decided { accepted, why, .. } = &room.noted("decided").await[0].what else {
        panic!("no decision")
    };
    assert!(!accepted);
    assert!(why.as_ref().unwrap().contains("not read the whole"), "{why:?}");

    assert_eq!(room.get("bob", &operation(&approval.id)).await.status, StatusCode::OK);
    let answer = room.post("bob", &votes(&approval.id), approve()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json());
    assert_eq!(answer.json()["state"], "approved");
}

#[tokio::test]
async fn who_may_not_vote_is_told_that_and_denying_needs_no_reading() {
    let room = Room::new().await;
    let (approval, _) = room.held_long([1; 5]).await;
    for (name, why) in [
        ("alice", "you asked for this yourself"),
        ("oscar", "none of the groups"),
    ] {
        let answer = room.post(name, &votes(&approval.id), approve()).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        assert!(answer.detail().contains(why), "{}", answer.detail());
    }
    let denial = json!({"choice": "deny", "via": "cli"});
    let answer = room.post("bob", &votes(&approval.id), denial).await;
    assert_eq!(answer.json()["state"], "denied");
}

#[tokio::test]
async fn what_was_read_through_another_gateway_was_read() {
    let room = Room::new().await;
    let (approval, _) = room.held_long([1; 5]).await;
    room.get("bob", &operation(&approval.id)).await;
    let elsewhere = room.moved_to("g2");
    let answer = elsewhere.post("dora", &votes(&approval.id), approve()).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    let answer = elsewhere.post("bob", &votes(&approval.id), approve()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json());
}

#[tokio::test]
async fn a_search_of_the_audit_for_the_words_of_a_reading_is_no_reading() {
    let room = Room::new().await;
    let (approval, _) = room.held_long([1; 5]).await;
    // Oscar audits; the words that are journaled of his search hold those of a reading.
    let path = format!("/api/v1/audit?text=operation+of+approval+{},+whole+text", approval.id);
    assert_eq!(room.get("oscar", &path).await.status, StatusCode::OK);
    let (_, words) = readings(&room).await.remove(0);
    assert!(
        words.contains(&format!("operation of approval {}, whole text", approval.id)),
        "{words}"
    );
    assert_ne!(words, format!("operation of approval {}, whole text", approval.id));
}

#[tokio::test]
async fn what_is_shown_otherwise_than_it_was_asked_says_so_and_does_not_count_as_read() {
    let room = Room::new().await;
    let (approval, mut whole) = room.held_long([1; 5]).await;
    whole.display = whole.display.replace("long ", "**** ").into();
    room.operations.keep(whole.digest(), &whole).await.unwrap();
    let view = room.get("bob", &operation(&approval.id)).await.json();
    assert_eq!(view["as_asked"], false);
    assert_eq!(view["display"], json!(&*whole.display));
    let answer = room.post("bob", &votes(&approval.id), approve()).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    let elsewhere = room.moved_to("g2");
    let answer = elsewhere.post("bob", &votes(&approval.id), approve()).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn what_is_not_kept_or_damaged_is_told_and_is_no_reading() {
    let room = Room::new().await;
    let short = room.held([1; 5]).await;
    let answer = room.get("bob", &operation(&short.id)).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.detail().contains("not kept"), "{}", answer.detail());
    let (long, whole) = room.held_long([2; 5]).await;
    let path = room.directory.path().join(format!("operations/{}", whole.digest()));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let answer = room.get("bob", &operation(&long.id)).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.json()["type"], "urn:countersign:problem:damaged");
    assert_eq!(readings(&room).await, []);
    let answer = room.post("bob", &votes(&long.id), approve()).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
}
