//! A server of Discord ("guild") as it is configured, with its secrets read.

use countersign_infra::config::{Discord, ReferenceError};
use countersign_infra::domain::secret::Secret;
use serenity::interactions_endpoint::Verifier;
use url::Url;

/// Discord's own API.
const API: &str = "https://discord.com/api";

/// The version that the builders of `serenity` are of.
const VERSION: &str = "v10";

/// A guild. Its `Debug` shows no secret.
#[derive(Clone)]
pub struct DiscordGuild {
    pub guild: String,
    pub application: String,
    pub public_key: String,
    /// Discord's API with its version, without a slash at its end.
    pub api: String,
    pub long_lived: bool,
    verifier: Verifier,
    bot_token: Secret,
}

/// Why a guild cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum GuildError {
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error("public_key of guild {0} is no Ed25519 key: take it from the application's page")]
    Key(String),
}

impl DiscordGuild {
    /// Reads the token. Blocks on the file system.
    pub fn open(config: &Discord) -> Result<Self, GuildError> {
        let api = config.api_url.as_ref().map_or(API, Url::as_str);
        let mut key = [0; 32];
        let decoded = hex::decode_to_slice(&config.public_key, &mut key).is_ok();
        let verifier = Verifier::try_new(key).ok().filter(|_| decoded);
        Ok(Self {
            guild: config.guild.clone(),
            application: config.application.clone(),
            public_key: config.public_key.to_ascii_lowercase(),
            api: format!("{}/{VERSION}", api.trim_end_matches('/')),
            long_lived: config.long_lived,
            verifier: verifier.ok_or_else(|| GuildError::Key(config.guild.clone()))?,
            bot_token: config.bot_token.read()?,
        })
    }

    /// Whether the application's key signed it.
    /// <https://discord.com/developers/docs/interactions/overview#setting-up-an-endpoint-validating-security-request-headers>
    pub(super) fn signed(&self, signature: &str, timestamp: &str, body: &[u8]) -> bool {
        self.verifier.verify(signature, timestamp, body).is_ok()
    }

    /// What calls of the API are authorized by.
    pub(super) fn authorization(&self) -> String {
        format!("Bot {}", self.bot_token.reveal())
    }

    pub(super) fn token(&self) -> &str {
        self.bot_token.reveal()
    }

    /// Whether a connection to that place is one to Discord: the token is sent there.
    pub(super) fn leads_to_discord(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let discords = url.scheme() == "wss" && host.ends_with(".discord.gg");
        let place = |url: &Url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?));
        let own = self.api.parse::<Url>().ok();
        discords || own.is_some_and(|own| place(&own).is_some() && place(&own) == place(url))
    }
}

impl std::fmt::Debug for DiscordGuild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("DiscordGuild");
        shown
            .field("guild", &self.guild)
            .field("application", &self.application);
        shown.field("api", &self.api).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::chat::discord::example;

    #[test]
    fn the_token_is_sent_to_discord_alone() {
        let guild = example::guild("1");
        for (url, sent) in [
            ("wss://gateway.discord.gg/", true),
            ("wss://gateway-us-east1-b.discord.gg", true),
            ("ws://gateway.discord.gg/", false),
            ("wss://gateway.discord.gg.example/", false),
            ("wss://evildiscord.gg/", false),
            ("ws://127.0.0.1:9/", true),
            ("ws://127.0.0.1:10/", false),
        ] {
            assert_eq!(guild.leads_to_discord(&url.parse().unwrap()), sent, "{url}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let shown = format!("{:?}", example::guild("1"));
        assert!(!shown.contains(example::TOKEN), "{shown}");
    }
}
