//! What became of an operation, told from the events of its session. Pure.
//!
//! Operations of one digest may follow each other before the first is answered (a client that does not wait): then
//! answers come in the order of asking. So those before it are told along, and each answer goes to the oldest that
//! waits for one.

use super::{Ending, OperationState};
use crate::domain::Timestamp;
use crate::domain::approval::Outcome;
use crate::domain::audit::{Event, Happening, VerdictWord};
use crate::domain::id::{ApprovalId, Digest};

/// How the words begin by which a person's denial is told.
const DENIED_BY: &str = "countersign: denied by ";

/// What an event says about operations. None of their texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub seq: u64,
    pub at: Timestamp,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Asked(Digest),
    Judged(Digest, VerdictWord, Vec<String>, Vec<String>),
    Held(Digest, ApprovalId, Timestamp),
    Executing(Digest, ApprovalId, Vec<String>),
    Answered(Digest, Outcome, u64),
    Refused {
        operation: Option<Digest>,
        approval: Option<ApprovalId>,
        code: String,
        message: String,
    },
    Closed,
}

impl Step {
    /// None for an event that says nothing about operations.
    pub fn of(event: Event) -> Option<Self> {
        let what = match event.what {
            Happening::Asked { operation, .. } => What::Asked(operation),
            Happening::Verdict {
                operation,
                verdict,
                rules,
                reasons,
            } => What::Judged(operation, verdict, rules, reasons),
            Happening::Held {
                operation,
                approval,
                deadline,
                ..
            } => What::Held(operation, approval, deadline),
            Happening::Executing {
                operation,
                approval,
                approvers,
                ..
            } => What::Executing(operation, approval, approvers),
            Happening::Answered {
                operation,
                outcome,
                bytes,
            } => What::Answered(operation, outcome, bytes),
            Happening::Refused {
                operation,
                approval,
                code,
                message,
            } => What::Refused {
                operation,
                approval,
                code,
                message,
            },
            Happening::SessionClosed { .. } => What::Closed,
            Happening::SessionOpened { .. }
            | Happening::GatewaySent { .. }
            | Happening::CopyReceived { .. }
            | Happening::RecordingAnchor { .. }
            | Happening::AuditQueried { .. }
            | Happening::Decided { .. }
            | Happening::ChatLinked { .. }
            | Happening::DigestSigned { .. }
            | Happening::SignInRefused { .. } => return None,
        };
        let (seq, at) = (event.seq, event.at);
        Some(Self { seq, at, what })
    }
}

/// The operations of one digest in a part of a session, one of which is looked at.
#[derive(Debug)]
pub(super) struct Telling {
    digest: Digest,
    tales: Vec<Tale>,
    own: Option<usize>,
}

/// What is known of one operation so far.
#[derive(Debug, Default)]
struct Tale {
    verdict: Option<(VerdictWord, Vec<String>, Vec<String>)>,
    held: Option<(ApprovalId, Timestamp)>,
    /// Who approved it, once it executes.
    executing: Option<Vec<String>>,
    end: Option<(Timestamp, End)>,
    /// The session was closed before its end was told.
    closed: Option<Timestamp>,
}

#[derive(Debug)]
enum End {
    Answered(Outcome, u64),
    Refused { code: String, message: String },
}

impl Telling {
    pub fn new(digest: Digest) -> Self {
        Self {
            digest,
            tales: Vec::new(),
            own: None,
        }
    }

    /// The operation that is looked at is asked: what was added before came before it.
    pub fn begin(&mut self) {
        self.own = Some(self.tales.len());
        self.tales.push(Tale::default());
    }

    /// Whether its end has been told. What follows changes nothing.
    pub fn is_ended(&self) -> bool {
        self.own().is_some_and(|tale| tale.end.is_some())
    }

    /// Adds the next event of the session.
    pub fn add(&mut self, step: &Step) {
        match &step.what {
            What::Asked(digest) if *digest == self.digest => self.tales.push(Tale::default()),
            What::Judged(digest, verdict, rules, reasons) if *digest == self.digest => {
                if let Some(tale) = self.newest(|tale| tale.verdict.is_none()) {
                    tale.verdict = Some((*verdict, rules.clone(), reasons.clone()));
                }
            }
            What::Held(digest, approval, deadline) if *digest == self.digest => {
                if let Some(tale) = self.newest(|tale| tale.held.is_none()) {
                    tale.held = Some((approval.clone(), *deadline));
                }
            }
            What::Executing(digest, approval, approvers) if *digest == self.digest => {
                if let Some(tale) = self.newest(|tale| tale.is_held_as(approval)) {
                    tale.executing = Some(approvers.clone());
                }
            }
            What::Answered(digest, outcome, bytes) if *digest == self.digest => {
                let answers = |tale: &&mut Tale| tale.end.is_none() && tale.was_sent();
                if let Some(tale) = self.tales.iter_mut().find(answers) {
                    tale.end = Some((step.at, End::Answered(outcome.clone(), *bytes)));
                }
            }
            What::Refused {
                operation,
                approval,
                code,
                message,
            } => {
                if let Some(tale) = self.refused(*operation, approval.as_ref()) {
                    let (code, message) = (code.clone(), message.clone());
                    tale.end = Some((step.at, End::Refused { code, message }));
                }
            }
            What::Closed => {
                for tale in &mut self.tales {
                    tale.closed.get_or_insert(step.at);
                }
            }
            What::Asked(_) | What::Judged(..) | What::Held(..) | What::Executing(..) | What::Answered(..) => {}
        }
    }

    /// Which operation a refusal speaks of: the one of its approval, or else the newest of its digest.
    fn refused(&mut self, operation: Option<Digest>, approval: Option<&ApprovalId>) -> Option<&mut Tale> {
        if let Some(approval) = approval
            && self.tales.iter().any(|tale| tale.is_held_as(approval))
        {
            return self.newest(|tale| tale.end.is_none() && tale.is_held_as(approval));
        }
        if operation != Some(self.digest) {
            return None;
        }
        // An approval that is not among them is none of theirs.
        self.newest(|tale| tale.end.is_none() && (approval.is_none() || tale.held.is_none()))
    }

    fn newest(&mut self, is: impl Fn(&Tale) -> bool) -> Option<&mut Tale> {
        self.tales.iter_mut().rev().find(|tale| is(tale))
    }

    fn own(&self) -> Option<&Tale> {
        self.own.and_then(|own| self.tales.get(own))
    }

    /// What became of the operation that is looked at, as far as it was told.
    pub fn ending(&self) -> Ending {
        self.own().map_or_else(|| Tale::default().ending(), Tale::ending)
    }
}

impl Tale {
    fn is_held_as(&self, approval: &ApprovalId) -> bool {
        self.held.as_ref().is_some_and(|(id, _)| id == approval)
    }

    fn was_sent(&self) -> bool {
        match &self.verdict {
            Some((VerdictWord::Allow, ..)) => true,
            Some((VerdictWord::Hold, ..)) => self.executing.is_some(),
            Some((VerdictWord::Deny, ..)) | None => false,
        }
    }

    fn ending(&self) -> Ending {
        let (verdict, rules, reasons) = match &self.verdict {
            Some((verdict, rules, reasons)) => (Some(*verdict), rules.clone(), reasons.clone()),
            None => (None, Vec::new(), Vec::new()),
        };
        let (approval, deadline) = self.held.clone().unzip();
        let ended = self.end.as_ref().map(|(at, _)| *at);
        let (message, outcome, bytes) = match self.end.as_ref().map(|(_, end)| end) {
            Some(End::Answered(outcome, bytes)) => (None, Some(outcome.clone()), Some(*bytes)),
            Some(End::Refused { message, .. }) => (Some(message.clone()), None, None),
            None => (None, None, None),
        };
        Ending {
            state: self.state(),
            ended: ended.or(self.closed),
            verdict,
            rules,
            reasons,
            approval,
            deadline,
            decided_by: self.decided_by(),
            message,
            outcome,
            bytes,
        }
    }

    fn state(&self) -> OperationState {
        match self.end.as_ref().map(|(_, end)| end) {
            Some(End::Answered(outcome, _)) if !outcome.is_known() => OperationState::Unknown,
            Some(End::Answered(outcome, _)) if outcome.ok => OperationState::Done,
            Some(End::Answered(..)) => OperationState::Failed,
            Some(End::Refused { code, .. }) => self.refused_state(code),
            None => self.unended_state(),
        }
    }

    /// The codes are those of the gateway's refusals, and the names of the states of approvals.
    fn refused_state(&self, code: &str) -> OperationState {
        match code {
            "denied" => OperationState::Denied,
            "expired" => OperationState::Expired,
            "withdrawn" => OperationState::Withdrawn,
            "revoked" => OperationState::Revoked,
            "abandoned" => OperationState::Abandoned,
            "unknown" => OperationState::Unknown,
            // What was held and could be held no longer was given up. It may be that it was sent.
            _ if self.executing.is_some() => OperationState::Unknown,
            _ if self.held.is_some() => OperationState::Abandoned,
            _ => OperationState::Refused,
        }
    }

    fn unended_state(&self) -> OperationState {
        match (&self.verdict, self.closed) {
            // What was sent, or may have been, and was not answered before the end.
            (Some((VerdictWord::Allow, ..)), Some(_)) => OperationState::Unknown,
            (Some((VerdictWord::Hold, ..)), Some(_)) if self.executing.is_some() => OperationState::Unknown,
            (Some((VerdictWord::Hold, ..)), Some(_)) => OperationState::Abandoned,
            (Some((VerdictWord::Allow, ..)), None) => OperationState::Allowed,
            (Some((VerdictWord::Hold, ..)), None) if self.executing.is_some() => OperationState::Executing,
            (Some((VerdictWord::Hold, ..)), None) => OperationState::Pending,
            (Some((VerdictWord::Deny, ..)), _) => OperationState::Denied,
            // Without a verdict nothing is sent.
            (None, _) => OperationState::Refused,
        }
    }

    fn decided_by(&self) -> Vec<String> {
        if let Some(approvers) = &self.executing {
            return approvers.clone();
        }
        let denied = match (&self.held, self.end.as_ref().map(|(_, end)| end)) {
            (Some(_), Some(End::Refused { code, message })) if code == "denied" => message.strip_prefix(DENIED_BY),
            (Some(_) | None, _) => None,
        };
        let name = denied.map(|said| said.split_once(": ").map_or(said, |(name, _)| name));
        name.map(str::to_owned).into_iter().collect()
    }
}
