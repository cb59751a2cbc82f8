//! Looks for announcements that are due: reminders, escalations, and what a chat would not take or a bot did not finish.

use crate::announce::Announcer;
use chrono::Utc;
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often something is looked for while there is something, and while there is nothing.
const OFTEN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(15);
/// Looks that find nothing, until it is looked for seldom.
const QUIET_AFTER: u32 = 30;
/// Announcements of one look, and at once.
const DUE_MAX: usize = 200;
const AT_ONCE: usize = 8;

/// Looks until it is told to stop.
pub async fn sweep(announcer: Arc<Announcer>, stop: CancellationToken) {
    let mut quiet = 0_u32;
    loop {
        quiet = match look(&announcer).await {
            0 => quiet.saturating_add(1),
            _ => 0,
        };
        // Where something was due, more will be: looked for often for a while.
        let pause = if quiet < QUIET_AFTER { OFTEN } else { SELDOM };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn look(announcer: &Announcer) -> usize {
    let due = match announcer.announcements.due(Utc::now(), DUE_MAX).await {
        Ok(due) => due,
        Err(error) => {
            tracing::warn!(%error, "what is due cannot be looked for");
            return 0;
        }
    };
    let count = due.len();
    futures_util::stream::iter(due)
        .for_each_concurrent(AT_ONCE, |id| async move {
            if let Err(error) = announcer.announce(&id).await {
                tracing::warn!(approval = %id, %error, "an approval could not be announced");
            }
        })
        .await;
    count
}
