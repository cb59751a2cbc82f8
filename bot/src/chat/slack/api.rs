//! Calls of Slack's Web API, and what their failures mean. <https://docs.slack.dev/apis/web-api>

use super::workspace::SlackWorkspace;
use crate::chat::ChatError;
use crate::chat::tls::{self, CALL_WITHIN, TlsError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use slack_morphism::ClientResult;
use slack_morphism::errors::SlackClientError;
use slack_morphism::prelude::*;
use std::future::Future;
use std::time::Duration;
use url::Url;

/// After which time to ask again when Slack does not say.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The longest pause that is taken from Slack.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The API of one workspace.
///
/// Answers are read as far as they are needed: the crate's own models of them are strict, and would make an error of a
/// message that was posted.
pub(super) struct Api {
    pub(super) client: SlackHyperClient,
    /// Reads headers, which the other hides.
    plain: reqwest::Client,
    bot_token: SlackApiToken,
    base: String,
}

impl Api {
    pub(super) fn new(workspace: &SlackWorkspace) -> Result<Self, TlsError> {
        let https = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls::config()?);
        let https = https.https_or_http().enable_http1().build();
        let connector = SlackClientHyperConnector::from(https).with_slack_api_url(&workspace.api);
        Ok(Self {
            client: SlackClient::new(connector),
            plain: tls::client(&workspace.api)?,
            bot_token: workspace.bot_token.clone(),
            base: workspace.api.clone(),
        })
    }

    pub(super) async fn post<RQ, RS>(&self, method: &'static str, request: &RQ) -> Result<RS, ChatError>
    where
        RQ: Serialize + Send + Sync,
        RS: DeserializeOwned + Send,
    {
        let session = self.client.open_session(&self.bot_token);
        within(method, session.http_session_api.http_post(method, request, None)).await
    }

    pub(super) async fn get<RS: DeserializeOwned + Send>(
        &self,
        method: &'static str,
        parameters: &[(&str, &str)],
    ) -> Result<RS, ChatError> {
        let session = self.client.open_session(&self.bot_token);
        let parameters: Vec<(&str, Option<&str>)> =
            parameters.iter().map(|(name, value)| (*name, Some(*value))).collect();
        within(method, session.http_session_api.http_get(method, &parameters, None)).await
    }

    /// Puts a file where Slack said.
    pub(super) async fn upload(&self, url: Url, bytes: Vec<u8>) -> Result<(), ChatError> {
        let request = SlackApiFilesUploadViaUrlRequest::new(url.into(), bytes, "application/octet-stream".to_owned());
        let session = self.client.open_session(&self.bot_token);
        within("the upload", session.files_upload_via_url(&request))
            .await
            .map(drop)
    }

    /// Answers where a click came from. The URL is the right to do so, and stands in no error.
    pub(super) async fn respond(&self, url: Url, content: SlackMessageContent) -> Result<(), ChatError> {
        let request = SlackApiPostWebhookMessageRequest::new(content).with_replace_original(false);
        let url = SlackResponseUrl(url);
        within("the answer", self.client.respond_to_event(&url, &request))
            .await
            .map(drop)
    }

    /// Opens the way for a connection of Socket Mode; only to see that it opens.
    pub(super) async fn try_connection(&self, app_token: &SlackApiToken) -> Result<(), ChatError> {
        let session = self.client.open_session(app_token);
        let request = SlackApiAppsConnectionOpenRequest::new();
        let opened = within("apps.connections.open", session.apps_connections_open(&request)).await;
        opened.map(drop)
    }

    /// The workspace's own answer to who we are, and what it says that we may do.
    pub(super) async fn scopes(&self) -> Result<Granted, ChatError> {
        let token = self.bot_token.token_value.value();
        let request = self.plain.post(format!("{}/auth.test", self.base)).bearer_auth(token);
        let answer = request
            .send()
            .await
            .map_err(|error| unsure("auth.test", &error.without_url()))?;
        if answer.status() == reqwest::StatusCode::TOO_MANY_REQUESTS {
            let after = answer
                .headers()
                .get("retry-after")
                .and_then(|after| after.to_str().ok()?.parse().ok());
            return Err(too_often(after.map(Duration::from_secs)));
        }
        let scopes = answer.headers().get("x-oauth-scopes");
        let scopes = scopes.and_then(|scopes| scopes.to_str().ok()).unwrap_or_default();
        let scopes = scopes.split(',').map(|scope| scope.trim().to_owned()).collect();
        let identity: Identity = answer
            .json()
            .await
            .map_err(|error| unsure("auth.test", &error.without_url()))?;
        match identity.error {
            Some(code) => Err(told("auth.test", &code)),
            None => Ok(Granted {
                team: identity.team_id.unwrap_or_default(),
                scopes,
            }),
        }
    }
}

/// Whom the token speaks for, and what it may do.
pub(super) struct Granted {
    pub team: String,
    pub scopes: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Identity {
    error: Option<String>,
    team_id: Option<String>,
}

async fn within<T>(what: &'static str, call: impl Future<Output = ClientResult<T>>) -> Result<T, ChatError> {
    match tokio::time::timeout(CALL_WITHIN, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(failed(what, error)),
        Err(_) => Err(ChatError::Unsure(format!(
            "Slack did not answer {what} within {} s",
            CALL_WITHIN.as_secs()
        ))),
    }
}

/// What a failure means. Its own words may hold an answer's body or a URL that is a secret: none of them is taken.
fn failed(what: &str, error: SlackClientError) -> ChatError {
    match error {
        SlackClientError::ApiError(error) => told(what, &error.code),
        SlackClientError::RateLimitError(error) => too_often(error.retry_after),
        SlackClientError::HttpError(error) => ChatError::Unsure(format!(
            "Slack answered {what} with HTTP {}",
            error.status_code.as_u16()
        )),
        SlackClientError::HttpProtocolError(_) | SlackClientError::EndOfStream(_) => {
            ChatError::Unsure(format!("the connection to Slack failed during {what}"))
        }
        SlackClientError::ProtocolError(_)
        | SlackClientError::SystemError(_)
        | SlackClientError::SocketModeProtocolError(_) => {
            ChatError::Unsure(format!("Slack answered {what} with something that cannot be read"))
        }
    }
}

fn unsure(what: &str, error: &reqwest::Error) -> ChatError {
    ChatError::Unsure(format!("Slack did not answer {what}: {error}"))
}

fn too_often(after: Option<Duration>) -> ChatError {
    ChatError::TooOften {
        after: after.unwrap_or(AGAIN_AFTER).clamp(AGAIN_AFTER, AGAIN_AFTER_MAX),
    }
}

/// What an error that Slack names means, and what to do about it.
fn told(what: &str, code: &str) -> ChatError {
    let code: String = code
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
        .take(64)
        .collect();
    let advice = match code.as_str() {
        "ratelimited" | "rate_limited" => return too_often(None),
        "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout" | "team_added_to_org" => {
            return ChatError::Unsure(format!("Slack answered {what} with {code}"));
        }
        "channel_not_found" => {
            "there is no such channel, or the app is not in it: check its id in the configuration, and invite the app to it"
        }
        "not_in_channel" | "user_not_in_channel" => "the app is not in the channel: invite it there",
        "is_archived" => "the channel is archived: name another in the configuration",
        "restricted_action" | "restricted_action_read_only_channel" | "restricted_action_thread_only_channel" => {
            "the workspace's settings let the app not post in the channel: allow it, or name another channel"
        }
        "message_not_found" | "thread_not_found" => "the message is gone: somebody deleted it",
        "cant_update_message" | "edit_window_closed" => "the message is not this app's, or too old to be changed",
        "invalid_auth" | "not_authed" | "token_revoked" | "token_expired" | "account_inactive" => {
            "the token is not, or no longer, valid: install the app again and configure its new token"
        }
        "missing_scope" | "not_allowed_token_type" | "no_permission" => {
            "the token lacks a scope: compare the app with slack-manifest.yaml and install it again"
        }
        "team_access_not_granted" | "access_denied" | "org_login_required" | "ekm_access_denied" => {
            "the workspace does not let the app in: ask its administrators"
        }
        "user_not_found" | "users_not_found" | "user_disabled" => "there is no such person in the workspace",
        "cannot_dm_bot" | "messages_tab_disabled" => "the person or the app takes no direct messages",
        "msg_too_long" | "msg_blocks_too_long" | "invalid_blocks" | "invalid_arguments" => {
            "the message is not as Slack wants it: this is an error of the bot"
        }
        "expired_trigger_id" | "invalid_trigger_id" | "exchanged_trigger_id" => "it took too long: click again",
        _ => "Slack refuses it",
    };
    ChatError::Refused(format!("{advice} ({what}: {code})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use slack_morphism::errors::SlackClientHttpError;

    #[test]
    fn what_slack_says_becomes_what_to_do() {
        for (code, words) in [
            ("not_in_channel", "invite it there"),
            ("is_archived", "archived"),
            ("invalid_auth", "install the app again"),
            ("missing_scope", "scope"),
            ("something_new", "something_new"),
        ] {
            let ChatError::Refused(text) = told("chat.postMessage", code) else {
                panic!("{code} is not refused");
            };
            assert!(text.contains(words) && text.contains("chat.postMessage"), "{text}");
        }
    }

    #[test]
    fn what_may_have_been_done_is_not_sure() {
        for code in ["internal_error", "fatal_error", "service_unavailable"] {
            assert!(matches!(told("chat.postMessage", code), ChatError::Unsure(_)), "{code}");
        }
        assert_eq!(told("m", "ratelimited"), ChatError::TooOften { after: AGAIN_AFTER });
    }

    #[test]
    fn a_pause_is_neither_nothing_nor_for_ever() {
        for (after, taken) in [(None, 1), (Some(0), 1), (Some(30), 30), (Some(u64::MAX), 3600)] {
            let after = after.map(Duration::from_secs);
            assert_eq!(
                too_often(after),
                ChatError::TooOften {
                    after: Duration::from_secs(taken)
                }
            );
        }
    }

    #[test]
    fn no_body_and_no_url_of_an_error_is_told() {
        let error = SlackClientHttpError::new(axum::http::StatusCode::SERVICE_UNAVAILABLE);
        let error = error.with_http_response_body("xoxb-secret https://hooks.slack.com/actions/secret".to_owned());
        let told = failed("the answer", SlackClientError::HttpError(error)).to_string();
        assert_eq!(told, "Slack answered the answer with HTTP 503");
    }
}
