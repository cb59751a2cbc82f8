//! The annotations that turn a Cedar rule into a hold: a closed set, because Cedar checks none of them and a
//! misspelt one would turn a hold into an allow.

use cedar_policy::{Effect, Policy};
use std::collections::BTreeMap;

const KNOWN: [&str; 8] = [
    "id",
    "hold",
    "approvers",
    "quorum",
    "expires",
    "grant",
    "reason",
    "critical",
];
/// These say something about a hold, and mean nothing without one.
const OBLIGATIONS: [&str; 5] = ["approvers", "quorum", "expires", "grant", "critical"];

const ID_LENGTH_MAX: usize = 64;
const REASON_LENGTH_MAX: usize = 500;
const APPROVER_GROUPS_MAX: usize = 16;
const QUORUM_MAX: u32 = 20;
const EXPIRES_SECONDS_DEFAULT: u64 = 600;
const EXPIRES_SECONDS: (u64, u64) = (10, 24 * 3600);
const GRANT_SECONDS: (u64, u64) = (60, 8 * 3600);

/// What a rule says beside its Cedar condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub id: String,
    pub effect: Effect,
    pub reason: Option<String>,
    pub hold: Option<HoldTerms>,
}

/// What one `@hold` rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HoldTerms {
    pub approvers: Vec<String>,
    pub quorum: u32,
    pub expires_seconds: u64,
    pub grant_seconds: Option<u64>,
    pub critical: bool,
}

/// A fault in one annotation (none: the rule as a whole).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadAnnotation {
    pub key: Option<String>,
    pub message: String,
}

/// Reads the annotations of one rule. Every fault is reported, not only the first.
pub(super) fn read(policy: &Policy) -> Result<Rule, Vec<BadAnnotation>> {
    let notes = Notes {
        policy,
        values: policy.annotations().collect(),
    };
    let mut faults = Vec::new();
    notes.unknown_keys(&mut faults);
    let id = notes.take("id", &mut faults, rule_id);
    if id.is_none() && !notes.values.contains_key("id") {
        faults.push(BadAnnotation {
            key: None,
            message: "the rule has no @id(\"...\"): approvals and the journal name rules by it".to_owned(),
        });
    }
    let reason = notes.take("reason", &mut faults, reason);
    let hold = notes.hold(&mut faults);
    match id {
        Some(id) if faults.is_empty() => Ok(Rule {
            id,
            effect: policy.effect(),
            reason,
            hold,
        }),
        Some(_) | None => Err(faults),
    }
}

struct Notes<'a> {
    policy: &'a Policy,
    values: BTreeMap<&'a str, &'a str>,
}

impl Notes<'_> {
    fn unknown_keys(&self, faults: &mut Vec<BadAnnotation>) {
        for key in self.values.keys().filter(|key| !KNOWN.contains(key)) {
            faults.push(bad(key, format!("unknown annotation @{key}: {}", nearest(key))));
        }
    }

    fn hold(&self, faults: &mut Vec<BadAnnotation>) -> Option<HoldTerms> {
        let held = self.take("hold", faults, flag).unwrap_or(false);
        if !self.values.contains_key("hold") {
            self.obligations_without_hold(faults);
            return None;
        }
        if self.policy.effect() == Effect::Forbid {
            faults.push(bad(
                "hold",
                "@hold stands on a forbid: a forbid refuses, nobody can approve it. Write permit",
            ));
        }
        let approvers = self.take("approvers", faults, approver_groups);
        if !self.values.contains_key("approvers") {
            faults.push(bad(
                "hold",
                "@hold needs @approvers(\"group\"): otherwise nobody could decide",
            ));
        }
        let quorum = self.take("quorum", faults, quorum).unwrap_or(1);
        let expires = self.take("expires", faults, |text| duration(text, EXPIRES_SECONDS));
        let grant_seconds = self.take("grant", faults, |text| duration(text, GRANT_SECONDS));
        let critical = self.take("critical", faults, flag).unwrap_or(false);
        let terms = HoldTerms {
            approvers: approvers?,
            quorum,
            expires_seconds: expires.unwrap_or(EXPIRES_SECONDS_DEFAULT),
            grant_seconds,
            critical,
        };
        held.then_some(terms)
    }

    fn obligations_without_hold(&self, faults: &mut Vec<BadAnnotation>) {
        for key in OBLIGATIONS.iter().filter(|key| self.values.contains_key(*key)) {
            let message = match self.policy.effect() {
                Effect::Permit => format!("@{key} without @hold: as it stands the rule would allow outright"),
                Effect::Forbid => format!("@{key} on a forbid: a forbid refuses, nobody can approve it"),
            };
            faults.push(bad(key, message));
        }
    }

    fn take<T>(
        &self,
        key: &str,
        faults: &mut Vec<BadAnnotation>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.values.get(key)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(why) => {
                faults.push(bad(key, format!("@{key}({text:?}): {why}")));
                None
            }
        }
    }
}

fn bad(key: &str, message: impl Into<String>) -> BadAnnotation {
    BadAnnotation {
        key: Some(key.to_owned()),
        message: message.into(),
    }
}

fn nearest(key: &str) -> String {
    let close = KNOWN
        .iter()
        .map(|known| (strsim::damerau_levenshtein(key, known), known))
        .min();
    match close {
        Some((distance, known)) if distance <= 3 => format!("did you mean @{known}?"),
        Some(_) | None => format!("known are {}", KNOWN.map(|known| format!("@{known}")).join(", ")),
    }
}

fn rule_id(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > ID_LENGTH_MAX || !text.chars().all(fits) {
        return Err(format!(
            "1 to {ID_LENGTH_MAX} letters, digits, dots, dashes or underscores are wanted"
        ));
    }
    Ok(text.to_owned())
}

fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > REASON_LENGTH_MAX || text.chars().any(char::is_control) {
        return Err(format!("1 to {REASON_LENGTH_MAX} characters on one line are wanted"));
    }
    Ok(text.to_owned())
}

/// Cedar gives a bare `@hold` the empty value.
fn flag(text: &str) -> Result<bool, String> {
    match text {
        "" | "true" => Ok(true),
        _ => Err("it takes no value (or \"true\"); leave it out for no".to_owned()),
    }
}

fn approver_groups(text: &str) -> Result<Vec<String>, String> {
    let mut groups: Vec<String> = text.split(',').map(|group| group.trim().to_owned()).collect();
    if groups
        .iter()
        .any(|group| group.is_empty() || group.chars().any(char::is_control))
    {
        return Err("group names separated by commas are wanted, like \"dba\" or \"dba,oncall\"".to_owned());
    }
    groups.sort();
    groups.dedup();
    if groups.len() > APPROVER_GROUPS_MAX {
        return Err(format!("at most {APPROVER_GROUPS_MAX} groups"));
    }
    Ok(groups)
}

fn quorum(text: &str) -> Result<u32, String> {
    digits(text)
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| (1..=QUORUM_MAX).contains(number))
        .ok_or_else(|| format!("a number of people from 1 to {QUORUM_MAX} is wanted"))
}

fn duration(text: &str, (least, most): (u64, u64)) -> Result<u64, String> {
    let unit = text.chars().last().and_then(|unit| match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3600),
        _ => None,
    });
    unit.and_then(|unit| digits(text.get(..text.len().checked_sub(1)?)?)?.checked_mul(unit))
        .filter(|seconds| (least..=most).contains(seconds))
        .ok_or_else(|| {
            format!(
                "a time from {} to {} is wanted, like 90s, 10m or 2h",
                words(least),
                words(most)
            )
        })
}

fn words(seconds: u64) -> String {
    match seconds {
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// Reads plain decimal digits: `+5`, which Rust would take, is not what a rule says.
fn digits(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}
