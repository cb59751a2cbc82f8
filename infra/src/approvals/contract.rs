//! What every approval store promises, as checks that each one passes: plain, and behind [`super::flaky`].
//!
//! The checks share one store and keep apart by the numbers of their approvals.

use super::{ApprovalQuery, ApprovalStore, ApprovalStoreExt, ChangeError, StoreError, Tell};
use crate::domain::Timestamp;
use crate::domain::approval::{Approval, Change, Choice, Rejected, State, Terms};
use crate::domain::example::{EPOCH, at, ballot, bob, new_approval, person, terms};
use crate::domain::id::ApprovalId;
use chrono::Utc;
use std::sync::Arc;

type Store = Arc<dyn ApprovalStore>;

/// Runs every check. Panics at the first promise that is not kept.
pub async fn holds(store: Store) {
    a_new_record_reads_back_as_it_was(&store).await;
    a_second_record_under_one_number_is_a_conflict(&store).await;
    what_is_not_there_is_not_found(&store).await;
    a_change_of_an_old_version_is_refused_with_what_is_there(&store).await;
    the_feed_tells_the_holder_of_each_change_once(&store).await;
    a_list_is_newest_first_and_its_pages_do_not_shift(&store).await;
    only_what_waits_for_votes_is_pending(&store).await;
    only_what_lives_is_overdue(&store).await;
    the_clock_goes(&store).await;
    of_fifty_voters_as_many_count_as_are_asked(&store).await;
    of_fifty_ends_one_comes_to_pass(&store).await;
}

async fn a_new_record_reads_back_as_it_was(store: &Store) {
    let made = open(store, 1, terms(2)).await;
    assert_eq!(
        again(|| store.read(&made.id)).await.unwrap_or_else(|e| panic!("{e}")),
        made
    );
    let voted = vote(store, &made.id, "bob").await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        again(|| store.read(&made.id)).await.unwrap_or_else(|e| panic!("{e}")),
        voted
    );
    assert_eq!(voted.version, 2);
}

async fn a_second_record_under_one_number_is_a_conflict(store: &Store) {
    let first = open(store, 2, terms(1)).await;
    let second = Approval {
        deadline: at(7),
        ..first.clone()
    };
    let Err(StoreError::Conflict { current }) = again(|| store.create(&second, &[])).await else {
        panic!("a second record was written under the number of the first");
    };
    assert_eq!(*current, first);
    assert!(matches!(
        store.open(&second, &[]).await,
        Err(StoreError::Conflict { .. })
    ));
    assert!(
        store.open(&first, &[]).await.is_ok(),
        "the same record again was refused"
    );
}

async fn what_is_not_there_is_not_found(store: &Store) {
    let mut absent = example(3, terms(1));
    assert!(matches!(again(|| store.read(&absent.id)).await, Err(StoreError::NotFound(id)) if id == absent.id));
    absent.version = 2;
    assert!(
        matches!(again(|| store.replace(&absent, &[], Tell::Holder)).await, Err(StoreError::NotFound(id)) if id == absent.id)
    );
    let query = ApprovalQuery {
        before: Some(absent.id.clone()),
        ..ApprovalQuery::default()
    };
    assert!(matches!(again(|| store.list(&query)).await, Err(StoreError::NotFound(id)) if id == absent.id));
    let changed = store.change(&absent.id, Change::Expire, at(0)).await;
    assert!(matches!(changed, Err(ChangeError::Store(StoreError::NotFound(_)))));
}

async fn a_change_of_an_old_version_is_refused_with_what_is_there(store: &Store) {
    let first = open(store, 4, terms(1)).await;
    let withdrawn = store
        .change(
            &first.id,
            Change::Withdraw {
                why: "Ctrl-C".to_owned(),
            },
            at(1),
        )
        .await;
    let withdrawn = withdrawn.unwrap_or_else(|e| panic!("{e}"));
    let late = Approval {
        version: 2,
        state: State::Approved { at: at(2) },
        ..first
    };
    for late in [
        late.clone(),
        Approval {
            version: 1,
            ..late.clone()
        },
        Approval { version: 9, ..late },
    ] {
        let Err(StoreError::Conflict { current }) = again(|| store.replace(&late, &[], Tell::Holder)).await else {
            panic!("version {} was written over version 2", late.version);
        };
        assert_eq!(*current, withdrawn);
    }
    let voted = vote(store, &withdrawn.id, "bob").await;
    assert!(matches!(
        voted,
        Err(ChangeError::Rejected(Rejected::AlreadyWithdrawn { .. }))
    ));
}

/// The feed is a hint: an answer that is lost loses it. What is told is told to the holder alone, and once; of what
/// the holder does itself it is not told.
async fn the_feed_tells_the_holder_of_each_change_once(store: &Store) {
    let mut approval = example(5, terms(60));
    approval.lease.gateway = "gateway-of-the-feed".to_owned();
    store.open(&approval, &[]).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        again(|| store.take_feed("gateway-of-the-feed"))
            .await
            .unwrap_or_else(|e| panic!("{e}")),
        []
    );
    for number in 1..50 {
        let renew = Change::Renew {
            epoch: EPOCH,
            until: at(30 + number),
        };
        store
            .change(&approval.id, renew, at(number))
            .await
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            again(|| store.take_feed("gateway-of-the-feed"))
                .await
                .unwrap_or_else(|e| panic!("{e}")),
            []
        );
        vote(store, &approval.id, &format!("dba{number}"))
            .await
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            again(|| store.take_feed("another-gateway"))
                .await
                .unwrap_or_else(|e| panic!("{e}")),
            []
        );
        let Ok(told) = store.take_feed("gateway-of-the-feed").await else {
            continue;
        };
        assert_eq!(told, std::slice::from_ref(&approval.id));
        assert_eq!(
            again(|| store.take_feed("gateway-of-the-feed"))
                .await
                .unwrap_or_else(|e| panic!("{e}")),
            []
        );
        return;
    }
    panic!("the feed never told of a change");
}

async fn a_list_is_newest_first_and_its_pages_do_not_shift(store: &Store) {
    let mut expected = Vec::new();
    for number in 10..16 {
        expected.insert(0, open(store, number, terms(1)).await.id);
    }
    let page = |before: Option<ApprovalId>| async {
        let query = ApprovalQuery {
            limit: 2,
            before,
            pending_only: false,
        };
        let found = again(|| store.list(&query)).await.unwrap_or_else(|e| panic!("{e}"));
        found.into_iter().map(|approval| approval.id).collect::<Vec<_>>()
    };
    let mut seen = page(None).await;
    open(store, 16, terms(1)).await;
    while seen.len() < expected.len() {
        let more = page(seen.last().cloned()).await;
        assert_eq!(more.len(), 2);
        seen.extend(more);
    }
    assert_eq!(seen, expected);
}

async fn only_what_waits_for_votes_is_pending(store: &Store) {
    let waits = open(store, 20, terms(1)).await;
    let ended = open(store, 21, terms(1)).await;
    vote(store, &ended.id, "bob").await.unwrap_or_else(|e| panic!("{e}"));
    let query = ApprovalQuery {
        pending_only: true,
        limit: 5000,
        before: None,
    };
    let pending = again(|| store.list(&query)).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(pending.iter().any(|approval| approval.id == waits.id));
    assert!(
        pending
            .iter()
            .all(|approval| approval.is_open() && approval.id != ended.id)
    );
    let any = ApprovalQuery::default();
    let all = again(|| store.list(&any)).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(all.iter().any(|approval| approval.id == ended.id));
}

async fn only_what_lives_is_overdue(store: &Store) {
    let waits = open(store, 30, terms(1)).await;
    let approved = open(store, 31, terms(1)).await;
    vote(store, &approved.id, "bob").await.unwrap_or_else(|e| panic!("{e}"));
    let sent = open(store, 32, terms(1)).await;
    vote(store, &sent.id, "bob").await.unwrap_or_else(|e| panic!("{e}"));
    store
        .change(&sent.id, Change::Execute { epoch: EPOCH }, at(5))
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    let ended = open(store, 33, terms(1)).await;
    store
        .change(&ended.id, Change::Expire, at(600))
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    let ids = |found: Vec<Approval>| found.into_iter().map(|approval| approval.id).collect::<Vec<_>>();
    let overdue = ids(again(|| store.overdue(at(31))).await.unwrap_or_else(|e| panic!("{e}")));
    for living in [&waits.id, &approved.id, &sent.id] {
        assert!(overdue.contains(living), "{living} is not overdue");
    }
    assert!(!overdue.contains(&ended.id));
    let early = ids(again(|| store.overdue(at(30))).await.unwrap_or_else(|e| panic!("{e}")));
    assert!(
        [waits.id, approved.id, sent.id].iter().all(|id| !early.contains(id)),
        "a lease ended early"
    );
}

async fn the_clock_goes(store: &Store) {
    let now = again(|| store.now()).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(
        (Utc::now() - now.time).num_seconds().abs() < 60,
        "the store's clock says {now:?}"
    );
}

async fn of_fifty_voters_as_many_count_as_are_asked(store: &Store) {
    let approval = open(store, 40, terms(5)).await;
    let voters = (0..50).map(|number| {
        let (store, id) = (Arc::clone(store), approval.id.clone());
        tokio::spawn(async move { vote(&store, &id, &format!("dba{number}")).await })
    });
    let mut counted = 0;
    for voter in voters.collect::<Vec<_>>() {
        match voter.await.unwrap_or_else(|e| panic!("{e}")) {
            Ok(_) => counted += 1,
            Err(ChangeError::Rejected(Rejected::AlreadyApproved { by, .. })) => assert_eq!(by.len(), 5),
            Err(other) => panic!("a voter was told: {other}"),
        }
    }
    let approved = again(|| store.read(&approval.id))
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((counted, approved.votes.len(), approved.version), (5, 5, 6));
    let decision = approved
        .verify(approval.operation.digest, at(2))
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(decision.approvers.len(), 5);
}

async fn of_fifty_ends_one_comes_to_pass(store: &Store) {
    let approval = open(store, 41, terms(1)).await;
    let ends = (0..50).map(|number| {
        let (store, id) = (Arc::clone(store), approval.id.clone());
        let change = match number % 4 {
            0 => Change::Vote(ballot(person(&format!("dba{number}"), &["dba"]), Choice::Deny)),
            1 => Change::Withdraw {
                why: format!("client {number}"),
            },
            2 => Change::Abandon {
                why: format!("upstream {number}"),
            },
            _ => Change::Revoke {
                why: format!("policy {number}"),
            },
        };
        tokio::spawn(async move { store.change(&id, change, at(1)).await })
    });
    let mut winners = Vec::new();
    for end in ends.collect::<Vec<_>>() {
        match end.await.unwrap_or_else(|e| panic!("{e}")) {
            Ok(ended) => winners.push(ended),
            Err(ChangeError::Rejected(_)) => {}
            Err(other) => panic!("an end was told: {other}"),
        }
    }
    assert_eq!(
        winners,
        [again(|| store.read(&approval.id))
            .await
            .unwrap_or_else(|e| panic!("{e}"))]
    );
}

/// Numbers are this suite's own: the first byte keeps them apart from those of other tests.
fn example(number: u8, terms: Terms) -> Approval {
    let mut new = new_approval(terms);
    new.id = ApprovalId::from_random([0xc0, 0, 0, 0, number]);
    Approval::open(new, at(0)).unwrap_or_else(|e| panic!("{e}"))
}

async fn open(store: &Store, number: u8, terms: Terms) -> Approval {
    let approval = example(number, terms);
    store.open(&approval, &[]).await.unwrap_or_else(|e| panic!("{e}"));
    approval
}

async fn vote(store: &Store, id: &ApprovalId, name: &str) -> Result<Approval, ChangeError> {
    let voter = if name == "bob" { bob() } else { person(name, &["dba"]) };
    let when: Timestamp = at(1);
    store
        .change(id, Change::Vote(ballot(voter, Choice::Approve)), when)
        .await
}

/// Repeats a call until the store says something.
async fn again<T, F, C>(call: C) -> Result<T, StoreError>
where
    C: Fn() -> F,
    F: Future<Output = Result<T, StoreError>>,
{
    for _ in 0..50 {
        match call().await {
            Err(StoreError::Unavailable { .. }) => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
    call().await
}
