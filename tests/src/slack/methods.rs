//! The methods of the Web API that the bot or an official client uses. <https://docs.slack.dev/reference/methods>

use super::blocks::{self, Surface, TEXT_CHARS_MAX};
use super::state::{File, Message, NewMessage, State, Team, User, View, random};
use super::web::link;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// How long a trigger is good.
const TRIGGER_LIMIT: Duration = Duration::from_secs(3);

/// What messages may have: the longest text, which Slack would cut.
const TEXT_MAX: usize = 40_000;

/// A method, the workspace it was asked in, and its arguments.
pub(super) struct Call<'a> {
    pub state: &'a mut State,
    pub url: &'a str,
    pub method: &'a str,
    pub team: String,
    pub arguments: Map<String, Value>,
}

pub(super) struct Refused {
    pub error: &'static str,
    /// Further members of the answer.
    pub more: Value,
}

type Outcome = Result<Value, Refused>;

pub(super) fn call(mut call: Call<'_>) -> Outcome {
    match call.method {
        "auth.test" => call.auth_test(),
        "apps.connections.open" => call.connections_open(),
        "chat.postMessage" => call.post(false),
        "chat.postEphemeral" => call.post(true),
        "chat.update" => call.update(),
        "chat.delete" => call.delete(),
        "conversations.open" => call.conversations_open(),
        "conversations.history" => call.history(),
        "conversations.replies" => call.replies(),
        "users.info" => call.user_info(),
        "users.lookupByEmail" => call.lookup(),
        "bots.info" => call.bot_info(),
        "team.info" => call.team_info(),
        "views.open" => call.view_open(),
        "files.getUploadURLExternal" => call.upload_url(),
        "files.completeUploadExternal" => call.upload_complete(),
        _ => refuse("unknown_method"),
    }
}

fn refuse(error: &'static str) -> Outcome {
    Err(Refused::of(error))
}

impl Call<'_> {
    fn text(&self, name: &str) -> &str {
        self.arguments.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn is(&self, name: &str) -> bool {
        let value = self.arguments.get(name);
        value.is_some_and(|value| value == true || value == "true" || value == "1" || value == 1)
    }

    fn whole(&self) -> Result<&Team, Refused> {
        self.state.teams.get(&self.team).ok_or(Refused::of("invalid_auth"))
    }

    fn auth_test(&self) -> Outcome {
        if self.team.is_empty() {
            return Ok(json!({"app_name": "countersign", "app_id": super::APP}));
        }
        let team = self.whole()?;
        Ok(
            json!({"url": format!("{}/", self.url), "team": team.id.to_lowercase(), "user": "countersign",
            "team_id": team.id, "user_id": team.bot_user, "bot_id": team.bot_id, "is_enterprise_install": false}),
        )
    }

    fn connections_open(&mut self) -> Outcome {
        let ticket = random();
        self.state.tickets.push(ticket.clone());
        Ok(json!({"url": link(self.url, &ticket)}))
    }

    /// The channel that was named, or the conversation with the person who was.
    fn channel(&mut self) -> Result<String, Refused> {
        let (team, named) = (self.team.clone(), self.text("channel").to_owned());
        if named.starts_with('U') {
            let open = self.state.conversation(&team, &named);
            return open.ok_or(Refused::of("channel_not_found"));
        }
        match self.whole()?.channels.get(&named) {
            None => Err(Refused::of("channel_not_found")),
            Some(channel) if !channel.has_bot => Err(Refused::of("not_in_channel")),
            Some(channel) => Ok(channel.id.clone()),
        }
    }

    /// Text, blocks and the like, within Slack's limits.
    fn content(&mut self) -> Result<Map<String, Value>, Refused> {
        let arguments = std::mem::take(&mut self.arguments);
        let content = content(&arguments, || self.state.next());
        self.arguments = arguments;
        content
    }

    fn post(&mut self, is_ephemeral: bool) -> Outcome {
        let channel = self.channel()?;
        let content = self.content()?;
        let thread_ts = Some(self.text("thread_ts").to_owned()).filter(|ts| !ts.is_empty());
        let shown_to = is_ephemeral.then(|| self.text("user").to_owned());
        if let Some(user) = &shown_to
            && !self.whole()?.users.contains_key(user)
        {
            return refuse("user_not_in_channel");
        }
        let team = self.team.clone();
        if let Some(ts) = &thread_ts
            && self.state.message(&team, &channel, ts).is_none()
        {
            return refuse("thread_not_found");
        }
        let new = NewMessage {
            team,
            channel,
            thread_ts,
            shown_to,
            content,
        };
        let message = self.state.post(new);
        if is_ephemeral {
            return Ok(json!({"message_ts": message.ts}));
        }
        Ok(json!({"channel": message.channel, "ts": message.ts, "message": message.body}))
    }

    /// The bot's own message that was named.
    fn own(&mut self, refusal: &'static str) -> Result<&mut Message, Refused> {
        let channel = self.channel()?;
        let (team, ts) = (self.team.clone(), self.text("ts").to_owned());
        let bot = self.whole()?.bot_id.clone();
        let message = self.state.message(&team, &channel, &ts);
        let message = message.filter(|message| message.shown_to.is_none());
        let message = message.ok_or(Refused::of("message_not_found"))?;
        if message.body["bot_id"] != json!(bot) {
            return Err(Refused::of(refusal));
        }
        Ok(message)
    }

    /// What is not given stays as it was; an empty list of blocks takes them away.
    fn update(&mut self) -> Outcome {
        self.own("cant_update_message")?;
        let content = self.content()?;
        let editor = self.whole()?.bot_user.clone();
        let now = self.state.ts();
        let message = self.own("cant_update_message")?;
        message.edit(content, &editor, &now);
        let text = message.text().to_owned();
        Ok(json!({"channel": message.channel, "ts": message.ts, "text": text, "message": message.body}))
    }

    fn delete(&mut self) -> Outcome {
        let message = self.own("cant_delete_message")?;
        message.deleted = true;
        Ok(json!({"channel": message.channel, "ts": message.ts}))
    }

    fn conversations_open(&mut self) -> Outcome {
        let users = match self.arguments.get("users") {
            Some(Value::Array(list)) => list.first().and_then(Value::as_str).unwrap_or_default().to_owned(),
            Some(Value::String(users)) if !users.contains(',') => users.clone(),
            Some(_) | None => return refuse("users_list_not_supplied"),
        };
        let team = self.team.clone();
        let id = self
            .state
            .conversation(&team, &users)
            .ok_or(Refused::of("user_not_found"))?;
        Ok(json!({"channel": {"id": id}}))
    }

    fn history(&mut self) -> Outcome {
        let channel = self.channel()?;
        let shown = self.state.messages.iter().rev().filter(|message| {
            let on_top = message.thread_ts.as_ref().is_none_or(|thread| *thread == message.ts);
            on_top || message.body["reply_broadcast"] == true
        });
        let shown: Vec<Message> = shown
            .filter(|message| message.is_seen_in(&self.team, &channel))
            .cloned()
            .collect();
        Ok(self.page(&shown))
    }

    fn replies(&mut self) -> Outcome {
        let channel = self.channel()?;
        let ts = self.text("ts").to_owned();
        let seen = self
            .state
            .messages
            .iter()
            .filter(|message| message.is_seen_in(&self.team, &channel));
        let thread = seen.filter(|message| message.ts == ts || message.thread_ts.as_ref() == Some(&ts));
        let thread: Vec<Message> = thread.cloned().collect();
        if thread.first().is_none_or(|first| first.ts != ts) {
            return refuse("thread_not_found");
        }
        Ok(self.page(&thread))
    }

    /// As many messages as were asked for, from the cursor on, between the times that were named.
    fn page(&self, messages: &[Message]) -> Value {
        let limit = match self.arguments.get("limit") {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) | None => None,
        };
        let limit = limit
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(100)
            .clamp(1, 999);
        let start: usize = self.text("cursor").parse().unwrap_or_default();
        let (oldest, latest) = (self.text("oldest"), self.text("latest"));
        let inclusive = self.is("inclusive");
        let wanted = messages.iter().filter(|message| {
            let ts = message.ts.as_str();
            let after = oldest.is_empty() || ts > oldest || (inclusive && ts == oldest);
            after && (latest.is_empty() || ts < latest || (inclusive && ts == latest))
        });
        let wanted: Vec<&Message> = wanted.skip(start).collect();
        let page = wanted.iter().take(limit).map(|message| self.listed(message));
        let page: Vec<Value> = page.collect();
        let has_more = wanted.len() > limit;
        let cursor = if has_more {
            (start + limit).to_string()
        } else {
            String::new()
        };
        json!({"messages": page, "has_more": has_more, "response_metadata": {"next_cursor": cursor}})
    }

    fn listed(&self, message: &Message) -> Value {
        let mut body = message.body.clone();
        let replies = self.state.messages.iter().filter(|reply| {
            reply.is_seen_in(&message.team, &message.channel)
                && reply.thread_ts.as_ref() == Some(&message.ts)
                && reply.ts != message.ts
        });
        let count = replies.count();
        if let Some(body) = body.as_object_mut() {
            if !self.is("include_all_metadata") {
                body.remove("metadata");
            }
            if count > 0 {
                body.insert("thread_ts".to_owned(), json!(message.ts));
                body.insert("reply_count".to_owned(), json!(count));
            }
        }
        body
    }

    fn user_info(&self) -> Outcome {
        let team = self.whole()?;
        let user = team.users.get(self.text("user")).ok_or(Refused::of("user_not_found"))?;
        Ok(json!({"user": profile(team, user)}))
    }

    fn lookup(&self) -> Outcome {
        let team = self.whole()?;
        let wanted = self.text("email");
        let mut known = team
            .users
            .values()
            .filter(|user| !user.is_bot && !user.deleted && !user.is_stranger);
        let user = known.find(|user| user.email.as_deref() == Some(wanted));
        let user = user.ok_or(Refused::of("users_not_found"))?;
        Ok(json!({"user": profile(team, user)}))
    }

    fn bot_info(&self) -> Outcome {
        let team = self.whole()?;
        if self.text("bot") != team.bot_id {
            return refuse("bot_not_found");
        }
        Ok(
            json!({"bot": {"id": team.bot_id, "deleted": false, "name": "countersign", "app_id": super::APP,
            "user_id": team.bot_user, "updated": 1_700_000_000, "icons": {}}}),
        )
    }

    fn team_info(&self) -> Outcome {
        let team = self.whole()?;
        let domain = team.id.to_lowercase();
        Ok(json!({"team": {"id": team.id, "name": domain, "domain": domain, "email_domain": "", "icon": {}}}))
    }

    fn view_open(&mut self) -> Outcome {
        let trigger = self.text("trigger_id").to_owned();
        let view = self.arguments.get("view").cloned().unwrap_or_default();
        let faults = blocks::view_faults(&view);
        if !faults.is_empty() {
            return Err(Refused::listing("invalid_arguments", &faults));
        }
        let trigger = self
            .state
            .triggers
            .get_mut(&trigger)
            .filter(|trigger| trigger.team == self.team);
        let trigger = trigger.ok_or(Refused::of("invalid_trigger_id"))?;
        if trigger.is_used {
            return refuse("exchanged_trigger_id");
        }
        if trigger.made.elapsed() > TRIGGER_LIMIT {
            return refuse("expired_trigger_id");
        }
        trigger.is_used = true;
        let user = trigger.user.clone();
        let bot = self.whole()?.bot_id.clone();
        let view = self.state.open_view(&self.team, &user, &bot, view);
        Ok(json!({"view": view.body}))
    }

    fn upload_url(&mut self) -> Outcome {
        let length = match self.arguments.get("length") {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) | None => None,
        };
        let length = length
            .and_then(|length| usize::try_from(length).ok())
            .filter(|length| *length > 0);
        let (Some(length), false) = (length, self.text("filename").is_empty()) else {
            return refuse("invalid_arguments");
        };
        let id = format!("F{:010}", self.state.next());
        let file = File {
            id: id.clone(),
            team: self.team.clone(),
            name: self.text("filename").to_owned(),
            length,
            ..File::default()
        };
        self.state.files.push(file);
        Ok(json!({"upload_url": format!("{}/upload/{id}", self.url), "file_id": id}))
    }

    fn upload_complete(&mut self) -> Outcome {
        let shared = self
            .arguments
            .get("channel_id")
            .and_then(Value::as_str)
            .map(str::to_owned);
        if let Some(channel) = &shared {
            self.arguments.insert("channel".to_owned(), json!(channel));
            self.channel()?;
        }
        let thread_ts = self
            .arguments
            .get("thread_ts")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let named = self
            .arguments
            .get("files")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let mut done = Vec::new();
        for one in &named {
            let file = self
                .state
                .files
                .iter_mut()
                .find(|file| one["id"] == json!(file.id) && file.team == self.team);
            let Some(file) = file.filter(|file| file.content.len() == file.length) else {
                return refuse("file_not_found");
            };
            file.title = one["title"].as_str().unwrap_or(&file.name).to_owned();
            (file.channel, file.thread_ts, file.is_complete) = (shared.clone(), thread_ts.clone(), true);
            done.push(json!({"id": file.id, "name": file.name, "title": file.title, "size": file.length}));
        }
        if done.is_empty() {
            return refuse("invalid_arguments");
        }
        if let Some(channel) = shared {
            let text = self.text("initial_comment").to_owned();
            let content = json!({"text": text, "files": done})
                .as_object()
                .cloned()
                .unwrap_or_default();
            let team = self.team.clone();
            self.state.post(NewMessage {
                team,
                channel,
                thread_ts,
                shown_to: None,
                content,
            });
        }
        Ok(json!({"files": done}))
    }
}

impl Message {
    fn is_seen_in(&self, team: &str, channel: &str) -> bool {
        self.team == team && self.channel == channel && self.shown_to.is_none() && !self.deleted
    }

    pub(super) fn edit(&mut self, content: Map<String, Value>, editor: &str, ts: &str) {
        self.edits += 1;
        if let Some(body) = self.body.as_object_mut() {
            body.extend(content);
            body.insert("edited".to_owned(), json!({"user": editor, "ts": ts}));
        }
    }
}

impl State {
    /// Shows a modal to a person.
    pub(super) fn open_view(&mut self, team: &str, user: &str, bot: &str, mut body: Value) -> View {
        let id = format!("V{:010}", self.next());
        if let Some(blocks) = body.get_mut("blocks") {
            blocks::complete(blocks, || self.next());
        }
        if let Some(body) = body.as_object_mut() {
            for name in ["private_metadata", "callback_id", "external_id"] {
                body.entry(name).or_insert(json!(""));
            }
            body.extend(
                json!({"id": id, "team_id": team, "hash": random(), "state": {"values": {}}, "root_view_id": id,
                "previous_view_id": null, "app_id": super::APP, "bot_id": bot})
                .as_object()
                .cloned()
                .unwrap_or_default(),
            );
        }
        let view = View {
            id,
            team: team.to_owned(),
            user: user.to_owned(),
            is_open: true,
            body,
        };
        self.views.push(view.clone());
        view
    }
}

impl Refused {
    fn listing(error: &'static str, faults: &[String]) -> Self {
        let messages: Vec<String> = faults.iter().map(|fault| format!("[ERROR] {fault}")).collect();
        Self {
            error,
            more: json!({"errors": faults, "response_metadata": {"messages": messages}}),
        }
    }
}

/// What of a request becomes part of a message, within Slack's limits.
pub(super) fn content(
    arguments: &Map<String, Value>,
    next: impl FnMut() -> u64,
) -> Result<Map<String, Value>, Refused> {
    let names = ["text", "blocks", "attachments", "metadata", "reply_broadcast"];
    let mut content = arguments.clone();
    content.retain(|name, value| names.contains(&name.as_str()) && !value.is_null());
    let text = content.get("text").and_then(Value::as_str).unwrap_or_default();
    let has_text = !text.is_empty();
    if text.chars().count() > TEXT_MAX {
        return Err(Refused::of("msg_too_long"));
    }
    if let Some(blocks) = content.get_mut("blocks") {
        let faults = blocks::faults(blocks, Surface::Message);
        if !faults.is_empty() {
            return Err(Refused::listing("invalid_blocks", &faults));
        }
        if blocks::text_chars(blocks) > TEXT_CHARS_MAX {
            return Err(Refused::of("msg_blocks_too_long"));
        }
        blocks::complete(blocks, next);
    }
    let has_blocks = ["blocks", "attachments"].iter().any(|name| content.contains_key(*name));
    if !has_text && !has_blocks {
        return Err(Refused::of("no_text"));
    }
    if let Some(metadata) = content.get("metadata") {
        let is_well_formed = metadata["event_type"].is_string() && metadata["event_payload"].is_object();
        if !is_well_formed && metadata != &json!({}) {
            return Err(Refused::of("invalid_metadata_format"));
        }
    }
    content.entry("text").or_insert(json!(""));
    Ok(content)
}

fn profile(team: &Team, user: &User) -> Value {
    let home = user.team.as_ref().unwrap_or(&team.id);
    let mut profile = json!({"real_name": user.name, "display_name": user.name, "team": home,
        "avatar_hash": "g", "status_text": ""});
    let may_see = team.scopes.iter().any(|scope| scope == "users:read.email");
    if let (Some(email), true, Some(profile)) = (&user.email, may_see, profile.as_object_mut()) {
        profile.insert("email".to_owned(), json!(email));
    }
    json!({"id": user.id, "team_id": home, "name": user.name, "real_name": user.name, "deleted": user.deleted,
        "profile": profile, "tz": user.tz, "tz_label": user.tz, "tz_offset": 3600, "is_admin": false, "is_owner": false,
        "is_primary_owner": false, "is_restricted": user.is_restricted, "is_ultra_restricted": user.is_ultra_restricted,
        "is_stranger": user.is_stranger, "is_bot": user.is_bot, "is_app_user": false, "is_email_confirmed": user.is_email_confirmed, "updated": 1_700_000_000})
}
