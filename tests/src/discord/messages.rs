//! Messages of channels, and threads. <https://discord.com/developers/docs/resources/message>

use super::Shared;
use super::limits::Faults;
use super::rest::{Arrived, Outcome, Refused, channel_of, checked, refused};
use super::state::{APPLICATION, Channel, Message, State, User};
use axum::Json;
use axum::extract::{Extension, Path, Query, State as Of};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Deserialize)]
pub(super) struct Page {
    limit: Option<usize>,
    before: Option<String>,
    after: Option<String>,
}

pub(super) async fn channel(Of(shared): Of<Arc<Shared>>, Path(id): Path<String>) -> Outcome {
    let state = shared.lock();
    let channel = channel_of(&state, &id)?;
    Ok(Json(channel.body(&state.users)).into_response())
}

/// The newest first: of all, or of those that come next after one.
pub(super) async fn list(Of(shared): Of<Arc<Shared>>, Path(id): Path<String>, Query(page): Query<Page>) -> Outcome {
    let state = shared.lock();
    channel_of(&state, &id)?;
    let seen = state.messages.iter().rev().filter(|message| message.is_seen_in(&id));
    let within = seen.filter(|message| {
        let number = |id: &str| id.parse::<u64>().unwrap_or_default();
        let is_before = page
            .before
            .as_ref()
            .is_none_or(|before| number(&message.id) < number(before));
        is_before
            && page
                .after
                .as_ref()
                .is_none_or(|after| number(&message.id) > number(after))
    });
    let limit = page.limit.unwrap_or(50).clamp(1, 100);
    let mut list: Vec<Value> = within.map(|message| message.body.clone()).collect();
    if page.after.is_some() {
        list.drain(..list.len().saturating_sub(limit));
    }
    list.truncate(limit);
    Ok(Json(list).into_response())
}

/// The same nonce gives the same message, where that is asked for.
pub(super) async fn create(
    Of(shared): Of<Arc<Shared>>,
    Path(id): Path<String>,
    Extension(arrived): Extension<Arrived>,
) -> Outcome {
    let mut state = shared.lock();
    channel_of(&state, &id)?;
    content(&arrived)?;
    let nonce = &arrived.body["nonce"];
    if arrived.body["enforce_nonce"] == true && !nonce.is_null() {
        let mut known = state.messages.iter();
        if let Some(same) = known.find(|message| message.body["nonce"] == *nonce && !message.deleted) {
            return Ok(Json(same.body.clone()).into_response());
        }
    }
    let message = state.post(&id, None, &arrived.body, arrived.files);
    Ok(Json(message.body).into_response())
}

/// A message holds something, and nothing of it is too long.
pub(super) fn content(arrived: &Arrived) -> Result<(), Refused> {
    let given = &arrived.body;
    checked(&Faults::of_message(given))?;
    let has = |name: &str| {
        let (text, list) = (given[name].as_str(), given[name].as_array());
        text.is_some_and(|text| !text.trim().is_empty()) || list.is_some_and(|list| !list.is_empty())
    };
    if arrived.files.is_empty() && !["content", "embeds", "components"].into_iter().any(has) {
        return Err(refused(400, 50006, "Cannot send an empty message"));
    }
    Ok(())
}

pub(super) async fn one(Of(shared): Of<Arc<Shared>>, Path((channel, id)): Path<(String, String)>) -> Outcome {
    let mut state = shared.lock();
    let message = seen(&mut state, &channel, &id)?;
    Ok(Json(message.body.clone()).into_response())
}

pub(super) async fn edit(
    Of(shared): Of<Arc<Shared>>,
    Path((channel, id)): Path<(String, String)>,
    Extension(arrived): Extension<Arrived>,
) -> Outcome {
    let mut state = shared.lock();
    if seen(&mut state, &channel, &id)?.body["author"]["id"] != APPLICATION {
        return Err(refused(403, 50005, "Cannot edit a message authored by another user"));
    }
    checked(&Faults::of_message(&arrived.body))?;
    let fresh: Vec<String> = arrived.files.iter().map(|_| state.snowflake()).collect();
    let mut fresh = fresh.into_iter();
    let message = seen(&mut state, &channel, &id)?;
    message.edit(&arrived.body, arrived.files, || fresh.next().unwrap_or_default());
    Ok(Json(message.body.clone()).into_response())
}

pub(super) async fn delete(Of(shared): Of<Arc<Shared>>, Path((channel, id)): Path<(String, String)>) -> Outcome {
    seen(&mut shared.lock(), &channel, &id)?.deleted = true;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A message that everybody sees.
fn seen<'a>(state: &'a mut State, channel: &str, id: &str) -> Result<&'a mut Message, Refused> {
    channel_of(state, channel)?;
    let message = state.message(channel, id).filter(|message| message.shown_to.is_none());
    message.ok_or(refused(404, 10008, "Unknown Message"))
}

/// The thread has its message's id.
pub(super) async fn thread(
    Of(shared): Of<Arc<Shared>>,
    Path((channel, id)): Path<(String, String)>,
    Extension(arrived): Extension<Arrived>,
) -> Outcome {
    let mut state = shared.lock();
    seen(&mut state, &channel, &id)?;
    let name = arrived.body["name"].as_str().unwrap_or_default();
    if !(1..=100).contains(&name.chars().count()) {
        let errors = json!({"name": {"_errors": [{"code": "BASE_TYPE_BAD_LENGTH",
            "message": "Must be between 1 and 100 in length."}]}});
        let body = json!({"message": "Invalid Form Body", "code": 50035, "errors": errors});
        return Ok((StatusCode::BAD_REQUEST, Json(body)).into_response());
    }
    if state.channels.contains_key(&id) {
        return Err(refused(
            400,
            160_004,
            "A thread has already been created for this message",
        ));
    }
    let thread = Channel {
        id: id.clone(),
        guild: channel_of(&state, &channel)?.guild,
        name: name.to_owned(),
        person: None,
        parent: Some(channel.clone()),
        has_bot: true,
    };
    let body = thread.body(&state.users);
    state.channels.insert(id.clone(), thread);
    seen(&mut state, &channel, &id)?.body["thread"] = body.clone();
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

impl Message {
    pub(super) fn is_seen_in(&self, channel: &str) -> bool {
        self.channel == channel && self.shown_to.is_none() && !self.deleted
    }
}

/// What the API tells of who answered to what.
pub(super) fn metadata(id: &str, user: Option<&User>) -> Value {
    json!({"id": id, "type": 2, "user": user.map(User::body), "authorizing_integration_owners": {},
        "name": "countersign", "command_type": 1, "application_id": APPLICATION})
}
