//! Where an approval is shown: to those who may decide, again after a while, and to more people; and to nobody once decided.

use super::held::Held;
use super::{ALICE, BOB, DAVE, chats, check_requests, custom_id, is_open};
use countersign_tests::bot::{ChatOptions, Chats, Way};
use countersign_tests::wait::eventually;
use countersign_tests::{discord, slack};
use std::time::{Duration, Instant};

/// Reminders come at their time, and the bot looks for them about once a second.
const SOON: Duration = Duration::from_secs(30);
/// The second channel.
const SENIORS: &str = "C0SENIORS";

#[tokio::test(flavor = "multi_thread")]
async fn who_may_decide_is_written_to_and_decides_there() {
    let options = ChatOptions {
        route: "direct = true".to_owned(),
        ..ChatOptions::new(Way::Signed)
    };
    let chats = chats(options).await.unwrap();
    let (slack, discord) = (&chats.slack, &chats.discord);

    let held = Held::open(&chats, "delete from orders where id = 7").await.unwrap();
    let to_bob = slack.wait_for("bob's message in Slack", |slack| {
        let mut messages = slack.direct_messages(slack::TEAM, BOB.0).into_iter();
        messages.find(|message| is_open(&message.buttons()) && message.body.to_string().contains(&held.id))
    });
    let to_bob = to_bob
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", chats.bot_log()));
    let clicked = Instant::now();
    let bob = slack.person(slack::TEAM, BOB.0);
    bob.click(&to_bob.channel, &to_bob.ts, "approve").await.unwrap();
    held.answered(clicked).await.unwrap();
    let closed = slack.wait_for("the outcome in bob's message", |slack| {
        let mut messages = slack.direct_messages(slack::TEAM, BOB.0).into_iter();
        messages.find(|message| message.ts == to_bob.ts && message.body.to_string().contains("DELETE 1"))
    });
    let closed = closed.await.unwrap();
    assert!(!is_open(&closed.buttons()), "{:?}", closed.body);

    let held = Held::open(&chats, "delete from orders where id = 8").await.unwrap();
    let to_bob = discord.wait_for("bob's message in Discord", |discord| {
        let mut messages = discord.direct_messages(BOB.1).into_iter();
        messages.find(|message| is_open(&message.buttons()) && message.body.to_string().contains(&held.id))
    });
    let to_bob = to_bob
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", chats.bot_log()));
    let clicked = Instant::now();
    let bob = discord.person(BOB.1);
    bob.click(&to_bob.channel, &to_bob.id, &custom_id(&to_bob, "approve"))
        .await
        .unwrap();
    held.answered(clicked).await.unwrap();

    // Who asked sees it without buttons, and who is nobody sees nothing.
    let to_alice = slack.wait_for("alice's messages", |slack| {
        let messages = slack.direct_messages(slack::TEAM, ALICE.0);
        (messages.len() == 2).then_some(messages)
    });
    for message in to_alice.await.unwrap() {
        assert!(!is_open(&message.buttons()), "{:?}", message.body);
    }
    assert!(slack.direct_messages(slack::TEAM, DAVE.0).is_empty());
    assert!(discord.direct_messages(DAVE.1).is_empty());
    check_requests(&chats);
}

/// Reminders of an approval: below its card in Slack, and in Discord's channel.
fn reminders(chats: &Chats, id: &str) -> (usize, usize) {
    let is_reminder = |body: &serde_json::Value| {
        let body = body.to_string();
        body.contains("Still waits for 0 of 1") && body.contains(id)
    };
    let cards = chats.slack.messages(slack::TEAM, slack::CHANNEL).into_iter();
    let card = cards
        .filter(|message| message.thread_ts.is_none())
        .find(|message| message.body.to_string().contains(id));
    let replies = card.map(|card| chats.slack.replies(slack::TEAM, slack::CHANNEL, &card.ts));
    let replies = replies.unwrap_or_default();
    let in_slack = replies.iter().filter(|reply| is_reminder(&reply.body)).count();
    let all = chats.discord.messages(discord::CHANNEL);
    (in_slack, all.iter().filter(|note| is_reminder(&note.body)).count())
}

fn of_seniors(chats: &Chats, id: &str) -> Option<slack::Message> {
    let mut cards = chats.slack.messages(slack::TEAM, SENIORS).into_iter();
    cards.find(|message| message.thread_ts.is_none() && message.body.to_string().contains(id))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_told_again_and_to_more_people_and_what_is_decided_is_not() {
    let options = ChatOptions {
        route: format!(
            "remind_seconds = 10\nescalate = {{ after_seconds = 5, channels = [\"slack:{}:{SENIORS}\"] }}",
            slack::TEAM
        ),
        ..ChatOptions::new(Way::Connected)
    };
    let chats = chats(options).await.unwrap();
    chats.slack.add_channel(slack::TEAM, SENIORS, "seniors", true);
    let hold = async |id: u32| {
        let statement = format!("update orders set state = state where id = {id}");
        Held::open(&chats, &statement).await.unwrap()
    };
    let came = async |what: &str, has_come: &dyn Fn() -> bool| {
        let came = eventually(what, SOON, async || has_come().then_some(()));
        came.await
            .unwrap_or_else(|error| panic!("{error}\n{}", chats.bot_log()));
    };

    // Older than the one that waits, and decided at once: its time would come first.
    let decided = hold(1).await;
    let quiet = decided.id.clone();
    decided.approve(&chats).await.unwrap();
    let opened = Instant::now();
    let waits = hold(2).await;
    let id = waits.id.clone();
    assert!(of_seniors(&chats, &id).is_none());
    came("a card for the seniors", &|| of_seniors(&chats, &id).is_some()).await;
    assert!(
        opened.elapsed() >= Duration::from_millis(4500),
        "{:?}",
        opened.elapsed()
    );
    assert_eq!(reminders(&chats, &id), (0, 0));
    came("reminders in both chats", &|| reminders(&chats, &id) == (1, 1)).await;
    assert!(
        opened.elapsed() >= Duration::from_millis(9500),
        "{:?}",
        opened.elapsed()
    );
    assert_eq!(reminders(&chats, &quiet), (0, 0));
    assert!(of_seniors(&chats, &quiet).is_none());

    // Decided by the seniors; every card tells of it.
    let card = of_seniors(&chats, &id).unwrap();
    assert!(is_open(&card.buttons()), "{:?}", card.buttons());
    let clicked = Instant::now();
    let bob = chats.slack.person(slack::TEAM, BOB.0);
    bob.click(SENIORS, &card.ts, "approve").await.unwrap();
    waits.answered(clicked).await.unwrap();
    came("the outcome in both channels", &|| {
        let cards = chats.slack.messages(slack::TEAM, slack::CHANNEL).into_iter();
        let cards: Vec<_> = cards
            .chain(of_seniors(&chats, &id))
            .filter(|message| message.thread_ts.is_none() && message.body.to_string().contains(&id))
            .collect();
        cards.len() == 2 && cards.iter().all(|card| card.body.to_string().contains("UPDATE 1"))
    })
    .await;

    // Whoever waits after that is told of later than the second reminder would have come.
    let last = hold(3).await;
    came("a reminder of the last", &|| reminders(&chats, &last.id) == (1, 1)).await;
    assert!(opened.elapsed() > Duration::from_secs(20), "{:?}", opened.elapsed());
    assert_eq!((reminders(&chats, &id), reminders(&chats, &quiet)), ((1, 1), (0, 0)));
    check_requests(&chats);
}
