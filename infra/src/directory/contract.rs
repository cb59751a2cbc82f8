//! What every directory promises, as checks that each one passes: plain, and behind [`super::flaky`].
//!
//! The checks share one store and keep apart by their people.

use super::{DirectoryError, DirectoryStore};
use crate::domain::directory::DirectoryEntry;
use crate::domain::example::{at, person};
use crate::domain::identity::PersonKey;
use std::sync::Arc;

type Store = Arc<dyn DirectoryStore>;

/// Runs every check. Panics at the first promise that is not kept.
pub async fn holds(store: Store) {
    a_person_is_as_their_last_sign_in_said(&store).await;
    people_whose_keys_read_alike_are_not_taken_for_each_other(&store).await;
    whoever_has_another_address_now_is_not_found_under_the_former(&store).await;
    all_of_one_address_are_found(&store).await;
    of_twenty_sign_ins_at_once_the_youngest_stays(&store).await;
}

async fn a_person_is_as_their_last_sign_in_said(store: &Store) {
    let newcomer = entry("newcomer", Some("newcomer@example.com"), &["engineering"], 10);
    assert_eq!(read(store, &newcomer.person.key).await, None);
    keep(store, &newcomer).await;
    assert_eq!(read(store, &newcomer.person.key).await.as_ref(), Some(&newcomer));
    let promoted = entry("newcomer", Some("newcomer@example.com"), &["dba"], 20);
    keep(store, &promoted).await;
    // Late, or again: an old token says nothing new.
    for late in [&newcomer, &promoted, &entry("newcomer", None, &["guests"], 20)] {
        keep(store, late).await;
        assert_eq!(read(store, &newcomer.person.key).await.as_ref(), Some(&promoted));
    }
}

async fn people_whose_keys_read_alike_are_not_taken_for_each_other(store: &Store) {
    let keyed = |issuer: &str, subject: &str| {
        let mut entry = entry("alike", None, &[], 0);
        entry.person.key = PersonKey {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
        };
        entry
    };
    let entries = [
        keyed("a#b", "c"),
        keyed("a", "b#c"),
        keyed("a", "B#c"),
        keyed("A", "b#c"),
    ];
    for entry in &entries {
        keep(store, entry).await;
    }
    for entry in &entries {
        assert_eq!(read(store, &entry.person.key).await.as_ref(), Some(entry));
    }
}

async fn whoever_has_another_address_now_is_not_found_under_the_former(store: &Store) {
    keep(store, &entry("mover", Some("Mover@Old.example"), &[], 0)).await;
    assert_eq!(find(store, "mover@old.example").await, ["mover"]);
    keep(store, &entry("mover", Some("mover@new.example"), &[], 10)).await;
    assert!(find(store, "mover@old.example").await.is_empty());
    assert_eq!(find(store, "mover@new.example").await, ["mover"]);
    keep(store, &entry("mover", None, &[], 20)).await;
    assert!(find(store, "mover@new.example").await.is_empty());
    // Who comes after has the address alone.
    keep(store, &entry("successor", Some("mover@old.example"), &[], 30)).await;
    assert_eq!(find(store, "mover@old.example").await, ["successor"]);
}

async fn all_of_one_address_are_found(store: &Store) {
    for subject in ["twin-1", "twin-2"] {
        keep(store, &entry(subject, Some("twins@example.com"), &[], 0)).await;
    }
    assert_eq!(find(store, "twins@example.com").await, ["twin-1", "twin-2"]);
    assert!(find(store, "nobody@example.com").await.is_empty());
}

async fn of_twenty_sign_ins_at_once_the_youngest_stays(store: &Store) {
    let calls: Vec<_> = (0..20)
        .map(|second| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let entry = entry("busy", Some("busy@example.com"), &[], second);
                // Of so many at once some are refused for others' sake, and tried again.
                while again(|| store.keep(&entry)).await.is_err() {}
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap_or_else(|e| panic!("{e}"));
    }
    let last = entry("busy", Some("busy@example.com"), &[], 19);
    assert_eq!(read(store, &last.person.key).await, Some(last));
}

fn entry(subject: &str, email: Option<&str>, groups: &[&str], second: i64) -> DirectoryEntry {
    let mut person = person(subject, groups);
    person.key.subject = subject.to_owned();
    person.email = email.map(str::to_owned);
    DirectoryEntry {
        person,
        as_of: at(second),
    }
}

async fn keep(store: &Store, entry: &DirectoryEntry) {
    again(|| store.keep(entry)).await.unwrap_or_else(|e| panic!("{e}"));
}

async fn read(store: &Store, key: &PersonKey) -> Option<DirectoryEntry> {
    again(|| store.read(key)).await.unwrap_or_else(|e| panic!("{e}"))
}

/// The subjects of whom an address means.
async fn find(store: &Store, mailbox: &str) -> Vec<String> {
    let found = again(|| store.find(mailbox)).await.unwrap_or_else(|e| panic!("{e}"));
    let mut subjects: Vec<String> = found.into_iter().map(|entry| entry.person.key.subject).collect();
    subjects.sort();
    subjects
}

/// Repeats a call until the store says something.
async fn again<T, F, C>(call: C) -> Result<T, DirectoryError>
where
    C: Fn() -> F,
    F: Future<Output = Result<T, DirectoryError>>,
{
    for _ in 0..50 {
        match call().await {
            Err(DirectoryError::Unavailable { .. }) => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
    call().await
}
