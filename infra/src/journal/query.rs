//! What is asked of a journal, and which events answer it: the one predicate that every store's answers obey.

use super::{JournalError, Moment};
use crate::approvals::limit;
use crate::domain::Timestamp;
use crate::domain::audit::{Event, Happening};
use crate::domain::id::{ApprovalId, SessionId};
use crate::domain::identity::PersonKey;
use std::collections::BTreeSet;

/// A page ends early once its events are larger than this as JSON, so that one page of long statements stays small.
pub const PAGE_BYTES_MAX: usize = 4 << 20;

/// So many people may bear the word that a search asks for.
pub const PEOPLE_MAX: usize = 20;

/// Which events to find, newest first: by their time, then their session, then their number. Every field narrows.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct JournalQuery {
    /// A person's name, e-mail address or subject, in any case: finds all events of everybody who ever bore it.
    /// `BadQuery` when those are more than [`PEOPLE_MAX`].
    pub who: Option<String>,
    pub target: Option<String>,
    /// From this microsecond on.
    pub since: Option<Timestamp>,
    /// Before this microsecond.
    pub until: Option<Timestamp>,
    /// Names of happenings (`asked`, `refused`, ...); all when empty.
    pub events: Vec<String>,
    /// A text that the event's display text, message or reason contains, any case.
    pub text: Option<String>,
    pub approval: Option<String>,
    pub session: Option<SessionId>,
    /// At most this many; 0 means 100, more than 1000 means 1000. A page may hold fewer though more follow: only
    /// `Page::next` says that.
    pub limit: usize,
    /// Continue after this place (`Page::next`).
    pub after: Option<String>,
}

/// A question that makes sense, in the form in which it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedQuery {
    /// In lower case: to be looked up among the [words of people](people_words).
    pub who: Option<String>,
    pub target: Option<String>,
    /// Events from this place on.
    pub from: Option<Moment>,
    /// Events before this place: `until`, or the cursor if that is earlier.
    pub before: Option<Moment>,
    /// All when empty.
    pub events: BTreeSet<&'static str>,
    /// In lower case and not empty: to be looked for in the [searched text](searched_text).
    pub text: Option<String>,
    pub approval: Option<ApprovalId>,
    pub session: Option<SessionId>,
    /// From 1 to 1000.
    pub limit: usize,
}

impl JournalQuery {
    /// Refuses what makes no sense: an event that does not exist, a page that was never given out, a number that no
    /// approval has. It would find nothing, and look like "nothing happened".
    pub fn check(&self) -> Result<CheckedQuery, JournalError> {
        let after = self.after.as_ref().map(|after| page(after)).transpose()?;
        let until = self.until.map(Moment::start_of);
        Ok(CheckedQuery {
            who: self.who.as_ref().map(|who| who.to_lowercase()),
            target: self.target.clone(),
            from: self.since.map(Moment::start_of),
            before: [after, until].into_iter().flatten().min(),
            events: self
                .events
                .iter()
                .map(|name| event_name(name))
                .collect::<Result<_, _>>()?,
            text: self
                .text
                .as_ref()
                .filter(|text| !text.is_empty())
                .map(|text| text.to_lowercase()),
            approval: self.approval.as_ref().map(|number| approval(number)).transpose()?,
            session: self.session,
            limit: limit(self.limit),
        })
    }

    /// Says whether an event answers the question, `limit` aside. `people` are those who bear the word `who`: without
    /// them such a question finds nothing. A question that makes no sense finds nothing either.
    pub fn matches(&self, event: &Event, people: Option<&BTreeSet<PersonKey>>) -> bool {
        self.check().is_ok_and(|query| query.matches(event, people))
    }
}

impl CheckedQuery {
    /// As [`JournalQuery::matches`].
    pub fn matches(&self, event: &Event, people: Option<&BTreeSet<PersonKey>>) -> bool {
        let Ok(moment) = Moment::of(event) else { return false };
        let is_theirs = || match (&event.person, people) {
            (Some(person), Some(people)) => people.contains(person),
            (Some(_) | None, Some(_) | None) => false,
        };
        (self.who.is_none() || is_theirs())
            && self.from.is_none_or(|from| moment >= from)
            && self.before.is_none_or(|before| moment < before)
            && self
                .target
                .as_ref()
                .is_none_or(|target| event.target.as_ref() == Some(target))
            && self.session.is_none_or(|session| event.session == session)
            && (self.events.is_empty() || self.events.contains(event.what.name()))
            && self
                .approval
                .as_ref()
                .is_none_or(|id| event.what.approval() == Some(id))
            && self
                .text
                .as_ref()
                .is_none_or(|text| searched_text(&event.what).contains(text))
    }
}

/// The text of a happening that searches look into: its words, one a line, in lower case.
pub fn searched_text(what: &Happening) -> String {
    what.words().join("\n").to_lowercase()
}

/// The words that an event teaches of people, in lower case and not empty: name and subject of the person whose
/// event it is, and the e-mail address of a person who opens a session.
pub fn people_words(event: &Event) -> BTreeSet<(String, PersonKey)> {
    let mut words = BTreeSet::new();
    let mut learn = |word: &str, key: &PersonKey| {
        if !word.is_empty() {
            words.insert((word.to_lowercase(), key.clone()));
        }
    };
    if let Some(key) = &event.person {
        learn(&key.subject, key);
        learn(event.person_name.as_deref().unwrap_or_default(), key);
    }
    if let Happening::SessionOpened { header } = &event.what {
        learn(header.person.email.as_deref().unwrap_or_default(), &header.person.key);
    }
    words
}

/// The word that a question asks for is borne by more than [`PEOPLE_MAX`].
pub(crate) fn too_many_people(who: &str) -> JournalError {
    let why = format!("more than {PEOPLE_MAX} people are called {who:?}: ask for an e-mail address or a subject");
    JournalError::BadQuery(why)
}

fn page(after: &str) -> Result<Moment, JournalError> {
    let invalid = |error| JournalError::BadQuery(format!("there is no page {after:?}: {error}"));
    after.parse().map_err(invalid)
}

fn event_name(name: &str) -> Result<&'static str, JournalError> {
    let known = Happening::NAMES.into_iter().find(|known| *known == name);
    known.ok_or_else(|| {
        let names = Happening::NAMES.join(", ");
        JournalError::BadQuery(format!("there is no event {name:?}, but {names}"))
    })
}

fn approval(number: &str) -> Result<ApprovalId, JournalError> {
    let invalid = |error| JournalError::BadQuery(format!("{number:?}: {error}"));
    number.parse().map_err(invalid)
}
