//! The replies that a server owes.

use super::names::{Name, Portal, PreparedStatement, Step};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// An operation that was forwarded and whose end is awaited.
#[derive(Debug)]
pub struct Running<T> {
    pub ticket: T,
    pub started: std::time::Instant,
}

/// A reply that the server owes.
#[derive(Debug)]
pub enum Expected<T> {
    Parse {
        name: Name,
        prepared: Arc<PreparedStatement>,
    },
    Bind {
        name: Name,
        portal: Portal,
    },
    DescribeStatement {
        name: Name,
    },
    DescribePortal,
    Execute {
        step: Step,
    },
    Close {
        kind: u8,
        name: Name,
    },
    Sync,
    Query {
        steps: VecDeque<Step>,
    },
    FunctionCall,
    /// Not a reply: the operation that the entries before it belong to is at its end.
    End(Running<T>),
    /// Answers to the gateway's own messages: the client does not see them.
    Own(Own),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Own {
    Parse,
    Bind,
    /// Its row is kept for the gateway.
    Execute,
    Close,
    Sync,
    /// A statement that must fail; the client is told this instead of the server's error.
    Fail(Bytes),
}
