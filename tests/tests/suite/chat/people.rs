//! For whom an account speaks: by the address that its workspace verified, and with the groups of the last sign-in.

use super::refusals::told;
use super::{BOB, DAVE, chats, psql, said, slack_card};
use countersign_infra::directory::DirectoryStore;
use countersign_tests::bot::{ChatOptions, Chats, Way};
use countersign_tests::slack;
use countersign_tests::wait::eventually;
use std::time::Duration;

async fn click(chats: &Chats, user: &str) {
    let card = slack_card(chats).await.unwrap();
    let person = chats.slack.person(slack::TEAM, user);
    person.click(slack::CHANNEL, &card.ts, "approve").await.unwrap();
}

/// Clicks until it counts: the directory is told of a sign-in beside it.
async fn approved(chats: &Chats, user: &str, statement: tokio::task::JoinHandle<anyhow::Result<std::process::Output>>) {
    let mut statement = statement;
    for _ in 0..20 {
        click(chats, user).await;
        if let Ok(done) = tokio::time::timeout(Duration::from_secs(2), &mut statement).await {
            let said = said(&done.unwrap().unwrap());
            assert!(said.contains("DELETE 1"), "{said}");
            return;
        }
    }
    panic!("{}", chats.bot_log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_speaks_for_whoever_has_its_verified_address_where_that_is_configured() {
    let options = ChatOptions {
        bot: "verified_email = true".to_owned(),
        ..ChatOptions::new(Way::Connected)
    };
    let chats = Chats::start(options).await.unwrap();
    let member = |email: &str, is_email_confirmed| slack::User {
        email: Some(email.to_owned()),
        is_email_confirmed,
        ..slack::User::member(BOB.0, "robert")
    };
    // Nobody of this address has ever signed in; and one that the workspace has not confirmed means nobody.
    let waiting = psql(&chats, "delete from orders where id = 7");
    chats.slack.add_user(slack::TEAM, slack::User::member(DAVE.0, "dave"));
    click(&chats, DAVE.0).await;
    told(&chats, DAVE.0, "linked to nobody").await;
    chats.world.gateway.run("bob", &["approvals", "list"]).unwrap();
    let carol = ("U0CAROL", "carol");
    chats.world.add_person("carol", &["dba"]);
    chats.world.gateway.run("carol", &["approvals", "list"]).unwrap();
    let unconfirmed = slack::User {
        is_email_confirmed: false,
        ..slack::User::member(carol.0, carol.1)
    };
    chats.slack.add_user(slack::TEAM, unconfirmed);
    click(&chats, carol.0).await;
    told(&chats, carol.0, "linked to nobody").await;
    // The directory knows her: it is the address that counted for nothing.
    let store = chats.store().unwrap();
    let found = eventually("carol in the directory", Duration::from_secs(10), async || {
        let found = DirectoryStore::find(&store, "carol@example.com").await.ok()?;
        (found.len() == 1).then_some(())
    });
    found.await.unwrap();
    click(&chats, carol.0).await;
    let twice = chats.slack.wait_for("carol is told again", |slack| {
        let told = slack.ephemerals(slack::TEAM, carol.0).into_iter();
        (told
            .filter(|message| message.body.to_string().contains("linked to nobody"))
            .count()
            == 2)
            .then_some(())
    });
    twice.await.unwrap();

    chats.slack.add_user(slack::TEAM, member("Bob@Example.com", true));
    approved(&chats, BOB.0, waiting).await;
    let (code, audit) = chats
        .world
        .gateway
        .run("bob", &["audit", "--event", "chat_linked"])
        .unwrap();
    assert_eq!(code, 0, "{audit}");
    assert!(audit.contains("by the address bob@example.com"), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_left_a_group_decides_no_more_once_any_sign_in_has_said_so() {
    let chats = chats(ChatOptions::new(Way::Connected)).await.unwrap();
    approved(&chats, BOB.0, psql(&chats, "delete from orders where id = 7")).await;
    // A token tells whole seconds, and the link was made within this one.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    chats.world.add_person("bob", &["sales"]);
    chats.world.gateway.run("bob", &["approvals", "list"]).unwrap();
    let mut waiting = psql(&chats, "delete from orders where id = 8");
    told_soon(&chats).await;
    let early = tokio::time::timeout(Duration::from_millis(500), &mut waiting).await;
    assert!(early.is_err(), "{early:?}");
}

/// Clicks at an open card as bob who is in no group of those that decide, and sees it refused.
async fn told_soon(chats: &Chats) {
    click(chats, BOB.0).await;
    told(chats, BOB.0, "none of the groups").await;
}
