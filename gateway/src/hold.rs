//! Holds: operations that wait on their open connection for people to decide.
//!
//! The store is where the decision is made; a hold only reads it there, judges the deadline by its own clock, and
//! states "executing" before anything leaves.

use crate::refusal::{Cause, Refusal};
use chrono::{DateTime, Utc};
use countersign_infra::approvals::{ApprovalStore, ApprovalStoreExt, ChangeError, StoreError};
use countersign_infra::domain::access_request::AccessRequest;
use countersign_infra::domain::approval::{
    Approval, Change, Decision, HeldOperation, Lease, NewApproval, Outcome, Rejected, State, Terms,
};
use countersign_infra::domain::display::head;
use countersign_infra::domain::id::{ApprovalId, Digest};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const FEED_EVERY: Duration = Duration::from_millis(200);
const FEED_EVERY_LATER: Duration = Duration::from_secs(1);
/// How long after the newest hold the feed is asked at the faster pace.
const FEED_FAST_FOR: Duration = Duration::from_secs(30);
/// The feed is only a hint: each hold looks at its record itself as often as this.
const READ_EVERY: Duration = Duration::from_secs(5);
const RENEW_EVERY: Duration = Duration::from_secs(10);
const LEASE_FOR: Duration = Duration::from_secs(30);
/// How long the store may fail before what is held is given up.
const STORE_WAIT_MAX: Duration = Duration::from_secs(15);
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
    /// Operations that are at their servers. Their leases are renewed until their end is on record.
    executing: Mutex<HashSet<ApprovalId>>,
    /// Wakes the feed's reader when a hold comes.
    opened: Notify,
    newest: Mutex<Instant>,
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
            store,
            gateway,
            public_url: public_url.as_str().trim_end_matches('/').to_owned(),
            epoch: u64::from_be_bytes(epoch),
            watched: Mutex::default(),
            executing: Mutex::default(),
            opened: Notify::new(),
            newest: Mutex::new(Instant::now()),
        }))
    }

    /// Where an approval can be decided.
    pub fn public_url(&self, id: &ApprovalId) -> String {
        format!("{}/approvals/{id}", self.public_url)
    }

    /// Opens an approval for an operation: its record is in the store when this returns.
    pub async fn open(
        self: &Arc<Self>,
        request: &AccessRequest,
        digest: Digest,
        terms: Terms,
    ) -> Result<Hold, Refusal> {
        let opened = Instant::now();
        let wait = Duration::from_secs(terms.expires_seconds);
        let record = self.create(request, digest, terms).await?;
        let changed = Arc::new(Notify::new());
        self.watched().insert(record.id.clone(), Arc::downgrade(&changed));
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = opened;
        self.opened.notify_one();
        Ok(Hold {
            holds: self.clone(),
            record,
            deadline: opened + wait,
            renew: opened + RENEW_EVERY,
            changed,
        })
    }

    async fn create(&self, request: &AccessRequest, digest: Digest, terms: Terms) -> Result<Approval, Refusal> {
        for _ in 0..NUMBER_TRIES_MAX {
            let record = self.new_record(request, digest, terms.clone())?;
            match self.store.open(&record, &[]).await {
                Ok(()) => return Ok(record),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(Refusal::unready("the approval store", &error)),
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

    /// Reads the gateway's feed and wakes the holds that it speaks of. Runs until the token is cancelled; asks the
    /// store nothing while nothing is held.
    pub async fn follow_feed(&self, stop: CancellationToken) {
        while let Some(pause) = stop.run_until_cancelled(self.wait_for_holds()).await {
            match self.store.take_feed(&self.gateway).await {
                Ok(ids) => ids.iter().for_each(|id| self.wake(id)),
                // Each hold reads its record itself: the feed only makes it faster.
                Err(error) => tracing::warn!(%error, "the decision feed could not be read"),
            }
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Waits until something is held, and says how soon to ask again.
    async fn wait_for_holds(&self) -> Duration {
        while self.is_empty() {
            self.opened.notified().await;
        }
        let newest = *self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.elapsed() < FEED_FAST_FOR {
            FEED_EVERY
        } else {
            FEED_EVERY_LATER
        }
    }

    fn wake(&self, id: &ApprovalId) {
        if let Some(hold) = self.watched().get(id).and_then(Weak::upgrade) {
            hold.notify_one();
        }
    }

    /// Puts an executed operation's outcome on record. Tries for a while: a store that fails leaves the record to
    /// the lease, which makes it "outcome not known".
    pub async fn finish(&self, id: &ApprovalId, outcome: Outcome) {
        self.settle(
            id,
            Change::Finish {
                epoch: self.epoch,
                outcome,
            },
        )
        .await;
    }

    /// Puts on record that the outcome of an executed operation is not known.
    pub async fn lose_outcome(&self, id: &ApprovalId, why: &str) {
        self.settle(
            id,
            Change::LoseOutcome {
                epoch: self.epoch,
                why: why.to_owned(),
            },
        )
        .await;
    }

    /// Puts on record that an operation stated as executing was not sent after all.
    pub async fn not_sent(&self, id: &ApprovalId, why: &str) {
        let summary = format!("not sent: {why}");
        self.finish(
            id,
            Outcome {
                ok: false,
                summary,
                rows: None,
                duration_ms: 0,
            },
        )
        .await;
    }

    async fn settle(&self, id: &ApprovalId, change: Change) {
        self.executing().remove(id);
        if let Err(error) = self.store.change(id, change, Utc::now()).await {
            tracing::error!(approval = %id, %error, "the end of an executed operation could not be put on record");
        }
    }

    /// Marks what dead gateways left: what was not sent becomes abandoned, what was sent becomes unknown. Returns
    /// the records that changed.
    pub async fn bury_the_dead(&self) -> Result<Vec<Approval>, StoreError> {
        let now = Utc::now();
        let mut buried = Vec::new();
        for approval in self.store.overdue(now).await? {
            // A record of this run that nobody here holds any more is as dead as another's.
            if approval.lease.epoch == self.epoch && self.is_live(&approval.id) {
                continue;
            }
            match self.store.change(&approval.id, Change::LeaseLost, now).await {
                Ok(approval) => buried.push(approval),
                Err(ChangeError::Rejected(_)) => {}
                Err(ChangeError::Store(error)) => return Err(error),
            }
        }
        Ok(buried)
    }

    /// Renews the leases of the operations that are at their servers. To be called every ten seconds.
    pub async fn renew_executing(&self) {
        let ids: Vec<ApprovalId> = self.executing().iter().cloned().collect();
        for id in ids {
            let renew = Change::Renew {
                epoch: self.epoch,
                until: lease_until(),
            };
            if let Err(error) = self.store.change(&id, renew, Utc::now()).await {
                tracing::warn!(approval = %id, %error, "the lease of an executing operation was not renewed");
            }
        }
    }

    fn is_live(&self, id: &ApprovalId) -> bool {
        self.watched().contains_key(id) || self.executing().contains(id)
    }

    fn executing(&self) -> MutexGuard<'_, HashSet<ApprovalId>> {
        self.executing.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Waits until people have decided, the deadline passed, or the store cannot be asked any more. `Ok` means
    /// approved. Cancel safe: a dropped call has changed nothing but the record's lease, or has let it expire.
    pub async fn decided(&mut self) -> Result<(), Refusal> {
        let mut failing: Option<Instant> = None;
        loop {
            match self.look().await {
                Ok(true) => return Ok(()),
                Ok(false) => failing = None,
                Err(Look::Refused(refusal)) => return Err(*refusal),
                Err(Look::Unavailable(error)) => {
                    let since = *failing.get_or_insert_with(Instant::now);
                    if since.elapsed() > STORE_WAIT_MAX {
                        return Err(Refusal::unready("the approval store", &error).approval(&self.record.id));
                    }
                    tokio::time::sleep(FEED_EVERY).await;
                    continue;
                }
            }
            let next = self.deadline.min(self.renew).min(Instant::now() + READ_EVERY);
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Reads the record, lets it expire at the deadline, renews the lease. True when approved.
    async fn look(&mut self) -> Result<bool, Look> {
        let id = self.record.id.clone();
        let record = self.holds.store.read(&id).await.map_err(Look::from_store)?;
        record.continues(&self.record).map_err(|invalid| {
            tracing::error!(approval = %id, %invalid, "the record of a held operation was rewritten");
            Look::Refused(Box::new(untrusted(&id)))
        })?;
        self.record = record;
        match &self.record.state {
            State::Approved { .. } => return Ok(true),
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
            // The store's times may be a little behind the deadline on this clock.
            let now = Utc::now().max(self.record.deadline);
            self.change(Change::Expire, now).await?;
            return Ok(matches!(self.record.state, State::Approved { .. }));
        }
        if Instant::now() >= self.renew {
            self.change(
                Change::Renew {
                    epoch: self.holds.epoch,
                    until: lease_until(),
                },
                Utc::now(),
            )
            .await?;
            self.renew = Instant::now() + RENEW_EVERY;
        }
        Ok(false)
    }

    async fn change(&mut self, change: Change, now: DateTime<Utc>) -> Result<(), Look> {
        match self.holds.store.change(&self.record.id, change, now).await {
            Ok(record) => self.record = record,
            Err(ChangeError::Store(error)) => return Err(Look::from_store(error)),
            // Somebody was first: read again, and say who.
            Err(ChangeError::Rejected(_)) => {
                self.record = self.holds.store.read(&self.record.id).await.map_err(Look::from_store)?;
            }
        }
        match &self.record.state {
            State::Pending | State::Approved { .. } => Ok(()),
            State::Denied { .. }
            | State::Expired { .. }
            | State::Withdrawn { .. }
            | State::Abandoned { .. }
            | State::Revoked { .. }
            | State::Executing { .. }
            | State::Done { .. }
            | State::Unknown { .. } => Err(Look::Refused(Box::new(refusal(&self.record)))),
        }
    }

    /// Verifies the decision once more and states "executing". `Ok` means durable, and nobody can deny it any more.
    pub async fn execute(mut self, digest: Digest) -> Result<(ApprovalId, Decision), Refusal> {
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
                drop(self.revoke("it did not pass the gateway's own check").await);
                return Err(untrusted(&id));
            }
        };
        let execute = Change::Execute {
            epoch: self.holds.epoch,
        };
        match self.holds.store.change(&id, execute, Utc::now()).await {
            Ok(_) => {
                self.holds.executing().insert(id.clone());
                Ok((id, decision))
            }
            Err(ChangeError::Rejected(rejected)) => Err(self.too_late(&rejected).await),
            Err(ChangeError::Store(error)) => Err(Refusal::unready("the approval store", &error).approval(&id)),
        }
    }

    async fn too_late(&self, rejected: &Rejected) -> Refusal {
        match self.holds.store.read(&self.record.id).await {
            Ok(record) if record.state.is_terminal() => refusal(&record),
            _ => Refusal::new(Cause::Denied, format!("countersign: not run: {rejected}")).approval(&self.record.id),
        }
    }

    /// The requester gave up. Returns what the client is told.
    pub async fn withdraw(self, why: &str) -> Refusal {
        self.end(Change::Withdraw { why: why.to_owned() }).await
    }

    /// Policy or groups changed. Returns what the client is told.
    pub async fn revoke(self, why: &str) -> Refusal {
        self.end(Change::Revoke { why: why.to_owned() }).await
    }

    /// The gateway gives up before anything was sent.
    pub async fn abandon(self, why: &str) -> Refusal {
        self.end(Change::Abandon { why: why.to_owned() }).await
    }

    async fn end(self, change: Change) -> Refusal {
        match self.holds.store.change(&self.record.id, change, Utc::now()).await {
            Ok(record) => refusal(&record),
            Err(ChangeError::Rejected(rejected)) => {
                Refusal::new(Cause::Withdrawn, format!("countersign: not run: {rejected}")).approval(&self.record.id)
            }
            // The lease ends by itself, and with it the record.
            Err(ChangeError::Store(error)) => Refusal::unready("the approval store", &error).approval(&self.record.id),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.watched().remove(&self.record.id);
    }
}

enum Look {
    Unavailable(StoreError),
    Refused(Box<Refusal>),
}

impl Look {
    fn from_store(error: StoreError) -> Self {
        Self::Unavailable(error)
    }
}

fn lease_until() -> DateTime<Utc> {
    Utc::now() + LEASE_FOR
}

fn untrusted(id: &ApprovalId) -> Refusal {
    Refusal::new(
        Cause::Denied,
        "countersign: the approval's record does not pass the gateway's own check; nothing was run",
    )
    .hint("Tell the operator of the gateway: the record may have been changed by somebody else.")
    .approval(id)
}

/// Words the end of an approval that will not run.
fn refusal(record: &Approval) -> Refusal {
    let nothing = "Nothing reached the server.";
    let refusal = match &record.state {
        State::Denied { by, reason, .. } => {
            let why = reason
                .as_deref()
                .map_or_else(String::new, |reason| format!(": {reason}"));
            Refusal::new(Cause::Denied, format!("countersign: denied by {}{why}", by.name)).hint(nothing)
        }
        State::Expired { .. } => Refusal::new(
            Cause::Expired,
            format!("countersign: nobody decided within {} s", record.terms.expires_seconds),
        )
        .hint(format!("{nothing} Ask an approver to be there, and run it again.")),
        State::Withdrawn { why, .. } => {
            Refusal::new(Cause::Withdrawn, format!("countersign: withdrawn: {why}")).hint(nothing)
        }
        State::Abandoned { why, .. } => {
            Refusal::new(Cause::Unready, format!("countersign: abandoned: {why}")).hint(nothing)
        }
        State::Revoked { why, .. } => {
            Refusal::new(Cause::Denied, format!("countersign: revoked: {why}")).hint(format!("{nothing} Run it again."))
        }
        State::Executing { .. } | State::Done { .. } | State::Unknown { .. } => {
            Refusal::new(Cause::Denied, "countersign: this approval has been used already")
        }
        State::Pending | State::Approved { .. } => Refusal::new(
            Cause::Denied,
            format!("countersign: not decided: {}", record.quorum_state()),
        ),
    };
    refusal.approval(&record.id)
}
