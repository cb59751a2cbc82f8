//! What the fake Slack knows: workspaces with their people, channels and messages.

use super::answers::Origin;
use crate::chat::Answer;
use chrono::Utc;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

pub const APP: &str = "A0COUNTERS";
pub const TEAM: &str = "T0000000001";
pub const CHANNEL: &str = "C0000000001";

/// The scopes of a bot token, unless a test takes some away.
const SCOPES: [&str; 10] = [
    "chat:write",
    "channels:history",
    "commands",
    "files:write",
    "groups:history",
    "im:history",
    "im:write",
    "team:read",
    "users:read",
    "users:read.email",
];

/// A person or a bot of a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub id: String,
    pub name: String,
    pub email: Option<String>,
    pub is_email_confirmed: bool,
    pub is_bot: bool,
    /// A guest of several channels.
    pub is_restricted: bool,
    /// A guest of one channel.
    pub is_ultra_restricted: bool,
    /// Of another workspace, in a shared channel.
    pub is_stranger: bool,
    pub deleted: bool,
    /// Another workspace, for a stranger.
    pub team: Option<String>,
    pub tz: String,
}

impl User {
    /// A full member with an e-mail address.
    pub fn member(id: &str, name: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            email: Some(format!("{name}@example.com")),
            is_email_confirmed: true,
            is_bot: false,
            is_restricted: false,
            is_ultra_restricted: false,
            is_stranger: false,
            deleted: false,
            team: None,
            tz: "Europe/Vienna".to_owned(),
        }
    }
}

/// A message as Slack keeps it.
#[derive(Clone, Debug)]
pub struct Message {
    pub team: String,
    pub channel: String,
    pub ts: String,
    /// The message that it answers to.
    pub thread_ts: Option<String>,
    /// Whom alone it is shown to: an ephemeral message.
    pub shown_to: Option<String>,
    pub edits: usize,
    pub deleted: bool,
    /// As answers of the API give it.
    pub body: Value,
}

impl Message {
    pub fn text(&self) -> &str {
        self.body["text"].as_str().unwrap_or_default()
    }

    /// The labels of its buttons.
    pub fn buttons(&self) -> Vec<String> {
        let elements = self.elements();
        let labels = elements.filter_map(|(_, element)| element["text"]["text"].as_str());
        labels.map(str::to_owned).collect()
    }

    /// The elements of its blocks, each with the block's id.
    pub fn elements(&self) -> impl Iterator<Item = (&str, &Value)> {
        let blocks = self.body["blocks"].as_array().into_iter().flatten();
        blocks.flat_map(|block| {
            let id = block["block_id"].as_str().unwrap_or_default();
            let elements = block["elements"].as_array().into_iter().flatten();
            let all = elements.chain(block.get("accessory"));
            all.filter(|element| element["action_id"].is_string())
                .map(move |element| (id, element))
        })
    }
}

/// A modal that was opened.
#[derive(Clone, Debug)]
pub struct View {
    pub id: String,
    pub team: String,
    pub user: String,
    pub is_open: bool,
    /// As answers of the API give it.
    pub body: Value,
}

/// A file that was uploaded.
#[derive(Clone, Debug, Default)]
pub struct File {
    pub id: String,
    pub team: String,
    pub name: String,
    pub title: String,
    /// What was announced; the content must have it.
    pub length: usize,
    pub content: Vec<u8>,
    pub channel: Option<String>,
    pub thread_ts: Option<String>,
    pub is_complete: bool,
}

pub(super) struct Team {
    pub id: String,
    pub bot_token: String,
    pub bot_user: String,
    pub bot_id: String,
    pub scopes: Vec<String>,
    pub users: BTreeMap<String, User>,
    pub channels: BTreeMap<String, Channel>,
}

#[derive(Clone)]
pub(super) struct Channel {
    pub id: String,
    pub name: String,
    /// Whom it is a conversation with.
    pub person: Option<String>,
    pub has_bot: bool,
}

/// Where a response_url leads.
pub(super) struct ResponseUrl {
    pub origin: Origin,
    pub uses_left: usize,
    pub made: Instant,
}

pub(super) struct Trigger {
    pub team: String,
    pub user: String,
    pub made: Instant,
    pub is_used: bool,
}

/// A Socket Mode connection of the app.
pub(super) struct Connection {
    pub id: u64,
    pub frames: mpsc::Sender<Value>,
}

pub(super) struct State {
    pub app_token: String,
    pub teams: BTreeMap<String, Team>,
    pub messages: Vec<Message>,
    pub views: Vec<View>,
    pub files: Vec<File>,
    pub triggers: BTreeMap<String, Trigger>,
    pub response_urls: BTreeMap<String, ResponseUrl>,
    pub tickets: Vec<String>,
    pub connections: Vec<Connection>,
    /// Envelopes that nobody has acknowledged.
    pub waiting: BTreeMap<String, oneshot::Sender<Answer>>,
    pub acknowledged: usize,
    counter: u64,
}

impl State {
    pub fn new() -> Self {
        let mut state = Self {
            app_token: format!("xapp-1-{APP}-{}", random()),
            teams: BTreeMap::new(),
            messages: Vec::new(),
            views: Vec::new(),
            files: Vec::new(),
            triggers: BTreeMap::new(),
            response_urls: BTreeMap::new(),
            tickets: Vec::new(),
            connections: Vec::new(),
            waiting: BTreeMap::new(),
            acknowledged: 0,
            counter: 0,
        };
        state.add_team(TEAM);
        state
    }

    /// A workspace with one channel that the bot is in. Gives the bot's token.
    pub fn add_team(&mut self, id: &str) -> String {
        let channel = Channel {
            id: CHANNEL.to_owned(),
            name: "approvals".to_owned(),
            person: None,
            has_bot: true,
        };
        let (bot_token, bot_user) = (
            format!("xoxb-{}", random()),
            format!("U{}BOT", id.trim_start_matches('T')),
        );
        let bot = User {
            is_bot: true,
            email: None,
            is_email_confirmed: false,
            ..User::member(&bot_user, "countersign")
        };
        let team = Team {
            id: id.to_owned(),
            bot_token: bot_token.clone(),
            bot_id: format!("B{}BOT", id.trim_start_matches('T')),
            bot_user: bot_user.clone(),
            scopes: SCOPES.map(str::to_owned).into(),
            users: BTreeMap::from([(bot_user, bot)]),
            channels: BTreeMap::from([(channel.id.clone(), channel)]),
        };
        self.teams.insert(id.to_owned(), team);
        bot_token
    }

    pub fn team_of(&self, token: &str) -> Option<&Team> {
        self.teams.values().find(|team| team.bot_token == token)
    }

    pub fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// A time stamp that no other message has. <https://docs.slack.dev/messaging/retrieving-messages>
    pub fn ts(&mut self) -> String {
        format!("{}.{:06}", Utc::now().timestamp(), self.next() % 1_000_000)
    }

    /// The message that people and the API see under that time stamp.
    pub fn message(&mut self, team: &str, channel: &str, ts: &str) -> Option<&mut Message> {
        self.messages
            .iter_mut()
            .find(|message| message.team == team && message.channel == channel && message.ts == ts && !message.deleted)
    }

    /// The conversation of the bot with a person, opened if there is none yet.
    pub fn conversation(&mut self, team: &str, user: &str) -> Option<String> {
        let number = self.next();
        let team = self.teams.get_mut(team)?;
        let person = team.users.get(user).filter(|user| !user.is_bot)?.id.clone();
        let open = team.channels.values();
        if let Some(channel) = open.into_iter().find(|open| open.person.as_ref() == Some(&person)) {
            return Some(channel.id.clone());
        }
        let channel = Channel {
            id: format!("D{number:010}"),
            name: "directmessage".to_owned(),
            person: Some(person),
            has_bot: true,
        };
        let id = channel.id.clone();
        team.channels.insert(id.clone(), channel);
        Some(id)
    }

    /// Gives a frame to the connection that has waited longest; gives it back where there is none.
    pub fn give(&mut self, mut frame: Value) -> Option<Value> {
        while !self.connections.is_empty() {
            let connection = self.connections.remove(0);
            match connection.frames.try_send(frame) {
                Ok(()) => {
                    self.connections.push(connection);
                    return None;
                }
                Err(error) => frame = error.into_inner(),
            }
        }
        Some(frame)
    }

    /// A trigger for a modal, good once and for three seconds.
    pub fn trigger(&mut self, team: &str, user: &str) -> String {
        let id = format!("{}.{}.{}", self.next(), self.next(), random());
        let trigger = Trigger {
            team: team.to_owned(),
            user: user.to_owned(),
            made: Instant::now(),
            is_used: false,
        };
        self.triggers.insert(id.clone(), trigger);
        id
    }

    /// Keeps a message of the bot, under a time stamp of its own.
    pub fn post(&mut self, new: NewMessage) -> Message {
        let ts = self.ts();
        let bot = self.teams.get(&new.team).map(|team| (&team.bot_user, &team.bot_id));
        let (user, bot_id) = bot.map(|(user, id)| (user.clone(), id.clone())).unwrap_or_default();
        let mut body = Map::from_iter([
            ("type".to_owned(), json!("message")),
            ("user".to_owned(), json!(user)),
            ("ts".to_owned(), json!(ts)),
            ("bot_id".to_owned(), json!(bot_id)),
            ("app_id".to_owned(), json!(APP)),
            ("team".to_owned(), json!(new.team)),
        ]);
        if let Some(thread) = &new.thread_ts {
            body.insert("thread_ts".to_owned(), json!(thread));
        }
        let profile = json!({"id": bot_id, "app_id": APP, "user_id": user, "name": "countersign",
            "icons": {}, "deleted": false, "updated": 1_700_000_000, "team_id": new.team});
        body.insert("bot_profile".to_owned(), profile);
        body.extend(new.content);
        let message = Message {
            team: new.team,
            channel: new.channel,
            ts,
            thread_ts: new.thread_ts,
            shown_to: new.shown_to,
            edits: 0,
            deleted: false,
            body: Value::Object(body),
        };
        self.messages.push(message.clone());
        message
    }
}

/// What becomes a message.
pub(super) struct NewMessage {
    pub team: String,
    pub channel: String,
    pub thread_ts: Option<String>,
    pub shown_to: Option<String>,
    /// Text, blocks, metadata and the like.
    pub content: Map<String, Value>,
}

pub(super) fn random() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}
