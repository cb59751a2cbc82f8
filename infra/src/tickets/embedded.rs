//! Tickets in SQLite: one row a ticket.

use super::{TicketError, TicketStore};
use crate::domain::ticket::{Ticket, TicketId};
pub use crate::embedded::EmbeddedStore;
use crate::embedded::{Trouble, Work, text};
use async_trait::async_trait;
use chrono::Utc;
use rusqlite::{Connection, OptionalExtension, params};

/// Tickets whose time is over that a new one clears away: more than one, so that the file does not grow.
const CLEARED_MAX: u32 = 100;

#[async_trait]
impl TicketStore for EmbeddedStore {
    async fn create(&self, ticket: &Ticket) -> Result<(), TicketError> {
        let row = Stored::of(ticket)?;
        let id = ticket.id;
        self.write(move |connection| {
            clear(connection)?;
            let made = connection
                .prepare_cached("INSERT INTO tickets (id, expires, record) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")?
                .execute(params![row.id, row.expires, row.record])?;
            match made {
                1 => Ok(Ok(())),
                _ => conflict(connection, id),
            }
        })
        .await?
    }

    async fn read(&self, id: TicketId) -> Result<Option<Ticket>, TicketError> {
        self.read_points(move |connection| read(connection, id)).await?
    }

    async fn replace(&self, next: &Ticket, former: &Ticket) -> Result<(), TicketError> {
        let (row, before) = (Stored::of(next)?, Stored::of(former)?);
        let id = former.id;
        self.write(move |connection| {
            let made = connection
                .prepare_cached(
                    "UPDATE tickets SET expires = ?2, record = ?3 WHERE id = ?1 AND record = ?4 AND expires > ?5",
                )?
                .execute(params![row.id, row.expires, row.record, before.record, now()])?;
            match made {
                1 => Ok(Ok(())),
                _ => conflict(connection, id),
            }
        })
        .await?
    }

    async fn take(&self, ticket: &Ticket) -> Result<(), TicketError> {
        let row = Stored::of(ticket)?;
        let id = ticket.id;
        self.write(move |connection| {
            let taken = connection
                .prepare_cached("DELETE FROM tickets WHERE id = ? AND record = ? AND expires > ?")?
                .execute(params![row.id, row.record, now()])?;
            match taken {
                1 => Ok(Ok(())),
                _ => conflict(connection, id),
            }
        })
        .await?
    }
}

impl From<Trouble> for TicketError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable { source: trouble.into() }
    }
}

/// A row of the table. Every column but `record` is derived from it, and compared when it is read.
#[derive(PartialEq, Eq)]
struct Stored {
    id: String,
    expires: i64,
    record: String,
}

impl Stored {
    fn of(ticket: &Ticket) -> Result<Self, TicketError> {
        let failed = |error: serde_json::Error| TicketError::Unavailable { source: error.into() };
        Ok(Self {
            id: ticket.id.to_string(),
            expires: ticket.expires.timestamp_micros(),
            record: serde_json::to_string(ticket).map_err(failed)?,
        })
    }
}

fn now() -> i64 {
    Utc::now().timestamp_micros()
}

fn clear(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM tickets WHERE id IN (SELECT id FROM tickets WHERE expires <= ? LIMIT ?)")?
        .execute(params![now(), CLEARED_MAX])
        .map(drop)
}

/// The ticket, if its time is not over, its bytes are as they were written and it is the one of this id.
fn read(connection: &Connection, id: TicketId) -> Work<Option<Ticket>, TicketError> {
    let stored = connection
        .prepare_cached("SELECT expires, record FROM tickets WHERE id = ?")?
        .query_row([id.to_string()], |row| {
            Ok(Stored {
                id: id.to_string(),
                expires: row.get(0)?,
                record: text(row, 1)?,
            })
        })
        .optional()?;
    let Some(stored) = stored else { return Ok(Ok(None)) };
    let damaged = |why: String| Err(TicketError::Damaged { id, why });
    let ticket: Ticket = match serde_json::from_str(&stored.record) {
        Ok(ticket) => ticket,
        Err(error) => return Ok(damaged(format!("it does not read: {error}"))),
    };
    if Stored::of(&ticket).ok().as_ref() != Some(&stored) {
        return Ok(damaged("its record and the columns beside it differ".to_owned()));
    }
    Ok(Ok((!ticket.is_over(Utc::now())).then_some(ticket)))
}

/// The condition failed: says what the ticket is now.
fn conflict(connection: &Connection, id: TicketId) -> Work<(), TicketError> {
    let current = read(connection, id)?;
    Ok(current.and_then(|current| {
        let current = current.map(Box::new);
        Err(TicketError::Conflict { current })
    }))
}

#[cfg(test)]
mod tests {
    use super::{CLEARED_MAX, EmbeddedStore};
    use crate::domain::example::sign_in;
    use crate::domain::ticket::{Ticket, TicketId};
    use crate::flaky::Schedule;
    use crate::tickets::flaky::FlakyTickets;
    use crate::tickets::{TicketError, TicketStore, contract};
    use chrono::Utc;
    use rusqlite::Connection;
    use std::sync::Arc;
    use std::time::Duration;

    fn store() -> (tempfile::TempDir, EmbeddedStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
        (directory, store)
    }

    fn ticket(number: u8, lasts: Duration) -> Ticket {
        Ticket::new([number; 32], sign_in("/approvals"), Utc::now(), lasts).1
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_contract_holds() {
        let (_directory, store) = store();
        contract::holds(Arc::new(store)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_contract_holds_on_a_bad_line() {
        for seed in [1, 2, 3] {
            let (_directory, store) = store();
            contract::holds(Arc::new(FlakyTickets::new(store, Schedule::new(seed)))).await;
        }
    }

    #[tokio::test]
    async fn a_damaged_ticket_opens_nothing() {
        let other = TicketId::of(&crate::domain::secret::Secret::new("other".to_owned()));
        let moved = format!("id = '{other}'");
        for change in [
            moved.as_str(),
            "expires = expires + 1",
            "record = '{}'",
            "record = record || ' '",
        ] {
            let (_directory, store) = store();
            let ticket = ticket(1, Duration::from_secs(60));
            store.create(&ticket).await.unwrap();
            let file = Connection::open(store.path()).unwrap();
            file.execute_batch(&format!("UPDATE tickets SET {change}")).unwrap();
            let id = if change == moved { other } else { ticket.id };
            let read = store.read(id).await;
            assert!(matches!(read, Err(TicketError::Damaged { .. })), "{change}: {read:?}");
        }
    }

    #[tokio::test]
    async fn tickets_whose_time_is_over_are_cleared_away() {
        let (_directory, store) = store();
        let file = Connection::open(store.path()).unwrap();
        let rows = || {
            file.query_row("SELECT count(*) FROM tickets", [], |row| row.get::<_, u32>(0))
                .unwrap()
        };
        let fill = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i <= {CLEARED_MAX})
             INSERT INTO tickets SELECT 'old-' || i, i, '{{}}' FROM n"
        );
        file.execute_batch(&fill).unwrap();
        assert_eq!(rows(), CLEARED_MAX + 1);
        store.create(&ticket(1, Duration::from_secs(60))).await.unwrap();
        assert_eq!(rows(), 2);
        store.create(&ticket(2, Duration::from_secs(60))).await.unwrap();
        assert_eq!(rows(), 2);
    }
}
