//! One workspace as announcements ask it: so many calls at once, and none while it wants to be left alone or does not
//! answer. What must wait for it comes back one after another.

use crate::chat::{Chat, ChatError};
use countersign_infra::domain::id::ApprovalId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// Calls to one workspace at once.
const CALLS_MAX: usize = 4;
/// How much later than it may begin a call ends: some are of several requests.
const CALL_LASTS: Duration = Duration::from_secs(10);
/// A workspace that did not answer is left alone for so long; each time in a row for twice the time, up to the longest.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(16);
/// What waits comes back so far apart, and no later than that: chats take about one message a second in a channel.
const APART: Duration = Duration::from_millis(100);
const BACK_AFTER_MAX: Duration = Duration::from_secs(300);
/// Places in the queue that are remembered: as many as there are until the latest.
const PLACES_MAX: usize = 3000;

pub(super) struct Workspace {
    pub(super) chat: Arc<dyn Chat>,
    /// The first of its rests.
    pub(super) rest_first: Duration,
    calls: Semaphore,
    rest: Mutex<Rest>,
}

#[derive(Default)]
struct Rest {
    /// Nothing is asked before.
    until: Option<Instant>,
    /// How often in a row it did not answer.
    failures: u32,
    /// When approvals that wait are looked at again.
    places: HashMap<ApprovalId, Instant>,
    last: Option<Instant>,
}

impl Workspace {
    pub(super) fn new(chat: Arc<dyn Chat>) -> Self {
        Self {
            chat,
            rest_first: REST,
            calls: Semaphore::new(CALLS_MAX),
            rest: Mutex::default(),
        }
    }

    /// Asks the chat. Begins by `until` or not at all, and ends 10 s later at the latest; `TooOften` says that nothing was
    /// asked, or that the chat did nothing.
    pub(super) async fn call<T>(
        &self,
        until: Instant,
        call: impl Future<Output = Result<T, ChatError>>,
    ) -> Result<T, ChatError> {
        self.is_awake()?;
        let late = || ChatError::TooOften { after: REST };
        let permit = timeout_at(until, self.calls.acquire()).await.map_err(|_| late())?;
        let _permit = permit.map_err(|_| late())?;
        if Instant::now() >= until {
            return Err(late());
        }
        // Others may have learned meanwhile that it does not answer.
        self.is_awake()?;
        let answer = timeout_at(until + CALL_LASTS, call).await;
        let answer = answer.unwrap_or_else(|_| Err(ChatError::Unsure("the chat takes too long".to_owned())));
        self.lock().note(answer.as_ref().err(), self.rest_first, Instant::now());
        answer
    }

    pub(super) fn rests(&self) -> bool {
        self.is_awake().is_err()
    }

    /// In how long an approval that waits for this workspace is to be looked at again. The same until then, however often
    /// it is asked for.
    pub(super) fn back_in(&self, approval: &ApprovalId) -> Duration {
        let now = Instant::now();
        self.lock().place(approval, now).saturating_duration_since(now)
    }

    fn is_awake(&self) -> Result<(), ChatError> {
        let left = self
            .lock()
            .until
            .map(|until| until.saturating_duration_since(Instant::now()));
        match left.filter(|left| !left.is_zero()) {
            Some(after) => Err(ChatError::TooOften { after }),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rest {
    fn note(&mut self, failed: Option<&ChatError>, rest_first: Duration, now: Instant) {
        let rest = match failed {
            None | Some(ChatError::Refused(_)) => {
                self.failures = 0;
                return;
            }
            Some(ChatError::TooOften { after }) => *after,
            // Calls that were on their way together fail together: that is one failure.
            Some(ChatError::Unsure(_)) if self.until.is_some_and(|until| until > now) => return,
            Some(ChatError::Unsure(_)) => {
                let times = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
                self.failures = self.failures.saturating_add(1);
                rest_first.saturating_mul(times).min(REST_MAX)
            }
        };
        self.until = self.until.max(Some(now + rest));
    }

    fn place(&mut self, approval: &ApprovalId, now: Instant) -> Instant {
        let known = self.places.get(approval).copied();
        if let Some(known) = known.filter(|known| *known > now) {
            return known;
        }
        let latest = now + BACK_AFTER_MAX;
        if self.places.len() >= PLACES_MAX {
            self.places.retain(|_, place| *place > now);
        }
        let after_last = self.last.map(|last| last + APART);
        let place = self.until.max(after_last).unwrap_or(now).max(now + APART).min(latest);
        if self.places.len() < PLACES_MAX {
            self.places.insert(approval.clone(), place);
        }
        self.last = Some(place);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsure() -> ChatError {
        ChatError::Unsure("no answer".to_owned())
    }

    #[test]
    fn who_does_not_answer_is_left_alone_for_longer_each_time_until_they_do() {
        let (mut rest, mut now) = (Rest::default(), Instant::now());
        for seconds in [1, 2, 4, 8, 16, 16] {
            rest.note(Some(&unsure()), REST, now);
            // The same failure, seen by others.
            rest.note(Some(&unsure()), REST, now);
            assert_eq!(rest.until, Some(now + Duration::from_secs(seconds)));
            now += Duration::from_secs(seconds);
        }
        rest.note(None, REST, now);
        rest.note(Some(&unsure()), REST, now);
        assert_eq!(rest.until, Some(now + REST));
    }

    #[test]
    fn a_longer_rest_is_not_cut_short_by_a_shorter_one() {
        let (mut rest, now) = (Rest::default(), Instant::now());
        for seconds in [30, 1] {
            let after = Duration::from_secs(seconds);
            rest.note(Some(&ChatError::TooOften { after }), REST, now);
        }
        rest.note(None, REST, now);
        assert_eq!(rest.until, Some(now + Duration::from_secs(30)));
    }

    #[test]
    fn what_waits_comes_back_one_after_another_after_the_rest_and_not_too_late() {
        let (mut rest, now) = (Rest::default(), Instant::now());
        let after = Duration::from_secs(5);
        rest.note(Some(&ChatError::TooOften { after }), REST, now);
        let id = |number: u16| ApprovalId::from_random([0, 0, 0, (number >> 8) as u8, number as u8]);
        let first = rest.place(&id(0), now);
        assert_eq!(first, now + after);
        assert_eq!(rest.place(&id(1), now), first + APART);
        assert_eq!(rest.place(&id(0), now), first, "its place is kept");
        for number in 0..5000 {
            assert!(rest.place(&id(number), now) <= now + BACK_AFTER_MAX);
        }
        assert!(rest.places.len() <= PLACES_MAX);
        let later = now + BACK_AFTER_MAX + after;
        assert_eq!(rest.place(&id(0), later), later + APART);
    }
}
