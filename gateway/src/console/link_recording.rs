//! `GET /api/v1/sessions/{id}/recording/links`: links with which an auditor fetches a recording from the store itself.

use super::Console;
use super::caller::{Caller, Query};
use super::problem::Problem;
use super::search_audit::note_reading;
use super::texts::session_id;
use axum::Json;
use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use countersign_infra::domain::id::SessionId;
use countersign_infra::recordings::RecordingObject;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

const VALID_SECONDS: u64 = 3600;
const VALID_SECONDS_MAX: u64 = 12 * 3600;
/// Chunks of one answer.
const CHUNKS_MAX: u64 = 1000;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// How long the links open their objects: an hour unless said otherwise, twelve at most.
    valid_seconds: Option<u64>,
    /// The first chunk wanted; 0 unless said otherwise.
    #[serde(default)]
    from: u64,
}

/// Links to the objects of a recording.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LinkList {
    pub links: Vec<LinkView>,
    /// The value of `from` for the next page; none when this is the last.
    pub next: Option<u64>,
}

/// Whoever has the link can read the object until it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LinkView {
    /// `manifest`, or like `0.chunk`.
    pub object: String,
    pub url: String,
    pub until: DateTime<Utc>,
}

/// Gives links that read a recording's objects from the store without a token. Journaled. 409 where the store has no
/// links.
#[utoipa::path(
    get, path = "/api/v1/sessions/{id}/recording/links",
    params(("id" = String, Path, description = "The session's id"), Filter),
    responses(
        (status = 200, body = LinkList),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn link_recording(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(filter): Query<Filter>,
) -> Result<Json<LinkList>, Problem> {
    caller.must_audit(&console)?;
    let id = session_id(&id)?;
    let seconds = filter.valid_seconds.unwrap_or(VALID_SECONDS);
    if !(1..=VALID_SECONDS_MAX).contains(&seconds) {
        return Err(Problem::bad_request(format!(
            "`valid_seconds` is between 1 and {VALID_SECONDS_MAX}"
        )));
    }
    let noted = format!("links to the recording of session {id}, valid for {seconds} s");
    note_reading(&console, &caller, noted).await?;
    let has_manifest = console.recordings.read_manifest(id).await?.is_some();
    let chunks = console.recordings.chunks(id).await?;
    if chunks == 0 && !has_manifest {
        return Err(Problem::not_found(format!("there is no recording of session {id}")));
    }
    let end = chunks.min(filter.from.saturating_add(CHUNKS_MAX));
    let mut objects: Vec<_> = (filter.from..end).map(RecordingObject::Chunk).collect();
    if has_manifest && end == chunks {
        objects.push(RecordingObject::Manifest);
    }
    let valid = Duration::from_secs(seconds);
    let mut links = Vec::with_capacity(objects.len());
    for object in objects {
        links.push(link(&console, id, object, valid).await?);
    }
    let next = Some(end).filter(|end| *end < chunks);
    Ok(Json(LinkList { links, next }))
}

async fn link(
    console: &Console,
    session: SessionId,
    object: RecordingObject,
    valid: Duration,
) -> Result<LinkView, Problem> {
    let Some(link) = console.recordings.link(session, object, valid).await? else {
        let why = "this gateway keeps recordings on its own disk, to which there are no links: read them with \
                   `countersign recordings export`";
        return Err(Problem::refused(why, None));
    };
    Ok(LinkView {
        object: match object {
            RecordingObject::Chunk(number) => format!("{number}.chunk"),
            RecordingObject::Manifest => "manifest".to_owned(),
        },
        url: link.url.into(),
        until: link.until,
    })
}
