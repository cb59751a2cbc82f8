//! `GET /api/v1/approvals/{id}`: one approval in full.

use super::Console;
use super::caller::Caller;
use super::list_approvals::may_see;
use super::problem::Problem;
use super::texts::approval_id;
use super::view::{ApprovalShape, ApprovalView};
use axum::Json;
use axum::extract::{Path, State};
use countersign_infra::approvals::StoreError;
use countersign_infra::domain::approval::Approval;
use std::sync::Arc;

/// Shows one approval. One that the caller may not see does not exist for them.
#[utoipa::path(
    get, path = "/api/v1/approvals/{id}", params(("id" = String, Path, description = "The approval's number")),
    responses(
        (status = 200, body = ApprovalShape),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn show_approval(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ApprovalView>, Problem> {
    let approval = seen(&console, &caller, &id).await?;
    Ok(Json(console.view(approval, &caller.0)))
}

/// Reads an approval that the caller may see.
pub(super) async fn seen(console: &Console, caller: &Caller, id: &str) -> Result<Approval, Problem> {
    let id = approval_id(id)?;
    let approval = console.approvals.read(&id).await?;
    if may_see(console, caller, &approval) {
        return Ok(approval);
    }
    Err(StoreError::NotFound(id).into())
}
