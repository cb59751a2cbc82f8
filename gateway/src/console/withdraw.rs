//! `POST /api/v1/approvals/{id}/withdraw`: the requester gives up what waits.

use super::Console;
use super::caller::{Body, Caller};
use super::problem::Problem;
use super::show_approval::seen;
use super::texts::{REASON_CHARS_MAX, plain};
use super::view::{ApprovalShape, ApprovalView};
use super::vote::Decision;
use axum::Json;
use axum::extract::{Path, State};
use countersign_infra::domain::approval::Change;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Why the requester gives up.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WithdrawBody {
    /// One line, at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Withdraws an approval. Only its requester may.
#[utoipa::path(
    post, path = "/api/v1/approvals/{id}/withdraw", request_body = WithdrawBody,
    params(("id" = String, Path, description = "The approval's number")),
    responses(
        (status = 200, description = "It is withdrawn", body = ApprovalShape),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It can no longer be withdrawn", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn withdraw(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<WithdrawBody>,
) -> Result<Json<ApprovalView>, Problem> {
    plain("reason", body.reason.as_deref().unwrap_or_default(), REASON_CHARS_MAX)?;
    let approval = seen(&console, &caller, &id).await?;
    if !caller.is(&approval.requester.key) {
        return Err(Problem::not_allowed(
            "only the one who asked may withdraw it; you may deny it",
        ));
    }
    let why = match body.reason.as_deref().map(str::trim) {
        Some(reason) if !reason.is_empty() => format!("{}: {reason}", caller.0.name),
        Some(_) | None => format!("by {}", caller.0.name),
    };
    let decision = Decision {
        approval: approval.id,
        word: "withdraw",
        reason: body.reason,
        change: Change::Withdraw { why },
    };
    decision.make(console, caller).await.map(Json)
}
