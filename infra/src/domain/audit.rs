//! Journal events: what happened, chained per session so that a change or a gap shows.

use super::Timestamp;
use super::access_request::Place;
use super::approval::{Outcome, Terms};
use super::effect::Effects;
use super::id::{ApprovalId, Digest, SessionId};
use super::identity::{Person, PersonKey};
use super::session::SessionHeader;
use chrono::SubsecRound;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
        }
    }

    /// Every name that a happening can have.
    pub const NAMES: [&str; 14] = [
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
            | Self::SignInRefused { .. } => None,
        }
    }
}

/// One session's chain of events, as its only writer holds it.
///
/// An event that could not be written is written again as it is, before anything else: the chain has moved on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    session: SessionId,
    gateway: String,
    person: Option<PersonKey>,
    person_name: Option<String>,
    target: Option<String>,
    seq: u64,
    previous: Digest,
}

impl Chain {
    /// Starts a session's chain. Its first event has number 0 and [`Digest::ZERO`] before it.
    pub fn new(
        session: SessionId,
        gateway: impl Into<String>,
        person: Option<&Person>,
        target: Option<String>,
    ) -> Self {
        Self {
            session,
            gateway: gateway.into(),
            person: person.map(|person| person.key.clone()),
            person_name: person.map(|person| person.name.clone()),
            target,
            seq: 0,
            previous: Digest::ZERO,
        }
    }

    /// Goes on after the last event that the journal has.
    pub fn resume(last: &Event) -> Self {
        Self {
            session: last.session,
            gateway: last.gateway.clone(),
            person: last.person.clone(),
            person_name: last.person_name.clone(),
            target: last.target.clone(),
            seq: last.seq.saturating_add(1),
            previous: last.hash,
        }
    }

    /// Makes the next event. Its time is kept to the microsecond.
    pub fn next(&mut self, now: Timestamp, what: Happening) -> Event {
        let mut event = Event {
            session: self.session,
            seq: self.seq,
            at: now.trunc_subsecs(6),
            gateway: self.gateway.clone(),
            person: self.person.clone(),
            person_name: self.person_name.clone(),
            target: self.target.clone(),
            what,
            previous: self.previous,
            hash: Digest::ZERO,
        };
        event.hash = event.computed_hash();
        self.seq = self.seq.saturating_add(1);
        self.previous = event.hash;
        event
    }
}

impl Event {
    /// The hash that the event should carry: SHA-256 of its canonical JSON without `hash`.
    ///
    /// Canonical: object keys sorted by their bytes at every depth, no blanks, strings and numbers as `serde_json`
    /// writes them. Values survive being stored as JSON and read back: numbers are integers, times are written
    /// with as many digits as they have.
    pub fn computed_hash(&self) -> Digest {
        // An event that has no JSON form gets a hash that no check accepts.
        let Ok(serde_json::Value::Object(mut fields)) = serde_json::to_value(self) else {
            return Digest::ZERO;
        };
        fields.remove("hash");
        let mut text = String::from("countersign event/1\n");
        write_canonical(&serde_json::Value::Object(fields), &mut text);
        Digest::of(text.as_bytes())
    }
}

fn write_canonical(value: &serde_json::Value, text: &mut String) {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            write_all(text, ('{', '}'), sorted, |text, (key, value)| {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonical(value, text);
            });
        }
        Value::Array(items) => write_all(text, ('[', ']'), items, |text, item| write_canonical(item, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => text.push_str(&value.to_string()),
    }
}

fn write_all<T>(
    text: &mut String,
    (open, close): (char, char),
    items: impl IntoIterator<Item = T>,
    write: impl Fn(&mut String, T),
) {
    text.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write(text, item);
    }
    text.push(close);
}

/// Where a session's chain of events breaks, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {seq} of the session: {why}")]
pub struct Broken {
    pub seq: u64,
    pub why: String,
}

/// Checks a session's events from its first one on: numbers without a gap, one session, each hash, each link.
///
/// A tail that was cut off does not show here: the last event says whether the session ended, and the recording's
/// signed manifest how far it went.
pub fn verify_chain(events: &[Event]) -> Result<(), Broken> {
    let mut previous = Digest::ZERO;
    for (expected, event) in (0u64..).zip(events) {
        let broken = |why: String| Err(Broken { seq: expected, why });
        if event.seq != expected {
            return broken(format!("it is missing, event {} stands in its place", event.seq));
        }
        if events.first().is_some_and(|first| first.session != event.session) {
            return broken(format!("it belongs to session {}", event.session));
        }
        if event.hash == Digest::ZERO || event.hash != event.computed_hash() {
            return broken("it was changed after it was written (its hash differs)".to_owned());
        }
        if event.previous != previous {
            return broken("it does not follow the event before it".to_owned());
        }
        previous = event.hash;
    }
    Ok(())
}
