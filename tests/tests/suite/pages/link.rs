//! Linking a chat account: both are named, one yes, one use.

use super::browser::Browser;
use crate::api::room::Room;
use axum::http::StatusCode;
use chrono::Utc;
use countersign_infra::chat_links::ChatLinkStore;
use countersign_infra::domain::audit::Happening;
use countersign_infra::domain::example::chat_account;
use countersign_infra::domain::secret::Secret;
use countersign_infra::domain::ticket::{LinkChat, Purpose, Ticket};
use countersign_infra::tickets::TicketStore;
use std::time::Duration;

async fn asked(room: &Room, random: u8, lasts: Duration) -> String {
    let wish = Purpose::LinkChat(LinkChat {
        account: chat_account(1),
        account_name: "bobby <b>".to_owned(),
        team_name: "Example & Co".to_owned(),
    });
    let (secret, ticket) = Ticket::new([random; 32], wish, Utc::now(), lasts);
    room.store.create_ticket(&ticket).await;
    path(&secret)
}

fn path(secret: &Secret) -> String {
    format!("/link/{}", secret.reveal())
}

trait Tickets {
    async fn create_ticket(&self, ticket: &Ticket);
}

impl<S: TicketStore> Tickets for S {
    async fn create_ticket(&self, ticket: &Ticket) {
        TicketStore::create(self, ticket).await.unwrap();
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn both_accounts_are_named_and_one_yes_links_them_once() {
    let room = Room::new().await;
    let at = asked(&room, 1, HOUR).await;
    let mut bob = Browser::of(&room);
    let answer = bob
        .sign_in_at(&format!("/sign-in?return_to={}", at.replace('/', "%2F")), "bob")
        .await;
    assert_eq!(answer.headers["location"], at.as_str());
    let page = bob.get(&at).await.text();
    for told in [
        "bobby &lt;b&gt;",
        "Example &amp; Co",
        "U0001 in T0001",
        "slack",
        "bob@example.com",
        "dba",
        &room.issuer.name(),
    ] {
        assert!(page.contains(told), "{told}: {page}");
    }
    let links = |account| ChatLinkStore::read(&room.store, account);
    let account = chat_account(1);
    // Without the person's own word nothing is linked.
    let refused = bob.post(&at, &[]).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text());
    assert_eq!(links(&account).await.unwrap(), None);
    bob.get(&at).await;
    let done = bob.post(&at, &[("own", "yes")]).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text());
    assert!(
        done.text().contains("now speaks for <strong>bob</strong>"),
        "{}",
        done.text()
    );
    let link = links(&account).await.unwrap().unwrap();
    assert_eq!(link.person.key, room.person("bob").key);
    for again in [bob.post(&at, &[("own", "yes")]).await, bob.get(&at).await] {
        assert_eq!(again.status, StatusCode::NOT_FOUND, "the link is used up");
    }
    // Another person takes it over, and is told from whom.
    let at = asked(&room, 2, HOUR).await;
    let mut dora = Browser::of(&room);
    dora.sign_in("dora").await;
    assert!(
        dora.get(&at)
            .await
            .text()
            .contains("It speaks for <strong>bob &lt;bob@example.com&gt;</strong> until now")
    );
    let done = dora.post(&at, &[("own", "yes")]).await;
    assert!(done.text().contains("Before it spoke for bob"), "{}", done.text());
    assert_eq!(
        links(&account).await.unwrap().unwrap().person.key,
        room.person("dora").key
    );
    let journaled = room.noted("chat_linked").await;
    assert_eq!(journaled.len(), 2);
    let Happening::ChatLinked {
        account: linked,
        former,
        ..
    } = &journaled[1].what
    else {
        panic!("{journaled:?}");
    };
    assert_eq!((linked, former.as_ref()), (&account, Some(&room.person("bob").key)));
    assert_eq!(journaled[1].person, Some(room.person("dora").key));
}

#[tokio::test]
async fn a_ticket_that_is_over_or_of_another_purpose_links_nothing() {
    let room = Room::new().await;
    let mut bob = Browser::of(&room);
    bob.sign_in("bob").await;
    let over = asked(&room, 1, Duration::ZERO).await;
    let own_cookie = format!("/link/{}", bob.cookies["__Host-countersign-session"]);
    for path in [over.as_str(), &own_cookie, "/link/x", "/link/%00"] {
        assert_eq!(bob.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
        bob.get("/approvals").await;
        assert_eq!(
            bob.post(path, &[("own", "yes")]).await.status,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
    // And a link is no session.
    let good = asked(&room, 2, HOUR).await;
    let mut thief = Browser::of(&room);
    let secret = good.trim_start_matches("/link/").to_owned();
    thief.cookies.insert("__Host-countersign-session".to_owned(), secret);
    assert_eq!(thief.get("/approvals").await.status, StatusCode::SEE_OTHER);
    assert_eq!(ChatLinkStore::read(&room.store, &chat_account(1)).await.unwrap(), None);
}
