//! The store of approvals, with a bell at its door.

use super::Bell;
use async_trait::async_trait;
use chrono::Utc;
use countersign_infra::approvals::{ApprovalQuery, ApprovalStore, StoreError, StoreTime, Tell};
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::approval::Approval;
use countersign_infra::domain::audit::Event;
use countersign_infra::domain::id::ApprovalId;
use std::sync::Arc;
use tokio::time::Instant;

/// A store that notes what is changed through it, and what is seen of others' changes, for the bot to be told of.
pub struct RingingApprovals {
    store: Arc<dyn ApprovalStore>,
    bell: Arc<Bell>,
}

impl RingingApprovals {
    pub fn new(store: Arc<dyn ApprovalStore>, bell: Arc<Bell>) -> Self {
        Self { store, bell }
    }
}

#[async_trait]
impl ApprovalStore for RingingApprovals {
    async fn create(&self, approval: &Approval, events: &[Event]) -> Result<(), StoreError> {
        let created = self.store.create(approval, events).await;
        let (now, time) = (Instant::now(), Utc::now());
        match &created {
            Ok(()) => self.bell.opened(approval, now),
            // It may be there, and nobody may hold it.
            Err(StoreError::Unavailable { .. }) => self.bell.changed_to(approval, now, time),
            // An earlier try, whose answer was lost, wrote it.
            Err(StoreError::Conflict { current }) if current.continues(approval).is_ok() => {
                self.bell.opened(current, now);
            }
            Err(
                StoreError::Conflict { .. }
                | StoreError::NotFound(_)
                | StoreError::Taken { .. }
                | StoreError::Damaged { .. },
            ) => {}
        }
        created
    }

    async fn read(&self, id: &ApprovalId) -> Result<Approval, StoreError> {
        let record = self.store.read(id).await?;
        self.bell.saw(&record, Instant::now());
        Ok(record)
    }

    async fn replace(&self, next: &Approval, events: &[Event], tell: Tell) -> Result<(), StoreError> {
        let replaced = self.store.replace(next, events, tell).await;
        // Of all changes that leave a record open only the renewal of its lease is told to nobody.
        let is_renewal = events.is_empty() && !next.state.is_terminal();
        match &replaced {
            // Whether an unavailable store wrote it is not known: a ring too many does no harm.
            Ok(()) | Err(StoreError::Unavailable { .. }) if !is_renewal => {
                self.bell.changed_to(next, Instant::now(), Utc::now());
            }
            Err(StoreError::Conflict { current }) => self.bell.saw(current, Instant::now()),
            Ok(())
            | Err(
                StoreError::Unavailable { .. }
                | StoreError::NotFound(_)
                | StoreError::Taken { .. }
                | StoreError::Damaged { .. },
            ) => {}
        }
        replaced
    }

    async fn list(&self, query: &ApprovalQuery) -> Result<Vec<Approval>, StoreError> {
        self.store.list(query).await
    }

    async fn overdue(&self, now: Timestamp) -> Result<Vec<Approval>, StoreError> {
        self.store.overdue(now).await
    }

    async fn take_feed(&self, gateway: &str) -> Result<Vec<ApprovalId>, StoreError> {
        self.store.take_feed(gateway).await
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        self.store.now().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_infra::approvals::ApprovalStoreExt;
    use countersign_infra::domain::approval::{Change, Choice};
    use countersign_infra::domain::example::{at, ballot, bob, pending, terms};
    use countersign_infra::embedded::EmbeddedStore;

    /// A store with a bell, the same without one, and one approval in both.
    async fn stores() -> (tempfile::TempDir, RingingApprovals, EmbeddedStore, Approval) {
        let directory = tempfile::tempdir().unwrap();
        let bare = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
        let ringing = RingingApprovals::new(Arc::new(bare.clone()), Arc::default());
        (directory, ringing, bare, pending(terms(1)))
    }

    /// How many approvals are to be rung; they are.
    fn rung(store: &RingingApprovals) -> usize {
        let now = Instant::now();
        let due = store.bell.due(now, 10);
        for (id, news) in &due {
            store.bell.rang(id, *news, true, now);
        }
        due.len()
    }

    fn vote() -> Change {
        Change::Vote(ballot(bob(), Choice::Approve))
    }

    #[tokio::test]
    async fn whatever_changes_an_approval_rings_but_the_renewal_of_its_lease() {
        let (_directory, ringing, bare, approval) = stores().await;
        ringing.open(&approval, &[]).await.unwrap();
        assert_eq!(rung(&ringing), 1, "it was opened");
        let (epoch, until) = (approval.lease.epoch, at(1000));
        ringing
            .change(&approval.id, Change::Renew { epoch, until }, at(1))
            .await
            .unwrap();
        ringing.read(&approval.id).await.unwrap();
        assert_eq!(rung(&ringing), 0, "only its lease was renewed");
        bare.change(&approval.id, vote(), at(2)).await.unwrap();
        ringing.read(&approval.id).await.unwrap();
        assert_eq!(rung(&ringing), 1, "the holder saw another's vote");
        ringing.change(&approval.id, Change::LeaseLost, at(2000)).await.unwrap();
        assert_eq!(rung(&ringing), 1, "it was abandoned");
    }

    #[tokio::test]
    async fn what_a_dead_gateway_held_is_rung_by_whoever_buries_it() {
        let (_directory, ringing, bare, approval) = stores().await;
        bare.open(&approval, &[]).await.unwrap();
        ringing.read(&approval.id).await.unwrap();
        assert_eq!(rung(&ringing), 0, "another gateway holds it");
        ringing.change(&approval.id, Change::LeaseLost, at(2000)).await.unwrap();
        assert_eq!(rung(&ringing), 1);
    }

    #[tokio::test]
    async fn a_change_that_was_refused_rings_nobody() {
        let (_directory, ringing, bare, approval) = stores().await;
        bare.open(&approval, &[]).await.unwrap();
        assert!(ringing.change(&approval.id, Change::LeaseLost, at(1)).await.is_err());
        let stale = approval.apply(vote(), at(2)).unwrap();
        bare.change(&approval.id, vote(), at(2)).await.unwrap();
        assert!(ringing.replace(&stale, &[], Tell::Nobody).await.is_err());
        assert_eq!(rung(&ringing), 0);
    }
}
