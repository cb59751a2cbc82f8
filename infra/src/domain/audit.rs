//! Journal events: what happened, chained per session so that a change or a gap shows.

use super::Timestamp;
use super::access_request::Place;
use super::approval::{Outcome, Terms};
use super::chat_link::ChatAccount;
use super::effect::Effects;
use super::id::{ApprovalId, Digest, RunId, SessionId};
use super::identity::PersonKey;
use super::session::SessionHeader;
use serde::{Deserialize, Serialize};

mod chain;

pub use chain::{Broken, Chain, verify_chain};

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
        /// The [head](crate::domain::display::head) of the display text.
        display: String,
        /// Size of the whole display text in bytes.
        display_bytes: u64,
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
    /// A chat account is to speak for this person.
    ChatLinked {
        account: ChatAccount,
        /// As the chat named them.
        account_name: String,
        team_name: String,
        /// For whom it spoke before.
        former: Option<PersonKey>,
        former_name: Option<String>,
        /// The verified address that made the link; none where the person confirmed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mailbox: Option<String>,
    },
    /// The gateway signed a digest of its sessions, so that a digest which is removed shows.
    DigestSigned {
        /// Where it lies: `yyyy/mm/dd/<hh>-<run>-<number>.json`.
        name: String,
        run: RunId,
        number: u64,
        /// Of the digest's object.
        sha256: Digest,
        sessions: u64,
        /// The run had no session after these.
        ends: bool,
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

impl Happening {
    /// The happening's name, as the journal writes it in `event`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SessionOpened { .. } => "session_opened",
            Self::Asked { .. } => "asked",
            Self::Verdict { .. } => "verdict",
            Self::Held { .. } => "held",
            Self::Executing { .. } => "executing",
            Self::Answered { .. } => "answered",
            Self::Refused { .. } => "refused",
            Self::GatewaySent { .. } => "gateway_sent",
            Self::CopyReceived { .. } => "copy_received",
            Self::RecordingAnchor { .. } => "recording_anchor",
            Self::SessionClosed { .. } => "session_closed",
            Self::AuditQueried { .. } => "audit_queried",
            Self::Decided { .. } => "decided",
            Self::SignInRefused { .. } => "sign_in_refused",
            Self::ChatLinked { .. } => "chat_linked",
            Self::DigestSigned { .. } => "digest_signed",
        }
    }

    /// Every name that a happening can have.
    pub const NAMES: [&str; 16] = [
        "session_opened",
        "asked",
        "verdict",
        "held",
        "executing",
        "answered",
        "refused",
        "gateway_sent",
        "copy_received",
        "recording_anchor",
        "session_closed",
        "audit_queried",
        "decided",
        "sign_in_refused",
        "chat_linked",
        "digest_signed",
    ];

    /// The texts in it that people search: display text, messages, reasons.
    pub fn words(&self) -> Vec<&str> {
        match self {
            Self::SessionOpened { header } => vec![&header.client.application, &header.database],
            Self::Asked { display, .. } => vec![display],
            Self::Verdict { rules, reasons, .. } => rules.iter().chain(reasons).map(String::as_str).collect(),
            Self::Held { terms, .. } => terms.reasons.iter().map(String::as_str).collect(),
            Self::Executing { approvers, .. } => approvers.iter().map(String::as_str).collect(),
            Self::Answered { outcome, .. } => vec![&outcome.summary],
            Self::Refused { code, message, .. } => vec![code, message],
            Self::GatewaySent { what } => vec![what],
            Self::CopyReceived { .. } | Self::RecordingAnchor { .. } => Vec::new(),
            Self::SessionClosed { why, .. } => vec![why],
            Self::AuditQueried { query } => vec![query],
            Self::Decided {
                choice, reason, why, ..
            } => std::iter::once(choice)
                .chain(reason)
                .chain(why)
                .map(String::as_str)
                .collect(),
            Self::SignInRefused { why, client } => vec![why, client],
            Self::ChatLinked {
                account,
                account_name,
                team_name,
                former_name,
                mailbox,
                ..
            } => [&account.user, account_name, team_name]
                .into_iter()
                .chain(former_name)
                .chain(mailbox)
                .map(String::as_str)
                .collect(),
            Self::DigestSigned { name, .. } => vec![name],
        }
    }

    /// The approval that it speaks of.
    pub fn approval(&self) -> Option<&ApprovalId> {
        match self {
            Self::Held { approval, .. } | Self::Executing { approval, .. } | Self::Decided { approval, .. } => {
                Some(approval)
            }
            Self::Refused { approval, .. } => approval.as_ref(),
            Self::SessionOpened { .. }
            | Self::Asked { .. }
            | Self::Verdict { .. }
            | Self::Answered { .. }
            | Self::GatewaySent { .. }
            | Self::CopyReceived { .. }
            | Self::RecordingAnchor { .. }
            | Self::SessionClosed { .. }
            | Self::AuditQueried { .. }
            | Self::SignInRefused { .. }
            | Self::ChatLinked { .. }
            | Self::DigestSigned { .. } => None,
        }
    }
}
