//! `GET /api/v1/sessions/{id}/events`: everything that the journal knows of one session, in order.

use super::Console;
use super::caller::{Caller, Query};
use super::problem::Problem;
use super::search_audit::note_reading;
use super::texts::session_id;
use super::view::EventShape;
use crate::policy::GatewayAction;
use axum::Json;
use axum::extract::{Path, State};
use countersign_infra::domain::audit::{Event, Happening};
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
    let read = console.reader.session(id).await;
    let own = read.as_ref().is_ok_and(|events| opened_by(events, &caller));
    if !own && !console.allows(&caller.0, GatewayAction::Audit) {
        // What cannot be read is nobody's own.
        return Err(absent());
    }
    let events = read?;
    if events.is_empty() {
        return Err(absent());
    }
    if !own {
        note_reading(&console, &caller, format!("events of session {id}")).await?;
    }
    let mut events: Vec<Event> = events.into_iter().filter(|event| event.seq >= filter.from).collect();
    let next = events.get(LIMIT_MAX).map(|event| event.seq);
    events.truncate(LIMIT_MAX);
    Ok(Json(EventList { events, next }))
}

fn opened_by(events: &[Event], caller: &Caller) -> bool {
    let opened = events.first().map(|event| &event.what);
    matches!(opened, Some(Happening::SessionOpened { header }) if caller.is(&header.person.key))
}
