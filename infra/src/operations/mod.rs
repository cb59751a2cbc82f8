//! Whole operations: what records and events keep only the head and the digest of.
//!
//! The exact bytes of an operation and its whole display text live only here, each operation encrypted on its own
//! under its digest. Who reads one is journaled by the caller. Only what is held is kept: what runs outright stands in
//! the recording of its session.

use crate::domain::access_request::{AccessRequest, Part, Place, Protocol, operation_digest};
use crate::domain::id::Digest;
use crate::domain::identity::PersonKey;
use async_trait::async_trait;
use std::sync::Arc;

mod content;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod disk;
mod envelope;
#[cfg(any(test, feature = "contract"))]
pub mod flaky;
pub mod keys;
mod retry;
pub mod s3;
mod sealing;
#[cfg(test)]
mod tests;

/// The longest display text that is kept, in bytes. What is longer could not be served whole to those who decide.
pub const DISPLAY_BYTES_MAX: usize = 32 << 20;

/// The largest operation that is kept, in bytes: display text and exact parts together.
pub const OPERATION_BYTES_MAX: usize = 256 << 20;

/// All of one operation: the exact bytes, everything else that its digest is over, and what people are shown of it.
#[derive(Clone, PartialEq, Eq)]
pub struct WholeOperation {
    pub protocol: Protocol,
    /// Who asked.
    pub person: PersonKey,
    pub place: Place,
    /// The exact bytes, as they were digested.
    pub parts: Vec<Part>,
    /// The whole display text: masked and escaped. Not part of the digest; bound to it by the encryption.
    pub display: Arc<str>,
}

impl WholeOperation {
    /// Takes the whole operation out of a request. The exact bytes are shared, the display text is copied.
    pub fn of(request: &AccessRequest) -> Self {
        Self {
            protocol: request.operation.protocol,
            person: request.person.key.clone(),
            place: request.place.clone(),
            parts: request.operation.parts.clone(),
            display: Arc::from(request.operation.display.as_str()),
        }
    }

    /// The digest of its content: the same as [`AccessRequest::digest`].
    pub fn digest(&self) -> Digest {
        operation_digest(self.protocol, &self.person, &self.place, &self.parts)
    }
}

/// Why an operation could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    #[error("there is no operation {0}")]
    NotFound(Digest),
    /// What is stored is not what was written.
    #[error("operation {digest} is damaged in the store: {why}")]
    Damaged { digest: Digest, why: String },
    /// It may be whole: only the store with that key can tell.
    #[error("operation {digest} was encrypted with the key {key}, which is not among the keys here")]
    OtherKey { digest: Digest, key: String },
    /// Nobody could be shown all of it.
    #[error("the {what} is {bytes} bytes long, and at most {bytes_max} are kept")]
    TooLarge {
        what: &'static str,
        bytes: u64,
        bytes_max: u64,
    },
    /// The store or the keys could not be reached. Whether it was written is not known: the call may be repeated.
    #[error("the store of operations is unavailable: {source}")]
    Unavailable {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A store of whole operations. Every implementation passes `operations::contract`.
///
/// Every call has a deadline of its own. A dropped call may still have its effect.
#[async_trait]
pub trait OperationStore: Send + Sync + 'static {
    /// Keeps an operation under its digest; `Ok` means durable, and readable with the keys of this store.
    ///
    /// The same operation again is encrypted anew and takes the place of what is there, whatever that is: nothing that
    /// lies there before can make it unreadable, and its term of retention begins anew.
    async fn keep(&self, digest: Digest, operation: &WholeOperation) -> Result<(), OperationError>;

    /// Reads an operation. What is returned has the digest.
    async fn read(&self, digest: Digest) -> Result<WholeOperation, OperationError>;
}
