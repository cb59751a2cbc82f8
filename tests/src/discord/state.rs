//! What the fake Discord knows: guilds with their members, channels, messages, commands and interactions.

use super::gateway::Session;
use crate::chat::Answer;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Instant;
use tokio::sync::oneshot;

pub const APPLICATION: &str = "1100000000000000001";
pub const GUILD: &str = "1100000000000000002";
pub const CHANNEL: &str = "1100000000000000003";

/// The first millisecond of Discord's ids. <https://discord.com/developers/docs/reference#snowflakes>
const EPOCH_MILLIS: i64 = 1_420_070_400_000;

/// Everything.
pub(super) const PERMISSIONS: &str = "2251799813685247";

pub(super) const EPHEMERAL: u64 = 64;
pub(super) const LOADING: u64 = 128;

/// Somebody with an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub id: String,
    pub name: String,
    pub is_bot: bool,
    /// In the guild.
    pub roles: Vec<String>,
    /// Has not passed the guild's screening.
    pub is_pending: bool,
}

impl User {
    pub fn member(id: &str, name: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            is_bot: false,
            roles: Vec::new(),
            is_pending: false,
        }
    }

    pub(super) fn body(&self) -> Value {
        json!({"id": self.id, "username": self.name, "discriminator": "0", "global_name": self.name, "avatar": null,
            "bot": self.is_bot, "system": false, "public_flags": 0, "flags": 0, "banner": null, "accent_color": null,
            "avatar_decoration_data": null})
    }

    pub(super) fn as_member(&self) -> Value {
        json!({"user": self.body(), "nick": null, "avatar": null, "banner": null, "roles": self.roles,
            "joined_at": "2024-01-01T00:00:00.000000+00:00", "premium_since": null, "deaf": false, "mute": false,
            "flags": 0, "pending": self.is_pending, "communication_disabled_until": null})
    }
}

/// A message as Discord keeps it.
#[derive(Clone, Debug)]
pub struct Message {
    pub id: String,
    pub channel: String,
    /// Whom alone it is shown to: an ephemeral message.
    pub shown_to: Option<String>,
    pub edits: usize,
    pub deleted: bool,
    /// Names and contents of what is attached.
    pub files: Vec<(String, Vec<u8>)>,
    /// As answers of the API give it.
    pub body: Value,
}

impl Message {
    pub fn content(&self) -> &str {
        self.body["content"].as_str().unwrap_or_default()
    }

    /// The labels of its buttons.
    pub fn buttons(&self) -> Vec<String> {
        let labels = self.elements().filter_map(|element| element["label"].as_str());
        labels.map(str::to_owned).collect()
    }

    /// What stands in its rows.
    pub fn elements(&self) -> impl Iterator<Item = &Value> {
        let rows = self.body["components"].as_array().into_iter().flatten();
        rows.flat_map(|row| row["components"].as_array().into_iter().flatten())
    }
}

/// A modal that was shown to somebody.
#[derive(Clone, Debug)]
pub struct Modal {
    pub user: String,
    pub guild: Option<String>,
    pub channel: String,
    /// The message whose button opened it.
    pub message: Option<String>,
    pub body: Value,
}

#[derive(Clone)]
pub(super) struct Channel {
    pub id: String,
    /// None for a conversation with a person.
    pub guild: Option<String>,
    pub name: String,
    /// Whom it is a conversation with.
    pub person: Option<String>,
    /// The channel that a thread belongs to.
    pub parent: Option<String>,
    pub has_bot: bool,
}

impl Channel {
    pub fn body(&self, users: &BTreeMap<String, User>) -> Value {
        let mut body = json!({"id": self.id, "last_message_id": null, "flags": 0});
        match (&self.person, &self.parent) {
            (Some(person), _) => {
                let recipients: Vec<Value> = users.get(person).map(User::body).into_iter().collect();
                body["type"] = json!(1);
                body["recipients"] = json!(recipients);
            }
            (None, Some(parent)) => {
                body["type"] = json!(11);
                body["parent_id"] = json!(parent);
                body["owner_id"] = json!(APPLICATION);
                (body["message_count"], body["member_count"]) = (json!(0), json!(1));
                body["thread_metadata"] = json!({"archived": false, "auto_archive_duration": 1440, "locked": false,
                    "archive_timestamp": stamp(Utc::now()), "create_timestamp": stamp(Utc::now())});
            }
            (None, None) => {
                body["type"] = json!(0);
                (body["position"], body["nsfw"]) = (json!(0), json!(false));
                (body["topic"], body["parent_id"]) = (Value::Null, Value::Null);
                body["rate_limit_per_user"] = json!(0);
                body["permission_overwrites"] = json!([]);
            }
        }
        if let Some(guild) = &self.guild {
            (body["guild_id"], body["name"]) = (json!(guild), json!(self.name));
        }
        body
    }
}

pub(super) struct Guild {
    pub members: BTreeMap<String, User>,
    /// What everybody may.
    pub everyone: u64,
    /// What the bot's own role adds.
    pub own: u64,
}

impl Default for Guild {
    fn default() -> Self {
        Self {
            members: BTreeMap::new(),
            everyone: PERMISSIONS.parse().unwrap_or_default(),
            own: 0,
        }
    }
}

/// What somebody did, and what the bot made of it.
#[derive(Clone)]
pub(super) struct Interaction {
    pub id: String,
    pub user: String,
    pub guild: Option<String>,
    pub channel: String,
    /// The message that was clicked.
    pub message: Option<String>,
    pub made: Instant,
    pub is_answered: bool,
    /// The message that `@original` means.
    pub original: Option<String>,
}

pub(super) struct State {
    pub token: String,
    pub guilds: BTreeMap<String, Guild>,
    pub users: BTreeMap<String, User>,
    pub channels: BTreeMap<String, Channel>,
    pub messages: Vec<Message>,
    pub modals: Vec<Modal>,
    /// By guild; under no guild those that are known everywhere.
    pub commands: BTreeMap<Option<String>, Vec<Value>>,
    /// By token.
    pub interactions: BTreeMap<String, Interaction>,
    pub waiting: BTreeMap<String, oneshot::Sender<Answer>>,
    pub sessions: Vec<Session>,
    last_id: i64,
}

impl State {
    pub fn new() -> Self {
        let bot = User {
            is_bot: true,
            roles: vec![OWN_ROLE.to_owned()],
            ..User::member(APPLICATION, "countersign")
        };
        let mut state = Self {
            token: random(),
            guilds: BTreeMap::new(),
            users: BTreeMap::from([(bot.id.clone(), bot)]),
            channels: BTreeMap::new(),
            messages: Vec::new(),
            modals: Vec::new(),
            commands: BTreeMap::new(),
            interactions: BTreeMap::new(),
            waiting: BTreeMap::new(),
            sessions: Vec::new(),
            last_id: 0,
        };
        state.guilds.insert(GUILD.to_owned(), Guild::default());
        state.add_channel(GUILD, CHANNEL, "approvals", true);
        state
    }

    pub fn add_channel(&mut self, guild: &str, id: &str, name: &str, has_bot: bool) {
        let channel = Channel {
            id: id.to_owned(),
            guild: Some(guild.to_owned()),
            name: name.to_owned(),
            person: None,
            parent: None,
            has_bot,
        };
        self.channels.insert(id.to_owned(), channel);
    }

    /// An id that is greater than every one before.
    pub fn snowflake(&mut self) -> String {
        let now = (Utc::now().timestamp_millis() - EPOCH_MILLIS) << 22;
        self.last_id = now.max(self.last_id + 1);
        self.last_id.to_string()
    }

    /// A message by its id, of those that the API shows.
    pub fn message(&mut self, channel: &str, id: &str) -> Option<&mut Message> {
        let mut known = self.messages.iter_mut();
        known.find(|message| message.channel == channel && message.id == id && !message.deleted)
    }

    /// The conversation of the bot with a person, opened if there is none yet.
    pub fn conversation(&mut self, person: &str) -> Option<Channel> {
        if !self.users.contains_key(person) {
            return None;
        }
        let mut known = self.channels.values();
        if let Some(open) = known.find(|channel| channel.person.as_deref() == Some(person)) {
            return Some(open.clone());
        }
        let channel = Channel {
            id: self.snowflake(),
            guild: None,
            name: String::new(),
            person: Some(person.to_owned()),
            parent: None,
            has_bot: true,
        };
        self.channels.insert(channel.id.clone(), channel.clone());
        Some(channel)
    }

    /// Keeps a new message of the bot.
    pub fn post(
        &mut self,
        channel: &str,
        shown_to: Option<String>,
        given: &Value,
        files: Vec<(String, Vec<u8>)>,
    ) -> Message {
        let id = self.snowflake();
        let bot = self.users.get(APPLICATION).map(User::body);
        let mut body = json!({"id": id, "channel_id": channel, "author": bot, "content": "", "edited_timestamp": null,
            "timestamp": stamp(Utc::now()), "tts": false, "mention_everyone": false, "mentions": [], "mention_roles": [],
            "attachments": [], "embeds": [], "pinned": false, "type": 0, "components": [], "flags": 0,
            "application_id": APPLICATION});
        if let Some(nonce) = given.get("nonce").filter(|nonce| !nonce.is_null()) {
            body["nonce"] = nonce.clone();
        }
        if shown_to.is_some() {
            body["flags"] = json!(EPHEMERAL);
        }
        let mut message = Message {
            id,
            channel: channel.to_owned(),
            shown_to,
            edits: 0,
            deleted: false,
            files: Vec::new(),
            body,
        };
        message.fill(given, files, || self.snowflake());
        self.messages.push(message.clone());
        message
    }
}

impl Message {
    /// Takes over what a request says of content, embeds, components and files; the rest stays.
    pub(super) fn fill(&mut self, given: &Value, files: Vec<(String, Vec<u8>)>, mut next: impl FnMut() -> String) {
        for (name, empty) in [("content", json!("")), ("embeds", json!([])), ("components", json!([]))] {
            if let Some(value) = given.get(name) {
                self.body[name] = if value.is_null() { empty } else { value.clone() };
            }
        }
        let mut number = 0;
        number_components(&mut self.body["components"], &mut number);
        let mut attached: Vec<Value> = self.body["attachments"].as_array().cloned().unwrap_or_default();
        if let Some(kept) = given.get("attachments").and_then(Value::as_array) {
            attached.retain(|known| kept.iter().any(|one| one["id"] == known["id"]));
        }
        for (name, content) in files {
            attached.push(
                json!({"id": next(), "filename": name, "size": content.len(), "url": "https://cdn.example/",
                "proxy_url": "https://cdn.example/", "content_type": "text/plain"}),
            );
            self.files.push((name, content));
        }
        self.body["attachments"] = json!(attached);
    }

    pub(super) fn edit(&mut self, given: &Value, files: Vec<(String, Vec<u8>)>, next: impl FnMut() -> String) {
        self.edits += 1;
        self.fill(given, files, next);
        self.body["edited_timestamp"] = json!(stamp(Utc::now()));
        self.body["flags"] = json!(self.body["flags"].as_u64().unwrap_or_default() & !LOADING);
    }
}

/// Every component has a number of its own in its message.
fn number_components(value: &mut Value, number: &mut u64) {
    let list = match value {
        Value::Array(list) => list,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => return,
    };
    for component in list.iter_mut().filter_map(Value::as_object_mut) {
        *number += 1;
        component.entry("id").or_insert(json!(number));
        if let Some(inner) = component.get_mut("components") {
            number_components(inner, number);
        }
    }
}

/// A time as Discord writes it.
pub(super) fn stamp(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}

pub(super) fn random() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// A guild as the API gives it.
pub(super) fn guild(id: &str, known: &Guild) -> Map<String, Value> {
    let role = |id: &str, name: &str, permissions: u64| {
        json!({"id": id, "name": name, "color": 0, "colors": {"primary_color": 0, "secondary_color": null,
            "tertiary_color": null}, "hoist": false, "icon": null, "unicode_emoji": null, "position": 0,
            "permissions": permissions.to_string(), "managed": false, "mentionable": false, "flags": 0})
    };
    let roles = [
        role(id, "@everyone", known.everyone),
        role(OWN_ROLE, "countersign", known.own),
    ];
    let numbers = json!({"afk_timeout": 300, "verification_level": 0, "default_message_notifications": 0,
        "explicit_content_filter": 0, "mfa_level": 0, "system_channel_flags": 0, "max_members": 500_000,
        "premium_tier": 0, "premium_subscription_count": 0, "nsfw_level": 0});
    let mut body = json!({"id": id, "name": "Acme", "owner_id": "1100000000000000009", "features": [], "emojis": [],
        "stickers": [], "premium_progress_bar_enabled": false, "preferred_locale": "en-US", "nsfw": false,
        "widget_enabled": false, "roles": roles});
    for name in GUILD_NULLS {
        body[*name] = Value::Null;
    }
    let mut body = body.as_object().cloned().unwrap_or_default();
    body.extend(numbers.as_object().cloned().unwrap_or_default());
    body
}

/// The bot's own role in every guild.
const OWN_ROLE: &str = "1100000000000000007";

/// What a guild may have and this one has not.
const GUILD_NULLS: &[&str] = &[
    "icon",
    "splash",
    "discovery_splash",
    "banner",
    "afk_channel_id",
    "widget_channel_id",
    "application_id",
    "system_channel_id",
    "rules_channel_id",
    "public_updates_channel_id",
    "safety_alerts_channel_id",
    "max_presences",
    "vanity_url_code",
    "description",
    "hub_type",
];
