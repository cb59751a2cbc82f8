//! One account may ask so much at once, and others are not the slower for it.

use super::{ALICE, BOB, chats, check_requests, custom_id, discord_card, psql, said};
use countersign_tests::bot::{ChatOptions, Way};
use countersign_tests::wait::eventually;
use countersign_tests::{discord, slack};
use std::time::Duration;

/// What one account may ask at once.
const BURST: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_asks_too_much_at_once_waits_and_no_other_does() {
    let chats = chats(ChatOptions::new(Way::Signed)).await.unwrap();
    let slack = &chats.slack;
    let waiting = psql(&chats, "delete from orders where id = 7");
    let card = discord_card(&chats).await.unwrap();
    let ask = async |user: &str| {
        let person = slack.person(slack::TEAM, user);
        person.command(slack::CHANNEL, "/countersign", "help").await.unwrap();
    };
    let heard = |user: &str, text: &str| {
        let told = slack.ephemerals(slack::TEAM, user).into_iter();
        told.filter(|message| message.body.to_string().contains(text)).count()
    };
    const HELP: &str = "/countersign audit";
    const TOO_MANY: &str = "Too many requests at once: try again in 1 s.";

    let mut asked = 0;
    while heard(BOB.0, TOO_MANY) == 0 {
        assert!(asked < 10 * BURST, "{asked} requests at once");
        ask(BOB.0).await;
        asked += 1;
    }
    assert!(asked > BURST, "{asked}");
    let helped = heard(BOB.0, HELP);
    assert!((BURST..asked).contains(&helped), "{helped} of {asked}");

    // Others, in the same workspace and elsewhere, are answered and decide.
    ask(ALICE.0).await;
    let answered = slack.wait_for("alice's answer", |_| (heard(ALICE.0, HELP) == 1).then_some(()));
    answered.await.unwrap();
    assert_eq!(heard(ALICE.0, TOO_MANY), 0);
    let bob = chats.discord.person(BOB.1);
    bob.click(discord::CHANNEL, &card.id, &custom_id(&card, "approve"))
        .await
        .unwrap();
    assert!(said(&waiting.await.unwrap().unwrap()).contains("DELETE 1"));

    // And it is over soon.
    let again = eventually("bob is answered again", Duration::from_secs(20), async || {
        ask(BOB.0).await;
        (heard(BOB.0, HELP) > helped).then_some(())
    });
    again.await.unwrap();
    check_requests(&chats);
}
