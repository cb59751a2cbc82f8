//! Calls of Discord's API, and what their failures mean. <https://discord.com/developers/docs/reference>
//!
//! Own calls below the models and builders of `serenity`: its client brings a second TLS stack (rustls 0.22, which has open
//! advisories), and what it logs of an error holds the token of the interaction.

use super::guild::DiscordGuild;
use crate::chat::ChatError;
use crate::chat::tls::{self, TlsError};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// The largest answer that is read, in bytes: a hundred messages of the largest kind.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// After which time to ask again when Discord does not say, and the longest pause that is taken from it.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The API with the rights of one guild's bot.
pub(super) struct Api {
    http: reqwest::Client,
    base: String,
    authorization: String,
}

/// A body with a file beside it.
pub(super) struct Multipart {
    pub boundary: String,
    pub bytes: Vec<u8>,
}

impl Api {
    pub(super) fn new(guild: &DiscordGuild) -> Result<Self, TlsError> {
        Ok(Self {
            http: tls::client(&guild.api)?,
            base: guild.api.clone(),
            authorization: guild.authorization(),
        })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, what: &'static str, path: &str) -> Result<T, ChatError> {
        self.read(what, self.request(Method::GET, path)).await
    }

    /// Looks for something. None where Discord answers with one of these codes.
    pub(super) async fn find<T: DeserializeOwned>(
        &self,
        what: &'static str,
        path: &str,
        absent: &[u64],
    ) -> Result<Option<T>, ChatError> {
        match self.ask(what, self.request(Method::GET, path)).await {
            Err(failure) if absent.contains(&failure.code) => Ok(None),
            Err(failure) => Err(failure.error),
            Ok(body) => parsed(what, &body).map(Some),
        }
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        what: &'static str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ChatError> {
        self.read(what, self.request(Method::POST, path).json(body)).await
    }

    /// Sends something whose answer says nothing.
    pub(super) async fn send(
        &self,
        what: &'static str,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(), ChatError> {
        self.ask(what, self.request(method, path).json(body))
            .await
            .map(drop)
            .map_err(ChatError::from)
    }

    pub(super) async fn send_file(
        &self,
        what: &'static str,
        method: Method,
        path: &str,
        body: Multipart,
    ) -> Result<(), ChatError> {
        let kind = format!("multipart/form-data; boundary={}", body.boundary);
        let request = self.request(method, path).header("content-type", kind).body(body.bytes);
        self.ask(what, request).await.map(drop).map_err(ChatError::from)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        // What answers an interaction has its right in its path.
        if path.starts_with("/interactions/") || path.starts_with("/webhooks/") {
            request
        } else {
            request.header("authorization", &self.authorization)
        }
    }

    async fn read<T: DeserializeOwned>(&self, what: &'static str, request: RequestBuilder) -> Result<T, ChatError> {
        let body = self.ask(what, request).await?;
        parsed(what, &body)
    }

    async fn ask(&self, what: &'static str, request: RequestBuilder) -> Result<Vec<u8>, Failure> {
        let response = request.send().await.map_err(|error| lost(what, error))?;
        let (status, after) = (response.status(), retry_after(&response));
        let body = whole(response).await.map_err(|error| lost(what, error))?;
        if status.is_success() {
            let large = || ChatError::Unsure(format!("Discord answered {what} with more than 4 MiB"));
            return body.ok_or_else(|| large().into());
        }
        Err(failed(what, status, after, &body.unwrap_or_default()))
    }
}

/// A failure, with Discord's own code where it gave one.
struct Failure {
    code: u64,
    error: ChatError,
}

impl From<ChatError> for Failure {
    fn from(error: ChatError) -> Self {
        Self { code: 0, error }
    }
}

impl From<Failure> for ChatError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// The URL of an error may be the right to answer: it is not told.
fn lost(what: &str, error: reqwest::Error) -> ChatError {
    ChatError::Unsure(format!("no answer from Discord to {what}: {}", error.without_url()))
}

fn parsed<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, ChatError> {
    let unread = |_| ChatError::Unsure(format!("Discord answered {what} with something that cannot be read"));
    serde_json::from_slice(body).map_err(unread)
}

fn retry_after(response: &Response) -> Option<f64> {
    response.headers().get("retry-after")?.to_str().ok()?.parse().ok()
}

/// None if it is larger than is read.
async fn whole(mut response: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            return Ok(None);
        }
    }
    Ok(Some(body))
}

/// <https://discord.com/developers/docs/reference#error-messages>
#[derive(Default, Deserialize)]
struct Fault {
    #[serde(default)]
    code: u64,
    retry_after: Option<f64>,
    #[serde(default)]
    global: bool,
}

fn failed(what: &str, status: StatusCode, after: Option<f64>, body: &[u8]) -> Failure {
    let fault: Fault = serde_json::from_slice(body).unwrap_or_default();
    Failure {
        code: fault.code,
        error: meaning(what, status, after, &fault),
    }
}

fn meaning(what: &str, status: StatusCode, after: Option<f64>, fault: &Fault) -> ChatError {
    if status == StatusCode::TOO_MANY_REQUESTS {
        if fault.global {
            tracing::warn!("Discord limits all calls of the bot");
        }
        return too_often(fault.retry_after.or(after));
    }
    if status == StatusCode::UNAUTHORIZED {
        let advice = "the token is not, or no longer, valid: make a new one on the application's page and configure it";
        return ChatError::Refused(format!("{advice} ({what}: HTTP 401)"));
    }
    if !status.is_client_error() || status == StatusCode::REQUEST_TIMEOUT {
        return ChatError::Unsure(format!("Discord answered {what} with HTTP {}", status.as_u16()));
    }
    let advice = match fault.code {
        10003 => "there is no such channel: check its id in the configuration",
        10004 => "the bot is not in the server: invite it there",
        10007 | 10013 => "there is no such person in the server",
        10008 => "the message is gone: somebody deleted it",
        10015 | 10062 | 50027 => "it took too long: click again",
        20012 => "the token is of another application: configure that of this one",
        40060 => "it was answered before",
        50001 => {
            "the bot cannot see it: invite it to the server, and give it View Channel and Read Message History in the channel"
        }
        50005 => "the message is not the bot's own",
        50007 | 50278 => "the person takes no direct messages from the bot",
        50013 => "the bot lacks a permission: View Channel, Send Messages, Embed Links, Read Message History",
        50033 => "there is nobody who could be written to under this id",
        50035 | 50006 | 50109 => "the message is not as Discord wants it: this is an error of the bot",
        160_002 => "the bot cannot reply there: give it the permission Read Message History",
        _ => "Discord refuses it",
    };
    ChatError::Refused(format!(
        "{advice} ({what}: HTTP {}, code {})",
        status.as_u16(),
        fault.code
    ))
}

fn too_often(seconds: Option<f64>) -> ChatError {
    let after = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    ChatError::TooOften {
        after: after.unwrap_or(AGAIN_AFTER).clamp(AGAIN_AFTER, AGAIN_AFTER_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_discord_says_becomes_what_to_do() {
        for (status, code, words) in [
            (404, 10003, "check its id"),
            (404, 10008, "deleted"),
            (403, 50001, "View Channel"),
            (403, 50013, "lacks a permission"),
            (401, 0, "configure it"),
            (400, 99999, "code 99999"),
        ] {
            let body = format!("{{\"code\": {code}, \"message\": \"secret\"}}");
            let status = StatusCode::from_u16(status).unwrap();
            let ChatError::Refused(text) = failed("the message", status, None, body.as_bytes()).error else {
                panic!("{code} is not refused");
            };
            assert!(text.contains(words) && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn what_may_have_been_done_is_not_sure() {
        for status in [500, 502, 503, 408, 302] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(
                matches!(failed("it", status, None, b"<html>").error, ChatError::Unsure(_)),
                "{status}"
            );
        }
    }

    #[test]
    fn a_pause_is_that_of_the_body_then_of_the_header_and_bounded() {
        for (header, body, seconds) in [
            (Some(5.0), "{\"retry_after\": 2.5, \"global\": true}", 2.5),
            (Some(5.0), "error code: 1015", 5.0),
            (None, "", 1.0),
            (None, "{\"retry_after\": -1}", 1.0),
            (None, "{\"retry_after\": 1e300}", 1.0),
            (None, "{\"retry_after\": 86400}", 3600.0),
        ] {
            let after = Duration::from_secs_f64(seconds);
            let failure = failed("it", StatusCode::TOO_MANY_REQUESTS, header, body.as_bytes()).error;
            assert_eq!(failure, ChatError::TooOften { after }, "{body}");
        }
    }
}
