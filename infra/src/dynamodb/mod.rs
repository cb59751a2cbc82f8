//! The store on DynamoDB: approvals, journal and feeds in one table, for gateways and bots on many machines.
//!
//! | `pk` | `sk` | what |
//! |---|---|---|
//! | `APPROVAL#<id>` | `META` | the record, its version and state |
//! | `FEED#<gateway>` | `<approval>` | a hint that the approval changed |
//! | `SESSION#<session>` | `<seq>` | one event of the journal |
//! | `WHO#<hash of a word>` | `<hash of a person's key>` | a person who bore that name, address or subject |
//! | `GRANTS#<session>` | `<grant>` | a grant of the session |
//! | `GRANT#<grant>` | `SESSION` | which session the grant is of |
//! | `CHAT#<platform>#<hash of team and user>` | `LINK` | whose chat account it is |
//! | `TICKET#<hash of a secret>` | `TICKET` | what a link or a cookie stands for |
//! | `PERSON#<hash of a person's key>` | `DIRECTORY` | the person as of their last sign-in |
//! | `MAILBOX#<hash of an address>` | `PERSON#<hash>` | a person whose sign-in said that address |
//! | `DAYS#A`, `DAYS#E` | `yyyy-mm-dd` | a day that has approvals, events |
//!
//! Whatever decides is read from the table itself, strongly consistent, and written under a condition. The indexes
//! (`by_time`, `by_person`, `by_target`, `by_approval`, `open`) only find what to read: they may be late.
//! The first three are sharded by session, so that a busy day, person or target is no hot partition.

use crate::aws::Aws;
use crate::domain::Timestamp;
use crate::domain::approval::RECORD_BYTES_MAX;
use crate::domain::id::Digest;
use crate::journal::SESSION_MAX;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{TimeDelta, Utc};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{MutexGuard, Semaphore};

mod call;
mod clock;
mod read;
mod schema;
mod write;

pub(crate) use call::{Lane, Trouble};
pub(crate) use read::{Keys, Part, Span};
pub(crate) use schema::{BY_APPROVAL, BY_PERSON, BY_TARGET, BY_TIME, OPEN};
pub use schema::{INDEXES, Index};
pub(crate) use write::{Change, Clash, Put, Unwritten};

/// One item, as DynamoDB has it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// Partitions of one day, person or target in the indexes.
pub(crate) const SHARDS: u8 = 8;

/// Items are at most 400 KB for DynamoDB; some is left for what stands beside the text.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html>
const TEXT_BYTES_MAX: usize = RECORD_BYTES_MAX;

/// A mark counts as written for a day; another one is for clocks that differ.
const MARK_LIVES: TimeDelta = TimeDelta::days(2);

/// Marks that are remembered as written, of each kind.
const MARKED_MAX: usize = 10_000;

/// A store in one DynamoDB table. Cheap to clone; many programs may share the table.
///
/// Implements [`crate::approvals::ApprovalStore`], [`crate::journal::Journal`], [`crate::grants::GrantStore`],
/// [`crate::chat_links::ChatLinkStore`], [`crate::directory::DirectoryStore`] and [`crate::tickets::TicketStore`]. Every request waits at most
/// [`TURN_SECONDS_MAX`] for its turn, or for another's mark of the same kind, and then ends within [`CALL_SECONDS_MAX`];
/// a call may make several requests. A call whose future is dropped may or may not have been carried out.
#[derive(Clone, Debug)]
pub struct DynamoStore(Arc<Parts>);

/// One request with all its tries takes no longer, once it is its turn.
pub const CALL_SECONDS_MAX: u64 = 5;

/// No request waits longer for its turn.
pub const TURN_SECONDS_MAX: u64 = 10;

/// Requests under way at once that something held may wait for: each has a connection of its own.
const REQUESTS_MAX: usize = 64;

/// Requests under way at once for lists and searches, beside those.
const LOOKS_MAX: usize = 16;

/// Marks are written one after the other where they fall into the same of so many places.
const MARKING_PLACES: usize = 16;

#[derive(Debug)]
struct Parts {
    client: Client,
    table: String,
    retention: Option<TimeDelta>,
    turns: Semaphore,
    looks: Semaphore,
    /// Marks that this program has written already.
    marked: Mutex<HashSet<String>>,
    /// Held while a mark is written, so that many who need the same one write it once.
    marking: [tokio::sync::Mutex<()>; MARKING_PLACES],
}

/// Why the table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("there is no DynamoDB table {0}: make it with the Terraform module `store`")]
    Missing(String),
    #[error("the DynamoDB table {table} is not as the Terraform module `store` makes it: {why}")]
    Foreign { table: String, why: String },
    #[error("the DynamoDB table {table} is not ready: its index `{index}` is still being made")]
    Growing { table: String, index: String },
    #[error("the DynamoDB table {table} cannot be looked at: {why}")]
    Unavailable { table: String, why: String },
}

impl DynamoStore {
    /// Opens a table, and looks that it is of the form that this version writes.
    ///
    /// `retention`: what is older is no longer read, and DynamoDB deletes it; none keeps everything.
    pub async fn open(aws: &Aws, table: &str, retention: Option<TimeDelta>) -> Result<Self, OpenError> {
        schema::check(&aws.dynamodb, table).await?;
        if retention.is_some() {
            schema::warn_of_kept(&aws.dynamodb, table).await;
        }
        Ok(Self::of(aws.dynamodb.clone(), table, retention))
    }

    fn of(client: Client, table: &str, retention: Option<TimeDelta>) -> Self {
        Self(Arc::new(Parts {
            client,
            table: table.to_owned(),
            retention,
            turns: Semaphore::new(REQUESTS_MAX),
            looks: Semaphore::new(LOOKS_MAX),
            marked: Mutex::default(),
            marking: Default::default(),
        }))
    }

    pub(crate) fn kept(&self) -> Option<TimeDelta> {
        self.0.retention
    }

    /// When a mark that is written now may be deleted: after all to which it may lead until it is written again.
    fn mark_expiry(&self) -> Option<i64> {
        let last = Utc::now()
            .checked_add_signed(MARK_LIVES)?
            .checked_add_signed(SESSION_MAX)?;
        self.expiry(last)
    }

    /// When an item that was made at this time may be deleted, in seconds as DynamoDB's time to live counts.
    pub(crate) fn expiry(&self, made: Timestamp) -> Option<i64> {
        let expiry = made.checked_add_signed(self.0.retention?)?;
        Some(expiry.timestamp())
    }

    /// Writes an item that only says that there is something to look for elsewhere, once for each run of this program;
    /// where there is a retention, once a day. It is there before what it points to.
    pub(crate) async fn mark(&self, pk: &str, sk: &str, more: Item) -> Result<(), Trouble> {
        let expires = self.mark_expiry();
        let name = match expires {
            Some(_) => format!("{pk}\n{sk}\n{}", Utc::now().date_naive()),
            None => format!("{pk}\n{sk}"),
        };
        if self.marked().contains(&name) {
            return Ok(());
        }
        let _turn = self.marking_turn(&name, call::TURN_MAX).await?;
        if self.marked().contains(&name) {
            return Ok(());
        }
        let mut item = more;
        item.insert("pk".to_owned(), text(pk));
        item.insert("sk".to_owned(), text(sk));
        if let Some(expires) = expires {
            item.insert("expires".to_owned(), number(expires));
        }
        self.put_always(item).await?;
        let mut marked = self.marked();
        if marked.len() >= MARKED_MAX {
            marked.clear();
        }
        marked.insert(name);
        Ok(())
    }

    /// The place of a mark, which is this caller's alone until it is dropped. Waits for it no longer than so long.
    async fn marking_turn(&self, name: &str, limit: Duration) -> Result<Option<MutexGuard<'_, ()>>, Trouble> {
        let first = Digest::of(name.as_bytes()).0.first().copied();
        let place = usize::from(first.unwrap_or_default()) % MARKING_PLACES;
        let Some(place) = self.0.marking.get(place) else {
            return Ok(None);
        };
        let turn = tokio::time::timeout(limit, place.lock()).await;
        let turn = turn.map_err(|_| Trouble::new("a mark: others of its kind are not written in time"))?;
        Ok(Some(turn))
    }

    fn marked(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(crate) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Microseconds as a text that sorts as they do.
pub(crate) fn micros(time: Timestamp) -> String {
    format!("{:017}", time.timestamp_micros().max(0))
}

/// An attribute that is a text; empty when it is not there or no text.
pub(crate) fn text_of<'i>(item: &'i Item, name: &str) -> &'i str {
    item.get(name)
        .and_then(|value| value.as_s().ok())
        .map_or("", String::as_str)
}

/// An item of the table, unless its time is up: DynamoDB deletes such items late.
pub(crate) fn living(item: Item) -> Option<Item> {
    let expires = item
        .get("expires")
        .and_then(|value| value.as_n().ok()?.parse::<i64>().ok());
    let is_over = expires.is_some_and(|expires| expires <= Utc::now().timestamp());
    (!is_over).then_some(item)
}

/// Which of the shards something belongs to.
pub(crate) fn shard(of: &[u8]) -> u8 {
    Digest::of(of).0.first().copied().unwrap_or_default() % SHARDS
}

/// Refuses a text that would make an item larger than DynamoDB takes.
pub(crate) fn check_size(what: &str, text: &str) -> Result<(), Trouble> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Trouble::new(format!(
            "{what} has {} bytes, and the table holds at most {TEXT_BYTES_MAX} in one item",
            text.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
impl DynamoStore {
    /// A store that nobody has looked at, and that reaches nothing.
    pub(crate) fn unchecked() -> Self {
        let config = aws_sdk_dynamodb::Config::builder().behavior_version_latest().build();
        Self::of(Client::from_conf(config), "store", None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mark_does_not_wait_for_others_without_end() {
        let (store, soon) = (DynamoStore::unchecked(), Duration::from_millis(20));
        let held = store.marking_turn("DAYS", soon).await.unwrap();
        let late = store.marking_turn("DAYS", soon).await.unwrap_err();
        assert!(late.to_string().contains("not written in time"), "{late}");
        drop(held);
        assert!(store.marking_turn("DAYS", soon).await.is_ok());
    }
}
