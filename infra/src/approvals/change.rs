//! Changes of stored approvals: read, apply, replace, until it is known what happened.

use super::{ApprovalStore, StoreError, Tell};
use crate::domain::Timestamp;
use crate::domain::approval::{Approval, Change, Rejected};
use crate::domain::audit::Event;
use crate::domain::id::ApprovalId;
use async_trait::async_trait;
use std::time::Duration;
use tokio::time::Instant;

/// How often a change is tried again on a record that somebody else changed first.
const CONFLICTS_MAX: usize = 200;

/// How often a call is repeated while the store is unavailable.
const REPEATS_MAX: u32 = 6;

/// The wait before the first repetition; doubled before each further one.
const REPEAT_WAIT: Duration = Duration::from_millis(50);

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state machine refused; the text is for the person who tried.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

/// What every approval store can do beside its own calls.
#[async_trait]
pub trait ApprovalStoreExt: ApprovalStore {
    /// Writes a new record with the events that tell of it, again while it is not known whether it was written.
    /// `Conflict`: the number is taken by another approval, and nothing was written. `Unavailable`: it may still have
    /// been written; nobody holds it, and its lease will end. What an earlier try wrote counts as written, also when people
    /// have voted on it meanwhile.
    async fn open(&self, approval: &Approval, events: &[Event]) -> Result<(), StoreError> {
        let mut repeats = Repeats::default();
        loop {
            match self.create(approval, events).await {
                Err(StoreError::Conflict { current }) if current.continues(approval).is_ok() => return Ok(()),
                Err(error @ StoreError::Unavailable { .. }) => repeats.wait_or(error).await?,
                done @ (Ok(())
                | Err(
                    StoreError::NotFound(_)
                    | StoreError::Conflict { .. }
                    | StoreError::Taken { .. }
                    | StoreError::Damaged { .. },
                )) => {
                    return done;
                }
            }
        }
    }

    /// Reads a record, again while the store is unavailable.
    async fn read_again(&self, id: &ApprovalId) -> Result<Approval, StoreError> {
        read_again(self, id, &mut Repeats::default()).await
    }

    /// Makes one change of a record that no journal event tells of. See [`Self::change_with`].
    async fn change(&self, id: &ApprovalId, change: Change, now: Timestamp) -> Result<Approval, ChangeError> {
        self.change_with(id, change, now, &[]).await
    }

    /// Makes one change of a record, writes the journal events that tell of it in the same transaction, and returns
    /// the record that has it, at the latest version that was seen. `Rejected`: neither was written.
    ///
    /// Where somebody else was faster, the change is applied to what they made of the record. Where the store does
    /// not say whether it wrote, the record is read again: a change that is in is never made twice. `Unavailable` at
    /// the end: whether it was made is not known. Not cancel safe: a dropped call may have made the change.
    ///
    /// `now` is when the change is asked for. A try that comes whole seconds later is made for so much later, so that
    /// a slow store stretches no deadline.
    async fn change_with(
        &self,
        id: &ApprovalId,
        change: Change,
        now: Timestamp,
        events: &[Event],
    ) -> Result<Approval, ChangeError> {
        let begun = Instant::now();
        let mut repeats = Repeats::default();
        let mut current = read_again(self, id, &mut repeats).await?;
        // The version that may have been written although the store did not say so.
        let mut uncertain: Option<Approval> = None;
        for _ in 0..CONFLICTS_MAX {
            if uncertain
                .as_ref()
                .is_some_and(|next| has_change(&current, next, &change))
            {
                return Ok(current);
            }
            let next = current.apply(change.clone(), now + Duration::from_secs(begun.elapsed().as_secs()))?;
            match self.replace(&next, events, tell(&change)).await {
                Ok(()) => return Ok(next),
                Err(StoreError::Conflict { current: newer }) => {
                    repeats = Repeats::default();
                    current = *newer;
                }
                Err(error @ StoreError::Unavailable { .. }) => {
                    repeats.wait_or(error).await?;
                    uncertain = Some(next);
                    current = read_again(self, id, &mut repeats).await?;
                }
                Err(error @ (StoreError::NotFound(_) | StoreError::Taken { .. } | StoreError::Damaged { .. })) => {
                    return Err(error.into());
                }
            }
        }
        let source = format!("approval {id} was changed by others {CONFLICTS_MAX} times meanwhile").into();
        Err(StoreError::Unavailable { source }.into())
    }
}

impl<S: ApprovalStore + ?Sized> ApprovalStoreExt for S {}

async fn read_again<S: ApprovalStore + ?Sized>(
    store: &S,
    id: &ApprovalId,
    repeats: &mut Repeats,
) -> Result<Approval, StoreError> {
    loop {
        match store.read(id).await {
            Err(error @ StoreError::Unavailable { .. }) => repeats.wait_or(error).await?,
            done @ (Ok(_)
            | Err(
                StoreError::NotFound(_)
                | StoreError::Conflict { .. }
                | StoreError::Taken { .. }
                | StoreError::Damaged { .. },
            )) => {
                return done;
            }
        }
    }
}

/// Changes that only the holder makes need not be told to it.
fn tell(change: &Change) -> Tell {
    match change {
        Change::Renew { .. }
        | Change::Expire
        | Change::Execute { .. }
        | Change::Finish { .. }
        | Change::LoseOutcome { .. } => Tell::Nobody,
        Change::Vote(_)
        | Change::Withdraw { .. }
        | Change::Abandon { .. }
        | Change::Revoke { .. }
        | Change::LeaseLost => Tell::Holder,
    }
}

/// Whether a record holds the change that `next` was to bring, perhaps with later ones on top.
fn has_change(current: &Approval, next: &Approval, change: &Change) -> bool {
    if current.version < next.version {
        return false;
    }
    match change {
        Change::Vote(_) => next
            .votes
            .last()
            .is_some_and(|ours| current.votes.iter().any(|vote| vote.hash == ours.hash)),
        Change::Renew { .. } => current.lease.until >= next.lease.until,
        // Each is the only way into a state that carries its time and reason, and at most one comes to pass.
        Change::Expire
        | Change::Withdraw { .. }
        | Change::Abandon { .. }
        | Change::Revoke { .. }
        | Change::Execute { .. }
        | Change::Finish { .. }
        | Change::LoseOutcome { .. }
        | Change::LeaseLost => current.state == next.state,
    }
}

#[derive(Default)]
struct Repeats(u32);

impl Repeats {
    /// Waits before the next try, or gives the error back when there were enough.
    async fn wait_or(&mut self, error: StoreError) -> Result<(), StoreError> {
        if self.0 == REPEATS_MAX {
            return Err(error);
        }
        tokio::time::sleep(REPEAT_WAIT.saturating_mul(1 << self.0)).await;
        self.0 += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{ApprovalStoreExt, ChangeError, REPEATS_MAX};
    use crate::approvals::embedded::EmbeddedStore;
    use crate::approvals::flaky::FlakyApprovals;
    use crate::approvals::{ApprovalQuery, ApprovalStore, StoreError, StoreTime, Tell};
    use crate::domain::Timestamp;
    use crate::domain::approval::{Approval, Change, Choice, Outcome, Rejected, State};
    use crate::domain::audit::Event;
    use crate::domain::example::{EPOCH, at, ballot, bob, pending, person, terms};
    use crate::domain::id::ApprovalId;
    use crate::flaky::{Fault, Schedule};
    use std::time::Duration;

    fn vote(name: &str) -> Change {
        Change::Vote(ballot(person(name, &["dba"]), Choice::Approve))
    }

    /// A store with one record that went through these changes.
    async fn store(before: &[Change]) -> (tempfile::TempDir, EmbeddedStore, Approval) {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
        let mut approval = pending(terms(1));
        store.open(&approval, &[]).await.unwrap();
        for change in before {
            approval = store.change(&approval.id, change.clone(), at(5)).await.unwrap();
        }
        (directory, store, approval)
    }

    #[tokio::test]
    async fn a_change_is_made_once_whatever_answer_is_lost() {
        let why = || "why".to_owned();
        let outcome = Outcome {
            ok: true,
            summary: "DELETE 1".to_owned(),
            rows: Some(1),
            duration_ms: 1,
        };
        let sent = [vote("bob"), Change::Execute { epoch: EPOCH }];
        let cases: [(&[Change], Change, i64); 9] = [
            (&[], vote("bob"), 6),
            (&[], Change::Expire, 600),
            (&[], Change::Withdraw { why: why() }, 6),
            (&sent[..1], Change::Revoke { why: why() }, 6),
            (&[], Change::LeaseLost, 60),
            (
                &[],
                Change::Renew {
                    epoch: EPOCH,
                    until: at(90),
                },
                6,
            ),
            (&sent[..1], sent[1].clone(), 6),
            (&sent, Change::Finish { epoch: EPOCH, outcome }, 6),
            (
                &sent,
                Change::LoseOutcome {
                    epoch: EPOCH,
                    why: why(),
                },
                6,
            ),
        ];
        let (ok, lost, undone) = (Fault::None, Fault::After, Fault::Before);
        // The calls are: read, replace; after a loss read again, replace again.
        let faults: [&[Fault]; 7] = [
            &[ok, lost],
            &[ok, undone],
            &[undone, lost, ok, lost],
            &[ok, lost, undone, lost],
            &[ok, undone, ok, lost],
            &[ok, undone, ok, undone, ok, lost],
            &[lost, ok, lost],
        ];
        let mut checks = tokio::task::JoinSet::new();
        for (before, change, second) in cases {
            for faults in faults {
                checks.spawn(check_made_once(
                    before.to_vec(),
                    change.clone(),
                    second,
                    faults.to_vec(),
                ));
            }
        }
        checks.join_all().await;
    }

    async fn check_made_once(before: Vec<Change>, change: Change, second: i64, faults: Vec<Fault>) {
        let (_directory, store, approval) = store(&before).await;
        let expected = approval.apply(change.clone(), at(second)).unwrap();
        let flaky = FlakyApprovals::new(store.clone(), Schedule::of(faults.clone()));
        let changed = flaky.change(&approval.id, change.clone(), at(second)).await;
        assert_eq!(changed.unwrap(), expected, "{change:?} with {faults:?}");
        assert_eq!(store.read(&approval.id).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn who_lost_the_answer_and_the_race_is_told_so() {
        let (_directory, store, approval) = store(&[vote("bob")]).await;
        store
            .change(
                &approval.id,
                Change::Withdraw {
                    why: "Ctrl-C".to_owned(),
                },
                at(6),
            )
            .await
            .unwrap();
        let flaky = FlakyApprovals::new(store, Schedule::of(vec![Fault::After, Fault::None, Fault::After]));
        let executed = flaky
            .change(&approval.id, Change::Execute { epoch: EPOCH }, at(7))
            .await;
        assert!(matches!(
            executed,
            Err(ChangeError::Rejected(Rejected::AlreadyWithdrawn { .. }))
        ));
    }

    #[tokio::test]
    async fn a_store_that_stays_away_is_given_up() {
        let (_directory, store, approval) = store(&[]).await;
        let tries = REPEATS_MAX as usize + 1;
        let flaky = FlakyApprovals::new(store, Schedule::of(vec![Fault::Before; tries]));
        let changed = flaky.change(&approval.id, vote("bob"), at(6)).await;
        assert!(matches!(
            changed,
            Err(ChangeError::Store(StoreError::Unavailable { .. }))
        ));
        let now = flaky
            .change(&approval.id, Change::Vote(ballot(bob(), Choice::Deny)), at(6))
            .await
            .unwrap();
        assert!(matches!(now.state, State::Denied { .. }), "it does not come back");
    }

    /// Votes on a record as soon as it is there, and loses the answer to its creation.
    struct VotedOn(EmbeddedStore);

    #[async_trait::async_trait]
    impl ApprovalStore for VotedOn {
        async fn create(&self, approval: &Approval, events: &[Event]) -> Result<(), StoreError> {
            self.0.create(approval, events).await?;
            self.0.change(&approval.id, vote("bob"), at(6)).await.unwrap();
            let source = "the answer was lost".into();
            Err(StoreError::Unavailable { source })
        }

        async fn read(&self, id: &ApprovalId) -> Result<Approval, StoreError> {
            self.0.read(id).await
        }

        async fn replace(&self, next: &Approval, events: &[Event], tell: Tell) -> Result<(), StoreError> {
            self.0.replace(next, events, tell).await
        }

        async fn list(&self, query: &ApprovalQuery) -> Result<Vec<Approval>, StoreError> {
            self.0.list(query).await
        }

        async fn overdue(&self, now: Timestamp) -> Result<Vec<Approval>, StoreError> {
            self.0.overdue(now).await
        }

        async fn take_feed(&self, gateway: &str) -> Result<Vec<ApprovalId>, StoreError> {
            self.0.take_feed(gateway).await
        }

        async fn now(&self) -> Result<StoreTime, StoreError> {
            self.0.now().await
        }
    }

    #[tokio::test]
    async fn a_record_that_was_voted_on_before_its_creation_was_known_is_ours() {
        let directory = tempfile::tempdir().unwrap();
        let store = VotedOn(EmbeddedStore::open(directory.path().join("store.db")).unwrap());
        let approval = pending(terms(2));
        store.open(&approval, &[]).await.unwrap();
        assert_eq!(store.read(&approval.id).await.unwrap().votes.len(), 1);
    }

    #[tokio::test]
    async fn a_change_that_is_slow_is_made_for_later() {
        let (_directory, store, approval) = store(&[vote("bob")]).await;
        let late = vec![Fault::Late(Duration::from_millis(2100))];
        let flaky = FlakyApprovals::new(store, Schedule::of(late));
        let execute = Change::Execute { epoch: EPOCH };
        let executed = flaky.change(&approval.id, execute, at(6)).await.unwrap();
        assert!(matches!(executed.state, State::Executing { at: moment } if moment == at(8)));
    }

    #[tokio::test]
    async fn a_record_is_opened_once_whatever_answer_is_lost() {
        for faults in [
            vec![Fault::After],
            vec![Fault::Before],
            vec![Fault::Before, Fault::After, Fault::Before],
        ] {
            let directory = tempfile::tempdir().unwrap();
            let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
            let flaky = FlakyApprovals::new(store.clone(), Schedule::of(faults));
            let approval = pending(terms(1));
            flaky.open(&approval, &[]).await.unwrap();
            assert_eq!(store.read(&approval.id).await.unwrap(), approval);
        }
    }
}
