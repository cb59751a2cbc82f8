//! A store that fails by a schedule: before the write, after it, or late. What passes the contract through it
//! treats "not known whether it was written" as what it is.

use super::{ApprovalQuery, ApprovalStore, StoreError, Tell};
use crate::domain::Timestamp;
use crate::domain::approval::Approval;
use crate::domain::audit::Event;
use crate::domain::id::ApprovalId;
use async_trait::async_trait;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The call is lost on its way in.
    Before,
    /// The call is done and its answer is lost.
    After,
    Late(Duration),
}

/// Which calls fail.
#[derive(Debug)]
pub struct Schedule {
    plan: Plan,
    calls: AtomicU64,
}

#[derive(Debug)]
enum Plan {
    Seed(u64),
    List(Vec<Fault>),
}

impl Schedule {
    /// Chosen by a seed: one call in twenty before, one after, one in ten late by up to 8 ms.
    pub fn new(seed: u64) -> Self {
        Self {
            plan: Plan::Seed(seed),
            calls: AtomicU64::new(0),
        }
    }

    /// One call after the other as listed, and all well afterwards.
    pub fn of(faults: Vec<Fault>) -> Self {
        Self {
            plan: Plan::List(faults),
            calls: AtomicU64::new(0),
        }
    }

    pub fn next(&self) -> Fault {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        match &self.plan {
            Plan::List(faults) => usize::try_from(call)
                .ok()
                .and_then(|call| faults.get(call))
                .copied()
                .unwrap_or(Fault::None),
            Plan::Seed(seed) => random_fault(mix(seed.wrapping_add(call))),
        }
    }
}

fn random_fault(random: u64) -> Fault {
    match random % 20 {
        0 => Fault::Before,
        1 => Fault::After,
        2 | 3 => Fault::Late(Duration::from_millis(random >> 32 & 7)),
        _ => Fault::None,
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// An approval store behind a bad line.
#[derive(Debug)]
pub struct FlakyApprovals<S> {
    store: S,
    schedule: Schedule,
}

impl<S> FlakyApprovals<S> {
    pub fn new(store: S, schedule: Schedule) -> Self {
        Self { store, schedule }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        let lost = |what: &str| StoreError::Unavailable { source: what.into() };
        match self.schedule.next() {
            Fault::None => call.await,
            Fault::Before => Err(lost("the call was lost")),
            Fault::After => call.await.and(Err(lost("the answer was lost"))),
            Fault::Late(wait) => {
                tokio::time::sleep(wait).await;
                call.await
            }
        }
    }
}

#[async_trait]
impl<S: ApprovalStore> ApprovalStore for FlakyApprovals<S> {
    async fn create(&self, approval: &Approval, events: &[Event]) -> Result<(), StoreError> {
        self.call(self.store.create(approval, events)).await
    }

    async fn read(&self, id: &ApprovalId) -> Result<Approval, StoreError> {
        self.call(self.store.read(id)).await
    }

    async fn replace(&self, next: &Approval, events: &[Event], tell: Tell) -> Result<(), StoreError> {
        self.call(self.store.replace(next, events, tell)).await
    }

    async fn list(&self, query: &ApprovalQuery) -> Result<Vec<Approval>, StoreError> {
        self.call(self.store.list(query)).await
    }

    async fn overdue(&self, now: Timestamp) -> Result<Vec<Approval>, StoreError> {
        self.call(self.store.overdue(now)).await
    }

    async fn take_feed(&self, gateway: &str) -> Result<Vec<ApprovalId>, StoreError> {
        self.call(self.store.take_feed(gateway)).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.call(self.store.now()).await
    }
}
