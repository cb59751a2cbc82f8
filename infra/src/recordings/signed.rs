//! Signed JSON: `{"<name>":<body>,"signature":"<hexadecimal>"}` and a newline, as manifests and digests are stored.
//!
//! Only the exact bytes that were written pass: another spelling of the same JSON does not.

use super::format::KeyId;
use super::key::{PublicKey, SigningKey, find};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Digits of an Ed25519 signature in hexadecimal.
const SIGNATURE_DIGITS: usize = 128;

/// A body that says which key signed it.
pub(super) trait Signed: Serialize + DeserializeOwned {
    /// What stands before the body.
    const NAME: &'static str;
    /// What its `format` must say.
    const FORMAT: &'static str;
    const BYTES_MAX: usize;

    fn format(&self) -> &str;
    fn key(&self) -> KeyId;
}

/// Why bytes are not what a gateway signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unsigned {
    Unreadable(String),
    UnknownKey(KeyId),
    Changed,
}

/// Makes the object of a body.
pub(super) fn sign<T: Signed>(value: &T, key: &SigningKey) -> Bytes {
    let body = body(value);
    let signature = hex::encode(key.sign(body.as_bytes()));
    format!("{{\"{}\":{body},\"signature\":\"{signature}\"}}\n", T::NAME).into()
}

/// Reads an object and checks its signature by the one of `keys` that it names.
pub(super) fn read<T: Signed>(bytes: &[u8], keys: &[PublicKey]) -> Result<T, Unsigned> {
    let (value, body, signature) = take_apart::<T>(bytes).map_err(Unsigned::Unreadable)?;
    let key = find(keys, value.key()).ok_or(Unsigned::UnknownKey(value.key()))?;
    if hex::encode(&signature).as_bytes() != signature_of(bytes) || !key.verifies(body, &signature) {
        return Err(Unsigned::Changed);
    }
    Ok(value)
}

/// Reads an object without checking its signature.
pub(super) fn unproved<T: Signed>(bytes: &[u8]) -> Option<T> {
    take_apart(bytes).ok().map(|(value, _, _)| value)
}

fn take_apart<T: Signed>(bytes: &[u8]) -> Result<(T, &[u8], Vec<u8>), String> {
    if bytes.len() > T::BYTES_MAX {
        return Err(format!("it is longer than {} bytes", T::BYTES_MAX));
    }
    let head = format!("{{\"{}\":", T::NAME);
    let body = bytes
        .strip_prefix(head.as_bytes())
        .and_then(|rest| rest.strip_suffix(b"\"}\n"))
        .and_then(|rest| rest.get(..rest.len().checked_sub(SIGNATURE_DIGITS)?))
        .and_then(|rest| rest.strip_suffix(b",\"signature\":\""))
        .ok_or_else(|| format!("it is not a signed {}", T::NAME))?;
    let value: T = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if value.format() != T::FORMAT {
        return Err(format!("its format is not `{}`", T::FORMAT));
    }
    let signature = hex::decode(signature_of(bytes)).map_err(|error| format!("its signature: {error}"))?;
    Ok((value, body, signature))
}

fn signature_of(bytes: &[u8]) -> &[u8] {
    let end = bytes.len().saturating_sub(b"\"}\n".len());
    bytes.get(end.saturating_sub(SIGNATURE_DIGITS)..end).unwrap_or_default()
}

fn body(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
