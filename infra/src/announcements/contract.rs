//! What every store of announcements promises, as checks that each one passes: plain, and behind [`super::flaky`].
//!
//! The checks share one store and keep apart by their approvals.

use super::{AnnouncementError, AnnouncementStore};
use crate::domain::Timestamp;
use crate::domain::announcement::{Announcement, Turn};
use crate::domain::example::at;
use crate::domain::id::ApprovalId;
use std::sync::Arc;
use std::time::Duration;

type Store = Arc<dyn AnnouncementStore>;

/// Runs every check. Panics at the first promise that is not kept.
pub async fn holds(store: Store) {
    what_was_put_last_is_read(&store).await;
    what_was_not_read_is_not_replaced(&store).await;
    of_twenty_bots_at_once_one_has_the_turn(&store).await;
    what_is_due_is_found_and_what_is_done_is_not(&store).await;
}

async fn what_was_put_last_is_read(store: &Store) {
    assert_eq!(read(store, 1).await, None);
    let first = put(store, new(1), None).await;
    assert_eq!(read(store, 1).await.as_ref(), Some(&first));
    let next = put(store, taken(&first, 7), Some(&first)).await;
    assert_eq!(read(store, 1).await, Some(next));
}

async fn what_was_not_read_is_not_replaced(store: &Store) {
    let first = put(store, new(2), None).await;
    let next = put(store, taken(&first, 1), Some(&first)).await;
    let late = taken(&first, 2);
    for former in [None, Some(&first), Some(&late)] {
        let refused = again(|| store.put(&late, former)).await;
        let Err(AnnouncementError::Conflict { current }) = refused else {
            panic!("{former:?} was replaced: {refused:?}");
        };
        assert_eq!(current.as_deref(), Some(&next));
    }
    let nobodys = new(3);
    let next = taken(&nobodys, 1);
    let refused = again(|| store.put(&next, Some(&nobodys))).await;
    assert!(matches!(refused, Err(AnnouncementError::Conflict { current: None })));
}

async fn of_twenty_bots_at_once_one_has_the_turn(store: &Store) {
    let first = put(store, new(4), None).await;
    let take = |store: Store, first: Announcement, bot| async move {
        let next = taken(&first, bot);
        match again(|| store.put(&next, Some(&first))).await {
            Ok(()) => true,
            // Written by a call whose answer was lost.
            Err(AnnouncementError::Conflict { current }) => current.as_deref() == Some(&next),
            Err(other) => panic!("{other}"),
        }
    };
    let calls: Vec<_> = (0..20)
        .map(|bot| tokio::spawn(take(Arc::clone(store), first.clone(), bot)))
        .collect();
    let mut turns = 0;
    for call in calls {
        turns += usize::from(call.await.unwrap_or_else(|e| panic!("{e}")));
    }
    assert_eq!(turns, 1);
}

async fn what_is_due_is_found_and_what_is_done_is_not(store: &Store) {
    let due = |number, second| Announcement {
        due: Some(at(second)),
        ..new(number)
    };
    let late = put(store, due(12, 200), None).await;
    put(store, due(10, 100), None).await;
    put(store, due(11, 150), None).await;
    assert!(found(store, at(99)).await.is_empty());
    found_in_the_end(store, at(199), &[10, 11]).await;
    found_in_the_end(store, at(200), &[10, 11, 12]).await;
    let one = again(|| store.due(at(200), 1)).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(one, [id(10)]);
    let done = Announcement {
        due: None,
        version: 1,
        ..late.clone()
    };
    put(store, done, Some(&late)).await;
    found_in_the_end(store, at(500), &[10, 11]).await;
}

/// An index may be late.
async fn found_in_the_end(store: &Store, by: Timestamp, wanted: &[u8]) {
    let wanted: Vec<ApprovalId> = wanted.iter().map(|number| id(*number)).collect();
    for _ in 0..50 {
        if found(store, by).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(found(store, by).await, wanted);
}

async fn found(store: &Store, by: Timestamp) -> Vec<ApprovalId> {
    again(|| store.due(by, 100)).await.unwrap_or_else(|e| panic!("{e}"))
}

fn id(number: u8) -> ApprovalId {
    ApprovalId::from_random([0, 0, 0, 9, number])
}

fn new(number: u8) -> Announcement {
    Announcement::new(id(number), at(0))
}

fn taken(former: &Announcement, bot: u64) -> Announcement {
    Announcement {
        version: former.version + 1,
        turn: Some(Turn { bot, until: at(20) }),
        ..former.clone()
    }
}

async fn put(store: &Store, next: Announcement, former: Option<&Announcement>) -> Announcement {
    match again(|| store.put(&next, former)).await {
        Ok(()) => next,
        Err(AnnouncementError::Conflict { current: Some(current) }) if *current == next => next,
        Err(other) => panic!("{other}"),
    }
}

async fn read(store: &Store, number: u8) -> Option<Announcement> {
    let id = id(number);
    again(|| store.read(&id)).await.unwrap_or_else(|e| panic!("{e}"))
}

/// Repeats a call until the store says something.
async fn again<T, F, C>(call: C) -> Result<T, AnnouncementError>
where
    C: Fn() -> F,
    F: Future<Output = Result<T, AnnouncementError>>,
{
    for _ in 0..50 {
        match call().await {
            Err(AnnouncementError::Unavailable { .. }) => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
    call().await
}
