//! Why something was not done, in words for the one who asked. Each protocol's `reply.rs` puts it into its own
//! form; nothing else is worded for clients.

use countersign_infra::domain::id::ApprovalId;

/// What kind of no it is. A protocol maps it to its own codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The policy or an approver said no.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// It was taken back before it ran: policy or groups changed.
    Revoked,
    /// The requester took it back (cancel, hang-up).
    Withdrawn,
    /// The token does not prove who is asking.
    SignIn,
    /// There is no such target, or it may not be named so.
    UnknownTarget,
    /// The client's bytes are not the protocol, or not the part of it that the gateway takes.
    Protocol,
    /// The statement cannot be read by the parser.
    Syntax,
    /// The text is not in the encoding that was agreed on.
    Encoding,
    /// A bound was reached.
    Limit,
    /// No room for another connection.
    TooMany,
    /// The transaction has failed before; only its end can run.
    FailedTransaction,
    /// The target cannot be reached, or was lost.
    Upstream,
    /// The gateway cannot vouch for the operation now (store, recording, journal, clock).
    Unready,
    /// The gateway is stopping, or an operator ended the session.
    Ended,
}

/// A refusal: what happened, why, what to do, and the id under which the rest can be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub cause: Cause,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub approval: Option<ApprovalId>,
    /// The journal knows of it already.
    pub on_record: bool,
}

impl Refusal {
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self {
            cause,
            message: message.into(),
            detail: None,
            hint: None,
            approval: None,
            on_record: false,
        }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn approval(mut self, id: &ApprovalId) -> Self {
        self.approval = Some(id.clone());
        self
    }

    pub fn on_record(mut self) -> Self {
        self.on_record = true;
        self
    }

    /// Says the same no as another refusal, by which the journal may know of it.
    pub fn told_by(mut self, other: &Self) -> Self {
        self.on_record = other.on_record;
        self.approval.clone_from(&other.approval);
        self
    }

    /// The gateway cannot vouch for the operation. What is behind it goes to the log, not to the client.
    pub fn unready(what: &str, source: &dyn std::error::Error) -> Self {
        tracing::error!(what, error = %Chain(source), "an operation is refused: a part that must vouch for it is not available");
        Self::new(
            Cause::Unready,
            format!("countersign: {what} is not available, so nothing was run"),
        )
        .hint("Nothing reached the server. Try again; if it stays so, tell the operator of the gateway.")
    }
}

/// Prints an error with its sources.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
