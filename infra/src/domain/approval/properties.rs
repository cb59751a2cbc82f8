//! Random sequences of changes, and what must hold after each.

use super::{Approval, Ballot, Change, Choice, Outcome, State, Terms, Via};
use crate::domain::Timestamp;
use crate::domain::example::{EPOCH, alice, at, ballot, clause, new_approval, person, start, terms};
use crate::domain::identity::{Person, PersonKind};
use chrono::TimeDelta;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// The requester, her second account, a program, a stranger, and people who may decide.
fn people() -> Vec<Person> {
    vec![
        alice(),
        Person {
            email: alice().email,
            ..person("alice2", &["dba", "audit"])
        },
        Person {
            kind: PersonKind::Machine,
            ..person("robot", &["dba", "audit"])
        },
        person("eve", &["sales"]),
        person("bob", &["dba"]),
        person("carol", &["dba", "audit"]),
        person("dan", &["audit"]),
        Person {
            email: None,
            ..person("erin", &["dba"])
        },
        Person {
            email: None,
            ..person("fay", &["audit", "sales"])
        },
    ]
}

fn any_terms() -> impl Strategy<Value = Terms> {
    (1u32..4, prop::option::of(1u32..3), any::<bool>()).prop_map(|(dba, audit, critical)| {
        let clauses = std::iter::once(clause("one", &["dba"], dba));
        let audit = audit.map(|quorum| clause("two", &["audit", "none"], quorum));
        Terms {
            clauses: clauses.chain(audit).collect(),
            critical,
            ..terms(1)
        }
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    let voter = prop::sample::select(people());
    let choice = prop_oneof![6 => Just(Choice::Approve), 1 => Just(Choice::Deny)];
    let via = prop::sample::select(vec![Via::Cli, Via::Console, Via::Slack, Via::Discord]);
    let vote = (voter, choice, via, prop::option::of("[a-z]{0,4}")).prop_map(|(voter, choice, via, reason)| {
        Change::Vote(Ballot {
            via,
            reason,
            ..ballot(voter, choice)
        })
    });
    let epoch = prop_oneof![4 => Just(EPOCH), 1 => any::<u64>()];
    let why = || "why".to_owned();
    let outcome = Outcome {
        ok: true,
        summary: "DELETE 1".to_owned(),
        rows: Some(1),
        duration_ms: 1,
    };
    prop_oneof![
        12 => vote,
        1 => Just(Change::Expire),
        1 => Just(Change::Withdraw { why: why() }),
        1 => Just(Change::Abandon { why: why() }),
        1 => Just(Change::Revoke { why: why() }),
        3 => epoch.clone().prop_map(|epoch| Change::Execute { epoch }),
        2 => (epoch.clone(), 0i64..900).prop_map(|(epoch, until)| Change::Renew { epoch, until: at(until) }),
        1 => epoch.clone().prop_map(move |epoch| Change::Finish { epoch, outcome: outcome.clone() }),
        1 => epoch.prop_map(move |epoch| Change::LoseOutcome { epoch, why: why() }),
        1 => Just(Change::LeaseLost),
    ]
}

/// Mostly seconds apart, now and then minutes; clocks also go back a little.
fn any_steps() -> impl Strategy<Value = Vec<(Change, i64)>> {
    let pause = prop_oneof![8 => -1_500_000i64..5_000_000, 1 => 0i64..400_000_000];
    prop::collection::vec((any_change(), pause), 1..30)
}

/// Counts with other means than the code under test: distinct subjects of honest approvers, by clause.
fn is_satisfied(approval: &Approval) -> bool {
    let approvals = || {
        approval
            .votes
            .iter()
            .filter(|vote| vote.ballot.choice == Choice::Approve)
    };
    let clauses = approval.terms.clauses.iter().all(|clause| {
        let subjects: BTreeSet<&str> = approvals()
            .map(|vote| &vote.ballot.voter)
            .filter(|voter| clause.approvers.iter().any(|group| voter.groups.contains(group)))
            .filter(|voter| !["alice", "alice2", "robot"].contains(&voter.name.as_str()))
            .map(|voter| voter.key.subject.as_str())
            .collect();
        subjects.len() >= clause.quorum as usize
    });
    let direct = approvals().any(|vote| matches!(vote.ballot.via, Via::Cli | Via::Console));
    clauses && (direct || !approval.terms.critical)
}

fn check_step(before: &Approval, after: &Approval, now: Timestamp) -> Result<(), TestCaseError> {
    prop_assert_eq!(after.version, before.version + 1);
    prop_assert!(!before.state.is_terminal(), "{:?} was changed", before.state);
    prop_assert!(after.continues(before).is_ok());
    for vote in &after.votes {
        prop_assert!(!["alice", "alice2", "robot", "eve"].contains(&vote.ballot.voter.name.as_str()));
    }
    if matches!(after.state, State::Executing { .. }) {
        let was_approved = matches!(before.state, State::Approved { .. });
        prop_assert!(was_approved || before.state == after.state);
        prop_assert!(is_satisfied(after));
    }
    // What verify accepts is what apply approved: a record that merely says so is not believed.
    let claims = Approval {
        state: State::Approved { at: now },
        ..after.clone()
    };
    let honest = matches!(after.state, State::Approved { .. } | State::Executing { .. });
    let in_time = now < after.execute_until();
    if !matches!(after.state, State::Done { .. } | State::Unknown { .. }) && !after.state.is_terminal() {
        prop_assert_eq!(claims.verify(after.operation.digest, now).is_ok(), honest && in_time);
        prop_assert_eq!(is_satisfied(after), honest);
    }
    let stored = serde_json::to_string(after).unwrap();
    prop_assert_eq!(&serde_json::from_str::<Approval>(&stored).unwrap(), after);
    Ok(())
}

/// Changes one thing of the votes.
fn tamper(approval: &mut Approval, which: usize, how: u8) {
    let count = approval.votes.len();
    let place = which % count;
    let vote = &mut approval.votes[place];
    let voter = &mut vote.ballot.voter;
    match how {
        0 => voter.name.push('x'),
        1 => voter.key.subject.push('x'),
        2 => voter.key.issuer.push('x'),
        3 => drop(voter.groups.insert("none".to_owned())),
        4 => voter.email = Some("other@example.com".to_owned()),
        5 => voter.kind = PersonKind::Machine,
        6 => vote.ballot.choice = Choice::Deny,
        7 => vote.ballot.reason = Some("because".to_owned()),
        8 => vote.ballot.evidence = Some(String::new()),
        9 => {
            vote.ballot.via = if vote.ballot.via == Via::Cli {
                Via::Console
            } else {
                Via::Cli
            }
        }
        10 => vote.at += TimeDelta::nanoseconds(1),
        11 => vote.at -= TimeDelta::microseconds(1),
        12 => vote.previous.0[0] ^= 1,
        13 => vote.hash.0[31] ^= 128,
        14 => drop(approval.votes.remove(place)),
        15 => approval.votes.push(approval.votes[place].clone()),
        _ => {
            approval.votes.insert(0, approval.votes[count - 1].clone());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_runs_without_its_quorum(terms in any_terms(), steps in any_steps()) {
        let mut approval = Approval::open(new_approval(terms), start()).unwrap();
        let mut now = start();
        for (change, pause) in steps {
            now += TimeDelta::microseconds(pause);
            if let Ok(next) = approval.apply(change, now) {
                check_step(&approval, &next, now)?;
                approval = next;
            }
        }
    }

    #[test]
    fn a_vote_that_was_tampered_with_is_refused(which in 0usize..3, how in 0u8..17) {
        let mut approval = Approval::open(new_approval(terms(3)), start()).unwrap();
        for name in ["bob", "carol", "dan"] {
            let vote = Change::Vote(ballot(person(name, &["dba"]), Choice::Approve));
            approval = approval.apply(vote, at(1)).unwrap();
        }
        let digest = approval.operation.digest;
        prop_assert!(approval.verify(digest, at(2)).is_ok());
        tamper(&mut approval, which, how);
        prop_assert!(approval.verify(digest, at(2)).is_err(), "tampered with in way {how}");
    }
}
