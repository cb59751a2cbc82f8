//! A store of tickets that fails by a schedule.

use super::{TicketError, TicketStore};
use crate::domain::ticket::{Ticket, TicketId};
use crate::flaky::Schedule;
use async_trait::async_trait;

/// A store behind a bad line.
#[derive(Debug)]
pub struct FlakyTickets<S> {
    store: S,
    schedule: Schedule,
}

impl<S> FlakyTickets<S> {
    pub fn new(store: S, schedule: Schedule) -> Self {
        Self { store, schedule }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, TicketError>>) -> Result<T, TicketError> {
        let failed = |lost| TicketError::Unavailable { source: Box::new(lost) };
        self.schedule.befall(call, failed).await
    }
}

#[async_trait]
impl<S: TicketStore> TicketStore for FlakyTickets<S> {
    async fn create(&self, ticket: &Ticket) -> Result<(), TicketError> {
        self.call(self.store.create(ticket)).await
    }

    async fn read(&self, id: TicketId) -> Result<Option<Ticket>, TicketError> {
        self.call(self.store.read(id)).await
    }

    async fn replace(&self, next: &Ticket, former: &Ticket) -> Result<(), TicketError> {
        self.call(self.store.replace(next, former)).await
    }

    async fn take(&self, ticket: &Ticket) -> Result<(), TicketError> {
        self.call(self.store.take(ticket)).await
    }
}
