//! What wakes holds, and what wakes the search for holders that are gone.

use super::Holds;
use countersign_infra::domain::id::ApprovalId;
use std::sync::{PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const FEED_EVERY: Duration = Duration::from_millis(200);
/// Short enough that a decision's statement leaves within a second even then, the requests after the look included.
const FEED_EVERY_LATER: Duration = Duration::from_millis(500);
/// How long after the newest hold the feed is asked at the faster pace.
const FEED_FAST_FOR: Duration = Duration::from_secs(30);
/// How often dead holders are looked for while something is held here.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often they are looked for while nothing is: each look is a request to the store.
const LOOK_EVERY_IDLE: Duration = Duration::from_secs(15 * 60);
/// After its start, and after each sign of a dead holder, a gateway looks at the faster pace for so long: what an earlier
/// run left is overdue once its leases have ended.
const LOOK_FAST_FOR: Duration = Duration::from_secs(60);

impl Holds {
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

    /// Waits until dead holders are to be looked for. Soon while something is held; rarely while nothing is, unless
    /// somebody saw a sign of one.
    pub async fn until_next_look(&self) {
        let is_busy = !self.is_empty() || !self.kept().is_empty();
        let looks_fast = self.look_fast_until() > Instant::now();
        let wait = if is_busy || looks_fast {
            LOOK_EVERY
        } else {
            LOOK_EVERY_IDLE
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.signs.notified() => self.look_fast_from_now(),
            () = self.opened_too.notified() => {}
        }
    }

    /// Somebody saw an approval whose holder has let its lease end.
    pub fn saw_dead(&self) {
        self.signs.notify_one();
    }

    fn look_fast_until(&self) -> Instant {
        *self.look_fast.lock().unwrap_or_else(PoisonError::into_inner) + LOOK_FAST_FOR
    }

    fn look_fast_from_now(&self) {
        *self.look_fast.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}
