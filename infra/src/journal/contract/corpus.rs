//! Sessions with everything in them that searches can get wrong: people who share words, times that are the same,
//! operations that are asked again before they are answered, ends of every kind. Made from a seed, always the same.

use crate::domain::Timestamp;
use crate::domain::access_request::Place;
use crate::domain::approval::Outcome;
use crate::domain::audit::{Chain, Event, Happening, VerdictWord};
use crate::domain::example::{alice, at, effects, header, place, session, terms};
use crate::domain::id::{ApprovalId, Digest, SessionId};
use crate::domain::identity::{Person, PersonKey};
use crate::journal::{JournalQuery, OperationQuery, OperationState};
use chrono::TimeDelta;

const TARGETS: [&str; 4] = ["corpus-orders", "corpus-Orders", "corpus-ledger", "corpus-größe"];

const TEXTS: [&str; 7] = [
    "SELECT 1",
    "DELETE FROM Straße WHERE rate = '100%_\\'",
    "select * from İstanbul",
    "UPDATE ΟΔΟΣ SET n = 5; -- ΟΔΟΣ",
    "INSERT INTO orders VALUES (7)\nRETURNING id",
    "VACUUM",
    "delete from orders",
];

const WORDS: [&str; 12] = [
    "select",
    "STRASSE",
    "straße",
    "100%_\\",
    "%",
    "οδος",
    "ΟΔΟΣ",
    "i\u{307}stanbul",
    "(7)\nret",
    "orders",
    "denied by",
    "",
];

/// Numbers that look random: SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn of<'a, T>(&mut self, values: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(values.len()).unwrap_or(1).max(1);
        usize::try_from(self.below(count))
            .ok()
            .and_then(|place| values.get(place))
    }

    fn some<T: Clone>(&mut self, values: &[T]) -> Option<T> {
        self.of(values).cloned()
    }
}

fn people() -> Vec<Person> {
    let person = |issuer: &str, subject: &str, name: &str, email: Option<&str>| Person {
        key: PersonKey {
            issuer: format!("https://{issuer}.example"),
            subject: subject.to_owned(),
        },
        name: name.to_owned(),
        email: email.map(str::to_owned),
        ..alice()
    };
    vec![
        person("one", "u1", "Alice", Some("alice@example.com")),
        // The same, later, under another name and without an address.
        person("one", "u1", "Alice Müller", None),
        person("two", "u1", "Mallory", Some("mallory@example.com")),
        person("two", "u2", "ALICE", Some("Alice@Example.com")),
        person("one", "U1", "bob", None),
        // A name that is another's subject, and one that is another's address.
        person("one", "u3", "u2", Some("u3@example.com")),
        person("two", "u4", "u3@example.com", None),
        person("one", "u5", "", Some("Ünal@example.com")),
    ]
}

const WHO: [&str; 13] = [
    "alice",
    "ALICE",
    "Alice Müller",
    "alice müller",
    "u1",
    "U2",
    "bob",
    "mallory@EXAMPLE.com",
    "alice@example.com",
    "u3@example.com",
    "üNAL@example.com",
    "nobody",
    "",
];

/// So many sessions, and those of the API. No two seeds share a session.
pub fn corpus(seed: u64, sessions: u64) -> Vec<Event> {
    let mut random = Random(seed);
    let mut events = Vec::new();
    for number in 0..sessions {
        events.extend(client_session(&mut random, id(seed, number)));
    }
    events.extend(api_session(&mut random, id(seed, sessions)));
    events.extend(nameless_session(&mut random, id(seed, sessions + 1)));
    events
}

fn id(seed: u64, number: u64) -> SessionId {
    // In no order of time.
    let turned = number.wrapping_mul(0x9e37_79b9) & 0xff;
    session(u128::from(seed) << 64 | u128::from(turned) << 32 | u128::from(number))
}

/// One of few times, so that many events share theirs.
fn some_time(random: &mut Random) -> Timestamp {
    let seconds = i64::try_from(random.below(40)).unwrap_or_default();
    let micros = i64::try_from(random.below(2)).unwrap_or_default();
    at(seconds) + TimeDelta::microseconds(micros)
}

struct Writer {
    chain: Chain,
    now: Timestamp,
    events: Vec<Event>,
}

impl Writer {
    fn note(&mut self, random: &mut Random, what: Happening) {
        self.now += TimeDelta::microseconds(i64::try_from(random.below(3)).unwrap_or_default() * 400_000);
        self.events.push(self.chain.next(self.now, what));
    }
}

fn client_session(random: &mut Random, id: SessionId) -> Vec<Event> {
    let person = random.some(&people()).unwrap_or_else(alice);
    let target = random.of(&TARGETS).map(|target| (*target).to_owned());
    let mut writer = Writer {
        chain: Chain::new(id, "gateway-1", Some(&person), target.clone()),
        now: some_time(random),
        events: Vec::new(),
    };
    let header = header(id, person);
    writer.note(random, Happening::SessionOpened { header });
    for _ in 0..random.below(6) {
        for what in operation(random, target.as_deref().unwrap_or_default()) {
            if random.one_in(6) {
                writer.note(random, anchor());
            }
            writer.note(random, what);
        }
    }
    if random.one_in(2) {
        let why = "the client said goodbye".to_owned();
        let (chunks, last) = (3, Digest::of(b"last"));
        writer.note(random, Happening::SessionClosed { why, chunks, last });
        if random.one_in(3) {
            writer.note(random, refused(None, random_approval(id.0.as_u128() as u64), "unknown"));
        }
    }
    writer.events
}

fn anchor() -> Happening {
    let last = Digest::of(b"anchor");
    Happening::RecordingAnchor { chunks: 1, last }
}

/// What the journal tells of an operation; some of it may be missing, as after a crash.
fn operation(random: &mut Random, target: &str) -> Vec<Happening> {
    let display = random.some(&TEXTS).unwrap_or_default();
    let operation = Digest::of(display.as_bytes());
    let approval = random_approval(random.below(30));
    let asked = asked(operation, display, target);
    let answered = Happening::Answered {
        operation,
        outcome: outcome(random),
        bytes: random.below(1000),
    };
    let held = [
        judged(operation, VerdictWord::Hold),
        Happening::Held {
            operation,
            approval: approval.clone(),
            terms: terms(1),
            deadline: at(600),
        },
    ];
    let mut told = vec![asked.clone()];
    match random.below(9) {
        0 | 1 => told.extend([judged(operation, VerdictWord::Allow), answered]),
        2 => {
            // Asked again before the first is answered.
            let allowed = judged(operation, VerdictWord::Allow);
            told.extend([allowed.clone(), asked, allowed, answered.clone(), answered]);
        }
        3 => told.extend([
            judged(operation, VerdictWord::Deny),
            refused(Some(operation), None, "denied"),
        ]),
        4 => told.extend([
            judged(operation, VerdictWord::Allow),
            refused(Some(operation), None, "limit"),
        ]),
        5 | 6 => {
            told.extend(held);
            told.push(Happening::Executing {
                operation,
                approval,
                votes: operation,
                approvers: vec!["Mallory".to_owned()],
            });
            told.push(answered);
        }
        _ => {
            told.extend(held);
            let codes = ["denied", "expired", "withdrawn", "revoked", "unready", "abandoned"];
            let code = random.some(&codes).unwrap_or("denied");
            let of_it = Some(operation).filter(|_| random.one_in(2));
            told.push(refused(of_it, Some(approval), code));
        }
    }
    if random.one_in(5) {
        told.pop();
    }
    told
}

fn asked(operation: Digest, display: &str, target: &str) -> Happening {
    Happening::Asked {
        operation,
        display: display.to_owned(),
        display_bytes: display.len() as u64,
        size_bytes: display.len() as u64,
        effects: effects(),
        place: Place {
            target: target.to_owned(),
            ..place()
        },
        in_transaction: false,
    }
}

fn judged(operation: Digest, verdict: VerdictWord) -> Happening {
    Happening::Verdict {
        operation,
        verdict,
        rules: vec!["writes-need-a-dba".to_owned()],
        reasons: vec!["Orders are looked at.".to_owned()],
    }
}

fn refused(operation: Option<Digest>, approval: impl Into<Option<ApprovalId>>, code: &str) -> Happening {
    Happening::Refused {
        operation,
        approval: approval.into(),
        code: code.to_owned(),
        message: format!("countersign: {code} by Alice: no"),
    }
}

fn outcome(random: &mut Random) -> Outcome {
    let ok = Outcome {
        ok: true,
        summary: "DELETE 1".to_owned(),
        rows: Some(1),
        duration_ms: 3,
    };
    match random.below(4) {
        0 => Outcome::not_known("the server went away", 3),
        1 => Outcome {
            ok: false,
            summary: "42P01: there is no table".to_owned(),
            rows: None,
            ..ok
        },
        _ => ok,
    }
}

fn random_approval(number: u64) -> ApprovalId {
    let [a, b, ..] = number.to_be_bytes();
    let [.., y, z] = number.to_be_bytes();
    ApprovalId::from_random([a, b, 7, y, z])
}

fn api_session(random: &mut Random, id: SessionId) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    for _ in 0..20 {
        let person = random.some(&people()).unwrap_or_else(alice);
        let mut chain = match events.last() {
            None => Chain::new(id, "gateway-1", Some(&person), None),
            Some(last) => Chain::resume(&Event {
                person: Some(person.key),
                person_name: Some(person.name),
                ..last.clone()
            }),
        };
        let what = match random.one_in(2) {
            true => Happening::AuditQueried {
                query: "audit {\"text\":\"orders\"}".to_owned(),
            },
            false => Happening::Decided {
                approval: random_approval(random.below(30)),
                choice: "deny".to_owned(),
                reason: random.of(&TEXTS).map(|text| (*text).to_owned()),
                accepted: random.one_in(2),
                why: None,
            },
        };
        events.push(chain.next(some_time(random), what));
    }
    events
}

fn nameless_session(random: &mut Random, id: SessionId) -> Vec<Event> {
    let mut chain = Chain::new(id, "gateway-2", None, None);
    let refused = || Happening::SignInRefused {
        why: "the token is of another issuer".to_owned(),
        client: "192.0.2.7:1".to_owned(),
    };
    (0..3).map(|_| chain.next(some_time(random), refused())).collect()
}

/// Questions to a corpus: each field alone, every two of them, and mixtures.
pub fn questions(seed: u64, mixtures: usize) -> Vec<JournalQuery> {
    let mut random = Random(seed ^ 0x5eed);
    let fields = 9;
    let mut questions = vec![JournalQuery::default()];
    let mut ask = |fields: &[u64]| {
        let mut query = JournalQuery::default();
        for field in fields {
            narrow(&mut query, *field, seed, &mut random);
        }
        questions.push(query);
    };
    for field in 0..fields {
        (0..6).for_each(|_| ask(&[field]));
        (0..field).for_each(|other| ask(&[field, other]));
    }
    let mut mixed = Random(seed);
    for _ in 0..mixtures {
        let some: Vec<u64> = (0..fields).filter(|_| mixed.one_in(3)).collect();
        ask(&some);
    }
    questions
}

fn narrow(query: &mut JournalQuery, field: u64, seed: u64, random: &mut Random) {
    let text = |text: Option<&&str>| text.map(|text| (*text).to_owned());
    match field {
        0 => query.who = text(random.of(&WHO)),
        1 => query.target = text(random.of(&TARGETS)),
        2 => query.since = Some(some_time(random) + TimeDelta::nanoseconds(300)),
        3 => query.until = Some(some_time(random)),
        4 => query.text = text(random.of(&WORDS)),
        5 => {
            let kind = [
                vec!["asked"],
                vec!["refused", "held"],
                vec!["session_opened"],
                vec!["decided"],
            ];
            query.events = random
                .some(&kind)
                .unwrap_or_default()
                .iter()
                .map(|name| (*name).to_owned())
                .collect();
        }
        6 => query.approval = Some(random_approval(random.below(32)).to_string().to_lowercase()),
        7 => query.session = Some(id(seed, random.below(30))),
        _ => query.until = Some(at(20)),
    }
}

/// The same questions about operations, in some states.
pub fn operation_questions(seed: u64, mixtures: usize) -> Vec<OperationQuery> {
    let mut random = Random(seed ^ 0x57a7e);
    let questions = questions(seed, mixtures)
        .into_iter()
        .filter(|query| query.events.is_empty());
    let of_operations = |query: JournalQuery| OperationQuery {
        who: query.who,
        target: query.target,
        since: query.since,
        until: query.until,
        states: (0..random.below(3))
            .filter_map(|_| random.some(&OperationState::ALL))
            .collect(),
        text: query.text,
        approval: query.approval,
        session: query.session,
        limit: query.limit,
        after: query.after,
    };
    questions.map(of_operations).collect()
}
