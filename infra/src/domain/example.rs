//! Example people and records, for tests: alice, an engineer, asks; bob, a DBA, decides.

use super::Timestamp;
use super::access_request::{AccessRequest, Client, Operation, Part, Place, Protocol};
use super::approval::{
    Approval, Ballot, Change, Choice, Clause, HeldOperation, Lease, NewApproval, Outcome, Terms, Via,
};
use super::chat_link::{ChatAccount, ChatPlatform};
use super::effect::{EffectKind, Effects, WriteKind};
use super::grant::Grant;
use super::id::{ApprovalId, Digest, GrantId, RunId, SessionId};
use super::identity::{Person, PersonKey, PersonKind};
use super::session::{SessionHeader, SessionNumber};
use super::ticket::{
    AuditPage, ConfirmVote, ConnectAnswer, ConnectWeb, LinkChat, PageReading, PageSession, Purpose, SignIn,
};
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
        grants: false,
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
            writes: [WriteKind::Delete].into(),
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

/// A browser that is at the issuer, on its way to a page.
pub fn sign_in(return_to: &str) -> Purpose {
    Purpose::SignIn(SignIn {
        issuer: "https://id.example".to_owned(),
        return_to: return_to.to_owned(),
        browser: Digest::of(b"browser"),
        anew: false,
    })
}

/// Tickets of every purpose, with texts that stores must keep as they are.
pub fn every_purpose() -> [Purpose; 6] {
    let text = || "Grüße \u{0}\"\\\u{2028}".to_owned();
    [
        sign_in("/approvals?a=b&c=ü"),
        Purpose::PageSession(PageSession {
            person: alice(),
            authenticated: Some(start()),
            reading: Some(PageReading {
                approval: ApprovalId::from_random([1, 2, 3, 4, 5]),
                parts: 2,
            }),
        }),
        Purpose::LinkChat(LinkChat {
            account: chat_account(1),
            account_name: text(),
            team_name: text(),
        }),
        Purpose::ConfirmVote(ConfirmVote {
            account: chat_account(1),
            approval: ApprovalId::from_random([1, 2, 3, 4, 5]),
            choice: Choice::Approve,
            reason: Some(text()),
            grants: false,
            evidence: Some(text()),
        }),
        Purpose::ConnectWeb(ConnectWeb {
            target: "orders".to_owned(),
            database: "shop".to_owned(),
            user: text(),
            client: client(),
            code: Digest::of(b"code"),
            tries: 1,
            answer: ConnectAnswer::Person {
                person: alice(),
                until: at(600),
            },
        }),
        Purpose::AuditPage(AuditPage {
            account: chat_account(1),
            question: text(),
            asked: at(5),
            after: text(),
        }),
    ]
}

fn outcome(ok: bool, summary: &str) -> Outcome {
    Outcome {
        ok,
        summary: summary.to_owned(),
        rows: ok.then_some(1),
        duration_ms: 12,
    }
}

fn approve(name: &str) -> Change {
    Change::Vote(ballot(person(name, &["dba"]), Choice::Approve))
}

fn after(approval: Approval, changes: &[Change]) -> Approval {
    let times = (10..).map(at);
    let changed = |approval: Approval, (now, change): (Timestamp, &Change)| match approval.apply(change.clone(), now) {
        Ok(next) => next,
        Err(rejected) => panic!("an example is refused: {rejected}"),
    };
    times.zip(changes).fold(approval, changed)
}

/// One that waits, of an operation with that display text and those effects.
fn pending_of(terms: Terms, display: &str, effects: &[(EffectKind, &str)]) -> Approval {
    let mut approval = pending(terms);
    let mut named = Effects::default();
    for (kind, object) in effects {
        named.add_object(*kind, *object);
    }
    approval.operation.display = display.to_owned();
    approval.operation.display_bytes = display.len() as u64;
    approval.operation.effects = named;
    approval
}

/// What waits, of every kind of operation.
fn kinds() -> Vec<(&'static str, Approval)> {
    let orders = [(EffectKind::Write, "orders")];
    let ddl = Terms {
        critical: true,
        ..terms(2)
    };
    let ddl = pending_of(
        ddl,
        "ALTER TABLE orders DROP COLUMN state",
        &[(EffectKind::Ddl, "orders")],
    );
    let mut chat = ballot(bob(), Choice::Approve);
    chat.via = Via::Slack;
    let halfway = after(ddl, &[Change::Vote(chat)]);
    let mut exec = pending_of(
        terms(1),
        "systemctl restart shop.service",
        &[(EffectKind::Exec, "systemctl")],
    );
    exec.operation.protocol = Protocol::Ssh;
    exec.place.target = "shop-web-1".to_owned();
    exec.client.application = "OpenSSH_9.2".to_owned();
    vec![
        (
            "pending, bound values",
            pending_of(
                terms(1),
                "DELETE FROM orders WHERE id = $1 AND state = $2  -- $1 = 7, $2 = 'O''B'",
                &orders,
            ),
        ),
        (
            "pending, masked text",
            pending_of(
                terms(1),
                "ALTER ROLE app PASSWORD ****",
                &[(EffectKind::Privilege, "app")],
            ),
        ),
        (
            "pending, several statements",
            pending_of(
                terms(1),
                "BEGIN;\nDELETE FROM lines WHERE order_id = 7;\nDELETE FROM orders WHERE id = 7;\nCOMMIT;",
                &[(EffectKind::Write, "lines"), (EffectKind::Write, "orders")],
            ),
        ),
        ("pending, ddl, approved in a chat", halfway.clone()),
        ("approved, ddl, two of two", after(halfway, &[approve("carol")])),
        ("pending, exec", exec),
    ]
}

/// An approval in every state, and of every kind that people are shown otherwise.
pub fn approvals() -> Vec<(&'static str, Approval)> {
    let epoch = EPOCH;
    let why = || "cancelled by the client".to_owned();
    let sent = [approve("bob"), Change::Execute { epoch }];
    let finish = |outcome| [sent.as_slice(), &[Change::Finish { epoch, outcome }]].concat();
    let lost = [
        sent.as_slice(),
        &[Change::LoseOutcome {
            epoch,
            why: "the server closed the connection".to_owned(),
        }],
    ]
    .concat();
    let mut denial = ballot(bob(), Choice::Deny);
    denial.reason = Some("the customer has not been asked".to_owned());
    let mut expired = pending(terms(2));
    expired = after(expired, &[approve("bob")]);
    if let Ok(over) = expired.apply(Change::Expire, expired.deadline) {
        expired = over;
    }
    let mut long = pending(terms(1));
    long.operation.display = format!("INSERT INTO orders VALUES {}", "(1, 'x'), ".repeat(1000));
    long.operation.display_bytes = 2_000_000;
    let mut copy = pending(terms(1));
    copy.operation.display = "COPY orders FROM STDIN".to_owned();
    copy.operation.display_bytes = copy.operation.display.len() as u64;
    copy.operation.unseen_data = true;
    let mut everything = pending(Terms {
        critical: true,
        grant_seconds: Some(900),
        ..terms(2)
    });
    everything.operation.has_where = false;
    everything.operation.in_transaction = true;
    everything.operation.effects.add_object(EffectKind::Call, "pg_sleep");
    everything.requester.kind = PersonKind::Machine;
    vec![
        ("pending", pending(terms(1))),
        ("pending, one of two", after(pending(terms(2)), &[approve("bob")])),
        ("pending, too long for a card", long),
        ("pending, rows not seen", copy),
        ("pending, with every warning", everything),
        ("approved", after(pending(terms(1)), &[approve("bob")])),
        ("executing", after(pending(terms(1)), &sent)),
        ("done", after(pending(terms(1)), &finish(outcome(true, "DELETE 1")))),
        (
            "failed",
            after(
                pending(terms(1)),
                &finish(outcome(false, "23503: a foreign key stands against it")),
            ),
        ),
        ("unknown", after(pending(terms(1)), &lost)),
        ("denied", after(pending(terms(1)), &[Change::Vote(denial)])),
        ("expired", expired),
        (
            "withdrawn",
            after(pending(terms(1)), &[Change::Withdraw { why: why() }]),
        ),
        ("abandoned", after(pending(terms(1)), &[Change::Abandon { why: why() }])),
        ("revoked", after(pending(terms(1)), &[Change::Revoke { why: why() }])),
    ]
    .into_iter()
    .chain(kinds())
    .collect()
}
