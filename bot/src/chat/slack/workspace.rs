//! A workspace as it is configured, with its secrets read.

use aws_lc_rs::hmac;
use countersign_infra::config::{Reference, ReferenceError, Slack};
use slack_morphism::prelude::*;
use url::Url;

/// A workspace. Its `Debug` shows no secret.
#[derive(Clone)]
pub struct SlackWorkspace {
    pub team: String,
    pub app: Option<String>,
    /// Slack's API, without a slash at its end.
    pub api: String,
    pub(super) bot_token: SlackApiToken,
    pub(super) app_token: Option<SlackApiToken>,
    signing: Option<hmac::Key>,
}

impl SlackWorkspace {
    /// Reads the secrets. Blocks on the file system.
    pub fn open(config: &Slack) -> Result<Self, ReferenceError> {
        let token = |reference: &Reference| reference.read().map(|token| SlackApiToken::new(token.reveal().into()));
        let signing = config.signing_secret.as_ref().map(Reference::read).transpose()?;
        let api = config.api_url.as_ref().map(Url::as_str);
        Ok(Self {
            team: config.team.clone(),
            app: config.app.clone(),
            api: api.unwrap_or("https://slack.com/api").trim_end_matches('/').to_owned(),
            bot_token: token(&config.bot_token)?,
            app_token: config.app_token.as_ref().map(token).transpose()?,
            signing: signing.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes())),
        })
    }

    pub fn takes_signed_requests(&self) -> bool {
        self.signing.is_some()
    }

    pub fn connects(&self) -> bool {
        self.app_token.is_some()
    }

    /// Whether the workspace's secret signed it. Takes the same time wherever signatures differ.
    /// <https://docs.slack.dev/authentication/verifying-requests-from-slack>
    pub(super) fn signed(&self, timestamp: &str, body: &[u8], signature: &[u8]) -> bool {
        let base = [b"v0:", timestamp.as_bytes(), b":", body].concat();
        let signing = self.signing.as_ref();
        signing.is_some_and(|key| hmac::verify(key, &base, signature).is_ok())
    }

    /// Whether something is of this workspace, and of this app where one is configured.
    pub(super) fn is_of(&self, team: &str, app: Option<&str>) -> bool {
        self.team == team && (self.app.is_none() || self.app.as_deref() == app)
    }

    /// Whether a URL that Slack gave leads to Slack, so that what is sent there reaches nobody else.
    pub(super) fn leads_to_slack(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let slacks = url.scheme() == "https" && (host == "slack.com" || host.ends_with(".slack.com"));
        let own = self.api.parse::<Url>();
        slacks || own.is_ok_and(|own| own.origin() == url.origin() && own.origin().is_tuple())
    }
}

impl std::fmt::Debug for SlackWorkspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("SlackWorkspace");
        shown.field("team", &self.team).field("app", &self.app);
        shown.field("api", &self.api).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::chat::slack::example;

    #[test]
    fn what_was_signed_is_known_by_its_secret_alone() {
        let workspace = example::workspace("T1", "s3cret");
        let [mine, other] = ["s3cret", "other"].map(|secret| example::mac(secret, "5", b"body"));
        assert!(workspace.signed("5", b"body", &mine));
        assert!(!workspace.signed("5", b"body", &other));
        assert!(!workspace.signed("6", b"body", &mine));
        assert!(!workspace.signed("5", b"bodY", &mine));
        assert!(!workspace.signed("5", b"body", mine.get(..31).unwrap()));
        assert!(!workspace.signed("5", b"body", &[]));
    }

    #[test]
    fn only_urls_of_slack_are_followed() {
        let workspace = example::workspace("T1", "s3cret");
        for (url, followed) in [
            ("https://hooks.slack.com/actions/T1/2/3", true),
            ("https://files.slack.com/upload/v1/x", true),
            ("http://hooks.slack.com/actions/T1/2/3", false),
            ("https://hooks.slack.com.example/actions", false),
            ("https://evilslack.com/actions", false),
            ("http://127.0.0.1:9/other", true),
            ("http://127.0.0.1:10/other", false),
            ("data:text/plain,x", false),
        ] {
            assert_eq!(workspace.leads_to_slack(&url.parse().unwrap()), followed, "{url}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let shown = format!("{:?}", example::workspace("T1", "s3cret"));
        assert!(!shown.contains("s3cret") && !shown.contains("xoxb"), "{shown}");
    }
}
