//! The journal in SQLite: each event as JSON, and beside it the columns that searches read.

use super::{
    Journal, JournalError, JournalQuery, Moment, PAGE_BYTES_MAX, Page, Retention, people_words, searched_text,
};
use crate::approvals::limit;
use crate::domain::audit::Event;
use crate::domain::id::SessionId;
use crate::domain::identity::PersonKey;
pub use crate::embedded::EmbeddedStore;
use crate::embedded::{Trouble, Work, text, text_or_null};
use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};
use std::collections::BTreeSet;

mod search;

/// Rows of a session that are read at once.
const SESSION_ROWS_MAX: usize = 1000;

const COLUMNS: &str = "session, seq, at, event, issuer, subject, target, approval, words, body";

#[async_trait]
impl Journal for EmbeddedStore {
    async fn append(&self, events: &[Event]) -> Result<(), JournalError> {
        if events.is_empty() {
            return Ok(());
        }
        let rows = Rows::of(events)?;
        self.write(move |connection| rows.append(connection)).await?
    }

    fn retention(&self) -> Option<Retention> {
        None
    }

    async fn session(&self, id: SessionId) -> Result<Vec<Event>, JournalError> {
        let mut events: Vec<Event> = Vec::new();
        loop {
            let from = events.last().map_or(0, |last| last.seq.saturating_add(1));
            let mut part = self
                .read_scan(move |connection| session_part(connection, id, from, SESSION_ROWS_MAX))
                .await??;
            if part.is_empty() {
                return Ok(events);
            }
            events.append(&mut part);
        }
    }

    async fn after(&self, session: SessionId, seq: u64, asked: usize) -> Result<Vec<Event>, JournalError> {
        let Some(from) = seq.checked_add(1) else {
            return Ok(Vec::new());
        };
        self.read_scan(move |connection| session_part(connection, session, from, limit(asked)))
            .await?
    }

    async fn first(&self, session: SessionId) -> Result<Option<Event>, JournalError> {
        let part = self.read_points(move |connection| session_part(connection, session, 0, 1));
        Ok(part.await??.pop())
    }

    async fn last(&self, session: SessionId) -> Result<Option<Event>, JournalError> {
        self.read_points(move |connection| last(connection, session)).await?
    }

    async fn probe(&self) -> Result<(), JournalError> {
        self.read_points(|connection| {
            connection.prepare_cached("SELECT 1 FROM journal LIMIT 1")?.exists([])?;
            Ok(Ok(()))
        })
        .await?
    }

    async fn search(&self, query: &JournalQuery) -> Result<Page, JournalError> {
        let query = query.check()?;
        self.read_scan(move |connection| search::run(connection, &query))
            .await?
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
    issuer: Option<String>,
    subject: Option<String>,
    target: Option<String>,
    approval: Option<String>,
    words: String,
    body: String,
}

impl Stored {
    fn of(event: &Event) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Unavailable { source };
        Moment::of(event).map_err(|error| failed(error.into()))?;
        let person = event.person.as_ref();
        Ok(Self {
            session: event.session.to_string(),
            seq: i64::try_from(event.seq).map_err(|error| failed(error.into()))?,
            at: event.at.timestamp_micros(),
            event: event.what.name().to_owned(),
            issuer: person.map(|key| key.issuer.clone()),
            subject: person.map(|key| key.subject.clone()),
            target: event.target.clone(),
            approval: event.what.approval().map(ToString::to_string),
            words: searched_text(&event.what),
            body: serde_json::to_string(event).map_err(|error| failed(error.into()))?,
        })
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            session: text(row, 0)?,
            seq: row.get(1)?,
            at: row.get(2)?,
            event: text(row, 3)?,
            issuer: text_or_null(row, 4)?,
            subject: text_or_null(row, 5)?,
            target: text_or_null(row, 6)?,
            approval: text_or_null(row, 7)?,
            words: text(row, 8)?,
            body: text(row, 9)?,
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

/// Events as they are stored, and the words that they teach of people.
pub(crate) struct Rows {
    events: Vec<Stored>,
    words: BTreeSet<(String, PersonKey)>,
}

impl Rows {
    pub fn of(events: &[Event]) -> Result<Self, JournalError> {
        Ok(Self {
            events: events.iter().map(Stored::of).collect::<Result<_, _>>()?,
            words: events.iter().flat_map(people_words).collect(),
        })
    }

    /// Appends them in the transaction of the caller, who undoes it on an error.
    pub fn append(&self, connection: &Connection) -> Work<(), JournalError> {
        learn(connection, &self.words)?;
        append(connection, &self.events)
    }
}

/// Notes whom words mean. Most are known already: then nothing is written.
fn learn(connection: &Connection, words: &BTreeSet<(String, PersonKey)>) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO people VALUES (?, ?, ?)")?;
    for (word, key) in words {
        insert.execute(params![word, key.issuer, key.subject])?;
    }
    Ok(())
}

fn append(connection: &Connection, rows: &[Stored]) -> Work<(), JournalError> {
    let mut insert = connection.prepare_cached(&format!(
        "INSERT INTO journal ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ))?;
    for row in rows {
        let made = insert.execute(params![
            row.session,
            row.seq,
            row.at,
            row.event,
            row.issuer,
            row.subject,
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

/// At most so many events of a session, in order; ends early once they are larger than a page may be.
fn session_part(connection: &Connection, id: SessionId, from: u64, rows_max: usize) -> Work<Vec<Event>, JournalError> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM journal WHERE session = ? AND seq >= ? ORDER BY seq LIMIT ?"
    ))?;
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let mut rows = select.query(params![id.to_string(), from, rows_max])?;
    let mut part = Part::default();
    while !part.is_full()
        && let Some(row) = rows.next()?
    {
        if let Err(damaged) = part.add(Stored::from_row(row)?) {
            return Ok(Err(damaged));
        }
    }
    Ok(Ok(part.events))
}

fn last(connection: &Connection, id: SessionId) -> Work<Option<Event>, JournalError> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM journal WHERE session = ? ORDER BY seq DESC LIMIT 1"
    ))?;
    let stored = select.query_row(params![id.to_string()], Stored::from_row).optional()?;
    Ok(stored.map(Stored::event).transpose())
}

/// Events that are read together.
#[derive(Default)]
struct Part {
    events: Vec<Event>,
    bytes: usize,
}

impl Part {
    fn is_full(&self) -> bool {
        self.bytes > PAGE_BYTES_MAX
    }

    fn add(&mut self, stored: Stored) -> Result<(), JournalError> {
        self.bytes += stored.body.len();
        self.events.push(stored.event()?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::EmbeddedStore;
    use crate::domain::example::{alice, session};
    use crate::flaky::Schedule;
    use crate::journal::flaky::FlakyJournal;
    use crate::journal::{Journal, JournalQuery, contract};
    use proptest::prelude::*;
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

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn its_answers_are_those_of_the_predicate() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
        contract::answers(Arc::new(store)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn its_answers_are_those_of_the_predicate_on_a_bad_line() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
        contract::answers(Arc::new(FlakyJournal::new(store, Schedule::new(4)))).await;
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]
        #[test]
        fn sql_finds_what_the_predicate_says(seed in any::<u32>(), sessions in 1u64..20) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let directory = tempfile::tempdir().unwrap();
                let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
                contract::compare(Arc::new(store), seed.into(), sessions, 30).await;
            });
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
