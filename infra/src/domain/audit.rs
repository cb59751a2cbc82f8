//! Journal events: what happened, chained per session so that a change or a gap shows.

use super::Timestamp;
use super::access_request::Place;
use super::approval::{Outcome, Terms};
use super::effect::Effects;
use super::id::{ApprovalId, Digest, SessionId};
use super::identity::PersonKey;
use super::session::SessionHeader;
use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    SessionOpened {
        header: SessionHeader,
    },
    /// Durable before anything of the operation is forwarded.
    Asked {
        operation: Digest,
        display: String,
        size_bytes: u64,
        effects: Effects,
        place: Place,
        in_transaction: bool,
    },
    Verdict {
        operation: Digest,
        verdict: VerdictWord,
        rules: Vec<String>,
        reasons: Vec<String>,
    },
    Held {
        operation: Digest,
        approval: ApprovalId,
        terms: Terms,
        deadline: Timestamp,
    },
    /// Durable before the first byte leaves. `votes` is the hash of the last vote.
    Executing {
        operation: Digest,
        approval: ApprovalId,
        votes: Digest,
        approvers: Vec<String>,
    },
    Answered {
        operation: Digest,
        outcome: Outcome,
        bytes: u64,
    },
    Refused {
        operation: Option<Digest>,
        approval: Option<ApprovalId>,
        code: String,
        message: String,
    },
    /// Something that the gateway itself sent upstream (a failing statement, a Sync, a cancel).
    GatewaySent {
        what: String,
    },
    CopyReceived {
        operation: Digest,
        bytes: u64,
        sha256: Digest,
    },
    RecordingAnchor {
        chunks: u64,
        last: Digest,
    },
    SessionClosed {
        why: String,
        chunks: u64,
        last: Digest,
    },
    /// Written to the session of the API call: who read which part of the audit.
    AuditQueried {
        query: String,
    },
    /// A vote or another decision given through this gateway's API.
    Decided {
        approval: ApprovalId,
        choice: String,
        reason: Option<String>,
        accepted: bool,
        why: Option<String>,
    },
    SignInRefused {
        why: String,
        client: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictWord {
    Allow,
    Deny,
    Hold,
}

/// One line of the journal. `hash` covers every other field, `previous` included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub session: SessionId,
    /// Counts from 0 without a gap within the session.
    pub seq: u64,
    pub at: Timestamp,
    pub gateway: String,
    pub person: Option<PersonKey>,
    /// The person's name for readers.
    pub person_name: Option<String>,
    pub target: Option<String>,
    #[serde(flatten)]
    pub what: Happening,
    pub previous: Digest,
    pub hash: Digest,
}
