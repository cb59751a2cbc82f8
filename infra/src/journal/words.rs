//! Questions about operations as people write them: `who:alice on:shop since:24h state:denied text:"delete from"`.

use super::operations::{InvalidState, OperationQuery, OperationState};
use crate::domain::Timestamp;
use crate::domain::id::ApprovalId;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeSet;

/// Longest value, in characters.
pub const VALUE_CHARS_MAX: usize = 200;

/// Longest question, in bytes.
const TEXT_BYTES_MAX: usize = 4000;

const KEYS: &str = "who, on, since, until, state, text, approval, session, limit, after";

/// Why words make no question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    #[error("{0:?} has no key: write who:alice, on:shop, since:24h, state:denied or text:\"delete from\"")]
    NoKey(String),
    #[error("there is no key {0:?}, but {KEYS}")]
    UnknownKey(String),
    #[error("`{0}` has no value")]
    NoValue(&'static str),
    #[error("`{0}` is there twice")]
    Twice(&'static str),
    #[error("`{0}` is longer than {VALUE_CHARS_MAX} characters")]
    TooLong(&'static str),
    #[error("a question is no longer than {TEXT_BYTES_MAX} bytes")]
    QuestionTooLong,
    #[error("a quotation mark is not closed")]
    Unclosed,
    #[error("`{0}`: write a length of time (30m, 24h, 7d) or a date and time (2026-01-31T12:00:00Z)")]
    NoTime(&'static str),
    #[error("`state`: {0}")]
    State(#[from] InvalidState),
    #[error("`{0}`: {1}")]
    Value(&'static str, String),
}

/// Reads a question: `key:value` words with blanks between them. A value with blanks stands in quotation marks, also
/// in those that phones write; `\"` and `\\` in them are the mark and the stroke. `now` is what times count from.
pub fn parse(text: &str, now: Timestamp) -> Result<OperationQuery, WordsError> {
    read(&split(text)?, now)
}

/// Reads words that are apart already, as a shell gives them: what follows the colon is the value as it is.
pub fn read(words: &[impl AsRef<str>], now: Timestamp) -> Result<OperationQuery, WordsError> {
    let mut query = OperationQuery::default();
    let mut seen = BTreeSet::new();
    for word in words {
        let word = word.as_ref();
        let (key, value) = word.split_once(':').ok_or_else(|| WordsError::NoKey(word.to_owned()))?;
        let key = known(key)?;
        if !seen.insert(key) {
            return Err(WordsError::Twice(key));
        }
        if value.trim().is_empty() {
            return Err(WordsError::NoValue(key));
        }
        if value.chars().count() > VALUE_CHARS_MAX {
            return Err(WordsError::TooLong(key));
        }
        put(&mut query, key, value, now)?;
    }
    Ok(query)
}

fn known(key: &str) -> Result<&'static str, WordsError> {
    let lower = key.to_lowercase();
    let name = match lower.as_str() {
        "target" => "on",
        "states" => "state",
        other => other,
    };
    let found = KEYS.split(", ").find(|known| *known == name);
    found.ok_or_else(|| WordsError::UnknownKey(key.to_owned()))
}

fn put(query: &mut OperationQuery, key: &'static str, value: &str, now: Timestamp) -> Result<(), WordsError> {
    let wrong = |error: &dyn std::fmt::Display| WordsError::Value(key, error.to_string());
    let text = || Some(value.to_owned());
    match key {
        "who" => query.who = text(),
        "on" => query.target = text(),
        "since" => query.since = Some(time(value, now).ok_or(WordsError::NoTime(key))?),
        "until" => query.until = Some(time(value, now).ok_or(WordsError::NoTime(key))?),
        "state" => query.states = states(value)?,
        "text" => query.text = text(),
        "approval" => {
            let id: ApprovalId = value.parse().map_err(|error| wrong(&error))?;
            query.approval = Some(id.into());
        }
        "session" => query.session = Some(value.parse().map_err(|_| wrong(&"it is no session's id (a UUID)"))?),
        "limit" => match value.parse() {
            Ok(limit) if limit > 0 => query.limit = limit,
            Ok(_) | Err(_) => return Err(wrong(&"write a number above 0")),
        },
        _ => query.after = text(),
    }
    Ok(())
}

/// Reads states with commas between them.
pub fn states(text: &str) -> Result<BTreeSet<OperationState>, InvalidState> {
    let names = text.split(',').map(|name| name.trim().to_lowercase());
    names.filter(|name| !name.is_empty()).map(|name| name.parse()).collect()
}

/// Reads a moment: a length of time before `now` (`90s`, `30m`, `24h`, `7d`), or RFC 3339.
pub fn time(text: &str, now: Timestamp) -> Option<Timestamp> {
    let fixed = || DateTime::parse_from_rfc3339(text).ok().map(|at| at.with_timezone(&Utc));
    ago(text)
        .and_then(|length| now.checked_sub_signed(length))
        .or_else(fixed)
}

fn ago(text: &str) -> Option<TimeDelta> {
    let unit = text.chars().next_back()?;
    let count: i64 = text.strip_suffix(unit)?.parse::<u32>().ok()?.into();
    match unit {
        's' => TimeDelta::try_seconds(count),
        'm' => TimeDelta::try_minutes(count),
        'h' => TimeDelta::try_hours(count),
        'd' => TimeDelta::try_days(count),
        _ => None,
    }
}

/// Takes a question apart at its blanks, but not those between quotation marks.
pub fn split(text: &str) -> Result<Vec<String>, WordsError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(WordsError::QuestionTooLong);
    }
    let (mut words, mut word, mut is_word, mut quoted) = (Vec::new(), String::new(), false, false);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' | '\u{201c}' | '\u{201d}' | '\u{201e}' => {
                quoted = !quoted;
                is_word = true;
            }
            '\\' if quoted => word.push(letters.next().ok_or(WordsError::Unclosed)?),
            blank if blank.is_whitespace() && !quoted => {
                if std::mem::take(&mut is_word) {
                    words.push(std::mem::take(&mut word));
                }
            }
            other => {
                word.push(other);
                is_word = true;
            }
        }
    }
    if quoted {
        return Err(WordsError::Unclosed);
    }
    words.extend(is_word.then_some(word));
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::{VALUE_CHARS_MAX, parse, read, time};
    use crate::domain::Timestamp;
    use crate::journal::operations::{OperationQuery, OperationState};
    use proptest::prelude::*;

    fn now() -> Timestamp {
        "2026-03-10T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_question_is_read_as_people_write_it() {
        let query = |change: &dyn Fn(&mut OperationQuery)| {
            let mut query = OperationQuery::default();
            change(&mut query);
            query
        };
        for (text, expected) in [
            ("", query(&|_| {})),
            (
                "who:alice on:shop since:24h state:denied text:\"delete\"",
                query(&|q| {
                    q.who = Some("alice".to_owned());
                    q.target = Some("shop".to_owned());
                    q.since = Some("2026-03-09T12:00:00Z".parse().unwrap());
                    q.states = [OperationState::Denied].into();
                    q.text = Some("delete".to_owned());
                }),
            ),
            (
                "  WHO:\"Ayşe Çelik\"\ttarget:orders\n",
                query(&|q| {
                    q.who = Some("Ayşe Çelik".to_owned());
                    q.target = Some("orders".to_owned());
                }),
            ),
            (
                "text:\u{201c}where id = 7\u{201d}",
                query(&|q| q.text = Some("where id = 7".to_owned())),
            ),
            (
                r#"text:"say \"no\" \\ yes""#,
                query(&|q| q.text = Some(r#"say "no" \ yes"#.to_owned())),
            ),
            ("text:a:b", query(&|q| q.text = Some("a:b".to_owned()))),
            (
                "state:denied,Expired until:2026-01-31T12:00:00Z limit:7 approval:k7q2-m4xa",
                query(&|q| {
                    q.states = [OperationState::Denied, OperationState::Expired].into();
                    q.until = Some("2026-01-31T12:00:00Z".parse().unwrap());
                    q.limit = 7;
                    q.approval = Some("K7Q2M4XA".to_owned());
                }),
            ),
        ] {
            assert_eq!(parse(text, now()), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn words_that_make_no_question_are_told_why() {
        let long = format!("who:{}", "x".repeat(VALUE_CHARS_MAX + 1));
        for (text, why) in [
            ("alice", "\"alice\" has no key: write who:alice"),
            ("whom:alice", "there is no key \"whom\", but who, on, since"),
            (":alice", "there is no key \"\""),
            ("who:", "`who` has no value"),
            ("who:\" \"", "`who` has no value"),
            ("who:a who:b", "`who` is there twice"),
            ("on:a target:b", "`on` is there twice"),
            (
                "state:deny",
                "`state`: there is no state \"deny\", but allowed, pending",
            ),
            ("state:denied,approved", "there is no state \"approved\""),
            ("since:yesterday", "`since`: write a length of time"),
            ("until:1w", "`until`: write a length of time"),
            ("approval:7", "`approval`: an approval number has 8"),
            ("session:7", "`session`: it is no session's id"),
            ("limit:many", "`limit`: write a number"),
            ("limit:0", "`limit`: write a number"),
            ("text:\"delete", "a quotation mark is not closed"),
            ("text:\"delete\\", "a quotation mark is not closed"),
            (&long, "`who` is longer than 200 characters"),
            (&"x".repeat(5000), "no longer than 4000 bytes"),
        ] {
            let said = parse(text, now()).unwrap_err().to_string();
            assert!(said.contains(why), "{text:?}: {said}");
        }
    }

    #[test]
    fn words_that_a_shell_took_apart_are_taken_as_they_are() {
        let query = read(&["text:say \"no\"", "who:Ayşe Çelik"], now()).unwrap();
        assert_eq!(query.text.as_deref(), Some("say \"no\""));
        assert_eq!(query.who.as_deref(), Some("Ayşe Çelik"));
    }

    #[test]
    fn moments_are_read_as_people_write_them() {
        for (text, wanted) in [
            ("90s", Some("2026-03-10T11:58:30Z")),
            ("30m", Some("2026-03-10T11:30:00Z")),
            ("24h", Some("2026-03-09T12:00:00Z")),
            ("7d", Some("2026-03-03T12:00:00Z")),
            ("2026-01-31T12:00:00+02:00", Some("2026-01-31T10:00:00Z")),
            ("", None),
            ("h", None),
            ("-1h", None),
            ("1w", None),
            ("4294967295d", None),
            ("99999999999999999999h", None),
            ("yesterday", None),
            ("2026-01-31", None),
            ("5é", None),
        ] {
            let wanted = wanted.map(|at| at.parse::<Timestamp>().unwrap());
            assert_eq!(time(text, now()), wanted, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(who|on|state|text|since|x)?:?[\"\\\\ a\u{201c}é:,0-9hd]{0,30}") {
            drop(parse(&text, now()));
        }
    }
}
