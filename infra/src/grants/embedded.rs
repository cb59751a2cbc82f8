//! Grants in SQLite: the record as JSON, and beside it the columns that conditions read.

use super::{GRANTS_MAX, GrantError, GrantStore};
use crate::domain::grant::Grant;
use crate::domain::id::{GrantId, SessionId};
pub use crate::embedded::EmbeddedStore;
use crate::embedded::{Trouble, Work, text};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

const COLUMNS: &str = "id, session, version, record";

#[async_trait]
impl GrantStore for EmbeddedStore {
    async fn create(&self, grant: &Grant) -> Result<(), GrantError> {
        let row = Stored::of(grant)?;
        self.write(move |connection| {
            let mut insert = connection.prepare_cached(&format!(
                "INSERT INTO grants ({COLUMNS}) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
            ))?;
            match insert.execute(params![row.id, row.session, row.version, row.record])? {
                1 => Ok(Ok(())),
                _ => conflict(connection, &row.id),
            }
        })
        .await?
    }

    async fn read(&self, id: GrantId) -> Result<Grant, GrantError> {
        self.read_points(move |connection| read(connection, &id.to_string()))
            .await?
    }

    async fn replace(&self, next: &Grant) -> Result<(), GrantError> {
        let row = Stored::of(next)?;
        self.write(move |connection| {
            let mut update = connection.prepare_cached(
                "UPDATE grants SET session = ?2, version = ?3, record = ?4 WHERE id = ?1 AND version = ?3 - 1",
            )?;
            match update.execute(params![row.id, row.session, row.version, row.record])? {
                1 => Ok(Ok(())),
                _ => conflict(connection, &row.id),
            }
        })
        .await?
    }

    async fn of_session(&self, session: SessionId) -> Result<Vec<Grant>, GrantError> {
        self.read_points(move |connection| {
            let mut select = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM grants WHERE session = ? ORDER BY id LIMIT {GRANTS_MAX}"
            ))?;
            let rows = select.query_map([session.to_string()], Stored::from_row)?;
            let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(rows.into_iter().map(Stored::grant).collect())
        })
        .await?
    }
}

impl From<Trouble> for GrantError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable { source: trouble.into() }
    }
}

/// A row of the table. Every column but `record` is derived from it, and compared when it is read.
#[derive(PartialEq, Eq)]
struct Stored {
    id: String,
    session: String,
    version: i64,
    record: String,
}

impl Stored {
    fn of(grant: &Grant) -> Result<Self, GrantError> {
        let failed = |source| GrantError::Unavailable { source };
        Ok(Self {
            id: grant.id.to_string(),
            session: grant.session.to_string(),
            version: i64::try_from(grant.version).map_err(|error| failed(error.into()))?,
            record: serde_json::to_string(grant).map_err(|error| failed(error.into()))?,
        })
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: text(row, 0)?,
            session: text(row, 1)?,
            version: row.get(2)?,
            record: text(row, 3)?,
        })
    }

    fn grant(self) -> Result<Grant, GrantError> {
        let id = id_of(&self.id)?;
        let damaged = |why: String| GrantError::Damaged { id, why };
        let grant: Grant =
            serde_json::from_str(&self.record).map_err(|error| damaged(format!("it does not read: {error}")))?;
        if Self::of(&grant)? == self {
            Ok(grant)
        } else {
            Err(damaged("its record and the columns beside it differ".to_owned()))
        }
    }
}

fn id_of(text: &str) -> Result<GrantId, GrantError> {
    text.parse().map_err(|_| GrantError::Unavailable {
        source: format!("a grant has the id {text:?}").into(),
    })
}

fn read(connection: &Connection, id: &str) -> Work<Grant, GrantError> {
    let select = format!("SELECT {COLUMNS} FROM grants WHERE id = ?");
    let row = connection
        .prepare_cached(&select)?
        .query_row([id], Stored::from_row)
        .optional()?;
    Ok(match row {
        Some(row) => row.grant(),
        None => Err(id_of(id).map_or_else(|error| error, GrantError::NotFound)),
    })
}

/// The condition failed: says what the record is now.
fn conflict(connection: &Connection, id: &str) -> Work<(), GrantError> {
    let current = read(connection, id)?;
    Ok(Err(current.map_or_else(
        |error| error,
        |current| GrantError::Conflict {
            current: Box::new(current),
        },
    )))
}

#[cfg(test)]
mod tests {
    use super::EmbeddedStore;
    use crate::domain::example::grant;
    use crate::flaky::Schedule;
    use crate::grants::flaky::FlakyGrants;
    use crate::grants::{GrantError, GrantStore, contract};
    use rusqlite::Connection;
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
            contract::holds(Arc::new(FlakyGrants::new(store, Schedule::new(seed)))).await;
        }
    }

    #[tokio::test]
    async fn a_damaged_grant_admits_nothing() {
        for change in ["version = 7", "session = id", "record = '{}'", "record = record || ' '"] {
            let directory = tempfile::tempdir().unwrap();
            let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
            store.create(&grant()).await.unwrap();
            let file = Connection::open(store.path()).unwrap();
            file.execute_batch(&format!("UPDATE grants SET {change}")).unwrap();
            let read = store.read(grant().id).await;
            assert!(matches!(read, Err(GrantError::Damaged { .. })), "{change}: {read:?}");
        }
    }
}
