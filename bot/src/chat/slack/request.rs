//! What people did, read from what Slack sends. Only after its signature was found good, or from a connection of ours.
//!
//! Read as far as it is needed: the crate's own models take in the whole message that was clicked, and make an error of
//! every field that Slack adds to one. <https://docs.slack.dev/reference/interaction-payloads>

use super::say;
use crate::chat::inbound::Turned;
use crate::chat::{Ask, cut};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use url::Url;

/// The longest reason that is taken, in characters: the form allows no more.
const REASON_CHARS_MAX: usize = 500;

/// What somebody did, and where the answer goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub team: String,
    pub app: Option<String>,
    /// What people call who did it.
    pub name: String,
    /// None for what needs no answer: a link was opened, a form closed.
    pub ask: Option<Ask>,
    pub origin: Origin,
    pub reply: Reply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Command,
    Click,
    Form,
}

/// Ways to answer. No `Debug` shows them: each is the right to do so.
#[derive(PartialEq, Eq)]
pub(super) struct Reply {
    pub user: String,
    pub channel: Option<String>,
    /// Opens a form, for 3 s.
    pub trigger: Option<String>,
    /// Takes five messages, for 30 min.
    pub url: Option<Url>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Reply");
        shown
            .field("user", &self.user)
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

/// An event, as far as anything is done with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Slack asks whether anybody is there.
    Challenge(String),
    Told {
        team: String,
        app: Option<String>,
        kind: String,
    },
}

/// Reads the body of a click or a form: `payload=...`.
pub(super) fn interaction(body: &[u8]) -> Result<Heard, Turned> {
    let fields = form(body);
    let payload = fields.get("payload").ok_or(Turned::Malformed)?;
    let payload: Payload = serde_json::from_str(payload).map_err(|_| Turned::Malformed)?;
    payload.heard()
}

/// Reads the body of a slash command.
pub(super) fn command(body: &[u8]) -> Result<Heard, Turned> {
    let fields = form(body);
    let values = fields.into_iter().map(|(name, value)| (name, Value::String(value)));
    command_of(Value::Object(values.collect()))
}

/// Reads a click or a form as Socket Mode hands it over.
pub(super) fn interaction_of(payload: &Value) -> Result<Heard, Turned> {
    let payload = Payload::deserialize(payload).map_err(|_| Turned::Malformed)?;
    payload.heard()
}

/// Reads a slash command as Socket Mode hands it over.
pub(super) fn command_of(payload: Value) -> Result<Heard, Turned> {
    let command: Command = serde_json::from_value(payload).map_err(|_| Turned::Malformed)?;
    Ok(Heard {
        team: command.team_id,
        app: command.api_app_id,
        name: command.user_name.unwrap_or_default(),
        ask: Some(Ask::Command { text: command.text }),
        origin: Origin::Command,
        reply: Reply {
            user: filled(command.user_id)?,
            channel: command.channel_id,
            trigger: command.trigger_id,
            url: command.response_url.and_then(|url| url.parse().ok()),
        },
    })
}

/// Reads an event: JSON.
pub(super) fn event(body: &[u8]) -> Result<Event, Turned> {
    let event: RawEvent = serde_json::from_slice(body).map_err(|_| Turned::Malformed)?;
    if event.kind == "url_verification" {
        return event.challenge.map(Event::Challenge).ok_or(Turned::Malformed);
    }
    Ok(Event::Told {
        team: event.team_id.ok_or(Turned::Malformed)?,
        app: event.api_app_id,
        kind: event.event.map(|event| event.kind).unwrap_or_default(),
    })
}

fn form(body: &[u8]) -> HashMap<String, String> {
    url::form_urlencoded::parse(body).into_owned().collect()
}

fn filled(text: String) -> Result<String, Turned> {
    Some(text).filter(|text| !text.is_empty()).ok_or(Turned::Malformed)
}

#[derive(Deserialize)]
struct Command {
    team_id: String,
    api_app_id: Option<String>,
    user_id: String,
    user_name: Option<String>,
    channel_id: Option<String>,
    #[serde(default)]
    text: String,
    trigger_id: Option<String>,
    response_url: Option<String>,
}

#[derive(Deserialize)]
struct RawEvent {
    #[serde(rename = "type")]
    kind: String,
    challenge: Option<String>,
    team_id: Option<String>,
    api_app_id: Option<String>,
    event: Option<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type", default)]
    kind: String,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    /// Missing where the app is installed for a whole organisation, which is not supported.
    team: Option<Named>,
    user: User,
    api_app_id: Option<String>,
    channel: Option<Named>,
    trigger_id: Option<String>,
    response_url: Option<String>,
    actions: Option<Vec<Action>>,
    view: Option<View>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

#[derive(Deserialize)]
struct User {
    id: String,
    username: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Action {
    action_id: String,
    value: Option<String>,
}

#[derive(Deserialize)]
struct View {
    #[serde(default)]
    callback_id: String,
    #[serde(default)]
    private_metadata: String,
    state: Option<State>,
}

#[derive(Deserialize)]
struct State {
    values: HashMap<String, HashMap<String, Field>>,
}

#[derive(Deserialize)]
struct Field {
    value: Option<String>,
}

impl Payload {
    fn heard(self) -> Result<Heard, Turned> {
        let (origin, ask) = match self.kind.as_str() {
            "view_submission" => (Origin::Form, self.view.and_then(View::ask)),
            "block_actions" => {
                let action = self.actions.into_iter().flatten().next();
                (Origin::Click, action.and_then(Action::ask))
            }
            _ => (Origin::Click, None),
        };
        Ok(Heard {
            team: self.team.ok_or(Turned::Malformed)?.id,
            app: self.api_app_id,
            name: self.user.username.or(self.user.name).unwrap_or_default(),
            ask,
            origin,
            reply: Reply {
                user: filled(self.user.id)?,
                channel: self.channel.map(|channel| channel.id),
                trigger: self.trigger_id,
                url: self.response_url.and_then(|url| url.parse().ok()),
            },
        })
    }
}

impl Action {
    /// A link that was opened has no value.
    fn ask(self) -> Option<Ask> {
        let value = self.value?;
        if self.action_id.starts_with(say::PAGE) {
            return Some(Ask::Page { ticket: value });
        }
        Some(Ask::Press {
            action: self.action_id,
            approval: value,
        })
    }
}

impl View {
    fn ask(self) -> Option<Ask> {
        if self.callback_id != say::DENY {
            return None;
        }
        let mut fields = self.state?.values;
        let reason = fields
            .remove(say::REASON)
            .and_then(|mut fields| fields.remove(say::REASON));
        let reason = reason.and_then(|field| field.value).unwrap_or_default();
        Some(Ask::Reason {
            approval: self.private_metadata,
            reason: cut(&reason, REASON_CHARS_MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::slack::example;
    use proptest::prelude::*;
    use serde_json::json;

    fn ask(payload: Value) -> Option<Ask> {
        interaction(&example::form(&payload)).unwrap().ask
    }

    #[test]
    fn a_click_carries_its_action_and_the_approval() {
        let heard = interaction(&example::form(&example::click("approve", "QJF6HN4C"))).unwrap();
        let expected = Ask::Press {
            action: "approve".to_owned(),
            approval: "QJF6HN4C".to_owned(),
        };
        assert_eq!((heard.ask, heard.origin), (Some(expected), Origin::Click));
        assert_eq!((heard.team.as_str(), heard.app.as_deref()), ("T1", Some("A1")));
        assert_eq!((heard.name.as_str(), heard.reply.user.as_str()), ("bob", "U1"));
        let ticket = "t1".to_owned();
        assert_eq!(ask(example::click("page-3", "t1")), Some(Ask::Page { ticket }));
    }

    #[test]
    fn a_link_that_was_opened_asks_for_nothing() {
        let mut link = example::click("link-0", "");
        link["actions"][0].as_object_mut().unwrap().remove("value");
        assert_eq!(ask(link), None);
        let mut none = example::click("approve", "QJF6HN4C");
        none["actions"] = json!([]);
        assert_eq!(ask(none), None);
        let mut other = example::click("approve", "QJF6HN4C");
        other["type"] = json!("shortcut");
        assert_eq!(ask(other), None);
    }

    #[test]
    fn a_form_carries_the_reason_however_it_is_written() {
        for (value, reason) in [
            (json!("not asked"), "not asked"),
            (json!(null), ""),
            (
                json!("\u{202e}\u{5e9}\u{5dc}\u{5d5}\u{5dd}\n<!channel>"),
                "\u{202e}\u{5e9}\u{5dc}\u{5d5}\u{5dd}\n<!channel>",
            ),
        ] {
            let expected = Ask::Reason {
                approval: "QJF6HN4C".to_owned(),
                reason: reason.to_owned(),
            };
            assert_eq!(ask(example::submission(value)), Some(expected));
        }
        let Some(Ask::Reason { reason, .. }) = ask(example::submission(json!("x".repeat(100_000)))) else {
            panic!("no reason");
        };
        assert_eq!(reason.len(), REASON_CHARS_MAX);
        let mut other = example::submission(json!("x"));
        other["view"]["callback_id"] = json!("other");
        assert_eq!(ask(other), None);
    }

    #[test]
    fn a_command_carries_its_text_as_it_was_typed() {
        let heard = command(&example::command("audit who:alice text:\"a&b=c\"")).unwrap();
        let text = "audit who:alice text:\"a&b=c\"".to_owned();
        assert_eq!(
            (heard.ask, heard.origin),
            (Some(Ask::Command { text }), Origin::Command)
        );
        assert_eq!(heard.reply.url.unwrap().as_str(), "http://127.0.0.1:9/response/1");
    }

    #[test]
    fn what_names_no_person_or_team_is_malformed() {
        for (name, value) in [
            ("user", json!({"id": ""})),
            ("user", json!(null)),
            ("team", json!(null)),
            ("type", json!(5)),
        ] {
            let mut click = example::click("approve", "QJF6HN4C");
            click[name] = value;
            assert_eq!(interaction(&example::form(&click)), Err(Turned::Malformed), "{name}");
        }
        for body in [
            &b""[..],
            b"payload=",
            b"payload={}",
            b"payload=[1]",
            b"payload=%ff%fe",
            b"cGF5bG9hZA==",
        ] {
            assert_eq!(interaction(body), Err(Turned::Malformed));
            assert_eq!(command(body), Err(Turned::Malformed));
        }
    }

    #[test]
    fn a_challenge_is_told_from_an_event() {
        let body = json!({"type": "url_verification", "challenge": "3e"}).to_string();
        assert_eq!(event(body.as_bytes()), Ok(Event::Challenge("3e".to_owned())));
        let body = json!({"type": "event_callback", "team_id": "T1", "api_app_id": "A1", "event": {"type": "app_uninstalled"}});
        let told = Event::Told {
            team: "T1".to_owned(),
            app: Some("A1".to_owned()),
            kind: "app_uninstalled".to_owned(),
        };
        assert_eq!(event(body.to_string().as_bytes()), Ok(told));
        assert_eq!(event(b"{\"type\":\"event_callback\"}"), Err(Turned::Malformed));
    }

    #[test]
    fn no_way_to_answer_is_shown() {
        let heard = interaction(&example::form(&example::click("approve", "QJF6HN4C"))).unwrap();
        let shown = format!("{heard:?}");
        assert!(!shown.contains("trigger-1") && !shown.contains("response/1"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (interaction(&body), command(&body), event(&body));
        }

        #[test]
        fn no_value_in_any_place_makes_it_panic(path in 0_usize..9, text in ".*") {
            let paths = ["/type", "/team", "/user", "/user/id", "/actions", "/actions/0", "/actions/0/value", "/channel",
                "/response_url"];
            let mut click = example::click("approve", "QJF6HN4C");
            *click.pointer_mut(paths[path]).unwrap() = json!(text);
            let _ = interaction(&example::form(&click));
        }
    }
}
