//! Verdicts already given by one set of rules.

use super::uses::Uses;
use super::{Question, Verdict, facts};
use crate::domain::id::{Digest, DigestBuilder};
use chrono::Timelike;
use std::collections::HashMap;

/// Entries of one generation; two are kept.
const ENTRIES_MAX: usize = 4096;

/// A bounded cache in two generations: what was not asked for during one whole generation is dropped.
#[derive(Default)]
pub(super) struct Cache {
    young: HashMap<Digest, Verdict>,
    old: HashMap<Digest, Verdict>,
}

impl Cache {
    pub fn find(&mut self, key: &Digest) -> Option<Verdict> {
        if let Some(verdict) = self.young.get(key) {
            return Some(verdict.clone());
        }
        let verdict = self.old.remove(key)?;
        self.keep(*key, verdict.clone());
        Some(verdict)
    }

    pub fn keep(&mut self, key: Digest, verdict: Verdict) {
        if self.young.len() >= ENTRIES_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, verdict);
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// The digest of everything that can change the answer; none when the answer changes with every moment.
///
/// Attributes of the context that no rule looks at are left out, all others and every attribute of person and
/// target are in.
pub(super) fn key(question: &Question<'_>, uses: &Uses) -> Option<Digest> {
    if uses.looks_at("now") {
        return None;
    }
    let (request, target) = (question.request, question.target);
    let (person, operation, place) = (&request.person, &request.operation, &request.place);
    let mut digest = DigestBuilder::default();
    digest
        .part("issuer", person.key.issuer.as_bytes())
        .part("subject", person.key.subject.as_bytes())
        .part("kind", facts::person_kind(person.kind).as_bytes())
        .part("email", format!("{:?}", person.email).as_bytes())
        .part("target", target.name.as_bytes())
        .part("target kind", target.kind.as_str().as_bytes());
    for group in &person.groups {
        digest.part("group", group.as_bytes());
    }
    for tag in &target.tags {
        digest.part("tag", tag.as_bytes());
    }
    for (kind, objects) in operation.effects.iter() {
        digest.part("effect", kind.as_str().as_bytes());
        for object in objects {
            digest.part("object", object.as_bytes());
        }
    }
    let flags = [operation.has_where, operation.unseen_data, request.in_transaction].map(u8::from);
    digest
        .part("flags", &flags)
        .part("protocol", operation.protocol.as_str().as_bytes())
        .part("database", place.database.as_bytes())
        .part("role", place.role.as_bytes());
    let seldom = [
        ("text", operation.text.clone()),
        ("text_truncated", facts::is_truncated(&operation.text).to_string()),
        ("client_address", request.client.address.clone()),
        ("application", request.client.application.clone()),
        ("hour", question.now.hour().to_string()),
        ("weekday", facts::weekday(question.now).to_owned()),
    ];
    for (attribute, value) in seldom.iter().filter(|(attribute, _)| uses.looks_at(attribute)) {
        digest.part(attribute, value.as_bytes());
    }
    Some(digest.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(number: usize) -> Verdict {
        Verdict::Allow {
            rules: vec![number.to_string()],
        }
    }

    #[test]
    fn the_cache_stays_within_its_bound_and_keeps_what_is_asked_for() {
        let mut cache = Cache::default();
        let key = |number: usize| Digest::of(&number.to_be_bytes());
        for number in 0..5 * ENTRIES_MAX {
            cache.keep(key(number), verdict(number));
            assert_eq!(cache.find(&key(0)), Some(verdict(0)), "asked for all the time");
            assert!(cache.len() <= 2 * ENTRIES_MAX + 1);
        }
        assert_eq!(cache.find(&key(1)), None, "asked for never again");
    }
}
