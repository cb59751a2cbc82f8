//! A store of announcements that fails by a schedule.

use super::{AnnouncementError, AnnouncementStore};
use crate::domain::Timestamp;
use crate::domain::announcement::Announcement;
use crate::domain::id::ApprovalId;
use crate::flaky::Schedule;
use async_trait::async_trait;

/// A store behind a bad line.
#[derive(Debug)]
pub struct FlakyAnnouncements<S> {
    store: S,
    schedule: Schedule,
}

impl<S> FlakyAnnouncements<S> {
    pub fn new(store: S, schedule: Schedule) -> Self {
        Self { store, schedule }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, AnnouncementError>>) -> Result<T, AnnouncementError> {
        let failed = |lost| AnnouncementError::Unavailable { source: Box::new(lost) };
        self.schedule.befall(call, failed).await
    }
}

#[async_trait]
impl<S: AnnouncementStore> AnnouncementStore for FlakyAnnouncements<S> {
    async fn read(&self, approval: &ApprovalId) -> Result<Option<Announcement>, AnnouncementError> {
        self.call(self.store.read(approval)).await
    }

    async fn put(&self, next: &Announcement, former: Option<&Announcement>) -> Result<(), AnnouncementError> {
        self.call(self.store.put(next, former)).await
    }

    async fn due(&self, by: Timestamp, limit: usize) -> Result<Vec<ApprovalId>, AnnouncementError> {
        self.call(self.store.due(by, limit)).await
    }
}
