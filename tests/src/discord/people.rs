//! What people do in Discord, as the bot hears of it.
//! <https://discord.com/developers/docs/interactions/receiving-and-responding#interaction-object>

use super::deliver::Sent;
use super::state::{APPLICATION, Channel, EPHEMERAL, Interaction, Message, Modal, PERMISSIONS, State, User, random};
use super::{Discord, GUILD};
use crate::chat::Answer;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::time::Instant;

/// Somebody who acts. Each action waits for the first answer, and gives it: its `type` and `data`.
pub struct Person<'a> {
    discord: &'a Discord,
    user: String,
}

impl Discord {
    pub fn person(&self, user: &str) -> Person<'_> {
        Person {
            discord: self,
            user: user.to_owned(),
        }
    }
}

/// Where something happened, and to what.
struct Place<'a> {
    channel: &'a str,
    message: Option<&'a Message>,
}

impl Person<'_> {
    /// Writes a message, which the bot did not. Gives its id.
    pub fn write(&self, channel: &str, content: &str) -> String {
        let mut state = self.discord.shared.lock();
        let author = state.users.get(&self.user).map(User::body);
        let message = state.post(channel, None, &json!({ "content": content }), Vec::new());
        if let Some(message) = state.message(channel, &message.id) {
            message.body["author"] = json!(author);
        }
        message.id
    }

    /// Clicks what a message shows now.
    pub async fn click(&self, channel: &str, message: &str, custom_id: &str) -> Result<Answer> {
        let seen = self.discord.shared.lock().message(channel, message).cloned();
        let seen = seen.with_context(|| format!("there is no message {message} in {channel}"))?;
        self.click_seen(&seen, custom_id).await
    }

    /// Clicks what a message showed when it was read: it may have changed since.
    pub async fn click_seen(&self, message: &Message, custom_id: &str) -> Result<Answer> {
        let is_shown = message.shown_to.as_ref().is_none_or(|user| *user == self.user);
        ensure!(is_shown, "{} does not see that message", self.user);
        let mut elements = message.elements();
        let element = elements.find(|element| element["custom_id"] == json!(custom_id));
        let element = element.with_context(|| format!("nothing to click is called {custom_id}"))?;
        ensure!(element["disabled"] != true, "{custom_id} is disabled");
        let data = json!({"custom_id": custom_id, "component_type": element["type"], "id": element["id"]});
        let place = Place {
            channel: &message.channel,
            message: Some(message),
        };
        self.act(3, data, &place).await
    }

    /// Gives a command that the bot has registered; its options as Discord gives them.
    pub async fn command(&self, channel: &str, name: &str, options: Value) -> Result<Answer> {
        let data = self.discord.shared.lock().command(channel, name, &options)?;
        self.act(2, data, &Place { channel, message: None }).await
    }

    /// Submits a modal with what stands in its fields.
    pub async fn submit(&self, modal: &Modal, values: &[(&str, &str)]) -> Result<Answer> {
        let rows = modal.body["components"].as_array().into_iter().flatten();
        let rows: Vec<Value> = rows.map(|row| filled(row, values)).collect::<Result<_>>()?;
        let data = json!({"custom_id": modal.body["custom_id"], "components": rows, "resolved": {}});
        let message = modal.message.as_ref();
        let message = message.and_then(|id| self.discord.shared.lock().message(&modal.channel, id).cloned());
        let place = Place {
            channel: &modal.channel,
            message: message.as_ref(),
        };
        self.act(5, data, &place).await
    }

    async fn act(&self, kind: u8, data: Value, place: &Place<'_>) -> Result<Answer> {
        let sent = self.discord.shared.lock().interaction(&self.user, kind, data, place)?;
        self.discord.deliver(sent).await
    }
}

/// A row of a modal with what was typed in. A field that nobody fills in stays empty.
fn filled(row: &Value, values: &[(&str, &str)]) -> Result<Value> {
    let field = |input: &Value| {
        let id = input["custom_id"].as_str().unwrap_or_default();
        let value = values
            .iter()
            .find(|(name, _)| *name == id)
            .map_or("", |(_, value)| *value);
        let most = input["max_length"].as_u64().unwrap_or(4000);
        ensure!(
            value.chars().count() as u64 <= most,
            "the field {id} takes no more than {most} characters"
        );
        let is_missing = value.is_empty() && input["required"] != false;
        ensure!(!is_missing, "the field {id} must be filled in");
        Ok(json!({"type": input["type"], "id": 2, "custom_id": id, "value": value}))
    };
    match row["type"].as_u64() {
        Some(1) => {
            let inputs = row["components"].as_array().into_iter().flatten();
            let inputs: Vec<Value> = inputs.map(field).collect::<Result<_>>()?;
            Ok(json!({"type": 1, "id": 1, "components": inputs}))
        }
        Some(18) => Ok(json!({"type": 18, "id": 1, "component": field(&row["component"])?})),
        other => bail!("nobody can fill in {other:?}"),
    }
}

impl State {
    fn command(&self, channel: &str, name: &str, options: &Value) -> Result<Value> {
        let guild = self.channels.get(channel).and_then(|channel| channel.guild.clone());
        let here = [guild, None];
        let mut known = here.iter().filter_map(|place| self.commands.get(place)).flatten();
        let command = known.find(|command| command["name"] == json!(name));
        let command = command.with_context(|| format!("no command {name} is registered"))?;
        let mut data = json!({"id": command["id"], "name": name, "type": command["type"], "options": options});
        if let Some(guild) = command.get("guild_id") {
            data["guild_id"] = guild.clone();
        }
        Ok(data)
    }

    /// Makes an interaction, with a token of its own.
    fn interaction(&mut self, user: &str, kind: u8, data: Value, place: &Place<'_>) -> Result<Sent> {
        let channel = self.channels.get(place.channel).cloned();
        let channel = channel.with_context(|| format!("there is no channel {}", place.channel))?;
        let (id, token) = (self.snowflake(), random());
        let mut body = json!({"id": id, "application_id": APPLICATION, "type": kind, "data": data, "token": token,
            "version": 1, "channel_id": channel.id, "channel": shown(&channel, &self.users),
            "app_permissions": PERMISSIONS, "locale": "en-US", "entitlements": [], "attachment_size_limit": 10_485_760});
        match &channel.guild {
            Some(guild) => {
                let members = self.guilds.get(guild).map(|guild| &guild.members);
                let member = members.and_then(|members| members.get(user)).map(User::as_member);
                let mut member = member.with_context(|| format!("{user} is not a member of {guild}"))?;
                member["permissions"] = json!(PERMISSIONS);
                (body["member"], body["guild_id"]) = (member, json!(guild));
                body["guild"] = json!({"id": guild, "locale": "en-US", "features": []});
                body["guild_locale"] = json!("en-US");
                (body["context"], body["authorizing_integration_owners"]) = (json!(0), json!({"0": guild}));
            }
            None => {
                let user = self.users.get(user).with_context(|| format!("there is no {user}"))?;
                body["user"] = user.body();
                (body["context"], body["authorizing_integration_owners"]) = (json!(1), json!({"0": "0"}));
            }
        }
        if let Some(message) = place.message {
            let mut shown = message.body.clone();
            if message.shown_to.is_some() {
                shown["flags"] = json!(EPHEMERAL);
            }
            body["message"] = shown;
        }
        let known = Interaction {
            id,
            user: user.to_owned(),
            guild: channel.guild,
            channel: channel.id,
            message: place.message.map(|message| message.id.clone()),
            made: Instant::now(),
            is_answered: false,
            original: None,
        };
        self.interactions.insert(token.clone(), known);
        Ok(Sent { token, body })
    }
}

fn shown(channel: &Channel, users: &std::collections::BTreeMap<String, User>) -> Value {
    let mut body = channel.body(users);
    if channel.guild.is_some() {
        body["permissions"] = json!(PERMISSIONS);
    }
    body
}

impl Discord {
    /// Puts somebody into the guild that is there from the start.
    pub fn add_member(&self, user: User) {
        self.add_member_of(GUILD, user);
    }

    pub fn add_member_of(&self, guild: &str, user: User) {
        let mut state = self.shared.lock();
        state.users.insert(user.id.clone(), user.clone());
        if let Some(guild) = state.guilds.get_mut(guild) {
            guild.members.insert(user.id.clone(), user);
        }
    }
}
