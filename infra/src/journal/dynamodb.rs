//! The journal in DynamoDB: each event as JSON, and beside it the attributes that indexes read.

use super::{EVENTS_MAX, Journal, JournalError, JournalQuery, Moment, PAGE_BYTES_MAX, Page, Retention, people_words};
use crate::approvals::limit;
use crate::domain::audit::Event;
use crate::domain::id::{Digest, DigestBuilder, SessionId};
use crate::domain::identity::PersonKey;
pub use crate::dynamodb::DynamoStore;
use crate::dynamodb::{
    Change, Item, Keys, Part, Put, Span, Trouble, Unwritten, check_size, number, shard, text, text_of,
};
use async_trait::async_trait;
use chrono::Utc;

mod search;

/// Events of a session that are read at once.
const SESSION_EVENTS_MAX: usize = 1000;

/// The days that have events.
const DAYS: &str = "DAYS#E";

#[async_trait]
impl Journal for DynamoStore {
    async fn append(&self, events: &[Event]) -> Result<(), JournalError> {
        let mut puts = event_puts(self, events).await?;
        // Each round leaves out what was there already.
        while !puts.is_empty() {
            let clashes = match self.write("events of the journal", &puts).await {
                Ok(()) => return Ok(()),
                Err(Unwritten::Trouble(trouble)) => return Err(trouble.into()),
                Err(Unwritten::Conditions(clashes)) => clashes,
            };
            puts = without_known(puts, &clashes)?;
        }
        Ok(())
    }

    fn retention(&self) -> Option<Retention> {
        self.kept().map(Retention::new)
    }

    async fn session(&self, id: SessionId) -> Result<Vec<Event>, JournalError> {
        if is_over(self, id) {
            return Ok(Vec::new());
        }
        let mut events: Vec<Event> = Vec::new();
        loop {
            let from = events.last().map_or(0, |last| last.seq.saturating_add(1));
            let (mut part, is_whole) = read_from(self, id, from, SESSION_EVENTS_MAX).await?;
            events.append(&mut part);
            if is_whole {
                return Ok(events);
            }
        }
    }

    async fn after(&self, id: SessionId, seq: u64, asked: usize) -> Result<Vec<Event>, JournalError> {
        match seq.checked_add(1) {
            Some(from) => Ok(read_from(self, id, from, limit(asked)).await?.0),
            None => Ok(Vec::new()),
        }
    }

    async fn first(&self, id: SessionId) -> Result<Option<Event>, JournalError> {
        if is_over(self, id) {
            return Ok(None);
        }
        Ok(read_from(self, id, 0, 1).await?.0.pop())
    }

    async fn last(&self, id: SessionId) -> Result<Option<Event>, JournalError> {
        newest_below(self, id, None).await
    }

    async fn probe(&self) -> Result<(), JournalError> {
        let nothing = Keys {
            pk: DAYS.to_owned(),
            sk: "-".to_owned(),
        };
        Ok(self.get("a read that finds nothing", &nothing).await.map(drop)?)
    }

    async fn search(&self, query: &JournalQuery) -> Result<Page, JournalError> {
        search::search(self, query).await
    }
}

impl From<Trouble> for JournalError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable { source: trouble.into() }
    }
}

/// The events as they are to be written, each on condition that its number is free. What searches need to find them
/// is written before this returns.
pub(crate) async fn event_puts(store: &DynamoStore, events: &[Event]) -> Result<Vec<Put>, Trouble> {
    if events.len() > EVENTS_MAX {
        let why = format!("{} events at once are more than {EVENTS_MAX}", events.len());
        return Err(Trouble::new(why));
    }
    let mut puts = Vec::with_capacity(events.len());
    for event in events {
        store.mark(DAYS, &day(event), Item::new()).await?;
        mark_person(store, event).await?;
        let mut item = item(event)?;
        if let Some(retention) = store.retention() {
            let end = retention.end_of(event.session, event.at);
            item.insert("expires".to_owned(), number(end.timestamp()));
        }
        let change = Change::New;
        puts.push(Put { item, change });
    }
    Ok(puts)
}

/// Leaves out the events that are there already, the same in every byte. `Taken`: another one has its number.
pub(crate) fn without_known(mut puts: Vec<Put>, clashes: &[crate::dynamodb::Clash]) -> Result<Vec<Put>, JournalError> {
    for clash in clashes {
        let Some(put) = puts.get(clash.place) else { continue };
        let same = clash.current.as_ref().map(without_expiry) == Some(without_expiry(&put.item));
        if !same {
            return Err(taken(&put.item));
        }
    }
    let mut place = 0;
    puts.retain(|_| {
        place += 1;
        !clashes.iter().any(|clash| clash.place == place - 1)
    });
    Ok(puts)
}

/// It differs where the retention was changed between two tries.
fn without_expiry(item: &Item) -> Item {
    let mut item = item.clone();
    item.remove("expires");
    item
}

fn taken(item: &Item) -> JournalError {
    let session = text_of(item, "pk")
        .strip_prefix("SESSION#")
        .and_then(|id| id.parse().ok());
    match (session, text_of(item, "sk").parse()) {
        (Some(session), Ok(seq)) => JournalError::Taken { session, seq },
        (_, _) => Trouble::new("an event has no number").into(),
    }
}

/// Notes by which words the person of an event is known.
async fn mark_person(store: &DynamoStore, event: &Event) -> Result<(), Trouble> {
    for (word, key) in people_words(event) {
        let item = Item::from([
            ("issuer".to_owned(), text(&key.issuer)),
            ("subject".to_owned(), text(&key.subject)),
        ]);
        store.mark(&who(&word), &hash_of(&key).to_string(), item).await?;
    }
    Ok(())
}

/// The partition of the people who bear a name, an address or a subject, in lower case.
fn who(word: &str) -> String {
    format!("WHO#{}", Digest::of(word.as_bytes()))
}

fn hash_of(key: &PersonKey) -> Digest {
    let mut digest = DigestBuilder::default();
    digest
        .part("issuer", key.issuer.as_bytes())
        .part("subject", key.subject.as_bytes());
    digest.finish()
}

/// A part of a session must not pass for a session from which somebody took the rest.
fn is_over(store: &DynamoStore, id: SessionId) -> bool {
    store
        .retention()
        .is_some_and(|retention| retention.is_over(id, Utc::now()))
}

/// Events of a session from a number on, in order, and whether nothing follows. Ends early once they are larger than a
/// page may be.
async fn read_from(
    store: &DynamoStore,
    id: SessionId,
    from: u64,
    limit: usize,
) -> Result<(Vec<Event>, bool), JournalError> {
    let span = Span {
        from: sort_key(from),
        ..Span::look(limit)
    };
    read(store, id, &span).await
}

/// Events of a session below a number, newest first, and whether nothing follows. Ends early as [`read_from`].
async fn read_below(
    store: &DynamoStore,
    id: SessionId,
    below: Option<u64>,
    limit: usize,
) -> Result<(Vec<Event>, bool), JournalError> {
    let to = match below {
        Some(0) => return Ok((Vec::new(), true)),
        Some(below) => sort_key(below.saturating_sub(1)),
        None => Span::END.to_owned(),
    };
    let span = Span {
        to,
        newest_first: true,
        // The last one of all is what its writer goes on from.
        ..if limit == 1 { Span::all(1) } else { Span::look(limit) }
    };
    read(store, id, &span).await
}

async fn newest_below(store: &DynamoStore, id: SessionId, below: Option<u64>) -> Result<Option<Event>, JournalError> {
    Ok(read_below(store, id, below, 1).await?.0.pop())
}

async fn read(store: &DynamoStore, id: SessionId, span: &Span) -> Result<(Vec<Event>, bool), JournalError> {
    let pk = partition(id);
    let Part { items, is_whole } = store.part("a session's events", &pk, span, PAGE_BYTES_MAX).await?;
    let events: Vec<Event> = items.iter().map(event).collect::<Result<_, _>>()?;
    Ok((events, is_whole))
}

fn partition(id: SessionId) -> String {
    format!("SESSION#{id}")
}

/// Numbers as texts that sort as they do.
fn sort_key(seq: u64) -> String {
    format!("{seq:020}")
}

fn keys(id: SessionId, seq: u64) -> Keys {
    Keys {
        pk: partition(id),
        sk: sort_key(seq),
    }
}

fn day(event: &Event) -> String {
    event.at.format("%Y-%m-%d").to_string()
}

fn day_key(day: &str, shard: u8) -> String {
    format!("E#{day}#{shard}")
}

fn person_key(key: &PersonKey, shard: u8) -> String {
    format!("{}#{shard}", hash_of(key))
}

fn target_key(target: &str, shard: u8) -> String {
    format!("{target}#{shard}")
}

fn shard_of(id: SessionId) -> u8 {
    shard(id.0.as_bytes())
}

/// All that the table has of an event, but when it may be deleted. Everything is derived from the event.
fn item(event: &Event) -> Result<Item, Trouble> {
    let body = serde_json::to_string(event).map_err(|error| Trouble::new(error.to_string()))?;
    check_size("the event", &body)?;
    let moment = Moment::of(event).map_err(|error| Trouble::new(error.to_string()))?;
    let shard = shard_of(event.session);
    let Keys { pk, sk } = keys(event.session, event.seq);
    let mut item = Item::from([
        ("pk".to_owned(), text(pk)),
        ("sk".to_owned(), text(sk)),
        ("day".to_owned(), text(day_key(&day(event), shard))),
        ("moment".to_owned(), text(moment.to_string())),
        ("body".to_owned(), text(body)),
    ]);
    if let Some(person) = &event.person {
        item.insert("person".to_owned(), text(person_key(person, shard)));
    }
    if let Some(target) = &event.target {
        item.insert("target".to_owned(), text(target_key(target, shard)));
    }
    if let Some(approval) = event.what.approval() {
        item.insert("approval".to_owned(), text(approval.as_str()));
    }
    Ok(item)
}

/// The event, if every attribute is as it was written.
fn event(stored: &Item) -> Result<Event, JournalError> {
    let damaged = |why: String| {
        let (session, seq) = (text_of(stored, "pk"), text_of(stored, "sk"));
        match (
            session.strip_prefix("SESSION#").and_then(|id| id.parse().ok()),
            seq.parse(),
        ) {
            (Some(session), Ok(seq)) => JournalError::Damaged { session, seq, why },
            (_, _) => Trouble::new(format!("an event stands under {session:?}, {seq:?}")).into(),
        }
    };
    let body = text_of(stored, "body");
    let event: Event = serde_json::from_str(body).map_err(|error| damaged(format!("it does not read: {error}")))?;
    let written = item(&event)?;
    if text_of(&written, "body") != body {
        return Err(damaged("its bytes are not those that were written".to_owned()));
    }
    if written != without_expiry(stored) {
        return Err(damaged(
            "the attributes that searches read differ from the event".to_owned(),
        ));
    }
    Ok(event)
}
