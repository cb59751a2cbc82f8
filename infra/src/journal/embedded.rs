//! The journal in SQLite: each event as JSON, and beside it the columns that searches read.

use super::{Journal, JournalError, JournalQuery, Page};
use crate::approvals::limit;
use crate::domain::audit::{Event, Happening};
use crate::domain::id::{ApprovalId, SessionId};
pub use crate::embedded::EmbeddedStore;
use crate::embedded::{Trouble, Work, text, text_or_null};
use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params, params_from_iter};

/// Rows of a session that are read at once.
const SESSION_ROWS_MAX: usize = 1000;

/// A page ends early once its events are larger than this, so that one page of long statements stays small.
const PAGE_BYTES_MAX: usize = 4 << 20;

const COLUMNS: &str = "session, seq, at, event, person, subject, email, target, approval, words, body";

#[async_trait]
impl Journal for EmbeddedStore {
    async fn append(&self, events: &[Event]) -> Result<(), JournalError> {
        if events.is_empty() {
            return Ok(());
        }
        let rows = Rows::of(events)?;
        self.write(move |connection| rows.append(connection)).await?
    }

    async fn session(&self, id: SessionId) -> Result<Vec<Event>, JournalError> {
        let mut events: Vec<Event> = Vec::new();
        loop {
            let from = events.last().map_or(0, |last| last.seq.saturating_add(1));
            let mut part = self
                .read_scan(move |connection| session_part(connection, id, from))
                .await??;
            let last = part.len() < SESSION_ROWS_MAX;
            events.append(&mut part);
            if last {
                return Ok(events);
            }
        }
    }

    async fn search(&self, query: &JournalQuery) -> Result<Page, JournalError> {
        let search = Search::of(query)?;
        self.read_scan(move |connection| search.run(connection)).await?
    }
}

impl From<Trouble> for JournalError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable { source: trouble.into() }
    }
}

/// A row of the table. Every column but `body` is derived from it, and compared when it is read.
#[derive(PartialEq, Eq)]
struct Stored {
    session: String,
    seq: i64,
    at: i64,
    event: String,
    person: Option<String>,
    subject: Option<String>,
    email: Option<String>,
    target: Option<String>,
    approval: Option<String>,
    words: String,
    body: String,
}

impl Stored {
    fn of(event: &Event) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Unavailable { source };
        let lower = |text: &String| text.to_lowercase();
        Ok(Self {
            session: event.session.to_string(),
            seq: i64::try_from(event.seq).map_err(|error| failed(error.into()))?,
            at: event.at.timestamp_micros(),
            event: event.what.name().to_owned(),
            person: event.person_name.as_ref().map(lower),
            subject: event.person.as_ref().map(|key| key.subject.to_lowercase()),
            email: email(&event.what).map(lower),
            target: event.target.clone(),
            approval: event.what.approval().map(ToString::to_string),
            words: event.what.words().join("\n").to_lowercase(),
            body: serde_json::to_string(event).map_err(|error| failed(error.into()))?,
        })
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            session: text(row, 0)?,
            seq: row.get(1)?,
            at: row.get(2)?,
            event: text(row, 3)?,
            person: text_or_null(row, 4)?,
            subject: text_or_null(row, 5)?,
            email: text_or_null(row, 6)?,
            target: text_or_null(row, 7)?,
            approval: text_or_null(row, 8)?,
            words: text(row, 9)?,
            body: text(row, 10)?,
        })
    }

    /// The event, if every stored byte is as it was written: also a byte that reading would pass over.
    fn event(self) -> Result<Event, JournalError> {
        let damaged = |why: String| match self.session.parse() {
            Ok(session) => JournalError::Damaged {
                session,
                seq: u64::try_from(self.seq).unwrap_or_default(),
                why,
            },
            Err(_) => JournalError::Unavailable {
                source: format!("a row has the session {:?}", self.session).into(),
            },
        };
        let event: Event =
            serde_json::from_str(&self.body).map_err(|error| damaged(format!("it does not read: {error}")))?;
        let written = Self::of(&event)?;
        if written.body != self.body {
            return Err(damaged("its bytes are not those that were written".to_owned()));
        }
        if written != self {
            return Err(damaged(
                "the columns that searches read differ from the event".to_owned(),
            ));
        }
        Ok(event)
    }
}

fn email(what: &Happening) -> Option<&String> {
    if let Happening::SessionOpened { header } = what {
        header.person.email.as_ref()
    } else {
        None
    }
}

/// Events as they are stored.
pub(crate) struct Rows(Vec<Stored>);

impl Rows {
    pub fn of(events: &[Event]) -> Result<Self, JournalError> {
        events.iter().map(Stored::of).collect::<Result<Vec<_>, _>>().map(Self)
    }

    /// Appends them in the transaction of the caller, who undoes it on an error.
    pub fn append(&self, connection: &Connection) -> Work<(), JournalError> {
        append(connection, &self.0)
    }
}

fn append(connection: &Connection, rows: &[Stored]) -> Work<(), JournalError> {
    let mut insert = connection.prepare_cached(&format!(
        "INSERT INTO journal ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ))?;
    for row in rows {
        let made = insert.execute(params![
            row.session,
            row.seq,
            row.at,
            row.event,
            row.person,
            row.subject,
            row.email,
            row.target,
            row.approval,
            row.words,
            row.body
        ]);
        match made {
            Ok(_) => {}
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                if !is_there(connection, row)? {
                    return Ok(Err(taken(row)));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Ok(()))
}

/// Whether exactly this row was written before: the call is a repetition.
fn is_there(connection: &Connection, row: &Stored) -> rusqlite::Result<bool> {
    let select = format!("SELECT {COLUMNS} FROM journal WHERE session = ? AND seq = ?");
    let there = connection
        .prepare_cached(&select)?
        .query_row(params![row.session, row.seq], Stored::from_row);
    Ok(there.optional()?.is_some_and(|there| there == *row))
}

fn taken(row: &Stored) -> JournalError {
    match (row.session.parse(), u64::try_from(row.seq)) {
        (Ok(session), Ok(seq)) => JournalError::Taken { session, seq },
        (Ok(_) | Err(_), _) => JournalError::Unavailable {
            source: "the event's number is out of range".into(),
        },
    }
}

fn session_part(connection: &Connection, id: SessionId, from: u64) -> Work<Vec<Event>, JournalError> {
    let select =
        format!("SELECT {COLUMNS} FROM journal WHERE session = ? AND seq >= ? ORDER BY seq LIMIT {SESSION_ROWS_MAX}");
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    all(
        connection,
        &select,
        vec![Value::from(id.to_string()), Value::from(from)],
    )
}

fn all(connection: &Connection, select: &str, values: Vec<Value>) -> Work<Vec<Event>, JournalError> {
    let mut select = connection.prepare_cached(select)?;
    let rows = select.query_map(params_from_iter(values), Stored::from_row)?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(rows.into_iter().map(Stored::event).collect())
}

/// A question in SQL: conditions with their values, in order.
struct Search {
    conditions: Vec<String>,
    values: Vec<Value>,
    limit: usize,
}

impl Search {
    fn of(query: &JournalQuery) -> Result<Self, JournalError> {
        let mut search = Self {
            conditions: Vec::new(),
            values: Vec::new(),
            limit: limit(query.limit),
        };
        if let Some(after) = &query.after {
            let place = after.parse::<i64>();
            let place = place.map_err(|_| JournalError::BadQuery(format!("there is no page {after:?}")))?;
            search.narrow("ordinal < ?", [Value::from(place)]);
        }
        if let Some(who) = &query.who {
            let who = Value::from(who.to_lowercase());
            search.narrow(
                "(person = ? OR subject = ? OR session IN (SELECT session FROM journal WHERE email = ?))",
                [who.clone(), who.clone(), who],
            );
        }
        if let Some(target) = &query.target {
            search.narrow("target = ?", [Value::from(target.clone())]);
        }
        if let Some(since) = query.since {
            search.narrow("at >= ?", [Value::from(since.timestamp_micros())]);
        }
        if let Some(until) = query.until {
            search.narrow("at < ?", [Value::from(until.timestamp_micros())]);
        }
        if let Some(session) = query.session {
            search.narrow("session = ?", [Value::from(session.to_string())]);
        }
        if let Some(text) = query.text.as_ref().filter(|text| !text.is_empty()) {
            search.narrow("instr(words, ?) > 0", [Value::from(text.to_lowercase())]);
        }
        search.narrow_by_events(&query.events)?;
        search.narrow_by_approval(query.approval.as_deref())?;
        Ok(search)
    }

    fn narrow<const N: usize>(&mut self, condition: &str, values: [Value; N]) {
        self.conditions.push(condition.to_owned());
        self.values.extend(values);
    }

    fn narrow_by_events(&mut self, events: &[String]) -> Result<(), JournalError> {
        if events.is_empty() {
            return Ok(());
        }
        if let Some(unknown) = events.iter().find(|event| !Happening::NAMES.contains(&event.as_str())) {
            let known = Happening::NAMES.join(", ");
            return Err(JournalError::BadQuery(format!(
                "there is no event {unknown:?}, but {known}"
            )));
        }
        let mut names = events.to_vec();
        names.sort();
        names.dedup();
        self.conditions
            .push(format!("event IN ({})", vec!["?"; names.len()].join(", ")));
        self.values.extend(names.into_iter().map(Value::from));
        Ok(())
    }

    fn narrow_by_approval(&mut self, approval: Option<&str>) -> Result<(), JournalError> {
        let Some(approval) = approval else { return Ok(()) };
        let id: ApprovalId = approval
            .parse()
            .map_err(|error| JournalError::BadQuery(format!("{approval:?}: {error}")))?;
        self.narrow("approval = ?", [Value::from(id.to_string())]);
        Ok(())
    }

    /// Newest first, by the order of writing: pages do not shift when events are added.
    fn run(mut self, connection: &Connection) -> Work<Page, JournalError> {
        let only = match self.conditions.is_empty() {
            true => String::new(),
            false => format!("WHERE {}", self.conditions.join(" AND ")),
        };
        let select = format!("SELECT {COLUMNS}, ordinal FROM journal {only} ORDER BY ordinal DESC LIMIT ?");
        self.values.push(Value::from(
            i64::try_from(self.limit).unwrap_or(i64::MAX).saturating_add(1),
        ));
        let mut select = connection.prepare_cached(&select)?;
        let mut rows = select.query(params_from_iter(self.values))?;
        let mut page = Page::default();
        let (mut last, mut bytes) = (None, 0);
        while let Some(row) = rows.next()? {
            if page.events.len() == self.limit || bytes > PAGE_BYTES_MAX {
                page.next = last;
                break;
            }
            let stored = Stored::from_row(row)?;
            bytes += stored.body.len();
            last = Some(row.get::<_, i64>(11)?.to_string());
            match stored.event() {
                Ok(event) => page.events.push(event),
                Err(damaged) => return Ok(Err(damaged)),
            }
        }
        Ok(Ok(page))
    }
}

#[cfg(test)]
mod tests {
    use super::EmbeddedStore;
    use crate::approvals::flaky::Schedule;
    use crate::domain::example::{alice, session};
    use crate::journal::flaky::FlakyJournal;
    use crate::journal::{Journal, JournalQuery, contract};
    use std::sync::Arc;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_contract_holds() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
        contract::holds(Arc::new(store)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_contract_holds_on_a_bad_line() {
        for seed in [1, 2, 3] {
            let directory = tempfile::tempdir().unwrap();
            let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
            contract::holds(Arc::new(FlakyJournal::new(store, Schedule::new(seed)))).await;
        }
    }

    #[tokio::test]
    async fn a_page_of_long_statements_ends_early_and_loses_none() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
        for number in 0..12 {
            store
                .append(&contract::story(
                    session(number),
                    &alice(),
                    "orders",
                    &"x".repeat(1 << 20),
                ))
                .await
                .unwrap();
        }
        let mut query = JournalQuery {
            events: vec!["asked".to_owned()],
            ..JournalQuery::default()
        };
        let mut sizes = Vec::new();
        loop {
            let page = store.search(&query).await.unwrap();
            sizes.push(page.events.len());
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        assert_eq!(sizes, [4, 4, 4]);
    }
}
