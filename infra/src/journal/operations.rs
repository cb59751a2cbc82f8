//! Operations: what was asked, and what became of it. The same answers from every journal, because they are made of
//! its searches alone.

use super::{Journal, JournalError, JournalQuery, Moment, NoMoment, PAGE_BYTES_MAX};
use crate::approvals::limit;
use crate::domain::Timestamp;
use crate::domain::access_request::Place;
use crate::domain::approval::Outcome;
use crate::domain::audit::VerdictWord;
use crate::domain::effect::Effects;
use crate::domain::id::{ApprovalId, Digest, SessionId};
use crate::domain::identity::PersonKey;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

mod ending;
mod find;
#[cfg(test)]
mod tests;
mod trail;

/// Operations that one call looks at: when fewer of them answer, the page is short and says where it goes on.
pub const CANDIDATES_MAX: usize = 1000;

/// How many later events of its session say what became of an operation. One that goes on for longer is shown as it
/// stood there.
pub const LOOK_AHEAD_MAX: u64 = 5000;

/// Where an operation stands, as far as the journal tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// Allowed, and no answer has come yet.
    Allowed,
    /// Held: people have not decided.
    Pending,
    /// Approved and sent: no answer has come yet.
    Executing,
    /// The server said that it is done.
    Done,
    /// The server said an error, or skipped it after one.
    Failed,
    /// The policy or a person said no.
    Denied,
    Expired,
    Withdrawn,
    /// Held, and given up by its gateway before anything was sent.
    Abandoned,
    /// Approved, then taken back before it ran.
    Revoked,
    /// Sent, outcome not known.
    Unknown,
    /// Refused for another reason (a bound, an unready store, a broken transaction).
    Refused,
}

impl OperationState {
    pub const ALL: [Self; 12] = [
        Self::Allowed,
        Self::Pending,
        Self::Executing,
        Self::Done,
        Self::Failed,
        Self::Denied,
        Self::Expired,
        Self::Withdrawn,
        Self::Abandoned,
        Self::Revoked,
        Self::Unknown,
        Self::Refused,
    ];

    /// The state's name, as programs and people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Pending => "pending",
            Self::Executing => "executing",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
            Self::Abandoned => "abandoned",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for OperationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The word is no state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no state {word:?}, but {}", OperationState::ALL.map(OperationState::as_str).join(", "))]
pub struct InvalidState {
    word: String,
}

impl FromStr for OperationState {
    type Err = InvalidState;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|state| state.as_str() == word);
        known.ok_or_else(|| InvalidState { word: word.to_owned() })
    }
}

/// Which operations to find, newest first. Every field narrows; those that [`JournalQuery`] has too mean the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationQuery {
    pub who: Option<String>,
    pub target: Option<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Any of them; all when empty.
    pub states: BTreeSet<OperationState>,
    /// A text in what is shown of the operation (its head), in any case.
    pub text: Option<String>,
    pub approval: Option<String>,
    pub session: Option<SessionId>,
    pub limit: usize,
    /// Continue after this place (`OperationPage::next`).
    pub after: Option<String>,
}

/// An operation, as the journal tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedOperation {
    pub session: SessionId,
    /// The number of the event by which it was asked.
    pub seq: u64,
    pub at: Timestamp,
    pub gateway: String,
    pub person: Option<PersonKey>,
    pub person_name: Option<String>,
    pub target: Option<String>,
    pub operation: Digest,
    /// The head of the display text.
    pub display: String,
    pub display_bytes: u64,
    pub effects: Effects,
    pub place: Place,
    pub in_transaction: bool,
    #[serde(flatten)]
    pub ending: Ending,
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    pub state: OperationState,
    /// When it ended; none while it goes on, and where the journal tells of no end.
    pub ended: Option<Timestamp>,
    /// None where the journal ends before the policy's answer.
    pub verdict: Option<VerdictWord>,
    /// The rules behind the verdict.
    pub rules: Vec<String>,
    pub reasons: Vec<String>,
    pub approval: Option<ApprovalId>,
    /// Until when people may decide.
    pub deadline: Option<Timestamp>,
    /// Names of those who approved it, or of who denied it.
    pub decided_by: Vec<String>,
    /// What the client was told when it was refused.
    pub message: Option<String>,
    /// What the server said.
    pub outcome: Option<Outcome>,
    /// Size of the answer.
    pub bytes: Option<u64>,
}

impl AuditedOperation {
    /// Its place among all events.
    pub fn moment(&self) -> Result<Moment, NoMoment> {
        Moment::at(self.at, self.session, self.seq)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationPage {
    pub operations: Vec<AuditedOperation>,
    /// Where the next page starts; none when this is the last.
    pub next: Option<String>,
}

/// What can be asked of every journal.
#[async_trait]
pub trait JournalExt: Journal {
    /// Finds operations for readers, newest first, and tells what became of each.
    ///
    /// A page may hold fewer than `limit`, or none, though more follow: only `OperationPage::next` says that. One call
    /// looks at [`CANDIDATES_MAX`] operations at most, and at some ten thousand events beside them.
    async fn operations(&self, query: &OperationQuery) -> Result<OperationPage, JournalError> {
        find::find(self, query).await
    }
}

impl<J: Journal + ?Sized> JournalExt for J {}

impl OperationQuery {
    /// The question for the events by which operations were asked.
    fn asked(&self) -> JournalQuery {
        JournalQuery {
            who: self.who.clone(),
            target: self.target.clone(),
            since: self.since,
            until: self.until,
            events: vec!["asked".to_owned()],
            text: self.text.clone(),
            approval: None,
            session: self.session,
            limit: self.step(),
            after: self.after.clone(),
        }
    }

    /// Candidates of one search: one more than are wanted where all of them answer.
    fn step(&self) -> usize {
        match self.states.is_empty() {
            true => self.limit().saturating_add(1),
            false => 200,
        }
    }

    fn limit(&self) -> usize {
        limit(self.limit)
    }

    fn wants(&self, operation: &AuditedOperation) -> bool {
        self.states.is_empty() || self.states.contains(&operation.ending.state)
    }
}
