//! `/countersign sessions`: who is connected, as the journal tells it.

use super::{Desk, TABLE_CHARS_MAX, clock, unready};
use crate::chat::{Answer, Request, Say};
use chrono::{TimeDelta, Utc};
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::audit::{Event, Happening};
use countersign_infra::domain::id::SessionId;
use countersign_infra::journal::JournalQuery;
use countersign_infra::policy::GatewayAction;
use countersign_infra::table::{head, list};
use std::collections::HashSet;

/// Sessions that were opened before are not shown.
const SINCE: TimeDelta = TimeDelta::hours(24);
const PAGES_MAX: usize = 5;
const SHOWN_MAX: usize = 15;

impl Desk {
    /// One's own; everybody's for whom the policy lets watch. That somebody asked is journaled first.
    pub(super) async fn sessions(&self, request: &Request) -> Result<Answer, Answer> {
        let person = self.person(request).await?;
        let watches = self.allows(&person, GatewayAction::Watch);
        if watches {
            let query = "sessions (chat)".to_owned();
            let noted = self.journal.note(&person, Happening::AuditQueried { query }).await;
            noted.map_err(unready)?;
        }
        let mut query = JournalQuery {
            who: (!watches).then(|| person.key.subject.clone()),
            since: Some(Utc::now() - SINCE),
            events: vec!["session_opened".to_owned(), "session_closed".to_owned()],
            limit: 1000,
            ..JournalQuery::default()
        };
        let (mut closed, mut open): (HashSet<SessionId>, Vec<Event>) = (HashSet::new(), Vec::new());
        for _ in 0..PAGES_MAX {
            let page = self.stores.journal.search(&query).await.map_err(unready)?;
            // Newest first: the end of a session comes before its beginning.
            for event in page.events {
                if matches!(event.what, Happening::SessionClosed { .. }) {
                    closed.insert(event.session);
                    continue;
                }
                let concerns = watches || event.person.as_ref() == Some(&person.key);
                if concerns && !closed.contains(&event.session) {
                    open.push(event);
                }
            }
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        Ok(said(&open, query.after.is_some(), watches))
    }
}

fn said(open: &[Event], more: bool, everybodys: bool) -> Answer {
    let now = Utc::now();
    let rows: Vec<_> = open.iter().take(SHOWN_MAX).map(|event| row(event, now)).collect();
    let whose = if everybodys { "" } else { " of yours" };
    if rows.is_empty() {
        return Answer::say(format!("No session{whose} is open that began within a day."));
    }
    let text = match open.len() {
        1 => format!("1 session{whose} is open."),
        all => format!("{all}{} sessions{whose} are open.", if more { " or more" } else { "" }),
    };
    Answer::Say(Box::new(Say {
        text,
        table: Some(list(["SINCE", "WHO", "TARGET"], &rows, TABLE_CHARS_MAX)),
        ..Say::default()
    }))
}

fn row(event: &Event, now: Timestamp) -> ([String; 3], String) {
    let application = if let Happening::SessionOpened { header } = &event.what {
        header.client.application.as_str()
    } else {
        "-"
    };
    let cells = [
        clock(event.at, now),
        head(event.person_name.as_deref().unwrap_or("-"), 12),
        head(event.target.as_deref().unwrap_or("-"), 12),
    ];
    (cells, format!("with {application}"))
}
