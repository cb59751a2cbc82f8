//! One workspace of Slack: what the bot asks of it.

use super::api::Api;
use super::workspace::SlackWorkspace;
use super::{card, say};
use crate::chat::tls::TlsError;
use crate::chat::{Chat, ChatError, Content, Profile, To};
use async_trait::async_trait;
use chrono::TimeDelta;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::announcement::{MessageRef, PostKind, Room, Span};
use countersign_infra::domain::chat_link::ChatPlatform;
use countersign_infra::domain::id::Digest;
use serde::Deserialize;
use serde_json::{Value, json};
use slack_morphism::prelude::*;
use std::collections::HashMap;
use tokio::sync::OnceCell;

/// What the bot may do, and what for: the scopes of `slack-manifest.yaml`.
pub const SCOPES: [(&str, &str); 8] = [
    (
        "channels:history",
        "to find a card again whose posting was not confirmed",
    ),
    ("chat:write", "to post cards and bring them up to date"),
    ("commands", "to take /countersign"),
    ("files:write", "to hand over exports"),
    ("groups:history", "to find a card again in a private channel"),
    ("im:history", "to find a card again in a direct message"),
    ("im:write", "to write to people directly"),
    ("users:read", "to tell guests and bots from members"),
];

/// Wanted where `bot.verified_email` is on; the manifest asks for it too.
pub const EMAIL_SCOPE: (&str, &str) = ("users:read.email", "to know a person by a confirmed e-mail address");

/// What a message's metadata is called, by which the bot knows its own.
const EVENT_TYPE: &str = "countersign_post";

/// How far Slack's clock may be behind ours.
const SKEW: TimeDelta = TimeDelta::seconds(60);

/// How many pages of so many messages are looked through: a busy channel has a few messages a second, and a search is of
/// the minutes around a lost answer.
const PAGES_MAX: usize = 10;
const PAGE: &str = "200";

/// A workspace. Also answers clicks there: see `respond.rs`.
pub struct SlackChat {
    pub(super) workspace: SlackWorkspace,
    pub(super) api: Api,
    wants_email: bool,
    /// The app's bot, as messages name it.
    bot: OnceCell<String>,
}

impl SlackChat {
    /// `wants_email`: whether e-mail addresses that the workspace confirmed are used. Blocks on the file system.
    pub fn new(workspace: SlackWorkspace, wants_email: bool) -> Result<Self, TlsError> {
        Ok(Self {
            api: Api::new(&workspace)?,
            workspace,
            wants_email,
            bot: OnceCell::new(),
        })
    }

    pub fn workspace(&self) -> &SlackWorkspace {
        &self.workspace
    }

    /// The channel of a room: a person's is that of the direct messages with the app.
    async fn channel(&self, room: &Room) -> Result<String, ChatError> {
        if room.is_direct {
            self.direct(&room.channel).await
        } else {
            Ok(room.channel.clone())
        }
    }

    pub(super) async fn direct(&self, user: &str) -> Result<String, ChatError> {
        let opened: Opened = self.api.post("conversations.open", &json!({"users": user})).await?;
        Ok(opened.channel.id)
    }

    async fn bot(&self) -> Result<&str, ChatError> {
        let ask = || async {
            let me: Me = self.api.get("auth.test", &[]).await?;
            let none = || ChatError::Refused("the token is not that of a bot: configure the xoxb- token".to_owned());
            me.bot_id.ok_or_else(none)
        };
        self.bot.get_or_try_init(ask).await.map(String::as_str)
    }

    fn missing(&self, granted: &[String]) -> Vec<String> {
        let wanted = SCOPES.iter().chain(self.wants_email.then_some(&EMAIL_SCOPE));
        let missing = wanted.filter(|(scope, _)| !granted.iter().any(|granted| granted == scope));
        missing
            .map(|(scope, what_for)| format!("{scope} ({what_for})"))
            .collect()
    }
}

#[async_trait]
impl Chat for SlackChat {
    fn platform(&self) -> ChatPlatform {
        ChatPlatform::Slack
    }

    fn team(&self) -> &str {
        &self.workspace.team
    }

    fn digest(&self, content: &Content) -> Digest {
        Digest::of(json!(drawn(content)).to_string().as_bytes())
    }

    async fn post(&self, to: &To<'_>, content: &Content) -> Result<MessageRef, ChatError> {
        let (channel, thread) = match to.thread {
            Some(thread) => (thread.channel.clone(), Some(thread.message.clone().into())),
            None => (self.channel(to.room).await?, None),
        };
        let content = drawn(content).with_metadata(metadata(to));
        let request = SlackApiChatPostMessageRequest::new(channel.into(), content)
            .opt_thread_ts(thread)
            .with_unfurl_links(false)
            .with_unfurl_media(false);
        let posted: Posted = self.api.post("chat.postMessage", &request).await?;
        Ok(MessageRef {
            channel: posted.channel,
            message: posted.ts,
        })
    }

    async fn find(&self, to: &To<'_>, tried: Span) -> Result<Option<MessageRef>, ChatError> {
        let bot = self.bot().await?;
        let stamp = |at: Timestamp| format!("{}.{:06}", at.timestamp(), at.timestamp_subsec_micros());
        let (oldest, latest) = (stamp(tried.from - SKEW), stamp(tried.to + SKEW));
        let channel = match to.thread {
            Some(thread) => thread.channel.clone(),
            None => self.channel(to.room).await?,
        };
        let mut cursor = String::new();
        for _ in 0..PAGES_MAX {
            let mut parameters = vec![
                ("channel", channel.as_str()),
                ("oldest", &oldest),
                ("latest", &latest),
                ("limit", PAGE),
                ("include_all_metadata", "true"),
            ];
            if !cursor.is_empty() {
                parameters.push(("cursor", &cursor));
            }
            let page: Page = match to.thread {
                Some(thread) => {
                    parameters.push(("ts", &thread.message));
                    self.api.get("conversations.replies", &parameters).await?
                }
                None => self.api.get("conversations.history", &parameters).await?,
            };
            if let Some(found) = page.messages.into_iter().find(|message| message.is_ours(bot, to)) {
                let message = found.ts;
                return Ok(Some(MessageRef { channel, message }));
            }
            cursor = page.response_metadata.unwrap_or_default().next_cursor;
            if cursor.is_empty() {
                return Ok(None);
            }
        }
        let text = "an earlier try to post may have come through, and the channel is too busy to look for it: nothing is posted";
        Err(ChatError::Refused(text.to_owned()))
    }

    async fn update(&self, message: &MessageRef, content: &Content) -> Result<(), ChatError> {
        let (channel, ts) = (message.channel.clone().into(), message.message.clone().into());
        let request = SlackApiChatUpdateRequest::new(channel, drawn(content), ts);
        let _: Posted = self.api.post("chat.update", &request).await?;
        Ok(())
    }

    async fn profile(&self, user: &str) -> Result<Profile, ChatError> {
        let info: Info = self.api.get("users.info", &[("user", user)]).await?;
        Ok(info.user.profile(&self.workspace.team))
    }

    async fn check(&self) -> Result<(), ChatError> {
        let granted = self.api.scopes().await?;
        if granted.team != self.workspace.team {
            return Err(ChatError::Refused(format!(
                "the token is that of workspace {:?}, not of {:?}: configure that of the app installed there",
                granted.team, self.workspace.team
            )));
        }
        let missing = self.missing(&granted.scopes);
        if missing.is_empty() {
            return Ok(());
        }
        Err(ChatError::Refused(format!(
            "the app lacks scopes: {}; add them as in slack-manifest.yaml and install the app again",
            missing.join(", ")
        )))
    }
}

fn drawn(content: &Content) -> SlackMessageContent {
    match content {
        Content::Card(card) => card::message(card),
        Content::Note(text) => say::note(text),
    }
}

fn metadata(to: &To<'_>) -> SlackMessageMetadata {
    let payload = [("approval", to.approval.to_string()), ("kind", kind(to.kind))];
    let payload = payload.map(|(name, value)| (name.to_owned(), value));
    SlackMessageMetadata::new(EVENT_TYPE.to_owned()).with_event_payload(HashMap::from(payload))
}

fn kind(kind: PostKind) -> String {
    match kind {
        PostKind::Card => "card".to_owned(),
        PostKind::Outcome => "outcome".to_owned(),
        PostKind::Reminder { number } => format!("reminder-{number}"),
    }
}

#[derive(Deserialize)]
struct Me {
    bot_id: Option<String>,
}

#[derive(Deserialize)]
struct Opened {
    channel: Named,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

#[derive(Deserialize)]
struct Posted {
    channel: String,
    ts: String,
}

#[derive(Deserialize)]
struct Page {
    messages: Vec<Message>,
    response_metadata: Option<Next>,
}

#[derive(Default, Deserialize)]
struct Next {
    #[serde(default)]
    next_cursor: String,
}

#[derive(Deserialize)]
struct Message {
    ts: String,
    bot_id: Option<String>,
    /// Of any shape: others' messages have metadata too.
    #[serde(default)]
    metadata: Value,
}

impl Message {
    fn is_ours(&self, bot: &str, to: &To<'_>) -> bool {
        let wanted = json!({"approval": to.approval.as_str(), "kind": kind(to.kind)});
        let event_type = self.metadata.get("event_type").and_then(Value::as_str);
        self.bot_id.as_deref() == Some(bot)
            && event_type == Some(EVENT_TYPE)
            && self.metadata.get("event_payload") == Some(&wanted)
    }
}

#[derive(Deserialize)]
struct Info {
    user: User,
}

/// <https://docs.slack.dev/reference/objects/user-object>
#[derive(Deserialize)]
struct User {
    team_id: Option<String>,
    name: Option<String>,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    is_bot: bool,
    #[serde(default)]
    is_restricted: bool,
    #[serde(default)]
    is_ultra_restricted: bool,
    #[serde(default)]
    is_stranger: bool,
    #[serde(default)]
    is_email_confirmed: bool,
    #[serde(default)]
    profile: Names,
    enterprise_user: Option<Enterprise>,
}

#[derive(Default, Deserialize)]
struct Names {
    display_name: Option<String>,
    real_name: Option<String>,
    email: Option<String>,
}

#[derive(Deserialize)]
struct Enterprise {
    #[serde(default)]
    teams: Vec<String>,
}

impl User {
    fn profile(self, team: &str) -> Profile {
        let outsider = self.outsider(team);
        let names = [self.profile.display_name, self.profile.real_name, self.name];
        let name = names.into_iter().flatten().find(|name| !name.trim().is_empty());
        Profile {
            name: name.unwrap_or_default(),
            email: self
                .profile
                .email
                .filter(|_| self.is_email_confirmed && outsider.is_none()),
            outsider,
        }
    }

    fn outsider(&self, team: &str) -> Option<&'static str> {
        let teams = self.enterprise_user.as_ref().map(|user| user.teams.as_slice());
        let is_member = self.team_id.as_deref() == Some(team)
            || teams
                .unwrap_or_default()
                .iter()
                .any(|of_organisation| of_organisation == team);
        let reasons = [
            (self.deleted, "a deactivated account"),
            (self.is_bot, "a bot"),
            (self.is_ultra_restricted || self.is_restricted, "a guest"),
            (self.is_stranger || !is_member, "a member of another workspace"),
        ];
        reasons
            .into_iter()
            .find_map(|(applies, reason)| applies.then_some(reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::slack::example;

    fn profile(user: Value) -> Profile {
        serde_json::from_value::<User>(user).unwrap().profile("T1")
    }

    fn member(change: Value) -> Value {
        let mut user = json!({"id": "U1", "team_id": "T1", "name": "bob", "is_email_confirmed": true,
            "profile": {"display_name": "", "real_name": "Bob B.", "email": "bob@example.com"}});
        user.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        user
    }

    #[test]
    fn a_member_is_known_by_name_and_confirmed_address() {
        let bob = profile(member(json!({})));
        assert_eq!(
            (bob.name.as_str(), bob.email.as_deref()),
            ("Bob B.", Some("bob@example.com"))
        );
        assert_eq!(bob.outsider, None);
        assert_eq!(profile(member(json!({"is_email_confirmed": false}))).email, None);
        let elsewhere = json!({"team_id": "T2", "enterprise_user": {"teams": ["T2", "T1"]}});
        assert_eq!(profile(member(elsewhere)).outsider, None);
    }

    #[test]
    fn guests_bots_and_strangers_are_outsiders() {
        for (change, reason) in [
            (json!({"is_restricted": true}), "a guest"),
            (json!({"is_restricted": true, "is_ultra_restricted": true}), "a guest"),
            (json!({"is_bot": true}), "a bot"),
            (json!({"deleted": true}), "a deactivated account"),
            (json!({"is_stranger": true}), "a member of another workspace"),
            (json!({"team_id": "T2"}), "a member of another workspace"),
            (json!({"team_id": null}), "a member of another workspace"),
        ] {
            let profile = profile(member(change.clone()));
            assert_eq!((profile.outsider, profile.email), (Some(reason), None), "{change}");
        }
    }

    #[test]
    fn a_missing_scope_is_named_with_what_it_is_for() {
        let all: Vec<String> = SCOPES.iter().map(|(scope, _)| (*scope).to_owned()).collect();
        let chat = |wants_email| SlackChat::new(example::workspace("T1", "s"), wants_email).unwrap();
        assert_eq!(chat(false).missing(&all), Vec::<String>::new());
        let some = all.get(1..).unwrap();
        let expected = "channels:history (to find a card again whose posting was not confirmed)";
        assert_eq!(chat(false).missing(some), [expected]);
        let expected = "users:read.email (to know a person by a confirmed e-mail address)";
        assert_eq!(chat(true).missing(&all), [expected]);
    }

    #[test]
    fn only_the_bots_own_message_of_that_approval_and_kind_is_found() {
        let (room, approval) = (example::room(), "QJF6HN4C".parse().unwrap());
        let to = To {
            room: &room,
            thread: None,
            approval: &approval,
            kind: PostKind::Reminder { number: 2 },
        };
        let ours = json!({"ts": "1.2", "bot_id": "B1", "metadata": metadata(&to)});
        let is_ours = |message: Value| serde_json::from_value::<Message>(message).unwrap().is_ours("B1", &to);
        assert!(is_ours(ours.clone()));
        for (path, other) in [
            ("/bot_id", json!("B2")),
            ("/bot_id", json!(null)),
            ("/metadata", json!(null)),
            ("/metadata", json!([1])),
            ("/metadata/event_type", json!("other")),
            ("/metadata/event_payload", json!({})),
            ("/metadata/event_payload/approval", json!("00000000")),
            ("/metadata/event_payload/kind", json!("reminder-1")),
        ] {
            let mut message = ours.clone();
            *message.pointer_mut(path).unwrap() = other;
            assert!(!is_ours(message.clone()), "{message}");
        }
    }
}
