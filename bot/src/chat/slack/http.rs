//! Slack over signed HTTP requests. <https://docs.slack.dev/apis/events-api/using-http-request-urls>

use super::client::SlackChat;
use super::intake::SlackIntake;
use super::request::{self, Event, Heard, Origin};
use super::say;
use crate::chat::inbound::{self, ANSWER_WITHIN, Turned};
use crate::chat::{Evidence, Say};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use chrono::Utc;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::id::Digest;
use serde_json::json;
use std::sync::Arc;
use tokio::time::Instant;

const SIGNATURE: &str = "x-slack-signature";
const TIMESTAMP: &str = "x-slack-request-timestamp";

/// Takes what Slack sends for every workspace: `/slack/interactions`, `/slack/commands`, `/slack/events`.
pub fn router(intake: Arc<SlackIntake>) -> Router {
    Router::new()
        .route("/slack/interactions", post(interactions))
        .route("/slack/commands", post(commands))
        .route("/slack/events", post(events))
        .with_state(intake)
}

async fn interactions(State(intake): State<Arc<SlackIntake>>, headers: HeaderMap, body: Body) -> Response {
    let arrived = Arrived::now();
    let answered = take(&intake, &headers, body, arrived, request::interaction).await;
    answered.unwrap_or_else(|why| turned_away(&intake, why))
}

async fn commands(State(intake): State<Arc<SlackIntake>>, headers: HeaderMap, body: Body) -> Response {
    let arrived = Arrived::now();
    let answered = take(&intake, &headers, body, arrived, request::command).await;
    answered.unwrap_or_else(|why| turned_away(&intake, why))
}

async fn events(State(intake): State<Arc<SlackIntake>>, headers: HeaderMap, body: Body) -> Response {
    let answered = take_event(&intake, &headers, body, Utc::now()).await;
    answered.unwrap_or_else(|why| turned_away(&intake, why))
}

fn turned_away(intake: &SlackIntake, why: Turned) -> Response {
    match intake.reception.turn_away(why) {
        // Slack sends again, signed anew, what it holds for lost: it must hear that it is not.
        Turned::Resent => StatusCode::OK,
        Turned::Unsigned | Turned::Stale | Turned::Tampered | Turned::Foreign | Turned::Repeated => {
            StatusCode::UNAUTHORIZED
        }
        Turned::Malformed => StatusCode::BAD_REQUEST,
        Turned::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Turned::TooMany => StatusCode::SERVICE_UNAVAILABLE,
    }
    .into_response()
}

/// When a request came, by both clocks.
#[derive(Clone, Copy)]
struct Arrived {
    now: Timestamp,
    at: Instant,
}

impl Arrived {
    fn now() -> Self {
        Self {
            now: Utc::now(),
            at: Instant::now(),
        }
    }
}

async fn take(
    intake: &SlackIntake,
    headers: &HeaderMap,
    body: Body,
    arrived: Arrived,
    read: fn(&[u8]) -> Result<Heard, Turned>,
) -> Result<Response, Turned> {
    let body = inbound::whole(body).await?;
    let signed = Signed::verify(intake, headers, &body, arrived.now)?;
    let heard = read(&body)?;
    let chat = signed.of(&heard.team, heard.app.as_deref())?;
    intake.reception.first(Digest::of(&body), arrived.now)?;
    let origin = heard.origin;
    let evidence = Evidence {
        payload: Digest::of(&body),
        signed: Some(signed.at),
    };
    let left = intake.answer(chat, heard, evidence)?;
    let left = SlackIntake::wait(origin, left, arrived.at + ANSWER_WITHIN).await;
    Ok(left.map_or_else(|| StatusCode::OK.into_response(), |say| response(origin, &say)))
}

fn response(origin: Origin, left: &Say) -> Response {
    match origin {
        Origin::Click => StatusCode::OK.into_response(),
        Origin::Command => {
            let mut message = json!(say::message(left));
            if let Some(message) = message.as_object_mut() {
                message.insert("response_type".to_owned(), json!("ephemeral"));
            }
            Json(message).into_response()
        }
        Origin::Form => Json(json!({"response_action": "update", "view": say::closing(left)})).into_response(),
    }
}

async fn take_event(intake: &SlackIntake, headers: &HeaderMap, body: Body, now: Timestamp) -> Result<Response, Turned> {
    let body = inbound::whole(body).await?;
    let signed = Signed::verify(intake, headers, &body, now)?;
    match request::event(&body)? {
        Event::Challenge(challenge) => Ok(Json(json!({"challenge": challenge})).into_response()),
        Event::Told { team, app, kind } => {
            signed.of(&team, app.as_deref())?;
            intake.reception.first(Digest::of(&body), now)?;
            lost(&team, &kind);
            Ok(StatusCode::OK.into_response())
        }
    }
}

/// Says when a workspace takes the app's rights away: nothing that the bot does there works from then on.
pub(super) fn lost(team: &str, kind: &str) {
    if ["app_uninstalled", "tokens_revoked"].contains(&kind) {
        tracing::error!(team, kind, "the workspace took the app's rights away: install it again");
    }
}

/// A request whose signature is good. One secret may be that of several workspaces: they share the app.
struct Signed<'a> {
    signers: Vec<&'a Arc<SlackChat>>,
    at: Timestamp,
}

impl<'a> Signed<'a> {
    /// Looks at the signature, over the raw bytes and before anything in them is read.
    fn verify(intake: &'a SlackIntake, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<Self, Turned> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let (Some(signature), Some(timestamp)) = (header(SIGNATURE), header(TIMESTAMP)) else {
            return Err(Turned::Unsigned);
        };
        let signature = signature
            .strip_prefix("v0=")
            .and_then(|digits| hex::decode(digits).ok());
        let (Some(signature), Some(at)) = (signature, inbound::signed_at(timestamp)) else {
            return Err(Turned::Unsigned);
        };
        if !inbound::is_fresh(at, now) {
            return Err(Turned::Stale);
        }
        let signed = |chat: &&Arc<SlackChat>| chat.workspace.signed(timestamp, body, &signature);
        let signers: Vec<_> = intake.chats.iter().filter(signed).collect();
        if signers.is_empty() {
            return Err(Turned::Tampered);
        }
        intake.reception.once(timestamp, body, now)?;
        Ok(Self { signers, at })
    }

    /// The workspace that it is of, among those whose secret signed it.
    fn of(&self, team: &str, app: Option<&str>) -> Result<&'a Arc<SlackChat>, Turned> {
        let mut signers = self.signers.iter();
        let found = signers.find(|chat| chat.workspace.is_of(team, app));
        found.copied().ok_or(Turned::Foreign)
    }
}

#[cfg(test)]
mod tests;
