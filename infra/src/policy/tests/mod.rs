//! Policy text and a question in, a verdict in words out.

mod faults;
mod properties;
mod rights;
mod traps;

use super::load::Sources;
use super::{Policies, PolicyError, Question, TargetFacts, Verdict};
use crate::domain::access_request::{AccessRequest, Client, Operation, Place, Protocol};
use crate::domain::approval::Terms;
use crate::domain::effect::{EffectKind, Effects};
use crate::domain::id::SessionId;
use crate::domain::identity::{Person, PersonKey, PersonKind};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;

pub(super) fn load(text: &str) -> Result<Policies, PolicyError> {
    Policies::from_sources(&Sources::of_texts(&[("rules.cedar", text)]))
}

/// A Sunday, 17:00 UTC.
pub(super) fn now() -> DateTime<Utc> {
    "2026-11-22T17:00:00Z".parse().unwrap()
}

pub(super) fn alice(groups: &[&str]) -> Person {
    Person {
        key: PersonKey {
            issuer: "https://id.example".to_owned(),
            subject: "alice".to_owned(),
        },
        name: "Alice".to_owned(),
        email: Some("alice@example.com".to_owned()),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        kind: PersonKind::Human,
    }
}

pub(super) fn shop() -> TargetFacts {
    TargetFacts {
        name: "shop".to_owned(),
        kind: Protocol::Postgres,
        tags: vec!["production".to_owned()],
    }
}

/// Alice of engineering asks for these effects; an empty object names nothing.
pub(super) fn asking(effects: &[(EffectKind, &str)]) -> AccessRequest {
    let mut all = Effects::default();
    for (kind, object) in effects {
        match *object {
            "" => all.add(*kind),
            object => all.add_object(*kind, object),
        }
    }
    AccessRequest {
        session: SessionId(uuid::Uuid::nil()),
        person: alice(&["engineering"]),
        client: Client {
            address: "10.1.2.3:50123".to_owned(),
            application: "psql".to_owned(),
        },
        place: Place {
            target: "shop".to_owned(),
            database: "shop".to_owned(),
            role: "app".to_owned(),
            search_path: "public".to_owned(),
        },
        operation: Operation {
            protocol: Protocol::Postgres,
            parts: Vec::new(),
            display: String::new(),
            text: "delete from orders where id = 7".to_owned(),
            effects: all,
            writes: BTreeSet::new(),
            has_where: true,
            unseen_data: false,
        },
        in_transaction: false,
    }
}

pub(super) fn judge(policies: &Policies, request: &AccessRequest) -> Verdict {
    policies.evaluate(&Question {
        request,
        target: &shop(),
        now: now(),
    })
}

/// `allow RULES`, `hold CLAUSES, TERMS` or `deny RULES: REASONS`.
pub(super) fn in_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allow { rules } => format!("allow {}", rules.join(" ")),
        Verdict::Deny { rules, reasons } => format!("deny [{}] {}", rules.join(" "), reasons.join(" | ")),
        Verdict::Hold { rules, terms } => {
            let ids: Vec<_> = terms.clauses.iter().map(|clause| clause.rule.clone()).collect();
            assert_eq!(rules, &ids, "a hold names its clauses' rules");
            format!("hold {}", terms_in_words(terms))
        }
    }
}

fn terms_in_words(terms: &Terms) -> String {
    let clauses = terms.clauses.iter();
    let clauses: Vec<_> = clauses
        .map(|clause| format!("{}: {} of {}", clause.rule, clause.quorum, clause.approvers.join("+")))
        .collect();
    let grant = terms
        .grant_seconds
        .map_or("none".to_owned(), |grant| format!("{grant}s"));
    let critical = if terms.critical { ", critical" } else { "" };
    let expires = terms.expires_seconds;
    format!(
        "[{}] within {expires}s, grant {grant}{critical} {}",
        clauses.join("; "),
        terms.reasons.join(" | ")
    )
    .trim_end()
    .to_owned()
}

/// Loads the rules, asks, and compares the answer in words.
#[track_caller]
pub(super) fn check(rules: &str, request: &AccessRequest, expected: &str) {
    let policies = load(rules).unwrap_or_else(|error| panic!("{error}"));
    let first = in_words(&judge(&policies, request));
    assert_eq!(first, expected, "\n{rules}");
    assert_eq!(
        in_words(&judge(&policies, request)),
        expected,
        "asked again, from the cache"
    );
}
