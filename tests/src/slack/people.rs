//! What people do in Slack, as the app hears of it.
//! <https://docs.slack.dev/reference/interaction-payloads>

use super::Slack;
use super::answers::Origin;
use super::deliver::Kind;
use super::state::{APP, Message, State, View};
use crate::chat::Answer;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

/// Somebody who acts. Each action waits until the app has taken it, and gives what it said.
pub struct Person<'a> {
    slack: &'a Slack,
    team: String,
    user: String,
}

impl Slack {
    /// Somebody of a workspace.
    pub fn person(&self, team: &str, user: &str) -> Person<'_> {
        Person {
            slack: self,
            team: team.to_owned(),
            user: user.to_owned(),
        }
    }
}

impl Person<'_> {
    /// Writes a message, which the app did not. Gives its time stamp.
    pub fn write(&self, channel: &str, text: &str) -> String {
        let mut state = self.slack.shared.lock();
        let ts = state.ts();
        state.messages.push(Message {
            team: self.team.clone(),
            channel: channel.to_owned(),
            ts: ts.clone(),
            thread_ts: None,
            shown_to: None,
            edits: 0,
            deleted: false,
            body: json!({"type": "message", "user": self.user, "ts": ts, "text": text, "team": self.team}),
        });
        ts
    }

    /// Clicks what a message shows now.
    pub async fn click(&self, channel: &str, ts: &str, action_id: &str) -> Result<Answer> {
        let message = self.slack.shared.lock().message(&self.team, channel, ts).cloned();
        let message = message.with_context(|| format!("there is no message {ts} in {channel}"))?;
        self.click_seen(&message, action_id).await
    }

    /// Clicks what a message showed when it was read: it may have changed since.
    pub async fn click_seen(&self, message: &Message, action_id: &str) -> Result<Answer> {
        let is_shown = message.shown_to.as_ref().is_none_or(|user| *user == self.user);
        ensure!(is_shown, "{} does not see that message", self.user);
        let payload = self.block_actions(message, action_id)?;
        self.slack.deliver(Kind::Interactive, payload).await
    }

    /// Gives a command, such as `/countersign` with `pending`.
    pub async fn command(&self, channel: &str, command: &str, text: &str) -> Result<Answer> {
        let origin = Origin {
            team: self.team.clone(),
            channel: channel.to_owned(),
            user: self.user.clone(),
            ts: None,
        };
        let payload = {
            let mut state = self.slack.shared.lock();
            let name = state.channel_name(&self.team, channel)?;
            let user = state.person(&self.team, &self.user)?;
            json!({"token": "unused", "team_id": self.team, "team_domain": self.team.to_lowercase(),
                "channel_id": channel, "channel_name": name, "user_id": self.user, "user_name": user["name"],
                "command": command, "text": text, "api_app_id": APP, "is_enterprise_install": "false",
                "response_url": state.response_url(&self.slack.shared.url, origin.clone()),
                "trigger_id": state.trigger(&self.team, &self.user)})
        };
        let answer = self.slack.deliver(Kind::SlashCommands, payload).await?;
        if (200..300).contains(&answer.status) {
            self.say(&origin, &answer.body)?;
        }
        Ok(answer)
    }

    /// Submits a modal with what stands in its fields: block, element and text (or the value of an option).
    pub async fn submit(&self, view: &View, values: &[(&str, &str, &str)]) -> Result<Answer> {
        let mut filled = Map::new();
        for (block, element, text) in values {
            let value = field(&view.body, block, text)?;
            let fields = filled.entry(*block).or_insert(json!({}));
            fields[*element] = value;
        }
        let mut body = view.body.clone();
        body["state"] = json!({ "values": filled });
        let payload = self.of_view("view_submission", body)?;
        let answer = self.slack.deliver(Kind::Interactive, payload).await?;
        self.slack.shared.lock().after_submission(view, &answer.body)?;
        Ok(answer)
    }

    /// Closes a modal. The app hears of it where the modal says so.
    pub async fn close(&self, view: &View) -> Result<Option<Answer>> {
        self.slack.shared.lock().close(&view.id);
        if view.body["notify_on_close"] != true {
            return Ok(None);
        }
        let mut payload = self.of_view("view_closed", view.body.clone())?;
        payload["is_cleared"] = json!(false);
        self.slack.deliver(Kind::Interactive, payload).await.map(Some)
    }

    fn of_view(&self, kind: &str, view: Value) -> Result<Value> {
        let mut state = self.slack.shared.lock();
        Ok(
            json!({"type": kind, "team": self.home(), "user": state.person(&self.team, &self.user)?,
            "api_app_id": APP, "token": "unused", "trigger_id": state.trigger(&self.team, &self.user), "view": view,
            "response_urls": [], "is_enterprise_install": false, "enterprise": null}),
        )
    }

    fn home(&self) -> Value {
        json!({"id": self.team, "domain": self.team.to_lowercase()})
    }

    fn block_actions(&self, message: &Message, action_id: &str) -> Result<Value> {
        let mut state = self.slack.shared.lock();
        let mut elements = message.elements();
        let found = elements.find(|(_, element)| element["action_id"] == json!(action_id));
        let (block, element) = found.with_context(|| format!("nothing to click is called {action_id}"))?;
        let mut action = element.clone();
        if let Some(action) = action.as_object_mut() {
            action.retain(|name, _| ["action_id", "text", "value", "style", "type", "url"].contains(&name.as_str()));
        }
        action["block_id"] = json!(block);
        action["action_ts"] = json!(state.ts());
        let is_ephemeral = message.shown_to.is_some();
        let mut container = json!({"type": "message", "message_ts": message.ts, "channel_id": message.channel,
            "is_ephemeral": is_ephemeral});
        if let Some(thread) = &message.thread_ts {
            container["thread_ts"] = json!(thread);
        }
        let origin = Origin {
            team: self.team.clone(),
            channel: message.channel.clone(),
            user: self.user.clone(),
            ts: Some(message.ts.clone()),
        };
        let channel = state.channel_name(&self.team, &message.channel)?;
        let mut payload = json!({"type": "block_actions", "user": state.person(&self.team, &self.user)?,
            "api_app_id": APP, "token": "unused", "container": container,
            "trigger_id": state.trigger(&self.team, &self.user), "team": self.home(), "enterprise": null,
            "is_enterprise_install": false, "channel": {"id": message.channel, "name": channel},
            "state": {"values": {}}, "response_url": state.response_url(&self.slack.shared.url, origin),
            "actions": [action]});
        if !is_ephemeral {
            payload["message"] = message.body.clone();
        }
        Ok(payload)
    }

    /// The app's answer to a command stands in the channel.
    fn say(&self, origin: &Origin, body: &Value) -> Result<()> {
        let said = match body {
            Value::Object(said) => said.clone(),
            Value::String(text) => Map::from_iter([("text".to_owned(), json!(text))]),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => return Ok(()),
        };
        let said = self.slack.shared.lock().respond(origin, &said);
        said.map_err(|error| anyhow::anyhow!("Slack shows no answer: {error}"))
    }
}

/// What a field of a modal gives.
fn field(view: &Value, block: &str, text: &str) -> Result<Value> {
    let blocks = view["blocks"].as_array().into_iter().flatten();
    let mut blocks = blocks.filter(|known| known["block_id"] == json!(block));
    let element = &blocks
        .next()
        .with_context(|| format!("the modal has no block {block}"))?["element"];
    match element["type"].as_str().unwrap_or_default() {
        "plain_text_input" => {
            let most = element["max_length"]
                .as_u64()
                .and_then(|most| usize::try_from(most).ok());
            ensure!(text.chars().count() <= most.unwrap_or(3000), "the field takes no more");
            let value = if text.is_empty() { Value::Null } else { json!(text) };
            Ok(json!({"type": "plain_text_input", "value": value}))
        }
        "static_select" => {
            let mut options = element["options"].as_array().into_iter().flatten();
            let option = options.find(|option| option["value"] == json!(text));
            let option = option.with_context(|| format!("there is no option {text}"))?;
            Ok(json!({"type": "static_select", "selected_option": option}))
        }
        other => bail!("nobody can fill in {other:?}"),
    }
}

impl State {
    fn person(&self, team: &str, user: &str) -> Result<Value> {
        let known = self.teams.get(team).and_then(|team| team.users.get(user));
        let known = known.with_context(|| format!("there is no {user} in {team}"))?;
        let home = known.team.as_deref().unwrap_or(team);
        Ok(json!({"id": user, "username": known.name, "name": known.name, "team_id": home}))
    }

    fn channel_name(&self, team: &str, channel: &str) -> Result<String> {
        let known = self.teams.get(team).and_then(|team| team.channels.get(channel));
        Ok(known
            .with_context(|| format!("there is no {channel} in {team}"))?
            .name
            .clone())
    }

    fn close(&mut self, view: &str) {
        if let Some(view) = self.views.iter_mut().find(|known| known.id == view) {
            view.is_open = false;
        }
    }

    /// A modal closes unless the answer says otherwise.
    fn after_submission(&mut self, view: &View, answer: &Value) -> Result<()> {
        let bot = view.body["bot_id"].as_str().unwrap_or_default().to_owned();
        match answer["response_action"].as_str() {
            Some("errors") => {
                ensure!(answer["errors"].is_object(), "which fields are wrong is not said");
                return Ok(());
            }
            Some("update" | "push") => {
                let faults = super::blocks::view_faults(&answer["view"]);
                ensure!(faults.is_empty(), "Slack takes no such modal: {faults:?}");
                self.open_view(&view.team, &view.user, &bot, answer["view"].clone());
            }
            Some("clear") | None => {}
            Some(other) => bail!("there is no response_action {other}"),
        }
        self.close(&view.id);
        Ok(())
    }
}
