//! Approvals in DynamoDB: the record as JSON, and beside it the attributes that conditions and indexes read.

use super::{ApprovalQuery, ApprovalStore, StoreError, StoreTime, Tell, limit};
use crate::domain::Timestamp;
use crate::domain::approval::Approval;
use crate::domain::audit::Event;
use crate::domain::id::ApprovalId;
pub use crate::dynamodb::DynamoStore;
use crate::dynamodb::{
    BY_TIME, Change, Item, Keys, Lane, OPEN, Put, SHARDS, Span, Trouble, Unwritten, check_size, micros, number, shard,
    text, text_of,
};
use crate::journal::dynamodb::{event_puts, without_known};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta};
use futures_util::future::try_join_all;

/// Overdue records and feed entries that one call returns.
const ROWS_MAX: usize = 1000;

/// Approvals that have not ended: more are not looked through for a list.
const OPEN_MAX: usize = 10_000;

/// A hint that nobody took is of no use after a day.
const HINT_LIVES: TimeDelta = TimeDelta::days(1);

const META: &str = "META";

/// The days that have approvals.
const DAYS: &str = "DAYS#A";

#[async_trait]
impl ApprovalStore for DynamoStore {
    async fn create(&self, approval: &Approval, events: &[Event]) -> Result<(), StoreError> {
        self.mark(DAYS, &day(approval.created), Item::new()).await?;
        let mut puts = vec![Put {
            item: self.record(approval)?,
            change: Change::New,
        }];
        puts.extend(event_puts(self, events).await?);
        self.write_change(approval, "an approval", puts).await
    }

    async fn read(&self, id: &ApprovalId) -> Result<Approval, StoreError> {
        let found = self.get("an approval", &keys(id)).await?;
        found.map_or_else(|| Err(StoreError::NotFound(id.clone())), |item| read_item(id, &item))
    }

    async fn replace(&self, next: &Approval, events: &[Event], tell: Tell) -> Result<(), StoreError> {
        let mut puts = vec![Put {
            item: self.record(next)?,
            change: Change::Next { version: next.version },
        }];
        match tell {
            Tell::Holder => puts.push(hint(next)),
            Tell::Nobody => {}
        }
        puts.extend(event_puts(self, events).await?);
        self.write_change(next, "a change of an approval", puts).await
    }

    async fn list(&self, query: &ApprovalQuery) -> Result<Vec<Approval>, StoreError> {
        let before = match &query.before {
            None => Span::END.to_owned(),
            Some(id) => moment(&self.read(id).await?),
        };
        let limit = limit(query.limit);
        if query.pending_only {
            self.pending(&before, limit).await
        } else {
            self.newest(before, limit).await
        }
    }

    async fn overdue(&self, now: Timestamp) -> Result<Vec<Approval>, StoreError> {
        let span = Span {
            // Sorts before every lease that ends at this moment.
            to: micros(now),
            ..Span::all(ROWS_MAX)
        };
        let found = self.indexed(&OPEN, "OPEN", &span).await?;
        let mut late = self
            .read_all(Lane::Decide, &found.iter().map(Keys::of).collect::<Vec<_>>())
            .await?;
        // The index may be late: the records decide.
        late.retain(|approval| !approval.state.is_terminal() && approval.lease.until < now);
        late.sort_by_key(|approval| approval.lease.until);
        Ok(late)
    }

    async fn take_feed(&self, gateway: &str) -> Result<Vec<ApprovalId>, StoreError> {
        let found = self.partition("the feed", &feed(gateway), &Span::all(ROWS_MAX)).await?;
        let taken = found.iter().map(|item| async {
            let version = item.get("version").cloned().unwrap_or_else(|| number(0));
            self.delete(text_of(item, "pk"), text_of(item, "sk"), "version", &version)
                .await
        });
        try_join_all(taken).await?;
        // A hint that cannot be read is none.
        Ok(found
            .iter()
            .filter_map(|item| text_of(item, "sk").parse().ok())
            .collect())
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        Ok(self.clock().await?)
    }
}

impl DynamoStore {
    fn record(&self, approval: &Approval) -> Result<Item, StoreError> {
        let mut item = item(approval)?;
        if let Some(expires) = self.expiry(approval.created) {
            item.insert("expires".to_owned(), number(expires));
        }
        Ok(item)
    }

    /// Writes a record, its hint and its events, all or nothing. Events that are there already are left out.
    async fn write_change(&self, approval: &Approval, what: &str, mut puts: Vec<Put>) -> Result<(), StoreError> {
        loop {
            let clashes = match self.write(what, &puts).await {
                Ok(()) => return Ok(()),
                Err(Unwritten::Trouble(trouble)) => return Err(trouble.into()),
                Err(Unwritten::Conditions(clashes)) => clashes,
            };
            if let Some(clash) = clashes.iter().find(|clash| clash.place == 0) {
                let current = clash.current.as_ref();
                return Err(match current.map(|item| read_item(&approval.id, item)) {
                    None => StoreError::NotFound(approval.id.clone()),
                    Some(Ok(current)) => StoreError::Conflict {
                        current: Box::new(current),
                    },
                    Some(Err(error)) => error,
                });
            }
            puts = without_known(puts, &clashes)?;
        }
    }

    /// Those that wait for votes. They are few: all are found, and the newest taken.
    async fn pending(&self, before: &str, limit: usize) -> Result<Vec<Approval>, StoreError> {
        let mut found = self.indexed(&OPEN, "OPEN", &Span::look(OPEN_MAX)).await?;
        found.retain(|item| text_of(item, "state") == "pending" && text_of(item, "moment") < before);
        found.sort_by(|a, b| text_of(b, "moment").cmp(text_of(a, "moment")));
        let mut pending = Vec::new();
        // The index may be late: some of them may have ended meanwhile.
        for part in found.chunks(limit) {
            let read = self
                .read_all(Lane::Look, &part.iter().map(Keys::of).collect::<Vec<_>>())
                .await?;
            pending.extend(read.into_iter().filter(Approval::is_open));
            if pending.len() >= limit {
                break;
            }
        }
        pending.truncate(limit);
        Ok(pending)
    }

    /// The newest of all that were made before a moment, day by day.
    async fn newest(&self, mut before: String, limit: usize) -> Result<Vec<Approval>, StoreError> {
        let newest_day = Span {
            newest_first: true,
            ..Span::look(usize::MAX)
        };
        let days = self.partition("the days", DAYS, &newest_day).await?;
        let until = day_of(&before);
        let mut listed = Vec::new();
        for day in days.iter().map(|item| text_of(item, "sk")) {
            if until.as_deref().is_some_and(|until| day > until) {
                continue;
            }
            while listed.len() < limit {
                let found = self.newest_of_day(day, &before, limit - listed.len()).await?;
                let Some(last) = found.last() else { break };
                before = text_of(last, "moment").to_owned();
                listed.extend(
                    self.read_all(Lane::Look, &found.iter().map(Keys::of).collect::<Vec<_>>())
                        .await?,
                );
            }
        }
        Ok(listed)
    }

    async fn newest_of_day(&self, day: &str, before: &str, limit: usize) -> Result<Vec<Item>, StoreError> {
        let span = Span {
            from: " ".to_owned(),
            to: before.to_owned(),
            newest_first: true,
            // One more: the span's end is included.
            ..Span::look(limit + 1)
        };
        let shards: Vec<String> = (0..SHARDS).map(|shard| shard_key(day, shard)).collect();
        let mut found = self.indexed_in(&BY_TIME, &shards, &span).await?;
        found.retain(|item| text_of(item, "moment") < before);
        found.sort_by(|a, b| text_of(b, "moment").cmp(text_of(a, "moment")));
        found.truncate(limit);
        Ok(found)
    }

    /// Reads records, in the order asked. A damaged one is left out and logged: it must not hide the sound ones.
    async fn read_all(&self, lane: Lane, keys: &[Keys]) -> Result<Vec<Approval>, StoreError> {
        let mut found = self.get_all("approvals", lane, keys).await?;
        let read = keys.iter().filter_map(|keys| {
            let item = found.remove(keys)?;
            let id = keys.pk.strip_prefix("APPROVAL#")?.parse().ok()?;
            match read_item(&id, &item) {
                Ok(approval) => Some(approval),
                Err(error) => {
                    tracing::error!(%error, "a stored approval is left out of a list");
                    None
                }
            }
        });
        Ok(read.collect())
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable { source: trouble.into() }
    }
}

fn keys(id: &ApprovalId) -> Keys {
    Keys {
        pk: format!("APPROVAL#{id}"),
        sk: META.to_owned(),
    }
}

fn feed(gateway: &str) -> String {
    format!("FEED#{gateway}")
}

fn day(time: Timestamp) -> String {
    time.format("%Y-%m-%d").to_string()
}

fn shard_key(day: &str, shard: u8) -> String {
    format!("A#{day}#{shard}")
}

/// The day of a moment; none when it is the end of all moments.
fn day_of(moment: &str) -> Option<String> {
    let micros = moment.split('.').next()?.parse::<i64>().ok()?;
    DateTime::from_timestamp_micros(micros).map(day)
}

/// When the approval was made: the order of lists.
fn moment(approval: &Approval) -> String {
    format!("{}.{}", micros(approval.created), approval.id)
}

/// All that the table has of a record, but when it may be deleted. Everything is derived from the record.
fn item(approval: &Approval) -> Result<Item, StoreError> {
    let failed = |error: serde_json::Error| StoreError::Unavailable { source: error.into() };
    let record = serde_json::to_string(approval).map_err(failed)?;
    check_size("the approval's record", &record)?;
    let Keys { pk, sk } = keys(&approval.id);
    let shard = shard(approval.id.as_str().as_bytes());
    let mut item = Item::from([
        ("pk".to_owned(), text(pk)),
        ("sk".to_owned(), text(sk)),
        ("version".to_owned(), number(approval.version)),
        ("state".to_owned(), text(approval.state.as_str())),
        ("day".to_owned(), text(shard_key(&day(approval.created), shard))),
        ("moment".to_owned(), text(moment(approval))),
        ("record".to_owned(), text(record)),
    ]);
    if !approval.state.is_terminal() {
        let lease = format!("{}.{}", micros(approval.lease.until), approval.id);
        item.insert("open".to_owned(), text("OPEN"));
        item.insert("lease".to_owned(), text(lease));
    }
    Ok(item)
}

fn read_item(id: &ApprovalId, found: &Item) -> Result<Approval, StoreError> {
    let damaged = |why: String| StoreError::Damaged { id: id.clone(), why };
    let approval: Approval = serde_json::from_str(text_of(found, "record"))
        .map_err(|error| damaged(format!("it does not read: {error}")))?;
    let mut stored = found.clone();
    stored.remove("expires");
    if item(&approval)? == stored && approval.id == *id {
        Ok(approval)
    } else {
        Err(damaged("its record and the attributes beside it differ".to_owned()))
    }
}

/// Tells the holder's gateway that a record changed.
fn hint(approval: &Approval) -> Put {
    let expires = chrono::Utc::now() + HINT_LIVES;
    let item = Item::from([
        ("pk".to_owned(), text(feed(&approval.lease.gateway))),
        ("sk".to_owned(), text(approval.id.as_str())),
        ("version".to_owned(), number(approval.version)),
        ("expires".to_owned(), number(expires.timestamp())),
    ]);
    Put {
        item,
        change: Change::Hint,
    }
}
