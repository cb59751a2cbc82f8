//! What ended without its end on record: recordings are completed, and the journal is told how they ended.
//!
//! The order is the same everywhere: the manifest goes into the spool, the end into the journal, the manifest to the
//! store, and then only is the recording gone from the spool. Killed at any step, the next one to look does the rest.

use crate::digests::Digests;
use crate::hold::told_end;
use crate::journal::{NotJournaled, SessionJournal};
use crate::record::{Recovered, Spool};
use crate::sessions::SessionRegistry;
use countersign_infra::approvals::{ApprovalStore, ApprovalStoreExt, StoreError};
use countersign_infra::domain::audit::{Event, Happening};
use countersign_infra::domain::id::SessionId;
use countersign_infra::journal::{Journal, JournalError, JournalQuery};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often dead gateways and left recordings are looked for, on the local disk and in memory only.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How far behind a hold its end is looked for.
const LATER_EVENTS_MAX: usize = 1000;
const WHY: &str = "the gateway ended without closing it";

/// Closes what an earlier run of the gateway left open in its own spool. What goes wrong keeps nobody from starting: it is
/// logged, and the settler comes back to it.
pub async fn earlier_run(spool: &Spool, stores: &Trail) {
    match spool.recover().await {
        Ok(recovered) => {
            try_settle(spool, stores, recovered).await;
        }
        Err(error) => tracing::error!(%error, "the recordings of an earlier run cannot be recovered"),
    }
}

/// The journal, and the records of approvals that it tells of.
pub struct Trail {
    pub journal: Arc<dyn Journal>,
    pub approvals: Arc<dyn ApprovalStore>,
}

/// Settles what sessions of this gateway and gateways that are gone left behind.
pub struct Settler<'a> {
    pub spool: &'a Spool,
    pub stores: &'a Trail,
    pub sessions: &'a SessionRegistry,
}

impl Settler<'_> {
    /// Looks at once and then every 30 s until `stop`; what is settled goes into the last digests of dead runs.
    pub async fn keep(&self, digests: &Digests, stop: CancellationToken) {
        let mut adopted = Vec::new();
        loop {
            let look = async {
                // What a run left in its spool comes before what its last digest says of it.
                if !self.look(&mut adopted).await {
                    return;
                }
                if let Err(error) = digests.settle_the_dead(Instant::now()).await {
                    tracing::error!(%error, "the last digest of a dead run is not written yet");
                }
            };
            // May be dropped at any await: what was not finished is found again, by this gateway or another one.
            let looked = stop.run_until_cancelled(look).await;
            let slept = stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await;
            if looked.is_none() || slept.is_none() {
                break;
            }
        }
        for spool in adopted {
            spool.stop().await;
        }
    }

    /// Does all that can be done now, and says whether that was all there is to do. `adopted` are the spools of others that
    /// are not empty yet.
    pub async fn look(&self, adopted: &mut Vec<Spool>) -> bool {
        let is_over = |session: SessionId| self.sessions.find(session).is_none();
        let mut is_all = try_settle(self.spool, self.stores, self.spool.recover_left(is_over).await).await;
        for spool in &*adopted {
            is_all &= try_settle(spool, self.stores, spool.recover_left(|_| true).await).await;
        }
        let found = self.spool.adopt().await;
        // Where there was one there may be more than were taken.
        is_all &= found.is_empty();
        for spool in found {
            match spool.recover().await {
                Ok(recovered) => {
                    try_settle(&spool, self.stores, recovered).await;
                    adopted.push(spool);
                }
                Err(error) => {
                    tracing::error!(%error, "the spool of a gateway that is gone cannot be recovered");
                    // Its lock goes with it, and whoever looks next tries again.
                    spool.stop().await;
                }
            }
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
        is_all
    }
}

/// False when something is to be tried again.
async fn try_settle(spool: &Spool, stores: &Trail, recovered: Vec<Recovered>) -> bool {
    let settled = settle(spool, stores, recovered).await;
    if let Err(error) = &settled {
        tracing::error!(%error, "the end of a session could not be journaled; it is tried again");
    }
    settled.is_ok()
}

/// Journals the ends of recovered recordings, and lets those whose end is on record go to the store.
async fn settle(spool: &Spool, stores: &Trail, recovered: Vec<Recovered>) -> Result<(), NotJournaled> {
    let mut first = Ok(());
    let mut settled = Vec::new();
    for one in recovered {
        match journal_end(stores, &one).await {
            Ok(()) => settled.push(one),
            // One that cannot be journaled must not keep the others from it.
            Err(error) => first = first.and(Err(error)),
        }
    }
    spool.release(&settled).await;
    first
}

async fn journal_end(stores: &Trail, recovered: &Recovered) -> Result<(), NotJournaled> {
    let (journal, session) = (&stores.journal, recovered.session);
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
    let told = untold_end(stores, session).await?;
    resumed.append(told.into_iter().chain([closed]).collect()).await?;
    tracing::warn!(%session, "an interrupted recording was closed");
    Ok(())
}

/// The end of what the session held last, where only the record knows it: people decided, and the gateway ended before
/// it could tell the session's journal.
async fn untold_end(stores: &Trail, session: SessionId) -> Result<Option<Happening>, JournalError> {
    let query = JournalQuery {
        session: Some(session),
        events: vec!["held".to_owned()],
        limit: 1,
        ..JournalQuery::default()
    };
    // While something is held the session writes little else: the first page has it, or it ended long ago.
    let page = stores.journal.search(&query).await?;
    let Some(held) = page.events.first() else {
        return Ok(None);
    };
    let Happening::Held {
        operation,
        approval: id,
        ..
    } = &held.what
    else {
        return Ok(None);
    };
    let later = stores.journal.after(session, held.seq, LATER_EVENTS_MAX).await?;
    let tells = |event: &Event| {
        let is_refusal = matches!(event.what, Happening::Refused { .. });
        let is_answer = matches!(&event.what, Happening::Answered { operation: of, .. } if of == operation);
        is_answer || (is_refusal && event.what.approval() == Some(id))
    };
    if later.iter().any(tells) {
        return Ok(None);
    }
    match stores.approvals.read_again(id).await {
        Ok(record) => Ok(told_end(&record)),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(error) => Err(JournalError::Unavailable { source: error.into() }),
    }
}

/// The session ended in order, and only the last of its recording was not in the store yet. Little can follow: the end of
/// what a dead gateway held.
async fn is_closed(journal: &Arc<dyn Journal>, session: SessionId) -> Result<bool, JournalError> {
    let query = JournalQuery {
        session: Some(session),
        events: vec!["session_closed".to_owned()],
        limit: 1,
        ..JournalQuery::default()
    };
    Ok(!journal.search(&query).await?.events.is_empty())
}

#[cfg(test)]
mod tests;
