//! `GET /api/v1/digests` and `/{day}/{name}`: the signed digests of sessions.

use super::Console;
use super::caller::{Caller, Query};
use super::problem::Problem;
use super::read_recording::pems;
use super::search_audit::note_reading;
use super::texts::day;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use countersign_infra::journal::Retention;
use countersign_infra::recordings::digest::DigestName;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// A day in UTC, like `2026-01-31`.
    day: String,
}

/// The digests that gateways signed on a day.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DigestList {
    /// Their names, like `13-01890a5d-ac96-774b-bcce-b302099a8057-0.json`: hour, run of a gateway, number.
    pub digests: Vec<String>,
    /// Every public key that this gateway was given, its own first.
    pub keys: Vec<String>,
    /// For so many days the journal keeps events; none: for ever. A digest may live longer.
    #[serde(default)]
    pub retention_days: Option<i64>,
}

/// Lists the digests of a day. Journaled.
#[utoipa::path(
    get, path = "/api/v1/digests", params(Filter),
    responses(
        (status = 200, body = DigestList),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn list_digests(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<DigestList>, Problem> {
    caller.must_audit(&console)?;
    let day = day(&filter.day)?;
    note_reading(&console, &caller, format!("digests of {day}")).await?;
    Ok(Json(DigestList {
        digests: console.recordings.digests(day).await?,
        keys: pems(&console),
        retention_days: console.reader.retention().map(Retention::days),
    }))
}

/// Reads one digest as it is stored. Journaled.
#[utoipa::path(
    get, path = "/api/v1/digests/{day}/{name}",
    params(
        ("day" = String, Path, description = "A day in UTC"),
        ("name" = String, Path, description = "The digest's name")
    ),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn read_digest(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Path((on, name)): Path<(String, String)>,
) -> Result<impl IntoResponse, Problem> {
    caller.must_audit(&console)?;
    let on = day(&on)?;
    let name: DigestName = name.parse().map_err(Problem::bad_request)?;
    note_reading(&console, &caller, format!("digest {name} of {on}")).await?;
    let bytes = console.recordings.read_digest(on, &name.to_string()).await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], bytes))
}
