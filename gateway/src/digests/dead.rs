//! What the last digest of a run says that did not live to sign it: as the journal knows it.

use super::{Means, NotDigested};
use crate::journal::SessionJournal;
use countersign_infra::domain::audit::{Chain, Happening};
use countersign_infra::domain::id::{Digest, SessionId};
use countersign_infra::journal::{Journal, JournalError, JournalQuery};
use countersign_infra::recordings::RecordingError;
use countersign_infra::recordings::chain::Anchor;
use countersign_infra::recordings::digest::{RunChain, SessionLine};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Events of one page of the journal.
const PAGE: usize = 1000;
/// A session may have been journaled under a clock that stood behind the one of the digest.
const CLOCK_MAX: chrono::TimeDelta = chrono::TimeDelta::hours(1);

/// The sessions that were open when the run's last digest was made, and those that were opened since.
pub async fn lines(means: &Means, chain: &RunChain) -> Result<Vec<SessionLine>, NotDigested> {
    let journal = means.journal.as_ref();
    let mut sessions: BTreeMap<u64, SessionId> = opened(journal, chain).await?;
    let end = sessions.keys().next_back().map_or(chain.next, |last| last + 1);
    let mut lines = Vec::new();
    for line in &chain.open {
        sessions.insert(line.number, line.session);
    }
    for (number, session) in &sessions {
        let (anchor, closed) = reached(journal, *session).await?;
        // What a digest has said stays true, whatever the journal knows.
        let before = chain
            .open
            .iter()
            .find(|line| line.number == *number)
            .map(SessionLine::anchor);
        let anchor = before.filter(|before| before.chunks > anchor.chunks).unwrap_or(anchor);
        let closed = closed || (anchor.chunks == 0 && never_began(means, *session).await?);
        lines.push(SessionLine {
            number: *number,
            session: *session,
            chunks: anchor.chunks,
            last: anchor.last,
            closed,
        });
    }
    let unused = (chain.next..end).filter(|number| !sessions.contains_key(number));
    lines.extend(unused.map(nothing));
    lines.sort_unstable_by_key(|line| line.number);
    Ok(lines)
}

/// The gateway ended when the session had its number and nothing else, or when its beginning was on record and no recording
/// was open yet: nothing of it ever ran. Then its end is put on record here, because nobody else will.
async fn never_began(means: &Means, session: SessionId) -> Result<bool, NotDigested> {
    let Some(last) = means.journal.last(session).await? else {
        return Ok(true);
    };
    if !matches!(last.what, Happening::SessionOpened { .. }) {
        return Ok(false);
    }
    match means.recordings.chunks(session).await {
        Ok(0) | Err(RecordingError::NotFound(_)) => {}
        Ok(_) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let journal = SessionJournal::new(Arc::clone(&means.journal), Chain::resume(&last));
    let Anchor { chunks, last } = Anchor::START;
    let why = "the gateway ended before anything was recorded".to_owned();
    journal
        .append(vec![Happening::SessionClosed { why, chunks, last }])
        .await?;
    tracing::warn!(%session, "a session that never began was closed");
    Ok(true)
}

/// A number that was given, and then the gateway ended before the session was on record: nothing of it ever ran.
fn nothing(number: u64) -> SessionLine {
    SessionLine {
        number,
        session: SessionId(uuid::Uuid::nil()),
        chunks: Anchor::START.chunks,
        last: Anchor::START.last,
        closed: true,
    }
}

async fn opened(journal: &dyn Journal, chain: &RunChain) -> Result<BTreeMap<u64, SessionId>, JournalError> {
    let mut found = BTreeMap::new();
    let mut query = JournalQuery {
        since: chain.to.checked_sub_signed(CLOCK_MAX),
        events: vec!["session_opened".to_owned()],
        limit: PAGE,
        ..JournalQuery::default()
    };
    loop {
        let page = journal.search(&query).await?;
        for event in page.events {
            if let Happening::SessionOpened { header } = event.what
                && header.number.run == chain.run
                && header.number.number >= chain.next
            {
                found.insert(header.number.number, header.id);
            }
        }
        match page.next {
            Some(next) if query.after.as_ref() != Some(&next) => query.after = Some(next),
            Some(_) | None => return Ok(found),
        }
    }
}

/// How far a recording came by the journal, and whether it ended there. The last event that tells of it is near the
/// session's end.
async fn reached(journal: &dyn Journal, session: SessionId) -> Result<(Anchor, bool), JournalError> {
    let mut query = JournalQuery {
        session: Some(session),
        events: vec!["recording_anchor".to_owned(), "session_closed".to_owned()],
        limit: 1,
        ..JournalQuery::default()
    };
    loop {
        let page = journal.search(&query).await?;
        if let Some(told) = page.events.first().and_then(|event| told(&event.what)) {
            return Ok(told);
        }
        match page.next {
            Some(next) if query.after.as_ref() != Some(&next) => query.after = Some(next),
            Some(_) | None => return Ok((Anchor::START, false)),
        }
    }
}

fn told(what: &Happening) -> Option<(Anchor, bool)> {
    match what {
        Happening::RecordingAnchor { chunks, last } => Some((anchor(*chunks, *last), false)),
        Happening::SessionClosed { chunks, last, .. } => Some((anchor(*chunks, *last), true)),
        Happening::SessionOpened { .. }
        | Happening::Asked { .. }
        | Happening::Verdict { .. }
        | Happening::Held { .. }
        | Happening::Executing { .. }
        | Happening::Answered { .. }
        | Happening::Refused { .. }
        | Happening::GatewaySent { .. }
        | Happening::CopyReceived { .. }
        | Happening::AuditQueried { .. }
        | Happening::Decided { .. }
        | Happening::SignInRefused { .. }
        | Happening::ChatLinked { .. }
        | Happening::DigestSigned { .. } => None,
    }
}

fn anchor(chunks: u64, last: Digest) -> Anchor {
    Anchor { chunks, last }
}
