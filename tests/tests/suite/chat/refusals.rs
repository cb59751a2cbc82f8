//! Who may not decide is told why, alone, and changes nothing.

use super::{ALICE, BOB, DAVE, chats, check_requests, custom_id, discord_card, psql, said, slack_card};
use countersign_tests::bot::{ChatOptions, Chats, Way};
use countersign_tests::{discord, slack};

/// What an account was told in Slack last, once it contains a text.
pub(super) async fn told(chats: &Chats, user: &str, text: &str) -> slack::Message {
    let found = chats.slack.wait_for(text, |slack| {
        let told = slack.ephemerals(slack::TEAM, user);
        told.into_iter().find(|message| message.body.to_string().contains(text))
    });
    let all: Vec<String> = chats
        .slack
        .ephemerals(slack::TEAM, user)
        .iter()
        .map(|said| said.body.to_string())
        .collect();
    found
        .await
        .unwrap_or_else(|error| panic!("{error}: {all:?}\n{}", chats.bot_log()))
}

async fn told_in_discord(chats: &Chats, user: &str, text: &str) {
    let found = chats.discord.wait_for(text, |discord| {
        let told = discord.ephemerals(user);
        told.into_iter().find(|message| message.body.to_string().contains(text))
    });
    found
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", chats.bot_log()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_decide_is_told_why_and_nothing_runs() {
    let chats = chats(ChatOptions::new(Way::Signed)).await.unwrap();
    chats
        .link("carol", &["sales"], "U0CAROL", "2000000000000000003")
        .await
        .unwrap();
    let guest = slack::User {
        is_restricted: true,
        ..slack::User::member("U0GUEST", "guest")
    };
    chats.slack.add_user(slack::TEAM, guest);
    chats
        .slack
        .add_user(slack::TEAM, slack::User::member("U0CAROL", "carol"));
    let waiting = psql(&chats, "delete from orders where id = 7");
    let card = slack_card(&chats).await.unwrap();
    let click = async |user: &str, action: &str| {
        chats
            .slack
            .person(slack::TEAM, user)
            .click(slack::CHANNEL, &card.ts, action)
            .await
            .unwrap()
    };

    click(ALICE.0, "approve").await;
    told(&chats, ALICE.0, "You asked for this yourself").await;
    click(ALICE.0, "deny").await;
    told(&chats, ALICE.0, "you asked for this yourself").await;
    click("U0CAROL", "approve").await;
    told(&chats, "U0CAROL", "none of the groups").await;
    click("U0GUEST", "approve").await;
    told(&chats, "U0GUEST", "cannot use Countersign").await;
    click(DAVE.0, "approve").await;
    let link = told(&chats, DAVE.0, "linked to nobody").await;
    assert!(
        link.body
            .to_string()
            .contains(&format!("{}/link/", chats.world.gateway.http_url())),
        "{:?}",
        link.body
    );

    let in_discord = discord_card(&chats).await.unwrap();
    let approve = custom_id(&in_discord, "approve");
    chats
        .discord
        .person(ALICE.1)
        .click(discord::CHANNEL, &in_discord.id, &approve)
        .await
        .unwrap();
    told_in_discord(&chats, ALICE.1, "You asked for this yourself").await;
    chats
        .discord
        .person(DAVE.1)
        .click(discord::CHANNEL, &in_discord.id, &approve)
        .await
        .unwrap();
    told_in_discord(&chats, DAVE.1, "linked to nobody").await;
    assert_eq!(
        chats
            .world
            .count("select count(*) from orders where id = 7")
            .await
            .unwrap(),
        1
    );

    // Decided; a click on the card as it was says by whom.
    chats
        .discord
        .person(BOB.1)
        .click(discord::CHANNEL, &in_discord.id, &approve)
        .await
        .unwrap();
    assert!(said(&waiting.await.unwrap().unwrap()).contains("DELETE 1"));
    chats
        .slack
        .person(slack::TEAM, BOB.0)
        .click_seen(&card, "approve")
        .await
        .unwrap();
    told(&chats, BOB.0, "too late").await;
    assert!(!chats.bot_log().contains("/link/"), "links are secrets");
    check_requests(&chats);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_statement_is_approved_only_by_who_has_read_the_whole_of_it() {
    let chats = chats(ChatOptions::new(Way::Connected)).await.unwrap();
    let long = format!("delete from orders where id = 7 -- {}", "x".repeat(9000));
    let waiting = psql(&chats, &long);
    let card = slack_card(&chats).await.unwrap();
    assert!(
        !card.buttons().iter().any(|label| label.starts_with("Approve")),
        "{:?}",
        card.buttons()
    );
    let id = card.text().split_whitespace().next().unwrap().to_owned();
    let bob = chats.slack.person(slack::TEAM, BOB.0);
    bob.command(slack::CHANNEL, "/countersign", &format!("approve {id}"))
        .await
        .unwrap();
    told(&chats, BOB.0, "read the whole of it").await;
    let (code, shown) = chats
        .world
        .gateway
        .run("bob", &["approvals", "show", &id, "--whole"])
        .unwrap();
    assert_eq!(code, 0, "{shown}");
    bob.command(slack::CHANNEL, "/countersign", &format!("approve {id}"))
        .await
        .unwrap();
    assert!(said(&waiting.await.unwrap().unwrap()).contains("DELETE 1"));
    check_requests(&chats);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_write_is_inert_in_chats() {
    let chats = chats(ChatOptions::new(Way::Connected)).await.unwrap();
    let hostile =
        "delete from orders where id = 7 and note <> '<!channel> <@U0BOB> ``` *b* https://x.example \u{202e}'";
    let waiting = psql(&chats, hostile);
    let card = slack_card(&chats).await.unwrap();
    let in_discord = discord_card(&chats).await.unwrap();
    // Whatever stands in it is plain text for Slack: no part of a message is markup that others wrote.
    let markup = card.body["blocks"].to_string();
    assert!(markup.contains("<!channel>"), "{markup}");
    for block in card.body["blocks"].as_array().unwrap() {
        let mut texts = vec![block.clone()];
        while let Some(value) = texts.pop() {
            if value["type"] == "mrkdwn" {
                let text = value["text"].as_str().unwrap_or_default();
                assert!(!text.contains("orders") && !text.contains("channel>"), "{text}");
            }
            texts.extend(value.as_array().into_iter().flatten().cloned());
            texts.extend(
                value
                    .as_object()
                    .into_iter()
                    .flat_map(|object| object.values())
                    .cloned(),
            );
        }
    }
    assert!(
        card.text().contains("&lt;") || !card.text().contains("<!channel>"),
        "{}",
        card.text()
    );
    assert!(!markup.contains('\u{202e}') && markup.contains("u{202e}"), "{markup}");
    let posted = chats
        .discord
        .requests()
        .into_iter()
        .filter(|request| request.method.contains("messages"));
    for request in posted.filter(|request| request.body.get("embeds").is_some()) {
        assert_eq!(
            request.body["allowed_mentions"]["parse"].as_array().map(Vec::len),
            Some(0),
            "{:?}",
            request.body
        );
    }
    assert!(!in_discord.body.to_string().contains('\u{202e}'));
    waiting.abort();
    check_requests(&chats);
}
