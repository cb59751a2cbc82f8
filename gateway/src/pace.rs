//! How often something may be begun that anybody can begin, and that leaves something in a store.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many within so long.
pub struct Pace {
    max: usize,
    within: Duration,
    /// Oldest first.
    begun: Mutex<VecDeque<Instant>>,
}

impl Pace {
    pub fn new(max: usize, within: Duration) -> Self {
        let begun = Mutex::default();
        Self { max, within, begun }
    }

    /// Whether one more may begin now; it then counts.
    pub fn allows(&self, now: Instant) -> bool {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        while begun
            .front()
            .is_some_and(|first| now.duration_since(*first) >= self.within)
        {
            begun.pop_front();
        }
        let is_room = begun.len() < self.max;
        if is_room {
            begun.push_back(now);
        }
        is_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_begin_within_the_time() {
        let (pace, now) = (Pace::new(3, Duration::from_secs(60)), Instant::now());
        assert!((0..3).all(|second| pace.allows(now + Duration::from_secs(second))));
        assert!(!pace.allows(now + Duration::from_secs(59)));
        assert!(pace.allows(now + Duration::from_secs(60)));
        assert!(!pace.allows(now + Duration::from_secs(60)));
    }
}
