//! Whether this machine's clock agrees with the store's: times of several machines meet in one record.

use super::{ApprovalStore, StoreError};
use chrono::{TimeDelta, Utc};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A clock further than this from the store's is not used to decide anything.
pub const OFF_MAX: Duration = Duration::from_secs(2);

/// How long an agreement is believed. Nothing is asked while nobody wants to know.
const BELIEVED_FOR: Duration = Duration::from_secs(60);

/// Why the clock cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum ClockOff {
    #[error("this machine's clock and the store's differ by {seconds:.1} s, more than {} s: set the clock", OFF_MAX.as_secs())]
    Off { seconds: f64 },
    #[error(transparent)]
    Unknown(#[from] StoreError),
}

/// Compares this machine's clock with the store's.
pub struct StoreClock {
    store: Arc<dyn ApprovalStore>,
    agreed: Mutex<Option<Instant>>,
}

impl StoreClock {
    pub fn new(store: Arc<dyn ApprovalStore>) -> Self {
        let agreed = Mutex::default();
        Self { store, agreed }
    }

    /// Says that the clocks agree, from memory if they did within the last minute.
    pub async fn check(&self) -> Result<(), ClockOff> {
        let is_fresh = self.agreed().is_some_and(|at| at.elapsed() < BELIEVED_FOR);
        if is_fresh { Ok(()) } else { self.compare().await }
    }

    /// Asks the store, and says whether the clocks agree.
    pub async fn compare(&self) -> Result<(), ClockOff> {
        let theirs = self.store.now().await?;
        let off = (Utc::now() - theirs).abs();
        let agrees = off <= TimeDelta::from_std(OFF_MAX).unwrap_or_default();
        *self.agreed() = agrees.then(Instant::now);
        if agrees {
            return Ok(());
        }
        let seconds = off.as_seconds_f64();
        Err(ClockOff::Off { seconds })
    }

    fn agreed(&self) -> MutexGuard<'_, Option<Instant>> {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
