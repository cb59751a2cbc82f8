//! Votes: who may give one, how they are chained, and how they are counted.

use super::change::delta;
use super::{
    Approval, Ballot, Choice, Clause, EVIDENCE_BYTES_MAX, Invalid, REASON_BYTES_MAX, Rejected, State, VOTE_MARGIN,
    VOTES_MAX, Via, Vote,
};
use crate::domain::Timestamp;
use crate::domain::id::{ApprovalId, Digest, DigestBuilder};
use crate::domain::identity::{Person, PersonKind};

impl Via {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Cli => "cli",
            Self::Slack => "slack",
            Self::Discord => "discord",
        }
    }

    /// Whether the vote reached the gateway itself, and not through a chat.
    pub fn is_direct(self) -> bool {
        match self {
            Self::Console | Self::Cli => true,
            Self::Slack | Self::Discord => false,
        }
    }
}

impl Choice {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Deny => "deny",
        }
    }
}

impl Approval {
    /// Whether a person may decide here at all: not the requester (nor a second account with the requester's
    /// verified e-mail address), not a program, and in one of the groups. Says nothing of time and state.
    pub fn may_vote(&self, person: &Person) -> Result<(), Rejected> {
        if person.key == self.requester.key {
            return Err(Rejected::OwnRequest);
        }
        if same_person(person, &self.requester) {
            return Err(Rejected::OwnSecondAccount);
        }
        match person.kind {
            PersonKind::Human => {}
            PersonKind::Machine => return Err(Rejected::Machine),
        }
        if self.terms.clauses.iter().any(|clause| clause.is_met_by(person)) {
            return Ok(());
        }
        Err(Rejected::NotAnApprover {
            groups: self.deciding_groups(),
        })
    }

    /// Says in words how far it is: `1 of 2: bob`, and each clause by its groups where there are several.
    pub fn quorum_state(&self) -> String {
        let several = self.terms.clauses.len() > 1;
        let words = self.terms.clauses.iter().map(|clause| {
            let names: Vec<&str> = self.counted(clause).iter().map(|person| person.name.as_str()).collect();
            let mut words = format!("{} of {}", names.len(), clause.quorum);
            if several {
                words = format!("{words} from {}", clause.approvers.join(" or "));
            }
            if !names.is_empty() {
                words = format!("{words}: {}", names.join(", "));
            }
            words
        });
        let mut words = words.collect::<Vec<_>>().join("; ");
        if self.terms.critical && !self.has_direct_approval() {
            words.push_str("; one of them in the console or on the command line");
        }
        words
    }

    /// Whether this ballot may be cast at this moment.
    pub(super) fn check_ballot(&self, ballot: &Ballot, at: Timestamp) -> Result<(), Rejected> {
        self.check_votes_are_taken(ballot.choice)?;
        self.may_vote(&ballot.voter)?;
        check_lengths(ballot)?;
        if self.state == State::Pending {
            self.check_time(at)?;
        }
        if ballot.grants && (self.terms.grant_seconds.is_none() || ballot.choice == Choice::Deny) {
            return Err(Rejected::NothingGranted);
        }
        if ballot.choice == Choice::Approve {
            self.check_first_approval(ballot)?;
        }
        // Room for one denial stays, whatever the number of approvals.
        let room = match ballot.choice {
            Choice::Approve => VOTES_MAX - 1,
            Choice::Deny => VOTES_MAX,
        };
        if self.votes.len() >= room {
            return Err(Rejected::TooManyVotes { max: VOTES_MAX });
        }
        Ok(())
    }

    fn check_votes_are_taken(&self, choice: Choice) -> Result<(), Rejected> {
        match (&self.state, choice) {
            (State::Pending, Choice::Approve | Choice::Deny) | (State::Approved { .. }, Choice::Deny) => Ok(()),
            (State::Approved { .. }, Choice::Approve)
            | (
                State::Denied { .. }
                | State::Expired { .. }
                | State::Withdrawn { .. }
                | State::Abandoned { .. }
                | State::Revoked { .. }
                | State::Executing { .. }
                | State::Done { .. }
                | State::Unknown { .. },
                Choice::Approve | Choice::Deny,
            ) => Err(self.taken()),
        }
    }

    fn check_time(&self, at: Timestamp) -> Result<(), Rejected> {
        let deadline = self.deadline;
        if at >= deadline {
            return Err(Rejected::DeadlinePassed { deadline });
        }
        if deadline - at < delta(VOTE_MARGIN) {
            return Err(Rejected::DeadlineNear { deadline });
        }
        Ok(())
    }

    /// One approval a person; a second one only to add the direct vote that critical terms ask for.
    fn check_first_approval(&self, ballot: &Ballot) -> Result<(), Rejected> {
        let earlier = self
            .votes
            .iter()
            .find(|vote| same_person(&vote.ballot.voter, &ballot.voter));
        let adds_direct = self.terms.critical && ballot.via.is_direct() && !self.has_direct_approval();
        match earlier {
            Some(vote) if !adds_direct => Err(Rejected::VotedAlready { at: vote.at }),
            Some(_) | None => Ok(()),
        }
    }

    /// Adds a vote to the chain. Of the voter's groups only those that the terms name are kept.
    pub(super) fn cast(&mut self, mut ballot: Ballot, at: Timestamp) {
        let groups = self.deciding_groups();
        ballot.voter.groups.retain(|group| groups.contains(group));
        let previous = self.votes_head();
        let hash = vote_hash(previous, &ballot, at);
        self.votes.push(Vote {
            ballot,
            at,
            previous,
            hash,
        });
    }

    /// The hash of the last vote; before the first, of the approval's id and digest.
    pub fn votes_head(&self) -> Digest {
        self.votes
            .last()
            .map_or_else(|| chain_start(&self.id, self.operation.digest), |vote| vote.hash)
    }

    /// Counts each clause anew: all bind.
    pub(super) fn count(&self) -> Result<(), Invalid> {
        if self.terms.clauses.is_empty() {
            return Err(Invalid::NoTerms);
        }
        for clause in &self.terms.clauses {
            let counted = self.counted(clause).len();
            if clause.quorum == 0 || counted < clause.quorum as usize {
                return Err(Invalid::QuorumUnmet {
                    rule: clause.rule.clone(),
                    quorum: clause.quorum,
                    counted,
                });
            }
        }
        if self.terms.critical && !self.has_direct_approval() {
            return Err(Invalid::CriticalUnmet);
        }
        Ok(())
    }

    /// The distinct people whose approval counts for a clause.
    pub fn counted(&self, clause: &Clause) -> Vec<&Person> {
        distinct(self.approvals().filter(|person| clause.is_met_by(person)))
    }

    /// The distinct people who approved.
    pub fn approvers(&self) -> Vec<&Person> {
        distinct(self.approvals())
    }

    fn approvals(&self) -> impl Iterator<Item = &Person> {
        let approving = self.votes.iter().filter(|vote| vote.ballot.choice == Choice::Approve);
        approving.map(|vote| &vote.ballot.voter)
    }

    /// Whether enough people approved what is alike too: those alone who said so meet every clause.
    pub fn is_granted(&self) -> bool {
        let granting = || {
            let votes = self.votes.iter().map(|vote| &vote.ballot);
            votes.filter(|ballot| ballot.choice == Choice::Approve && ballot.grants)
        };
        let meets = |clause: &Clause| {
            let people = granting().map(|ballot| &ballot.voter);
            distinct(people.filter(|person| clause.is_met_by(person))).len() >= clause.quorum as usize
        };
        let is_direct = !self.terms.critical || granting().any(|ballot| ballot.via.is_direct());
        self.terms.grant_seconds.is_some() && is_direct && self.terms.clauses.iter().all(meets)
    }

    pub(super) fn approver_names(&self) -> Vec<String> {
        self.approvers().into_iter().map(|person| person.name.clone()).collect()
    }

    fn has_direct_approval(&self) -> bool {
        self.votes
            .iter()
            .any(|vote| vote.ballot.choice == Choice::Approve && vote.ballot.via.is_direct())
    }

    /// Whether it is somebody's business without any right to audit: the requester's, and theirs who may be asked.
    pub fn concerns(&self, person: &Person) -> bool {
        let clauses = &self.terms.clauses;
        person.key == self.requester.key || clauses.iter().any(|clause| clause.is_met_by(person))
    }

    /// Every group that a clause names, each once.
    pub fn deciding_groups(&self) -> Vec<String> {
        let mut groups: Vec<String> = Vec::new();
        for group in self.terms.clauses.iter().flat_map(|clause| &clause.approvers) {
            if !groups.contains(group) {
                groups.push(group.clone());
            }
        }
        groups
    }
}

impl Clause {
    fn is_met_by(&self, person: &Person) -> bool {
        self.approvers.iter().any(|group| person.groups.contains(group))
    }
}

/// Whether two accounts are one person: the same key, or the same verified e-mail address.
pub(super) fn same_person(a: &Person, b: &Person) -> bool {
    let same_address = match (&a.email, &b.email) {
        (Some(a), Some(b)) => a.trim().to_lowercase() == b.trim().to_lowercase(),
        (Some(_) | None, None) | (None, Some(_)) => false,
    };
    a.key == b.key || same_address
}

fn distinct<'a>(people: impl Iterator<Item = &'a Person>) -> Vec<&'a Person> {
    people.fold(Vec::new(), |mut seen: Vec<&Person>, person| {
        if !seen.iter().any(|other| same_person(other, person)) {
            seen.push(person);
        }
        seen
    })
}

fn check_lengths(ballot: &Ballot) -> Result<(), Rejected> {
    let check = |text: &Option<String>, what, max| match text {
        Some(text) if text.len() > max => Err(Rejected::TooLong { what, max }),
        Some(_) | None => Ok(()),
    };
    check(&ballot.reason, "the reason", REASON_BYTES_MAX)?;
    check(&ballot.evidence, "the evidence", EVIDENCE_BYTES_MAX)
}

/// What the first vote of an approval is chained to.
pub(super) fn chain_start(id: &ApprovalId, operation: Digest) -> Digest {
    let mut digest = DigestBuilder::default();
    digest
        .part("countersign", b"votes/1")
        .part("approval", id.as_str().as_bytes())
        .part("operation", &operation.0);
    digest.finish()
}

/// The hash of a vote: every field of it, and the hash of the vote before.
pub(super) fn vote_hash(previous: Digest, ballot: &Ballot, at: Timestamp) -> Digest {
    let voter = &ballot.voter;
    let kind: &[u8] = match voter.kind {
        PersonKind::Human => b"human",
        PersonKind::Machine => b"machine",
    };
    let mut digest = DigestBuilder::default();
    digest
        .part("countersign", b"vote/1")
        .part("previous", &previous.0)
        .part("issuer", voter.key.issuer.as_bytes())
        .part("subject", voter.key.subject.as_bytes())
        .part("name", voter.name.as_bytes())
        .part("kind", kind);
    if let Some(email) = &voter.email {
        digest.part("email", email.as_bytes());
    }
    for group in &voter.groups {
        digest.part("group", group.as_bytes());
    }
    digest
        .part("choice", ballot.choice.as_str().as_bytes())
        .part("via", ballot.via.as_str().as_bytes());
    if let Some(reason) = &ballot.reason {
        digest.part("reason", reason.as_bytes());
    }
    if let Some(evidence) = &ballot.evidence {
        digest.part("evidence", evidence.as_bytes());
    }
    if ballot.grants {
        digest.part("grants", b"true");
    }
    digest.part("at", &at.timestamp_micros().to_be_bytes());
    digest.finish()
}
