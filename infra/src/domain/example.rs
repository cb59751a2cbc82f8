//! Example people and records, for tests: alice, an engineer, asks; bob, a DBA, decides.

use super::Timestamp;
use super::access_request::{AccessRequest, Client, Operation, Part, Place, Protocol};
use super::approval::{Approval, Ballot, Choice, Clause, HeldOperation, Lease, NewApproval, Terms, Via};
use super::chat_link::{ChatAccount, ChatPlatform};
use super::effect::{EffectKind, Effects};
use super::grant::Grant;
use super::id::{ApprovalId, Digest, GrantId, RunId, SessionId};
use super::identity::{Person, PersonKey, PersonKind};
use super::session::{SessionHeader, SessionNumber};
use chrono::{DateTime, TimeDelta};
use uuid::Uuid;

pub const EPOCH: u64 = 0xfeed_f00d_dead_beef;

/// A fixed moment, with microseconds.
pub fn start() -> Timestamp {
    DateTime::from_timestamp_micros(1_767_225_600_123_456).unwrap_or_default()
}

/// So many seconds after [`start`].
pub fn at(seconds: i64) -> Timestamp {
    start() + TimeDelta::seconds(seconds)
}

pub fn person(name: &str, groups: &[&str]) -> Person {
    Person {
        key: PersonKey {
            issuer: "https://id.example".to_owned(),
            subject: format!("sub-{name}"),
        },
        name: name.to_owned(),
        email: Some(format!("{name}@example.com")),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        kind: PersonKind::Human,
    }
}

pub fn alice() -> Person {
    person("alice", &["engineering"])
}

pub fn bob() -> Person {
    person("bob", &["dba"])
}

pub fn clause(rule: &str, groups: &[&str], quorum: u32) -> Clause {
    Clause {
        rule: rule.to_owned(),
        approvers: groups.iter().map(|group| (*group).to_owned()).collect(),
        quorum,
    }
}

/// So many DBAs, within ten minutes.
pub fn terms(quorum: u32) -> Terms {
    Terms {
        clauses: vec![clause("writes-need-a-dba", &["dba"], quorum)],
        expires_seconds: 600,
        grant_seconds: None,
        critical: false,
        reasons: vec!["Writes to orders are looked at by a second person.".to_owned()],
    }
}

pub fn place() -> Place {
    Place {
        target: "orders".to_owned(),
        database: "shop".to_owned(),
        role: "app".to_owned(),
        search_path: "public".to_owned(),
    }
}

pub fn client() -> Client {
    Client {
        address: "192.0.2.7:50123".to_owned(),
        application: "psql".to_owned(),
    }
}

pub fn effects() -> Effects {
    let mut effects = Effects::default();
    effects.add_object(EffectKind::Write, "orders");
    effects
}

pub fn operation() -> HeldOperation {
    let text = "DELETE FROM orders WHERE id = 7";
    HeldOperation {
        protocol: Protocol::Postgres,
        digest: Digest::of(text.as_bytes()),
        display: text.to_owned(),
        display_bytes: text.len() as u64,
        size_bytes: text.len() as u64,
        effects: effects(),
        has_where: true,
        unseen_data: false,
        in_transaction: false,
    }
}

/// What alice asks for, held by `gateway-1`, whose lease ends 30 s after [`start`].
pub fn new_approval(terms: Terms) -> NewApproval {
    NewApproval {
        id: ApprovalId::from_random([1, 2, 3, 4, 5]),
        requester: alice(),
        client: client(),
        session: session(1),
        place: place(),
        operation: operation(),
        terms,
        lease: Lease {
            gateway: "gateway-1".to_owned(),
            epoch: EPOCH,
            until: at(30),
        },
    }
}

/// An approval that alice opened at [`start`].
pub fn pending(terms: Terms) -> Approval {
    match Approval::open(new_approval(terms), start()) {
        Ok(approval) => approval,
        Err(error) => panic!("the example terms are refused: {error}"),
    }
}

pub fn ballot(voter: Person, choice: Choice) -> Ballot {
    Ballot {
        voter,
        choice,
        reason: None,
        via: Via::Cli,
        evidence: None,
    }
}

pub fn session(number: u128) -> SessionId {
    SessionId(Uuid::from_u128(number))
}

/// A run of `gateway-1` and one of its sessions.
pub fn session_number(number: u64) -> SessionNumber {
    SessionNumber {
        run: RunId(Uuid::from_u128(77)),
        number,
    }
}

pub fn header(id: SessionId, person: Person) -> SessionHeader {
    SessionHeader {
        id,
        gateway: "gateway-1".to_owned(),
        number: session_number(0),
        protocol: Protocol::Postgres,
        person,
        client: client(),
        target: "orders".to_owned(),
        database: "shop".to_owned(),
        role: "app".to_owned(),
        opened: start(),
    }
}

/// What alice asks for.
pub fn request() -> AccessRequest {
    let held = operation();
    AccessRequest {
        session: session(1),
        person: alice(),
        client: client(),
        place: place(),
        operation: Operation {
            protocol: held.protocol,
            parts: vec![Part {
                tag: "query".to_owned(),
                bytes: held.display.clone().into(),
            }],
            display: held.display.clone(),
            text: held.display,
            effects: held.effects,
            has_where: held.has_where,
            unseen_data: held.unseen_data,
        },
        in_transaction: false,
    }
}

/// [`terms`] of one DBA, who may grant what is alike for a quarter of an hour.
pub fn granting_terms() -> Terms {
    Terms {
        grant_seconds: Some(900),
        ..terms(1)
    }
}

/// What bob granted alice at [`start`].
pub fn grant() -> Grant {
    let id = GrantId(Uuid::from_u128(5));
    let approval = ApprovalId::from_random([1, 2, 3, 4, 5]);
    match Grant::give(id, approval, &request(), &granting_terms(), start()) {
        Ok(grant) => grant,
        Err(error) => panic!("the example is not granted: {error}"),
    }
}

pub fn chat_account(number: u64) -> ChatAccount {
    ChatAccount {
        platform: ChatPlatform::Slack,
        team: "T0001".to_owned(),
        user: format!("U{number:04}"),
    }
}
