//! Announcements in SQLite: one row an approval.

use super::{AnnouncementError, AnnouncementStore};
use crate::domain::Timestamp;
use crate::domain::announcement::Announcement;
use crate::domain::id::ApprovalId;
pub use crate::embedded::EmbeddedStore;
use crate::embedded::{Trouble, Work, text};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

#[async_trait]
impl AnnouncementStore for EmbeddedStore {
    async fn read(&self, approval: &ApprovalId) -> Result<Option<Announcement>, AnnouncementError> {
        let approval = approval.clone();
        self.read_points(move |connection| read(connection, &approval)).await?
    }

    async fn put(&self, next: &Announcement, former: Option<&Announcement>) -> Result<(), AnnouncementError> {
        let (approval, due, record) = (next.approval.clone(), micros(next.due), record(next)?);
        let former = former.map(self::record).transpose()?;
        self.write(move |connection| {
            let id = approval.as_str();
            let made = match former {
                None => connection
                    .prepare_cached("INSERT INTO announcements VALUES (?, ?, ?) ON CONFLICT DO NOTHING")?
                    .execute(params![id, due, record])?,
                Some(former) => connection
                    .prepare_cached(
                        "UPDATE announcements SET due = ?2, record = ?3 WHERE approval = ?1 AND record = ?4",
                    )?
                    .execute(params![id, due, record, former])?,
            };
            match made {
                1 => Ok(Ok(())),
                _ => Ok(read(connection, &approval)?.and_then(|current| {
                    let current = current.map(Box::new);
                    Err(AnnouncementError::Conflict { current })
                })),
            }
        })
        .await?
    }

    async fn due(&self, by: Timestamp, limit: usize) -> Result<Vec<ApprovalId>, AnnouncementError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read_points(move |connection| {
            let mut select = connection
                .prepare_cached("SELECT approval FROM announcements WHERE due <= ? ORDER BY due, approval LIMIT ?")?;
            let rows = select.query_map(params![by.timestamp_micros(), limit], |row| text(row, 0))?;
            let ids = rows.collect::<Result<Vec<String>, _>>()?;
            // A damaged row must not hide the sound ones; it is told of when it is read.
            Ok(Ok(ids.iter().filter_map(|id| id.parse().ok()).collect()))
        })
        .await?
    }
}

impl From<Trouble> for AnnouncementError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable { source: trouble.into() }
    }
}

fn micros(due: Option<Timestamp>) -> Option<i64> {
    due.map(|due| due.timestamp_micros())
}

fn record(announcement: &Announcement) -> Result<String, AnnouncementError> {
    serde_json::to_string(announcement).map_err(|error| AnnouncementError::Unavailable { source: error.into() })
}

/// The announcement, if its bytes are as they were written and it is that of the approval under which it stands.
fn read(connection: &Connection, approval: &ApprovalId) -> Work<Option<Announcement>, AnnouncementError> {
    let stored = connection
        .prepare_cached("SELECT record, due FROM announcements WHERE approval = ?")?
        .query_row(params![approval.as_str()], |row| {
            Ok((text(row, 0)?, row.get::<_, Option<i64>>(1)?))
        })
        .optional()?;
    let Some((stored, due)) = stored else {
        return Ok(Ok(None));
    };
    let damaged = |why: String| {
        let approval = approval.clone();
        Err(AnnouncementError::Damaged { approval, why })
    };
    let announcement: Announcement = match serde_json::from_str(&stored) {
        Ok(announcement) => announcement,
        Err(error) => return Ok(damaged(format!("it does not read: {error}"))),
    };
    let is_sound = announcement.approval == *approval
        && micros(announcement.due) == due
        && record(&announcement).ok().as_ref() == Some(&stored);
    if !is_sound {
        return Ok(damaged("it is not what was written for this approval".to_owned()));
    }
    Ok(Ok(Some(announcement)))
}

#[cfg(test)]
mod tests {
    use super::EmbeddedStore;
    use crate::announcements::flaky::FlakyAnnouncements;
    use crate::announcements::{AnnouncementError, AnnouncementStore, contract};
    use crate::domain::announcement::Announcement;
    use crate::domain::example::at;
    use crate::domain::id::ApprovalId;
    use crate::flaky::Schedule;
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
            contract::holds(Arc::new(FlakyAnnouncements::new(store, Schedule::new(seed)))).await;
        }
    }

    #[tokio::test]
    async fn an_announcement_that_was_changed_in_the_file_is_not_believed() {
        for change in ["due = 5", "record = '{}'", "record = record || ' '"] {
            let directory = tempfile::tempdir().unwrap();
            let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
            let id = ApprovalId::from_random([1; 5]);
            store.put(&Announcement::new(id.clone(), at(0)), None).await.unwrap();
            let file = Connection::open(store.path()).unwrap();
            file.execute_batch(&format!("UPDATE announcements SET {change}"))
                .unwrap();
            let read = AnnouncementStore::read(&store, &id).await;
            assert!(
                matches!(read, Err(AnnouncementError::Damaged { .. })),
                "{change}: {read:?}"
            );
        }
    }
}
