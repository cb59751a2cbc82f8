//! Looks for announcements that are due: reminders, escalations, and what a chat would not take or a bot did not finish.

use crate::announce::Announcer;
use chrono::Utc;
use countersign_infra::domain::id::ApprovalId;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often something is looked for while there is something, and while there is nothing.
const OFTEN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(15);
/// Looks that find nothing, until it is looked for seldom.
const QUIET_AFTER: u32 = 30;
/// Announcements of one look, and at once. Each is worked on by itself, so that a chat that does not answer delays only
/// what waits for it.
const DUE_MAX: usize = 200;
const AT_ONCE: usize = 400;

/// Looks until it is told to stop; then waits for what it is at.
pub async fn sweep(announcer: Arc<Announcer>, stop: CancellationToken) {
    let mut sweep = Sweep {
        announcer: announcer.clone(),
        going_on: HashSet::new(),
        tasks: JoinSet::new(),
    };
    let mut quiet = 0_u32;
    while !stop.is_cancelled() {
        quiet = match sweep.look().await {
            0 => quiet.saturating_add(1),
            _ => 0,
        };
        // Where something was due, more will be: looked for often for a while.
        let mut pause = tokio::time::Instant::now() + if quiet < QUIET_AFTER { OFTEN } else { SELDOM };
        loop {
            // Each arm may be dropped midway: none holds anything.
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(pause) => break,
                Some(done) = sweep.tasks.join_next() => sweep.ended(done.ok()),
                () = announcer.stirred(), if quiet > 0 => {
                    quiet = 0;
                    pause = pause.min(tokio::time::Instant::now() + OFTEN);
                }
            }
        }
    }
    while sweep.tasks.join_next().await.is_some() {}
}

struct Sweep {
    announcer: Arc<Announcer>,
    going_on: HashSet<ApprovalId>,
    tasks: JoinSet<ApprovalId>,
}

impl Sweep {
    /// Starts to announce what is due, and says how much that is.
    async fn look(&mut self) -> usize {
        let due = match self.announcer.announcements.due(Utc::now(), DUE_MAX).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(%error, "what is due cannot be looked for");
                return 0;
            }
        };
        let count = due.len();
        for id in due {
            if self.going_on.len() < AT_ONCE && self.going_on.insert(id.clone()) {
                self.tasks.spawn(announce(self.announcer.clone(), id));
            }
        }
        count
    }

    fn ended(&mut self, id: Option<ApprovalId>) {
        match id {
            Some(id) => {
                self.going_on.remove(&id);
            }
            // Which one panicked is not known: all others are known by their records.
            None => self.going_on.clear(),
        }
    }
}

async fn announce(announcer: Arc<Announcer>, id: ApprovalId) -> ApprovalId {
    if let Err(error) = announcer.announce(&id).await {
        tracing::warn!(approval = %id, %error, "an approval could not be announced");
    }
    id
}
