//! `GET /api/v1/sessions/{id}/recording` and `/{n}`: what a recording consists of, and its parts.

use super::Console;
use super::caller::Caller;
use super::problem::Problem;
use super::search_audit::note_reading;
use super::texts::session_id;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_infra::domain::id::SessionId;
use countersign_infra::recordings::key::PublicKey;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

/// What a recording consists of so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordingFacts {
    pub chunks: u64,
    /// The signed manifest in base 64; none while the session lives.
    pub manifest: Option<String>,
    /// The public key of this gateway's recordings in PEM. Who does not trust the gateway keeps a copy of their own.
    pub key: String,
    /// Every public key that this gateway was given, its own first: other gateways sign with theirs.
    #[serde(default)]
    pub keys: Vec<String>,
}

/// Says what a session's recording consists of. Journaled, together with what the same person then reads of it.
#[utoipa::path(
    get, path = "/api/v1/sessions/{id}/recording",
    params(("id" = String, Path, description = "The session's id")),
    responses(
        (status = 200, body = RecordingFacts),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn read_recording(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<RecordingFacts>, Problem> {
    caller.must_audit(&console)?;
    let id = session_id(&id)?;
    note_run(&console, &caller, id).await?;
    let manifest = console.recordings.read_manifest(id).await?;
    let chunks = console.recordings.chunks(id).await?;
    if chunks == 0 && manifest.is_none() {
        return Err(Problem::not_found(format!("there is no recording of session {id}")));
    }
    let keys = pems(&console);
    Ok(Json(RecordingFacts {
        chunks,
        manifest: manifest.map(|bytes| STANDARD.encode(bytes)),
        key: keys.first().cloned().unwrap_or_default(),
        keys,
    }))
}

/// Journals that somebody reads a recording, unless that was done a short while ago.
async fn note_run(console: &Console, caller: &Caller, id: SessionId) -> Result<(), Problem> {
    let reader = &caller.0.key;
    if console.readings.goes_on(id, reader, Instant::now()) {
        return Ok(());
    }
    note_reading(console, caller, format!("recording of session {id}")).await?;
    console.readings.begun(id, reader, Instant::now());
    Ok(())
}

pub(super) fn pems(console: &Console) -> Vec<String> {
    console.recording_keys.keys().iter().map(PublicKey::pem).collect()
}

/// Reads one chunk of a recording as it is stored. Journaled once for what one person reads of a recording within ten
/// minutes.
#[utoipa::path(
    get, path = "/api/v1/sessions/{id}/recording/{number}",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("number" = u64, Path, description = "The chunk's number, from 0")
    ),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn read_chunk(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Path((id, number)): Path<(String, String)>,
) -> Result<impl IntoResponse, Problem> {
    caller.must_audit(&console)?;
    let id = session_id(&id)?;
    let number: u64 = number
        .parse()
        .map_err(|_| Problem::bad_request("a chunk's number is 0 or more"))?;
    note_run(&console, &caller, id).await?;
    let bytes = console.recordings.read_chunk(id, number).await?;
    let headers = [
        (CONTENT_TYPE, "application/octet-stream"),
        (CONTENT_DISPOSITION, "attachment"),
    ];
    Ok((headers, bytes))
}
