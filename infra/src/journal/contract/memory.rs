//! A journal that keeps events in a list and answers by the predicate alone: what every other's answers are held
//! against.

use crate::domain::audit::Event;
use crate::domain::id::SessionId;
use crate::domain::identity::PersonKey;
use crate::journal::{Journal, JournalError, JournalQuery, Moment, Page, Retention, people_words};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryJournal(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    events: BTreeMap<Moment, Event>,
    people: BTreeMap<String, BTreeSet<PersonKey>>,
}

impl MemoryJournal {
    fn kept<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(&self, events: &[Event]) -> Result<(), JournalError> {
        self.kept(|kept| {
            for event in events {
                let place = Moment::of(event).map_err(|error| JournalError::Unavailable { source: error.into() })?;
                for (word, key) in people_words(event) {
                    kept.people.entry(word).or_default().insert(key);
                }
                kept.events.insert(place, event.clone());
            }
            Ok(())
        })
    }

    fn retention(&self) -> Option<Retention> {
        None
    }

    async fn session(&self, id: SessionId) -> Result<Vec<Event>, JournalError> {
        let of_it = |kept: &mut Kept| {
            kept.events
                .values()
                .filter(|event| event.session == id)
                .cloned()
                .collect()
        };
        let mut events: Vec<Event> = self.kept(of_it);
        events.sort_by_key(|event| event.seq);
        Ok(events)
    }

    async fn after(&self, session: SessionId, seq: u64, limit: usize) -> Result<Vec<Event>, JournalError> {
        let mut events = self.session(session).await?;
        events.retain(|event| event.seq > seq);
        events.truncate(crate::approvals::limit(limit));
        Ok(events)
    }

    async fn first(&self, session: SessionId) -> Result<Option<Event>, JournalError> {
        Ok(self.session(session).await?.into_iter().next())
    }

    async fn last(&self, session: SessionId) -> Result<Option<Event>, JournalError> {
        Ok(self.session(session).await?.pop())
    }

    async fn probe(&self) -> Result<(), JournalError> {
        Ok(())
    }

    async fn search(&self, query: &JournalQuery) -> Result<Page, JournalError> {
        let limit = query.check()?.limit;
        let mut events: Vec<Event> = self.kept(|kept| {
            let word = query.who.as_ref().map(|who| who.to_lowercase());
            let people = word.and_then(|word| kept.people.get(&word));
            let newest_first = kept.events.values().rev();
            newest_first
                .filter(|event| query.matches(event, people))
                .cloned()
                .collect()
        });
        let follows = events.len() > limit;
        events.truncate(limit);
        let last = events.last().and_then(|last| Moment::of(last).ok());
        Ok(Page {
            next: last.filter(|_| follows).map(|last| last.to_string()),
            events,
        })
    }
}
