//! Records for which this gateway answers though nobody waits for them here: operations that are at their servers, and
//! ends that could not be put on record yet. Their leases are renewed, so that no other gateway takes them for left.

use super::{Holds, RENEW_EVERY, lease_until, told_end};
use crate::journal::{NotTold, SessionJournal};
use crate::sessions::SessionRegistry;
use chrono::Utc;
use countersign_infra::approvals::{ApprovalStoreExt, ChangeError, StoreError};
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::approval::{Approval, Change, Outcome, State};
use countersign_infra::domain::audit::Happening;
use countersign_infra::domain::id::{ApprovalId, SessionId};
use countersign_infra::journal::Journal;
use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How many records are looked after at once.
const AT_ONCE: usize = 32;
/// One record may take so long; the next round tries again.
const ONE_MAX: Duration = Duration::from_secs(8);
/// How often a session's journal may have grown at the hands of others before its end is given up for this round.
const FORKS_MAX: usize = 5;

/// Why a record is kept.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    /// The operation is at its server.
    Executing,
    /// Its end is not known to be on record.
    Left(Box<Left>),
}

/// An end that is yet to be put on record.
#[derive(Clone, Debug)]
pub(super) struct Left {
    /// What ends it if it was not stated to be executing.
    unsent: Change,
    /// What ends it if it was.
    sent: Option<Change>,
    /// What tells of the end, where the session has not told of it.
    untold: Option<Happening>,
}

impl Left {
    /// Of what was stated to be executing, or may have been.
    pub fn sent(end: Change, untold: Option<Happening>) -> Self {
        Self {
            unsent: given_up(),
            sent: Some(end),
            untold,
        }
    }

    /// Of what was not.
    pub fn unsent(end: Change, untold: Option<Happening>) -> Self {
        Self {
            unsent: end,
            sent: None,
            untold,
        }
    }

    /// The change that ends the record as it is by now, and the event that tells of it if it is untold. None: it has ended.
    fn of(self, record: &Approval, now: Timestamp) -> Option<(Change, Option<Happening>)> {
        match &record.state {
            State::Executing { .. } => {
                let lost = Change::LoseOutcome {
                    epoch: record.lease.epoch,
                    why: "the gateway could not go on with it".to_owned(),
                };
                Some((self.sent.unwrap_or(lost), self.untold))
            }
            State::Pending | State::Approved { .. } => {
                let is_possible = record.apply(self.unsent.clone(), now).is_ok();
                let change = if is_possible { self.unsent } else { given_up() };
                let told = record.apply(change.clone(), now).ok().and_then(|next| told_end(&next));
                Some((change, self.untold.and(told)))
            }
            State::Denied { .. }
            | State::Expired { .. }
            | State::Withdrawn { .. }
            | State::Abandoned { .. }
            | State::Revoked { .. }
            | State::Done { .. }
            | State::Unknown { .. } => None,
        }
    }
}

pub(super) fn given_up() -> Change {
    Change::Abandon {
        why: "the gateway could not go on with it".to_owned(),
    }
}

/// The journal, and which sessions of this gateway write to theirs.
#[derive(Clone)]
pub struct Writers {
    pub journal: Arc<dyn Journal>,
    pub sessions: SessionRegistry,
}

impl Writers {
    /// The session writes its own journal: nobody else may.
    pub(super) fn is_writing(&self, session: SessionId) -> bool {
        self.sessions.find(session).is_some()
    }
}

impl Holds {
    /// Renews the leases of what is kept, and ends what is left, every ten seconds until the token is cancelled. Asks
    /// the store nothing while nothing is kept.
    pub async fn look_after_kept(self: &Arc<Self>, writers: &Writers, stop: CancellationToken) {
        let mut rounds = tokio::time::interval(RENEW_EVERY);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(rounds.tick()).await.is_some() {
            let kept: Vec<ApprovalId> = self.kept().keys().cloned().collect();
            for ids in kept.chunks(AT_ONCE) {
                let mut round = JoinSet::new();
                for id in ids {
                    let (holds, writers, id) = (Arc::clone(self), writers.clone(), id.clone());
                    round.spawn(async move { holds.look_after(&id, &writers).await });
                }
                while let Some(done) = round.join_next().await {
                    if let Err(error) = done {
                        tracing::error!(%error, "a record of this gateway was not kept up");
                    }
                }
            }
        }
    }

    pub(super) async fn look_after(&self, id: &ApprovalId, writers: &Writers) {
        match timeout(ONE_MAX, self.keep_or_end(id, writers)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(approval = %id, %error, "a record of this gateway could not be kept up"),
            Err(_) => tracing::warn!(approval = %id, "a record of this gateway was not kept up in time"),
        }
    }

    async fn keep_or_end(&self, id: &ApprovalId, writers: &Writers) -> Result<(), StoreError> {
        let Some(kept) = self.kept().get(id).cloned() else {
            return Ok(());
        };
        let record = self.store.read_again(id).await?;
        let is_writing = writers.is_writing(record.session);
        let left = match kept {
            Kept::Executing if is_writing => return self.renew(id).await,
            // Its session is gone without a word.
            Kept::Executing => {
                let lost = Outcome::not_known("the session is gone", 0);
                let untold = Happening::Answered {
                    operation: record.operation.digest,
                    outcome: lost,
                    bytes: 0,
                };
                let why = "the session is gone".to_owned();
                let epoch = self.epoch;
                Left::sent(Change::LoseOutcome { epoch, why }, Some(untold))
            }
            Kept::Left(left) => *left,
        };
        let changed = match left.of(&record, Utc::now()) {
            None => {
                self.kept().remove(id);
                return Ok(());
            }
            // A session that could not tell of it is about to end.
            Some((_, Some(_))) if is_writing => return self.renew(id).await,
            Some((change, Some(happening))) => self.change_and_tell(&record, change, happening, &writers.journal).await,
            Some((change, None)) => self.store.change(id, change, Utc::now()).await,
        };
        match changed {
            Ok(_) => {
                self.kept().remove(id);
                Ok(())
            }
            // It changed meanwhile: the next round sees to what.
            Err(ChangeError::Rejected(_)) => Ok(()),
            Err(ChangeError::Store(error)) => Err(error),
        }
    }

    async fn renew(&self, id: &ApprovalId) -> Result<(), StoreError> {
        let renew = Change::Renew {
            epoch: self.epoch,
            until: lease_until(),
        };
        match self.store.change(id, renew, Utc::now()).await {
            Ok(_) => Ok(()),
            // It has ended: who ends it here learns that then.
            Err(ChangeError::Rejected(rejected)) => {
                tracing::debug!(approval = %id, %rejected, "the lease of a record was not renewed");
                Ok(())
            }
            Err(ChangeError::Store(error)) => Err(error),
        }
    }

    /// Changes a record whose session writes no journal any more, with the event that tells of it, in one transaction.
    pub(super) async fn change_and_tell(
        &self,
        record: &Approval,
        change: Change,
        happening: Happening,
        journal: &Arc<dyn Journal>,
    ) -> Result<Approval, ChangeError> {
        let unavailable = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Unavailable { source };
        for _ in 0..FORKS_MAX {
            let resumed = SessionJournal::resume(Arc::clone(journal), record.session).await;
            let Some(resumed) = resumed.map_err(|error| unavailable(error.into()))? else {
                return self.store.change(&record.id, change, Utc::now()).await;
            };
            let told = resumed.append_with(vec![happening.clone()], |events| {
                self.change_with(&record.id, change.clone(), events)
            });
            match told.await {
                Ok(record) => return Ok(record),
                // Somebody else told of something meanwhile.
                Err(NotTold::Refused(ChangeError::Store(StoreError::Taken { .. }))) => {}
                Err(NotTold::Refused(error)) => return Err(error),
                Err(NotTold::Journal(error)) => return Err(unavailable(error.into()).into()),
            }
        }
        let why = format!(
            "others wrote the journal of session {} {FORKS_MAX} times meanwhile",
            record.session
        );
        Err(unavailable(why.into()).into())
    }

    /// Leaves an end to be put on record later.
    pub(super) fn leave(&self, id: &ApprovalId, left: Left) {
        self.kept().insert(id.clone(), Kept::Left(Box::new(left)));
    }

    /// The end of what was stated to be executing and then not sent.
    pub(super) fn not_sent(&self) -> Change {
        let outcome = Outcome {
            ok: false,
            summary: "nothing was sent: the gateway could not go on with it".to_owned(),
            rows: None,
            duration_ms: 0,
        };
        Change::Finish {
            epoch: self.epoch,
            outcome,
        }
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, HashMap<ApprovalId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
