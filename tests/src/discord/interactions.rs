//! What the bot answers to what people do: at once, and for a quarter of an hour later on.
//! <https://discord.com/developers/docs/interactions/receiving-and-responding>

use super::Shared;
use super::limits::Faults;
use super::messages::content;
use super::rest::{Arrived, Outcome, Refused, checked, refused};
use super::state::{EPHEMERAL, Interaction, LOADING, Message, Modal, State};
use crate::chat::Answer;
use axum::Json;
use axum::extract::{Extension, Path, State as Of};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How long there is for the first answer.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// How long a token is good.
const TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);

pub(super) async fn callback(
    Of(shared): Of<Arc<Shared>>,
    Path((id, token)): Path<(String, String)>,
    Extension(arrived): Extension<Arrived>,
) -> Outcome {
    let mut state = shared.lock();
    if state.interactions.get(&token).is_none_or(|known| known.id != id) {
        return Err(refused(404, 10062, "Unknown interaction"));
    }
    let said = arrived.body.clone();
    state.answer(&token, arrived)?;
    if let Some(waiting) = state.waiting.remove(&token) {
        let answer = Answer {
            status: 200,
            body: said,
            deliveries: 1,
        };
        // Nobody waits any more when the deadline has passed.
        drop(waiting.send(answer));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn follow_up(
    Of(shared): Of<Arc<Shared>>,
    Path((_, token)): Path<(String, String)>,
    Extension(arrived): Extension<Arrived>,
) -> Outcome {
    let mut state = shared.lock();
    let known = state.open(&token)?;
    content(&arrived)?;
    let shown_to = is_ephemeral(&arrived.body).then_some(known.user);
    let message = state.post(&known.channel, shown_to, &arrived.body, arrived.files);
    Ok(Json(message.body).into_response())
}

pub(super) async fn one(Of(shared): Of<Arc<Shared>>, Path(path): Path<(String, String, String)>) -> Outcome {
    let mut state = shared.lock();
    Ok(Json(state.answered(&path.1, &path.2)?.body.clone()).into_response())
}

pub(super) async fn edit(
    Of(shared): Of<Arc<Shared>>,
    Path(path): Path<(String, String, String)>,
    Extension(arrived): Extension<Arrived>,
) -> Outcome {
    let mut state = shared.lock();
    checked(&Faults::of_message(&arrived.body))?;
    let fresh: Vec<String> = arrived.files.iter().map(|_| state.snowflake()).collect();
    let mut fresh = fresh.into_iter();
    let message = state.answered(&path.1, &path.2)?;
    message.edit(&arrived.body, arrived.files, || fresh.next().unwrap_or_default());
    Ok(Json(message.body.clone()).into_response())
}

pub(super) async fn delete(Of(shared): Of<Arc<Shared>>, Path(path): Path<(String, String, String)>) -> Outcome {
    shared.lock().answered(&path.1, &path.2)?.deleted = true;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn is_ephemeral(given: &Value) -> bool {
    given["flags"].as_u64().unwrap_or_default() & EPHEMERAL != 0
}

impl State {
    /// An interaction that was answered, as long as its token is good.
    fn open(&self, token: &str) -> Result<Interaction, Refused> {
        let known = self.interactions.get(token).filter(|known| known.is_answered);
        let known = known.ok_or(refused(404, 10015, "Unknown Webhook"))?;
        if known.made.elapsed() > TOKEN_LIFETIME {
            return Err(refused(401, 50027, "Invalid Webhook Token"));
        }
        Ok(known.clone())
    }

    /// The message that a path means: `@original`, or one by its id.
    fn answered(&mut self, token: &str, id: &str) -> Result<&mut Message, Refused> {
        let known = self.open(token)?;
        let id = if id == "@original" {
            known.original
        } else {
            Some(id.to_owned())
        };
        let message = id.and_then(|id| self.message(&known.channel, &id));
        message.ok_or(refused(404, 10008, "Unknown Message"))
    }

    /// Does what the first answer says.
    pub(super) fn answer(&mut self, token: &str, arrived: Arrived) -> Result<(), Refused> {
        let known = self.interactions.get(token).cloned();
        let known = known.ok_or(refused(404, 10062, "Unknown interaction"))?;
        if known.is_answered {
            return Err(refused(400, 40060, "Interaction has already been acknowledged."));
        }
        if known.made.elapsed() > ANSWER_LIMIT {
            return Err(refused(404, 10062, "Unknown interaction"));
        }
        let (kind, data) = (arrived.body["type"].as_u64(), arrived.body["data"].clone());
        let arrived = Arrived {
            body: data,
            files: arrived.files,
        };
        let original = self.follow(&known, kind, arrived)?;
        if let Some(known) = self.interactions.get_mut(token) {
            (known.is_answered, known.original) = (true, original);
        }
        Ok(())
    }

    /// Gives the message that is `@original` from now on.
    fn follow(&mut self, known: &Interaction, kind: Option<u64>, arrived: Arrived) -> Result<Option<String>, Refused> {
        match (kind, &known.message) {
            (Some(4), _) => {
                content(&arrived)?;
                Ok(Some(self.reply(known, arrived).id))
            }
            (Some(5), _) => {
                let reply = self.reply(known, arrived);
                if let Some(message) = self.message(&reply.channel, &reply.id) {
                    let flags = message.body["flags"].as_u64().unwrap_or_default();
                    message.body["flags"] = json!(flags | LOADING);
                }
                Ok(Some(reply.id))
            }
            (Some(6), Some(message)) => Ok(Some(message.clone())),
            (Some(7), Some(clicked)) => {
                checked(&Faults::of_message(&arrived.body))?;
                let fresh: Vec<String> = arrived.files.iter().map(|_| self.snowflake()).collect();
                let mut fresh = fresh.into_iter();
                let message = self.message(&known.channel, clicked);
                let message = message.ok_or(refused(404, 10008, "Unknown Message"))?;
                message.edit(&arrived.body, arrived.files, || fresh.next().unwrap_or_default());
                Ok(Some(clicked.clone()))
            }
            (Some(9), message) => {
                checked(&Faults::of_modal(&arrived.body))?;
                self.modals.push(Modal {
                    user: known.user.clone(),
                    guild: known.guild.clone(),
                    channel: known.channel.clone(),
                    message: message.clone(),
                    body: arrived.body,
                });
                Ok(message.clone())
            }
            (Some(_) | None, _) => Err(refused(400, 50035, "Invalid Form Body")),
        }
    }

    fn reply(&mut self, known: &Interaction, arrived: Arrived) -> Message {
        let shown_to = is_ephemeral(&arrived.body).then(|| known.user.clone());
        let message = self.post(&known.channel, shown_to, &arrived.body, arrived.files);
        let metadata = super::messages::metadata(&known.id, self.users.get(&known.user));
        if let Some(message) = self.message(&message.channel, &message.id) {
            message.body["interaction_metadata"] = metadata;
        }
        message
    }
}
