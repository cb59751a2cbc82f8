//! What ended without its end on record: recordings are completed, and the journal is told how they ended.
//!
//! The order is the same everywhere: the manifest goes into the spool, the end into the journal, the manifest to the
//! store, and then only is the recording gone from the spool. Killed at any step, the next one to look does the rest.

use crate::journal::{NotJournaled, SessionJournal};
use crate::record::{Recovered, Spool};
use crate::sessions::SessionRegistry;
use anyhow::Context;
use countersign_infra::domain::audit::{Event, Happening};
use countersign_infra::domain::id::SessionId;
use countersign_infra::journal::{Journal, JournalError};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often dead gateways and left recordings are looked for, on the local disk and in memory only.
const LOOK_EVERY: Duration = Duration::from_secs(30);
const WHY: &str = "the gateway ended without closing it";

/// Closes what an earlier run of the gateway left open in its own spool.
pub async fn earlier_run(spool: &Spool, journal: &Arc<dyn Journal>) -> anyhow::Result<()> {
    let recovered = spool.recover().await.context("the recordings of an earlier run")?;
    Ok(settle(spool, journal, recovered).await?)
}

/// Settles what sessions of this gateway and gateways that are gone left behind.
pub struct Settler<'a> {
    pub spool: &'a Spool,
    pub journal: &'a Arc<dyn Journal>,
    pub sessions: &'a SessionRegistry,
}

impl Settler<'_> {
    /// Looks at once and then every 30 s until `stop`.
    pub async fn keep(&self, stop: CancellationToken) {
        let mut adopted = Vec::new();
        loop {
            // May be dropped at any await: what was not finished is found again, by this gateway or another one.
            let looked = stop.run_until_cancelled(self.look(&mut adopted)).await;
            let slept = stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await;
            if looked.is_none() || slept.is_none() {
                break;
            }
        }
        for spool in adopted {
            spool.stop().await;
        }
    }

    /// Does all that can be done now. `adopted` are the spools of others that are not empty yet.
    pub async fn look(&self, adopted: &mut Vec<Spool>) {
        let is_over = |session: SessionId| self.sessions.find(session).is_none();
        self.try_settle(self.spool, self.spool.recover_left(is_over).await)
            .await;
        for spool in &*adopted {
            self.try_settle(spool, spool.recover_left(|_| true).await).await;
        }
        for spool in self.spool.adopt().await {
            match spool.recover().await {
                Ok(recovered) => self.try_settle(&spool, recovered).await,
                Err(error) => tracing::error!(%error, "the spool of a gateway that is gone cannot be recovered"),
            }
            adopted.push(spool);
        }
        let mut left = Vec::new();
        for spool in adopted.drain(..) {
            match spool.remove_if_empty().await {
                Ok(true) => {}
                Ok(false) => left.push(spool),
                Err(error) => {
                    tracing::warn!(%error, "an empty spool was not removed");
                    left.push(spool);
                }
            }
        }
        *adopted = left;
    }

    async fn try_settle(&self, spool: &Spool, recovered: Vec<Recovered>) {
        if let Err(error) = settle(spool, self.journal, recovered).await {
            tracing::error!(%error, "the end of a session could not be journaled; it is tried again");
        }
    }
}

/// Journals the ends of recovered recordings, and lets those whose end is on record go to the store.
async fn settle(spool: &Spool, journal: &Arc<dyn Journal>, recovered: Vec<Recovered>) -> Result<(), NotJournaled> {
    let mut first = Ok(());
    let mut settled = Vec::new();
    for one in recovered {
        match journal_end(journal, &one).await {
            Ok(()) => settled.push(one),
            // One that cannot be journaled must not keep the others from it.
            Err(error) => first = first.and(Err(error)),
        }
    }
    spool.release(&settled).await;
    first
}

async fn journal_end(journal: &Arc<dyn Journal>, recovered: &Recovered) -> Result<(), NotJournaled> {
    let session = recovered.session;
    if is_closed(journal, session).await? {
        return Ok(());
    }
    let Some(resumed) = SessionJournal::resume(journal.clone(), session).await? else {
        tracing::warn!(%session, "a recording without a journal was closed");
        return Ok(());
    };
    let closed = Happening::SessionClosed {
        why: WHY.to_owned(),
        chunks: recovered.chunks,
        last: recovered.last,
    };
    resumed.append(vec![closed]).await?;
    tracing::warn!(%session, "an interrupted recording was closed");
    Ok(())
}

/// The session ended in order, and only the last of its recording was not in the store yet.
async fn is_closed(journal: &Arc<dyn Journal>, session: SessionId) -> Result<bool, JournalError> {
    let closed = |event: Event| matches!(event.what, Happening::SessionClosed { .. });
    Ok(journal.last(session).await?.is_some_and(closed))
}

#[cfg(test)]
mod tests;
