//! The same answers from every store: questions whose answers are known, asked in pages of every size.

use super::corpus::{corpus, operation_questions, questions};
use super::memory::MemoryJournal;
use super::{Store, again};
use crate::domain::audit::Event;
use crate::domain::id::SessionId;
use crate::journal::{
    AuditedOperation, EVENTS_MAX, Journal, JournalError, JournalExt, JournalQuery, OperationQuery, OperationState,
    Page, Retention,
};
use async_trait::async_trait;
use std::collections::BTreeSet;

/// Pages that one question may take. More means that they do not end.
const PAGES_MAX: usize = 10_000;

/// Events that one question may find in pages of so many: small pages of much would only take long.
const PAGES: [(usize, usize); 3] = [(1, 20), (2, 40), (7, 300)];

/// Fills the journal with sessions of many kinds, and holds its answers to some hundred questions against those of
/// the predicate. Panics at the first that differs. The journal must be empty.
pub async fn answers(journal: Store) {
    let coverage = compare(journal, 4711, 26, 110).await;
    assert!(coverage.found_some > 100, "{coverage:?}");
    assert_eq!(coverage.states, OperationState::ALL.into(), "{coverage:?}");
}

/// [`answers`] of a corpus of this seed and size, with so many questions that are mixtures.
pub async fn compare(journal: Store, seed: u64, sessions: u64, mixtures: usize) -> Coverage {
    let journal = Patient(journal);
    let memory = MemoryJournal::default();
    let events = corpus(seed, sessions);
    memory.append(&events).await.unwrap_or_else(|e| panic!("{e}"));
    for session in events.chunk_by(|one, other| one.session == other.session) {
        for part in session.chunks(EVENTS_MAX) {
            journal.append(part).await.unwrap_or_else(|e| panic!("{e}"));
        }
    }
    let (mut found_some, mut states) = (0, BTreeSet::new());
    for (number, query) in questions(seed, mixtures).into_iter().enumerate() {
        let expected = search_all(&memory, &query, 1000).await;
        found_some += usize::from(!expected.is_empty());
        for limit in sizes(number, expected.len()) {
            let found = search_all(&journal, &query, limit).await;
            assert_eq!(places(&found), places(&expected), "{query:?} in pages of {limit}");
            assert!(found == expected, "{query:?} in pages of {limit}: events differ");
        }
    }
    for (number, query) in operation_questions(seed, mixtures).into_iter().enumerate() {
        let expected = operations_all(&memory, &query, 1000).await;
        states.extend(expected.iter().map(|operation| operation.ending.state));
        for limit in sizes(number, expected.len()) {
            let found = operations_all(&journal, &query, limit).await;
            assert_eq!(found, expected, "seed {seed}: {query:?} in pages of {limit}");
        }
    }
    Coverage { found_some, states }
}

/// What questions found: that it is something shows that they ask for what is there.
#[derive(Debug)]
pub struct Coverage {
    /// Questions for events that found any.
    pub found_some: usize,
    /// States of the operations that were found.
    pub states: BTreeSet<OperationState>,
}

/// The sizes of pages that one question is asked in: a large one, and a small one that changes with its number.
fn sizes(number: usize, found: usize) -> impl Iterator<Item = usize> {
    let small = PAGES.into_iter().cycle().nth(number % PAGES.len());
    small
        .filter(|(_, most)| found <= *most)
        .map(|(size, _)| size)
        .into_iter()
        .chain([1000])
}

fn places(events: &[Event]) -> Vec<(SessionId, u64)> {
    events.iter().map(|event| (event.session, event.seq)).collect()
}

async fn search_all(journal: &impl Journal, query: &JournalQuery, limit: usize) -> Vec<Event> {
    let mut query = JournalQuery { limit, ..query.clone() };
    let mut found = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = journal
            .search(&query)
            .await
            .unwrap_or_else(|e| panic!("{query:?}: {e}"));
        assert!(page.events.len() <= limit, "{query:?}: a page of {}", page.events.len());
        found.extend(page.events);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return found,
        }
    }
    panic!("{query:?}: the pages do not end")
}

async fn operations_all(journal: &impl Journal, query: &OperationQuery, limit: usize) -> Vec<AuditedOperation> {
    let mut query = OperationQuery { limit, ..query.clone() };
    let mut found = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = journal
            .operations(&query)
            .await
            .unwrap_or_else(|e| panic!("{query:?}: {e}"));
        assert!(
            page.operations.len() <= limit,
            "{query:?}: a page of {}",
            page.operations.len()
        );
        found.extend(page.operations);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return found,
        }
    }
    panic!("{query:?}: the pages do not end")
}

/// Asks each call again until the journal says something.
struct Patient(Store);

#[async_trait]
impl Journal for Patient {
    async fn append(&self, events: &[Event]) -> Result<(), JournalError> {
        again(|| self.0.append(events)).await
    }

    fn retention(&self) -> Option<Retention> {
        self.0.retention()
    }

    async fn session(&self, id: SessionId) -> Result<Vec<Event>, JournalError> {
        again(|| self.0.session(id)).await
    }

    async fn after(&self, session: SessionId, seq: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        again(|| self.0.after(session, seq, limit)).await
    }

    async fn first(&self, session: SessionId) -> Result<Option<Event>, JournalError> {
        again(|| self.0.first(session)).await
    }

    async fn last(&self, session: SessionId) -> Result<Option<Event>, JournalError> {
        again(|| self.0.last(session)).await
    }

    async fn probe(&self) -> Result<(), JournalError> {
        again(|| self.0.probe()).await
    }

    async fn search(&self, query: &JournalQuery) -> Result<Page, JournalError> {
        again(|| self.0.search(query)).await
    }
}
