//! Denied in Slack: the button, the form that asks for the reason, and what who comes later is told.

use super::refusals::told;
use super::{BOB, CAROL, chats, check_requests, psql, said, slack_card};
use countersign_tests::bot::{ChatOptions, Way};
use countersign_tests::slack;

async fn denied(way: Way) {
    let chats = chats(ChatOptions::new(way)).await.unwrap();
    let slack = &chats.slack;
    slack.add_user(slack::TEAM, slack::User::member(CAROL.0, "carol"));
    chats.link("carol", &["dba"], CAROL.0, CAROL.1).await.unwrap();
    let waiting = psql(&chats, "delete from orders where id = 7");
    let card = slack_card(&chats).await.unwrap();
    let id = card.text().split_whitespace().next().unwrap().to_owned();

    let bob = slack.person(slack::TEAM, BOB.0);
    bob.click(slack::CHANNEL, &card.ts, "deny").await.unwrap();
    let form = slack.wait_for("the form", |slack| slack.views(slack::TEAM, BOB.0).pop());
    let form = form
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", chats.bot_log()));
    assert!(form.is_open && form.body.to_string().contains(&id), "{:?}", form.body);
    let reason = "the customer <was> not asked";
    bob.submit(&form, &[("reason", "reason", reason)]).await.unwrap();
    let output = said(&waiting.await.unwrap().unwrap());
    assert!(output.contains(&format!("denied by bob: {reason}")), "{output}");
    let left = "select count(*) from orders where id = 7";
    assert_eq!(chats.world.count(left).await.unwrap(), 1);
    let after = slack.wait_for("the denial on the card", |slack| {
        let mut cards = slack.messages(slack::TEAM, slack::CHANNEL).into_iter();
        cards.find(|message| message.ts == card.ts && message.body.to_string().contains("denied by bob"))
    });
    let after = after.await.unwrap();
    assert!(after.body.to_string().contains("not asked"), "{:?}", after.body);

    // Whoever still has the card before them as it was.
    let carol = slack.person(slack::TEAM, CAROL.0);
    for action in ["approve", "deny"] {
        let before = slack.ephemerals(slack::TEAM, CAROL.0).len();
        carol.click_seen(&card, action).await.unwrap();
        let answer = slack.wait_for("an answer", |slack| {
            slack.ephemerals(slack::TEAM, CAROL.0).into_iter().nth(before)
        });
        let answer = answer
            .await
            .unwrap_or_else(|error| panic!("{action}: {error}\n{}", chats.bot_log()));
        let text = answer.body.to_string();
        assert!(text.contains("too late: denied by bob"), "{action}: {text}");
    }
    bob.click_seen(&card, "approve").await.unwrap();
    told(&chats, BOB.0, "too late: denied by bob").await;
    assert!(
        slack.views(slack::TEAM, CAROL.0).is_empty(),
        "a form that leads to nothing"
    );
    check_requests(&chats);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_asks_its_reason_and_who_comes_later_hears_of_it_over_a_connection() {
    denied(Way::Connected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_asks_its_reason_and_who_comes_later_hears_of_it_by_signed_requests() {
    denied(Way::Signed).await;
}
