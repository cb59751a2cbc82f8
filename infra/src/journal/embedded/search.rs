//! Searches in SQL. Every condition reads a column that has an index with the time behind it, or rows that such an
//! index has found already.

use super::{COLUMNS, Part, Stored};
use crate::domain::identity::PersonKey;
use crate::embedded::{Work, text};
use crate::journal::{CheckedQuery, JournalError, Moment, PEOPLE_MAX, Page, too_many_people};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

pub(super) fn run(connection: &Connection, query: &CheckedQuery) -> Work<Page, JournalError> {
    let select = match &query.who {
        None => Select::of(query, vec![Conditions::of(query)]),
        Some(who) => match people(connection, who)? {
            keys if keys.is_empty() => return Ok(Ok(Page::default())),
            keys if keys.len() > PEOPLE_MAX => return Ok(Err(too_many_people(who))),
            // Each one's events come in the order of their index, and are merged.
            keys => Select::of(
                query,
                keys.iter().map(|key| Conditions::of(query).person(key)).collect(),
            ),
        },
    };
    let mut statement = connection.prepare_cached(&select.text)?;
    let mut rows = statement.query(params_from_iter(select.values))?;
    let mut part = Part::default();
    while let Some(row) = rows.next()? {
        if part.events.len() == query.limit || part.is_full() {
            let next = part.events.last().and_then(|last| Moment::of(last).ok());
            return Ok(Ok(Page {
                events: part.events,
                next: next.map(|moment| moment.to_string()),
            }));
        }
        if let Err(damaged) = part.add(Stored::from_row(row)?) {
            return Ok(Err(damaged));
        }
    }
    Ok(Ok(Page {
        events: part.events,
        next: None,
    }))
}

/// A statement and its values in order.
struct Select {
    text: String,
    values: Vec<Value>,
}

impl Select {
    fn of(query: &CheckedQuery, arms: Vec<Conditions>) -> Self {
        let (texts, values): (Vec<_>, Vec<_>) = arms.into_iter().map(Conditions::select).unzip();
        let mut values: Vec<Value> = values.into_iter().flatten().collect();
        let text = format!(
            "{} ORDER BY at DESC, session DESC, seq DESC LIMIT ?",
            texts.join(" UNION ALL ")
        );
        let limit = query.limit.saturating_add(1);
        values.push(Value::from(i64::try_from(limit).unwrap_or(i64::MAX)));
        Self { text, values }
    }
}

/// Who bears a word: at most one more than may.
fn people(connection: &Connection, who: &str) -> rusqlite::Result<Vec<PersonKey>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT issuer, subject FROM people WHERE word = ? LIMIT {}",
        PEOPLE_MAX + 1
    ))?;
    let keys = select.query_map([who], |row| {
        Ok(PersonKey {
            issuer: text(row, 0)?,
            subject: text(row, 1)?,
        })
    })?;
    keys.collect()
}

/// Conditions with their values, in order.
#[derive(Default)]
struct Conditions {
    texts: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    fn of(query: &CheckedQuery) -> Self {
        let mut conditions = Self::default();
        if let Some(from) = query.from {
            conditions.add("(at, session, seq) >= (?, ?, ?)", place(from));
        }
        // Always there: without a bound SQLite would rather sort all events than go back in time.
        let before = query.before.unwrap_or(Moment::LAST);
        conditions.add("(at, session, seq) < (?, ?, ?)", place(before));
        if let Some(target) = &query.target {
            conditions.add("target = ?", [Value::from(target.clone())]);
        }
        if let Some(session) = query.session {
            conditions.add("session = ?", [Value::from(session.to_string())]);
        }
        if let Some(approval) = &query.approval {
            conditions.add("approval = ?", [Value::from(approval.to_string())]);
        }
        if !query.events.is_empty() {
            let marks = vec!["?"; query.events.len()].join(", ");
            let names = query.events.iter().map(|name| Value::from((*name).to_owned()));
            conditions.add(&format!("event IN ({marks})"), names);
        }
        if let Some(text) = &query.text {
            conditions.add("instr(words, ?) > 0", [Value::from(text.clone())]);
        }
        conditions
    }

    fn person(mut self, key: &PersonKey) -> Self {
        let values = [key.subject.clone(), key.issuer.clone()].map(Value::from);
        self.add("subject = ? AND issuer = ?", values);
        self
    }

    fn add(&mut self, text: &str, values: impl IntoIterator<Item = Value>) {
        self.texts.push(text.to_owned());
        self.values.extend(values);
    }

    fn select(self) -> (String, Vec<Value>) {
        let only = self.texts.join(" AND ");
        (format!("SELECT {COLUMNS} FROM journal WHERE {only}"), self.values)
    }
}

fn place(moment: Moment) -> [Value; 3] {
    let number = |value: u64| Value::from(i64::try_from(value).unwrap_or(i64::MAX));
    [
        number(moment.at_micros()),
        Value::from(moment.session().to_string()),
        number(moment.seq()),
    ]
}

#[cfg(test)]
mod tests {
    use super::{Conditions, Select};
    use crate::domain::example::{alice, at, bob, session};
    use crate::domain::id::ApprovalId;
    use crate::journal::JournalQuery;
    use crate::journal::embedded::EmbeddedStore;
    use rusqlite::{Connection, params_from_iter};

    /// How SQLite would go about a question, one step a line.
    fn plan(connection: &Connection, query: &JournalQuery) -> Vec<String> {
        let query = query.check().unwrap();
        let arms = match &query.who {
            None => vec![Conditions::of(&query)],
            Some(_) => [alice(), bob()]
                .map(|person| Conditions::of(&query).person(&person.key))
                .into(),
        };
        let select = Select::of(&query, arms);
        let mut explain = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {}", select.text))
            .unwrap();
        let steps = explain.query_map(params_from_iter(select.values), |row| row.get(3));
        steps.unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn what_narrows_by_person_target_time_session_or_approval_reads_an_index() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
        let connection = Connection::open(store.path()).unwrap();
        type Narrow = fn(&mut JournalQuery);
        let fields: [Narrow; 6] = [
            |query| query.who = Some("alice".to_owned()),
            |query| query.target = Some("orders".to_owned()),
            |query| query.since = Some(at(0)),
            |query| query.until = Some(at(9)),
            |query| query.session = Some(session(1)),
            |query| query.approval = Some(ApprovalId::from_random([9; 5]).to_string()),
        ];
        for set in 1..1 << fields.len() {
            let mut query = JournalQuery {
                events: vec!["asked".to_owned()],
                text: Some("orders".to_owned()),
                ..JournalQuery::default()
            };
            let chosen = fields.iter().enumerate().filter(|(place, _)| set >> place & 1 == 1);
            chosen.for_each(|(_, narrow)| narrow(&mut query));
            let steps = plan(&connection, &query);
            let looks = steps.iter().filter(|step| step.contains("journal"));
            for look in looks {
                assert!(look.starts_with("SEARCH journal USING INDEX"), "{query:?}: {steps:?}");
            }
            // Of a session alone the order of its index is that of its numbers; all else comes in the order of time.
            let sorts = steps.iter().any(|step| step == "USE TEMP B-TREE FOR ORDER BY");
            assert!(!sorts || query.session.is_some(), "{query:?}: {steps:?}");
        }
    }

    #[test]
    fn what_narrows_by_nothing_of_these_goes_back_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
        let connection = Connection::open(store.path()).unwrap();
        assert_eq!(
            plan(&connection, &JournalQuery::default()),
            [
                "SEARCH journal USING INDEX journal_at (at<?)",
                "USE TEMP B-TREE FOR LAST 2 TERMS OF ORDER BY"
            ]
        );
    }
}
