//! Approvals in SQLite: the record as JSON, and beside it the columns that lists and conditions read.

use super::{ApprovalQuery, ApprovalStore, StoreError, StoreTime, Tell, limit};
use crate::domain::Timestamp;
use crate::domain::approval::Approval;
use crate::domain::audit::Event;
use crate::domain::id::ApprovalId;
pub use crate::embedded::EmbeddedStore;
use crate::embedded::{Trouble, Work, text};
use crate::journal::JournalError;
use crate::journal::embedded::Rows;
use async_trait::async_trait;
use chrono::{NaiveDateTime, TimeDelta};
use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::time::Instant;

/// Feed entries and overdue records that one call returns.
const ROWS_MAX: usize = 1000;

const COLUMNS: &str = "id, version, state, lease_until, record";

#[async_trait]
impl ApprovalStore for EmbeddedStore {
    async fn create(&self, approval: &Approval, events: &[Event]) -> Result<(), StoreError> {
        let (row, events) = (Stored::of(approval)?, Rows::of(events)?);
        self.write(move |connection| match create(connection, &row)? {
            Ok(()) => append(connection, &events),
            error @ Err(_) => Ok(error),
        })
        .await?
    }

    async fn read(&self, id: &ApprovalId) -> Result<Approval, StoreError> {
        let id = id.clone();
        self.read_points(move |connection| read(connection, &id)).await?
    }

    async fn replace(&self, next: &Approval, events: &[Event], tell: Tell) -> Result<(), StoreError> {
        let (row, events) = (Stored::of(next)?, Rows::of(events)?);
        let told = match tell {
            Tell::Holder => Some(next.lease.gateway.clone()),
            Tell::Nobody => None,
        };
        self.write(move |connection| match replace(connection, &row, told.as_deref())? {
            Ok(()) => append(connection, &events),
            error @ Err(_) => Ok(error),
        })
        .await?
    }

    async fn list(&self, query: &ApprovalQuery) -> Result<Vec<Approval>, StoreError> {
        let query = query.clone();
        self.read_scan(move |connection| list(connection, &query)).await?
    }

    async fn overdue(&self, now: Timestamp) -> Result<Vec<Approval>, StoreError> {
        self.read_points(move |connection| overdue(connection, now)).await?
    }

    async fn take_feed(&self, gateway: &str) -> Result<Vec<ApprovalId>, StoreError> {
        let name = gateway.to_owned();
        // Looked at without the writer first: the feed is asked several times a second and mostly empty.
        let some = self
            .read_points(move |connection| Ok(Ok::<_, StoreError>(has_feed(connection, &name)?)))
            .await??;
        if !some {
            return Ok(Vec::new());
        }
        let name = gateway.to_owned();
        self.write(move |connection| take_feed(connection, &name)).await?
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        let asked = Instant::now();
        let text = self.read_points(|connection| {
            let text: String =
                connection.query_row("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')", [], |row| row.get(0))?;
            Ok(Ok::<_, StoreError>(text))
        });
        let read = NaiveDateTime::parse_from_str(&text.await??, "%Y-%m-%d %H:%M:%S%.f");
        let read = read.map_err(|error| StoreError::Unavailable { source: error.into() })?;
        let within = TimeDelta::from_std(asked.elapsed() / 2).unwrap_or_default();
        let time = read.and_utc() + within;
        Ok(StoreTime { time, within })
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable { source: trouble.into() }
    }
}

/// A journal that cannot take the events fails the change that they tell of.
impl From<JournalError> for StoreError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Taken { session, seq } => Self::Taken { session, seq },
            JournalError::Unavailable { source } => Self::Unavailable { source },
            error @ (JournalError::Damaged { .. } | JournalError::BadQuery(_)) => {
                Self::Unavailable { source: error.into() }
            }
        }
    }
}

/// A row of the table. Every column but `record` is derived from it, and compared when it is read.
#[derive(PartialEq, Eq)]
struct Stored {
    id: String,
    version: i64,
    state: String,
    lease_until: i64,
    record: String,
}

impl Stored {
    fn of(approval: &Approval) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Unavailable { source };
        Ok(Self {
            id: approval.id.to_string(),
            version: i64::try_from(approval.version).map_err(|error| failed(error.into()))?,
            state: approval.state.as_str().to_owned(),
            lease_until: approval.lease.until.timestamp_micros(),
            record: serde_json::to_string(approval).map_err(|error| failed(error.into()))?,
        })
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: text(row, 0)?,
            version: row.get(1)?,
            state: text(row, 2)?,
            lease_until: row.get(3)?,
            record: text(row, 4)?,
        })
    }

    fn approval(self) -> Result<Approval, StoreError> {
        let Ok(id) = self.id.parse::<ApprovalId>() else {
            return Err(StoreError::Unavailable {
                source: format!("a record has the number {:?}", self.id).into(),
            });
        };
        let damaged = |why: String| StoreError::Damaged { id: id.clone(), why };
        let approval: Approval =
            serde_json::from_str(&self.record).map_err(|error| damaged(format!("it does not read: {error}")))?;
        if Self::of(&approval)? == self {
            Ok(approval)
        } else {
            Err(damaged("its record and the columns beside it differ".to_owned()))
        }
    }
}

fn create(connection: &Connection, row: &Stored) -> Work<(), StoreError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO approvals (id, version, state, lease_until, record) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (id) DO NOTHING",
    )?;
    let made = insert.execute(params![row.id, row.version, row.state, row.lease_until, row.record])?;
    if made == 1 {
        Ok(Ok(()))
    } else {
        conflict(connection, &row.id)
    }
}

fn replace(connection: &Connection, row: &Stored, told: Option<&str>) -> Work<(), StoreError> {
    let mut update = connection.prepare_cached(
        "UPDATE approvals SET version = ?2, state = ?3, lease_until = ?4, record = ?5
         WHERE id = ?1 AND version = ?2 - 1",
    )?;
    if update.execute(params![row.id, row.version, row.state, row.lease_until, row.record])? == 0 {
        return conflict(connection, &row.id);
    }
    if let Some(gateway) = told {
        let mut tell = connection.prepare_cached("INSERT OR IGNORE INTO feed (gateway, approval) VALUES (?, ?)")?;
        tell.execute(params![gateway, row.id])?;
    }
    Ok(Ok(()))
}

/// Writes the events of a change in its transaction.
fn append(connection: &Connection, events: &Rows) -> Work<(), StoreError> {
    Ok(events.append(connection)?.map_err(StoreError::from))
}

/// The condition failed: says what the record is now.
fn conflict(connection: &Connection, id: &str) -> Work<(), StoreError> {
    let Ok(id) = id.parse::<ApprovalId>() else {
        return Ok(Err(StoreError::Unavailable {
            source: format!("{id:?} is no approval number").into(),
        }));
    };
    let current = read(connection, &id)?;
    Ok(Err(current.map_or_else(
        |error| error,
        |current| StoreError::Conflict {
            current: Box::new(current),
        },
    )))
}

fn read(connection: &Connection, id: &ApprovalId) -> Work<Approval, StoreError> {
    let mut select = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM approvals WHERE id = ?"))?;
    let row = select.query_row([id.as_str()], Stored::from_row).optional()?;
    Ok(row.map_or_else(|| Err(StoreError::NotFound(id.clone())), Stored::approval))
}

fn list(connection: &Connection, query: &ApprovalQuery) -> Work<Vec<Approval>, StoreError> {
    let before: i64 = match &query.before {
        None => i64::MAX,
        Some(id) => {
            let place = connection.query_row("SELECT ordinal FROM approvals WHERE id = ?", [id.as_str()], |r| {
                r.get(0)
            });
            match place.optional()? {
                Some(place) => place,
                None => return Ok(Err(StoreError::NotFound(id.clone()))),
            }
        }
    };
    let only = if query.pending_only {
        "AND state = 'pending'"
    } else {
        ""
    };
    let select = format!("SELECT {COLUMNS} FROM approvals WHERE ordinal < ? {only} ORDER BY ordinal DESC LIMIT ?");
    let limit = i64::try_from(limit(query.limit)).unwrap_or(i64::MAX);
    all(connection, &select, params![before, limit])
}

fn overdue(connection: &Connection, now: Timestamp) -> Work<Vec<Approval>, StoreError> {
    let select = format!(
        "SELECT {COLUMNS} FROM approvals WHERE state IN ('pending', 'approved', 'executing') AND lease_until < ?
         ORDER BY lease_until LIMIT {ROWS_MAX}"
    );
    all(connection, &select, [now.timestamp_micros()])
}

/// Reads many. A damaged record is left out and logged: it must not hide the sound ones, nor keep the holders of
/// others from being found dead.
fn all(connection: &Connection, select: &str, params: impl rusqlite::Params) -> Work<Vec<Approval>, StoreError> {
    let mut select = connection.prepare_cached(select)?;
    let rows = select
        .query_map(params, Stored::from_row)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let sound = rows.into_iter().filter_map(|row| match row.approval() {
        Ok(approval) => Some(approval),
        Err(error) => {
            tracing::error!(%error, "a stored approval is left out of a list");
            None
        }
    });
    Ok(Ok(sound.collect()))
}

fn has_feed(connection: &Connection, gateway: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM feed WHERE gateway = ? LIMIT 1")?
        .exists([gateway])
}

fn take_feed(connection: &Connection, gateway: &str) -> Work<Vec<ApprovalId>, StoreError> {
    let mut take = connection.prepare_cached(&format!(
        "DELETE FROM feed WHERE gateway = ?1
         AND approval IN (SELECT approval FROM feed WHERE gateway = ?1 LIMIT {ROWS_MAX}) RETURNING approval"
    ))?;
    let taken = take
        .query_map([gateway], |row| row.get::<_, String>(0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    // A hint that cannot be read is none.
    Ok(Ok(taken.iter().filter_map(|id| id.parse().ok()).collect()))
}

#[cfg(test)]
mod tests {
    use super::EmbeddedStore;
    use crate::approvals::contract;
    use crate::approvals::flaky::FlakyApprovals;
    use crate::flaky::Schedule;
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
            contract::holds(Arc::new(FlakyApprovals::new(store, Schedule::new(seed)))).await;
        }
    }
}
