//! Which approvals the bot is to be told of. One entry for each, whose size does not depend on what happens to it: what
//! is held here, and at most a constant number of others.

use countersign_infra::backoff::Backoff;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::approval::Approval;
use countersign_infra::domain::id::ApprovalId;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// What is held here is rung again so often, though nothing changes: a bot that is a function reminds and escalates when it
/// is asked.
const AGAIN_AFTER: Duration = Duration::from_secs(20);
/// The bot is told for so long of what is over.
const OVER_FOR: Duration = Duration::from_secs(10 * 60);
/// How many approvals are rung that are not held here: what ended while the bot was away, and what others hold.
const OTHERS_MAX: usize = 4096;

/// The set of approvals to be rung.
#[derive(Default)]
pub struct Bell {
    entries: Mutex<HashMap<ApprovalId, Entry>>,
    /// Numbers what happened, over all approvals.
    happened: AtomicU64,
    changed: Notify,
}

/// An approval as far as its cards show it: a renewed lease changes nothing there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    state: &'static str,
    votes: usize,
}

struct Entry {
    seen: Seen,
    /// When it is rung no more, whether the bot knows or not. None: it is held here.
    until: Option<Instant>,
    /// The number of what happened to it last.
    news: u64,
    /// The number up to which the bot knows.
    told: u64,
    is_ringing: bool,
    next: Instant,
    backoff: Backoff,
}

impl Bell {
    /// An approval was opened here: it is rung until the bot shows it, and again each time it is seen to have changed.
    pub fn opened(&self, record: &Approval, now: Instant) {
        self.note(record, None, now);
    }

    /// Something changed an approval here, whoever holds it.
    pub fn changed_to(&self, record: &Approval, now: Instant, time: Timestamp) {
        let left = (record.deadline - time).to_std().unwrap_or_default();
        self.note(record, Some(now + left + OVER_FOR), now);
    }

    /// A record was read. If it is held here, and others changed it, the bot is told: whoever did may not have.
    pub fn saw(&self, record: &Approval, now: Instant) {
        let is_news = self
            .entries()
            .get(&record.id)
            .is_some_and(|entry| entry.until.is_none() && entry.seen != Seen::of(record));
        if is_news {
            self.note(record, None, now);
        }
    }

    /// Takes out up to so many that are to be rung now, each with the news that the bot is told by that.
    pub(super) fn due(&self, now: Instant, room: usize) -> Vec<(ApprovalId, u64)> {
        let mut entries = self.entries();
        let before = entries.len();
        entries.retain(|_, entry| entry.is_ringing || entry.until.is_none_or(|until| now < until));
        if entries.len() < before {
            let approvals = before - entries.len();
            tracing::warn!(approvals, "approvals are over, and the bot never took the last rings");
        }
        let mut due: Vec<_> = entries.iter_mut().filter(|(_, entry)| entry.is_due(now)).collect();
        // Who has waited longest is first.
        due.sort_by_key(|(_, entry)| entry.next);
        due.into_iter().take(room).map(|(id, entry)| entry.take(id)).collect()
    }

    /// Takes out all that are not rung, due or not, whose news is not among those that were tried.
    pub(super) fn take_untried(&self, tried: &mut HashSet<u64>) -> Vec<(ApprovalId, u64)> {
        let mut entries = self.entries();
        let waiting = entries
            .iter_mut()
            .filter(|(_, entry)| !entry.is_ringing && entry.is_untold());
        waiting
            .filter(|(_, entry)| tried.insert(entry.news))
            .map(|(id, entry)| entry.take(id))
            .collect()
    }

    /// What became of a ring.
    pub(super) fn rang(&self, id: &ApprovalId, news: u64, is_shown: bool, now: Instant) {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(id) else {
            return;
        };
        entry.is_ringing = false;
        if is_shown {
            entry.told = entry.told.max(news);
            entry.backoff = backoff();
            if entry.told >= entry.news {
                entry.next = now + AGAIN_AFTER;
            }
        } else if entry.news == news {
            entry.next = now + entry.backoff.pause();
        }
        // What changed meanwhile is rung at once.
        self.changed.notify_one();
        if entry.told >= entry.news && entry.until.is_some() {
            entries.remove(id);
        }
    }

    /// When the next ring is due; none while nothing waits for one.
    pub(super) fn next(&self) -> Option<Instant> {
        let entries = self.entries();
        let waiting = entries.values().filter(|entry| entry.waits());
        waiting.map(|entry| entry.next).min()
    }

    /// How many approvals the bot does not know as they are.
    pub(super) fn untold(&self) -> usize {
        self.entries().values().filter(|entry| entry.is_untold()).count()
    }

    /// Waits until something is to be rung that was not. Cancel safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Notes what is to be rung; an approval that is not held here is rung no longer than until `open_until`.
    fn note(&self, record: &Approval, open_until: Option<Instant>, now: Instant) {
        let mut entries = self.entries();
        let was_held = entries.get(&record.id).is_some_and(|entry| entry.until.is_none());
        let until = match record.state.is_terminal() {
            true => Some(now + OVER_FOR),
            false => open_until.filter(|_| !was_held),
        };
        let seen = Seen::of(record);
        let news = self.happened.fetch_add(1, Ordering::Relaxed) + 1;
        let entry = entries
            .entry(record.id.clone())
            .or_insert_with(|| Entry::new(seen, now));
        entry.until = until;
        entry.seen = seen;
        entry.news = news;
        entry.next = now;
        entry.backoff = backoff();
        forget_one_too_many(&mut entries);
        self.changed.notify_one();
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<ApprovalId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn of(record: &Approval) -> Self {
        Self {
            state: record.state.as_str(),
            votes: record.votes.len(),
        }
    }
}

impl Entry {
    fn new(seen: Seen, now: Instant) -> Self {
        Self {
            seen,
            until: None,
            news: 0,
            told: 0,
            is_ringing: false,
            next: now,
            backoff: backoff(),
        }
    }

    fn is_untold(&self) -> bool {
        self.told < self.news
    }

    fn waits(&self) -> bool {
        !self.is_ringing && (self.is_untold() || self.until.is_none())
    }

    fn is_due(&self, now: Instant) -> bool {
        self.waits() && self.next <= now
    }

    fn take(&mut self, id: &ApprovalId) -> (ApprovalId, u64) {
        self.is_ringing = true;
        (id.clone(), self.news)
    }
}

fn backoff() -> Backoff {
    Backoff::new(FIRST_PAUSE, PAUSE_MAX)
}

/// The one that would be given up soonest goes first.
fn forget_one_too_many(entries: &mut HashMap<ApprovalId, Entry>) {
    if entries.values().filter(|entry| entry.until.is_some()).count() <= OTHERS_MAX {
        return;
    }
    let soonest = entries
        .iter()
        .filter_map(|(id, entry)| Some((entry.until?, id.clone())))
        .min_by_key(|(until, _)| *until);
    if let Some((_, id)) = soonest {
        tracing::warn!(approval = %id, "too many approvals wait for the bot: this one is rung no more");
        entries.remove(&id);
    }
}

#[cfg(test)]
mod tests;
