//! "Approve for 15 min", clicked: what is alike runs on, and what is not is held.

use super::held::Session;
use super::{BOB, chats, check_requests, custom_id, discord_card, slack_card};
use countersign_infra::approvals::ApprovalStore;
use countersign_tests::bot::{ChatOptions, Chats, Way};
use countersign_tests::{discord, slack};
use std::time::Instant;

/// As long as the policy of the world lets an approval grant.
const GRANT: &str = "Approve for 15 min";

async fn what_is_alike_runs(chats: &Chats, click: impl AsyncFnOnce()) {
    let update = |id: u32| format!("update orders set state = 'sent' where id = {id}");
    let mut alice = Session::open(chats).await.unwrap();
    let held = alice.hold(&update(1)).await.unwrap();
    let id = held.id.clone();
    let clicked = Instant::now();
    click().await;
    held.answered(clicked).await.unwrap();
    alice.run(&update(2)).await.unwrap();

    let stored = chats.store().unwrap().read(&id.parse().unwrap()).await.unwrap();
    let votes: Vec<_> = stored
        .votes
        .iter()
        .map(|vote| (vote.ballot.voter.name.as_str(), vote.ballot.grants))
        .collect();
    assert_eq!(votes, [("bob", true)]);
    let gateway = &chats.world.gateway;
    let (_, shown) = gateway.run("bob", &["approvals", "show", &id]).unwrap();
    assert!(
        shown.contains("what is alike in its session, until") && shown.contains("used 1 times"),
        "{shown}"
    );
    let (_, journal) = gateway.run("bob", &["audit", "--event", "decided"]).unwrap();
    assert!(journal.contains(&format!("{id} approve")), "{journal}");

    // Another way of changing the same table, and another session.
    let other = alice.hold("delete from orders where id = 7").await.unwrap();
    let mut another = Session::open(chats).await.unwrap();
    let same = another.hold(&update(3)).await.unwrap();
    assert!(other.id != id && same.id != id && other.id != same.id);
    let untouched = "select count(*) from orders where id = 7 or id = 3 and state <> 'sent'";
    assert_eq!(chats.world.count(untouched).await.unwrap(), 2);
    let sent = "select count(*) from orders where id in (1, 2) and state = 'sent'";
    assert_eq!(chats.world.count(sent).await.unwrap(), 2);
    check_requests(chats);
}

async fn clicked_in_slack(way: Way) {
    let chats = chats(ChatOptions::new(way)).await.unwrap();
    what_is_alike_runs(&chats, async || {
        let card = slack_card(&chats).await.unwrap();
        assert!(
            card.buttons().iter().any(|label| label == GRANT),
            "{:?}",
            card.buttons()
        );
        let bob = chats.slack.person(slack::TEAM, BOB.0);
        bob.click(slack::CHANNEL, &card.ts, "grant").await.unwrap();
    })
    .await;
}

async fn clicked_in_discord(way: Way) {
    let chats = chats(ChatOptions::new(way)).await.unwrap();
    what_is_alike_runs(&chats, async || {
        let card = discord_card(&chats).await.unwrap();
        assert!(
            card.buttons().iter().any(|label| label == GRANT),
            "{:?}",
            card.buttons()
        );
        let bob = chats.discord.person(BOB.1);
        bob.click(discord::CHANNEL, &card.id, &custom_id(&card, "grant"))
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_alike_runs_on_after_a_signed_click_in_slack() {
    clicked_in_slack(Way::Signed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_alike_runs_on_after_a_click_over_a_connection_of_slack() {
    clicked_in_slack(Way::Connected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_alike_runs_on_after_a_signed_click_in_discord() {
    clicked_in_discord(Way::Signed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_alike_runs_on_after_a_click_over_a_connection_of_discord() {
    clicked_in_discord(Way::Connected).await;
}
