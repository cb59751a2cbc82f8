//! What every store of grants promises, as checks that each one passes: plain, and behind [`super::flaky`].
//!
//! The checks share one store and keep apart by ids and sessions.

use super::{GrantError, GrantStore};
use crate::domain::example::{at, bob, grant, granting_terms, request, session};
use crate::domain::grant::Grant;
use crate::domain::id::GrantId;
use std::sync::Arc;
use uuid::Uuid;

type Store = Arc<dyn GrantStore>;

/// Runs every check. Panics at the first promise that is not kept.
pub async fn holds(store: Store) {
    a_new_grant_reads_back_as_it_was(&store).await;
    a_second_grant_under_one_id_is_a_conflict(&store).await;
    what_is_not_there_is_not_found(&store).await;
    a_change_of_an_old_version_is_refused_with_what_is_there(&store).await;
    the_grants_of_a_session_come_in_their_order_and_no_others(&store).await;
    of_fifty_uses_at_once_each_is_counted_or_refused(&store).await;
    after_a_revocation_no_use_is_counted(&store).await;
}

async fn a_new_grant_reads_back_as_it_was(store: &Store) {
    let made = create(store, numbered(1, 1)).await;
    assert_eq!(read(store, made.id).await, made);
    let used = used(&made);
    replace(store, &used).await;
    assert_eq!(read(store, made.id).await, used);
    let revoked = used
        .revoke(bob(), "enough".to_owned(), at(9))
        .unwrap_or_else(|e| panic!("{e}"));
    replace(store, &revoked).await;
    assert_eq!(read(store, made.id).await, revoked);
}

async fn a_second_grant_under_one_id_is_a_conflict(store: &Store) {
    let made = create(store, numbered(2, 2)).await;
    let other = Grant {
        until: at(7),
        ..made.clone()
    };
    let Err(GrantError::Conflict { current }) = again(|| store.create(&other)).await else {
        panic!("a second grant was written under the id of the first");
    };
    assert_eq!(*current, made);
}

async fn what_is_not_there_is_not_found(store: &Store) {
    let absent = numbered(3, 3);
    assert!(matches!(again(|| store.read(absent.id)).await, Err(GrantError::NotFound(id)) if id == absent.id));
    let used = used(&absent);
    assert!(matches!(again(|| store.replace(&used)).await, Err(GrantError::NotFound(id)) if id == absent.id));
    let none = again(|| store.of_session(absent.session)).await;
    assert_eq!(none.unwrap_or_else(|e| panic!("{e}")), []);
}

async fn a_change_of_an_old_version_is_refused_with_what_is_there(store: &Store) {
    let made = create(store, numbered(4, 4)).await;
    let first = used(&made);
    replace(store, &first).await;
    let second = made
        .end("the session is closed".to_owned(), at(3))
        .unwrap_or_else(|e| panic!("{e}"));
    let late = used(&used(&first));
    for refused in [&second, &late, &made] {
        let Err(GrantError::Conflict { current }) = again(|| store.replace(refused)).await else {
            panic!("a change of another version was made");
        };
        assert_eq!(*current, first);
    }
}

async fn the_grants_of_a_session_come_in_their_order_and_no_others(store: &Store) {
    for (id, of) in [(52, 5), (51, 5), (60, 6), (53, 5)] {
        create(store, numbered(id, of)).await;
    }
    let last = used(&numbered(53, 5));
    replace(store, &last).await;
    let found = again(|| store.of_session(session(5))).await;
    assert_eq!(
        found.unwrap_or_else(|e| panic!("{e}")),
        [numbered(51, 5), numbered(52, 5), last]
    );
}

async fn of_fifty_uses_at_once_each_is_counted_or_refused(store: &Store) {
    let made = create(store, numbered(7, 7)).await;
    let use_it = |store: Store| async move {
        let read = read(&store, made.id).await;
        store.replace(&used(&read)).await
    };
    let calls: Vec<_> = (0..50).map(|_| tokio::spawn(use_it(Arc::clone(store)))).collect();
    let (mut counted, mut unsure) = (0, 0);
    for call in calls {
        match call.await.unwrap_or_else(|e| panic!("{e}")) {
            Ok(()) => counted += 1,
            Err(GrantError::Unavailable { .. }) => unsure += 1,
            Err(GrantError::Conflict { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    let uses = read(store, made.id).await.uses;
    assert!(
        (counted..=counted + unsure).contains(&uses),
        "{uses} of {counted} and perhaps {unsure}"
    );
    assert!(uses > 0);
}

async fn after_a_revocation_no_use_is_counted(store: &Store) {
    let made = create(store, numbered(8, 8)).await;
    let revoked = made
        .revoke(bob(), "enough".to_owned(), at(2))
        .unwrap_or_else(|e| panic!("{e}"));
    replace(store, &revoked).await;
    let late = used(&made);
    let use_of_before = again(|| store.replace(&late)).await;
    assert!(matches!(use_of_before, Err(GrantError::Conflict { current }) if *current == revoked));
    assert!(
        read(store, made.id)
            .await
            .covers(&request(), &granting_terms(), at(3))
            .is_err()
    );
}

fn numbered(id: u128, of: u128) -> Grant {
    Grant {
        id: GrantId(Uuid::from_u128(id)),
        session: session(of),
        ..grant()
    }
}

fn used(grant: &Grant) -> Grant {
    let mut request = request();
    request.session = grant.session;
    let used = grant.use_for(&request, &granting_terms(), at(1));
    used.unwrap_or_else(|e| panic!("{e}"))
}

async fn create(store: &Store, grant: Grant) -> Grant {
    match again(|| store.create(&grant)).await {
        Ok(()) => grant,
        // Written by a call whose answer was lost.
        Err(GrantError::Conflict { current }) if *current == grant => grant,
        Err(other) => panic!("{other}"),
    }
}

async fn replace(store: &Store, next: &Grant) {
    match again(|| store.replace(next)).await {
        Ok(()) => {}
        Err(GrantError::Conflict { current }) if *current == *next => {}
        Err(other) => panic!("{other}"),
    }
}

async fn read(store: &Store, id: GrantId) -> Grant {
    again(|| store.read(id)).await.unwrap_or_else(|e| panic!("{e}"))
}

/// Repeats a call until the store says something.
async fn again<T, F, C>(call: C) -> Result<T, GrantError>
where
    C: Fn() -> F,
    F: Future<Output = Result<T, GrantError>>,
{
    for _ in 0..50 {
        match call().await {
            Err(GrantError::Unavailable { .. }) => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
    call().await
}
