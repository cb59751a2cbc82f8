//! Discord over signed HTTP requests. <https://discord.com/developers/docs/interactions/overview>

use super::client::DiscordChat;
use super::intake::{DiscordIntake, First, Taken};
use super::request::{self, Origin};
use super::respond;
use crate::chat::Evidence;
use crate::chat::inbound::{self, ANSWER_WITHIN, Turned};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use chrono::Utc;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::id::Digest;
use std::sync::Arc;
use tokio::time::Instant;

const SIGNATURE: &str = "x-signature-ed25519";
const TIMESTAMP: &str = "x-signature-timestamp";

/// Takes what Discord sends for every guild: `/discord/interactions`.
pub fn router(intake: Arc<DiscordIntake>) -> Router {
    Router::new()
        .route("/discord/interactions", post(interactions))
        .with_state(intake)
}

async fn interactions(State(intake): State<Arc<DiscordIntake>>, headers: HeaderMap, body: Body) -> Response {
    let until = Instant::now() + ANSWER_WITHIN;
    match take(&intake, &headers, body, until, Utc::now()).await {
        Ok(response) => response,
        Err(why) => status(intake.reception.turn_away(why)).into_response(),
    }
}

/// Discord tries out whether bad signatures are refused, and drops the endpoint where they are not.
fn status(why: Turned) -> StatusCode {
    match why {
        // The first of them is answered: nothing is left to be said.
        Turned::Resent => StatusCode::ACCEPTED,
        Turned::Unsigned | Turned::Stale | Turned::Tampered | Turned::Foreign | Turned::Repeated => {
            StatusCode::UNAUTHORIZED
        }
        Turned::Malformed => StatusCode::BAD_REQUEST,
        Turned::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Turned::TooMany => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn take(
    intake: &DiscordIntake,
    headers: &HeaderMap,
    body: Body,
    until: Instant,
    now: Timestamp,
) -> Result<Response, Turned> {
    let body = inbound::whole(body).await?;
    let (signers, signed) = signers(intake, headers, &body, now)?;
    let heard = request::interaction(&body)?;
    let evidence = Evidence {
        payload: Digest::of(&body),
        signed: Some(signed),
    };
    let mut answering = match intake.take(&signers, heard, evidence)? {
        Taken::Pong => return Ok(Json(respond::Response::of(First::Pong, Origin::Command).body).into_response()),
        Taken::Answering(answering) => answering,
    };
    let first = answering.first(until).await;
    let response = respond::Response::of(first, answering.origin);
    if response.file.is_none() {
        return Ok(Json(response.body).into_response());
    }
    // A file goes by a call; the response then says that there is nothing in it, even if the call takes longer.
    let called = intake.reception.tasks.spawn(async move {
        let (chat, reply) = (answering.chat, answering.reply);
        if let Err(error) = chat.call_back(&reply, response).await {
            tracing::warn!(guild = chat.guild.guild, %error, "an answer in Discord could not be shown");
        }
    });
    drop(tokio::time::timeout_at(until, called).await);
    Ok(StatusCode::ACCEPTED.into_response())
}

/// The guilds whose application signed it: looked at over the raw bytes, before anything in them is read.
fn signers<'a>(
    intake: &'a DiscordIntake,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<(Vec<&'a Arc<DiscordChat>>, Timestamp), Turned> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(signature), Some(timestamp)) = (header(SIGNATURE), header(TIMESTAMP)) else {
        return Err(Turned::Unsigned);
    };
    let at = inbound::signed_at(timestamp).ok_or(Turned::Unsigned)?;
    if !inbound::is_fresh(at, now) {
        return Err(Turned::Stale);
    }
    let signed = |chat: &&Arc<DiscordChat>| chat.guild.signed(signature, timestamp, body);
    let signers: Vec<_> = intake.chats.iter().filter(signed).collect();
    if signers.is_empty() {
        return Err(Turned::Tampered);
    }
    intake.reception.once(timestamp, body, now)?;
    Ok((signers, at))
}

#[cfg(test)]
mod tests;
