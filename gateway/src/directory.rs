//! Tells the directory of sign-ins: the bot knows people by it whose chat account was linked a while ago, or by its address.
//!
//! Nobody waits for it. What was not written is told by the next sign-in.

use chrono::{TimeDelta, Utc};
use countersign_infra::directory::DirectoryStore;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::directory::DirectoryEntry;
use countersign_infra::domain::identity::{PersonKey, PersonKind, SignedIn};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// A newer token that says the same of its person is told after that: another gateway may have been told otherwise in
/// between.
const AGAIN_AFTER: TimeDelta = TimeDelta::seconds(10);
/// People that are remembered as told; of more all are forgotten.
const TOLD_MAX: usize = 10_000;
/// Entries that are written at once; beyond that the next sign-in tells.
const AT_ONCE: usize = 16;
/// How long one may take.
const KEPT_WITHIN: Duration = Duration::from_secs(30);

/// What this gateway tells of sign-ins.
pub struct Directory {
    store: Option<Arc<dyn DirectoryStore>>,
    told: Arc<Mutex<HashMap<PersonKey, DirectoryEntry>>>,
    turns: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Directory {
    /// `tasks` has what is being written. Without a store nothing is told: no bot is there to ask.
    pub fn new(store: Option<Arc<dyn DirectoryStore>>, tasks: TaskTracker) -> Self {
        Self {
            store,
            told: Arc::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            tasks,
        }
    }

    /// Somebody signed in. Returns at once.
    pub fn saw(&self, signed_in: &SignedIn) {
        let (Some(store), Some(entry)) = (self.store.clone(), self.news(signed_in)) else {
            return;
        };
        let Ok(turn) = self.turns.clone().try_acquire_owned() else {
            return;
        };
        let told = self.told.clone();
        self.tasks.spawn(async move {
            match tokio::time::timeout(KEPT_WITHIN, store.keep(&entry)).await {
                Ok(Ok(())) => remember(&told, entry),
                Ok(Err(error)) => tracing::warn!(person = entry.person.name, %error, "the directory was not told"),
                Err(_) => tracing::warn!(person = entry.person.name, "the directory was not told in time"),
            }
            drop(turn);
        });
    }

    /// What the directory is to be told, if it is news.
    fn news(&self, signed_in: &SignedIn) -> Option<DirectoryEntry> {
        let person = &signed_in.person;
        let issued = signed_in.issued.filter(|_| person.kind == PersonKind::Human)?;
        // The issuer's clock may be ahead of ours.
        let as_of = issued.min(Utc::now());
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = told.get(&person.key).is_none_or(|told| is_news(told, signed_in, as_of));
        is_news.then(|| DirectoryEntry {
            person: person.clone(),
            as_of,
        })
    }
}

fn is_news(told: &DirectoryEntry, signed_in: &SignedIn, as_of: Timestamp) -> bool {
    let is_another = told.person != signed_in.person;
    as_of > told.as_of && (is_another || as_of - told.as_of >= AGAIN_AFTER)
}

fn remember(told: &Mutex<HashMap<PersonKey, DirectoryEntry>>, entry: DirectoryEntry) {
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    if told.len() >= TOLD_MAX {
        told.clear();
    }
    told.insert(entry.person.key.clone(), entry);
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_infra::domain::example::{at, person};
    use countersign_infra::embedded::EmbeddedStore;

    #[tokio::test]
    async fn it_is_told_of_people_and_of_what_is_new() {
        let file = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(file.path().join("store.db")).unwrap();
        let directory = Directory::new(Some(Arc::new(store.clone())), TaskTracker::new());
        let signed_in = |groups: &[&str], second: i64| SignedIn {
            person: person("bob", groups),
            expires: at(second + 300),
            issued: Some(at(second)),
        };
        // (what a token says, whether it is news)
        let cases = [
            (signed_in(&["dba"], 0), true),
            (signed_in(&["dba"], 0), false),
            (signed_in(&["dba"], 9), false),
            (signed_in(&["dba"], 10), true),
            (signed_in(&[], 11), true),
            (signed_in(&["dba"], 5), false),
        ];
        for (number, (signed_in, is_news)) in cases.into_iter().enumerate() {
            assert_eq!(directory.news(&signed_in).is_some(), is_news, "case {number}");
            directory.saw(&signed_in);
            directory.tasks.close();
            directory.tasks.wait().await;
        }
        let kept = DirectoryStore::read(&store, &person("bob", &[]).key)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((kept.person, kept.as_of), (person("bob", &[]), at(11)));
        let mut program = signed_in(&["dba"], 900);
        program.person.kind = PersonKind::Machine;
        assert!(directory.news(&program).is_none());
        let stored = SignedIn {
            issued: None,
            ..signed_in(&["dba"], 900)
        };
        assert!(directory.news(&stored).is_none());
    }
}
