//! The policy: Cedar rules with a schema and obligations of our own.

mod annotations;
mod cache;
mod draft;
mod evaluate;
mod facts;
mod fault;
mod ground;
mod load;
mod reload;
mod uses;

pub use evaluate::PAIRS_MAX;
pub use facts::TEXT_BYTES_MAX;
pub use fault::{Fault, PolicyError};
pub use ground::SCHEMA;
pub use load::Policies;
pub use reload::PolicyHandle;

use crate::domain::access_request::{AccessRequest, Protocol};
use crate::domain::approval::Terms;
use chrono::{DateTime, Utc};

/// What a policy may know of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFacts {
    pub name: String,
    pub kind: Protocol,
    pub tags: Vec<String>,
}

/// What is asked of the policy about one operation.
pub struct Question<'a> {
    pub request: &'a AccessRequest,
    pub target: &'a TargetFacts,
    pub now: DateTime<Utc>,
}

/// The answer. The strictest of all (effect, object) pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow { rules: Vec<String> },
    Deny { rules: Vec<String>, reasons: Vec<String> },
    Hold { rules: Vec<String>, terms: Terms },
}

/// A right on the gateway itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GatewayAction {
    /// Reads the journal and the recordings of other people.
    Audit,
    /// Sees the open sessions of other people.
    Watch,
    /// Ends the session of another person.
    EndSession,
}

impl GatewayAction {
    pub const ALL: [Self; 3] = [Self::Audit, Self::Watch, Self::EndSession];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Watch => "watch",
            Self::EndSession => "end_session",
        }
    }
}

#[cfg(test)]
mod tests;
