//! The verdict: each effect on each object is judged by itself, and the strictest answer counts.

use super::annotations::{HoldTerms, Rule};
use super::facts::{self, Facts};
use super::ground::Ground;
use super::load::Policies;
use super::uses::Uses;
use super::{GatewayAction, Question, Verdict, cache};
use crate::domain::approval::{Clause, Terms};
use crate::domain::effect::EffectKind;
use crate::domain::identity::Person;
use cedar_policy::{Authorizer, Entities, PolicySet, Request};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

/// Distinct (effect, object) pairs that one operation may have.
pub const PAIRS_MAX: usize = 64;

impl Policies {
    /// Judges one operation. It has no side effect but a cache; whatever cannot be judged is denied.
    pub fn evaluate(&self, question: &Question<'_>) -> Verdict {
        let Some(key) = cache::key(question, &self.uses) else {
            return self.judge_operation(question);
        };
        if let Some(verdict) = self.cache.lock().unwrap_or_else(PoisonError::into_inner).find(&key) {
            return verdict;
        }
        let verdict = self.judge_operation(question);
        self.cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keep(key, verdict.clone());
        verdict
    }

    /// Says whether a person has a right on the gateway itself. A rule with `@hold` gives none: nobody is asked.
    pub fn allows(&self, person: &Person, action: GatewayAction, now: DateTime<Utc>) -> bool {
        let engine = &self.engine;
        let judged = Facts::of_gateway(person, now, &engine.ground.schema, &engine.ground.types)
            .and_then(|facts| Ok(engine.judge(&facts.gateway_action(action)?, &facts.entities)));
        matches!(judged, Ok(Judgement::Allowed(_)))
    }

    fn judge_operation(&self, question: &Question<'_>) -> Verdict {
        let pairs = pairs(question);
        if pairs.len() > PAIRS_MAX {
            return denied(format!(
                "the operation has {} effects on different objects, and at most {PAIRS_MAX} can be judged together: \
                 split it into smaller statements",
                pairs.len()
            ));
        }
        if let Some(rule) = self.blind_to_the_rest(question) {
            return denied(format!(
                "rule `{rule}` looks at the operation's text, of which only the first {} KB are seen: \
                 send a shorter statement",
                facts::TEXT_BYTES_MAX / 1024
            ));
        }
        let engine = &self.engine;
        let facts = match Facts::of_operation(question, &engine.ground.schema, &engine.ground.types, &self.uses) {
            Ok(facts) => facts,
            Err(error) => return denied(format!("the operation could not be put to the policy: {error}")),
        };
        let mut sum = Sum::default();
        for (kind, object) in pairs {
            for names in meanings(object, &self.uses) {
                let judgement = match facts.effect(kind, &names) {
                    Ok(request) => engine.judge(&request, &facts.entities),
                    Err(error) => return denied(format!("the operation could not be put to the policy: {error}")),
                };
                sum.add(kind, object, judgement);
            }
        }
        sum.verdict(question, engine)
    }

    /// The first rule that looks at a text that was cut, and does not ask whether it was.
    fn blind_to_the_rest(&self, question: &Question<'_>) -> Option<&str> {
        let rule = self.trusts_text.first()?;
        facts::is_truncated(&question.request.operation.text).then_some(rule.as_str())
    }
}

/// The rules, and what Cedar needs to ask them.
pub(super) struct Engine {
    pub ground: Arc<Ground>,
    pub authorizer: Authorizer,
    pub set: PolicySet,
    /// By the rule's id, which is also its id in `set`.
    pub rules: BTreeMap<String, Rule>,
}

/// What the rules say of one effect on one object. Ids are sorted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Rules that could not be evaluated, with what Cedar says.
    Failed(BTreeMap<String, String>),
    Forbidden(BTreeSet<String>),
    /// The holds that match; plain permits that match too are overruled.
    Held(BTreeSet<String>),
    Allowed(BTreeSet<String>),
    Unmatched,
}

impl Engine {
    /// Asks the rules once. Errors are looked at before the decision: Cedar skips a rule that fails, also a forbid.
    pub fn judge(&self, request: &Request, entities: &Entities) -> Judgement {
        let response = self.authorizer.is_authorized(request, &self.set, entities);
        let failed: BTreeMap<_, _> = response
            .diagnostics()
            .errors()
            .map(|error| {
                let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
                (error.policy_id().to_string(), error.inner().to_string())
            })
            .collect();
        let matched: BTreeSet<_> = response.diagnostics().reason().map(ToString::to_string).collect();
        let held: BTreeSet<_> = matched
            .iter()
            .filter(|id| self.hold_of(id).is_some())
            .cloned()
            .collect();
        match response.decision() {
            _ if !failed.is_empty() => Judgement::Failed(failed),
            cedar_policy::Decision::Deny if matched.is_empty() => Judgement::Unmatched,
            cedar_policy::Decision::Deny => Judgement::Forbidden(matched),
            cedar_policy::Decision::Allow if held.is_empty() => Judgement::Allowed(matched),
            cedar_policy::Decision::Allow => Judgement::Held(held),
        }
    }

    fn hold_of(&self, rule: &str) -> Option<&HoldTerms> {
        self.rules.get(rule)?.hold.as_ref()
    }

    fn reason_of(&self, rule: &str) -> Option<&str> {
        self.rules.get(rule)?.reason.as_deref()
    }
}

fn denied(reason: String) -> Verdict {
    Verdict::Deny {
        rules: Vec::new(),
        reasons: vec![reason],
    }
}

/// An operation without effects (an empty query, comments only) is judged as a read of nothing.
fn pairs<'a>(question: &'a Question<'_>) -> Vec<(EffectKind, Option<&'a str>)> {
    let mut pairs = Vec::new();
    for (kind, objects) in question.request.operation.effects.iter() {
        if objects.is_empty() {
            pairs.push((kind, None));
        }
        pairs.extend(objects.iter().map(|object| (kind, Some(object.as_str()))));
    }
    if pairs.is_empty() {
        pairs.push((EffectKind::Read, None));
    }
    pairs
}

/// What an object may be called: its own names, and for a name without a schema also every name with a schema
/// that the rules speak of. Each meaning is judged, so that leaving the schema out escapes no forbid and gains no
/// permit.
fn meanings(object: Option<&str>, uses: &Uses) -> Vec<BTreeSet<String>> {
    let names = object.map(facts::names_of).unwrap_or_default();
    let Some(object) = object.filter(|object| !object.contains('.')) else {
        return vec![names];
    };
    let wider: BTreeSet<_> = names.iter().chain(uses.could_mean(object)).cloned().collect();
    if wider == names {
        vec![names]
    } else {
        vec![names, wider]
    }
}

/// The judgements of all pairs.
#[derive(Default)]
struct Sum {
    failed: BTreeMap<String, String>,
    forbidden: BTreeMap<String, BTreeMap<EffectKind, BTreeSet<String>>>,
    unmatched: BTreeMap<EffectKind, BTreeSet<String>>,
    held: BTreeSet<String>,
    allowed: BTreeSet<String>,
}

impl Sum {
    fn add(&mut self, kind: EffectKind, object: Option<&str>, judgement: Judgement) {
        let object = object.map(str::to_owned);
        match judgement {
            Judgement::Failed(rules) => self.failed.extend(rules),
            Judgement::Forbidden(rules) => {
                for rule in rules {
                    let effects = self.forbidden.entry(rule).or_default();
                    effects.entry(kind).or_default().extend(object.clone());
                }
            }
            Judgement::Unmatched => self.unmatched.entry(kind).or_default().extend(object),
            Judgement::Held(rules) => self.held.extend(rules),
            Judgement::Allowed(rules) => self.allowed.extend(rules),
        }
    }

    fn verdict(self, question: &Question<'_>, engine: &Engine) -> Verdict {
        if !self.failed.is_empty() || !self.forbidden.is_empty() || !self.unmatched.is_empty() {
            return self.denial(question, engine);
        }
        if self.held.is_empty() {
            return Verdict::Allow {
                rules: self.allowed.into_iter().collect(),
            };
        }
        Verdict::Hold {
            terms: terms(&self.held, engine),
            rules: self.held.into_iter().collect(),
        }
    }

    fn denial(self, question: &Question<'_>, engine: &Engine) -> Verdict {
        let target = &question.target.name;
        let mut reasons = Vec::new();
        for (rule, error) in &self.failed {
            reasons.push(format!(
                "policy `{rule}` could not be evaluated, so nothing passes: {error}; tell whoever keeps the policy"
            ));
        }
        for (rule, effects) in &self.forbidden {
            reasons.push(match engine.reason_of(rule) {
                Some(reason) => reason.to_owned(),
                None => format!("rule `{rule}` forbids {} on {target}", in_words(effects)),
            });
        }
        if !self.unmatched.is_empty() {
            let who = whose(&question.request.person);
            let what = in_words(&self.unmatched);
            reasons.push(format!(
                "no rule allows {what} on {target} for {who}; ask whoever keeps the policy for one"
            ));
        }
        reasons.dedup();
        let rules = self.failed.into_keys().chain(self.forbidden.into_keys());
        Verdict::Deny {
            rules: rules.collect::<BTreeSet<_>>().into_iter().collect(),
            reasons,
        }
    }
}

/// All holds bind: a clause for each, the shortest time to wait, a grant only if each grants.
fn terms(held: &BTreeSet<String>, engine: &Engine) -> Terms {
    let holds: Vec<_> = held
        .iter()
        .filter_map(|rule| Some((rule, engine.hold_of(rule)?)))
        .collect();
    let clause = |(rule, hold): &(&String, &HoldTerms)| Clause {
        rule: (*rule).clone(),
        approvers: hold.approvers.clone(),
        quorum: hold.quorum,
    };
    let grants: Option<Vec<u64>> = holds.iter().map(|(_, hold)| hold.grant_seconds).collect();
    let mut reasons: Vec<_> = held
        .iter()
        .filter_map(|rule| engine.reason_of(rule).map(str::to_owned))
        .collect();
    reasons.dedup();
    Terms {
        clauses: holds.iter().map(clause).collect(),
        expires_seconds: holds
            .iter()
            .map(|(_, hold)| hold.expires_seconds)
            .min()
            .unwrap_or_default(),
        grant_seconds: grants.and_then(|grants| grants.into_iter().min()),
        critical: holds.iter().any(|(_, hold)| hold.critical),
        reasons,
    }
}

/// Objects that a reason names before it only counts the rest.
const OBJECTS_SHOWN: usize = 5;

fn in_words(effects: &BTreeMap<EffectKind, BTreeSet<String>>) -> String {
    let words = effects.iter().map(|(kind, objects)| {
        if objects.is_empty() {
            return kind.to_string();
        }
        let shown: Vec<_> = objects.iter().take(OBJECTS_SHOWN).map(String::as_str).collect();
        let more = match objects.len().saturating_sub(OBJECTS_SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{kind} ({}{more})", shown.join(", "))
    });
    words.collect::<Vec<_>>().join(", ")
}

fn whose(person: &Person) -> String {
    match person.groups.len() {
        0 => "someone in no group".to_owned(),
        1 => format!("group {}", person.groups.iter().map(String::as_str).collect::<String>()),
        _ => format!(
            "groups {}",
            person.groups.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        ),
    }
}
