//! Whose account it is: from a click to the issuer and back, and what an old sign-in still counts for.

use super::{BOB, DAVE, chats, check_requests, custom_id, discord_card, psql, said, slack_card};
use chrono::{TimeDelta, Utc};
use countersign_infra::approvals::ApprovalStore;
use countersign_infra::chat_links::ChatLinkStore;
use countersign_infra::domain::approval::Approval;
use countersign_infra::domain::chat_link::{ChatAccount, ChatLink, ChatPlatform};
use countersign_tests::bot::{ChatOptions, Chats, Way};
use countersign_tests::provider::{Browser, Page, Provider};
use countersign_tests::world::WorldOptions;
use countersign_tests::{discord, slack};
use serde_json::{Value, json};
use url::Url;

/// A world whose pages sign people in at a certified provider, which ends with the second value.
pub(super) async fn signing_in(options: ChatOptions) -> (Chats, Provider) {
    let provider = Provider::start().await.unwrap();
    let world = WorldOptions {
        gateway: provider.gateway(),
        ..options.world
    };
    (chats(ChatOptions { world, ..options }).await.unwrap(), provider)
}

pub(super) async fn stored(chats: &Chats, card: &slack::Message) -> Approval {
    let id = card.text().split_whitespace().next().unwrap();
    let store = chats.store().unwrap();
    ApprovalStore::read(&store, &id.parse().unwrap()).await.unwrap()
}

/// What Slack tells an account alone after it did something, with a link to a page of the gateway.
pub(super) async fn link_in_slack(chats: &Chats, user: &str, doing: impl AsyncFnOnce(), told: &str, page: &str) -> Url {
    let before = chats.slack.ephemerals(slack::TEAM, user).len();
    doing().await;
    let answer = chats.slack.wait_for(told, |slack| {
        let new = slack.ephemerals(slack::TEAM, user).into_iter().skip(before);
        new.map(|message| message.body)
            .find(|body| body.to_string().contains(told))
    });
    let answer = answer.await.unwrap_or_else(|error| {
        let said = chats.slack.ephemerals(slack::TEAM, user).pop();
        panic!("{error}: {said:?}\n{}", chats.bot_log())
    });
    link(chats, &answer, page)
}

/// The same in Discord.
pub(super) async fn link_in_discord(
    chats: &Chats,
    user: &str,
    doing: impl AsyncFnOnce(),
    told: &str,
    page: &str,
) -> Url {
    let before = chats.discord.ephemerals(user).len();
    doing().await;
    let answer = chats.discord.wait_for(told, |discord| {
        let new = discord.ephemerals(user).into_iter().skip(before);
        new.map(|message| message.body)
            .find(|body| body.to_string().contains(told))
    });
    let answer = answer.await.unwrap_or_else(|error| {
        let said = chats.discord.ephemerals(user).pop();
        panic!("{error}: {said:?}\n{}", chats.bot_log())
    });
    link(chats, &answer, page)
}

/// The address that one of a message's buttons opens.
fn link(chats: &Chats, message: &Value, page: &str) -> Url {
    let start = format!("{}/{page}/", chats.world.gateway.http_url());
    let mut values = vec![message];
    while let Some(value) = values.pop() {
        if let Some(url) = value["url"].as_str().filter(|url| url.starts_with(&start)) {
            return url.parse().unwrap();
        }
        values.extend(value.as_array().into_iter().flatten());
        values.extend(value.as_object().into_iter().flat_map(|object| object.values()));
    }
    panic!("no link to {start} in {message}");
}

/// Follows a link, signs in, and says that the account is one's own.
pub(super) async fn says_yes(browser: &mut Browser, link: &Url, person: &str) -> Page {
    let page = browser.open(link.clone(), person).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.text);
    let done = browser.submit(&page, &[("own", "yes")]).await.unwrap();
    let speaks = format!("now speaks for <strong>{person}</strong>");
    assert!(done.text.contains(&speaks), "{}", done.text);
    page
}

pub(super) async fn clicks_in_slack(chats: &Chats, user: &str) {
    let card = slack_card(chats).await.unwrap();
    let person = chats.slack.person(slack::TEAM, user);
    person.click(slack::CHANNEL, &card.ts, "approve").await.unwrap();
}

pub(super) async fn clicks_in_discord(chats: &Chats, user: &str) {
    let card = discord_card(chats).await.unwrap();
    let person = chats.discord.person(user);
    let approve = custom_id(&card, "approve");
    person.click(discord::CHANNEL, &card.id, &approve).await.unwrap();
}

pub(super) async fn commands_in_slack(chats: &Chats, user: &str, text: &str) {
    let person = chats.slack.person(slack::TEAM, user);
    person.command(slack::CHANNEL, "/countersign", text).await.unwrap();
}

async fn commands_in_discord(chats: &Chats, user: &str, name: &str) {
    let person = chats.discord.person(user);
    let options = json!([{"type": 1, "name": name, "options": []}]);
    person.command(discord::CHANNEL, "countersign", options).await.unwrap();
}

const LINKED_TO_NOBODY: &str = "linked to nobody";
const TOO_OLD: &str = "is too long ago to know your groups";
const SIGN_IN: &str = "this chat account speaks for you here";

async fn links_and_decides(way: Way) {
    let (chats, provider) = signing_in(ChatOptions::new(way)).await;
    let waiting = psql(&chats, "delete from orders where id = 7");
    let card = slack_card(&chats).await.unwrap();
    discord_card(&chats).await.unwrap();

    let clicked = async || clicks_in_slack(&chats, DAVE.0).await;
    let clicked = link_in_slack(&chats, DAVE.0, clicked, LINKED_TO_NOBODY, "link").await;
    let asked = async || commands_in_slack(&chats, DAVE.0, "link").await;
    let asked = link_in_slack(&chats, DAVE.0, asked, SIGN_IN, "link").await;
    let elsewhere = async || commands_in_discord(&chats, DAVE.1, "link").await;
    let elsewhere = link_in_discord(&chats, DAVE.1, elsewhere, SIGN_IN, "link").await;
    assert!(clicked != asked && asked != elsewhere);
    let before = stored(&chats, &card).await;
    assert!(before.is_open() && before.votes.is_empty(), "{before:?}");

    let mut browser = Browser::new().unwrap();
    let page = says_yes(&mut browser, &clicked, "dave").await;
    for told in [DAVE.0, slack::TEAM, "dave@example.com", "dba"] {
        assert!(page.text.contains(told), "{told}: {}", page.text);
    }
    let again = browser.open(clicked, "dave").await.unwrap();
    assert_eq!(again.status, 404, "a link is good once");
    let page = says_yes(&mut browser, &elsewhere, "dave").await;
    for told in [DAVE.1, discord::GUILD] {
        assert!(page.text.contains(told), "{told}: {}", page.text);
    }
    // Linked already, and yet good: whoever asked twice may follow either.
    says_yes(&mut browser, &asked, "dave").await;

    clicks_in_slack(&chats, DAVE.0).await;
    assert!(said(&waiting.await.unwrap().unwrap()).contains("DELETE 1"));
    let voter = stored(&chats, &card).await.votes[0].ballot.voter.clone();
    let issuer = provider.url.as_str().trim_end_matches('/');
    assert_eq!(
        (voter.key.issuer.as_str(), voter.key.subject.as_str()),
        (issuer, "dave")
    );
    let ended = chats.discord.wait_for("the outcome in Discord", |discord| {
        let messages = discord.messages(discord::CHANNEL);
        messages
            .iter()
            .all(|message| !super::is_open(&message.buttons()))
            .then_some(())
    });
    ended.await.unwrap();
    let waiting = psql(&chats, "delete from orders where id = 8");
    clicks_in_discord(&chats, DAVE.1).await;
    assert!(said(&waiting.await.unwrap().unwrap()).contains("DELETE 1"));
    assert!(!chats.bot_log().contains("/link/"), "links are secrets");
    check_requests(&chats);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_linked_to_nobody_signs_in_by_the_link_and_decides_over_connections() {
    links_and_decides(Way::Connected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_linked_to_nobody_signs_in_by_the_link_and_decides_by_signed_requests() {
    links_and_decides(Way::Signed).await;
}

/// Makes the last sign-in behind an account's link older than the bot takes.
async fn grow_old(chats: &Chats, platform: ChatPlatform, team: &str, user: &str) {
    let account = ChatAccount {
        platform,
        team: team.to_owned(),
        user: user.to_owned(),
    };
    let store = chats.store().unwrap();
    let link = ChatLinkStore::read(&store, &account).await.unwrap().unwrap();
    let old = ChatLink {
        refreshed: Utc::now() - TimeDelta::minutes(61),
        version: link.version + 1,
        ..link.clone()
    };
    ChatLinkStore::put(&store, &old, Some(&link)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_sign_in_counts_for_no_click_and_no_command_until_it_is_renewed() {
    let options = ChatOptions {
        bot: "link_hours_max = 1".to_owned(),
        ..ChatOptions::new(Way::Signed)
    };
    let (chats, _provider) = signing_in(options).await;
    grow_old(&chats, ChatPlatform::Slack, slack::TEAM, BOB.0).await;
    grow_old(&chats, ChatPlatform::Discord, discord::GUILD, BOB.1).await;
    let waiting = psql(&chats, "delete from orders where id = 7");
    let card = slack_card(&chats).await.unwrap();
    let id = card.text().split_whitespace().next().unwrap().to_owned();

    let clicked = async || clicks_in_slack(&chats, BOB.0).await;
    let clicked = link_in_slack(&chats, BOB.0, clicked, TOO_OLD, "link").await;
    for command in [
        "pending",
        "sessions",
        "audit who:alice",
        &format!("approve {id}"),
        &format!("deny {id} no"),
    ] {
        let asked = async || commands_in_slack(&chats, BOB.0, command).await;
        link_in_slack(&chats, BOB.0, asked, TOO_OLD, "link").await;
    }
    let elsewhere = async || clicks_in_discord(&chats, BOB.1).await;
    link_in_discord(&chats, BOB.1, elsewhere, TOO_OLD, "link").await;
    let asked = async || commands_in_discord(&chats, BOB.1, "pending").await;
    link_in_discord(&chats, BOB.1, asked, TOO_OLD, "link").await;
    let before = stored(&chats, &card).await;
    assert!(before.is_open() && before.votes.is_empty(), "{before:?}");

    says_yes(&mut Browser::new().unwrap(), &clicked, "bob").await;
    clicks_in_slack(&chats, BOB.0).await;
    assert!(said(&waiting.await.unwrap().unwrap()).contains("DELETE 1"));
    check_requests(&chats);
}
