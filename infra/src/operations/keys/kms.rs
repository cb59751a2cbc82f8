//! Keys of the AWS Key Management Service.
//!
//! One request makes, and one opens, the data key of an object: a few milliseconds and, in 2026, $0.03 per 10,000
//! requests, for something that people are then asked about. In exchange the service's own log shows every key that
//! was opened, with the operation's digest: it is the encryption context, which also binds the key to that object.
//! <https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html#data-keys>

use super::{DataKey, KeyError, KeyOrigin, KeySource, WrappedKey};
use crate::domain::id::Digest;
use crate::operations::retry::{Failure, patiently};
use async_trait::async_trait;
use aws_sdk_kms::Client;
use aws_sdk_kms::error::ProvideErrorMetadata;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::DataKeySpec;
use std::time::Duration;
use zeroize::{Zeroize, Zeroizing};

/// How long one key may take, with all tries.
const KEY_WAIT_MAX: Duration = Duration::from_secs(8);

/// The name of the operation's digest in the encryption context.
const CONTEXT: &str = "operation";

/// Data keys of one KMS key, and of those that were used before it.
#[derive(Clone, Debug)]
pub struct KmsKeys {
    client: Client,
    key: String,
    /// ARNs of keys that only open.
    before: Vec<String>,
}

impl KmsKeys {
    /// Takes data keys of a key, given by id, ARN or alias. Asks nothing yet.
    pub fn new(client: Client, key: impl Into<String>) -> Self {
        Self {
            client,
            key: key.into(),
            before: Vec::new(),
        }
    }

    /// Opens also what these keys have wrapped, given by ARN: an alias may have stood for them.
    pub fn opening(self, before: Vec<String>) -> Self {
        Self { before, ..self }
    }
}

#[async_trait]
impl KeySource for KmsKeys {
    async fn make(&self, digest: Digest) -> Result<(DataKey, WrappedKey), KeyError> {
        let call = || {
            let request = self.client.generate_data_key();
            request
                .key_id(&self.key)
                .key_spec(DataKeySpec::Aes256)
                .encryption_context(CONTEXT, digest.to_string())
                .send()
        };
        let made = patiently(KEY_WAIT_MAX, call)
            .await
            .map_err(|failure| unavailable(failure.into_source()))?;
        let strange = || unavailable("the key service answered without a data key".into());
        let key = made.plaintext.and_then(data_key).ok_or_else(strange)?;
        let wrapped = WrappedKey {
            origin: KeyOrigin::Kms,
            id: made.key_id.unwrap_or_else(|| self.key.clone()),
            bytes: made.ciphertext_blob.ok_or_else(strange)?.into_inner(),
        };
        Ok((key, wrapped))
    }

    /// Opens with the configured keys alone, whatever the object names: else who may write objects could have them
    /// opened with a key of their own.
    async fn open(&self, digest: Digest, wrapped: &WrappedKey) -> Result<DataKey, KeyError> {
        if wrapped.origin != KeyOrigin::Kms {
            return Err(KeyError::Unknown(wrapped.id.clone()));
        }
        let key = self.before.iter().find(|before| **before == wrapped.id);
        let call = || {
            let request = self.client.decrypt();
            request
                .key_id(key.unwrap_or(&self.key))
                .ciphertext_blob(Blob::new(wrapped.bytes.clone()))
                .encryption_context(CONTEXT, digest.to_string())
                .send()
        };
        match patiently(KEY_WAIT_MAX, call).await {
            Ok(opened) => opened
                .plaintext
                .and_then(data_key)
                .ok_or_else(|| KeyError::Refused("the key service answered with something else".to_owned())),
            Err(failure) => Err(refused(failure, wrapped)),
        }
    }
}

fn refused<E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static>(
    failure: Failure<E>,
    wrapped: &WrappedKey,
) -> KeyError {
    let code = failure.service_error().and_then(ProvideErrorMetadata::code);
    match code.unwrap_or_default() {
        "IncorrectKeyException" => KeyError::Unknown(wrapped.id.clone()),
        "InvalidCiphertextException" => {
            KeyError::Refused("it was not wrapped by that key for this operation".to_owned())
        }
        // Disabled, being deleted, not allowed: what is stored is whole, and opens when that is set right.
        _ => unavailable(failure.into_source()),
    }
}

fn unavailable(source: Box<dyn std::error::Error + Send + Sync>) -> KeyError {
    KeyError::Unavailable { source }
}

/// Takes the key over and wipes where it came in.
fn data_key(blob: Blob) -> Option<DataKey> {
    let mut bytes = blob.into_inner();
    let mut key = Zeroizing::new([0; 32]);
    let fits = bytes.len() == key.len();
    if fits {
        key.copy_from_slice(&bytes);
    }
    bytes.zeroize();
    fits.then(|| DataKey::new(key))
}
