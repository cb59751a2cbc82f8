//! Searching: an index finds candidates, newest first; the events themselves decide.

use super::{DAYS, day_key, event, keys, partition, person_key, sort_key, target_key, who};
use crate::domain::audit::Event;
use crate::domain::id::SessionId;
use crate::domain::identity::PersonKey;
use crate::dynamodb::{
    BY_APPROVAL, BY_PERSON, BY_TARGET, BY_TIME, DynamoStore, Index, Item, Keys, SHARDS, Span, text_of,
};
use crate::journal::{
    CheckedQuery, JournalError, JournalQuery, Moment, PAGE_BYTES_MAX, PEOPLE_MAX, Page, too_many_people,
};
use chrono::DateTime;
use std::collections::BTreeSet;

/// Candidates that one call looks at; a page may then hold fewer events than were asked for, or none.
const CANDIDATES_MAX: usize = 2000;

/// Candidates that are read together.
const STEP: usize = 100;

/// Sorts behind every moment.
const END: &str = Span::END;

pub(super) async fn search(store: &DynamoStore, query: &JournalQuery) -> Result<Page, JournalError> {
    let query = query.check()?;
    let people = match &query.who {
        Some(word) => Some(people(store, word).await?),
        None => None,
    };
    if people.as_ref().is_some_and(BTreeSet::is_empty) {
        return Ok(Page::default());
    }
    let mut candidates = Candidates::of(store, &query, people.as_ref()).await?;
    let (mut page, mut bytes, mut seen) = (Page::default(), 0, 0);
    while seen < CANDIDATES_MAX {
        let found = candidates.next(store).await?;
        if found.is_empty() {
            page.next = None;
            return Ok(page);
        }
        seen += found.len();
        for (moment, event) in read(store, found).await? {
            if let Some(event) = event.filter(|event| query.matches(event, people.as_ref())) {
                if page.events.len() == query.limit || bytes > PAGE_BYTES_MAX {
                    return Ok(page);
                }
                bytes += serde_json::to_vec(&event).map_or(0, |json| json.len());
                page.events.push(event);
            }
            // All before this place is either on the page or not asked for.
            page.next = Some(moment.to_string());
        }
    }
    Ok(page)
}

/// The people who ever bore a name, an address or a subject.
async fn people(store: &DynamoStore, word: &str) -> Result<BTreeSet<PersonKey>, JournalError> {
    let found = store
        .partition("the people", &who(word), &Span::all(PEOPLE_MAX + 1))
        .await?;
    if found.len() > PEOPLE_MAX {
        return Err(too_many_people(word));
    }
    let person = |item: &Item| PersonKey {
        issuer: text_of(item, "issuer").to_owned(),
        subject: text_of(item, "subject").to_owned(),
    };
    Ok(found.iter().map(person).collect())
}

/// Reads candidates, in the order given. What the time to live has taken meanwhile is none.
async fn read(store: &DynamoStore, moments: Vec<Moment>) -> Result<Vec<(Moment, Option<Event>)>, JournalError> {
    let wanted: Vec<Keys> = moments
        .iter()
        .map(|moment| keys(moment.session(), moment.seq()))
        .collect();
    let mut found = store.get_all("events of the journal", &wanted).await?;
    moments
        .into_iter()
        .zip(wanted)
        .map(|(moment, keys)| {
            let item = found.remove(&keys);
            Ok((moment, item.as_ref().map(event).transpose()?))
        })
        .collect()
}

/// Where candidates come from, newest first.
struct Candidates {
    from: String,
    /// Below which moment the next ones are.
    before: String,
    source: Source,
}

enum Source {
    /// The table itself: a session's events are in order there.
    Session {
        id: SessionId,
        before: Option<u64>,
    },
    /// Partitions of an index that together hold all candidates.
    Index {
        index: &'static Index,
        keys: Vec<String>,
    },
    /// The days that are left, newest last.
    Days(Vec<String>),
    Nothing,
}

impl Candidates {
    async fn of(
        store: &DynamoStore,
        query: &CheckedQuery,
        people: Option<&BTreeSet<PersonKey>>,
    ) -> Result<Self, JournalError> {
        let text = |moment: Option<Moment>, or: &str| moment.map_or_else(|| or.to_owned(), |moment| moment.to_string());
        let (from, before) = (text(query.from, " "), text(query.before, END));
        let source = match (query.session, &query.approval, people, &query.target) {
            (Some(id), _, _, _) => Source::Session {
                id,
                before: query
                    .before
                    .filter(|before| before.session() == id)
                    .map(|before| before.seq()),
            },
            (None, Some(approval), _, _) => Source::Index {
                index: &BY_APPROVAL,
                keys: vec![approval.to_string()],
            },
            (None, None, Some(people), _) => Source::Index {
                index: &BY_PERSON,
                keys: people
                    .iter()
                    .flat_map(|key| (0..SHARDS).map(|shard| person_key(key, shard)))
                    .collect(),
            },
            (None, None, None, Some(target)) => Source::Index {
                index: &BY_TARGET,
                keys: (0..SHARDS).map(|shard| target_key(target, shard)).collect(),
            },
            (None, None, None, None) => Source::Days(days(store, &from, &before).await?),
        };
        Ok(Self { from, before, source })
    }

    /// The next ones, newest first; none at the end.
    async fn next(&mut self, store: &DynamoStore) -> Result<Vec<Moment>, JournalError> {
        loop {
            let found = match &mut self.source {
                Source::Nothing => return Ok(Vec::new()),
                Source::Session { id, before } => {
                    let (found, left) = of_session(store, *id, *before).await?;
                    match left {
                        Some(left) => *before = Some(left),
                        None => self.source = Source::Nothing,
                    }
                    return Ok(found);
                }
                Source::Index { index, keys } => {
                    let found = newest(store, index, keys, &self.from, &self.before).await?;
                    if found.is_empty() {
                        self.source = Source::Nothing;
                    }
                    found
                }
                Source::Days(days) => {
                    let Some(day) = days.last() else { return Ok(Vec::new()) };
                    let keys: Vec<String> = (0..SHARDS).map(|shard| day_key(day, shard)).collect();
                    let found = newest(store, &BY_TIME, &keys, &self.from, &self.before).await?;
                    if found.is_empty() {
                        days.pop();
                        continue;
                    }
                    found
                }
            };
            if let Some(last) = found.last() {
                self.before = last.to_string();
            }
            return Ok(found);
        }
    }
}

/// The days that have events between two moments, newest last.
async fn days(store: &DynamoStore, from: &str, before: &str) -> Result<Vec<String>, JournalError> {
    let day_of = |moment: &str| {
        let micros = moment.split('.').next()?.parse::<i64>().ok()?;
        let time = DateTime::from_timestamp_micros(micros)?;
        Some(time.format("%Y-%m-%d").to_string())
    };
    let span = Span {
        from: day_of(from).unwrap_or_else(|| " ".to_owned()),
        to: day_of(before).unwrap_or_else(|| END.to_owned()),
        ..Span::all(usize::MAX)
    };
    let found = store.partition("the days", DAYS, &span).await?;
    Ok(found.iter().map(|item| text_of(item, "sk").to_owned()).collect())
}

/// The newest in all these partitions of an index: from one moment on, and before another.
async fn newest(
    store: &DynamoStore,
    index: &'static Index,
    keys: &[String],
    from: &str,
    before: &str,
) -> Result<Vec<Moment>, JournalError> {
    let span = Span {
        from: from.to_owned(),
        to: before.to_owned(),
        newest_first: true,
        // One more: the span's end is included.
        limit: STEP + 1,
    };
    let found = store.indexed_in(index, keys, &span).await?;
    let moments = found
        .iter()
        .filter_map(|item| text_of(item, "moment").parse::<Moment>().ok());
    let mut moments: Vec<Moment> = moments.filter(|moment| moment.to_string().as_str() < before).collect();
    moments.sort_by(|a, b| b.cmp(a));
    moments.truncate(STEP);
    Ok(moments)
}

/// Events of a session before a number, newest first, and the number below which there may be more.
async fn of_session(
    store: &DynamoStore,
    id: SessionId,
    before: Option<u64>,
) -> Result<(Vec<Moment>, Option<u64>), JournalError> {
    let to = match before {
        Some(0) => return Ok((Vec::new(), None)),
        Some(before) => sort_key(before.saturating_sub(1)),
        None => END.to_owned(),
    };
    let span = Span {
        from: " ".to_owned(),
        to,
        newest_first: true,
        limit: STEP,
    };
    let items = store.partition("a session's events", &partition(id), &span).await?;
    let moments: Vec<Moment> = items
        .iter()
        .filter_map(|item| text_of(item, "moment").parse().ok())
        .collect();
    let left = moments.last().map(|last| last.seq()).filter(|_| items.len() == STEP);
    Ok((moments, left))
}
