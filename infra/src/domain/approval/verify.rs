//! The second look: the gateway believes no record before it has counted for itself.

use super::vote::{same_person, vote_hash};
use super::{Approval, Choice, Invalid, State, Vote};
use crate::domain::Timestamp;
use crate::domain::id::Digest;
use crate::domain::identity::{Person, PersonKind};
use chrono::SubsecRound;

/// What the gateway found for itself: these distinct people approved exactly this operation, in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub approvers: Vec<Person>,
    /// The hash of the last vote, for the journal.
    pub votes_head: Digest,
}

impl Approval {
    /// Checks an approved record as if nobody had before: the operation's digest, the chain of votes, each voter,
    /// each vote's time, every clause, and that it is not too late to send.
    pub fn verify(&self, digest: Digest, now: Timestamp) -> Result<Decision, Invalid> {
        if !matches!(self.state, State::Approved { .. }) {
            return Err(Invalid::NotApproved {
                state: self.state.as_str(),
            });
        }
        if digest != self.operation.digest {
            return Err(Invalid::OtherOperation);
        }
        self.check_chain()?;
        for vote in &self.votes {
            self.check_vote(vote)?;
        }
        self.count()?;
        if now >= self.execute_until() {
            return Err(Invalid::Stale {
                deadline: self.deadline,
            });
        }
        Ok(Decision {
            approvers: self.approvers().into_iter().cloned().collect(),
            votes_head: self.votes_head(),
        })
    }

    /// Checks that this record, read back, is a later version of the one that was opened: what is written once
    /// (requester, place, operation, terms, times, holder) is unchanged.
    pub fn continues(&self, opened: &Self) -> Result<(), Invalid> {
        let later = Self {
            version: self.version,
            state: self.state.clone(),
            votes: self.votes.clone(),
            lease: super::Lease {
                until: self.lease.until,
                ..opened.lease.clone()
            },
            ..opened.clone()
        };
        if *self == later && self.version >= opened.version {
            Ok(())
        } else {
            Err(Invalid::Rewritten)
        }
    }

    fn check_chain(&self) -> Result<(), Invalid> {
        let mut previous = super::vote::chain_start(&self.id, self.operation.digest);
        for (index, vote) in self.votes.iter().enumerate() {
            if vote.previous != previous || vote.hash != vote_hash(previous, &vote.ballot, vote.at) {
                return Err(Invalid::BrokenVotes { number: index + 1 });
            }
            // The hash counts microseconds: what is finer was not written by us.
            if vote.at != vote.at.trunc_subsecs(6) {
                return Err(Invalid::BrokenVotes { number: index + 1 });
            }
            previous = vote.hash;
        }
        Ok(())
    }

    fn check_vote(&self, vote: &Vote) -> Result<(), Invalid> {
        let voter = &vote.ballot.voter;
        let by = || voter.name.clone();
        if same_person(voter, &self.requester) {
            return Err(Invalid::OwnVote);
        }
        match voter.kind {
            PersonKind::Human => {}
            PersonKind::Machine => return Err(Invalid::MachineVote { by: by() }),
        }
        match vote.ballot.choice {
            Choice::Approve => {}
            Choice::Deny => return Err(Invalid::DenialAmongVotes { by: by() }),
        }
        if self.may_vote(voter).is_err() {
            return Err(Invalid::ForeignVote { by: by() });
        }
        if vote.at < self.created || vote.at >= self.deadline {
            return Err(Invalid::VoteOutsideTime { by: by() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::Timestamp;
    use crate::domain::approval::{Approval, Ballot, Change, Choice, Invalid, State, Terms, Via};
    use crate::domain::example::{EPOCH, alice, at, ballot, bob, pending, person, terms};
    use crate::domain::id::Digest;
    use crate::domain::identity::{Person, PersonKind};

    /// A record with these votes, chained as they should be, that says it is approved.
    fn forged(with: Terms, votes: &[(Ballot, Timestamp)]) -> Approval {
        let mut approval = Approval {
            terms: with,
            ..pending(terms(1))
        };
        for (ballot, at) in votes {
            approval.cast(ballot.clone(), *at);
        }
        Approval {
            state: State::Approved { at: at(9) },
            ..approval
        }
    }

    #[test]
    fn a_record_that_only_says_it_is_approved_is_not_believed() {
        let yes = |voter: Person| ballot(voter, Choice::Approve);
        let second_account = Person {
            email: alice().email,
            ..bob()
        };
        let twin = Person {
            email: bob().email,
            ..person("robert", &["dba"])
        };
        let machine = Person {
            kind: PersonKind::Machine,
            ..person("robot", &["dba"])
        };
        let chat = Ballot {
            via: Via::Slack,
            ..yes(bob())
        };
        let critical = Terms {
            critical: true,
            ..terms(1)
        };
        let none = Terms {
            clauses: vec![],
            ..terms(1)
        };
        let requester = Person {
            groups: bob().groups,
            ..alice()
        };
        let unmet = |quorum, counted| Invalid::QuorumUnmet {
            rule: "writes-need-a-dba".to_owned(),
            quorum,
            counted,
        };
        let outside = || Invalid::VoteOutsideTime { by: "bob".to_owned() };
        let ok = (yes(bob()), at(1));
        let executing = Approval {
            state: State::Executing { at: at(2) },
            ..forged(terms(1), std::slice::from_ref(&ok))
        };
        let cases = [
            (forged(terms(1), &[]), unmet(1, 0)),
            (forged(terms(2), std::slice::from_ref(&ok)), unmet(2, 1)),
            (forged(terms(2), &[ok.clone(), ok.clone()]), unmet(2, 1)),
            (forged(terms(2), &[ok.clone(), (yes(twin), at(2))]), unmet(2, 1)),
            (forged(terms(1), &[(yes(requester), at(1))]), Invalid::OwnVote),
            (forged(terms(1), &[(yes(second_account), at(1))]), Invalid::OwnVote),
            (
                forged(terms(1), &[(yes(machine), at(1))]),
                Invalid::MachineVote { by: "robot".to_owned() },
            ),
            (
                forged(terms(1), &[ok.clone(), (yes(person("eve", &["x"])), at(1))]),
                Invalid::ForeignVote { by: "eve".to_owned() },
            ),
            (forged(terms(1), &[(yes(bob()), at(-1))]), outside()),
            (forged(terms(1), &[(yes(bob()), at(600))]), outside()),
            (
                forged(
                    terms(1),
                    &[ok.clone(), (ballot(person("dan", &["dba"]), Choice::Deny), at(2))],
                ),
                Invalid::DenialAmongVotes { by: "dan".to_owned() },
            ),
            (forged(critical, &[(chat, at(1))]), Invalid::CriticalUnmet),
            (forged(none, &[]), Invalid::NoTerms),
            (pending(terms(1)), Invalid::NotApproved { state: "pending" }),
            (executing, Invalid::NotApproved { state: "executing" }),
        ];
        for (approval, expected) in cases {
            assert_eq!(approval.verify(approval.operation.digest, at(10)), Err(expected));
        }
        let honest = forged(terms(1), &[ok]);
        assert!(honest.verify(honest.operation.digest, at(10)).is_ok());
    }

    #[test]
    fn what_would_run_must_be_what_was_approved() {
        let approval = forged(terms(1), &[(ballot(bob(), Choice::Approve), at(1))]);
        assert_eq!(
            approval.verify(Digest::of(b"DELETE FROM orders"), at(6)),
            Err(Invalid::OtherOperation)
        );
    }

    #[test]
    fn a_record_that_was_rewritten_does_not_continue_what_was_opened() {
        let opened = pending(terms(2));
        let voted = opened
            .apply(Change::Vote(ballot(bob(), Choice::Approve)), at(1))
            .unwrap();
        let renewed = voted
            .apply(
                Change::Renew {
                    epoch: EPOCH,
                    until: at(60),
                },
                at(2),
            )
            .unwrap();
        assert_eq!(renewed.continues(&opened), Ok(()));
        let easier = Approval {
            terms: terms(1),
            ..renewed.clone()
        };
        let later = Approval {
            deadline: at(9999),
            ..renewed.clone()
        };
        let other = Approval {
            requester: bob(),
            ..renewed.clone()
        };
        for rewritten in [easier, later, other] {
            assert_eq!(rewritten.continues(&opened), Err(Invalid::Rewritten));
        }
    }
}
