//! Searching: an index finds candidates, newest first; the events themselves decide.

use super::{DAYS, day_key, event, keys, newest_below, person_key, read_below, target_key, who};
use crate::domain::audit::Event;
use crate::domain::id::SessionId;
use crate::domain::identity::PersonKey;
use crate::dynamodb::{
    BY_APPROVAL, BY_PERSON, BY_TARGET, BY_TIME, DynamoStore, Index, Item, Keys, Lane, SHARDS, Span, Trouble, text_of,
};
use crate::journal::{
    CheckedQuery, JournalError, JournalQuery, Moment, PAGE_BYTES_MAX, PEOPLE_MAX, Page, too_many_people,
};
use chrono::{DateTime, NaiveDate, NaiveTime};
use std::collections::BTreeSet;

/// Candidates that one call looks at; a page may then hold fewer events than were asked for, or none.
const CANDIDATES_MAX: usize = 2000;

/// Candidates that are read together.
const STEP: usize = 100;

/// Days that one call goes back over: each costs a request for each shard, also where it has nothing.
const DAYS_MAX: usize = 100;

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
        let found = match candidates.next(store).await? {
            Step::End => {
                page.next = None;
                return Ok(page);
            }
            Step::Pause(place) => {
                page.next = Some(place.to_string());
                return Ok(page);
            }
            Step::Moments(moments) => read(store, moments).await?,
            Step::Events(events) => events,
        };
        seen += found.len();
        for (moment, event) in found {
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
        .partition("the people", &who(word), &Span::look(PEOPLE_MAX + 1))
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
async fn read(store: &DynamoStore, moments: Vec<Moment>) -> Result<Vec<Candidate>, JournalError> {
    let wanted: Vec<Keys> = moments
        .iter()
        .map(|moment| keys(moment.session(), moment.seq()))
        .collect();
    let mut found = store.get_all("events of the journal", Lane::Look, &wanted).await?;
    moments
        .into_iter()
        .zip(wanted)
        .map(|(moment, keys)| {
            let item = found.remove(&keys);
            Ok((moment, item.as_ref().map(event).transpose()?))
        })
        .collect()
}

/// A place, and the event there unless it is gone.
type Candidate = (Moment, Option<Event>);

/// What comes next.
enum Step {
    /// Places to be looked at; at least one.
    Moments(Vec<Moment>),
    /// Events that were read already; at least one.
    Events(Vec<Candidate>),
    /// Nothing for long: before this place another call may go on.
    Pause(Moment),
    End,
}

/// Where candidates come from, newest first.
struct Candidates {
    from: String,
    /// Below which moment the next ones are.
    before: String,
    source: Source,
}

enum Source {
    /// The table itself: a session's events are in order there, by number as by time.
    Session {
        id: SessionId,
        from: Option<Moment>,
        /// Below which number the next ones are.
        below: Option<u64>,
    },
    /// Partitions of an index that together hold all candidates.
    Index {
        index: &'static Index,
        keys: Vec<String>,
    },
    Days {
        /// Newest last.
        left: Vec<String>,
        /// How many have been left behind.
        walked: usize,
    },
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
        let source = match (&query.approval, query.session, people, &query.target) {
            // An approval has a few events, a session may have very many.
            (Some(approval), _, _, _) => Source::Index {
                index: &BY_APPROVAL,
                keys: vec![approval.to_string()],
            },
            (None, Some(id), _, _) => Source::Session {
                id,
                from: query.from,
                below: match query.before {
                    Some(before) => Some(number_at(store, id, before).await?),
                    None => None,
                },
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
            (None, None, None, None) => Source::Days {
                left: days(store, &from, &before).await?,
                walked: 0,
            },
        };
        Ok(Self { from, before, source })
    }

    /// The next ones, newest first.
    async fn next(&mut self, store: &DynamoStore) -> Result<Step, JournalError> {
        loop {
            let (found, is_last) = match &mut self.source {
                Source::Nothing => return Ok(Step::End),
                Source::Session { id, from, below } => {
                    let (events, is_whole) = read_below(store, *id, *below, STEP).await?;
                    let events = events.into_iter().map(|event| Ok((place(&event)?, Some(event))));
                    let events = events.collect::<Result<Vec<Candidate>, JournalError>>()?;
                    let Some((last, _)) = events.last() else {
                        return Ok(Step::End);
                    };
                    *below = Some(last.seq());
                    if is_whole || from.is_some_and(|from| *last < from) {
                        self.source = Source::Nothing;
                    }
                    return Ok(Step::Events(events));
                }
                Source::Index { index, keys } => newest(store, index, keys, &self.from, &self.before).await?,
                Source::Days { left, walked } => {
                    let Some(day) = left.last() else { return Ok(Step::End) };
                    if *walked >= DAYS_MAX
                        && let Some(end) = end_of(day)
                    {
                        return Ok(Step::Pause(end));
                    }
                    let keys: Vec<String> = (0..SHARDS).map(|shard| day_key(day, shard)).collect();
                    let (found, is_last) = newest(store, &BY_TIME, &keys, &self.from, &self.before).await?;
                    if is_last {
                        left.pop();
                        *walked += 1;
                    }
                    // The day before goes on.
                    (found, false)
                }
            };
            if is_last {
                self.source = Source::Nothing;
            }
            if let Some(last) = found.last() {
                self.before = last.to_string();
                return Ok(Step::Moments(found));
            }
        }
    }
}

/// The place before all events of later days.
fn end_of(day: &str) -> Option<Moment> {
    let next = NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()?.succ_opt()?;
    Some(Moment::start_of(next.and_time(NaiveTime::MIN).and_utc()))
}

fn place(event: &Event) -> Result<Moment, JournalError> {
    Moment::of(event).map_err(|error| Trouble::new(error.to_string()).into())
}

/// The number of the first event of a session that is not before a place.
async fn number_at(store: &DynamoStore, id: SessionId, before: Moment) -> Result<u64, JournalError> {
    if before.session() == id {
        return Ok(before.seq());
    }
    let Some(newest) = place_below(store, id, None).await? else {
        return Ok(0);
    };
    if newest < before {
        return Ok(newest.seq().saturating_add(1));
    }
    let (mut low, mut high) = (0, newest.seq());
    while low < high {
        let middle = low + (high - low) / 2;
        match place_below(store, id, Some(middle.saturating_add(1))).await? {
            Some(place) if place >= before => high = place.seq(),
            Some(_) | None => low = middle.saturating_add(1),
        }
    }
    Ok(high)
}

/// The place of a session's newest event below a number.
async fn place_below(store: &DynamoStore, id: SessionId, below: Option<u64>) -> Result<Option<Moment>, JournalError> {
    let newest = newest_below(store, id, below).await?;
    newest.as_ref().map(place).transpose()
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
        ..Span::look(usize::MAX)
    };
    let found = store.partition("the days", DAYS, &span).await?;
    Ok(found.iter().map(|item| text_of(item, "sk").to_owned()).collect())
}

/// The newest in all these partitions of an index: from one moment on, and before another. Says whether they are all.
async fn newest(
    store: &DynamoStore,
    index: &'static Index,
    keys: &[String],
    from: &str,
    before: &str,
) -> Result<(Vec<Moment>, bool), JournalError> {
    let span = Span {
        from: from.to_owned(),
        to: before.to_owned(),
        newest_first: true,
        // One more: the span's end is included.
        ..Span::look(STEP + 1)
    };
    let found = store.indexed_in(index, keys, &span).await?;
    let moments = found
        .iter()
        .filter_map(|item| text_of(item, "moment").parse::<Moment>().ok());
    let mut moments: Vec<Moment> = moments.filter(|moment| moment.to_string().as_str() < before).collect();
    moments.sort_by(|a, b| b.cmp(a));
    // An index may show an event twice while it moves.
    moments.dedup();
    let is_last = moments.len() < STEP;
    moments.truncate(STEP);
    Ok((moments, is_last))
}
