//! Whether this machine's clock agrees with the store's: times of several machines meet in one record.

use super::{ApprovalStore, StoreError, StoreTime};
use crate::domain::Timestamp;
use chrono::{TimeDelta, Utc};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A clock further than this from the store's is not used to decide anything.
pub const OFF_MAX: Duration = Duration::from_secs(2);

/// How long an agreement is believed. Nothing is asked while nobody wants to know.
const BELIEVED_FOR: Duration = Duration::from_secs(60);

/// A clock that moved so much further or less than time went by was set: no slewing does that within a minute.
const STEP_MIN: TimeDelta = TimeDelta::milliseconds(500);

/// An answer that is vaguer says nothing, unless the clocks agree or differ all the same. DynamoDB's answers count whole
/// seconds: half of one is always in doubt.
const WITHIN_MAX: TimeDelta = TimeDelta::seconds(1);

/// How often the store is asked before its clock is taken for unknown.
const QUESTIONS_MAX: usize = 3;

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
    agreed: Mutex<Option<Agreement>>,
}

impl StoreClock {
    pub fn new(store: Arc<dyn ApprovalStore>) -> Self {
        let agreed = Mutex::default();
        Self { store, agreed }
    }

    /// Says that the clocks agree, from memory if they did within the last minute and the clock was not set since.
    pub async fn check(&self) -> Result<(), ClockOff> {
        let still = |agreed: &Agreement| agreed.holds(&Agreement::now());
        let is_fresh = self.agreed().as_ref().is_some_and(still);
        if is_fresh { Ok(()) } else { self.compare().await }
    }

    /// Asks the store, again when its answer was too slow to tell, and says whether the clocks agree.
    pub async fn compare(&self) -> Result<(), ClockOff> {
        for _ in 0..QUESTIONS_MAX {
            let theirs = self.store.now().await?;
            let ours = Agreement::now();
            match compare(ours.wall, &theirs) {
                Compared::Agree => {
                    *self.agreed() = Some(ours);
                    return Ok(());
                }
                Compared::Differ { seconds } => {
                    *self.agreed() = None;
                    return Err(ClockOff::Off { seconds });
                }
                Compared::Unclear => {}
            }
        }
        let source = "its answers are too slow to tell what its clock says".into();
        Err(StoreError::Unavailable { source }.into())
    }

    fn agreed(&self) -> MutexGuard<'_, Option<Agreement>> {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A moment on the clock that may be set, and on the one that may not.
struct Agreement {
    wall: Timestamp,
    steady: Instant,
}

impl Agreement {
    fn now() -> Self {
        Self {
            wall: Utc::now(),
            steady: Instant::now(),
        }
    }

    /// Whether the clocks, which agreed then, are believed to agree now.
    fn holds(&self, now: &Self) -> bool {
        let passed = now.steady.duration_since(self.steady);
        let moved = now.wall - self.wall;
        let step = TimeDelta::from_std(passed).map(|passed| (moved - passed).abs());
        passed < BELIEVED_FOR && step.is_ok_and(|step| step <= STEP_MIN)
    }
}

#[derive(Debug, PartialEq)]
enum Compared {
    Agree,
    Differ { seconds: f64 },
    Unclear,
}

fn compare(ours: Timestamp, theirs: &StoreTime) -> Compared {
    let off_max = TimeDelta::from_std(OFF_MAX).unwrap_or_default();
    let off = (ours - theirs.time).abs();
    if off - theirs.within > off_max {
        let seconds = off.as_seconds_f64();
        return Compared::Differ { seconds };
    }
    match off + theirs.within <= off_max || theirs.within <= WITHIN_MAX {
        true => Compared::Agree,
        false => Compared::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(off_ms: i64, within_ms: i64) -> Compared {
        let theirs = StoreTime {
            time: Utc::now(),
            within: TimeDelta::milliseconds(within_ms),
        };
        compare(theirs.time + TimeDelta::milliseconds(off_ms), &theirs)
    }

    #[test]
    fn a_slow_answer_is_not_taken_for_a_clock_that_is_off() {
        assert_eq!(compared(0, 500), Compared::Agree);
        assert_eq!(compared(-1900, 600), Compared::Agree);
        assert_eq!(compared(2600, 500), Compared::Differ { seconds: 2.6 });
        assert_eq!(compared(-2600, 500), Compared::Differ { seconds: 2.6 });
        // It took five seconds one way, none the other.
        assert_eq!(compared(2500, 3000), Compared::Unclear);
        assert_eq!(compared(200, 1700), Compared::Agree);
        assert_eq!(compared(30_000, 3000), Compared::Differ { seconds: 30.0 });
    }

    #[test]
    fn an_agreement_ends_after_a_minute_or_when_the_clock_is_set() {
        let then = Agreement::now();
        let holds = |moved: i64, passed: u64| {
            then.holds(&Agreement {
                wall: then.wall + TimeDelta::milliseconds(moved),
                steady: then.steady + Duration::from_millis(passed),
            })
        };
        assert!(holds(0, 0) && holds(20_000, 20_000) && holds(20_100, 20_000));
        assert!(!holds(60_000, 60_000));
        assert!(!holds(50_000, 20_000) && !holds(-10_000, 20_000) && !holds(20_000, 20_600));
    }
}
