//! Where the directory lives: written by who checks sign-ins, read by the bot at a click.

use crate::domain::directory::DirectoryEntry;
use crate::domain::identity::PersonKey;
use async_trait::async_trait;

#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod dynamodb;
pub mod embedded;
#[cfg(any(test, feature = "contract"))]
pub mod flaky;

/// People of one address that are told apart: of more than one nobody is meant.
pub const SAME_MAILBOX_MAX: usize = 10;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// What is stored is not what was written.
    #[error("the directory's entry of {person} is damaged: {why}")]
    Damaged { person: String, why: String },
    /// The store could not be reached or could not write. Whether the change was made is not known.
    #[error("the directory is unavailable: {source}")]
    Unavailable {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A store of the directory. Every implementation passes `directory::contract`.
///
/// Reads are strongly consistent: they decide. A call that returns `Ok` is durable.
#[async_trait]
pub trait DirectoryStore: Send + Sync + 'static {
    /// Keeps what a sign-in said, unless what is kept is as young or younger.
    async fn keep(&self, entry: &DirectoryEntry) -> Result<(), DirectoryError>;

    /// The person as of their last sign-in; none when they never signed in.
    async fn read(&self, person: &PersonKey) -> Result<Option<DirectoryEntry>, DirectoryError>;

    /// Those whose last sign-in said this [mailbox](crate::domain::directory::mailbox), at most [`SAME_MAILBOX_MAX`].
    async fn find(&self, mailbox: &str) -> Result<Vec<DirectoryEntry>, DirectoryError>;
}
