//! Whole operations: what records and events keep only the head and the digest of.
//!
//! The exact bytes of an operation and its whole display text live only here, each operation encrypted on its own
//! under its digest. Who reads one is journaled by the caller.

use crate::domain::access_request::Part;
use crate::domain::id::Digest;
use async_trait::async_trait;

/// All of one operation.
#[derive(Clone, PartialEq, Eq)]
pub struct WholeOperation {
    /// The whole display text: masked and escaped.
    pub display: String,
    /// The exact bytes, as they were digested.
    pub parts: Vec<Part>,
}

/// Why an operation could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    #[error("there is no operation {0}")]
    NotFound(Digest),
    /// What is stored is not what was written, or was written with another key.
    #[error("operation {digest} is damaged in the store: {why}")]
    Damaged { digest: Digest, why: String },
    /// The store or the keys could not be reached. Whether it was written is not known: the call may be repeated.
    #[error("the store of operations is unavailable: {source}")]
    Unavailable {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A store of whole operations. Every implementation passes `operations::contract`.
#[async_trait]
pub trait OperationStore: Send + Sync + 'static {
    /// Keeps an operation under its digest; `Ok` means durable. The same operation again is accepted, and may be
    /// encrypted anew.
    async fn keep(&self, digest: Digest, operation: &WholeOperation) -> Result<(), OperationError>;

    /// Reads an operation.
    async fn read(&self, digest: Digest) -> Result<WholeOperation, OperationError>;
}
