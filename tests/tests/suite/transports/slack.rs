//! Slack: signed requests and Socket Mode.

use super::{Failing, StandIn, Way, card, check_failures, pending, press, rich_answer, secret, serve, to};
use anyhow::Result;
use countersign_bot::chat::slack::{SlackChat, SlackIntake, SlackWorkspace, http, socket};
use countersign_bot::chat::{Answer, Ask, Chat, ChatError};
use countersign_infra::config;
use countersign_infra::domain::announcement::{PostKind, Room};
use countersign_infra::domain::chat_link::ChatPlatform;
use countersign_tests::chat::{Fault, Seal};
use countersign_tests::slack::{APP, CHANNEL, Endpoints, Slack, TEAM, User};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

const BOB: &str = "U0000000002";

struct Fixture {
    slack: Slack,
    chat: Arc<SlackChat>,
    answers: Arc<StandIn>,
    intake: Arc<SlackIntake>,
    _secrets: TempDir,
    _stop: DropGuard,
}

impl Fixture {
    async fn start(way: Way) -> Result<Self> {
        let slack = Slack::start().await?;
        slack.add_user(TEAM, User::member(BOB, "bob"));
        let secrets = tempfile::tempdir()?;
        let chat = Arc::new(open(&slack, &secrets, way).await?);
        let answers = StandIn::new();
        let intake = SlackIntake::new(vec![Arc::clone(&chat)], Arc::clone(&answers) as _);
        let stop = CancellationToken::new();
        match way {
            Way::Signed => {
                let url = serve(http::router(Arc::clone(&intake))).await?;
                slack.use_endpoints(Some(Endpoints {
                    interactions: url.join("slack/interactions")?,
                    commands: url.join("slack/commands")?,
                    events: url.join("slack/events")?,
                }));
            }
            Way::Connected => {
                tokio::spawn(socket::serve(Arc::clone(&intake), stop.clone()));
                let connected = |slack: &Slack| (slack.connections() > 0).then_some(());
                slack.wait_for("a connection of the bot", connected).await?;
            }
        }
        Ok(Self {
            slack,
            chat,
            answers,
            intake,
            _secrets: secrets,
            _stop: stop.drop_guard(),
        })
    }

    /// Waits for what only bob sees, and holds these words.
    async fn whispered(&self, words: &str) -> Result<countersign_tests::slack::Message> {
        let said = |slack: &Slack| {
            let mut all = slack.ephemerals(TEAM, BOB).into_iter();
            all.find(|message| message.body.to_string().contains(words))
        };
        self.slack.wait_for(words, said).await
    }
}

async fn open(slack: &Slack, secrets: &TempDir, way: Way) -> Result<SlackChat> {
    let config = config::Slack {
        team: TEAM.to_owned(),
        app: Some(APP.to_owned()),
        bot_token: secret(secrets.path(), "bot", &slack.bot_token(TEAM)),
        signing_secret: (way == Way::Signed).then(|| secret(secrets.path(), "signing", &slack.signing_secret())),
        app_token: (way == Way::Connected).then(|| secret(secrets.path(), "app", &slack.app_token())),
        api_url: Some(slack.api_url().parse()?),
    };
    let open = move || anyhow::Ok(SlackChat::new(SlackWorkspace::open(&config)?, true)?);
    tokio::task::spawn_blocking(open).await?
}

fn room(channel: &str, is_direct: bool) -> Room {
    Room {
        platform: ChatPlatform::Slack,
        team: TEAM.to_owned(),
        channel: channel.to_owned(),
        is_direct,
    }
}

async fn check_way(way: Way) -> Result<()> {
    let fixture = Fixture::start(way).await?;
    let (slack, answers, approval) = (&fixture.slack, &fixture.answers, pending());
    let (bob, room) = (slack.person(TEAM, BOB), room(CHANNEL, false));
    let posted = fixture
        .chat
        .post(&to(&room, &approval, PostKind::Card, None), &card(&approval))
        .await?;

    answers.will_say("You are not linked yet.");
    bob.click(CHANNEL, &posted.message, "approve").await?;
    fixture.whispered("You are not linked yet.").await?;
    assert_eq!(answers.asked(), [press("approve", &approval)]);

    answers.will(
        Answer::AskReason {
            approval: approval.id.clone(),
        },
        Duration::ZERO,
    );
    bob.click(CHANNEL, &posted.message, "deny").await?;
    let form = slack
        .wait_for("the form", |slack| {
            slack.views(TEAM, BOB).into_iter().find(|view| view.is_open)
        })
        .await?;
    answers.will_say("Denied, as you said.");
    let answer = bob.submit(&form, &[("reason", "reason", "not asked")]).await?;
    assert!(answer.body.to_string().contains("Denied, as you said."), "{answer:?}");
    let reason = Ask::Reason {
        approval: approval.id.to_string(),
        reason: "not asked".to_owned(),
    };
    assert_eq!(answers.asked(), [press("deny", &approval), reason]);

    answers.will(rich_answer(&approval), Duration::ZERO);
    bob.command(CHANNEL, "/countersign", "audit who:alice").await?;
    let said = fixture.whispered("Two of *them*").await?;
    for words in ["alice  delete", "sign-in?ticket=1", "audit.csv", approval.id.as_str()] {
        assert!(said.body.to_string().contains(words), "{words}: {}", said.body);
    }
    let file = slack.files(TEAM).remove(0);
    assert_eq!(
        (file.name.as_str(), file.content.as_slice()),
        ("audit.csv", &b"who,what\nalice,delete\n"[..])
    );
    answers.will_say("The next page.");
    bob.click_seen(&said, "page-0").await?;
    fixture.whispered("The next page.").await?;
    let ticket = "ticket-1".to_owned();
    let text = "audit who:alice".to_owned();
    assert_eq!(answers.asked(), [Ask::Command { text }, Ask::Page { ticket }]);
    Ok(())
}

#[tokio::test]
async fn slack_is_answered_over_signed_requests() {
    check_way(Way::Signed).await.unwrap();
}

#[tokio::test]
async fn slack_is_answered_over_socket_mode() {
    check_way(Way::Connected).await.unwrap();
}

#[tokio::test]
async fn slow_answers_reach_slack_by_another_way() {
    for way in [Way::Signed, Way::Connected] {
        let fixture = Fixture::start(way).await.unwrap();
        fixture.answers.will(Answer::say("At last."), Duration::from_secs(4));
        let bob = fixture.slack.person(TEAM, BOB);
        bob.command(CHANNEL, "/countersign", "pending").await.unwrap();
        fixture.whispered("At last.").await.unwrap();
        assert_eq!(fixture.answers.asked().len(), 1, "{way:?}");
    }
}

#[tokio::test]
async fn a_response_url_that_no_longer_works_is_gone_round() {
    let fixture = Fixture::start(Way::Connected).await.unwrap();
    let (approval, room) = (pending(), room(CHANNEL, false));
    let to_card = to(&room, &approval, PostKind::Card, None);
    let posted = fixture.chat.post(&to_card, &card(&approval)).await.unwrap();
    fixture.answers.will_say("Round the corner.");
    fixture.slack.fail_next(Some("response_url"), 1, Fault::Status(404));
    let bob = fixture.slack.person(TEAM, BOB);
    bob.click(CHANNEL, &posted.message, "approve").await.unwrap();
    fixture.whispered("Round the corner.").await.unwrap();
}

#[tokio::test]
async fn connections_to_slack_come_back() {
    let fixture = Fixture::start(Way::Connected).await.unwrap();
    let connected = |slack: &Slack| (slack.connections() > 0).then_some(());
    fixture.slack.disconnect("refresh_requested");
    fixture
        .slack
        .wait_for("a connection after the refresh", connected)
        .await
        .unwrap();
    fixture.slack.outage(true);
    fixture.slack.outage(false);
    fixture
        .slack
        .wait_for("a connection after the outage", connected)
        .await
        .unwrap();
    fixture.answers.will_say("Still here.");
    let bob = fixture.slack.person(TEAM, BOB);
    bob.command(CHANNEL, "/countersign", "pending").await.unwrap();
    fixture.whispered("Still here.").await.unwrap();
}

#[tokio::test]
async fn what_slack_fails_at_is_told_and_found() {
    let fixture = Fixture::start(Way::Signed).await.unwrap();
    let slack = &fixture.slack;
    let failing = Failing {
        chat: fixture.chat.as_ref(),
        room: room(CHANNEL, false),
        direct: room(BOB, true),
        fail: &|fault| slack.fail_next(Some("chat.postMessage"), 1, fault),
        outage: &|is_out| slack.outage(is_out),
        count: &|| slack.messages(TEAM, CHANNEL).len(),
    };
    check_failures(failing).await;
}

#[tokio::test]
async fn what_slack_refuses_says_what_to_do() {
    let fixture = Fixture::start(Way::Signed).await.unwrap();
    let (slack, chat, approval) = (&fixture.slack, &fixture.chat, pending());
    slack.add_channel(TEAM, "C0000000009", "elsewhere", false);
    for (channel, words) in [
        ("C0000000009", "invite it there"),
        ("C0000000404", "invite the app to it"),
    ] {
        let room = room(channel, false);
        let posted = chat
            .post(&to(&room, &approval, PostKind::Card, None), &card(&approval))
            .await;
        let Err(ChatError::Refused(text)) = posted else {
            panic!("{channel}: {posted:?}");
        };
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(chat.check().await, Ok(()));
    slack.take_scope(TEAM, "im:write");
    let told = chat.check().await.unwrap_err().to_string();
    assert!(told.contains("im:write (to write to people directly)"), "{told}");
    slack.renew_token(TEAM);
    let told = chat.check().await.unwrap_err().to_string();
    assert!(told.contains("install the app again"), "{told}");
}

#[tokio::test]
async fn slack_tells_members_from_others() {
    let fixture = Fixture::start(Way::Signed).await.unwrap();
    let (slack, chat) = (&fixture.slack, &fixture.chat);
    let member = |id: &str| User::member(id, "someone");
    slack.add_user(
        TEAM,
        User {
            is_restricted: true,
            ..member("U3")
        },
    );
    slack.add_user(
        TEAM,
        User {
            is_bot: true,
            ..member("U4")
        },
    );
    slack.add_user(
        TEAM,
        User {
            is_stranger: true,
            team: Some("T2".to_owned()),
            ..member("U5")
        },
    );
    for (user, outsider) in [
        (BOB, None),
        ("U3", Some("a guest")),
        ("U4", Some("a bot")),
        ("U5", Some("a member of another workspace")),
    ] {
        assert_eq!(chat.profile(user).await.unwrap().outsider, outsider, "{user}");
    }
    assert!(matches!(chat.profile("U404").await, Err(ChatError::Refused(_))));
}

#[tokio::test]
async fn requests_that_slack_did_not_sign_are_turned_away() {
    let fixture = Fixture::start(Way::Signed).await.unwrap();
    for seal in [Seal::Forged, Seal::Aged(Duration::from_secs(400)), Seal::None] {
        fixture.slack.seal(seal);
        let bob = fixture.slack.person(TEAM, BOB);
        let answer = bob.command(CHANNEL, "/countersign", "pending").await;
        assert_eq!(answer.unwrap().status, 401, "{seal:?}");
    }
    assert_eq!(fixture.answers.asked(), []);
    use countersign_bot::chat::inbound::Turned;
    let counted = [Turned::Tampered, Turned::Stale, Turned::Unsigned].map(|why| fixture.intake.counters().of(why));
    assert_eq!(counted.map(|count| count > 0), [true; 3]);
}

#[tokio::test]
async fn an_app_token_that_slack_refuses_is_told() {
    let slack = Slack::start().await.unwrap();
    let secrets = tempfile::tempdir().unwrap();
    let config = config::Slack {
        team: TEAM.to_owned(),
        app: Some(APP.to_owned()),
        bot_token: secret(secrets.path(), "bot", &slack.bot_token(TEAM)),
        signing_secret: None,
        app_token: Some(secret(secrets.path(), "app", "xapp-wrong")),
        api_url: Some(slack.api_url().parse().unwrap()),
    };
    let open = move || SlackChat::new(SlackWorkspace::open(&config).unwrap(), true).unwrap();
    let chat = tokio::task::spawn_blocking(open).await.unwrap();
    let intake = SlackIntake::new(vec![Arc::new(chat)], StandIn::new() as _);
    let served = tokio::time::timeout(Duration::from_secs(20), socket::serve(intake, CancellationToken::new()));
    let told = served.await.unwrap().unwrap_err().to_string();
    assert!(told.contains("token") && !told.contains("xapp-wrong"), "{told}");
}
