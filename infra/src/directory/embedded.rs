//! The directory in SQLite: one row a person.

use super::{DirectoryError, DirectoryStore, SAME_MAILBOX_MAX};
use crate::domain::directory::DirectoryEntry;
use crate::domain::identity::PersonKey;
pub use crate::embedded::EmbeddedStore;
use crate::embedded::{Trouble, text};
use async_trait::async_trait;
use rusqlite::{OptionalExtension, params};

#[async_trait]
impl DirectoryStore for EmbeddedStore {
    async fn keep(&self, entry: &DirectoryEntry) -> Result<(), DirectoryError> {
        let (row, key) = (Stored::of(entry)?, entry.person.key.clone());
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO directory (issuer, subject, mailbox, as_of, record) VALUES (?, ?, ?, ?, ?)
                     ON CONFLICT (issuer, subject) DO UPDATE
                     SET mailbox = excluded.mailbox, as_of = excluded.as_of, record = excluded.record
                     WHERE excluded.as_of > directory.as_of",
                )?
                .execute(params![key.issuer, key.subject, row.mailbox, row.as_of, row.record])?;
            Ok(Ok(()))
        })
        .await?
    }

    async fn read(&self, person: &PersonKey) -> Result<Option<DirectoryEntry>, DirectoryError> {
        let key = person.clone();
        self.read_points(move |connection| {
            let found = connection
                .prepare_cached("SELECT mailbox, as_of, record FROM directory WHERE issuer = ? AND subject = ?")?
                .query_row(params![key.issuer, key.subject], Stored::read)
                .optional()?;
            Ok(found.map(|row| row.entry(&key)).transpose())
        })
        .await?
    }

    async fn find(&self, mailbox: &str) -> Result<Vec<DirectoryEntry>, DirectoryError> {
        let mailbox = mailbox.to_owned();
        self.read_points(move |connection| {
            let mut select = connection.prepare_cached(
                "SELECT mailbox, as_of, record, issuer, subject FROM directory WHERE mailbox = ?
                 ORDER BY issuer, subject LIMIT ?",
            )?;
            let limit = i64::try_from(SAME_MAILBOX_MAX).unwrap_or(i64::MAX);
            let rows = select.query_map(params![mailbox, limit], |row| {
                let (issuer, subject) = (text(row, 3)?, text(row, 4)?);
                Ok((Stored::read(row)?, PersonKey { issuer, subject }))
            })?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            Ok(rows.into_iter().map(|(row, key)| row.entry(&key)).collect())
        })
        .await?
    }
}

impl From<Trouble> for DirectoryError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable { source: trouble.into() }
    }
}

/// A row of the table. Every column but `record` is derived from it, and compared when it is read.
#[derive(PartialEq, Eq)]
struct Stored {
    mailbox: Option<String>,
    as_of: i64,
    record: String,
}

impl Stored {
    fn of(entry: &DirectoryEntry) -> Result<Self, DirectoryError> {
        let failed = |error: serde_json::Error| DirectoryError::Unavailable { source: error.into() };
        Ok(Self {
            mailbox: entry.mailbox(),
            as_of: entry.as_of.timestamp_micros(),
            record: serde_json::to_string(entry).map_err(failed)?,
        })
    }

    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            mailbox: row.get(0)?,
            as_of: row.get(1)?,
            record: text(row, 2)?,
        })
    }

    /// The entry, if its bytes are as they were written and it is that of the person under whom it stands.
    fn entry(self, person: &PersonKey) -> Result<DirectoryEntry, DirectoryError> {
        let damaged = |why: String| {
            let person = person.to_string();
            DirectoryError::Damaged { person, why }
        };
        let entry: DirectoryEntry =
            serde_json::from_str(&self.record).map_err(|error| damaged(format!("it does not read: {error}")))?;
        if entry.person.key != *person || Self::of(&entry)? != self {
            return Err(damaged("it is not what was written for this person".to_owned()));
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::EmbeddedStore;
    use crate::directory::flaky::FlakyDirectory;
    use crate::directory::{DirectoryError, DirectoryStore, contract};
    use crate::domain::directory::DirectoryEntry;
    use crate::domain::example::{alice, at};
    use crate::flaky::Schedule;
    use rusqlite::Connection;
    use std::sync::Arc;

    fn store(directory: &tempfile::TempDir) -> EmbeddedStore {
        EmbeddedStore::open(directory.path().join("store.db")).unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_contract_holds() {
        let directory = tempfile::tempdir().unwrap();
        contract::holds(Arc::new(store(&directory))).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_contract_holds_on_a_bad_line() {
        for seed in [1, 2, 3] {
            let directory = tempfile::tempdir().unwrap();
            contract::holds(Arc::new(FlakyDirectory::new(store(&directory), Schedule::new(seed)))).await;
        }
    }

    #[tokio::test]
    async fn an_entry_that_was_changed_says_nothing_of_anybody() {
        for change in [
            "record = '{}'",
            "record = record || ' '",
            "mailbox = 'eve@example.com'",
            "subject = 'eve'",
        ] {
            let directory = tempfile::tempdir().unwrap();
            let store = store(&directory);
            let (person, as_of) = (alice(), at(0));
            let mut key = person.key.clone();
            store.keep(&DirectoryEntry { person, as_of }).await.unwrap();
            let file = Connection::open(store.path()).unwrap();
            file.execute_batch(&format!("UPDATE directory SET {change}")).unwrap();
            if change.starts_with("subject") {
                key.subject = "eve".to_owned();
            }
            let read = DirectoryStore::read(&store, &key).await;
            assert!(
                matches!(read, Err(DirectoryError::Damaged { .. })),
                "{change}: {read:?}"
            );
        }
    }
}
