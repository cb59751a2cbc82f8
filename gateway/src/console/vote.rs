//! `POST /api/v1/approvals/{id}/votes`: approves or denies.

use super::Console;
use super::caller::{Body, Caller};
use super::problem::Problem;
use super::show_approval::seen;
use super::texts::{REASON_CHARS_MAX, plain};
use super::view::{ApprovalShape, ApprovalView};
use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A vote.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VoteBody {
    pub choice: ChoiceWord,
    /// One line, at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub via: ViaWord,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChoiceWord {
    Approve,
    Deny,
}

/// Where a vote that comes through the API was given. Chats have a way of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ViaWord {
    Cli,
    Console,
}

/// Votes on an approval. A vote that does not count is answered 409 with the reason and what stands.
#[utoipa::path(
    post, path = "/api/v1/approvals/{id}/votes", request_body = VoteBody,
    params(("id" = String, Path, description = "The approval's number")),
    responses(
        (status = 200, description = "The vote counts", body = ApprovalShape),
        (status = 400, body = Problem),
        (status = 401, body = Problem),
        (status = 404, body = Problem),
        (status = 409, description = "The vote does not count", body = Problem)
    )
)]
pub async fn vote(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(vote): Body<VoteBody>,
) -> Result<Json<ApprovalView>, Problem> {
    let reason = vote.reason.unwrap_or_default();
    plain("reason", &reason, REASON_CHARS_MAX)?;
    let _approval = seen(&console, &caller, &id).await?;
    Err(Problem::unavailable("votes are not taken yet"))
}
