//! Where chat links live: written by who signs people in, read by the bot at every click.

use crate::domain::chat_link::{ChatAccount, ChatLink};
use async_trait::async_trait;

#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod dynamodb;
pub mod embedded;
#[cfg(any(test, feature = "contract"))]
pub mod flaky;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ChatLinkError {
    /// The link is not the one that was read; here is what it is now.
    #[error("the chat link changed in the meantime")]
    Conflict { current: Option<Box<ChatLink>> },
    /// What is stored is not what was written.
    #[error("the link of {account} is damaged in the store: {why}")]
    Damaged { account: ChatAccount, why: String },
    /// The store could not be reached or could not write. Whether the change was made is not known.
    #[error("the store of chat links is unavailable: {source}")]
    Unavailable {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A store of chat links. Every implementation passes `chat_links::contract`.
///
/// Each change is conditional on the whole record that was read, so that a link which was taken back and made anew is
/// never taken for the former. A call that returns `Ok` is durable.
#[async_trait]
pub trait ChatLinkStore: Send + Sync + 'static {
    /// The link of an account, strongly consistent; none when it is not linked.
    async fn read(&self, account: &ChatAccount) -> Result<Option<ChatLink>, ChatLinkError>;

    /// Writes a link in place of `former`, or where there is none. After `Unavailable` a `Conflict` whose `current` is
    /// `link` says that it was written.
    async fn put(&self, link: &ChatLink, former: Option<&ChatLink>) -> Result<(), ChatLinkError>;

    /// Removes a link. The same again is accepted.
    async fn remove(&self, link: &ChatLink) -> Result<(), ChatLinkError>;

    /// All links, at most so many: for lists of whom to write to, never to decide. A damaged one is left out and logged.
    async fn all(&self, limit: usize) -> Result<Vec<ChatLink>, ChatLinkError>;
}
