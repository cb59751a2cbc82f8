//! `GET /api/v1/targets`: what can be connected to, and where.

use super::caller::Caller;
use super::problem::Problem;
use super::{Console, TargetEntry};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The targets of this gateway.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TargetList {
    pub targets: Vec<TargetEntry>,
}

/// Lists the targets of this gateway. That a target is listed says nothing of what the policy allows there.
#[utoipa::path(
    get, path = "/api/v1/targets",
    responses((status = 200, body = TargetList), (status = 401, body = Problem, content_type = "application/problem+json"))
)]
pub async fn list_targets(State(console): State<Arc<Console>>, _caller: Caller) -> Json<TargetList> {
    let targets = console.targets.clone();
    Json(TargetList { targets })
}
