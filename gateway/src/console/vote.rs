//! `POST /api/v1/approvals/{id}/votes`: approves or denies.

use super::Console;
use super::caller::{Body, Caller};
use super::list_approvals::may_see;
use super::problem::Problem;
use super::readings::has_read_whole;
use super::texts::{REASON_CHARS_MAX, approval_id, plain};
use super::view::{ApprovalShape, ApprovalView};
use axum::Json;
use axum::extract::{Path, State};
use chrono::{TimeDelta, Utc};
use countersign_infra::approvals::{ChangeError, StoreError};
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::approval::{Approval, Ballot, Change, Choice, Via};
use countersign_infra::domain::audit::Happening;
use countersign_infra::domain::id::ApprovalId;
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
    /// Approves what is alike too, for as long as the rules grant; counts once enough people said so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grants: bool,
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

/// Votes on an approval. Who approves what is longer than its record shows must have read the whole of it first
/// (`GET .../operation`). A vote that does not count is answered 409 with the reason and what stands.
#[utoipa::path(
    post, path = "/api/v1/approvals/{id}/votes", request_body = VoteBody,
    params(("id" = String, Path, description = "The approval's number")),
    responses(
        (status = 200, description = "The vote counts", body = ApprovalShape),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The vote does not count", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn vote(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(vote): Body<VoteBody>,
) -> Result<Json<ApprovalView>, Problem> {
    let voting = Voting {
        choice: vote.choice.into(),
        reason: vote.reason,
        via: vote.via.into(),
        evidence: None,
        grants: vote.grants,
        proved: None,
    };
    voting.cast(console, caller, &id).await.map(Json)
}

/// A vote on its way.
pub(super) struct Voting {
    pub choice: Choice,
    pub reason: Option<String>,
    pub via: Via,
    /// What proves it where it was clicked in a chat.
    pub evidence: Option<String>,
    /// Approves what is alike too.
    pub grants: bool,
    /// When the voter last proved who they are, where that is known.
    pub proved: Option<Timestamp>,
}

/// A sign-in counts as fresh for so long.
pub(super) const FRESH_FOR: TimeDelta = TimeDelta::minutes(5);

impl Voting {
    /// Casts it for the caller. Accepted or not, it is journaled.
    pub async fn cast(self, console: Arc<Console>, caller: Caller, id: &str) -> Result<ApprovalView, Problem> {
        let reason = self.reason.filter(|reason| !reason.trim().is_empty());
        plain("reason", reason.as_deref().unwrap_or_default(), REASON_CHARS_MAX)?;
        let approval = seen_or_noted(&console, &caller, id, self.choice).await?;
        if self.choice == Choice::Approve {
            must_have_read(&console, &caller, &approval, reason.as_deref()).await?;
            must_be_fresh(&console, &caller, &approval, self.proved).await?;
        }
        let ballot = Ballot {
            voter: caller.0.clone(),
            choice: self.choice,
            reason,
            via: self.via,
            evidence: self.evidence,
            grants: self.grants,
        };
        let decision = Decision {
            approval: approval.id,
            word: ballot.choice.as_str(),
            reason: ballot.reason.clone(),
            change: Change::Vote(ballot),
        };
        decision.make(console, caller).await
    }
}

/// Reads the approval. Who votes on one that is not theirs to see is told that there is none, and noted.
async fn seen_or_noted(console: &Console, caller: &Caller, id: &str, choice: Choice) -> Result<Approval, Problem> {
    let approval = console.approvals.read(&approval_id(id)?).await?;
    if may_see(console, caller, &approval) {
        return Ok(approval);
    }
    let decided = Happening::Decided {
        approval: approval.id.clone(),
        choice: choice.as_str().to_owned(),
        reason: None,
        accepted: false,
        why: Some("they may not see it".to_owned()),
    };
    console
        .journal
        .note(&caller.0, decided)
        .await
        .map_err(Problem::unavailable)?;
    Err(StoreError::NotFound(approval.id).into())
}

/// Refuses, and notes, an approval by somebody who could vote and has seen only the head of the operation.
async fn must_have_read(
    console: &Console,
    caller: &Caller,
    approval: &Approval,
    reason: Option<&str>,
) -> Result<(), Problem> {
    if approval.may_vote(&caller.0).is_err() || has_read_whole(console, caller, approval).await? {
        return Ok(());
    }
    let (id, operation) = (&approval.id, &approval.operation);
    let why = format!(
        "the operation is longer than what is shown of it ({} of {} bytes): read the whole of it before you approve, \
         on the page /approvals/{id}, with `countersign approvals show {id} --whole` or GET \
         /api/v1/approvals/{id}/operation",
        operation.display.len(),
        operation.display_bytes,
    );
    let decided = Happening::Decided {
        approval: id.clone(),
        choice: Choice::Approve.as_str().to_owned(),
        reason: reason.map(str::to_owned),
        accepted: false,
        why: Some("they have not read the whole of it".to_owned()),
    };
    let noted = console.journal.note(&caller.0, decided).await;
    noted.map_err(Problem::unavailable)?;
    let stands = ApprovalView::new(approval.clone(), &caller.0, Utc::now());
    Err(Problem::refused(why, Some(stands)))
}

/// Whether a rule that holds it asks for a fresher sign-in than that.
pub(super) fn wants_fresh_sign_in(console: &Console, approval: &Approval, proved: Option<Timestamp>) -> bool {
    let rules = &console.pages.step_up_rules;
    let asks = !rules.is_empty() && console.policy.current().steps_up(rules, approval);
    asks && proved.is_none_or(|proved| Utc::now() - proved > FRESH_FOR)
}

/// Refuses, and notes, an approval that a rule wants right after a sign-in. Of a bearer token nobody knows when its person
/// signed in.
async fn must_be_fresh(
    console: &Console,
    caller: &Caller,
    approval: &Approval,
    proved: Option<Timestamp>,
) -> Result<(), Problem> {
    if !wants_fresh_sign_in(console, approval, proved) || approval.may_vote(&caller.0).is_err() {
        return Ok(());
    }
    let why = "the rule that holds it asks for a fresh sign-in: sign in anew on its page, and approve it there within 5 \
               minutes";
    let decided = Happening::Decided {
        approval: approval.id.clone(),
        choice: Choice::Approve.as_str().to_owned(),
        reason: None,
        accepted: false,
        why: Some("their sign-in is not fresh".to_owned()),
    };
    let noted = console.journal.note(&caller.0, decided).await;
    noted.map_err(Problem::unavailable)?;
    let stands = ApprovalView::new(approval.clone(), &caller.0, Utc::now());
    Err(Problem::refused(why, Some(stands)))
}

/// Something that a caller decides about an approval.
pub(super) struct Decision {
    pub approval: ApprovalId,
    /// As the journal writes it.
    pub word: &'static str,
    pub reason: Option<String>,
    pub change: Change,
}

impl Decision {
    /// Makes the change and journals it, accepted or not. Both happen even when the caller hangs up midway.
    pub async fn make(self, console: Arc<Console>, caller: Caller) -> Result<ApprovalView, Problem> {
        let tasks = console.tasks.clone();
        let task = tasks.spawn(async move { self.change_and_note(&console, &caller).await });
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a decision was not finished");
            Err(Problem::unavailable(
                "the decision was not finished: look at the approval before you try again",
            ))
        })
    }

    async fn change_and_note(self, console: &Console, caller: &Caller) -> Result<ApprovalView, Problem> {
        // The time of a decision stands in a record that other machines judge.
        console.clock.check().await.map_err(Problem::from)?;
        let now = Utc::now();
        let decided = |why: Option<String>| Happening::Decided {
            approval: self.approval.clone(),
            choice: self.word.to_owned(),
            reason: self.reason.clone(),
            accepted: why.is_none(),
            why,
        };
        let journal = &console.journal;
        let result = journal
            .decide(&caller.0, decided(None), &self.approval, self.change, now)
            .await;
        let view = |approval| ApprovalView::new(approval, &caller.0, now);
        match result {
            Ok(approval) => Ok(view(approval)),
            Err(ChangeError::Rejected(why)) => {
                let noted = journal.note(&caller.0, decided(Some(why.to_string()))).await;
                noted.map_err(Problem::unavailable)?;
                let stands = console.approvals.read(&self.approval).await.ok().map(view);
                Err(Problem::refused(why, stands))
            }
            Err(ChangeError::Store(StoreError::Conflict { current })) => Err(Problem::refused(
                "the approval changed in the meantime: look at it again",
                Some(view(*current)),
            )),
            Err(ChangeError::Store(error)) => Err(error.into()),
        }
    }
}

impl From<ChoiceWord> for Choice {
    fn from(word: ChoiceWord) -> Self {
        match word {
            ChoiceWord::Approve => Self::Approve,
            ChoiceWord::Deny => Self::Deny,
        }
    }
}

impl From<ViaWord> for Via {
    fn from(word: ViaWord) -> Self {
        match word {
            ViaWord::Cli => Self::Cli,
            ViaWord::Console => Self::Console,
        }
    }
}
