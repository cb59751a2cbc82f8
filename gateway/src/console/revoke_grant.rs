//! `GET /api/v1/approvals/{id}/grant` and its revocation: what was approved together with an operation, for a while.

use super::Console;
use super::caller::{Body, Caller};
use super::problem::Problem;
use super::show_approval::seen;
use super::texts::{REASON_CHARS_MAX, plain};
use axum::Json;
use axum::extract::{Path, State};
use chrono::Utc;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::approval::{Approval, State as Standing};
use countersign_infra::domain::audit::Happening;
use countersign_infra::domain::grant::{Grant, GrantState};
use countersign_infra::domain::id::ApprovalId;
use countersign_infra::grants::GrantError;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Uses of the grant may be counted in the same moment.
const TRIES_MAX: usize = 8;

/// A grant, as those may know it who may know its approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GrantView {
    /// The approval that gave it.
    #[schema(value_type = String)]
    pub approval: ApprovalId,
    /// `active`, `over`, `revoked` or `ended`.
    pub state: String,
    /// Who took it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub granted: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// Operations that ran by it.
    pub uses: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_use: Option<Timestamp>,
}

impl GrantView {
    pub fn of(grant: &Grant, now: Timestamp) -> Self {
        let (state, revoked_by, why) = match &grant.state {
            GrantState::Active if now < grant.until => ("active", None, None),
            GrantState::Active => ("over", None, None),
            GrantState::Revoked { by, why, .. } => ("revoked", Some(by.name.clone()), Some(why.clone())),
            GrantState::Ended { why, .. } => ("ended", None, Some(why.clone())),
        };
        Self {
            approval: grant.approval.clone(),
            state: state.to_owned(),
            revoked_by,
            why: why.filter(|why| !why.is_empty()),
            granted: grant.granted,
            until: grant.until,
            uses: grant.uses,
            last_use: grant.last_use,
        }
    }

    pub fn is_active(&self) -> bool {
        self.state == "active"
    }
}

/// Why a grant is taken back.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeBody {
    /// One line, at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Says what an approval grants beside its operation, and how often it was used.
#[utoipa::path(
    get, path = "/api/v1/approvals/{id}/grant",
    params(("id" = String, Path, description = "The approval's number")),
    responses(
        (status = 200, description = "The grant", body = GrantView),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such approval, or it grants nothing", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is not given yet", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn show_grant(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<GrantView>, Problem> {
    let approval = seen(&console, &caller, &id).await?;
    let grant = given(&console, &approval).await?.ok_or_else(|| none(&approval))?;
    Ok(Json(GrantView::of(&grant, Utc::now())))
}

/// Takes a grant back: whoever asked may, and whoever may decide. What runs already goes on; nothing runs by it any more.
#[utoipa::path(
    post, path = "/api/v1/approvals/{id}/grant/revoke", request_body = RevokeBody,
    params(("id" = String, Path, description = "The approval's number")),
    responses(
        (status = 200, description = "It is revoked", body = GrantView),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such approval, or it grants nothing", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is over already", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn revoke_grant(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<RevokeBody>,
) -> Result<Json<GrantView>, Problem> {
    let reason = body.reason.unwrap_or_default();
    revoke(console, caller, &id, reason).await.map(Json)
}

/// Takes the grant of an approval back. Done or not, it is journaled; it goes on though the caller hangs up.
pub(super) async fn revoke(
    console: Arc<Console>,
    caller: Caller,
    id: &str,
    reason: String,
) -> Result<GrantView, Problem> {
    plain("reason", &reason, REASON_CHARS_MAX)?;
    let approval = seen(&console, &caller, id).await?;
    let revocation = Revocation {
        approval,
        reason: reason.trim().to_owned(),
    };
    let tasks = console.tasks.clone();
    let task = tasks.spawn(async move { revocation.make_and_note(&console, &caller).await });
    task.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a revocation was not finished");
        Err(Problem::unavailable(
            "it was not finished: look at the grant before you try again",
        ))
    })
}

struct Revocation {
    approval: Approval,
    reason: String,
}

impl Revocation {
    async fn make_and_note(self, console: &Console, caller: &Caller) -> Result<GrantView, Problem> {
        let made = self.make(console, caller).await;
        let why = made.as_ref().err().map(|problem| problem.detail.clone());
        let decided = Happening::Decided {
            approval: self.approval.id.clone(),
            choice: "revoke".to_owned(),
            reason: (!self.reason.is_empty()).then(|| self.reason.clone()),
            accepted: why.is_none(),
            why,
        };
        let noted = console.journal.note(&caller.0, decided).await;
        noted.map_err(Problem::unavailable)?;
        made.map(|grant| GrantView::of(&grant, Utc::now()))
    }

    async fn make(&self, console: &Console, caller: &Caller) -> Result<Grant, Problem> {
        if !self.approval.concerns(&caller.0) {
            let why = "whoever asked may revoke it, and whoever may decide on the approval";
            return Err(Problem::not_allowed(why));
        }
        for _ in 0..TRIES_MAX {
            let grant = given(console, &self.approval)
                .await?
                .ok_or_else(|| none(&self.approval))?;
            let now = Utc::now();
            if !GrantView::of(&grant, now).is_active() {
                return Err(Problem::refused("the grant is over, or was revoked already", None));
            }
            let next = grant.revoke(caller.0.clone(), self.reason.clone(), now);
            let next = next.map_err(|why| Problem::refused(why.to_string(), None))?;
            match console.grants.replace(&next).await {
                Ok(()) => return Ok(next),
                // Written by a try whose answer was lost.
                Err(GrantError::Conflict { current }) if *current == next => return Ok(next),
                Err(GrantError::Conflict { .. }) => {}
                // It may be written: what stands there says.
                Err(GrantError::Unavailable { .. }) if is_written(console, &next).await => return Ok(next),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Problem::unavailable(
            "the grant is being used this very moment; try again",
        ))
    }
}

async fn is_written(console: &Console, grant: &Grant) -> bool {
    matches!(console.grants.read(grant.id).await, Ok(current) if current == *grant)
}

/// The grant that an approval gave, if it gave one.
pub(super) async fn given(console: &Console, approval: &Approval) -> Result<Option<Grant>, Problem> {
    if !approval.is_granted() {
        return Ok(None);
    }
    let grants = console.grants.of_session(approval.session).await?;
    Ok(grants.into_iter().find(|grant| grant.approval == approval.id))
}

fn none(approval: &Approval) -> Problem {
    let id = &approval.id;
    let is_under_way = matches!(approval.state, Standing::Approved { .. } | Standing::Executing { .. });
    if approval.is_granted() && is_under_way {
        return Problem::refused(
            "what it grants is not given yet: its operation is under way; try again",
            None,
        );
    }
    Problem::not_found(format!("approval {id} grants nothing beside its operation"))
}

impl From<GrantError> for Problem {
    fn from(error: GrantError) -> Self {
        match error {
            GrantError::NotFound(_) => Self::not_found("the grant is no more"),
            GrantError::Conflict { .. } => Self::refused("the grant changed in the meantime; look again", None),
            GrantError::Damaged { id, why } => {
                tracing::error!(grant = %id, why, "a grant is damaged in the store");
                Self::damaged("the grant is damaged in the store: nothing runs by it")
            }
            GrantError::Unavailable { source } => {
                tracing::warn!(error = %source, "the store of grants is unavailable");
                Self::unavailable("the store does not answer; try again")
            }
        }
    }
}
