//! Discord: signed requests and its gateway.

use super::{Failing, StandIn, Way, card, check_failures, pending, press, rich_answer, secret, serve, to};
use anyhow::Result;
use countersign_bot::chat::discord::{DiscordChat, DiscordGuild, DiscordIntake, Registered, gateway, http};
use countersign_bot::chat::inbound::Turned;
use countersign_bot::chat::{Answer, Ask, Chat, ChatError};
use countersign_infra::config;
use countersign_infra::domain::announcement::{PostKind, Room};
use countersign_infra::domain::chat_link::ChatPlatform;
use countersign_tests::chat::Seal;
use countersign_tests::discord::{APPLICATION, CHANNEL, Discord, GUILD, Message, User};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

const BOB: &str = "1200000000000000002";

struct Fixture {
    discord: Discord,
    chat: Arc<DiscordChat>,
    answers: Arc<StandIn>,
    intake: Arc<DiscordIntake>,
    _secrets: TempDir,
    _stop: DropGuard,
}

impl Fixture {
    async fn start(way: Way) -> Result<Self> {
        let discord = Discord::start().await?;
        discord.add_member(User::member(BOB, "bob"));
        let secrets = tempfile::tempdir()?;
        let chat = Arc::new(open(&discord, &secrets, way).await?);
        chat.register().await?;
        let answers = StandIn::new();
        let intake = DiscordIntake::new(vec![Arc::clone(&chat)], Arc::clone(&answers) as _);
        let stop = CancellationToken::new();
        match way {
            Way::Signed => {
                let url = serve(http::router(Arc::clone(&intake))).await?;
                discord.use_endpoint(Some(url.join("discord/interactions")?));
            }
            Way::Connected => {
                tokio::spawn(gateway::serve(Arc::clone(&intake), stop.clone()));
                let connected = |discord: &Discord| (discord.connections() > 0).then_some(());
                discord.wait_for("a connection of the bot", connected).await?;
            }
        }
        Ok(Self {
            discord,
            chat,
            answers,
            intake,
            _secrets: secrets,
            _stop: stop.drop_guard(),
        })
    }

    /// Waits for what only bob sees, and holds these words.
    async fn whispered(&self, words: &str) -> Result<Message> {
        let said = |discord: &Discord| {
            let mut all = discord.ephemerals(BOB).into_iter();
            all.find(|message| message.body.to_string().contains(words))
        };
        self.discord.wait_for(words, said).await
    }
}

async fn open(discord: &Discord, secrets: &TempDir, way: Way) -> Result<DiscordChat> {
    let config = config::Discord {
        guild: GUILD.to_owned(),
        application: APPLICATION.to_owned(),
        public_key: discord.public_key(),
        bot_token: secret(secrets.path(), "bot", &discord.token()),
        long_lived: way == Way::Connected,
        api_url: Some(discord.api_url().parse()?),
    };
    let open = move || anyhow::Ok(DiscordChat::new(DiscordGuild::open(&config)?)?);
    tokio::task::spawn_blocking(open).await?
}

fn room(channel: &str, is_direct: bool) -> Room {
    Room {
        platform: ChatPlatform::Discord,
        team: GUILD.to_owned(),
        channel: channel.to_owned(),
        is_direct,
    }
}

async fn check_way(way: Way) -> Result<()> {
    let fixture = Fixture::start(way).await?;
    let (discord, answers, approval) = (&fixture.discord, &fixture.answers, pending());
    let (bob, room) = (discord.person(BOB), room(CHANNEL, false));
    let posted = fixture
        .chat
        .post(&to(&room, &approval, PostKind::Card, None), &card(&approval))
        .await?;
    let button = |action: &str| format!("{action}:{}", approval.id);

    answers.will_say("You are not linked yet");
    bob.click(CHANNEL, &posted.message, &button("approve")).await?;
    fixture.whispered("You are not linked yet").await?;
    answers.will(Answer::Silent, Duration::ZERO);
    bob.click(CHANNEL, &posted.message, &button("approve")).await?;
    assert_eq!(
        answers.asked(),
        [press("approve", &approval), press("approve", &approval)]
    );

    answers.will(
        Answer::AskReason {
            approval: approval.id.clone(),
        },
        Duration::ZERO,
    );
    bob.click(CHANNEL, &posted.message, &button("deny")).await?;
    let form = discord
        .wait_for("the form", |discord| discord.modals(BOB).pop())
        .await?;
    answers.will_say("Denied as you said");
    bob.submit(&form, &[("reason", "not asked")]).await?;
    fixture.whispered("Denied as you said").await?;
    let reason = Ask::Reason {
        approval: approval.id.to_string(),
        reason: "not asked".to_owned(),
    };
    assert_eq!(answers.asked(), [press("deny", &approval), reason]);

    answers.will(rich_answer(&approval), Duration::ZERO);
    let options =
        json!([{"name": "audit", "type": 1, "options": [{"name": "query", "type": 3, "value": "who:alice"}]}]);
    bob.command(CHANNEL, "countersign", options).await?;
    let said = fixture.whispered("Two of").await?;
    for words in ["alice  delete", "sign-in?ticket=1", approval.id.as_str()] {
        assert!(said.body.to_string().contains(words), "{words}: {}", said.body);
    }
    assert_eq!(
        said.files,
        [("audit.csv".to_owned(), b"who,what\nalice,delete\n".to_vec())]
    );
    answers.will_say("The next page");
    bob.click_seen(&said, "page:ticket-1").await?;
    fixture.whispered("The next page").await?;
    let ticket = "ticket-1".to_owned();
    let text = "audit who:alice".to_owned();
    assert_eq!(answers.asked(), [Ask::Command { text }, Ask::Page { ticket }]);
    Ok(())
}

#[tokio::test]
async fn discord_is_answered_over_signed_requests() {
    check_way(Way::Signed).await.unwrap();
}

#[tokio::test]
async fn discord_is_answered_over_its_gateway() {
    check_way(Way::Connected).await.unwrap();
}

#[tokio::test]
async fn discord_takes_the_endpoint() {
    let fixture = Fixture::start(Way::Signed).await.unwrap();
    fixture.discord.probe().await.unwrap();
}

#[tokio::test]
async fn slow_answers_reach_discord_in_the_place_of_the_first() {
    for way in [Way::Signed, Way::Connected] {
        let fixture = Fixture::start(way).await.unwrap();
        fixture.answers.will(Answer::say("At last"), Duration::from_secs(4));
        let options = json!([{"name": "pending", "type": 1}]);
        let bob = fixture.discord.person(BOB);
        let first = bob.command(CHANNEL, "countersign", options).await.unwrap();
        assert_eq!(first.body["type"], 5, "{way:?}");
        fixture.whispered("At last").await.unwrap();
        assert_eq!(fixture.answers.asked().len(), 1, "{way:?}");
    }
}

#[tokio::test]
async fn connections_to_discord_come_back() {
    let fixture = Fixture::start(Way::Connected).await.unwrap();
    let (discord, answers) = (&fixture.discord, &fixture.answers);
    let sessions = discord.sessions();
    discord.reconnect();
    let connected = |discord: &Discord| (discord.connections() > 0).then_some(());
    discord
        .wait_for("a connection after the request", connected)
        .await
        .unwrap();
    assert_eq!(discord.sessions(), sessions, "the session went on");
    discord.invalidate(false);
    let other = |discord: &Discord| (discord.sessions() != sessions && discord.connections() > 0).then_some(());
    discord.wait_for("another session", other).await.unwrap();
    answers.will_say("Still here");
    let options = json!([{"name": "pending", "type": 1}]);
    discord
        .person(BOB)
        .command(CHANNEL, "countersign", options)
        .await
        .unwrap();
    fixture.whispered("Still here").await.unwrap();
}

#[tokio::test]
async fn what_discord_fails_at_is_told_and_found() {
    let fixture = Fixture::start(Way::Signed).await.unwrap();
    let discord = &fixture.discord;
    let failing = Failing {
        chat: fixture.chat.as_ref(),
        room: room(CHANNEL, false),
        direct: room(BOB, true),
        fail: &|fault| discord.fail_next(Some("POST /channels/{channel}/messages"), 1, fault),
        outage: &|is_out| discord.outage(is_out),
        count: &|| discord.messages(CHANNEL).len(),
    };
    check_failures(failing).await;
}

#[tokio::test]
async fn discord_posts_the_same_message_once() {
    let fixture = Fixture::start(Way::Signed).await.unwrap();
    let (approval, room) = (pending(), room(CHANNEL, false));
    let to_card = to(&room, &approval, PostKind::Card, None);
    let first = fixture.chat.post(&to_card, &card(&approval)).await.unwrap();
    let second = fixture.chat.post(&to_card, &card(&approval)).await.unwrap();
    assert_eq!((first, fixture.discord.messages(CHANNEL).len()), (second, 1));
}

#[tokio::test]
async fn what_discord_refuses_says_what_to_do() {
    let fixture = Fixture::start(Way::Signed).await.unwrap();
    let (chat, approval) = (&fixture.chat, pending());
    fixture
        .discord
        .add_channel(GUILD, "1100000000000000009", "elsewhere", false);
    for (channel, words) in [
        ("1100000000000000009", "View Channel"),
        ("1100000000000000404", "check its id"),
        ("x", "no id"),
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
}

#[tokio::test]
async fn what_the_bot_lacks_on_a_server_is_named() {
    const VIEW_AND_SEND: u64 = 1 << 10 | 1 << 11;
    const EMBED_AND_READ: u64 = 1 << 14 | 1 << 16;
    let fixture = Fixture::start(Way::Signed).await.unwrap();
    let (discord, chat) = (&fixture.discord, &fixture.chat);
    discord.permit(VIEW_AND_SEND, EMBED_AND_READ);
    assert_eq!(chat.check().await, Ok(()), "the bot's own role counts");
    discord.permit(VIEW_AND_SEND, 0);
    let told = chat.check().await.unwrap_err().to_string();
    assert!(
        told.contains("lack permissions: Embed Links, Read Message History;"),
        "{told}"
    );
    assert!(!told.contains("register"), "{told}");
    discord.forget_commands();
    let told = chat.check().await.unwrap_err().to_string();
    assert!(
        told.contains("Embed Links") && told.contains("run `countersign-bot register`"),
        "{told}"
    );
    discord.permit(VIEW_AND_SEND, EMBED_AND_READ);
    chat.register().await.unwrap();
    assert_eq!(chat.check().await, Ok(()));
}

#[tokio::test]
async fn discord_tells_members_from_others() {
    let fixture = Fixture::start(Way::Signed).await.unwrap();
    let (discord, chat) = (&fixture.discord, &fixture.chat);
    let member = |id: &str| User::member(id, "someone");
    discord.add_member(User {
        is_bot: true,
        ..member("3")
    });
    discord.add_member(User {
        is_pending: true,
        ..member("4")
    });
    let pending = Some("a member who has not accepted the server's rules");
    for (user, outsider) in [
        (BOB, None),
        ("3", Some("a bot")),
        ("4", pending),
        ("404", Some("not a member of the server")),
    ] {
        assert_eq!(chat.profile(user).await.unwrap().outsider, outsider, "{user}");
    }
}

#[tokio::test]
async fn a_command_is_registered_once() {
    let fixture = Fixture::start(Way::Signed).await.unwrap();
    assert_eq!(fixture.chat.register().await, Ok(Registered::Already));
}

#[tokio::test]
async fn requests_that_discord_did_not_sign_are_turned_away() {
    let fixture = Fixture::start(Way::Signed).await.unwrap();
    for seal in [Seal::Forged, Seal::Aged(Duration::from_secs(400)), Seal::None] {
        fixture.discord.seal(seal);
        let options = json!([{"name": "pending", "type": 1}]);
        let answer = fixture
            .discord
            .person(BOB)
            .command(CHANNEL, "countersign", options)
            .await;
        assert_eq!(answer.unwrap().status, 401, "{seal:?}");
    }
    assert_eq!(fixture.answers.asked(), []);
    let counted = [Turned::Tampered, Turned::Stale, Turned::Unsigned].map(|why| fixture.intake.counters().of(why));
    assert_eq!(counted, [1; 3]);
}
