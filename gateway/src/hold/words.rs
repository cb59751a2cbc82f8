//! What the journal and the client are told of holds.

use crate::gate::refused;
use crate::journal::Undone;
use crate::refusal::{Cause, Refusal};
use countersign_infra::approvals::{ChangeError, StoreError};
use countersign_infra::domain::approval::{Approval, Decision, State};
use countersign_infra::domain::audit::Happening;
use countersign_infra::domain::id::{ApprovalId, Digest};

pub(super) fn undone(error: StoreError) -> Undone<StoreError> {
    match error {
        StoreError::Unavailable { .. } => Undone::NotKnown(error),
        StoreError::NotFound(_)
        | StoreError::Conflict { .. }
        | StoreError::Taken { .. }
        | StoreError::Damaged { .. } => Undone::NotWritten(error),
    }
}

pub(super) fn undone_change(error: ChangeError) -> Undone<ChangeError> {
    match error {
        ChangeError::Store(StoreError::Unavailable { .. }) => Undone::NotKnown(error),
        ChangeError::Store(_) | ChangeError::Rejected(_) => Undone::NotWritten(error),
    }
}

pub(super) fn held(record: &Approval) -> Happening {
    Happening::Held {
        operation: record.operation.digest,
        approval: record.id.clone(),
        terms: record.terms.clone(),
        deadline: record.deadline,
    }
}

pub(super) fn executing(operation: Digest, approval: &ApprovalId, decision: &Decision) -> Happening {
    let approvers = decision.approvers.iter().map(|person| person.name.clone()).collect();
    Happening::Executing {
        operation,
        approval: approval.clone(),
        votes: decision.votes_head,
        approvers,
    }
}

/// What the journal is told of an approval whose holder is gone.
pub(super) fn gone(record: &Approval) -> Happening {
    let message = if matches!(record.state, State::Unknown { .. }) {
        "sent, outcome not known: the gateway that held it is gone"
    } else {
        "nothing was sent: the gateway that held it is gone"
    };
    Happening::Refused {
        operation: Some(record.operation.digest),
        approval: Some(record.id.clone()),
        code: record.state.as_str().to_owned(),
        message: message.to_owned(),
    }
}

/// What the journal is told of an end that is on the record: none while it has none.
pub fn told_end(record: &Approval) -> Option<Happening> {
    let operation = record.operation.digest;
    match &record.state {
        State::Pending | State::Approved { .. } | State::Executing { .. } => None,
        State::Denied { .. }
        | State::Expired { .. }
        | State::Withdrawn { .. }
        | State::Abandoned { .. }
        | State::Revoked { .. } => Some(refused(Some(operation), &refusal(record))),
        State::Done { outcome, .. } => Some(Happening::Answered {
            operation,
            outcome: outcome.clone(),
            bytes: 0,
        }),
        State::Unknown { .. } => Some(gone(record)),
    }
}

pub(super) fn untrusted(id: &ApprovalId) -> Refusal {
    Refusal::new(
        Cause::Denied,
        "countersign: the approval's record does not pass the gateway's own check; nothing was run",
    )
    .hint("Tell the operator of the gateway: the record may have been changed by somebody else.")
    .approval(id)
}

/// Words the end of an approval that will not run.
pub(super) fn refusal(record: &Approval) -> Refusal {
    let nothing = "Nothing reached the server.";
    let refusal = match &record.state {
        State::Denied { by, reason, .. } => {
            let why = reason
                .as_deref()
                .map_or_else(String::new, |reason| format!(": {reason}"));
            Refusal::new(Cause::Denied, format!("countersign: denied by {}{why}", by.name)).hint(nothing)
        }
        State::Expired { .. } => Refusal::new(
            Cause::Expired,
            format!("countersign: nobody decided within {} s", record.terms.expires_seconds),
        )
        .hint(format!("{nothing} Ask an approver to be there, and run it again.")),
        State::Withdrawn { why, .. } => {
            Refusal::new(Cause::Withdrawn, format!("countersign: withdrawn: {why}")).hint(nothing)
        }
        State::Abandoned { why, .. } => {
            Refusal::new(Cause::Unready, format!("countersign: abandoned: {why}")).hint(nothing)
        }
        State::Revoked { why, .. } => Refusal::new(Cause::Revoked, format!("countersign: revoked: {why}"))
            .hint(format!("{nothing} Run it again.")),
        State::Executing { .. } | State::Done { .. } | State::Unknown { .. } => {
            Refusal::new(Cause::Denied, "countersign: this approval has been used already")
        }
        State::Pending | State::Approved { .. } => Refusal::new(
            Cause::Denied,
            format!("countersign: not decided: {}", record.quorum_state()),
        ),
    };
    refusal.approval(&record.id)
}
