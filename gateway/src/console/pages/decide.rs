//! `POST /approvals/{id}/decide`: the vote of the review page.

use super::super::Console;
use super::super::vote::Voting;
use super::session::{NotShown, Sent};
use axum::extract::{Path, State};
use axum::response::Redirect;
use countersign_infra::domain::approval::{Choice, Via};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Debug, Deserialize)]
pub struct Vote {
    choice: Choice,
    #[serde(default)]
    reason: String,
}

/// Casts the vote as the API does, and shows what stands.
pub async fn decide(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    sent: Sent<Vote>,
) -> Result<Redirect, NotShown> {
    let voting = Voting {
        choice: sent.fields.choice,
        reason: Some(sent.fields.reason),
        via: Via::Console,
        evidence: None,
        grants: false,
    };
    let view = voting.cast(console, sent.visitor.caller, &id).await?;
    Ok(Redirect::to(&format!("/approvals/{}", view.approval.id)))
}
