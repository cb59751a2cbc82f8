//! What every journal promises, as checks that each one passes: plain, and behind [`super::flaky`].
//!
//! The checks share one journal and keep apart by session and target.

use super::{EVENTS_MAX, Journal, JournalError, JournalExt, JournalQuery, Moment, OperationQuery, Page};
use crate::domain::approval::Outcome;
use crate::domain::audit::{Chain, Event, Happening, VerdictWord, verify_chain};
use crate::domain::example::{alice, at, bob, effects, header, place, session, terms};
use crate::domain::id::{ApprovalId, Digest, SessionId};
use crate::domain::identity::{Person, PersonKey};
use chrono::TimeDelta;
use std::sync::Arc;

mod answers;
mod corpus;
pub mod memory;

pub use answers::{answers, compare};

type Store = Arc<dyn Journal>;

/// Runs every check. Panics at the first promise that is not kept.
pub async fn holds(journal: Store) {
    a_session_reads_back_in_order_and_its_chain_holds(&journal).await;
    the_same_event_again_is_accepted_and_another_is_not(&journal).await;
    events_are_appended_all_or_none(&journal).await;
    nothing_is_read_of_an_unknown_session(&journal).await;
    a_session_is_read_on_from_any_of_its_events(&journal).await;
    the_ends_of_a_session_are_read_alone(&journal).await;
    a_part_of_long_statements_ends_early_and_loses_none(&journal).await;
    searches_narrow_by_every_field(&journal).await;
    people_are_found_by_every_word_that_they_ever_bore(&journal).await;
    a_question_that_makes_no_sense_is_refused(&journal).await;
    pages_are_newest_first_and_do_not_shift(&journal).await;
    events_of_one_time_have_one_order(&journal).await;
    a_long_session_is_searched_up_to_any_time(&journal).await;
    a_search_goes_back_over_many_days(&journal).await;
    a_thousand_appends_at_once_are_all_there(&journal).await;
}

async fn a_session_reads_back_in_order_and_its_chain_holds(journal: &Store) {
    let events = story(session(101), &alice(), "contract-order", "SELECT 1");
    for event in &events {
        append(journal, std::slice::from_ref(event)).await;
    }
    let read = again(|| journal.session(session(101)))
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(read, events);
    assert_eq!(verify_chain(&read), Ok(()));
}

async fn the_same_event_again_is_accepted_and_another_is_not(journal: &Store) {
    let events = story(session(102), &alice(), "contract-again", "SELECT 2");
    append(journal, &events).await;
    append(journal, &events).await;
    let other = story(session(102), &bob(), "contract-again", "SELECT 2");
    let refused = again(|| journal.append(&other)).await;
    assert!(matches!(refused, Err(JournalError::Taken { session: id, seq: 0 }) if id == session(102)));
    assert_eq!(
        again(|| journal.session(session(102)))
            .await
            .unwrap_or_else(|e| panic!("{e}")),
        events
    );
    append(journal, &[]).await;
}

async fn events_are_appended_all_or_none(journal: &Store) {
    let there = story(session(103), &alice(), "contract-none", "SELECT 3");
    append(journal, &there).await;
    let new = story(session(104), &alice(), "contract-none", "SELECT 4");
    let clash = story(session(103), &bob(), "contract-none", "SELECT 5");
    let mixed: Vec<Event> = new.iter().chain(&clash).cloned().collect();
    assert!(matches!(
        again(|| journal.append(&mixed)).await,
        Err(JournalError::Taken { .. })
    ));
    assert_eq!(
        again(|| journal.session(session(104)))
            .await
            .unwrap_or_else(|e| panic!("{e}")),
        []
    );
}

async fn nothing_is_read_of_an_unknown_session(journal: &Store) {
    assert_eq!(
        again(|| journal.session(session(105)))
            .await
            .unwrap_or_else(|e| panic!("{e}")),
        []
    );
}

async fn a_session_is_read_on_from_any_of_its_events(journal: &Store) {
    let events = story(session(108), &alice(), "contract-after", "SELECT 8");
    append(journal, &events).await;
    append(journal, &story(session(109), &alice(), "contract-after", "SELECT 9")).await;
    for (seq, limit, expected) in [
        (0, 0, events.get(1..)),
        (0, 1, events.get(1..2)),
        (1, 3, events.get(2..5)),
        (2, 1_000_000, events.get(3..)),
        (5, 10, Some(&[][..])),
        (u64::MAX, 10, Some(&[][..])),
    ] {
        let read = again(|| journal.after(session(108), seq, limit)).await;
        let read = read.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(Some(read.as_slice()), expected, "{limit} after {seq}");
    }
    let none = again(|| journal.after(session(105), 0, 10)).await;
    assert_eq!(none.unwrap_or_else(|e| panic!("{e}")), []);
}

async fn the_ends_of_a_session_are_read_alone(journal: &Store) {
    let events = story(session(108), &alice(), "contract-after", "SELECT 8");
    append(journal, &events).await;
    for (id, first, last) in [
        (session(108), events.first(), events.last()),
        (session(105), None, None),
    ] {
        let read = again(|| journal.first(id)).await.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(read.as_ref(), first);
        let read = again(|| journal.last(id)).await.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(read.as_ref(), last);
    }
}

async fn a_part_of_long_statements_ends_early_and_loses_none(journal: &Store) {
    let (id, mut chain) = (session(151), chain(session(151), &alice(), "contract-bytes"));
    let mut events = Vec::new();
    for second in 0..40 {
        let what = "x".repeat(300 << 10);
        let event = chain.next(at(second), Happening::GatewaySent { what });
        append(journal, std::slice::from_ref(&event)).await;
        events.push(event);
    }
    let mut read: Vec<Event> = events.first().cloned().into_iter().collect();
    loop {
        let seq = read.last().map_or(0, |last| last.seq);
        let part = again(|| journal.after(id, seq, 1000)).await;
        let part = part.unwrap_or_else(|e| panic!("{e}"));
        if part.is_empty() {
            break;
        }
        assert!(part.len() < 20, "a part has {} events of 300 KB", part.len());
        read.extend(part);
    }
    assert!(read == events);
    let whole = again(|| journal.session(id)).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(whole == events);
}

async fn a_search_goes_back_over_many_days(journal: &Store) {
    let mut chain = chain(session(152), &alice(), "contract-days");
    let days = 0..150;
    let note = |day| {
        let what = format!("day {day} of many");
        chain.next(at(0) + TimeDelta::days(day), Happening::GatewaySent { what })
    };
    let events: Vec<Event> = days.map(note).collect();
    for part in events.chunks(EVENTS_MAX) {
        append(journal, part).await;
    }
    let query = JournalQuery {
        text: Some("day 0 of many".to_owned()),
        ..JournalQuery::default()
    };
    assert_eq!(Some(all_pages(journal, query).await.as_slice()), events.get(..1));
}

async fn searches_narrow_by_every_field(journal: &Store) {
    let target = "contract-search";
    append(
        journal,
        &story(
            session(106),
            &alice(),
            target,
            "DELETE FROM Straße WHERE rate = '100%_\\'",
        ),
    )
    .await;
    append(journal, &story(session(107), &bob(), target, "SELECT 100")).await;
    let base = JournalQuery {
        target: Some(target.to_owned()),
        ..JournalQuery::default()
    };
    let ours = |change: &dyn Fn(&mut JournalQuery)| {
        let mut query = base.clone();
        change(&mut query);
        query
    };
    let who = |who: &'static str| move |query: &mut JournalQuery| query.who = Some(who.to_owned());
    let text = |text: &'static str| move |query: &mut JournalQuery| query.text = Some(text.to_owned());
    let events = |names: &'static [&'static str]| {
        move |query: &mut JournalQuery| query.events = names.iter().map(|name| (*name).to_owned()).collect()
    };
    let approval = ApprovalId::from_random([9; 5]).to_string().to_lowercase();
    let cases: Vec<(&str, JournalQuery, usize)> = vec![
        ("target", base.clone(), 12),
        (
            "another target",
            JournalQuery {
                target: Some("contract".to_owned()),
                ..base.clone()
            },
            0,
        ),
        ("name", ours(&who("Alice")), 6),
        ("e-mail address", ours(&who("ALICE@example.com")), 6),
        ("subject", ours(&who("sub-bob")), 6),
        ("nobody", ours(&who("ali")), 0),
        ("text in any case", ours(&text("from STRASSE")), 0),
        ("text beyond ASCII in any case", ours(&text("FROM STRAßE")), 1),
        ("text with % as itself", ours(&text("100%_\\")), 1),
        ("text with a pattern", ours(&text("1%0")), 0),
        ("no text", ours(&text("")), 12),
        ("event", ours(&events(&["asked"])), 2),
        ("events", ours(&events(&["asked", "refused", "asked"])), 4),
        ("since", ours(&|query| query.since = Some(at(3))), 6),
        ("until", ours(&|query| query.until = Some(at(3))), 6),
        (
            "since and until",
            ours(&|query| (query.since, query.until) = (Some(at(1)), Some(at(2)))),
            2,
        ),
        ("approval", ours(&|query| query.approval = Some(approval.clone())), 4),
        ("session", ours(&|query| query.session = Some(session(107))), 6),
        (
            "all at once",
            ours(&|query| (query.who, query.session) = (Some("bob".to_owned()), Some(session(106)))),
            0,
        ),
    ];
    for (name, query, expected) in cases {
        let page = search(journal, &query).await;
        assert_eq!((page.events.len(), page.next), (expected, None), "by {name}");
    }
}

async fn people_are_found_by_every_word_that_they_ever_bore(journal: &Store) {
    let target = "contract-people";
    let named = |subject: &str, issuer: &str, name: &str, email: Option<&str>| Person {
        key: PersonKey {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
        },
        name: name.to_owned(),
        email: email.map(str::to_owned),
        ..alice()
    };
    let (here, there) = ("https://one.example", "https://two.example");
    let sessions = [
        named("Çelik-7", here, "Ayşe Çelik", Some("ayse@example.com")),
        // The same person after her marriage, without an address in the token.
        named("Çelik-7", here, "Ayşe Øst", None),
        // Another, of another issuer, under the same subject.
        named("Çelik-7", there, "Deniz", Some("deniz@example.com")),
        // And one who has the first one's name.
        named("other", there, "AYŞE ÇELIK", Some("ayse@example.org")),
    ];
    for (number, person) in (140..).zip(&sessions) {
        append(journal, &story(session(number), person, target, "SELECT 9")).await;
    }
    for (who, expected) in [
        ("ayşe øst", vec![141, 140]),
        ("AYSE@EXAMPLE.COM", vec![141, 140]),
        ("ayşe çelik", vec![143, 141, 140]),
        ("çelik-7", vec![142, 141, 140]),
        ("ÇELIK-7", vec![142, 141, 140]),
        ("deniz@example.com", vec![142]),
        ("ayşe", vec![]),
        ("", vec![]),
    ] {
        let query = JournalQuery {
            who: Some(who.to_owned()),
            target: Some(target.to_owned()),
            ..JournalQuery::default()
        };
        let mut found: Vec<SessionId> = all_pages(journal, query)
            .await
            .iter()
            .map(|event| event.session)
            .collect();
        found.sort_by_key(|id| std::cmp::Reverse(*id));
        let expected: Vec<SessionId> = expected.into_iter().flat_map(|id| [session(id); 6]).collect();
        assert_eq!(found, expected, "of {who:?}");
    }
}

async fn a_question_that_makes_no_sense_is_refused(journal: &Store) {
    let queries = [
        JournalQuery {
            events: vec!["aksed".to_owned()],
            ..JournalQuery::default()
        },
        JournalQuery {
            after: Some("yesterday".to_owned()),
            ..JournalQuery::default()
        },
        JournalQuery {
            after: Some("7".to_owned()),
            ..JournalQuery::default()
        },
        JournalQuery {
            approval: Some("7".to_owned()),
            ..JournalQuery::default()
        },
    ];
    for query in queries {
        assert!(matches!(query.check(), Err(JournalError::BadQuery(_))), "{query:?}");
        assert!(
            matches!(again(|| journal.search(&query)).await, Err(JournalError::BadQuery(_))),
            "{query:?}"
        );
    }
}

async fn pages_are_newest_first_and_do_not_shift(journal: &Store) {
    let target = "contract-pages";
    let later = |number: u128, start| story_from(start, session(number), &alice(), target, "SELECT 6");
    let mut expected: Vec<Event> = Vec::new();
    // Sessions that overlap, written in no order of time.
    for (number, start) in [(110, 3), (111, 0), (112, 5), (113, 1)] {
        let events = later(number, start);
        append(journal, &events).await;
        expected.extend(events);
    }
    expected.sort_by_key(|event| std::cmp::Reverse(Moment::of(event).ok()));
    let mut query = JournalQuery {
        target: Some(target.to_owned()),
        limit: 5,
        ..JournalQuery::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = search(journal, &query).await;
        seen.extend(page.events);
        // What is written meanwhile is newer, so that it belongs before the pages that were read.
        append(journal, &later(1000 + seen.len() as u128, 100)).await;
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, expected);
    let last = seen
        .last()
        .map(Moment::of)
        .and_then(Result::ok)
        .map(|place| place.to_string());
    query.after = last;
    let page = search(journal, &query).await;
    assert_eq!((page.events, page.next), (Vec::new(), None));
}

async fn events_of_one_time_have_one_order(journal: &Store) {
    let mut expected = Vec::new();
    for number in [132, 130, 133, 131] {
        let mut chain = chain(session(number), &alice(), "contract-ties");
        let mut note = || chain.next(at(7), Happening::GatewaySent { what: String::new() });
        let events = vec![note(), note(), note()];
        append(journal, &events).await;
        expected.extend(events);
    }
    expected.sort_by_key(|event| std::cmp::Reverse((event.session, event.seq)));
    for limit in [1, 2, 5, 100] {
        let query = JournalQuery {
            target: Some("contract-ties".to_owned()),
            limit,
            ..JournalQuery::default()
        };
        assert_eq!(all_pages(journal, query).await, expected, "in pages of {limit}");
    }
}

/// More events than one search of any store looks at.
const LONG: i64 = 2_100;

async fn a_long_session_is_searched_up_to_any_time(journal: &Store) {
    let (id, target) = (session(150), "contract-long");
    let mut events = story(id, &alice(), target, "SELECT 10");
    // Up to the verdict: this one is held under a number of its own.
    events.truncate(3);
    let mut chain = chain_after(&events);
    let approval = ApprovalId::from_random([10; 5]);
    let held = Happening::Held {
        operation: Digest::of(b"SELECT 10"),
        approval: approval.clone(),
        terms: terms(1),
        deadline: at(600),
    };
    events.push(chain.next(at(3), held));
    let start = i64::try_from(events.len()).unwrap_or_default();
    events.extend((start..LONG).map(|second| {
        // Two of each microsecond.
        let at = at(10) + TimeDelta::microseconds(second / 2);
        chain.next(at, Happening::GatewaySent { what: String::new() })
    }));
    for part in events.chunks(EVENTS_MAX) {
        append(journal, part).await;
    }
    let late = at(10) + TimeDelta::microseconds(50);
    for (since, until, names) in [
        (None, Some(at(3)), &[][..]),
        (Some(at(1)), Some(at(3)), &[][..]),
        (Some(at(0)), Some(late), &["gateway_sent"][..]),
        (None, Some(at(0)), &[][..]),
        (Some(late), None, &["asked"][..]),
        (None, None, &["session_opened"][..]),
    ] {
        let query = JournalQuery {
            session: Some(id),
            since,
            until,
            events: names.iter().map(|name| (*name).to_owned()).collect(),
            limit: 1000,
            ..JournalQuery::default()
        };
        let answers = events.iter().rev().filter(|event| query.matches(event, None));
        let expected: Vec<Event> = answers.cloned().collect();
        assert_eq!(all_pages(journal, query.clone()).await, expected, "{query:?}");
    }
    for session in [None, Some(id)] {
        let query = OperationQuery {
            approval: Some(approval.to_string()),
            session,
            ..OperationQuery::default()
        };
        let page = again(|| journal.operations(&query)).await;
        let page = page.unwrap_or_else(|e| panic!("{e}"));
        let asked: Vec<u64> = page.operations.iter().map(|operation| operation.seq).collect();
        assert_eq!(asked, [1], "{query:?}");
    }
}

/// Pages that one question of a check may take. More means that they do not end.
const PAGES_MAX: usize = 1_000;

/// Reads all pages of a question, one after the other.
pub(super) async fn all_pages(journal: &Store, mut query: JournalQuery) -> Vec<Event> {
    let mut seen = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = search(journal, &query).await;
        seen.extend(page.events);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return seen,
        }
    }
    panic!("{query:?}: the pages do not end")
}

async fn a_thousand_appends_at_once_are_all_there(journal: &Store) {
    let append_one = |number: u128| {
        let journal = Arc::clone(journal);
        tokio::spawn(async move {
            let mut chain = chain(session(10_000 + number), &alice(), "contract-thousand");
            append(
                &journal,
                &[chain.next(
                    at(0),
                    Happening::GatewaySent {
                        what: format!("number {number}"),
                    },
                )],
            )
            .await;
        })
    };
    for appended in (0..1000).map(append_one).collect::<Vec<_>>() {
        appended.await.unwrap_or_else(|e| panic!("{e}"));
    }
    let query = JournalQuery {
        target: Some("contract-thousand".to_owned()),
        limit: 5000,
        ..JournalQuery::default()
    };
    let page = search(journal, &query).await;
    assert_eq!((page.events.len(), page.next), (1000, None));
    let mut sessions: Vec<SessionId> = page.events.iter().map(|event| event.session).collect();
    sessions.sort();
    sessions.dedup();
    assert_eq!(sessions.len(), 1000);
}

fn chain(id: SessionId, person: &Person, target: &str) -> Chain {
    Chain::new(id, "gateway-1", Some(person), Some(target.to_owned()))
}

/// The chain of a session as it goes on after these events.
fn chain_after(events: &[Event]) -> Chain {
    events.last().map_or_else(|| panic!("there is no event"), Chain::resume)
}

/// Six events of one session, a second apart: four of them speak of an operation, two of an approval.
pub fn story(id: SessionId, person: &Person, target: &str, display: &str) -> Vec<Event> {
    story_from(0, id, person, target, display)
}

/// [`story`], so many seconds later.
pub fn story_from(start: i64, id: SessionId, person: &Person, target: &str, display: &str) -> Vec<Event> {
    let operation = Digest::of(display.as_bytes());
    let approval = ApprovalId::from_random([9; 5]);
    let happenings = [
        Happening::SessionOpened {
            header: header(id, person.clone()),
        },
        Happening::Asked {
            operation,
            display: display.to_owned(),
            display_bytes: display.len() as u64,
            size_bytes: display.len() as u64,
            effects: effects(),
            place: place(),
            in_transaction: false,
        },
        Happening::Verdict {
            operation,
            verdict: VerdictWord::Hold,
            rules: vec!["w".to_owned()],
            reasons: Vec::new(),
        },
        Happening::Held {
            operation,
            approval: approval.clone(),
            terms: terms(1),
            deadline: at(600),
        },
        Happening::Refused {
            operation: Some(operation),
            approval: Some(approval),
            code: "42501".to_owned(),
            message: "denied by bob".to_owned(),
        },
        Happening::Answered {
            operation,
            outcome: Outcome {
                ok: true,
                summary: "DELETE 1".to_owned(),
                rows: Some(1),
                duration_ms: 3,
            },
            bytes: 17,
        },
    ];
    let mut chain = chain(id, person, target);
    (start..)
        .zip(happenings)
        .map(|(second, what)| chain.next(at(second), what))
        .collect()
}

async fn append(journal: &Store, events: &[Event]) {
    again(|| journal.append(events)).await.unwrap_or_else(|e| panic!("{e}"));
}

async fn search(journal: &Store, query: &JournalQuery) -> Page {
    again(|| journal.search(query)).await.unwrap_or_else(|e| panic!("{e}"))
}

/// Repeats a call until the journal says something.
async fn again<T, F, C>(call: C) -> Result<T, JournalError>
where
    C: Fn() -> F,
    F: Future<Output = Result<T, JournalError>>,
{
    for _ in 0..50 {
        match call().await {
            Err(JournalError::Unavailable { .. }) => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
    call().await
}
