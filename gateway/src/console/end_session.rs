//! `POST /api/v1/sessions/{id}/end`: ends a live session.

use super::Console;
use super::caller::Caller;
use super::problem::Problem;
use super::texts::session_id;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use countersign_infra::policy::GatewayAction;
use std::sync::Arc;

/// Ends a live session of this gateway: one's own, or anyone's where the policy lets.
#[utoipa::path(
    post, path = "/api/v1/sessions/{id}/end",
    params(("id" = String, Path, description = "The session's id")),
    responses(
        (status = 202, description = "The session was told to end"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn end_session(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = session_id(&id)?;
    let absent = || Problem::not_found(format!("no session {id} lives in this gateway"));
    let session = console.sessions.find(id).ok_or_else(absent)?;
    if !caller.is(&session.header.person.key) && !console.allows(&caller.0, GatewayAction::EndSession) {
        return match console.allows(&caller.0, GatewayAction::Watch) {
            true => Err(Problem::not_allowed(
                "the policy does not let you end other people's sessions",
            )),
            false => Err(absent()),
        };
    }
    match console.sessions.end(id, &format!("ended by {}", caller.0.name)) {
        true => Ok(StatusCode::ACCEPTED),
        false => Err(absent()),
    }
}
