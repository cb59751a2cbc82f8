//! A store of chat links that fails by a schedule: before the write, after it, or late.

use super::{ChatLinkError, ChatLinkStore};
use crate::approvals::flaky::{Fault, Schedule};
use crate::domain::chat_link::{ChatAccount, ChatLink};
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

    async fn call<T>(&self, call: impl Future<Output = Result<T, ChatLinkError>> + Send) -> Result<T, ChatLinkError> {
        let lost = |what: &str| ChatLinkError::Unavailable { source: what.into() };
        match self.schedule.next() {
            Fault::None => call.await,
            Fault::Before => Err(lost("the call was lost")),
            Fault::After => call.await.and(Err(lost("the answer was lost"))),
            Fault::Late(wait) => {
                tokio::time::sleep(wait).await;
                call.await
            }
        }
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
}
