//! `GET /api/v1/sessions/{id}/events`: everything that the journal knows of one session, in order.

use super::Console;
use super::caller::{Caller, Query};
use super::problem::Problem;
use super::search_audit::note_reading;
use super::texts::session_id;
use super::view::EventShape;
use axum::Json;
use axum::extract::{Path, State};
use countersign_infra::domain::audit::{Event, Happening};
use countersign_infra::journal::JournalError;
use countersign_infra::policy::GatewayAction;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Events of one answer.
const LIMIT_MAX: usize = 1000;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// The first event wanted; 0 unless said otherwise.
    #[serde(default)]
    from: u64,
}

/// Events of one session, oldest first, each with its hash and that of the one before.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventList {
    #[schema(value_type = Vec<EventShape>)]
    pub events: Vec<Event>,
    /// The value of `from` for the next page; none when this is the last.
    pub next: Option<u64>,
}

/// Reads the events of a session: one's own, or anyone's for those who may audit (which is journaled).
#[utoipa::path(
    get, path = "/api/v1/sessions/{id}/events",
    params(("id" = String, Path, description = "The session's id"), Filter),
    responses(
        (status = 200, body = EventList),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "Damaged", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn read_session(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(filter): Query<Filter>,
) -> Result<Json<EventList>, Problem> {
    let id = session_id(&id)?;
    let absent = || Problem::not_found(format!("the journal knows no session {id}"));
    let read = console.reader.first(id).await;
    let own = matches!(&read, Ok(Some(first)) if opened_by(first, &caller));
    if !own && !console.allows(&caller.0, GatewayAction::Audit) {
        // What cannot be read is nobody's own.
        return Err(absent());
    }
    let first = read?.ok_or_else(absent)?;
    if !own {
        note_reading(&console, &caller, format!("events of session {id}")).await?;
    }
    Ok(Json(page(&console, first, filter.from).await?))
}

/// A page that begins with the first event from a number on.
async fn page(console: &Console, first: Event, from: u64) -> Result<EventList, JournalError> {
    let session = first.session;
    let mut events = Vec::new();
    let (after, room) = match from.checked_sub(1) {
        Some(after) if from > first.seq => (after, LIMIT_MAX),
        Some(_) | None => {
            let seq = first.seq;
            events.push(first);
            (seq, LIMIT_MAX - 1)
        }
    };
    events.extend(console.reader.after(session, after, room).await?);
    let Some(seq) = events.last().map(|event| event.seq) else {
        return Ok(EventList { events, next: None });
    };
    let last = console.reader.last(session).await?;
    let next = last.filter(|last| last.seq > seq).map(|_| seq.saturating_add(1));
    Ok(EventList { events, next })
}

fn opened_by(first: &Event, caller: &Caller) -> bool {
    matches!(&first.what, Happening::SessionOpened { header } if caller.is(&header.person.key))
}
