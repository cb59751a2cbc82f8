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
//! | `DAYS#A`, `DAYS#E` | `yyyy-mm-dd` | a day that has approvals, events |
//!
//! Whatever decides is read from the table itself, strongly consistent, and written under a condition. The indexes
//! (`by_time`, `by_person`, `by_target`, `by_approval`, `open`) only find what to read: they may be late.
//! The first three are sharded by session, so that a busy day, person or target is no hot partition.

use crate::aws::Aws;
use crate::domain::Timestamp;
use crate::domain::id::Digest;
use crate::journal::SESSION_MAX;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{TimeDelta, Utc};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

mod call;
mod clock;
mod read;
mod schema;
mod write;

pub(crate) use call::Trouble;
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
const TEXT_BYTES_MAX: usize = 380 << 10;

/// A mark counts as written for a day; another one is for clocks that differ.
const MARK_LIVES: TimeDelta = TimeDelta::days(2);

/// Marks that are remembered as written, of each kind.
const MARKED_MAX: usize = 10_000;

/// A store in one DynamoDB table. Cheap to clone; many programs may share the table.
///
/// Implements [`crate::approvals::ApprovalStore`] and [`crate::journal::Journal`]. Every request waits at most
/// [`TURN_SECONDS_MAX`] for its turn and then ends within [`CALL_SECONDS_MAX`]; a call whose future is dropped may or may
/// not have been carried out.
#[derive(Clone, Debug)]
pub struct DynamoStore(Arc<Parts>);

/// One request with all its tries takes no longer, once it is its turn.
pub const CALL_SECONDS_MAX: u64 = 5;

/// No request waits longer for its turn.
pub const TURN_SECONDS_MAX: u64 = 10;

/// Requests under way at once: each has a connection of its own.
const REQUESTS_MAX: usize = 64;

/// Marks are written one after the other where they fall into the same of so many places.
const MARKING_PLACES: usize = 16;

#[derive(Debug)]
struct Parts {
    client: Client,
    table: String,
    retention: Option<TimeDelta>,
    turns: Semaphore,
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
    #[error("the DynamoDB table {table} cannot be looked at: {why}")]
    Unavailable { table: String, why: String },
}

impl DynamoStore {
    /// Opens a table, and looks that it is of the form that this version writes.
    ///
    /// `retention`: what is older is no longer read, and DynamoDB deletes it; none keeps everything.
    pub async fn open(aws: &Aws, table: &str, retention: Option<TimeDelta>) -> Result<Self, OpenError> {
        schema::check(&aws.dynamodb, table).await?;
        Ok(Self(Arc::new(Parts {
            client: aws.dynamodb.clone(),
            table: table.to_owned(),
            retention,
            turns: Semaphore::new(REQUESTS_MAX),
            marked: Mutex::default(),
            marking: Default::default(),
        })))
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
        let place = Digest::of(name.as_bytes())
            .0
            .first()
            .map_or(0, |byte| usize::from(*byte))
            % MARKING_PLACES;
        let _turn = match self.0.marking.get(place) {
            Some(place) => Some(place.lock().await),
            None => None,
        };
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
