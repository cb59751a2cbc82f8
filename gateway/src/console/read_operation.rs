//! `GET /api/v1/approvals/{id}/operation`: the whole of what is held, where the record shows only the beginning.

use super::Console;
use super::caller::{Caller, Query};
use super::problem::Problem;
use super::search_audit::note_reading;
use super::show_approval::seen;
use axum::Json;
use axum::extract::{Path, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_infra::domain::access_request::Part;
use countersign_infra::domain::approval::HeldOperation;
use countersign_infra::domain::display::head;
use countersign_infra::journal::reading::Reading;
use countersign_infra::operations::WholeOperation;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Exact parts are served up to so many bytes in all.
const EXACT_BYTES_MAX: u64 = 32 << 20;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Also the exact parts, unmasked: needs the right to audit.
    #[serde(default)]
    exact: bool,
}

/// All of one operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WholeView {
    pub approval: String,
    /// SHA-256 over the exact parts and over who asked for them where; checked before the answer.
    pub digest: String,
    /// The whole display text: masked and escaped.
    pub display: String,
    /// Size of the display text in bytes.
    pub bytes: u64,
    /// The approval's record shows the beginning of this very text. False where the same operation was asked for
    /// again and is shown otherwise now, with other masks.
    pub as_asked: bool,
    /// The exact parts, if they were asked for.
    pub parts: Option<Vec<PartView>>,
}

/// One exact part of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartView {
    /// What its bytes are: `query`, `statement`, `value:text:23`.
    pub tag: String,
    pub base64: String,
}

/// Shows the whole operation to those who may see the approval. Journaled before it is answered.
#[utoipa::path(
    get, path = "/api/v1/approvals/{id}/operation",
    params(("id" = String, Path, description = "The approval's number"), Wanted),
    responses(
        (status = 200, body = WholeView),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The exact parts are too long to be served", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "It is damaged", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn read_operation(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<WholeView>, Problem> {
    let approval = seen(&console, &caller, &id).await?;
    if wanted.exact {
        caller.must_audit(&console)?;
    }
    // Operations may be large, so few are in memory at once. The request's own deadline bounds the wait.
    let _place = console.readings.place().await?;
    let whole = console.operations.read(approval.operation.digest).await?;
    let as_asked = is_as_asked(&whole, &approval.operation);
    let parts = wanted.exact.then(|| exact(&whole.parts)).transpose()?;
    let reading = Reading {
        approval: &approval.id,
        exact: wanted.exact,
        as_asked,
    };
    note_reading(&console, &caller, reading.in_words()).await?;
    console.readings.note(&reading, &caller.0.key);
    Ok(Json(WholeView {
        approval: approval.id.to_string(),
        digest: approval.operation.digest.to_string(),
        bytes: whole.display.len() as u64,
        display: String::from(&*whole.display),
        as_asked,
        parts,
    }))
}

/// Whether the record shows the beginning of this very text.
pub(super) fn is_as_asked(whole: &WholeOperation, record: &HeldOperation) -> bool {
    whole.display.len() as u64 == record.display_bytes && head(&whole.display) == record.display
}

fn exact(parts: &[Part]) -> Result<Vec<PartView>, Problem> {
    let bytes: u64 = parts.iter().map(|part| part.bytes.len() as u64).sum();
    if bytes > EXACT_BYTES_MAX {
        let why = format!("its exact parts are {bytes} bytes long, and at most {EXACT_BYTES_MAX} are served");
        return Err(Problem::refused(why, None));
    }
    let view = |part: &Part| PartView {
        tag: part.tag.clone(),
        base64: STANDARD.encode(&part.bytes),
    };
    Ok(parts.iter().map(view).collect())
}
