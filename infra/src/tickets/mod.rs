//! Where tickets live: any gateway serves the page that a ticket of another leads to.

use crate::domain::ticket::{Ticket, TicketId};
use async_trait::async_trait;

#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod dynamodb;
pub mod embedded;
#[cfg(any(test, feature = "contract"))]
pub mod flaky;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    /// The ticket is not the one that was read; here is what it is now. None: it was taken, or its time is over.
    #[error("the ticket changed or was taken in the meantime")]
    Conflict { current: Option<Box<Ticket>> },
    /// What is stored is not what was written.
    #[error("ticket {id} is damaged in the store: {why}")]
    Damaged { id: TicketId, why: String },
    /// The store could not be reached or could not write. Whether the change was made is not known.
    #[error("the store of tickets is unavailable: {source}")]
    Unavailable {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A store of tickets. Every implementation passes `tickets::contract`.
///
/// Each change is conditional on the whole record that was read, and a call that returns `Ok` is durable. A ticket whose
/// time is over is not there, whether or not it was deleted already.
#[async_trait]
pub trait TicketStore: Send + Sync + 'static {
    /// Writes a new ticket. After `Unavailable` a `Conflict` whose `current` is `ticket` says that it was written.
    async fn create(&self, ticket: &Ticket) -> Result<(), TicketError>;

    /// A ticket, strongly consistent; none when there is none.
    async fn read(&self, id: TicketId) -> Result<Option<Ticket>, TicketError>;

    /// Writes `next` in place of `former`, which has the same id. After `Unavailable` a `Conflict` whose `current` is
    /// `next` says that it was written.
    async fn replace(&self, next: &Ticket, former: &Ticket) -> Result<(), TicketError>;

    /// Takes a ticket out of the store: of all who try, at most one gets `Ok`, and all others `Conflict`. After
    /// `Unavailable` it may have been taken for nobody.
    async fn take(&self, ticket: &Ticket) -> Result<(), TicketError>;
}
