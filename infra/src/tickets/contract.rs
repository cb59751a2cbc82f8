//! What every store of tickets promises, as checks that each one passes: plain, and behind [`super::flaky`].
//!
//! The checks share one store and keep apart by their secrets. Stores judge the end of a ticket by their own clock.

use super::{TicketError, TicketStore};
use crate::domain::example::{every_purpose, sign_in};
use crate::domain::ticket::{Purpose, Ticket, TicketId};
use chrono::Utc;
use std::sync::Arc;
use std::time::Duration;

type Store = Arc<dyn TicketStore>;

/// Runs every check. Panics at the first promise that is not kept.
pub async fn holds(store: Store) {
    every_ticket_is_read_as_it_was_written(&store).await;
    a_ticket_is_made_once(&store).await;
    a_ticket_that_was_not_read_is_not_replaced(&store).await;
    a_ticket_is_taken_once(&store).await;
    a_ticket_that_changed_is_not_taken(&store).await;
    a_ticket_whose_time_is_over_is_not_there(&store).await;
    of_twenty_who_take_a_ticket_at_once_one_gets_it(&store).await;
    of_twenty_who_replace_a_ticket_at_once_one_does(&store).await;
}

async fn every_ticket_is_read_as_it_was_written(store: &Store) {
    for (number, purpose) in (1..).zip(every_purpose()) {
        let ticket = ticket(number, purpose);
        assert_eq!(read(store, ticket.id).await, None);
        create(store, &ticket).await;
        assert_eq!(read(store, ticket.id).await, Some(ticket));
    }
}

async fn a_ticket_is_made_once(store: &Store) {
    let (first, second) = (ticket(20, sign_in("/approvals")), ticket(20, sign_in("/1")));
    create(store, &first).await;
    let refused = again(|| store.create(&second)).await;
    let Err(TicketError::Conflict { current }) = refused else {
        panic!("it was made twice: {refused:?}");
    };
    assert_eq!(current.as_deref(), Some(&first));
}

async fn a_ticket_that_was_not_read_is_not_replaced(store: &Store) {
    let first = ticket(21, sign_in("/approvals"));
    create(store, &first).await;
    let second = first.with(sign_in("/1"));
    replace(store, &second, &first).await;
    assert_eq!(read(store, first.id).await, Some(second.clone()));
    let late = first.with(sign_in("/2"));
    let refused = again(|| store.replace(&late, &first)).await;
    let Err(TicketError::Conflict { current }) = refused else {
        panic!("it was replaced: {refused:?}");
    };
    assert_eq!(current.as_deref(), Some(&second));
    let nothing = ticket(22, sign_in("/approvals"));
    let next = nothing.with(sign_in("/1"));
    let refused = again(|| store.replace(&next, &nothing)).await;
    assert!(matches!(refused, Err(TicketError::Conflict { current: None })));
}

async fn a_ticket_is_taken_once(store: &Store) {
    let ticket = ticket(23, sign_in("/approvals"));
    create(store, &ticket).await;
    take(store, &ticket).await;
    assert_eq!(read(store, ticket.id).await, None);
    let twice = again(|| store.take(&ticket)).await;
    assert!(
        matches!(twice, Err(TicketError::Conflict { current: None })),
        "{twice:?}"
    );
}

async fn a_ticket_that_changed_is_not_taken(store: &Store) {
    let first = ticket(24, sign_in("/approvals"));
    create(store, &first).await;
    let second = first.with(sign_in("/1"));
    replace(store, &second, &first).await;
    let refused = again(|| store.take(&first)).await;
    assert!(matches!(refused, Err(TicketError::Conflict { current: Some(current) }) if *current == second));
    take(store, &second).await;
}

async fn a_ticket_whose_time_is_over_is_not_there(store: &Store) {
    let lasting = Duration::from_millis(300);
    let (_, short) = Ticket::new([25; 32], sign_in("/approvals"), Utc::now(), lasting);
    match again(|| store.create(&short)).await {
        Ok(()) | Err(TicketError::Conflict { .. }) => {}
        Err(other) => panic!("{other}"),
    }
    while !short.is_over(Utc::now()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(read(store, short.id).await, None);
    let longer = Ticket {
        expires: Utc::now() + Duration::from_secs(600),
        ..short.clone()
    };
    for refused in [
        again(|| store.replace(&longer, &short)).await,
        again(|| store.take(&short)).await,
    ] {
        assert!(
            matches!(refused, Err(TicketError::Conflict { current: None })),
            "{refused:?}"
        );
    }
}

async fn of_twenty_who_take_a_ticket_at_once_one_gets_it(store: &Store) {
    // A take whose answer was lost may have taken it for nobody: then another ticket tells.
    for number in 30..60 {
        let ticket = ticket(number, sign_in("/approvals"));
        create(store, &ticket).await;
        let take_it = |store: Store, ticket: Ticket| async move { store.take(&ticket).await };
        let calls: Vec<_> = (0..20)
            .map(|_| tokio::spawn(take_it(Arc::clone(store), ticket.clone())))
            .collect();
        let (mut taken, mut lost) = (0, false);
        for call in calls {
            match call.await.unwrap_or_else(|error| panic!("{error}")) {
                Ok(()) => taken += 1,
                Err(TicketError::Conflict { .. }) => {}
                Err(TicketError::Unavailable { .. }) => lost = true,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(taken == 1 || (taken == 0 && lost), "{taken} took it");
        if taken == 1 {
            return;
        }
    }
    panic!("nobody took any");
}

async fn of_twenty_who_replace_a_ticket_at_once_one_does(store: &Store) {
    let first = ticket(26, sign_in("/approvals"));
    create(store, &first).await;
    let replace_it = |store: Store, next: Ticket, former: Ticket| async move {
        match again(|| store.replace(&next, &former)).await {
            Ok(()) => true,
            // Written by a call whose answer was lost.
            Err(TicketError::Conflict { current }) => current.as_deref() == Some(&next),
            Err(other) => panic!("{other}"),
        }
    };
    let calls: Vec<_> = (0..20)
        .map(|number| {
            tokio::spawn(replace_it(
                Arc::clone(store),
                first.with(sign_in(&format!("/{number}"))),
                first.clone(),
            ))
        })
        .collect();
    let mut replaced = 0;
    for call in calls {
        replaced += usize::from(call.await.unwrap_or_else(|error| panic!("{error}")));
    }
    assert_eq!(replaced, 1);
}

fn ticket(number: u8, purpose: Purpose) -> Ticket {
    Ticket::new([number; 32], purpose, Utc::now(), Duration::from_secs(600)).1
}

async fn create(store: &Store, ticket: &Ticket) {
    match again(|| store.create(ticket)).await {
        Ok(()) => {}
        Err(TicketError::Conflict { current: Some(current) }) if *current == *ticket => {}
        Err(other) => panic!("{other}"),
    }
}

async fn replace(store: &Store, next: &Ticket, former: &Ticket) {
    match again(|| store.replace(next, former)).await {
        Ok(()) => {}
        Err(TicketError::Conflict { current: Some(current) }) if *current == *next => {}
        Err(other) => panic!("{other}"),
    }
}

/// Takes a ticket; one that was taken for nobody counts as taken.
async fn take(store: &Store, ticket: &Ticket) {
    let mut lost = false;
    for _ in 0..50 {
        match store.take(ticket).await {
            Ok(()) => return,
            Err(TicketError::Conflict { current: None }) if lost => return,
            Err(TicketError::Unavailable { .. }) => lost = true,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the store never answered");
}

async fn read(store: &Store, id: TicketId) -> Option<Ticket> {
    again(|| store.read(id)).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Repeats a call until the store says something.
async fn again<T, F, C>(call: C) -> Result<T, TicketError>
where
    C: Fn() -> F,
    F: Future<Output = Result<T, TicketError>>,
{
    for _ in 0..50 {
        match call().await {
            Err(TicketError::Unavailable { .. }) => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
    call().await
}
