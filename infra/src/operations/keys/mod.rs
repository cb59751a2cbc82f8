//! Where the data keys of operations come from: one for each object, wrapped by a key that stays at its source.

use crate::domain::id::Digest;
use crate::operations::OperationError;
use async_trait::async_trait;
use zeroize::Zeroizing;

mod file;
mod kms;

pub use file::{FileKeys, KeyFileError};
pub use kms::KmsKeys;

/// A key that encrypts one object. Its memory is wiped when it is dropped.
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    pub(super) fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Which kind of source can open a wrapped key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The AWS Key Management Service.
    Kms,
    /// A key file.
    File,
}

impl KeyOrigin {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Kms => 1,
            Self::File => 2,
        }
    }

    pub(super) fn of(code: u8) -> Option<Self> {
        [Self::Kms, Self::File].into_iter().find(|origin| origin.code() == code)
    }
}

/// A data key as it may be stored beside what it encrypts: only its source can make the key of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    pub origin: KeyOrigin,
    /// The key that wraps it, for those who must find it. It is never trusted: a source opens with its own keys alone.
    pub id: String,
    pub bytes: Vec<u8>,
}

/// Why there is no data key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("it was encrypted with the key {0}, which is not among the keys here")]
    Unknown(String),
    #[error("its key cannot be opened: {0}")]
    Refused(String),
    #[error("{source}")]
    Unavailable {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl KeyError {
    /// What the error means for the operation that the key is of.
    pub(super) fn of_operation(self, digest: Digest) -> OperationError {
        match self {
            Self::Unavailable { source } => OperationError::Unavailable { source },
            Self::Unknown(key) => OperationError::OtherKey { digest, key },
            error @ Self::Refused(_) => OperationError::Damaged {
                digest,
                why: error.to_string(),
            },
        }
    }
}

/// A source of data keys. Every call has a deadline of its own, and repeats by itself what may be repeated.
#[async_trait]
pub trait KeySource: Send + Sync + 'static {
    /// Makes a data key for the object of one operation.
    async fn make(&self, digest: Digest) -> Result<(DataKey, WrappedKey), KeyError>;

    /// Opens the wrapped data key of the object of one operation: what was made for another digest does not open, or
    /// opens to a key that decrypts nothing.
    async fn open(&self, digest: Digest, wrapped: &WrappedKey) -> Result<DataKey, KeyError>;
}
