//! A store of chat links that fails by a schedule.

use super::{ChatLinkError, ChatLinkStore};
use crate::domain::chat_link::{ChatAccount, ChatLink};
use crate::flaky::Schedule;
use async_trait::async_trait;

/// A store behind a bad line.
#[derive(Debug)]
pub struct FlakyChatLinks<S> {
    store: S,
    schedule: Schedule,
}

impl<S> FlakyChatLinks<S> {
    pub fn new(store: S, schedule: Schedule) -> Self {
        Self { store, schedule }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, ChatLinkError>>) -> Result<T, ChatLinkError> {
        let failed = |lost| ChatLinkError::Unavailable { source: Box::new(lost) };
        self.schedule.befall(call, failed).await
    }
}

#[async_trait]
impl<S: ChatLinkStore> ChatLinkStore for FlakyChatLinks<S> {
    async fn read(&self, account: &ChatAccount) -> Result<Option<ChatLink>, ChatLinkError> {
        self.call(self.store.read(account)).await
    }

    async fn put(&self, link: &ChatLink, former: Option<&ChatLink>) -> Result<(), ChatLinkError> {
        self.call(self.store.put(link, former)).await
    }

    async fn remove(&self, link: &ChatLink) -> Result<(), ChatLinkError> {
        self.call(self.store.remove(link)).await
    }

    async fn all(&self, limit: usize) -> Result<Vec<ChatLink>, ChatLinkError> {
        self.call(self.store.all(limit)).await
    }
}
