//! A grant: "approve for 15 minutes". What an approval admits beside the operation that it was given for.
//!
//! It covers operations that are no more than that one was: same session, person and place, each rule that asks for
//! people among those that were satisfied, effects and objects among those that were seen, a WHERE clause where there
//! was one. Anything else asks people again.

use super::Timestamp;
use super::access_request::{AccessRequest, Place};
use super::approval::{Clause, Terms};
use super::effect::{EffectKind, Effects, WriteKind};
use super::id::{ApprovalId, GrantId, SessionId};
use super::identity::{Person, PersonKey};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The kinds of effect that may be granted. All others are approved one at a time.
const GRANTABLE: [EffectKind; 5] = [
    EffectKind::Read,
    EffectKind::Session,
    EffectKind::Transaction,
    EffectKind::Lock,
    EffectKind::Write,
];

/// The stored record of one grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub id: GrantId,
    /// Counts the changes of the record. Every change is conditional on it.
    pub version: u64,
    #[serde(flatten)]
    pub state: GrantState,
    pub session: SessionId,
    pub person: PersonKey,
    pub place: Place,
    /// The demands that the approval met, as they were: a rule that changed is not among them.
    pub clauses: Vec<Clause>,
    /// Whether the approval met what critical terms ask for.
    pub critical: bool,
    pub effects: Effects,
    #[serde(default)]
    pub writes: BTreeSet<WriteKind>,
    pub has_where: bool,
    /// The approval that gave it.
    pub approval: ApprovalId,
    pub granted: Timestamp,
    pub until: Timestamp,
    pub uses: u64,
    pub last_use: Option<Timestamp>,
}

/// Where a grant stands. The end of its time is judged by who reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum GrantState {
    Active,
    /// A person took it back.
    Revoked {
        by: Person,
        at: Timestamp,
        why: String,
    },
    /// Its session or its rule is no more.
    Ended {
        at: Timestamp,
        why: String,
    },
}

/// Why an operation is not covered by a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCovered {
    #[error("the grant was revoked or has ended")]
    NotActive,
    #[error("the grant's time is over")]
    Over,
    #[error("it is of another session")]
    OtherSession,
    #[error("it is of another person")]
    OtherPerson,
    #[error("it runs in another place")]
    OtherPlace,
    #[error("a rule asks for people that did not ask when the grant was given, or asks otherwise, or grants no more")]
    OtherRules,
    #[error("it does more, or to other objects")]
    OtherEffects,
    #[error("it changes rows in another way")]
    OtherWrites,
    #[error("it does what can only be approved one at a time")]
    NotGrantable,
    #[error("it has no WHERE clause")]
    WithoutWhere,
}

/// A grant that cannot be given or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotGranted {
    #[error("a rule that asks for people does not grant")]
    RuleDoesNotGrant,
    #[error("it does what can only be approved one at a time")]
    NotGrantable,
    #[error("the grant was revoked or has ended already")]
    NotActive,
}

impl Grant {
    /// Makes the grant that an approval of this request under these terms gives. Whether the approval's people meant
    /// to is for the caller to know.
    pub fn give(
        id: GrantId,
        approval: ApprovalId,
        request: &AccessRequest,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<Self, NotGranted> {
        let seconds = terms.grant_seconds.and_then(|seconds| i64::try_from(seconds).ok());
        let seconds = seconds.and_then(TimeDelta::try_seconds);
        let until = seconds.and_then(|seconds| now.checked_add_signed(seconds));
        let Some(until) = until.filter(|_| !terms.clauses.is_empty()) else {
            return Err(NotGranted::RuleDoesNotGrant);
        };
        if !is_grantable(request) {
            return Err(NotGranted::NotGrantable);
        }
        Ok(Self {
            id,
            version: 0,
            state: GrantState::Active,
            session: request.session,
            person: request.person.key.clone(),
            place: request.place.clone(),
            clauses: terms.clauses.clone(),
            critical: terms.critical,
            effects: request.operation.effects.clone(),
            writes: request.operation.writes.clone(),
            has_where: request.operation.has_where,
            approval,
            granted: now,
            until,
            uses: 0,
            last_use: None,
        })
    }

    /// Says whether the grant admits a request that the policy would hold under these terms.
    pub fn covers(&self, request: &AccessRequest, terms: &Terms, now: Timestamp) -> Result<(), NotCovered> {
        let (place, operation) = (&request.place, &request.operation);
        let is_met = |clause: &Clause| self.clauses.contains(clause);
        let rules_are_met = !terms.clauses.is_empty()
            && terms.clauses.iter().all(is_met)
            && terms.grant_seconds.is_some()
            && (self.critical || !terms.critical);
        let checks = [
            (self.state == GrantState::Active, NotCovered::NotActive),
            ((self.granted..self.until).contains(&now), NotCovered::Over),
            (self.session == request.session, NotCovered::OtherSession),
            (self.person == request.person.key, NotCovered::OtherPerson),
            (self.place == *place, NotCovered::OtherPlace),
            (is_grantable(request), NotCovered::NotGrantable),
            (rules_are_met, NotCovered::OtherRules),
            (is_within(&operation.effects, &self.effects), NotCovered::OtherEffects),
            (operation.writes.is_subset(&self.writes), NotCovered::OtherWrites),
            (operation.has_where || !self.has_where, NotCovered::WithoutWhere),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, why)) => Err(why),
            None => Ok(()),
        }
    }

    /// The next version, in which a request that it [covers](Self::covers) has used it.
    pub fn use_for(&self, request: &AccessRequest, terms: &Terms, now: Timestamp) -> Result<Self, NotCovered> {
        self.covers(request, terms, now)?;
        Ok(Self {
            uses: self.uses.saturating_add(1),
            last_use: Some(now),
            ..self.next()
        })
    }

    /// The next version, taken back by a person.
    pub fn revoke(&self, by: Person, why: String, now: Timestamp) -> Result<Self, NotGranted> {
        self.leave(GrantState::Revoked { by, at: now, why })
    }

    /// The next version, ended with its session or its rule.
    pub fn end(&self, why: String, now: Timestamp) -> Result<Self, NotGranted> {
        self.leave(GrantState::Ended { at: now, why })
    }

    fn leave(&self, state: GrantState) -> Result<Self, NotGranted> {
        match self.state {
            GrantState::Active => Ok(Self { state, ..self.next() }),
            GrantState::Revoked { .. } | GrantState::Ended { .. } => Err(NotGranted::NotActive),
        }
    }

    fn next(&self) -> Self {
        Self {
            version: self.version.saturating_add(1),
            ..self.clone()
        }
    }
}

/// Rows that nobody has seen are never granted, nor is anything of a kind that is not listed.
fn is_grantable(request: &AccessRequest) -> bool {
    let operation = &request.operation;
    let kinds_are = operation.effects.kinds().all(|kind| GRANTABLE.contains(&kind));
    // A write of which nothing more is known is none that people have seen the like of.
    let is_write = operation.effects.contains(EffectKind::Write);
    let writes_are = operation.writes.is_empty() != is_write && !operation.writes.contains(&WriteKind::Other);
    kinds_are && writes_are && !operation.effects.is_empty() && !operation.unseen_data
}

/// Each kind is among those that were granted, and so are its objects. Without objects anything might be meant: that
/// is granted only where it was approved so.
fn is_within(effects: &Effects, granted: &Effects) -> bool {
    effects.iter().all(|(kind, objects)| {
        let same = granted.iter().find(|(granted, _)| *granted == kind);
        same.is_some_and(|(_, granted)| objects.is_subset(granted) && objects.is_empty() == granted.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::{Grant, GrantState, NotCovered, NotGranted};
    use crate::domain::access_request::AccessRequest;
    use crate::domain::approval::Terms;
    use crate::domain::effect::{EffectKind, Effects, WriteKind};
    use crate::domain::example::{at, bob, clause, grant, granting_terms, request, session};

    #[test]
    fn a_grant_covers_what_is_no_more_than_what_was_approved() {
        let other_value = |request: &mut AccessRequest| request.operation.parts.clear();
        let mut alike = request();
        other_value(&mut alike);
        for now in [0, 1, 899] {
            assert_eq!(
                grant().covers(&alike, &granting_terms(), at(now)),
                Ok(()),
                "after {now} s"
            );
        }
        let used = grant().use_for(&alike, &granting_terms(), at(5)).unwrap();
        assert_eq!((used.version, used.uses, used.last_use), (1, 1, Some(at(5))));
        let again = used.use_for(&alike, &granting_terms(), at(6)).unwrap();
        assert_eq!((again.version, again.uses), (2, 2));
    }

    #[test]
    fn a_grant_covers_nothing_that_is_more() {
        type Change = fn(&mut Grant, &mut AccessRequest, &mut Terms);
        fn add(request: &mut AccessRequest, kind: EffectKind, object: &str) {
            request.operation.effects.add_object(kind, object);
        }
        let changes: [(&str, NotCovered, Change); 22] = [
            ("session", NotCovered::OtherSession, |_, r, _| r.session = session(2)),
            ("person", NotCovered::OtherPerson, |_, r, _| r.person = bob()),
            ("issuer", NotCovered::OtherPerson, |_, r, _| {
                r.person.key.issuer.push('x')
            }),
            ("target", NotCovered::OtherPlace, |_, r, _| r.place.target.push('x')),
            ("database", NotCovered::OtherPlace, |_, r, _| r.place.database.push('x')),
            ("role", NotCovered::OtherPlace, |_, r, _| r.place.role.push('x')),
            ("search path", NotCovered::OtherPlace, |_, r, _| {
                r.place.search_path.push('x')
            }),
            ("object", NotCovered::OtherEffects, |_, r, _| {
                add(r, EffectKind::Write, "ledger")
            }),
            ("kind", NotCovered::OtherEffects, |_, r, _| {
                add(r, EffectKind::Lock, "orders")
            }),
            ("no object", NotCovered::OtherEffects, |_, r, _| {
                r.operation.effects = Effects::default();
                r.operation.effects.add(EffectKind::Write);
            }),
            ("a write of no kind", NotCovered::NotGrantable, |_, r, _| {
                r.operation.writes.clear();
            }),
            ("a write of another kind", NotCovered::NotGrantable, |_, r, _| {
                r.operation.writes.insert(WriteKind::Other);
            }),
            ("another command", NotCovered::OtherWrites, |_, r, _| {
                r.operation.writes.insert(WriteKind::Update);
            }),
            ("ddl", NotCovered::NotGrantable, |_, r, _| {
                add(r, EffectKind::Ddl, "orders")
            }),
            ("nothing known", NotCovered::NotGrantable, |_, r, _| {
                r.operation.effects = Effects::default()
            }),
            ("unseen rows", NotCovered::NotGrantable, |_, r, _| {
                r.operation.unseen_data = true
            }),
            ("where", NotCovered::WithoutWhere, |_, r, _| {
                r.operation.has_where = false
            }),
            ("one rule more", NotCovered::OtherRules, |_, _, t| {
                t.clauses.push(clause("x", &["dba"], 1))
            }),
            ("a changed rule", NotCovered::OtherRules, |_, _, t| {
                t.clauses[0].quorum = 2
            }),
            ("it grants no more", NotCovered::OtherRules, |_, _, t| {
                t.grant_seconds = None
            }),
            ("critical", NotCovered::OtherRules, |_, _, t| t.critical = true),
            ("nobody asks", NotCovered::OtherRules, |_, _, t| t.clauses.clear()),
        ];
        for (what, why, change) in changes {
            let (mut grant, mut request, mut terms) = (grant(), request(), granting_terms());
            change(&mut grant, &mut request, &mut terms);
            assert_eq!(grant.covers(&request, &terms, at(1)), Err(why), "{what}");
            assert_eq!(grant.use_for(&request, &terms, at(1)), Err(why), "{what}");
        }
    }

    #[test]
    fn a_grant_ends_with_its_time_and_when_it_is_taken_back() {
        let covers = |grant: &Grant, now| grant.covers(&request(), &granting_terms(), at(now));
        assert_eq!(covers(&grant(), 900), Err(NotCovered::Over));
        assert_eq!(covers(&grant(), -1), Err(NotCovered::Over));
        let revoked = grant().revoke(bob(), "enough".to_owned(), at(3)).unwrap();
        let ended = grant().end("the session is closed".to_owned(), at(3)).unwrap();
        for left in [&revoked, &ended] {
            assert_eq!(left.version, 1);
            assert_eq!(covers(left, 4), Err(NotCovered::NotActive));
            assert_eq!(left.end("again".to_owned(), at(5)), Err(NotGranted::NotActive));
            assert_eq!(left.revoke(bob(), String::new(), at(5)), Err(NotGranted::NotActive));
        }
        assert!(matches!(revoked.state, GrantState::Revoked { by, .. } if by == bob()));
    }

    #[test]
    fn what_is_approved_one_at_a_time_is_not_granted() {
        let give = |request: &AccessRequest, terms: &Terms| {
            let given = grant();
            Grant::give(given.id, given.approval, request, terms, at(0)).map(|grant| grant.until)
        };
        assert_eq!(give(&request(), &granting_terms()), Ok(at(900)));
        for kind in EffectKind::ALL {
            let mut other = request();
            other.operation.effects.add(kind);
            let granted = give(&other, &granting_terms()).is_ok();
            let harmful = ["ddl", "privilege", "call", "admin", "exec", "unknown"].contains(&kind.as_str());
            assert_eq!(granted, !harmful, "{kind}");
        }
        let mut terms = granting_terms();
        terms.grant_seconds = None;
        assert_eq!(give(&request(), &terms), Err(NotGranted::RuleDoesNotGrant));
        terms.grant_seconds = Some(u64::MAX);
        assert_eq!(give(&request(), &terms), Err(NotGranted::RuleDoesNotGrant));
    }
}
