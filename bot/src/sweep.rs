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
/// Announcements of one look, and at once.
const DUE_MAX: usize = 200;
const AT_ONCE: usize = 8;

/// Looks until it is told to stop. `rung` wakes it: what a ring left undone is due soon.
pub async fn sweep(announcer: Arc<Announcer>, rung: Arc<tokio::sync::Notify>, stop: CancellationToken) {
    let mut quiet = 0_u32;
    loop {
        quiet = match look(&announcer).await {
            0 => quiet.saturating_add(1),
            _ => 0,
        };
        // What was left undone is due within a quarter of a minute: looked for often that long.
        let pause = if quiet < 30 { OFTEN } else { SELDOM };
        tokio::select! {
            () = stop.cancelled() => return,
            () = rung.notified() => quiet = 0,
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
