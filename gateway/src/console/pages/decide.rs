//! `POST /approvals/{id}/decide` and `/revoke`: the forms of the review page.

use super::super::Console;
use super::super::revoke_grant;
use super::super::vote::Voting;
use super::session::{NotShown, Sent};
use super::sign_out::Nothing;
use axum::extract::{Path, State};
use axum::response::Redirect;
use countersign_infra::domain::approval::{Choice, Via};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Debug, Deserialize)]
pub struct Vote {
    choice: Word,
    #[serde(default)]
    reason: String,
}

/// What a button says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Approve,
    /// Approves this and what is alike.
    Grant,
    Deny,
}

/// Casts the vote as the API does, and shows what stands.
pub async fn decide(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    sent: Sent<Vote>,
) -> Result<Redirect, NotShown> {
    let (choice, grants) = match sent.fields.choice {
        Word::Approve => (Choice::Approve, false),
        Word::Grant => (Choice::Approve, true),
        Word::Deny => (Choice::Deny, false),
    };
    let voting = Voting {
        choice,
        reason: Some(sent.fields.reason),
        via: Via::Console,
        evidence: None,
        grants,
        proved: sent.visitor.authenticated(),
    };
    let view = voting.cast(console, sent.visitor.caller, &id).await?;
    Ok(Redirect::to(&format!("/approvals/{}", view.approval.id)))
}

/// Takes back what was approved together with it, as the API does.
pub async fn revoke(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    sent: Sent<Nothing>,
) -> Result<Redirect, NotShown> {
    let grant = revoke_grant::revoke(console, sent.visitor.caller, &id, String::new()).await?;
    Ok(Redirect::to(&format!("/approvals/{}", grant.approval)))
}
