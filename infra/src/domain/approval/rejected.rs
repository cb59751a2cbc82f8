//! Why a change was not made, or a record not believed, in words for the person who tried.

use crate::domain::Timestamp;
use thiserror::Error;

/// Why a change of an approval was not made. The text speaks to the person who tried.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rejected {
    #[error("already approved by {} at {}", by.join(", "), clock(at))]
    AlreadyApproved { by: Vec<String>, at: Timestamp },
    #[error("too late: denied by {by} at {}", clock(at))]
    AlreadyDenied { by: String, at: Timestamp },
    #[error("too late: it expired at {}", clock(at))]
    AlreadyExpired { at: Timestamp },
    #[error("too late: withdrawn at {} ({why})", clock(at))]
    AlreadyWithdrawn { at: Timestamp, why: String },
    #[error("too late: abandoned at {} ({why})", clock(at))]
    AlreadyAbandoned { at: Timestamp, why: String },
    #[error("too late: revoked at {} ({why})", clock(at))]
    AlreadyRevoked { at: Timestamp, why: String },
    #[error("too late: it was sent at {}", clock(at))]
    AlreadySent { at: Timestamp },
    #[error("too late: it was sent, and answered at {}", clock(at))]
    AlreadyDone { at: Timestamp },
    #[error("too late: it was sent, its outcome is not known since {} ({why})", clock(at))]
    OutcomeUnknown { at: Timestamp, why: String },
    #[error("you asked for this yourself: somebody else has to decide")]
    OwnRequest,
    #[error("your e-mail address is the requester's: nobody decides on their own request through a second account")]
    OwnSecondAccount,
    #[error("a program cannot vote: a person has to decide")]
    Machine,
    #[error("you are in none of the groups that may decide: {}", groups.join(", "))]
    NotAnApprover { groups: Vec<String> },
    #[error("the rules that hold it grant nothing beyond it: approve it alone")]
    NothingGranted,
    #[error("you have voted already, at {}", clock(at))]
    VotedAlready { at: Timestamp },
    #[error("too late: the deadline was {}", clock(deadline))]
    DeadlinePassed { deadline: Timestamp },
    #[error("too late: the deadline is less than 2 s away ({})", clock(deadline))]
    DeadlineNear { deadline: Timestamp },
    #[error("too long: {what} may have {max} bytes")]
    TooLong { what: &'static str, max: usize },
    #[error("this approval has {max} votes: no more are counted")]
    TooManyVotes { max: usize },
    #[error("too large: the record would have {bytes} bytes, and at most {max} are taken here")]
    TooLarge { bytes: usize, max: usize },
    #[error("not expired: the deadline is {}", clock(deadline))]
    NotExpired { deadline: Timestamp },
    #[error("not approved yet: {quorum}")]
    NotApproved { quorum: String },
    #[error("nothing was sent: the approval is {state}")]
    NotSent { state: &'static str },
    #[error("approved, but not sent before its deadline ({}): ask again", clock(deadline))]
    ApprovalStale { deadline: Timestamp },
    #[error("another gateway holds this operation: {holder}")]
    NotHolder { holder: String },
    #[error("the lease of {holder} ended at {}: renew it first", clock(until))]
    LeaseEnded { holder: String, until: Timestamp },
    #[error("gateway {holder} holds it until {}", clock(until))]
    LeaseHeld { holder: String, until: Timestamp },
    #[error("these terms cannot be met: {why}")]
    ImpossibleTerms { why: String },
    #[error("the record cannot be trusted: {0}")]
    Invalid(#[from] Invalid),
}

/// Why a record that says "approved" is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    #[error("the approval is {state}, not approved")]
    NotApproved { state: &'static str },
    #[error("what was approved is not what would run")]
    OtherOperation,
    #[error("its terms, requester or deadline are not those it was opened with")]
    Rewritten,
    #[error("vote {number} is not the one that was given")]
    BrokenVotes { number: usize },
    #[error("{by} voted outside the time of the approval")]
    VoteOutsideTime { by: String },
    #[error("the requester is among the voters")]
    OwnVote,
    #[error("{by} is a program, and voted")]
    MachineVote { by: String },
    #[error("{by} voted, and is in none of the groups that may decide")]
    ForeignVote { by: String },
    #[error("{by} denied it")]
    DenialAmongVotes { by: String },
    #[error("it has no terms: nobody was asked")]
    NoTerms,
    #[error("rule {rule} asks for {quorum} people, {counted} approved")]
    QuorumUnmet { rule: String, quorum: u32, counted: usize },
    #[error("no vote was given in the console or on the command line, and the rule asks for one")]
    CriticalUnmet,
    #[error("it was approved, but its deadline ({}) is too long ago", clock(deadline))]
    Stale { deadline: Timestamp },
}

fn clock(at: &Timestamp) -> impl std::fmt::Display {
    at.format("%Y-%m-%d %H:%M:%S UTC")
}
