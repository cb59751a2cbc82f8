//! Tickets in DynamoDB: one item a ticket, which the table deletes some time after its end.

use super::{TicketError, TicketStore};
use crate::domain::ticket::{Ticket, TicketId};
pub use crate::dynamodb::DynamoStore;
use crate::dynamodb::{Change, Item, Keys, Put, Trouble, Unwritten, check_size, number, text, text_of};
use async_trait::async_trait;
use chrono::Utc;

#[async_trait]
impl TicketStore for DynamoStore {
    async fn create(&self, ticket: &Ticket) -> Result<(), TicketError> {
        self.put_ticket(ticket, Change::New).await
    }

    async fn read(&self, id: TicketId) -> Result<Option<Ticket>, TicketError> {
        let found = self.get("a ticket", &keys(id)).await?;
        let ticket = found.map(|item| read(id, &item)).transpose()?;
        Ok(ticket.filter(|ticket| !ticket.is_over(Utc::now())))
    }

    async fn replace(&self, next: &Ticket, former: &Ticket) -> Result<(), TicketError> {
        if former.is_over(Utc::now()) {
            return Err(TicketError::Conflict { current: None });
        }
        let record = record(former)?;
        self.put_ticket(next, Change::Instead { record }).await
    }

    async fn take(&self, ticket: &Ticket) -> Result<(), TicketError> {
        if ticket.is_over(Utc::now()) {
            return Err(TicketError::Conflict { current: None });
        }
        let record = text(record(ticket)?);
        match self.take_item("a ticket", &keys(ticket.id), "record", &record).await? {
            true => Ok(()),
            false => self.ticket_conflict(ticket.id).await,
        }
    }
}

impl DynamoStore {
    async fn put_ticket(&self, ticket: &Ticket, change: Change) -> Result<(), TicketError> {
        let item = item(ticket)?;
        match self.write("a ticket", &[Put { item, change }]).await {
            Ok(()) => Ok(()),
            Err(Unwritten::Trouble(trouble)) => Err(trouble.into()),
            Err(Unwritten::Conditions(_)) => self.ticket_conflict(ticket.id).await,
        }
    }

    /// The condition failed: says what the ticket is now.
    async fn ticket_conflict(&self, id: TicketId) -> Result<(), TicketError> {
        let current = TicketStore::read(self, id).await?.map(Box::new);
        Err(TicketError::Conflict { current })
    }
}

impl From<Trouble> for TicketError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable { source: trouble.into() }
    }
}

fn keys(id: TicketId) -> Keys {
    Keys {
        pk: format!("TICKET#{id}"),
        sk: "TICKET".to_owned(),
    }
}

fn record(ticket: &Ticket) -> Result<String, TicketError> {
    serde_json::to_string(ticket).map_err(|error| TicketError::Unavailable { source: error.into() })
}

/// All that the table has of a ticket. Everything is derived from the record.
fn item(ticket: &Ticket) -> Result<Item, TicketError> {
    let record = record(ticket)?;
    check_size("the ticket", &record)?;
    let Keys { pk, sk } = keys(ticket.id);
    // Whole seconds, and not sooner than the ticket's own end, which every read looks at.
    let expires = ticket.expires.timestamp().saturating_add(1);
    Ok(Item::from([
        ("pk".to_owned(), text(pk)),
        ("sk".to_owned(), text(sk)),
        ("record".to_owned(), text(record)),
        ("expires".to_owned(), number(expires)),
    ]))
}

/// The ticket, if its bytes are as they were written and it is the one of this id.
fn read(id: TicketId, found: &Item) -> Result<Ticket, TicketError> {
    let damaged = |why: String| TicketError::Damaged { id, why };
    let ticket: Ticket = serde_json::from_str(text_of(found, "record"))
        .map_err(|error| damaged(format!("it does not read: {error}")))?;
    if ticket.id == id && item(&ticket)? == *found {
        Ok(ticket)
    } else {
        Err(damaged("its record and the attributes beside it differ".to_owned()))
    }
}
