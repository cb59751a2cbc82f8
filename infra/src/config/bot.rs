//! The `[bot]` section: which chats show cards, and where.

use super::walk::LIKENESS_MIN;
use super::{Reference, Tls};
use crate::domain::chat_link::ChatPlatform;
use serde::Deserialize;
use std::net::SocketAddr;
use url::Url;

/// The chats. Gateways read of it where the bot is and the key with which they ring; the rest is the bot's.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bot {
    /// Where gateways, Slack and Discord reach the bot.
    pub url: Url,
    /// The secret by which the bot knows that a gateway rings: at least 32 characters.
    pub ring_key: Reference,
    /// Where `countersign-bot serve` listens. On Lambda the function URL takes its place.
    pub listen: Option<SocketAddr>,
    /// Without it the listener must be on the loopback interface.
    pub tls: Option<Tls>,
    /// A chat account stands for its person, with the groups of that moment, for so many hours after a sign-in.
    #[serde(default = "link_hours_max")]
    pub link_hours_max: u32,
    /// Takes the e-mail address that a workspace verified for that of the person: only where the workspace's own sign-in is
    /// that of the issuer.
    #[serde(default)]
    pub verified_email: bool,
    /// A vote on what one of these rules holds is confirmed by a fresh sign-in.
    #[serde(default)]
    pub step_up_rules: Vec<String>,
    #[serde(default)]
    pub slack: Vec<Slack>,
    #[serde(default)]
    pub discord: Vec<Discord>,
    /// The first route that fits shows the card; an approval that none fits is shown nowhere.
    #[serde(default, rename = "route")]
    pub routes: Vec<Route>,
}

impl Bot {
    /// What is wrong with the rules that it names, where these are those of the policy.
    pub fn unknown_rules<'a>(&self, known: impl Iterator<Item = &'a str>) -> Vec<String> {
        let known: Vec<&str> = known.collect();
        let steps = self.step_up_rules.iter().map(|rule| ("step_up_rules".to_owned(), rule));
        let routes = self.routes.iter().enumerate().flat_map(|(index, route)| {
            let named = move |rule| (format!("route.{index}.rules"), rule);
            route.rules.iter().map(named)
        });
        let wrong = steps.chain(routes).filter(|(_, rule)| !known.contains(&rule.as_str()));
        wrong
            .map(|(key, rule)| format!("bot.{key}: {}", unknown("rule", rule, &known)))
            .collect()
    }
}

/// Says that there is nothing of that name, and what may be meant.
pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let likeness = |known: &&&str| strsim::normalized_damerau_levenshtein(name, known);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest.filter(|nearest| likeness(nearest) >= LIKENESS_MIN) {
        Some(meant) => format!("there is no {what} {name:?}; did you mean {meant:?}?"),
        None => format!("there is no {what} {name:?}"),
    }
}

fn link_hours_max() -> u32 {
    12
}

/// A Slack workspace. With `app_token` the bot connects to it (Socket Mode), with `signing_secret` it takes signed requests.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slack {
    /// The workspace: `T...`.
    pub team: String,
    /// The app: `A...`. Requests of another are refused.
    pub app: Option<String>,
    /// `xoxb-...`
    pub bot_token: Reference,
    pub signing_secret: Option<Reference>,
    /// `xapp-...`
    pub app_token: Option<Reference>,
    /// Slack's API when it is not Slack's own.
    pub api_url: Option<Url>,
}

/// A Discord server ("guild"). Ids are decimal numbers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discord {
    pub guild: String,
    pub application: String,
    /// The application's Ed25519 key in hexadecimal, with which Discord signs its requests.
    pub public_key: String,
    pub bot_token: Reference,
    /// Connects to Discord's gateway; without it the bot takes signed requests.
    #[serde(default)]
    pub long_lived: bool,
    /// Discord's API when it is not Discord's own.
    pub api_url: Option<Url>,
}

/// Where approvals are shown that all given conditions fit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Names of targets; `*` stands for any text.
    #[serde(default)]
    pub targets: Vec<String>,
    /// Ids of the rules that hold it.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Groups that decide.
    #[serde(default)]
    pub groups: Vec<String>,
    pub channels: Vec<Place>,
    /// Writes to each linked person too who may decide.
    #[serde(default)]
    pub direct: bool,
    /// Reminds in the thread each time so many seconds have passed without a decision.
    pub remind_seconds: Option<u32>,
    pub escalate: Option<Escalation>,
}

/// Other channels that are asked after a time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Escalation {
    pub after_seconds: u32,
    pub channels: Vec<Place>,
}

/// A channel of a chat, written `slack:TEAM:CHANNEL` or `discord:GUILD:CHANNEL`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Place {
    pub platform: ChatPlatform,
    pub team: String,
    pub channel: String,
}

impl TryFrom<String> for Place {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        const HOW: &str = "write slack:TEAM:CHANNEL or discord:GUILD:CHANNEL";
        let parts: Vec<&str> = text.split(':').collect();
        let &[platform, team, channel] = parts.as_slice() else {
            return Err(HOW);
        };
        let platform = match platform {
            "slack" => ChatPlatform::Slack,
            "discord" => ChatPlatform::Discord,
            _ => return Err(HOW),
        };
        let is_id = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_id(team) || !is_id(channel) {
            return Err(HOW);
        }
        Ok(Self {
            platform,
            team: team.to_owned(),
            channel: channel.to_owned(),
        })
    }
}
