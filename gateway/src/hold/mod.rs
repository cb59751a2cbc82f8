//! Holds: operations that wait on their open connection for people to decide.
//!
//! The store is where the decision is made; a hold only reads it there, judges the deadline by its own clock, and
//! states "executing" before anything leaves.

use crate::gate::refused;
use crate::journal::{NotJournaled, NotTold, SessionJournal, Undone};
use crate::refusal::{Cause, Refusal};
use chrono::{DateTime, Utc};
use countersign_infra::approvals::{ApprovalStore, ApprovalStoreExt, ChangeError, StoreClock, StoreError};
use countersign_infra::domain::access_request::AccessRequest;
use countersign_infra::domain::approval::{
    Approval, Change, HeldOperation, Lease, NewApproval, Outcome, Rejected, State, Terms,
};
use countersign_infra::domain::audit::{Event, Happening};
use countersign_infra::domain::display::head;
use countersign_infra::domain::id::{ApprovalId, Digest};
use kept::{Kept, Left, given_up};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};
use words::{executing, held, refusal, undone, undone_change, untrusted};

mod dead;
mod kept;
mod watch;
mod words;

pub use kept::Writers;
pub use words::told_end;

/// The feed is only a hint: each hold looks at its record itself as often as this.
const READ_EVERY: Duration = Duration::from_secs(5);
const RENEW_EVERY: Duration = Duration::from_secs(10);
const LEASE_FOR: Duration = Duration::from_secs(30);
/// How long the store may fail before what is held is given up.
const STORE_WAIT_MAX: Duration = Duration::from_secs(15);
/// How long to wait before a store that failed is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
const NUMBER_TRIES_MAX: usize = 5;

/// All holds of one gateway.
pub struct Holds {
    store: Arc<dyn ApprovalStore>,
    gateway: String,
    /// Where people reach the gateway's pages, without a slash at the end.
    public_url: String,
    /// Random: this run of the gateway, and no other, may execute what it holds.
    epoch: u64,
    watched: Mutex<HashMap<ApprovalId, Weak<Notify>>>,
    /// Records for which this gateway answers though nobody waits for them here.
    kept: Mutex<HashMap<ApprovalId, Kept>>,
    /// Wakes the feed's reader when a hold comes.
    opened: Notify,
    newest: Mutex<Instant>,
    clock: Arc<StoreClock>,
    /// Wakes the search for dead holders when a hold comes, and when somebody saw one.
    opened_too: Notify,
    signs: Notify,
    look_fast: Mutex<Instant>,
}

/// One held operation.
pub struct Hold {
    holds: Arc<Holds>,
    record: Approval,
    /// The deadline on the gateway's own clock.
    deadline: Instant,
    /// When to renew the lease.
    renew: Instant,
    changed: Arc<Notify>,
    /// Since when the store has not answered. Kept here: the wait is dropped and taken up again while it lasts.
    unanswered: Option<Instant>,
    /// Whoever has to end the record knows of it.
    is_ended: bool,
}

/// A held operation that may be sent now.
pub struct Executing {
    pub id: ApprovalId,
    /// The terms under which people approved what is alike too.
    pub granted: Option<Terms>,
}

/// What a wait for people came to.
pub enum Ready {
    Approved,
    /// The deadline has passed on this gateway's clock: it is to expire.
    Due,
}

impl Holds {
    pub fn new(
        store: Arc<dyn ApprovalStore>,
        gateway: String,
        public_url: &url::Url,
    ) -> Result<Arc<Self>, aws_lc_rs::error::Unspecified> {
        let mut epoch = [0; 8];
        aws_lc_rs::rand::fill(&mut epoch)?;
        Ok(Arc::new(Self {
            clock: Arc::new(StoreClock::new(store.clone())),
            store,
            gateway,
            public_url: public_url.as_str().trim_end_matches('/').to_owned(),
            epoch: u64::from_be_bytes(epoch),
            watched: Mutex::default(),
            kept: Mutex::default(),
            opened: Notify::new(),
            newest: Mutex::new(Instant::now()),
            opened_too: Notify::new(),
            signs: Notify::new(),
            look_fast: Mutex::new(Instant::now()),
        }))
    }

    /// The clock by which this gateway holds and decides.
    pub fn clock(&self) -> &Arc<StoreClock> {
        &self.clock
    }

    /// Where an approval can be decided.
    pub fn public_url(&self, id: &ApprovalId) -> String {
        format!("{}/approvals/{id}", self.public_url)
    }

    /// Opens an approval for an operation: its record and the event that tells of it are in the store when this returns.
    pub async fn open(
        self: &Arc<Self>,
        request: &AccessRequest,
        digest: Digest,
        terms: Terms,
        journal: &SessionJournal,
    ) -> Result<Hold, Refusal> {
        // Times of several machines meet in the record.
        self.clock
            .check()
            .await
            .map_err(|error| Refusal::unready("the clock", &error))?;
        let opened = Instant::now();
        let wait = Duration::from_secs(terms.expires_seconds);
        let record = self.create(request, digest, terms, journal).await?;
        let changed = Arc::new(Notify::new());
        self.watched().insert(record.id.clone(), Arc::downgrade(&changed));
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = opened;
        self.opened.notify_one();
        self.opened_too.notify_one();
        Ok(Hold {
            holds: self.clone(),
            record,
            deadline: opened + wait,
            renew: opened + RENEW_EVERY,
            changed,
            unanswered: None,
            is_ended: false,
        })
    }

    async fn create(
        &self,
        request: &AccessRequest,
        digest: Digest,
        terms: Terms,
        journal: &SessionJournal,
    ) -> Result<Approval, Refusal> {
        for _ in 0..NUMBER_TRIES_MAX {
            let record = self.new_record(request, digest, terms.clone())?;
            let opened = journal.append_with(vec![held(&record)], |events| {
                let record = &record;
                async move { self.store.open(record, &events).await.map_err(undone) }
            });
            match opened.await {
                Ok(()) => return Ok(record),
                Err(NotTold::Refused(StoreError::Conflict { .. })) => {}
                Err(NotTold::Refused(error)) => return Err(Refusal::unready("the approval store", &error)),
                Err(NotTold::Journal(error)) => return Err(error.refusal()),
            }
        }
        Err(Refusal::new(
            Cause::Unready,
            "countersign: no free approval number was found, so nothing was run",
        ))
    }

    fn new_record(&self, request: &AccessRequest, digest: Digest, terms: Terms) -> Result<Approval, Refusal> {
        let mut random = [0; 5];
        aws_lc_rs::rand::fill(&mut random).map_err(|error| Refusal::unready("the random source", &error))?;
        let operation = &request.operation;
        let held = HeldOperation {
            protocol: operation.protocol,
            digest,
            display: head(&operation.display).to_owned(),
            display_bytes: operation.display.len() as u64,
            size_bytes: operation.size_bytes(),
            effects: operation.effects.clone(),
            has_where: operation.has_where,
            unseen_data: operation.unseen_data,
            in_transaction: request.in_transaction,
        };
        let new = NewApproval {
            id: ApprovalId::from_random(random),
            requester: request.person.clone(),
            client: request.client.clone(),
            session: request.session,
            place: request.place.clone(),
            operation: held,
            terms,
            lease: Lease {
                gateway: self.gateway.clone(),
                epoch: self.epoch,
                until: lease_until(),
            },
        };
        Approval::open(new, Utc::now()).map_err(|rejected| {
            Refusal::new(
                Cause::Denied,
                format!("countersign: nobody could approve this: {rejected}"),
            )
            .hint("Nothing was run. Tell the owner of the policy.")
        })
    }

    /// Puts an executed operation's outcome on record, in one transaction with the event that tells of it. Where the store
    /// fails it is put on record later, once the store answers. Dropped midway likewise.
    pub async fn finish(
        &self,
        id: &ApprovalId,
        outcome: Outcome,
        answered: Happening,
        journal: &SessionJournal,
    ) -> Result<(), NotJournaled> {
        let epoch = self.epoch;
        self.conclude(id, Change::Finish { epoch, outcome }, answered, journal)
            .await
    }

    /// Puts on record that the outcome of an executed operation is not known, as [`Self::finish`] does.
    pub async fn lose_outcome(
        &self,
        id: &ApprovalId,
        why: &str,
        answered: Happening,
        journal: &SessionJournal,
    ) -> Result<(), NotJournaled> {
        let (epoch, why) = (self.epoch, why.to_owned());
        self.conclude(id, Change::LoseOutcome { epoch, why }, answered, journal)
            .await
    }

    async fn conclude(
        &self,
        id: &ApprovalId,
        end: Change,
        answered: Happening,
        journal: &SessionJournal,
    ) -> Result<(), NotJournaled> {
        self.leave(id, Left::sent(end.clone(), Some(answered.clone())));
        let told = journal.append_with(vec![answered.clone()], |events| {
            self.change_with(id, end.clone(), events)
        });
        match told.await {
            Ok(_) => {
                self.kept().remove(id);
                Ok(())
            }
            Err(NotTold::Refused(error)) => {
                tracing::error!(approval = %id, %error, "the end of an executed operation could not be put on record");
                journal.append(vec![answered]).await?;
                self.leave(id, Left::sent(end, None));
                Ok(())
            }
            Err(NotTold::Journal(error)) => Err(error),
        }
    }

    async fn change_with(
        &self,
        id: &ApprovalId,
        change: Change,
        events: Vec<Event>,
    ) -> Result<Approval, Undone<ChangeError>> {
        self.change_at(id, change, Utc::now(), events).await
    }

    async fn change_at(
        &self,
        id: &ApprovalId,
        change: Change,
        now: DateTime<Utc>,
        events: Vec<Event>,
    ) -> Result<Approval, Undone<ChangeError>> {
        let changed = self.store.change_with(id, change, now, &events).await;
        changed.map_err(undone_change)
    }

    /// How many operations are held.
    pub fn len(&self) -> usize {
        self.watched().len()
    }

    pub fn is_empty(&self) -> bool {
        self.watched().is_empty()
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<ApprovalId, Weak<Notify>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold {
    /// The record as it was last read.
    pub fn record(&self) -> &Approval {
        &self.record
    }

    /// Waits until people have decided, the deadline passed, or the store cannot be asked any more. Cancel safe: a
    /// dropped call has changed nothing but the record's lease.
    pub async fn decided(&mut self) -> Result<Ready, Refusal> {
        loop {
            // Set first: a look that is dropped midway has not answered either.
            let since = *self.unanswered.get_or_insert_with(Instant::now);
            match timeout_at(since + STORE_WAIT_MAX, self.look()).await {
                Ok(Ok(ready)) => {
                    self.unanswered = None;
                    if let Some(ready) = ready {
                        return Ok(ready);
                    }
                }
                Ok(Err(Look::Refused(refusal))) => return Err(*refusal),
                Ok(Err(Look::Unavailable(error))) => {
                    tracing::warn!(approval = %self.record.id, %error, "a held operation's record cannot be read");
                    sleep_until((since + STORE_WAIT_MAX).min(Instant::now() + AGAIN_AFTER)).await;
                    continue;
                }
                Err(late) => {
                    return Err(Refusal::unready("the approval store", &late).approval(&self.record.id));
                }
            }
            let next = self.deadline.min(self.renew).min(Instant::now() + READ_EVERY);
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Reads the record, and renews the lease while it waits.
    async fn look(&mut self) -> Result<Option<Ready>, Look> {
        let id = self.record.id.clone();
        let record = self.holds.store.read(&id).await?;
        record.continues(&self.record).map_err(|invalid| {
            tracing::error!(approval = %id, %invalid, "the record of a held operation was rewritten");
            Look::Refused(Box::new(untrusted(&id)))
        })?;
        self.record = record;
        match &self.record.state {
            State::Approved { .. } => return Ok(Some(Ready::Approved)),
            State::Pending => {}
            State::Denied { .. }
            | State::Expired { .. }
            | State::Withdrawn { .. }
            | State::Abandoned { .. }
            | State::Revoked { .. }
            | State::Executing { .. }
            | State::Done { .. }
            | State::Unknown { .. } => return Err(Look::Refused(Box::new(refusal(&self.record)))),
        }
        if Instant::now() >= self.deadline {
            return Ok(Some(Ready::Due));
        }
        if Instant::now() >= self.renew {
            let renew = Change::Renew {
                epoch: self.holds.epoch,
                until: lease_until(),
            };
            match self.holds.store.change(&id, renew, Utc::now()).await {
                Ok(_) => self.renew = Instant::now() + RENEW_EVERY,
                Err(ChangeError::Store(error)) => return Err(Look::Unavailable(error)),
                // It has ended meanwhile: the next look says how.
                Err(ChangeError::Rejected(_)) => self.changed.notify_one(),
            }
        }
        Ok(None)
    }

    /// Verifies the decision once more and states "executing", in the record and in the journal. `Ok` means durable, and
    /// nobody can deny it any more.
    pub async fn execute(mut self, digest: Digest, journal: &SessionJournal) -> Result<Executing, Refusal> {
        let id = self.record.id.clone();
        let record = match self.holds.store.read(&id).await {
            Ok(record) => record,
            Err(error) => return Err(Refusal::unready("the approval store", &error).approval(&id)),
        };
        if !matches!(record.state, State::Approved { .. }) {
            return Err(refusal(&record));
        }
        let verified = record
            .continues(&self.record)
            .and_then(|()| record.verify(digest, Utc::now()));
        let decision = match verified {
            Ok(decision) => decision,
            Err(invalid) => {
                tracing::error!(approval = %id, %invalid, "an approval did not pass the gateway's own check");
                self.record = record;
                let revoked = self.revoke("it did not pass the gateway's own check", journal).await;
                return Err(untrusted(&id).told_by(&revoked));
            }
        };
        let execute = Change::Execute {
            epoch: self.holds.epoch,
        };
        // Known before it is stated: a call that is dropped midway may have stated it.
        let not_sent = Refusal::new(
            Cause::Unready,
            "nothing was sent: \"executing\" could not be put on record",
        );
        let untold = refused(Some(digest), &not_sent.approval(&id));
        self.is_ended = true;
        self.holds.leave(&id, Left::sent(self.holds.not_sent(), Some(untold)));
        let told = vec![executing(digest, &id, &decision)];
        let stated = journal.append_with(told, |events| self.holds.change_with(&id, execute, events));
        match stated.await {
            Ok(record) => {
                self.holds.kept().insert(id.clone(), Kept::Executing);
                let granted = record.is_granted().then_some(record.terms);
                Ok(Executing { id, granted })
            }
            Err(NotTold::Refused(error)) => {
                self.holds.leave(&id, Left::sent(self.holds.not_sent(), None));
                Err(match error {
                    ChangeError::Rejected(rejected) => self.too_late(&rejected).await,
                    ChangeError::Store(error) => Refusal::unready("the approval store", &error).approval(&id),
                })
            }
            Err(NotTold::Journal(error)) => Err(error.refusal().approval(&id)),
        }
    }

    async fn too_late(&self, rejected: &Rejected) -> Refusal {
        match self.holds.store.read(&self.record.id).await {
            Ok(record) if record.state.is_terminal() => refusal(&record),
            _ => Refusal::new(Cause::Denied, format!("countersign: not run: {rejected}")).approval(&self.record.id),
        }
    }

    /// The deadline has passed. `Ok`: people approved it in time after all.
    pub async fn expire(&mut self, journal: &SessionJournal) -> Result<(), Refusal> {
        // The store's times may be a little behind the deadline on this clock.
        let now = Utc::now().max(self.record.deadline);
        self.end(Change::Expire, now, journal).await.map_or(Ok(()), Err)
    }

    /// The requester gave up. Returns what the client is told.
    pub async fn withdraw(self, why: &str, journal: &SessionJournal) -> Refusal {
        self.give_up(Change::Withdraw { why: why.to_owned() }, journal).await
    }

    /// Policy or groups changed. Returns what the client is told.
    pub async fn revoke(self, why: &str, journal: &SessionJournal) -> Refusal {
        self.give_up(Change::Revoke { why: why.to_owned() }, journal).await
    }

    /// The gateway gives up before anything was sent.
    pub async fn abandon(self, why: &str, journal: &SessionJournal) -> Refusal {
        self.give_up(Change::Abandon { why: why.to_owned() }, journal).await
    }

    async fn give_up(mut self, change: Change, journal: &SessionJournal) -> Refusal {
        let ended = self.end(change, Utc::now(), journal).await;
        ended.unwrap_or_else(|| refusal(&self.record))
    }

    /// Ends what was not sent, in the record and in the journal at once. None: it was approved, and this change does not
    /// end that.
    async fn end(&mut self, change: Change, now: DateTime<Utc>, journal: &SessionJournal) -> Option<Refusal> {
        let id = self.record.id.clone();
        let operation = Some(self.record.operation.digest);
        // Who is first makes the end: if it is this change, this is what it is called.
        let told = self.record.apply(change.clone(), now).ok();
        let told: Vec<_> = told.iter().map(|next| refused(operation, &refusal(next))).collect();
        let (holds, ending) = (&self.holds, change.clone());
        let changed = journal.append_with(told.clone(), |events| holds.change_at(&id, change, now, events));
        match changed.await {
            Ok(record) => {
                self.is_ended = true;
                Some(refusal(&record).on_record())
            }
            Err(NotTold::Refused(ChangeError::Rejected(_))) => match self.holds.store.read(&id).await {
                Ok(record) => {
                    self.is_ended = record.state.is_terminal();
                    self.record = record;
                    let is_open = matches!(self.record.state, State::Pending | State::Approved { .. });
                    (!is_open).then(|| refusal(&self.record))
                }
                Err(error) => Some(Refusal::unready("the approval store", &error).approval(&id)),
            },
            Err(NotTold::Refused(ChangeError::Store(error))) => {
                Some(Refusal::unready("the approval store", &error).approval(&id))
            }
            Err(NotTold::Journal(error)) => {
                self.is_ended = true;
                self.holds.leave(&id, Left::unsent(ending, told.into_iter().next()));
                Some(error.refusal().approval(&id))
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.is_ended && !self.record.state.is_terminal() {
            // The session tells the journal what it tells its client.
            self.holds.leave(&self.record.id, Left::unsent(given_up(), None));
        }
        self.holds.watched().remove(&self.record.id);
    }
}

enum Look {
    Unavailable(StoreError),
    Refused(Box<Refusal>),
}

impl From<StoreError> for Look {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error)
    }
}

fn lease_until() -> DateTime<Utc> {
    Utc::now() + LEASE_FOR
}

#[cfg(test)]
mod tests;
