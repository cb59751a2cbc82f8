//! One server of Discord: what the bot asks of it.

use super::guild::DiscordGuild;
use super::permissions::{Roles, Server};
use super::rest::Api;
use super::{card, say};
use crate::chat::tls::TlsError;
use crate::chat::{Chat, ChatError, Content, Profile, To};
use async_trait::async_trait;
use chrono::TimeDelta;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::announcement::{MessageRef, PostKind, Room, Span};
use countersign_infra::domain::chat_link::ChatPlatform;
use countersign_infra::domain::id::{Digest, DigestBuilder};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use serenity::all::{
    ChannelId, CreateAllowedMentions, CreateMessage, EditMessage, GuildMemberFlags, MessageId, MessageReference, Nonce,
};
use tokio::sync::OnceCell;

/// How far Discord's clock may be behind ours.
const SKEW: TimeDelta = TimeDelta::seconds(60);

/// How many pages of so many messages are looked through: a busy channel has a few messages a second, and a search is of
/// the minutes around a lost answer.
const PAGES_MAX: usize = 20;
const PAGE: usize = 100;

/// The longest nonce. <https://discord.com/developers/docs/resources/message#create-message>
const NONCE_CHARS_MAX: usize = 25;

/// When Discord's ids begin to count, in milliseconds. <https://discord.com/developers/docs/reference#snowflakes>
pub(super) const EPOCH_MILLIS: i64 = 1_420_070_400_000;

/// Unknown Member, Unknown User.
const UNKNOWN_PERSON: [u64; 2] = [10007, 10013];

/// A guild. Also answers clicks there: see `respond.rs`.
pub struct DiscordChat {
    pub(super) guild: DiscordGuild,
    pub(super) api: Api,
    /// The bot's own user.
    me: OnceCell<String>,
}

impl DiscordChat {
    /// Blocks on the file system.
    pub fn new(guild: DiscordGuild) -> Result<Self, TlsError> {
        Ok(Self {
            api: Api::new(&guild)?,
            guild,
            me: OnceCell::new(),
        })
    }

    pub fn guild(&self) -> &DiscordGuild {
        &self.guild
    }

    /// The channel of a room: a person's is that of the direct messages with the bot.
    async fn channel(&self, room: &Room) -> Result<u64, ChatError> {
        if !room.is_direct {
            return number(&room.channel);
        }
        let person = json!({"recipient_id": number(&room.channel)?.to_string()});
        let opened: Named = self
            .api
            .post("the direct messages", "/users/@me/channels", &person)
            .await?;
        number(&opened.id)
    }

    async fn me(&self) -> Result<&str, ChatError> {
        let ask = || async {
            let me: Named = self.api.get("the bot's own user", "/users/@me").await?;
            Ok(me.id)
        };
        self.me.get_or_try_init(ask).await.map(String::as_str)
    }

    fn message(to: &To<'_>, content: &Content) -> Result<CreateMessage, ChatError> {
        let message = match content {
            Content::Card(card) => card::message(card),
            Content::Note(text) => CreateMessage::new()
                .embed(say::note(text, &mark(to)))
                .allowed_mentions(CreateAllowedMentions::new()),
        };
        let message = message.nonce(Nonce::String(nonce(to))).enforce_nonce(true);
        let Some(thread) = to.thread else {
            return Ok(message);
        };
        let (channel, original) = (number(&thread.channel)?, number(&thread.message)?);
        let reference = MessageReference::from((ChannelId::new(channel), MessageId::new(original)));
        Ok(message.reference_message(reference.fail_if_not_exists(false)))
    }
}

#[async_trait]
impl Chat for DiscordChat {
    fn platform(&self) -> ChatPlatform {
        ChatPlatform::Discord
    }

    fn team(&self) -> &str {
        &self.guild.guild
    }

    fn digest(&self, content: &Content) -> Digest {
        Digest::of(json!(change(content)).to_string().as_bytes())
    }

    async fn post(&self, to: &To<'_>, content: &Content) -> Result<MessageRef, ChatError> {
        let channel = match to.thread {
            Some(thread) => number(&thread.channel)?,
            None => self.channel(to.room).await?,
        };
        let message = Self::message(to, content)?;
        let path = format!("/channels/{channel}/messages");
        let posted: Named = self.api.post("the message", &path, &message).await?;
        Ok(MessageRef {
            channel: channel.to_string(),
            message: posted.id,
        })
    }

    async fn find(&self, to: &To<'_>, tried: Span) -> Result<Option<MessageRef>, ChatError> {
        let me = self.me().await?;
        let channel = match to.thread {
            Some(thread) => number(&thread.channel)?,
            None => self.channel(to.room).await?,
        };
        let mark = mark(to);
        let last = first_id(tried.to + SKEW);
        let mut after = first_id(tried.from - SKEW);
        for _ in 0..PAGES_MAX {
            let path = format!("/channels/{channel}/messages?limit={PAGE}&after={after}");
            let page: Vec<Message> = self.api.get("the messages", &path).await?;
            let count = page.len();
            after = page
                .iter()
                .filter_map(|message| message.id.parse().ok())
                .fold(after, u64::max);
            if let Some(found) = page.into_iter().find(|message| message.is_ours(me, &mark)) {
                return Ok(Some(MessageRef {
                    channel: channel.to_string(),
                    message: found.id,
                }));
            }
            if count < PAGE || after > last {
                return Ok(None);
            }
        }
        let text = "an earlier try to post may have come through, and the channel is too busy to look for it: nothing is posted";
        Err(ChatError::Refused(text.to_owned()))
    }

    async fn update(&self, message: &MessageRef, content: &Content) -> Result<(), ChatError> {
        let (channel, id) = (number(&message.channel)?, number(&message.message)?);
        let path = format!("/channels/{channel}/messages/{id}");
        self.api
            .send("the change of the message", Method::PATCH, &path, &change(content))
            .await
    }

    async fn profile(&self, user: &str) -> Result<Profile, ChatError> {
        let path = format!("/guilds/{}/members/{}", number(&self.guild.guild)?, number(user)?);
        let member: Option<Member> = self.api.find("the person", &path, &UNKNOWN_PERSON).await?;
        let stranger = || Profile {
            name: String::new(),
            email: None,
            outsider: Some("not a member of the server"),
        };
        Ok(member.map_or_else(stranger, Member::profile))
    }

    async fn check(&self) -> Result<(), ChatError> {
        let application: Application = self.api.get("the application", "/applications/@me").await?;
        application.check(&self.guild)?;
        let guild = number(&self.guild.guild)?;
        let server: Server = self.api.get("the server", &format!("/guilds/{guild}")).await?;
        let own = format!("/guilds/{guild}/members/{}", number(self.me().await?)?);
        let own: Roles = self.api.get("the bot's roles", &own).await?;
        let mut problems = Vec::new();
        let missing = server.missing(&own);
        if !missing.is_empty() {
            problems.push(format!(
                "the bot's roles lack permissions: {}; grant them to its role",
                missing.join(", ")
            ));
        }
        if !self.is_registered().await? {
            problems.push(
                "the server does not know the commands as they are now: run `countersign-bot register`".to_owned(),
            );
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(ChatError::Refused(problems.join("; "))),
        }
    }
}

fn change(content: &Content) -> EditMessage {
    match content {
        Content::Card(card) => card::change(card),
        Content::Note(text) => EditMessage::new()
            .embed(say::note(text, ""))
            .allowed_mentions(CreateAllowedMentions::new()),
    }
}

/// What the footer says, by which the bot knows its own message.
fn mark(to: &To<'_>) -> String {
    let kind = match to.kind {
        PostKind::Card => return card::mark(to.approval),
        PostKind::Outcome => "outcome".to_owned(),
        PostKind::Reminder { number } => format!("reminder {}", u64::from(number) + 1),
    };
    format!("{}: {kind}", card::mark(to.approval))
}

/// The same for the same message in the same room: Discord posts it once in some minutes.
fn nonce(to: &To<'_>) -> String {
    let mut parts = DigestBuilder::default();
    parts.part("message", mark(to).as_bytes());
    parts.part("team", to.room.team.as_bytes());
    parts.part("channel", to.room.channel.as_bytes());
    let digest = parts.finish().to_string();
    digest.chars().take(NONCE_CHARS_MAX).collect()
}

/// An id of Discord: a number, so that nothing else comes into a path.
pub(super) fn number(id: &str) -> Result<u64, ChatError> {
    let number = id.parse().ok().filter(|number| *number != 0);
    number.ok_or_else(|| ChatError::Refused(format!("{id:?} is no id of Discord")))
}

/// The smallest id of that moment.
fn first_id(moment: Timestamp) -> u64 {
    let millis = moment.timestamp_millis().saturating_sub(EPOCH_MILLIS);
    u64::try_from(millis).unwrap_or_default() << 22
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

#[derive(Deserialize)]
struct Message {
    id: String,
    author: Named,
    #[serde(default)]
    embeds: Vec<Embed>,
}

#[derive(Deserialize)]
struct Embed {
    footer: Option<Footer>,
}

#[derive(Deserialize)]
struct Footer {
    text: String,
}

impl Message {
    fn is_ours(&self, me: &str, mark: &str) -> bool {
        let mut footers = self.embeds.iter().filter_map(|embed| embed.footer.as_ref());
        self.author.id == me && footers.any(|footer| footer.text == mark)
    }
}

#[derive(Deserialize)]
struct Application {
    id: String,
    verify_key: String,
    interactions_endpoint_url: Option<String>,
}

impl Application {
    fn check(&self, guild: &DiscordGuild) -> Result<(), ChatError> {
        let endpoint = self.interactions_endpoint_url.as_ref().filter(|url| !url.is_empty());
        let problem = if self.id != guild.application {
            format!(
                "the token is of application {}, not of {}: configure that one's",
                self.id, guild.application
            )
        } else if !self.verify_key.eq_ignore_ascii_case(&guild.public_key) {
            "public_key is not the application's: take it from the application's page".to_owned()
        } else if guild.long_lived && endpoint.is_some() {
            "clicks go to the application's interactions endpoint: take it away there, or set long_lived = false"
                .to_owned()
        } else {
            if !guild.long_lived && endpoint.is_none() {
                tracing::warn!(
                    guild = guild.guild,
                    "the application has no interactions endpoint yet: nobody can click"
                );
            }
            return Ok(());
        };
        Err(ChatError::Refused(problem))
    }
}

/// <https://discord.com/developers/docs/resources/guild#guild-member-object>
#[derive(Deserialize)]
struct Member {
    user: User,
    nick: Option<String>,
    #[serde(default)]
    pending: bool,
    #[serde(default)]
    flags: u32,
}

#[derive(Deserialize)]
struct User {
    username: String,
    global_name: Option<String>,
    #[serde(default)]
    bot: bool,
    #[serde(default)]
    system: bool,
}

impl Member {
    /// Discord tells no e-mail address.
    fn profile(self) -> Profile {
        let flags = GuildMemberFlags::from_bits_truncate(self.flags);
        let reasons = [
            (self.user.bot || self.user.system, "a bot"),
            (flags.contains(GuildMemberFlags::IS_GUEST), "a guest"),
            (self.pending, "a member who has not accepted the server's rules"),
        ];
        let names = [self.nick, self.user.global_name, Some(self.user.username)];
        let name = names.into_iter().flatten().find(|name| !name.trim().is_empty());
        Profile {
            name: name.unwrap_or_default(),
            email: None,
            outsider: reasons
                .into_iter()
                .find_map(|(applies, reason)| applies.then_some(reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::discord::example;
    use countersign_infra::domain::example::at;
    use serde_json::Value;

    fn profile(member: Value) -> Profile {
        serde_json::from_value::<Member>(member).unwrap().profile()
    }

    #[test]
    fn members_are_told_from_those_who_only_look_like_it() {
        for (change, outsider) in [
            (json!({}), None),
            (json!({"flags": 2}), None),
            (
                json!({"pending": true}),
                Some("a member who has not accepted the server's rules"),
            ),
            (json!({"flags": 16}), Some("a guest")),
            (json!({"user": {"username": "b", "bot": true}}), Some("a bot")),
        ] {
            let mut member = json!({"user": {"username": "bob", "global_name": "Bob B."}, "nick": null, "flags": 0});
            member
                .as_object_mut()
                .unwrap()
                .extend(change.as_object().unwrap().clone());
            assert_eq!(profile(member).outsider, outsider, "{change}");
        }
        let named = json!({"user": {"username": "bob", "global_name": "Bob B."}, "nick": "bobby"});
        assert_eq!(profile(named).name, "bobby");
    }

    #[test]
    fn a_nonce_is_that_of_one_message_in_one_room() {
        let (room, approval) = (example::room("5"), "QJF6HN4C".parse().unwrap());
        let other_room = example::room("6");
        let other = "00000000".parse().unwrap();
        let to = |room, approval, kind| {
            nonce(&To {
                room,
                thread: None,
                approval,
                kind,
            })
        };
        let nonces = [
            to(&room, &approval, PostKind::Card),
            to(&room, &approval, PostKind::Outcome),
            to(&room, &approval, PostKind::Reminder { number: 0 }),
            to(&room, &approval, PostKind::Reminder { number: 1 }),
            to(&other_room, &approval, PostKind::Card),
            to(&room, &other, PostKind::Card),
        ];
        assert!(nonces.iter().all(|nonce| nonce.len() == NONCE_CHARS_MAX));
        assert_eq!(
            nonces.iter().collect::<std::collections::BTreeSet<_>>().len(),
            nonces.len()
        );
        assert_eq!(nonces[0], to(&room, &approval, PostKind::Card));
    }

    #[test]
    fn only_numbers_come_into_a_path() {
        for id in ["", "0", "-1", "1/../2", "1?x", "18446744073709551616", "١"] {
            assert!(number(id).is_err(), "{id}");
        }
        assert_eq!(number("1234567890123456789"), Ok(1_234_567_890_123_456_789));
    }

    #[test]
    fn an_id_tells_its_moment() {
        let id = first_id(at(0));
        assert_eq!(
            i64::try_from(id >> 22).unwrap() + EPOCH_MILLIS,
            at(0).timestamp_millis()
        );
        assert_eq!(first_id(Timestamp::from_timestamp(0, 0).unwrap()), 0);
    }

    #[test]
    fn only_the_bots_own_message_with_that_mark_is_found() {
        let message = |author: &str, footer: Value| {
            let message = json!({"id": "7", "author": {"id": author}, "embeds": [{}, {"footer": footer}]});
            serde_json::from_value::<Message>(message)
                .unwrap()
                .is_ours("1", "Countersign QJF6HN4C")
        };
        assert!(message("1", json!({"text": "Countersign QJF6HN4C"})));
        assert!(!message("2", json!({"text": "Countersign QJF6HN4C"})));
        assert!(!message("1", json!({"text": "Countersign QJF6HN4C: outcome"})));
        assert!(!message("1", json!(null)));
    }

    #[test]
    fn an_application_that_is_another_one_is_told() {
        let guild = example::guild("1");
        let check = |id: &str, key: &str, endpoint: Option<&str>| {
            let application = Application {
                id: id.to_owned(),
                verify_key: key.to_owned(),
                interactions_endpoint_url: endpoint.map(str::to_owned),
            };
            application.check(&guild).map_err(|error| error.to_string())
        };
        let key = guild.public_key.to_ascii_uppercase();
        assert_eq!(check(example::APPLICATION, &key, None), Ok(()));
        assert_eq!(check(example::APPLICATION, &key, Some("https://bot.example/")), Ok(()));
        assert!(check("3", &key, None).unwrap_err().contains("application 3"));
        assert!(
            check(example::APPLICATION, "00", None)
                .unwrap_err()
                .contains("public_key")
        );
    }
}
