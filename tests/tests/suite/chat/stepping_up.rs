//! A rule that asks for a fresh sign-in: a click decides nothing until its person has confirmed it.

use super::linking::{
    clicks_in_discord, clicks_in_slack, commands_in_slack, link_in_discord, link_in_slack, says_yes, signing_in, stored,
};
use super::{BOB, check_requests, discord_card, psql, said, slack_card};
use chrono::{DateTime, Utc};
use countersign_infra::domain::approval::{Approval, Via};
use countersign_tests::bot::{ChatOptions, Chats, Way};
use countersign_tests::provider::{Browser, Provider};
use countersign_tests::{discord, slack};
use serde_json::{Value, json};
use url::Url;

/// As both chats show it: Discord escapes what follows.
const ASKS: &str = "asks for a fresh sign";

/// A world in which bob has linked his account by a sign-in, and his browser.
async fn stage(way: Way) -> (Chats, Provider, Browser) {
    let options = ChatOptions {
        bot: "step_up_rules = [\"writes-need-a-dba\"]".to_owned(),
        ..ChatOptions::new(way)
    };
    let (chats, provider) = signing_in(options).await;
    let mut browser = Browser::new().unwrap();
    let asked = async || commands_in_slack(&chats, BOB.0, "link").await;
    let link = link_in_slack(&chats, BOB.0, asked, "Sign in again", "link").await;
    says_yes(&mut browser, &link, "bob").await;
    let asked = async || {
        let person = chats.discord.person(BOB.1);
        let options = json!([{"type": 1, "name": "link", "options": []}]);
        person.command(discord::CHANNEL, "countersign", options).await.unwrap();
    };
    let link = link_in_discord(&chats, BOB.1, asked, "Sign in again", "link").await;
    says_yes(&mut browser, &link, "bob").await;
    (chats, provider, browser)
}

async fn nothing_counts_yet(chats: &Chats, card: &slack::Message) {
    let approval = stored(chats, card).await;
    assert!(approval.is_open() && approval.votes.is_empty(), "{approval:?}");
    let left = "select count(*) from orders where id = 7";
    assert_eq!(chats.world.count(left).await.unwrap(), 1);
}

/// Opens the page as bob, who is signed in but has to sign in anew, and confirms.
async fn confirms(browser: &mut Browser, link: &Url) {
    let page = browser.open(link.clone(), "bob").await.unwrap();
    assert!(
        page.status == 200 && page.text.contains("delete from orders where id = 7"),
        "{} {}",
        page.status,
        page.text
    );
    let done = browser.submit(&page, &[]).await.unwrap();
    assert!(done.url.path().starts_with("/approvals/"), "{} {}", done.url, done.text);
    let again = browser.open(link.clone(), "bob").await.unwrap();
    assert_eq!(again.status, 404, "the link is used up");
}

/// What proved the click, as it stands in the vote.
fn click(approval: &Approval, account: &str) -> Value {
    let [vote] = approval.votes.as_slice() else {
        panic!("{:?}", approval.votes);
    };
    assert_eq!(vote.ballot.via, Via::Console);
    let evidence = vote.ballot.evidence.as_deref().unwrap();
    assert!(
        evidence.starts_with(&format!("clicked by {account} and confirmed")),
        "{evidence}"
    );
    let click = &evidence[evidence.find('{').unwrap_or_else(|| panic!("{evidence}"))..];
    let click: Value = serde_json::from_str(click).unwrap();
    let payload = click["payload_sha256"].as_str().unwrap();
    assert!(
        payload.len() == 64 && payload.bytes().all(|digit| digit.is_ascii_hexdigit()),
        "{click}"
    );
    click
}

#[tokio::test(flavor = "multi_thread")]
async fn a_click_in_slack_counts_once_its_person_has_signed_in_anew_and_its_proof_stays_with_the_vote() {
    let began = Utc::now();
    let (chats, _provider, mut browser) = stage(Way::Signed).await;
    let waiting = psql(&chats, "delete from orders where id = 7");
    let card = slack_card(&chats).await.unwrap();
    let clicked = async || clicks_in_slack(&chats, BOB.0).await;
    let link = link_in_slack(&chats, BOB.0, clicked, ASKS, "confirm").await;
    nothing_counts_yet(&chats, &card).await;
    // A command steps up as a click does.
    let id = card.text().split_whitespace().next().unwrap();
    let asked = async || commands_in_slack(&chats, BOB.0, &format!("approve {id}")).await;
    link_in_slack(&chats, BOB.0, asked, ASKS, "confirm").await;
    // In somebody else's hands the link decides nothing.
    let stolen = Browser::new().unwrap().open(link.clone(), "carol").await.unwrap();
    assert_eq!(stolen.status, 403, "{}", stolen.text);
    nothing_counts_yet(&chats, &card).await;

    confirms(&mut browser, &link).await;
    assert!(said(&waiting.await.unwrap().unwrap()).contains("DELETE 1"));
    let account = format!("slack:{}:{}", slack::TEAM, BOB.0);
    let click = click(&stored(&chats, &card).await, &account);
    assert_eq!((&click["platform"], &click["user"]), (&json!("slack"), &json!(BOB.0)));
    let signed: DateTime<Utc> = click["signed"].as_str().unwrap().parse().unwrap();
    assert!(
        signed.timestamp() >= began.timestamp() && signed <= Utc::now(),
        "{signed}"
    );
    assert!(!chats.bot_log().contains("/confirm/"), "links are secrets");
    check_requests(&chats);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_click_in_discord_counts_once_its_person_has_signed_in_anew() {
    let (chats, _provider, mut browser) = stage(Way::Connected).await;
    let waiting = psql(&chats, "delete from orders where id = 7");
    let card = slack_card(&chats).await.unwrap();
    discord_card(&chats).await.unwrap();
    let clicked = async || clicks_in_discord(&chats, BOB.1).await;
    let link = link_in_discord(&chats, BOB.1, clicked, ASKS, "confirm").await;
    nothing_counts_yet(&chats, &card).await;
    confirms(&mut browser, &link).await;
    assert!(said(&waiting.await.unwrap().unwrap()).contains("DELETE 1"));
    let account = format!("discord:{}:{}", discord::GUILD, BOB.1);
    let click = click(&stored(&chats, &card).await, &account);
    // It came over a connection that the bot opened: nobody signed it.
    assert_eq!(
        (&click["platform"], &click["signed"]),
        (&json!("discord"), &Value::Null)
    );
    check_requests(&chats);
}
