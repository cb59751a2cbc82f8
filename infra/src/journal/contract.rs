//! What every journal promises, as checks that each one passes: plain, and behind [`super::flaky`].
//!
//! The checks share one journal and keep apart by session and target.

use super::{Journal, JournalError, JournalQuery, Page};
use crate::domain::approval::Outcome;
use crate::domain::audit::{Chain, Event, Happening, VerdictWord, verify_chain};
use crate::domain::example::{alice, at, bob, effects, header, place, session, terms};
use crate::domain::id::{ApprovalId, Digest, SessionId};
use crate::domain::identity::Person;
use std::sync::Arc;

type Store = Arc<dyn Journal>;

/// Runs every check. Panics at the first promise that is not kept.
pub async fn holds(journal: Store) {
    a_session_reads_back_in_order_and_its_chain_holds(&journal).await;
    the_same_event_again_is_accepted_and_another_is_not(&journal).await;
    events_are_appended_all_or_none(&journal).await;
    nothing_is_read_of_an_unknown_session(&journal).await;
    searches_narrow_by_every_field(&journal).await;
    a_question_that_makes_no_sense_is_refused(&journal).await;
    pages_are_newest_first_and_do_not_shift(&journal).await;
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
            approval: Some("7".to_owned()),
            ..JournalQuery::default()
        },
    ];
    for query in queries {
        assert!(
            matches!(again(|| journal.search(&query)).await, Err(JournalError::BadQuery(_))),
            "{query:?}"
        );
    }
}

async fn pages_are_newest_first_and_do_not_shift(journal: &Store) {
    let target = "contract-pages";
    let mut expected: Vec<Event> = Vec::new();
    for number in 0..4 {
        let events = story(session(110 + number), &alice(), target, "SELECT 6");
        append(journal, &events).await;
        expected.splice(0..0, events.into_iter().rev());
    }
    let mut query = JournalQuery {
        target: Some(target.to_owned()),
        limit: 5,
        ..JournalQuery::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = search(journal, &query).await;
        seen.extend(page.events);
        append(
            journal,
            &story(session(120 + seen.len() as u128), &alice(), target, "SELECT 7"),
        )
        .await;
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, expected);
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

/// Six events of one session, a second apart: four of them speak of an operation, two of an approval.
pub fn story(id: SessionId, person: &Person, target: &str, display: &str) -> Vec<Event> {
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
    (0..)
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
