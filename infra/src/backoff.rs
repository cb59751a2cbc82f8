//! Pauses between the tries of a call.

use std::time::Duration;

/// Full jitter: each pause is a random part of a bound that doubles, so that many callers do not come back at once.
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    bound: Duration,
    bound_max: Duration,
}

impl Backoff {
    /// The first pause is at most `first`, none is longer than `max`.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self {
            bound: first,
            bound_max: max,
        }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let bound = self.bound.min(self.bound_max);
        self.bound = bound.saturating_mul(2);
        let mut random = [0; 4];
        // Without randomness all wait the longest.
        match aws_lc_rs::rand::fill(&mut random) {
            Ok(()) => bound.mul_f64(f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX)),
            Err(_) => bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_differ() {
        let (first, max) = (Duration::from_millis(25), Duration::from_secs(1));
        let pauses = |_| {
            let mut backoff = Backoff::new(first, max);
            (0..2000).map(move |_| backoff.pause()).collect::<Vec<_>>()
        };
        let [some, others] = [0, 1].map(pauses);
        assert!(some[0] <= first && some[1] <= first * 2, "{:?}", &some[..2]);
        assert!(some.iter().all(|pause| *pause <= max));
        assert!(some.iter().any(|pause| *pause > max / 2));
        assert_ne!(some, others);
    }
}
