//! `GET /api/v1/approvals`: the approvals that the caller may see, newest first.

use super::Console;
use super::caller::{Caller, Query};
use super::problem::Problem;
use super::show_approval::seen;
use super::view::{ApprovalShape, ApprovalView};
use axum::Json;
use axum::extract::State;
use countersign_infra::approvals::ApprovalQuery;
use countersign_infra::domain::approval::Approval;
use countersign_infra::policy::GatewayAction;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const LIMIT: usize = 50;
const LIMIT_MAX: usize = 200;
/// Records read from the store at once, and how often: what one request looks through is bounded.
pub(super) const PAGE: usize = 200;
const PAGES_MAX: usize = 10;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// `pending`, or `any` (the default).
    state: Option<String>,
    /// At most this many: 50 unless said otherwise, 200 at most.
    limit: Option<usize>,
    /// Only those made before this approval.
    before: Option<String>,
}

/// A page of approvals, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApprovalPage {
    #[schema(value_type = Vec<ApprovalShape>)]
    pub approvals: Vec<ApprovalView>,
    /// The value of `before` for the next page; none when this is the last.
    pub next: Option<String>,
}

/// Lists the approvals that the caller asked for, may vote on, or may audit.
#[utoipa::path(
    get, path = "/api/v1/approvals", params(Filter),
    responses(
        (status = 200, body = ApprovalPage),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn list_approvals(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<ApprovalPage>, Problem> {
    let pending_only = match filter.state.as_deref() {
        Some("pending") => true,
        Some("any") | None => false,
        Some(_) => return Err(Problem::bad_request("`state` is `pending` or `any`")),
    };
    let before = match filter.before {
        Some(id) => Some(seen(&console, &caller, &id).await?.id),
        None => None,
    };
    let limit = filter.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let query = ApprovalQuery {
        pending_only,
        before,
        limit: PAGE,
    };
    visible(&console, &caller, query, limit).await.map(Json)
}

/// Whether the caller may know of an approval.
pub(super) fn may_see(console: &Console, caller: &Caller, approval: &Approval) -> bool {
    approval.concerns(&caller.0) || console.allows(&caller.0, GatewayAction::Audit)
}

/// A page of what the caller may see.
pub(super) async fn visible(
    console: &Console,
    caller: &Caller,
    mut query: ApprovalQuery,
    limit: usize,
) -> Result<ApprovalPage, Problem> {
    let mut approvals: Vec<ApprovalView> = Vec::new();
    for _ in 0..PAGES_MAX {
        let read = console.approvals.list(&query).await?;
        query.before = read.last().map(|approval| approval.id.clone());
        let last_page = read.len() < PAGE;
        let seen = read.into_iter().filter(|approval| may_see(console, caller, approval));
        approvals.extend(seen.map(|approval| console.view(approval, &caller.0)));
        if last_page && approvals.len() <= limit {
            return Ok(ApprovalPage { approvals, next: None });
        }
        if approvals.len() > limit {
            break;
        }
    }
    approvals.truncate(limit);
    // Never the number of an approval that the caller may not see.
    let next = approvals.last().map(|view| view.approval.id.to_string());
    Ok(ApprovalPage { approvals, next })
}
