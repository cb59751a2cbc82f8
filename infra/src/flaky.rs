//! How the stores that fail on purpose fail: by a schedule, or by a mood that a test sets.
//!
//! A call fails before its effect or after it, as calls over a network do. What passes a contract through such a store
//! treats "not known whether it was written" as what it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// What a call that failed on purpose says.
#[derive(Debug, thiserror::Error)]
#[error("failed on purpose: the {0} was lost")]
pub struct Lost(&'static str);

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

impl Fault {
    /// Makes a call with this fault. `failed` words the store's own "not available".
    async fn befall<T, E>(
        self,
        call: impl Future<Output = Result<T, E>>,
        failed: impl FnOnce(Lost) -> E,
    ) -> Result<T, E> {
        match self {
            Self::None => call.await,
            Self::Before => Err(failed(Lost("call"))),
            Self::After => call.await.and(Err(failed(Lost("answer")))),
            Self::Late(wait) => {
                tokio::time::sleep(wait).await;
                call.await
            }
        }
    }
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
    /// Chosen by a seed: one call in twenty before, one after, in ten late by up to 8 ms.
    pub fn new(seed: u64) -> Self {
        Self::planned(Plan::Seed(seed))
    }

    /// One call after the other as listed, and all well afterwards.
    pub fn of(faults: Vec<Fault>) -> Self {
        Self::planned(Plan::List(faults))
    }

    fn planned(plan: Plan) -> Self {
        let calls = AtomicU64::new(0);
        Self { plan, calls }
    }

    /// Makes the next call.
    pub(crate) async fn befall<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        failed: impl FnOnce(Lost) -> E,
    ) -> Result<T, E> {
        self.next().befall(call, failed).await
    }

    fn next(&self) -> Fault {
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

/// How calls end for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As the store's own.
    Well,
    /// Every call fails and does nothing.
    Down,
    /// Of three calls one fails and does nothing, one does its work and fails all the same, one works.
    EveryOther,
    /// No call does anything or is answered before the mood changes; then it fails.
    Silent,
}

/// A mood that a test sets, and what it did so far.
#[derive(Debug)]
pub(crate) struct Moods {
    mood: Mutex<Mood>,
    calls: AtomicU64,
    failures: AtomicU64,
    changed: Notify,
}

impl Moods {
    pub fn new(mood: Mood) -> Self {
        Self {
            mood: Mutex::new(mood),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            changed: Notify::new(),
        }
    }

    pub fn feel(&self, mood: Mood) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
        self.changed.notify_waiters();
    }

    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::SeqCst)
    }

    /// Makes the next call.
    pub async fn befall<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        failed: impl FnOnce(Lost) -> E,
    ) -> Result<T, E> {
        let turn = self.calls.fetch_add(1, Ordering::SeqCst) % 3;
        let fault = match (self.mood(), turn) {
            (Mood::Down | Mood::Silent, _) | (Mood::EveryOther, 0) => Fault::Before,
            (Mood::EveryOther, 1) => Fault::After,
            (Mood::Well | Mood::EveryOther, _) => Fault::None,
        };
        if fault != Fault::None {
            self.failures.fetch_add(1, Ordering::SeqCst);
        }
        self.spoken().await;
        fault.befall(call, failed).await
    }

    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once the mood is not silent.
    async fn spoken(&self) {
        loop {
            // Listens before it looks, so that a change in between is not missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.mood() != Mood::Silent {
                return;
            }
            changed.await;
        }
    }
}
