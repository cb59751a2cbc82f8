//! Operations into envelopes and back, with the keys of a store.

use super::envelope::{self, Envelope};
use super::keys::KeySource;
use super::{OperationError, WholeOperation, content};
use crate::domain::id::Digest;
use std::sync::Arc;

/// Smaller operations are encrypted where they are: handing them to another thread costs more.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// Seals and opens with one source of keys.
#[derive(Clone)]
pub struct Sealing {
    keys: Arc<dyn KeySource>,
}

impl Sealing {
    pub fn new(keys: Arc<dyn KeySource>) -> Self {
        Self { keys }
    }

    /// Seals an operation, which must have the digest.
    pub async fn seal(&self, digest: Digest, operation: &WholeOperation) -> Result<Vec<u8>, OperationError> {
        let bytes = content::measure(operation)?;
        if operation.digest() != digest {
            let why = "what was to be kept does not have this digest".to_owned();
            return Err(OperationError::Damaged { digest, why });
        }
        let (key, wrapped) = self
            .keys
            .make(digest)
            .await
            .map_err(|error| error.of_operation(digest))?;
        if bytes <= INLINE_BYTES_MAX {
            return envelope::seal(digest, operation, &key, &wrapped);
        }
        let operation = operation.clone();
        blocking(move || envelope::seal(digest, &operation, &key, &wrapped)).await
    }

    /// Opens what lies under a digest.
    pub async fn open(&self, digest: Digest, bytes: Vec<u8>) -> Result<WholeOperation, OperationError> {
        let damaged = move |why: &str| OperationError::Damaged {
            digest,
            why: why.to_owned(),
        };
        let envelope = Envelope::parse(bytes).map_err(damaged)?;
        let key = self
            .keys
            .open(digest, envelope.wrapped())
            .await
            .map_err(|error| error.of_operation(digest))?;
        if envelope.content_bytes() <= INLINE_BYTES_MAX {
            return envelope.open(digest, &key).map_err(damaged);
        }
        blocking(move || envelope.open(digest, &key).map_err(damaged)).await
    }
}

/// Runs work off the async threads.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OperationError> + Send + 'static,
) -> Result<T, OperationError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(OperationError::Unavailable {
            source: Box::new(error),
        }),
    }
}
