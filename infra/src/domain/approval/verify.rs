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
