//! Held in psql, decided in a chat: the real gateway and the real bot, before a Slack and a Discord of the tests' own.

use crate::chat_peers::discord::faults;
use anyhow::{Context, Result};
use countersign_tests::bot::{ChatOptions, Chats, Way};
use countersign_tests::{discord, slack};
use std::process::Output;
use tokio::task::JoinHandle;

mod commands;
mod denying;
mod granting;
mod held;
mod late;
mod limits;
mod linking;
mod load;
mod people;
mod refusals;
mod routing;
mod stepping_up;
mod weather;

/// People of the tests: alice asks, bob and carol are DBAs, and dave is linked to nobody.
pub(crate) const BOB: (&str, &str) = ("U0BOB", "2000000000000000002");
const ALICE: (&str, &str) = ("U0ALICE", "2000000000000000001");
const CAROL: (&str, &str) = ("U0CAROL", "2000000000000000003");
const DAVE: (&str, &str) = ("U0DAVE", "2000000000000000004");

/// A world in which alice and bob have linked their accounts.
pub(crate) async fn chats(options: ChatOptions) -> Result<Chats> {
    let chats = Chats::start(options).await?;
    for (name, (slack_user, discord_user)) in [("alice", ALICE), ("bob", BOB), ("dave", DAVE)] {
        chats.slack.add_user(slack::TEAM, slack::User::member(slack_user, name));
        chats.discord.add_member(discord::User::member(discord_user, name));
    }
    chats.link("alice", &["engineering"], ALICE.0, ALICE.1).await?;
    chats.link("bob", &["dba"], BOB.0, BOB.1).await?;
    Ok(chats)
}

/// Runs a statement as alice, beside the test: it may be held. It ends with its task.
pub(crate) fn psql(chats: &Chats, statement: &str) -> JoinHandle<Result<Output>> {
    let command = chats.world.gateway.psql("alice", countersign_tests::world::TARGET);
    let mut command = tokio::process::Command::from(command);
    command.args(["-c", statement]).kill_on_drop(true);
    tokio::spawn(async move { command.output().await.context("psql") })
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// Whether a card can be decided.
pub(crate) fn is_open(buttons: &[String]) -> bool {
    buttons.iter().any(|label| label == "Approve" || label == "Deny")
}

/// What a click on a button of a card in Discord carries.
fn custom_id(card: &discord::Message, action: &str) -> String {
    let ids = card.elements().filter_map(|element| element["custom_id"].as_str());
    let found = ids.into_iter().find(|id| id.starts_with(action));
    found
        .unwrap_or_else(|| panic!("no {action} on {:?}", card.body))
        .to_owned()
}

/// The only open card in Slack's channel, once it is there.
pub(crate) async fn slack_card(chats: &Chats) -> Result<slack::Message> {
    let found = chats.slack.wait_for("a card in Slack", |slack| {
        slack
            .messages(slack::TEAM, slack::CHANNEL)
            .into_iter()
            .find(|message| is_open(&message.buttons()))
    });
    found.await.with_context(|| chats.bot_log())
}

pub(crate) async fn discord_card(chats: &Chats) -> Result<discord::Message> {
    let found = chats.discord.wait_for("a card in Discord", |discord| {
        let messages = discord.messages(discord::CHANNEL).into_iter();
        messages.into_iter().find(|message| is_open(&message.buttons()))
    });
    found.await.with_context(|| chats.bot_log())
}

pub(crate) async fn the_story(way: Way) {
    let chats = chats(ChatOptions::new(way)).await.unwrap();
    let (slack, discord) = (&chats.slack, &chats.discord);

    // Bob approves in Slack.
    let waiting = psql(&chats, "delete from orders where id = 7");
    let card = slack_card(&chats).await.unwrap();
    discord_card(&chats).await.unwrap();
    let text = card.body.to_string();
    for wanted in [
        "alice",
        "delete from orders where id = 7",
        "shop",
        "engineering",
        "0 of 1",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    slack
        .person(slack::TEAM, BOB.0)
        .click(slack::CHANNEL, &card.ts, "approve")
        .await
        .unwrap();
    let output = waiting.await.unwrap().unwrap();
    assert!(said(&output).contains("DELETE 1"), "{}", said(&output));
    let done = slack.wait_for("the outcome in Slack", |slack| {
        let card = slack
            .messages(slack::TEAM, slack::CHANNEL)
            .into_iter()
            .find(|message| message.ts == card.ts)?;
        (!is_open(&card.buttons()) && card.body.to_string().contains("DELETE 1")).then_some(card)
    });
    let done = done.await.unwrap();
    assert!(done.body.to_string().contains("approved by bob"), "{:?}", done.body);
    let told = slack.wait_for("the outcome in the thread", |slack| {
        slack
            .replies(slack::TEAM, slack::CHANNEL, &card.ts)
            .into_iter()
            .find(|reply| reply.text().contains("DELETE 1"))
    });
    told.await.unwrap();
    discord
        .wait_for("the outcome in Discord", |discord| {
            let messages = discord.messages(discord::CHANNEL);
            messages.iter().find(|message| !is_open(&message.buttons())).map(drop)
        })
        .await
        .unwrap();
    let direct = slack.wait_for("alice is told", |slack| {
        let messages = slack.direct_messages(slack::TEAM, ALICE.0);
        messages
            .into_iter()
            .find(|message| message.body.to_string().contains("DELETE 1"))
    });
    assert!(!is_open(&direct.await.unwrap().buttons()));

    // Bob denies in Discord, with a reason.
    let waiting = psql(&chats, "delete from orders where id = 8");
    let card = discord_card(&chats).await.unwrap();
    discord
        .person(BOB.1)
        .click(discord::CHANNEL, &card.id, &custom_id(&card, "deny"))
        .await
        .unwrap();
    let form = discord.wait_for("a form", |discord| discord.modals(BOB.1).pop());
    let form = form.await.unwrap();
    discord
        .person(BOB.1)
        .submit(&form, &[("reason", "the customer was not asked")])
        .await
        .unwrap();
    let output = waiting.await.unwrap().unwrap();
    assert!(
        said(&output).contains("the customer was not asked"),
        "{}",
        said(&output)
    );
    assert_eq!(
        chats
            .world
            .count("select count(*) from orders where id = 8")
            .await
            .unwrap(),
        1
    );
    check_requests(&chats);
}

/// Holds what the bot sent to Discord to Discord's own description of requests.
pub(crate) fn check_requests(chats: &Chats) {
    let checked = faults(&chats.discord.requests());
    assert!(checked.lines().count() == 1 && !checked.starts_with("0 "), "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_decided_in_chats_that_the_bot_connects_to() {
    the_story(Way::Connected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_decided_in_chats_that_send_signed_requests() {
    the_story(Way::Signed).await;
}
