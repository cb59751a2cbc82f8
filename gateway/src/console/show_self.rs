//! `GET /api/v1/whoami`: who the token speaks for, and what they may do here.

use super::Console;
use super::caller::Caller;
use super::problem::Problem;
use super::view::PersonShape;
use axum::Json;
use axum::extract::State;
use countersign_infra::domain::identity::Person;
use countersign_infra::policy::GatewayAction;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The caller.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SelfView {
    #[schema(value_type = PersonShape)]
    pub person: Person,
    /// May read the journal, the recordings and every approval.
    pub may_audit: bool,
    /// The gateway that answers.
    pub gateway: String,
}

/// Says who the token speaks for.
#[utoipa::path(
    get, path = "/api/v1/whoami",
    responses((status = 200, body = SelfView), (status = 401, body = Problem, content_type = "application/problem+json"))
)]
pub async fn show_self(State(console): State<Arc<Console>>, caller: Caller) -> Json<SelfView> {
    Json(SelfView {
        may_audit: console.allows(&caller.0, GatewayAction::Audit),
        gateway: console.gateway.clone(),
        person: caller.0,
    })
}
