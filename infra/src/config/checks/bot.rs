//! The `[bot]` section.

use super::Checks;
use crate::config::bot::unknown;
use crate::config::{Bot, Discord, Place, Route, Slack, Target};
use crate::domain::chat_link::ChatPlatform;
use crate::identity::oidc;
use std::collections::BTreeSet;
use url::Url;

impl Checks<'_> {
    pub(super) fn bot(&mut self, bot: &Bot, targets: &[Target]) {
        self.private("bot.url", &bot.url);
        if let Some(listen) = bot
            .listen
            .filter(|listen| bot.tls.is_none() && !listen.ip().is_loopback())
        {
            let text = format!("{listen} can be reached from elsewhere: give [bot.tls], or listen on 127.0.0.1");
            self.problem("bot.listen", text);
        }
        self.bounded("bot.link_hours_max", u64::from(bot.link_hours_max), 1..=8760);
        if bot.verified_email && bot.slack.is_empty() {
            let text = "Discord tells nobody's e-mail address: it is of use with [[bot.slack]] only";
            self.problem("bot.verified_email", text.to_owned());
        }
        let mut workspaces = BTreeSet::new();
        for (index, slack) in bot.slack.iter().enumerate() {
            self.slack(slack, |key| format!("bot.slack.{index}.{key}"));
            self.once(
                &mut workspaces,
                ChatPlatform::Slack,
                &slack.team,
                &format!("bot.slack.{index}.team"),
            );
        }
        for (index, discord) in bot.discord.iter().enumerate() {
            self.discord(discord, |key| format!("bot.discord.{index}.{key}"));
            let at = format!("bot.discord.{index}.guild");
            self.once(&mut workspaces, ChatPlatform::Discord, &discord.guild, &at);
        }
        if workspaces.is_empty() {
            self.problem(
                "bot",
                "it names no chat: add [[bot.slack]] or [[bot.discord]]".to_owned(),
            );
        }
        for (index, route) in bot.routes.iter().enumerate() {
            self.route(route, &workspaces, |key| format!("bot.route.{index}.{key}"));
            let known: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
            for name in &route.targets {
                // A pattern may be of targets that are still to come.
                if !name.contains('*') && !known.contains(&name.as_str()) {
                    let path = format!("bot.route.{index}.targets");
                    self.problem(&path, unknown("target", name, &known));
                }
            }
        }
    }

    fn slack(&mut self, slack: &Slack, at: impl Fn(&str) -> String) {
        self.id(&at("team"), "a Slack workspace", &slack.team);
        if let Some(app) = &slack.app {
            self.id(&at("app"), "a Slack app", app);
        }
        if slack.signing_secret.is_none() && slack.app_token.is_none() {
            let text = "give `app_token` (Socket Mode) or `signing_secret` (signed requests): nobody could click";
            self.problem(&at("team"), text.to_owned());
        }
        if let Some(url) = &slack.api_url {
            self.private(&at("api_url"), url);
        }
    }

    fn discord(&mut self, discord: &Discord, at: impl Fn(&str) -> String) {
        for (key, id) in [("guild", &discord.guild), ("application", &discord.application)] {
            if id.parse::<u64>().is_err() || id == "0" {
                self.problem(&at(key), format!("{id:?} is no id of Discord: a decimal number"));
            }
        }
        if hex::decode(&discord.public_key).map_or(0, |key| key.len()) != 32 {
            let text = "it is no Ed25519 key: 64 hexadecimal digits, as the application's page shows them";
            self.problem(&at("public_key"), text.to_owned());
        }
        if let Some(url) = &discord.api_url {
            self.private(&at("api_url"), url);
        }
    }

    fn route(&mut self, route: &Route, workspaces: &BTreeSet<(ChatPlatform, String)>, at: impl Fn(&str) -> String) {
        if route.channels.is_empty() {
            self.problem(&at("channels"), "the route leads nowhere: name a channel".to_owned());
        }
        self.places(&at("channels"), &route.channels, workspaces);
        if let Some(seconds) = route.remind_seconds {
            self.bounded(&at("remind_seconds"), u64::from(seconds), 10..=86_400);
        }
        if let Some(escalate) = &route.escalate {
            self.bounded(
                &at("escalate.after_seconds"),
                u64::from(escalate.after_seconds),
                1..=86_400,
            );
            self.places(&at("escalate.channels"), &escalate.channels, workspaces);
        }
    }

    fn places(&mut self, path: &str, places: &[Place], workspaces: &BTreeSet<(ChatPlatform, String)>) {
        for place in places {
            if !workspaces.contains(&(place.platform, place.team.clone())) {
                let text = format!("no [[bot.{}]] is called {:?}", place.platform.as_str(), place.team);
                self.problem(path, text);
            }
        }
    }

    fn once(&mut self, seen: &mut BTreeSet<(ChatPlatform, String)>, platform: ChatPlatform, name: &str, path: &str) {
        if !seen.insert((platform, name.to_owned())) {
            self.problem(path, format!("{} {name:?} is there twice", platform.as_str()));
        }
    }

    fn id(&mut self, path: &str, what: &str, id: &str) {
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            self.problem(path, format!("{id:?} is no id of {what}"));
        }
    }

    /// What travels there is for nobody else's eyes.
    fn private(&mut self, path: &str, url: &Url) {
        if url.scheme() != "https" && !(url.scheme() == "http" && oidc::is_loopback(url)) {
            self.problem(
                path,
                format!("{url} is not https (http only on the loopback interface)"),
            );
        }
    }
}
