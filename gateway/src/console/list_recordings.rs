//! `GET /api/v1/recordings`: the recordings of a day.

use super::Console;
use super::caller::{Caller, Query};
use super::problem::Problem;
use super::search_audit::note_reading;
use super::texts::{day, session_id};
use crate::catalog::{Catalog, LIMIT, LIMIT_MAX, NotListed, RecordingPage};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// A day in UTC, like `2026-01-31`.
    day: String,
    /// `next` of the page before.
    after: Option<String>,
    /// At most this many: 50 unless said otherwise, 200 at most.
    limit: Option<usize>,
}

/// Lists the recordings of sessions that were opened on a day, newest first; also those of sessions that live.
/// Journaled.
#[utoipa::path(
    get, path = "/api/v1/recordings", params(Filter),
    responses(
        (status = 200, body = RecordingPage),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn list_recordings(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<RecordingPage>, Problem> {
    caller.must_audit(&console)?;
    let day = day(&filter.day)?;
    let after = filter.after.as_deref().map(session_id).transpose()?;
    note_reading(&console, &caller, format!("recordings of {day}")).await?;
    let catalog = Catalog {
        listed: console.listed.clone(),
        recordings: console.recordings.clone(),
        journal: console.reader.clone(),
    };
    let limit = filter.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    Ok(Json(catalog.page(day, after, limit).await?))
}

impl From<NotListed> for Problem {
    fn from(error: NotListed) -> Self {
        match error {
            NotListed::Recordings(error) => error.into(),
            NotListed::Journal(error) => error.into(),
            error @ NotListed::TooMany(_) => Self::bad_request(error),
            error @ NotListed::Task(_) => {
                tracing::error!(%error, "recordings could not be listed");
                Self::unavailable("the recordings could not be listed; try again")
            }
        }
    }
}
