//! The chain of a session's events: each carries the hash of the one before.

use super::{Event, Happening};
use crate::domain::Timestamp;
use crate::domain::id::{Digest, SessionId};
use crate::domain::identity::{Person, PersonKey};
use chrono::SubsecRound;
use std::collections::BTreeMap;

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
    /// The time of the last event.
    at: Timestamp,
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
            at: Timestamp::MIN_UTC,
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
            at: last.at,
            previous: last.hash,
        }
    }

    /// Makes the next event. Its time is kept to the microsecond, and is never before that of the event before it,
    /// whatever the clock did: events of a session are in the same order by time and by number.
    pub fn next(&mut self, now: Timestamp, what: Happening) -> Event {
        let mut event = Event {
            session: self.session,
            seq: self.seq,
            at: now.trunc_subsecs(6).max(self.at),
            gateway: self.gateway.clone(),
            person: self.person.clone(),
            person_name: self.person_name.clone(),
            target: self.target.clone(),
            what,
            previous: self.previous,
            hash: Digest::ZERO,
        };
        event.hash = event.computed_hash();
        self.at = event.at;
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

#[cfg(test)]
mod tests {
    use super::{Broken, Chain, verify_chain};
    use crate::domain::approval::Outcome;
    use crate::domain::audit::{Event, Happening, VerdictWord};
    use crate::domain::example::{
        alice, at, chat_account, effects, header, place, session, session_number, start, terms,
    };
    use crate::domain::id::{ApprovalId, Digest};
    use chrono::TimeDelta;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn every_happening() -> Vec<Happening> {
        let operation = Digest::of(b"one");
        let approval = ApprovalId::from_random([7; 5]);
        let text = || "Grüße \u{0}\"\\\u{2028}".to_owned();
        let outcome = Outcome {
            ok: true,
            summary: text(),
            rows: Some(u64::MAX),
            duration_ms: 1,
        };
        vec![
            Happening::SessionOpened {
                header: header(session(1), alice()),
            },
            Happening::Asked {
                operation,
                display: text(),
                display_bytes: 1 << 50,
                size_bytes: 1 << 60,
                effects: effects(),
                place: place(),
                in_transaction: true,
            },
            Happening::Verdict {
                operation,
                verdict: VerdictWord::Hold,
                rules: vec![text(), text()],
                reasons: vec![],
            },
            Happening::Held {
                operation,
                approval: approval.clone(),
                terms: terms(2),
                deadline: at(600),
            },
            Happening::Executing {
                operation,
                approval: approval.clone(),
                votes: operation,
                approvers: vec![text()],
            },
            Happening::Answered {
                operation,
                outcome,
                bytes: 2,
            },
            Happening::Refused {
                operation: None,
                approval: None,
                code: text(),
                message: text(),
            },
            Happening::GatewaySent { what: text() },
            Happening::CopyReceived {
                operation,
                bytes: 3,
                sha256: operation,
            },
            Happening::RecordingAnchor {
                chunks: 4,
                last: operation,
            },
            Happening::AuditQueried { query: text() },
            Happening::Decided {
                approval,
                choice: text(),
                reason: None,
                accepted: false,
                why: Some(text()),
            },
            Happening::SignInRefused {
                why: text(),
                client: text(),
            },
            Happening::ChatLinked {
                account: chat_account(1),
                account_name: text(),
                team_name: text(),
                former: Some(alice().key),
                former_name: Some(text()),
                mailbox: Some(text()),
            },
            Happening::DigestSigned {
                name: text(),
                run: session_number(0).run,
                number: 6,
                sha256: operation,
                sessions: 7,
                ends: true,
            },
            Happening::SessionClosed {
                why: text(),
                chunks: 5,
                last: operation,
            },
        ]
    }

    fn events() -> Vec<Event> {
        let mut chain = Chain::new(session(1), "gateway-1", Some(&alice()), Some("orders".to_owned()));
        let now = |second| at(second) + TimeDelta::nanoseconds(789);
        (0..)
            .zip(every_happening())
            .map(|(second, what)| chain.next(now(second), what))
            .collect()
    }

    #[test]
    fn every_happening_has_its_name() {
        let names: Vec<&str> = events().iter().map(|event| event.what.name()).collect();
        let written = events()
            .into_iter()
            .map(|event| serde_json::to_value(event).unwrap()["event"].clone());
        assert_eq!(names, written.collect::<Vec<_>>());
        assert_eq!(BTreeSet::from_iter(names), BTreeSet::from(Happening::NAMES));
    }

    #[test]
    fn a_chain_holds_also_when_read_back_from_json_in_any_order_of_fields() {
        let events = events();
        assert_eq!(verify_chain(&events), Ok(()));
        assert_eq!(verify_chain(&[]), Ok(()));
        let read: Vec<Event> = serde_json::from_str(&serde_json::to_string_pretty(&events).unwrap()).unwrap();
        assert_eq!(read, events);
        assert_eq!(verify_chain(&read), Ok(()));
    }

    #[test]
    fn times_are_kept_to_the_microsecond() {
        assert_eq!(events()[0].at, start());
    }

    #[test]
    fn a_chain_goes_on_where_its_last_event_ended() {
        let mut events = events();
        let next = Chain::resume(events.last().unwrap()).next(at(60), Happening::GatewaySent { what: String::new() });
        events.push(next);
        assert_eq!(verify_chain(&events), Ok(()));
    }

    /// Every leaf of a JSON value, each changed once.
    fn changes(value: &Value) -> Vec<Value> {
        let changed = |text: &str| match text.chars().next() {
            Some('0') => text.replacen('0', "1", 1),
            Some(first) => text.replacen(first, "0", 1),
            None => "x".to_owned(),
        };
        match value {
            Value::Null => vec![Value::from("x")],
            Value::Bool(yes) => vec![Value::from(!yes)],
            Value::Number(number) => vec![Value::from(number.as_u64().unwrap() ^ 1)],
            Value::String(text) => vec![Value::from(changed(text)), Value::from(format!("{text} ")), Value::Null],
            Value::Array(items) => {
                let each = items
                    .iter()
                    .enumerate()
                    .flat_map(|(index, item)| changes(item).into_iter().map(move |item| (index, item)));
                let mut all: Vec<Value> = each
                    .map(|(index, item)| {
                        let mut items = items.clone();
                        items[index] = item;
                        Value::from(items)
                    })
                    .collect();
                all.push(Value::from([items.clone(), vec![Value::from("x")]].concat()));
                all
            }
            Value::Object(fields) => {
                let each = fields
                    .iter()
                    .flat_map(|(key, item)| changes(item).into_iter().map(move |item| (key, item)));
                each.map(|(key, item)| {
                    let mut fields = fields.clone();
                    fields.insert(key.clone(), item);
                    Value::from(fields)
                })
                .collect()
            }
        }
    }

    #[test]
    fn a_change_of_any_field_is_found() {
        let events = events();
        let mut readable = 0;
        for (index, event) in events.iter().enumerate() {
            for change in changes(&serde_json::to_value(event).unwrap()) {
                // What no longer reads as an event is found too.
                let Ok(changed) = serde_json::from_value::<Event>(change.clone()) else {
                    continue;
                };
                // Read as the same event, as a blank after a time is: only bytes tell, and stores compare them.
                if changed == *event {
                    continue;
                }
                let mut events = events.clone();
                events[index] = changed;
                assert!(verify_chain(&events).is_err(), "not found: {change}");
                readable += 1;
            }
        }
        assert!(readable > 200, "only {readable} changes were tried");
    }

    #[test]
    fn an_event_that_is_removed_swapped_repeated_or_put_in_is_found() {
        let events = events();
        let last = events.len() - 1;
        for index in 0..last {
            let mut removed = events.clone();
            removed.remove(index);
            let mut swapped = events.clone();
            swapped.swap(index, index + 1);
            let mut repeated = events.clone();
            repeated.insert(index, events[index].clone());
            for broken in [removed, swapped, repeated] {
                assert!(matches!(verify_chain(&broken), Err(Broken { .. })));
            }
            let mut forged = events.clone();
            let mut chain = Chain::resume(&events[index]);
            forged[index + 1] = chain.next(
                at(1),
                Happening::GatewaySent {
                    what: "forged".to_owned(),
                },
            );
            // A forged last event is a chain of its own: the recording's signed manifest tells.
            assert_eq!(verify_chain(&forged).is_err(), index + 1 < last);
        }
    }

    #[test]
    fn an_event_of_another_session_is_found() {
        let mut events = events();
        let mut foreign = Chain::new(session(2), "gateway-1", None, None);
        foreign.next(at(0), Happening::GatewaySent { what: String::new() });
        events[1] = foreign.next(at(1), Happening::GatewaySent { what: String::new() });
        let why = format!("it belongs to session {}", session(2));
        assert_eq!(verify_chain(&events), Err(Broken { seq: 1, why }));
    }

    #[test]
    fn a_clock_that_goes_back_does_not_turn_the_order_of_events() {
        let mut chain = Chain::new(session(1), "gateway-1", None, None);
        let mut next = |seconds| chain.next(at(seconds), Happening::GatewaySent { what: String::new() });
        let events: Vec<Event> = [5, 3, 7, 1].into_iter().map(&mut next).collect();
        assert_eq!(
            events.iter().map(|event| event.at).collect::<Vec<_>>(),
            [5, 5, 7, 7].map(at)
        );
        assert_eq!(verify_chain(&events), Ok(()));
        let mut resumed = Chain::resume(&events[3]);
        let event = resumed.next(at(0), Happening::GatewaySent { what: String::new() });
        assert_eq!(event.at, at(7));
    }

    #[test]
    fn a_broken_chain_says_where() {
        let mut events = events();
        events.remove(2);
        assert_eq!(
            verify_chain(&events).unwrap_err().to_string(),
            "event 2 of the session: it is missing, event 3 stands in its place"
        );
    }
}
