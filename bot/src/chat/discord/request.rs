//! What people did, read from what Discord sends. Only after its signature was found good, or from a connection of ours.
//!
//! Read as far as it is needed: the models of `serenity` take in the whole message that was clicked, and make an error of
//! every kind of component that Discord adds. <https://discord.com/developers/docs/interactions/receiving-and-responding>

use super::say;
use crate::chat::inbound::Turned;
use crate::chat::{Ask, cut};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// The longest token of an interaction: Discord's have some 200 characters.
const TOKEN_CHARS_MAX: usize = 1024;

/// How deep a form's fields may stand: a row or a label holds them.
const DEPTH_MAX: usize = 4;

/// What somebody did.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub application: String,
    /// None in direct messages.
    pub guild: Option<String>,
    pub reply: Reply,
    pub act: Act,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Discord asks whether anybody is there.
    Ping,
    Asked {
        user: String,
        /// What people call who did it.
        name: String,
        ask: Ask,
        origin: Origin,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Command,
    Click,
    /// A form that a click opened.
    Form,
    /// A form that a command opened: there is no message that it stands on.
    FormOfCommand,
}

/// The way to answer. No `Debug` shows the token: it is the right to do so, for 15 min.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub id: u64,
    pub token: String,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Reads an interaction.
pub(super) fn interaction(body: &[u8]) -> Result<Heard, Turned> {
    let raw: Raw = serde_json::from_slice(body).map_err(|_| Turned::Malformed)?;
    raw.heard().ok_or(Turned::Malformed)
}

/// Reads an interaction as a connection hands it over.
pub(super) fn interaction_of(event: &Value) -> Result<Heard, Turned> {
    let raw = Raw::deserialize(event).map_err(|_| Turned::Malformed)?;
    raw.heard().ok_or(Turned::Malformed)
}

#[derive(Deserialize)]
struct Raw {
    id: String,
    application_id: String,
    #[serde(rename = "type")]
    kind: u64,
    #[serde(default)]
    token: String,
    guild_id: Option<String>,
    member: Option<Member>,
    user: Option<User>,
    message: Option<IgnoredAny>,
    #[serde(default)]
    data: Data,
}

#[derive(Deserialize)]
struct Member {
    user: User,
}

#[derive(Deserialize)]
struct User {
    id: String,
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
struct Data {
    #[serde(default)]
    custom_id: String,
    #[serde(default)]
    options: Vec<CommandOption>,
    #[serde(default)]
    components: Vec<Value>,
}

#[derive(Deserialize)]
struct CommandOption {
    name: String,
    value: Option<Value>,
    #[serde(default)]
    options: Vec<CommandOption>,
}

impl Raw {
    fn heard(self) -> Option<Heard> {
        let id = self.id.parse().ok()?;
        let act = match self.kind {
            1 => Act::Ping,
            2 => Self::asked(self.member, self.user, self.data.command(), Origin::Command)?,
            3 => Self::asked(self.member, self.user, self.data.click()?, Origin::Click)?,
            5 => {
                let origin = self.message.map_or(Origin::FormOfCommand, |_| Origin::Form);
                Self::asked(self.member, self.user, self.data.reason()?, origin)?
            }
            _ => return None,
        };
        // It becomes a part of a path.
        let is_token = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        let names_a_path = !self.token.is_empty() && self.token.chars().all(is_token) && self.token != "..";
        if act != Act::Ping && (!names_a_path || self.token.len() > TOKEN_CHARS_MAX) {
            return None;
        }
        Some(Heard {
            application: self.application_id,
            guild: self.guild_id,
            reply: Reply { id, token: self.token },
            act,
        })
    }

    fn asked(member: Option<Member>, user: Option<User>, ask: Ask, origin: Origin) -> Option<Act> {
        let user = member.map(|member| member.user).or(user)?;
        let is_id = user.id.parse::<u64>().is_ok_and(|id| id != 0);
        is_id.then_some(Act::Asked {
            user: user.id,
            name: user.username,
            ask,
            origin,
        })
    }
}

impl Data {
    /// The text that would be typed after `/countersign`: the subcommand, and the values of its options.
    fn command(self) -> Ask {
        let mut words = Vec::new();
        for option in self.options {
            option.say(&mut words, 0);
        }
        Ask::Command { text: words.join(" ") }
    }

    fn click(self) -> Option<Ask> {
        if let Some(ticket) = self.custom_id.strip_prefix(say::PAGE) {
            let ticket = ticket.to_owned();
            return Some(Ask::Page { ticket });
        }
        let (action, approval) = self.custom_id.split_once(':')?;
        Some(Ask::Press {
            action: action.to_owned(),
            approval: approval.to_owned(),
        })
    }

    fn reason(self) -> Option<Ask> {
        let approval = self.custom_id.strip_prefix(say::DENY)?.to_owned();
        let reason = field(&self.components, 0).unwrap_or_default();
        Some(Ask::Reason {
            approval,
            reason: cut(reason, say::REASON_CHARS_MAX.into()),
        })
    }
}

impl CommandOption {
    fn say(self, words: &mut Vec<String>, depth: usize) {
        match self.value {
            None => words.push(self.name),
            Some(Value::String(text)) => words.push(text),
            Some(value @ (Value::Bool(_) | Value::Number(_))) => words.push(value.to_string()),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) => {}
        }
        for option in self.options.into_iter().take_while(|_| depth < DEPTH_MAX) {
            option.say(words, depth + 1);
        }
    }
}

/// The field for the reason, wherever a row or a label holds it.
fn field(components: &[Value], depth: usize) -> Option<&str> {
    components
        .iter()
        .take_while(|_| depth < DEPTH_MAX)
        .find_map(|component| {
            if component.get("custom_id").and_then(Value::as_str) == Some(say::REASON) {
                return component.get("value").and_then(Value::as_str);
            }
            let row = component.get("components").and_then(Value::as_array);
            let label = component.get("component").map(std::slice::from_ref);
            field(row.map(Vec::as_slice).or(label).unwrap_or_default(), depth + 1)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::discord::example;
    use proptest::prelude::*;
    use serde_json::json;

    fn ask(interaction: &Value) -> Option<Ask> {
        match interaction_of(interaction).ok()?.act {
            Act::Ping => None,
            Act::Asked { ask, .. } => Some(ask),
        }
    }

    #[test]
    fn a_click_carries_its_action_and_the_approval() {
        let heard = interaction_of(&example::click("approve:QJF6HN4C")).unwrap();
        let ask = Ask::Press {
            action: "approve".to_owned(),
            approval: "QJF6HN4C".to_owned(),
        };
        let act = Act::Asked {
            user: "42".to_owned(),
            name: "bob".to_owned(),
            ask,
            origin: Origin::Click,
        };
        assert_eq!(heard.act, act);
        assert_eq!(
            (heard.application.as_str(), heard.guild.as_deref()),
            (example::APPLICATION, Some("1"))
        );
        let ticket = "t1:2".to_owned();
        assert_eq!(
            super::tests::ask(&example::click("page:t1:2")),
            Some(Ask::Page { ticket })
        );
        assert_eq!(super::tests::ask(&example::click("approve")), None);
    }

    #[test]
    fn a_form_carries_the_reason_however_it_is_laid_out() {
        let row =
            |value: &str| json!([{"type": 1, "components": [{"type": 4, "custom_id": "reason", "value": value}]}]);
        let label = json!([{"type": 18, "component": {"type": 4, "custom_id": "reason", "value": "no"}}]);
        let hebrew = "\u{202e}\u{5e9}\u{5dc}\u{5d5}\u{5dd} @everyone";
        for (components, expected) in [
            (row("no"), "no"),
            (label, "no"),
            (row(hebrew), hebrew),
            (json!([]), ""),
            (
                json!([{"type": 1, "components": [{"custom_id": "other", "value": "x"}]}]),
                "",
            ),
        ] {
            let expected = Ask::Reason {
                approval: "QJF6HN4C".to_owned(),
                reason: expected.to_owned(),
            };
            assert_eq!(ask(&example::form("deny:QJF6HN4C", components)), Some(expected));
        }
        let Some(Ask::Reason { reason, .. }) = ask(&example::form("deny:QJF6HN4C", row(&"x".repeat(100_000)))) else {
            panic!("no reason");
        };
        assert_eq!(reason.len(), usize::from(say::REASON_CHARS_MAX));
        assert_eq!(ask(&example::form("other:QJF6HN4C", row("no"))), None);
    }

    #[test]
    fn a_command_reads_as_it_would_be_typed() {
        for (options, typed) in [
            (json!([{"name": "pending", "type": 1}]), "pending"),
            (
                json!([{"name": "audit", "type": 1, "options": [{"name": "query", "type": 3, "value": "who:alice since:24h"}]}]),
                "audit who:alice since:24h",
            ),
            (
                json!([{"name": "deny", "type": 1, "options": [
                    {"name": "id", "type": 3, "value": "QJF6HN4C"}, {"name": "reason", "type": 3, "value": "not asked"}]}]),
                "deny QJF6HN4C not asked",
            ),
            (json!([]), ""),
        ] {
            let text = typed.to_owned();
            assert_eq!(ask(&example::command(options)), Some(Ask::Command { text }));
        }
    }

    #[test]
    fn what_names_nobody_or_leads_elsewhere_is_malformed() {
        for (name, value) in [
            ("id", json!("x")),
            ("id", json!(null)),
            ("member", json!({"user": {"id": "0"}})),
            ("member", json!({"user": {"id": "../1"}})),
            ("member", json!(null)),
            ("token", json!("")),
            ("token", json!("..")),
            ("token", json!("a/../../channels/1")),
            ("token", json!("a?b")),
            ("token", json!("x".repeat(TOKEN_CHARS_MAX + 1))),
            ("type", json!(4)),
            ("type", json!("2")),
        ] {
            let mut click = example::click("approve:QJF6HN4C");
            click[name] = value.clone();
            assert_eq!(interaction_of(&click), Err(Turned::Malformed), "{name}: {value}");
        }
        for body in [&b""[..], b"{}", b"[1]", b"null", b"eyJ0eXBlIjoxfQ==", b"\xff"] {
            assert_eq!(interaction(body), Err(Turned::Malformed));
        }
    }

    #[test]
    fn no_token_is_shown() {
        let shown = format!("{:?}", interaction_of(&example::click("approve:QJF6HN4C")));
        assert!(!shown.contains("interaction-token"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = interaction(&body);
        }

        #[test]
        fn no_value_in_any_place_makes_it_panic(path in 0_usize..7, text in ".*", number in any::<i64>(), is_text in any::<bool>()) {
            let paths = ["/type", "/id", "/member", "/data", "/data/custom_id", "/guild_id", "/token"];
            let mut click = example::click("approve:QJF6HN4C");
            *click.pointer_mut(paths[path]).unwrap() = if is_text { json!(text) } else { json!(number) };
            let _ = interaction(click.to_string().as_bytes());
        }
    }
}
