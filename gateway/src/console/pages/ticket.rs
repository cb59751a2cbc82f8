//! The tickets that links of others lead to: read, and taken once.

use super::super::Console;
use super::super::problem::Problem;
use countersign_infra::domain::secret::Secret;
use countersign_infra::domain::ticket::{Ticket, TicketId};
use countersign_infra::tickets::TicketError;

/// The ticket of a link.
pub async fn read(console: &Console, secret: &Secret) -> Result<Ticket, Problem> {
    let found = console.pages.tickets.read(TicketId::of(secret)).await?;
    found.ok_or_else(over)
}

/// Takes a ticket for this caller alone.
pub async fn take(console: &Console, ticket: &Ticket) -> Result<(), Problem> {
    console.pages.tickets.take(ticket).await.map_err(|error| match error {
        TicketError::Conflict { .. } => over(),
        error @ (TicketError::Damaged { .. } | TicketError::Unavailable { .. }) => error.into(),
    })
}

/// Nothing tells a link that never was from one that is used up.
pub fn over() -> Problem {
    Problem::not_found("this link is over, or was used already: ask for a new one where you got it")
}
