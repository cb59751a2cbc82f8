//! The state machine: which change may follow which state.

use super::{
    Approval, Ballot, Choice, END_BYTES, END_TEXT_BYTES_MAX, EXECUTE_MARGIN, HeldOperation, Invalid, LEASE_MARGIN,
    Lease, OPENED_BYTES_MAX, Outcome, RECORD_BYTES_MAX, Rejected, State, Terms,
};
use crate::domain::Timestamp;
use crate::domain::access_request::{Client, Place};
use crate::domain::id::{ApprovalId, SessionId};
use crate::domain::identity::Person;
use chrono::{SubsecRound, TimeDelta};

/// What an approval is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApproval {
    pub id: ApprovalId,
    pub requester: Person,
    pub client: Client,
    pub session: SessionId,
    pub place: Place,
    pub operation: HeldOperation,
    pub terms: Terms,
    pub lease: Lease,
}

/// One change of an approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A person approves or denies.
    Vote(Ballot),
    /// The holder says that the deadline passed, by its own clock: it alone judges that.
    Expire,
    /// The requester or their client gave up.
    Withdraw { why: String },
    /// The holder gives up before anything was sent (its upstream is gone, it shuts down).
    Abandon { why: String },
    /// Policy or groups changed: what was asked is no longer to be had this way.
    Revoke { why: String },
    /// The holder is about to send. Written before the first byte leaves.
    Execute { epoch: u64 },
    /// The holder lives on.
    Renew { epoch: u64, until: Timestamp },
    /// The server has answered.
    Finish { epoch: u64, outcome: Outcome },
    /// The holder sent, and lost its server before the answer.
    LoseOutcome { epoch: u64, why: String },
    /// Somebody found the lease to have ended: what was not sent is abandoned, what was sent is unknown.
    LeaseLost,
}

impl Approval {
    /// Opens an approval: pending, version 1, without votes. Times are kept to the microsecond.
    ///
    /// Refuses terms that nobody could meet or that anything would meet: no clause, a clause without groups or
    /// with a quorum of 0 or above [`super::VOTES_MAX`], no time to vote in. Refuses more than [`OPENED_BYTES_MAX`].
    pub fn open(new: NewApproval, now: Timestamp) -> Result<Self, Rejected> {
        let created = now.trunc_subsecs(6);
        let deadline = deadline(&new.terms, created)?;
        check_terms(&new.terms)?;
        let opened = Self {
            id: new.id,
            version: 1,
            state: State::Pending,
            requester: new.requester,
            client: new.client,
            session: new.session,
            place: new.place,
            operation: new.operation,
            terms: new.terms,
            created,
            deadline,
            votes: Vec::new(),
            lease: Lease {
                until: new.lease.until.trunc_subsecs(6),
                ..new.lease
            },
        };
        check_size(&opened, OPENED_BYTES_MAX)?;
        Ok(opened)
    }

    /// Makes the next version of the record, or says why the change may not be made now.
    pub fn apply(&self, change: Change, now: Timestamp) -> Result<Self, Rejected> {
        let at = now.trunc_subsecs(6);
        let mut next = self.clone();
        next.version = self.version.saturating_add(1);
        match change.cut() {
            Change::Vote(ballot) => next.vote(ballot, at)?,
            Change::Expire => next.state = self.expire(at)?,
            Change::Withdraw { why } => next.state = self.not_sent(State::Withdrawn { at, why })?,
            Change::Abandon { why } => next.state = self.not_sent(State::Abandoned { at, why })?,
            Change::Revoke { why } => next.state = self.not_sent(State::Revoked { at, why })?,
            Change::Execute { epoch } => next.state = self.execute(epoch, at)?,
            Change::Renew { epoch, until } => next.lease.until = self.renew(epoch, until)?,
            Change::Finish { epoch, outcome } => next.state = self.answered(epoch, State::Done { at, outcome })?,
            Change::LoseOutcome { epoch, why } => next.state = self.answered(epoch, State::Unknown { at, why })?,
            Change::LeaseLost => next.state = self.lease_lost(at)?,
        }
        Ok(next)
    }

    /// Whether it waits for votes.
    pub fn is_open(&self) -> bool {
        self.state == State::Pending
    }

    /// Moves on with one more vote. `at` is never before the approval or the vote before it: clocks differ.
    fn vote(&mut self, ballot: Ballot, at: Timestamp) -> Result<(), Rejected> {
        let at = self.votes.last().map_or(self.created, |vote| vote.at).max(at);
        self.check_ballot(&ballot, at)?;
        let (voter, choice, reason) = (ballot.voter.clone(), ballot.choice, ballot.reason.clone());
        self.cast(ballot, at);
        let room = match choice {
            Choice::Approve => RECORD_BYTES_MAX - END_BYTES,
            Choice::Deny => RECORD_BYTES_MAX,
        };
        match choice {
            Choice::Deny => self.state = State::Denied { at, by: voter, reason },
            Choice::Approve if self.count().is_ok() => self.state = State::Approved { at },
            Choice::Approve => {}
        }
        check_size(self, room)
    }

    fn expire(&self, at: Timestamp) -> Result<State, Rejected> {
        let expired = self.not_sent(State::Expired { at })?;
        let due = match self.state {
            State::Approved { .. } => self.execute_until(),
            State::Pending
            | State::Denied { .. }
            | State::Expired { .. }
            | State::Withdrawn { .. }
            | State::Abandoned { .. }
            | State::Revoked { .. }
            | State::Executing { .. }
            | State::Done { .. }
            | State::Unknown { .. } => self.deadline,
        };
        if at < due {
            return Err(Rejected::NotExpired {
                deadline: self.deadline,
            });
        }
        Ok(expired)
    }

    /// The moment from which an approved operation may no longer be sent.
    pub(super) fn execute_until(&self) -> Timestamp {
        self.deadline
            .checked_add_signed(delta(EXECUTE_MARGIN))
            .unwrap_or(self.deadline)
    }

    /// Ends what was not sent yet.
    fn not_sent(&self, end: State) -> Result<State, Rejected> {
        match self.state {
            State::Pending | State::Approved { .. } => Ok(end),
            State::Denied { .. }
            | State::Expired { .. }
            | State::Withdrawn { .. }
            | State::Abandoned { .. }
            | State::Revoked { .. }
            | State::Executing { .. }
            | State::Done { .. }
            | State::Unknown { .. } => Err(self.taken()),
        }
    }

    fn execute(&self, epoch: u64, at: Timestamp) -> Result<State, Rejected> {
        match self.state {
            State::Approved { .. } => {}
            State::Pending => {
                return Err(Rejected::NotApproved {
                    quorum: self.quorum_state(),
                });
            }
            State::Denied { .. }
            | State::Expired { .. }
            | State::Withdrawn { .. }
            | State::Abandoned { .. }
            | State::Revoked { .. }
            | State::Executing { .. }
            | State::Done { .. }
            | State::Unknown { .. } => return Err(self.taken()),
        }
        self.check_holder(epoch)?;
        if at > self.lease.until {
            return Err(Rejected::LeaseEnded {
                holder: self.lease.gateway.clone(),
                until: self.lease.until,
            });
        }
        match self.verify(self.operation.digest, at) {
            Ok(_) => Ok(State::Executing { at }),
            Err(Invalid::Stale { deadline }) => Err(Rejected::ApprovalStale { deadline }),
            Err(invalid) => Err(invalid.into()),
        }
    }

    fn renew(&self, epoch: u64, until: Timestamp) -> Result<Timestamp, Rejected> {
        if self.state.is_terminal() {
            return Err(self.taken());
        }
        self.check_holder(epoch)?;
        Ok(until.trunc_subsecs(6).max(self.lease.until))
    }

    fn answered(&self, epoch: u64, end: State) -> Result<State, Rejected> {
        match self.state {
            State::Executing { .. } => self.check_holder(epoch).map(|()| end),
            State::Pending | State::Approved { .. } => Err(Rejected::NotSent {
                state: self.state.as_str(),
            }),
            State::Denied { .. }
            | State::Expired { .. }
            | State::Withdrawn { .. }
            | State::Abandoned { .. }
            | State::Revoked { .. }
            | State::Done { .. }
            | State::Unknown { .. } => Err(self.taken()),
        }
    }

    fn lease_lost(&self, at: Timestamp) -> Result<State, Rejected> {
        let why = format!("gateway {} is gone", self.lease.gateway);
        let end = match self.state {
            State::Executing { .. } => State::Unknown { at, why },
            State::Pending | State::Approved { .. } => State::Abandoned { at, why },
            State::Denied { .. }
            | State::Expired { .. }
            | State::Withdrawn { .. }
            | State::Abandoned { .. }
            | State::Revoked { .. }
            | State::Done { .. }
            | State::Unknown { .. } => return Err(self.taken()),
        };
        let lost = self
            .lease
            .until
            .checked_add_signed(delta(LEASE_MARGIN))
            .unwrap_or(self.lease.until);
        if at < lost {
            return Err(Rejected::LeaseHeld {
                holder: self.lease.gateway.clone(),
                until: self.lease.until,
            });
        }
        Ok(end)
    }

    fn check_holder(&self, epoch: u64) -> Result<(), Rejected> {
        if epoch == self.lease.epoch {
            Ok(())
        } else {
            Err(Rejected::NotHolder {
                holder: self.lease.gateway.clone(),
            })
        }
    }

    /// Says who was first, to whoever comes second.
    pub(super) fn taken(&self) -> Rejected {
        match &self.state {
            State::Pending => Rejected::NotApproved {
                quorum: self.quorum_state(),
            },
            State::Approved { at } => Rejected::AlreadyApproved {
                by: self.approver_names(),
                at: *at,
            },
            State::Denied { at, by, .. } => Rejected::AlreadyDenied {
                by: by.name.clone(),
                at: *at,
            },
            State::Expired { at } => Rejected::AlreadyExpired { at: *at },
            State::Withdrawn { at, why } => Rejected::AlreadyWithdrawn {
                at: *at,
                why: why.clone(),
            },
            State::Abandoned { at, why } => Rejected::AlreadyAbandoned {
                at: *at,
                why: why.clone(),
            },
            State::Revoked { at, why } => Rejected::AlreadyRevoked {
                at: *at,
                why: why.clone(),
            },
            State::Executing { at } => Rejected::AlreadySent { at: *at },
            State::Done { at, .. } => Rejected::AlreadyDone { at: *at },
            State::Unknown { at, why } => Rejected::OutcomeUnknown {
                at: *at,
                why: why.clone(),
            },
        }
    }
}

impl Change {
    /// Cuts the texts that end a record: no end fails for its length.
    fn cut(mut self) -> Self {
        let text = match &mut self {
            Self::Withdraw { why } | Self::Abandon { why } | Self::Revoke { why } | Self::LoseOutcome { why, .. } => {
                why
            }
            Self::Finish { outcome, .. } => &mut outcome.summary,
            Self::Vote(_) | Self::Expire | Self::Execute { .. } | Self::Renew { .. } | Self::LeaseLost => return self,
        };
        text.truncate(text.floor_char_boundary(END_TEXT_BYTES_MAX));
        self
    }
}

fn check_size(record: &Approval, max: usize) -> Result<(), Rejected> {
    let bytes = record.size_bytes();
    if bytes > max {
        return Err(Rejected::TooLarge { bytes, max });
    }
    Ok(())
}

fn deadline(terms: &Terms, created: Timestamp) -> Result<Timestamp, Rejected> {
    let wait = i64::try_from(terms.expires_seconds)
        .ok()
        .and_then(TimeDelta::try_seconds);
    wait.and_then(|wait| created.checked_add_signed(wait))
        .ok_or_else(|| impossible(format!("they wait for {} s", terms.expires_seconds)))
}

fn check_terms(terms: &Terms) -> Result<(), Rejected> {
    if terms.expires_seconds <= super::VOTE_MARGIN.as_secs() {
        return Err(impossible(format!(
            "no vote can be given within {} s",
            terms.expires_seconds
        )));
    }
    if terms.clauses.is_empty() {
        return Err(impossible("no rule says who decides".to_owned()));
    }
    for clause in &terms.clauses {
        if clause.approvers.is_empty() {
            return Err(impossible(format!("rule {} names no group that decides", clause.rule)));
        }
        if clause.quorum == 0 || clause.quorum as usize > super::VOTES_MAX {
            return Err(impossible(format!(
                "rule {} asks for {} people",
                clause.rule, clause.quorum
            )));
        }
    }
    Ok(())
}

fn impossible(why: String) -> Rejected {
    Rejected::ImpossibleTerms { why }
}

pub(super) fn delta(duration: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
