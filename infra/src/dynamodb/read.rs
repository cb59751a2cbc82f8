//! Reading: single items and partitions, strongly consistent; and the indexes, which may be late.

use super::call::{BACKOFF, Failed, Lane, Time, Trouble};
use super::{DynamoStore, Index, Item, living, text, text_of};
use aws_sdk_dynamodb::operation::batch_get_item::BatchGetItemError;
use aws_sdk_dynamodb::operation::get_item::GetItemError;
use aws_sdk_dynamodb::operation::query::QueryError;
use aws_sdk_dynamodb::types::KeysAndAttributes;
use futures_util::future::try_join_all;
use std::collections::{BTreeSet, HashMap};
use tokio::time::Instant;

/// Items that one batch may ask for.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>
const BATCH_MAX: usize = 100;

/// Partitions of an index that one question reads at once.
const PARTS_MAX: usize = 8;

/// Where items are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Keys {
    pub pk: String,
    pub sk: String,
}

impl Keys {
    pub fn of(item: &Item) -> Self {
        Self {
            pk: text_of(item, "pk").to_owned(),
            sk: text_of(item, "sk").to_owned(),
        }
    }

    fn item(&self) -> Item {
        Item::from([("pk".to_owned(), text(&self.pk)), ("sk".to_owned(), text(&self.sk))])
    }
}

/// A part of a partition: the sort keys from the first to the second, both included.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub from: String,
    pub to: String,
    pub newest_first: bool,
    /// At most so many items.
    pub limit: usize,
    pub lane: Lane,
}

impl Span {
    /// Sorts behind every text that the store writes.
    pub const END: &str = "~";

    /// All of a partition, ascending.
    pub fn all(limit: usize) -> Self {
        Self {
            // A condition may not name an empty text.
            from: " ".to_owned(),
            to: Self::END.to_owned(),
            newest_first: false,
            limit,
            lane: Lane::Decide,
        }
    }

    /// The same for what people look through: it takes no turns of those that decide.
    pub fn look(limit: usize) -> Self {
        Self {
            lane: Lane::Look,
            ..Self::all(limit)
        }
    }
}

/// What was read of a partition.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub items: Vec<Item>,
    /// There is nothing behind them in the span.
    pub is_whole: bool,
}

/// Items that one request looks at once it found none that lives.
const EXPIRED_STEP: usize = 1000;

impl DynamoStore {
    /// One item, as it is now.
    pub(crate) async fn get(&self, what: &str, keys: &Keys) -> Result<Option<Item>, Trouble> {
        let is_answer = |_: &GetItemError| false;
        let mut time = Time::default();
        let sent = self.call(what, &mut time, is_answer, || {
            self.0
                .client
                .get_item()
                .table_name(&self.0.table)
                .set_key(Some(keys.item()))
                .consistent_read(true)
                .send()
        });
        Ok(sent.await.map_err(trouble)?.item.and_then(living))
    }

    /// Many items as they are now, in any order, as an index named them; those that are not there are left out.
    pub(crate) async fn get_all(&self, what: &str, lane: Lane, keys: &[Keys]) -> Result<HashMap<Keys, Item>, Trouble> {
        let mut found = HashMap::with_capacity(keys.len());
        let mut time = Time::of(lane);
        // An index may show an item twice while it moves, and a batch that names one twice is refused.
        let keys: Vec<&Keys> = keys.iter().collect::<BTreeSet<_>>().into_iter().collect();
        for part in keys.chunks(BATCH_MAX) {
            let mut wanted = part.iter().map(|keys| keys.item()).collect::<Vec<_>>();
            let mut backoff = BACKOFF;
            while !wanted.is_empty() {
                let (items, unread) = self.get_batch(what, &mut time, wanted).await?;
                found.extend(items.into_iter().filter_map(living).map(|item| (Keys::of(&item), item)));
                wanted = unread;
                if !wanted.is_empty() {
                    let wait = backoff.pause();
                    if Instant::now() + wait >= time.deadline() {
                        return Err(Trouble::new(format!("{what}: only a part was read in time")));
                    }
                    tokio::time::sleep(wait).await;
                }
            }
        }
        Ok(found)
    }

    async fn get_batch(
        &self,
        what: &str,
        time: &mut Time,
        wanted: Vec<Item>,
    ) -> Result<(Vec<Item>, Vec<Item>), Trouble> {
        let asked = KeysAndAttributes::builder()
            .set_keys(Some(wanted))
            .consistent_read(true);
        let asked = asked.build().map_err(|error| Trouble::new(error.to_string()))?;
        let is_answer = |_: &BatchGetItemError| false;
        let sent = self.call(what, time, is_answer, || {
            self.0
                .client
                .batch_get_item()
                .request_items(&self.0.table, asked.clone())
                .send()
        });
        let answer = sent.await.map_err(trouble)?;
        let table = &self.0.table;
        let items = answer.responses.and_then(|mut tables| tables.remove(table));
        let unread = answer.unprocessed_keys.and_then(|mut tables| tables.remove(table));
        Ok((
            items.unwrap_or_default(),
            unread.map(|left| left.keys).unwrap_or_default(),
        ))
    }

    /// A part of a partition of the table, as it is now.
    pub(crate) async fn partition(&self, what: &str, pk: &str, span: &Span) -> Result<Vec<Item>, Trouble> {
        Ok(self.query(what, None, pk, span, usize::MAX).await?.items)
    }

    /// As [`partition`](Self::partition), but ends early once the texts of what was read are longer than this. It reads
    /// on by whole answers, each of 1 MB at most.
    pub(crate) async fn part(&self, what: &str, pk: &str, span: &Span, bytes_max: usize) -> Result<Part, Trouble> {
        self.query(what, None, pk, span, bytes_max).await
    }

    /// A part of a partition of an index, perhaps as it was a moment ago. All that the index holds of its items.
    pub(crate) async fn indexed(&self, index: &Index, key: &str, span: &Span) -> Result<Vec<Item>, Trouble> {
        Ok(self.query(index.name, Some(index), key, span, usize::MAX).await?.items)
    }

    /// The same part of several partitions of an index, one after the other. Few are read at once: a question about many
    /// people then leaves others their turns.
    pub(crate) async fn indexed_in(&self, index: &Index, keys: &[String], span: &Span) -> Result<Vec<Item>, Trouble> {
        let mut found = Vec::new();
        for some in keys.chunks(PARTS_MAX) {
            let parts = some.iter().map(|key| self.indexed(index, key, span));
            found.extend(try_join_all(parts).await?.into_iter().flatten());
        }
        Ok(found)
    }

    /// All requests of one call end within the time of one piece of work.
    async fn query(
        &self,
        what: &str,
        index: Option<&Index>,
        key: &str,
        span: &Span,
        bytes_max: usize,
    ) -> Result<Part, Trouble> {
        let (hash, range) = index.map_or(("pk", "sk"), |index| (index.hash, index.range));
        let (mut found, mut bytes, mut step): (Vec<Item>, usize, usize) = (Vec::new(), 0, 0);
        let (mut start, mut time): (Option<Item>, Time) = (None, Time::of(span.lane));
        let mut is_whole = span.from > span.to;
        while !is_whole && found.len() < span.limit && bytes <= bytes_max {
            let room = i32::try_from((span.limit - found.len()).max(step)).unwrap_or(i32::MAX);
            let is_answer = |_: &QueryError| false;
            let sent = self.call(what, &mut time, is_answer, || {
                self.0
                    .client
                    .query()
                    .table_name(&self.0.table)
                    .set_index_name(index.map(|index| index.name.to_owned()))
                    .key_condition_expression("#hash = :key AND #range BETWEEN :from AND :to")
                    .expression_attribute_names("#hash", hash)
                    .expression_attribute_names("#range", range)
                    .expression_attribute_values(":key", text(key))
                    .expression_attribute_values(":from", text(&span.from))
                    .expression_attribute_values(":to", text(&span.to))
                    .scan_index_forward(!span.newest_first)
                    .consistent_read(index.is_none())
                    .limit(room)
                    .set_exclusive_start_key(start.clone())
                    .send()
            });
            let answer = sent.await.map_err(trouble)?;
            let living: Vec<Item> = answer
                .items
                .unwrap_or_default()
                .into_iter()
                .filter_map(living)
                .collect();
            // DynamoDB deletes late: what has expired must not be walked through one by one.
            step = if living.is_empty() { EXPIRED_STEP } else { 0 };
            bytes += living.iter().map(texts_of).sum::<usize>();
            found.extend(living);
            start = answer.last_evaluated_key;
            is_whole = start.is_none();
        }
        is_whole &= found.len() <= span.limit;
        found.truncate(span.limit);
        let items = found;
        Ok(Part { items, is_whole })
    }
}

/// How long the texts of an item are together.
fn texts_of(item: &Item) -> usize {
    item.values()
        .filter_map(|value| value.as_s().ok())
        .map(String::len)
        .sum()
}

fn trouble<E>(failed: Failed<E>) -> Trouble {
    match failed {
        Failed::Trouble(trouble) => trouble,
        Failed::Answered { .. } => Trouble::new("a read was refused under a condition that it does not have"),
    }
}

#[cfg(test)]
mod tests;
