//! The approval: the stored record of one held operation, and its state machine.
//!
//! ```text
//! pending   -> approved | denied | expired | withdrawn | revoked | abandoned
//! approved  -> executing(holder, epoch) -> done(outcome) | unknown
//! approved  -> denied | expired | withdrawn | revoked | abandoned          (before executing)
//! ```
//!
//! Every change makes the next version of the record from the version that was read, and a store accepts it only
//! in place of that version: the first end wins, and the loser is told who won.
//!
//! The deadline binds votes: the last one that counts comes [`VOTE_MARGIN`] before it. What was approved in time
//! is executed by its holder at once, at the latest [`EXECUTE_MARGIN`] after the deadline; from then on the holder
//! may only expire it. The two windows do not overlap, so a late holder cannot choose.

use super::Timestamp;
use super::access_request::{Client, Place, Protocol};
use super::effect::Effects;
use super::id::{ApprovalId, Digest, SessionId};
use super::identity::Person;
use serde::{Deserialize, Serialize};
use std::time::Duration;

mod change;
mod rejected;
mod verify;
mod vote;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use change::{Change, NewApproval};
pub use rejected::{Invalid, Rejected};
pub use verify::Decision;

/// What was approved before the deadline may still be sent for so long after it.
pub const EXECUTE_MARGIN: Duration = Duration::from_secs(10);

/// A lease is taken for lost this long after its end: clocks differ by that much.
pub const LEASE_MARGIN: Duration = Duration::from_secs(2);

/// Votes one record may hold.
pub const VOTES_MAX: usize = 64;

/// Longest reason of a vote, in bytes.
pub const REASON_BYTES_MAX: usize = 4000;

/// Longest evidence of a vote, in bytes.
pub const EVIDENCE_BYTES_MAX: usize = 4000;

/// Largest record, in bytes as JSON: every store takes it (an item of DynamoDB has at most 400 KB).
pub const RECORD_BYTES_MAX: usize = 380 << 10;

/// Largest record before anybody voted.
pub const OPENED_BYTES_MAX: usize = 128 << 10;

/// What stays free for the end of a record, however much is approved: a denial holds its reason twice, and all groups that
/// the token of its voter names (a request's head has at most 64 KB).
pub const END_BYTES: usize = 170 << 10;

/// Longest reason of an end and longest summary of an outcome, in bytes: what is longer is cut.
pub const END_TEXT_BYTES_MAX: usize = 4000;

/// Votes that arrive in the last two seconds before the deadline are refused: clocks differ by that much.
pub const VOTE_MARGIN: Duration = Duration::from_secs(2);

/// One rule's demand: so many distinct people of any of these groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clause {
    /// The `@id` of the policy rule that asks for it.
    pub rule: String,
    pub approvers: Vec<String>,
    pub quorum: u32,
}

/// What must come true before the operation runs. Written once, when the approval is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// All of them bind.
    pub clauses: Vec<Clause>,
    /// How long the approval waits for votes.
    pub expires_seconds: u64,
    /// Whether, and for how long, an approver may grant what is alike. Only if each rule grants.
    pub grant_seconds: Option<u64>,
    /// At least one vote must come from the console or the command line.
    pub critical: bool,
    /// The reasons that the rules give (`@reason`).
    pub reasons: Vec<String>,
}

/// Where a vote was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    Console,
    Cli,
    Slack,
    Discord,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    Approve,
    Deny,
}

/// What a person says about an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    pub voter: Person,
    pub choice: Choice,
    pub reason: Option<String>,
    pub via: Via,
    /// What proves the vote where it came through a chat (platform, team, user, payload hash, signature time).
    pub evidence: Option<String>,
    /// Approves what is alike too, for as long as the terms grant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grants: bool,
}

/// A ballot as it stands in the record, chained to the vote before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    #[serde(flatten)]
    pub ballot: Ballot,
    pub at: Timestamp,
    /// Hash of the vote before; of the approval's id and digest for the first.
    pub previous: Digest,
    pub hash: Digest,
}

/// The gateway that holds the operation's connection, and until when it promises to be alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub gateway: String,
    /// Random: a gateway that restarts is another holder.
    pub epoch: u64,
    pub until: Timestamp,
}

/// How an executed operation ended, as the server said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub ok: bool,
    /// Command tags (`DELETE 1`), or the server's error code and message.
    pub summary: String,
    pub rows: Option<u64>,
    pub duration_ms: u64,
}

/// How the summary of an outcome begins that nobody knows.
const NOT_KNOWN: &str = "outcome not known";

impl Outcome {
    /// The outcome of what was sent and not answered.
    pub fn not_known(why: &str, duration_ms: u64) -> Self {
        Self {
            ok: false,
            summary: format!("{NOT_KNOWN}: {why}"),
            rows: None,
            duration_ms,
        }
    }

    /// Whether the server said how it ended.
    pub fn is_known(&self) -> bool {
        self.ok || !self.summary.starts_with(NOT_KNOWN)
    }
}

/// Where the approval stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    Pending,
    Approved {
        at: Timestamp,
    },
    Denied {
        at: Timestamp,
        by: Person,
        reason: Option<String>,
    },
    Expired {
        at: Timestamp,
    },
    /// The requester (or their client) gave up.
    Withdrawn {
        at: Timestamp,
        why: String,
    },
    /// The holder died, or lost its upstream, before anything was sent.
    Abandoned {
        at: Timestamp,
        why: String,
    },
    /// Approved, then taken back before it ran (policy or groups changed).
    Revoked {
        at: Timestamp,
        why: String,
    },
    /// Stated before the first byte leaves.
    Executing {
        at: Timestamp,
    },
    Done {
        at: Timestamp,
        outcome: Outcome,
    },
    /// Sent, outcome not known. Never run again.
    Unknown {
        at: Timestamp,
        why: String,
    },
}

impl State {
    /// The state's name, as stores and programs write it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved { .. } => "approved",
            Self::Denied { .. } => "denied",
            Self::Expired { .. } => "expired",
            Self::Withdrawn { .. } => "withdrawn",
            Self::Abandoned { .. } => "abandoned",
            Self::Revoked { .. } => "revoked",
            Self::Executing { .. } => "executing",
            Self::Done { .. } => "done",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// When it came to its end; none before.
    pub fn ended(&self) -> Option<Timestamp> {
        match self {
            Self::Pending | Self::Approved { .. } | Self::Executing { .. } => None,
            Self::Denied { at, .. }
            | Self::Expired { at }
            | Self::Withdrawn { at, .. }
            | Self::Abandoned { at, .. }
            | Self::Revoked { at, .. }
            | Self::Done { at, .. }
            | Self::Unknown { at, .. } => Some(*at),
        }
    }

    /// Whether no change can follow.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Pending | Self::Approved { .. } | Self::Executing { .. } => false,
            Self::Denied { .. }
            | Self::Expired { .. }
            | Self::Withdrawn { .. }
            | Self::Abandoned { .. }
            | Self::Revoked { .. }
            | Self::Done { .. }
            | Self::Unknown { .. } => true,
        }
    }
}

/// The part of a held operation that the record keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldOperation {
    pub protocol: Protocol,
    pub digest: Digest,
    /// Display text: masked and escaped. Never the bytes that run. Only its [head](crate::domain::display::head).
    pub display: String,
    /// Size of the whole display text in bytes: more than `display` has when that is only the head.
    pub display_bytes: u64,
    /// Size of the exact operation in bytes.
    pub size_bytes: u64,
    pub effects: Effects,
    pub has_where: bool,
    pub unseen_data: bool,
    pub in_transaction: bool,
}

/// The stored record of one held operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub id: ApprovalId,
    /// Counts the changes of the record. Every change is conditional on it.
    pub version: u64,
    #[serde(flatten)]
    pub state: State,
    pub requester: Person,
    pub client: Client,
    pub session: SessionId,
    pub place: Place,
    pub operation: HeldOperation,
    pub terms: Terms,
    pub created: Timestamp,
    pub deadline: Timestamp,
    pub votes: Vec<Vote>,
    pub lease: Lease,
}

impl Approval {
    /// Its size in a store, in bytes.
    fn size_bytes(&self) -> usize {
        serde_json::to_vec(self).map_or(usize::MAX, |record| record.len())
    }
}
