//! The policy: Cedar rules with a schema and obligations of our own.

use chrono::{DateTime, Utc};
use countersign_infra::domain::access_request::{AccessRequest, Protocol};
use countersign_infra::domain::approval::Terms;

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
