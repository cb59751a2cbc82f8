//! What becomes of approvals whose gateway is gone.

use super::Holds;
use super::kept::Writers;
use super::words::gone;
use crate::refusal::Chain;
use chrono::Utc;
use countersign_infra::approvals::{ApprovalStoreExt, ChangeError, StoreError};
use countersign_infra::domain::approval::{Approval, Change};
use tokio_util::sync::CancellationToken;

impl Holds {
    /// Looks for dead holders, soon while something is held and rarely while nothing is, until the token is cancelled.
    pub async fn bury_the_dead(&self, writers: &Writers, stop: CancellationToken) {
        while stop.run_until_cancelled(self.until_next_look()).await.is_some() {
            // May be dropped at any await: each record changes with its event or not at all.
            let buried = stop.run_until_cancelled(self.bury(writers)).await;
            if let Some(Err(error)) = buried {
                tracing::error!(error = %Chain(&error), "approvals of dead holders could not be looked for");
            }
        }
    }

    /// Marks what dead gateways left: what was not sent becomes abandoned, what was sent becomes unknown. The journals of
    /// their sessions are told in the same transaction.
    pub(super) async fn bury(&self, writers: &Writers) -> Result<(), StoreError> {
        let overdue = self.store.overdue(Utc::now()).await?;
        // A record of this run that nobody here answers for any more is as dead as another's.
        let dead = |record: &Approval| record.lease.epoch != self.epoch || !self.is_live(record);
        let dead: Vec<Approval> = overdue.into_iter().filter(dead).collect();
        if dead.is_empty() {
            return Ok(());
        }
        // A clock that runs ahead would take the living for dead.
        if let Err(error) = self.clock.compare().await {
            tracing::error!(error = %Chain(&error), "no holder is taken for dead by this clock");
            return Ok(());
        }
        for record in dead {
            match self.bury_one(&record, writers).await {
                Ok(record) => {
                    let state = record.state.as_str();
                    tracing::warn!(approval = %record.id, state, "the holder of an approval is gone");
                }
                // It lives, or somebody was faster.
                Err(ChangeError::Rejected(_)) => {}
                Err(ChangeError::Store(error)) => {
                    let error = Chain(&error);
                    tracing::error!(approval = %record.id, %error, "a dead holder's approval could not be ended; it is tried again");
                }
            }
        }
        Ok(())
    }

    async fn bury_one(&self, record: &Approval, writers: &Writers) -> Result<Approval, ChangeError> {
        // As it is by now: the event says what the change makes of it.
        let record = self.store.read_again(&record.id).await?;
        let next = record.apply(Change::LeaseLost, Utc::now())?;
        if writers.is_writing(record.session) {
            // A session of this gateway, which tells its journal itself what it tells its client.
            return self.store.change(&record.id, Change::LeaseLost, Utc::now()).await;
        }
        self.change_and_tell(&record, Change::LeaseLost, gone(&next), &writers.journal)
            .await
    }

    fn is_live(&self, record: &Approval) -> bool {
        self.watched().contains_key(&record.id) || self.kept().contains_key(&record.id)
    }
}
