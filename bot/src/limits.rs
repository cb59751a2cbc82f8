//! How much one person, and one workspace, may ask.

use countersign_infra::domain::chat_link::ChatAccount;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Requests of one account at once, and how fast they come back.
const ACCOUNT: Rate = Rate {
    burst: 20.0,
    a_second: 1.0,
};
const WORKSPACE: Rate = Rate {
    burst: 300.0,
    a_second: 30.0,
};
/// What accounts that are linked to nobody have together: they cannot use up what is there for those who decide.
const STRANGERS: Rate = Rate {
    burst: 100.0,
    a_second: 5.0,
};
/// Buckets that are remembered; those that are full again are forgotten first.
const BUCKETS_MAX: usize = 20_000;

struct Rate {
    burst: f64,
    a_second: f64,
}

struct Bucket {
    left: f64,
    at: Instant,
}

/// Token buckets.
#[derive(Default)]
pub struct Limits {
    accounts: Mutex<HashMap<ChatAccount, Bucket>>,
    workspaces: Mutex<HashMap<String, Bucket>>,
    strangers: Mutex<HashMap<String, Bucket>>,
}

impl Limits {
    /// Lets a request of an account through, as far as that account alone has a bound, or says how long to wait.
    pub fn take(&self, account: &ChatAccount, now: Instant) -> Result<(), Duration> {
        take(&self.accounts, account.clone(), &ACCOUNT, now)
    }

    /// The same for the bound that all linked accounts of a workspace share, or all others.
    pub fn take_shared(&self, account: &ChatAccount, is_linked: bool, now: Instant) -> Result<(), Duration> {
        let workspace = format!("{}:{}", account.platform.as_str(), account.team);
        match is_linked {
            true => take(&self.workspaces, workspace, &WORKSPACE, now),
            false => take(&self.strangers, workspace, &STRANGERS, now),
        }
    }
}

fn take<K: Eq + Hash>(buckets: &Mutex<HashMap<K, Bucket>>, key: K, rate: &Rate, now: Instant) -> Result<(), Duration> {
    let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
    if buckets.len() >= BUCKETS_MAX {
        buckets.retain(|_, bucket| filled(bucket, rate, now) < rate.burst);
        if buckets.len() >= BUCKETS_MAX {
            return Err(Duration::from_secs(10));
        }
    }
    let bucket = buckets.entry(key).or_insert(Bucket {
        left: rate.burst,
        at: now,
    });
    bucket.left = filled(bucket, rate, now);
    bucket.at = now;
    if bucket.left < 1.0 {
        return Err(Duration::from_secs_f64((1.0 - bucket.left) / rate.a_second));
    }
    bucket.left -= 1.0;
    Ok(())
}

fn filled(bucket: &Bucket, rate: &Rate, now: Instant) -> f64 {
    let gone = now.saturating_duration_since(bucket.at).as_secs_f64();
    (bucket.left + gone * rate.a_second).min(rate.burst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_infra::domain::example::chat_account;

    #[test]
    fn one_person_is_slowed_down_and_others_are_not() {
        let (limits, now) = (Limits::default(), Instant::now());
        for _ in 0..20 {
            assert_eq!(limits.take(&chat_account(1), now), Ok(()));
        }
        assert!(limits.take(&chat_account(1), now).is_err());
        assert_eq!(limits.take(&chat_account(2), now), Ok(()));
        assert_eq!(limits.take(&chat_account(1), now + Duration::from_secs(1)), Ok(()));
        assert!(limits.take(&chat_account(1), now + Duration::from_secs(1)).is_err());
    }

    #[test]
    fn strangers_do_not_lock_out_those_who_decide() {
        let (limits, now) = (Limits::default(), Instant::now());
        let passed = (0..5000).filter(|number| limits.take_shared(&chat_account(*number), false, now).is_ok());
        assert_eq!(passed.count(), 100);
        assert_eq!(limits.take_shared(&chat_account(1), true, now), Ok(()));
    }

    #[test]
    fn a_workspace_has_a_bound_of_its_own_and_memory_has_one_too() {
        let (limits, now) = (Limits::default(), Instant::now());
        let passed = (0..500).filter(|number| limits.take_shared(&chat_account(*number), true, now).is_ok());
        assert_eq!(passed.count(), 300);
        for number in 0..BUCKETS_MAX as u64 + 10 {
            let _ = limits.take(&chat_account(number), now);
        }
        assert!(limits.accounts.lock().unwrap().len() <= BUCKETS_MAX);
    }
}
