//! Finding operations: the journal finds what was asked, and the events behind it say what became of it.

use super::trail::Trails;
use super::{AuditedOperation, CANDIDATES_MAX, Ending, OperationPage, OperationQuery, PAGE_BYTES_MAX};
use crate::domain::audit::{Event, Happening};
use crate::domain::id::{ApprovalId, Digest, SessionId};
use crate::journal::{Journal, JournalError, JournalQuery, Moment};

/// An operation is asked so few events before it is held.
const ASKED_WITHIN: u64 = 64;

/// Events that tell that an approval was opened: one, unless somebody else wrote into the journal.
const HELD_MAX: usize = 20;

pub(super) async fn find<J: Journal + ?Sized>(
    journal: &J,
    query: &OperationQuery,
) -> Result<OperationPage, JournalError> {
    let mut asked = query.asked();
    if let Some(number) = &query.approval {
        return of_approval(journal, query, number).await;
    }
    let mut page = PageInMaking::new(journal, query);
    loop {
        let found = journal.search(&asked).await?;
        if let Some(next) = page.add(found.events).await? {
            return Ok(page.end(Some(next.to_string())));
        }
        match found.next {
            Some(next) if page.seen < CANDIDATES_MAX => asked.after = Some(next),
            next => return Ok(page.end(next)),
        }
    }
}

/// The operation that an approval is for, if it answers the question.
async fn of_approval<J: Journal + ?Sized>(
    journal: &J,
    query: &OperationQuery,
    number: &str,
) -> Result<OperationPage, JournalError> {
    let held = JournalQuery {
        approval: Some(number.to_owned()),
        events: vec!["held".to_owned()],
        session: query.session,
        limit: HELD_MAX,
        ..JournalQuery::default()
    };
    // Refuses also what makes no sense beside the number.
    query.asked().check()?;
    let approval = held.check()?.approval;
    let mut asked = Vec::new();
    for event in journal.search(&held).await?.events {
        let Happening::Held { operation, .. } = event.what else {
            continue;
        };
        if let Some(found) = asked_before(journal, event.session, event.seq, operation).await?
            && answers(journal, query, &found).await?
        {
            asked.push(found);
        }
    }
    asked.sort_by_key(|event| std::cmp::Reverse(Moment::of(event).ok()));
    let mut page = PageInMaking::new(journal, query);
    page.approval = approval;
    let next = page.add(asked).await?;
    Ok(page.end(next.map(|moment| moment.to_string())))
}

/// The event by which an operation was asked that was held then.
async fn asked_before<J: Journal + ?Sized>(
    journal: &J,
    session: SessionId,
    held: u64,
    digest: Digest,
) -> Result<Option<Event>, JournalError> {
    let mut asked = None;
    let mut seq = held.saturating_sub(ASKED_WITHIN + 1);
    while seq < held {
        let limit = usize::try_from(held - seq).unwrap_or(1);
        let events = journal.after(session, seq, limit).await?;
        let Some(last) = events.last().map(|event| event.seq) else {
            break;
        };
        let is_it = |event: &Event| {
            event.seq < held && matches!(event.what, Happening::Asked { operation, .. } if operation == digest)
        };
        asked = events.into_iter().rfind(is_it).or(asked);
        seq = last;
    }
    Ok(asked)
}

/// Whether the question finds this event.
async fn answers<J: Journal + ?Sized>(
    journal: &J,
    query: &OperationQuery,
    event: &Event,
) -> Result<bool, JournalError> {
    let mut asked = query.asked();
    let wanted = asked.check()?;
    let place = |seq| Moment::at(event.at, event.session, seq);
    let (Ok(here), Ok(behind)) = (place(event.seq), place(event.seq.saturating_add(1))) else {
        return Ok(false);
    };
    if wanted.from.is_some_and(|from| from > here) || wanted.before.is_some_and(|before| before <= here) {
        return Ok(false);
    }
    // Then it is the first that is looked at.
    asked.since = Some(event.at);
    asked.until = None;
    asked.after = Some(behind.to_string());
    asked.session = Some(event.session);
    asked.limit = 1;
    let found = journal.search(&asked).await?;
    Ok(found.events.contains(event))
}

/// A page that fills.
struct PageInMaking<'a, J: ?Sized> {
    query: &'a OperationQuery,
    trails: Trails<'a, J>,
    /// Only operations of this approval.
    approval: Option<ApprovalId>,
    page: OperationPage,
    bytes: usize,
    seen: usize,
    /// Where the operation was asked that was looked at last.
    place: Option<Moment>,
}

impl<'a, J: Journal + ?Sized> PageInMaking<'a, J> {
    fn new(journal: &'a J, query: &'a OperationQuery) -> Self {
        Self {
            query,
            trails: Trails::new(journal),
            approval: None,
            page: OperationPage::default(),
            bytes: 0,
            seen: 0,
            place: None,
        }
    }

    /// Adds those operations that answer, as long as there is room. Some: there was none, and the page ends there.
    async fn add(&mut self, asked: Vec<Event>) -> Result<Option<Moment>, JournalError> {
        self.trails.look_for(&asked);
        for event in asked {
            if self.trails.is_tired() && self.place.is_some() {
                return Ok(self.place);
            }
            let place = Moment::of(&event).ok();
            self.seen += 1;
            if let Some(operation) = self.tell(event).await?.filter(|operation| self.wants(operation)) {
                if self.page.operations.len() == self.query.limit() || self.bytes > PAGE_BYTES_MAX {
                    return Ok(self.place);
                }
                self.bytes += operation.display.len();
                self.page.operations.push(operation);
            }
            self.place = place;
        }
        Ok(None)
    }

    fn wants(&self, operation: &AuditedOperation) -> bool {
        let is_its = |id: &ApprovalId| operation.ending.approval.as_ref() == Some(id);
        self.query.wants(operation) && self.approval.as_ref().is_none_or(is_its)
    }

    async fn tell(&mut self, event: Event) -> Result<Option<AuditedOperation>, JournalError> {
        let Happening::Asked {
            operation,
            display,
            display_bytes,
            effects,
            place,
            in_transaction,
            ..
        } = event.what
        else {
            return Ok(None);
        };
        let ending: Ending = self.trails.ending(event.session, event.seq, operation).await?;
        Ok(Some(AuditedOperation {
            session: event.session,
            seq: event.seq,
            at: event.at,
            gateway: event.gateway,
            person: event.person,
            person_name: event.person_name,
            target: event.target,
            operation,
            display,
            display_bytes,
            effects,
            place,
            in_transaction,
            ending,
        }))
    }

    fn end(self, next: Option<String>) -> OperationPage {
        OperationPage { next, ..self.page }
    }
}
