//! What the API says of approvals: the record itself, and how far its quorum has come.
//!
//! The records are the domain's own values, so that a reader can check their hashes. The `..Shape` types exist for
//! the description alone; a test holds real answers against them.

use chrono::{DateTime, Utc};
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::approval::{Approval, Clause, State};
use countersign_infra::domain::identity::Person;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// An approval as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalView {
    #[serde(flatten)]
    pub approval: Approval,
    /// One for each clause of the terms, in their order.
    pub quorum: Vec<ClauseStanding>,
    /// Seconds until the deadline; 0 when it has passed or the approval waits no more.
    pub seconds_left: u64,
    /// It waits, and the caller's vote would count.
    pub may_vote: bool,
}

/// How far one clause has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClauseStanding {
    pub rule: String,
    pub approvers: Vec<String>,
    /// Distinct people needed.
    pub quorum: u32,
    /// Names of those who approved and count for this clause.
    pub approved_by: Vec<String>,
}

impl ApprovalView {
    /// Shows an approval to a reader. An approval whose deadline has passed counts as having no time left.
    pub fn new(approval: Approval, reader: &Person, now: Timestamp) -> Self {
        let waits = approval.state == State::Pending;
        let left = (approval.deadline - now).num_seconds();
        Self {
            quorum: standings(&approval),
            seconds_left: if waits { u64::try_from(left).unwrap_or(0) } else { 0 },
            may_vote: waits && left > 0 && approval.may_vote(reader).is_ok(),
            approval,
        }
    }
}

fn standings(approval: &Approval) -> Vec<ClauseStanding> {
    let standing = |clause: &Clause| ClauseStanding {
        rule: clause.rule.clone(),
        approvers: clause.approvers.clone(),
        quorum: clause.quorum,
        approved_by: approval
            .counted(clause)
            .into_iter()
            .map(|person| person.name.clone())
            .collect(),
    };
    approval.terms.clauses.iter().map(standing).collect()
}

/// A person.
#[derive(Serialize, ToSchema)]
#[schema(as = Person)]
pub struct PersonShape {
    key: PersonKeyShape,
    name: String,
    email: Option<String>,
    groups: BTreeSet<String>,
    /// `human` or `machine`.
    kind: String,
}

/// What identifies a person for ever.
#[derive(Serialize, ToSchema)]
#[schema(as = PersonKey)]
pub struct PersonKeyShape {
    issuer: String,
    subject: String,
}

/// An approval. `state` brings further fields: `at`, and by state `by`, `reason`, `why`, `outcome`.
#[derive(Serialize, ToSchema)]
#[schema(as = Approval)]
pub struct ApprovalShape {
    id: String,
    version: u64,
    state: StateShape,
    requester: PersonShape,
    client: ClientShape,
    session: String,
    place: PlaceShape,
    operation: HeldOperationShape,
    terms: TermsShape,
    created: DateTime<Utc>,
    deadline: DateTime<Utc>,
    votes: Vec<VoteShape>,
    lease: LeaseShape,
    quorum: Vec<ClauseStanding>,
    seconds_left: u64,
    may_vote: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = State)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "described, never made")]
pub enum StateShape {
    Pending,
    Approved,
    Denied,
    Expired,
    Withdrawn,
    Abandoned,
    Revoked,
    Executing,
    Done,
    Unknown,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Client)]
pub struct ClientShape {
    address: String,
    application: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Place)]
pub struct PlaceShape {
    target: String,
    database: String,
    role: String,
    search_path: String,
}

/// The operation that is held: what is shown of it, and the SHA-256 of what would run.
#[derive(Serialize, ToSchema)]
#[schema(as = HeldOperation)]
pub struct HeldOperationShape {
    protocol: String,
    digest: String,
    /// The beginning of what is shown of it: at most 16 KiB.
    display: String,
    /// Size of all that is shown of it, in bytes.
    display_bytes: u64,
    size_bytes: u64,
    effects: BTreeMap<String, Vec<String>>,
    has_where: bool,
    unseen_data: bool,
    in_transaction: bool,
}

/// What the server said of an operation.
#[derive(Serialize, ToSchema)]
#[schema(as = Outcome)]
pub struct OutcomeShape {
    ok: bool,
    /// Command tags (`DELETE 1`), or the server's error code and message.
    summary: String,
    rows: Option<u64>,
    duration_ms: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Terms)]
pub struct TermsShape {
    clauses: Vec<ClauseShape>,
    expires_seconds: u64,
    grant_seconds: Option<u64>,
    critical: bool,
    reasons: Vec<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Clause)]
pub struct ClauseShape {
    rule: String,
    approvers: Vec<String>,
    quorum: u32,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Vote)]
pub struct VoteShape {
    voter: PersonShape,
    /// `approve` or `deny`.
    choice: String,
    reason: Option<String>,
    via: String,
    evidence: Option<String>,
    at: DateTime<Utc>,
    previous: String,
    hash: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Lease)]
pub struct LeaseShape {
    gateway: String,
    epoch: u64,
    until: DateTime<Utc>,
}

/// One event of the journal. `event` names what happened and brings further fields.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub struct EventShape {
    session: String,
    seq: u64,
    at: DateTime<Utc>,
    gateway: String,
    person: Option<PersonKeyShape>,
    person_name: Option<String>,
    target: Option<String>,
    event: String,
    previous: String,
    hash: String,
}

/// A page of events, newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = EventPage)]
pub struct EventPageShape {
    pub events: Vec<EventShape>,
    /// The value of `after` for the next page; none when this is the last.
    pub next: Option<String>,
}
