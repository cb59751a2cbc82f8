//! The envelope of one encrypted operation.
//!
//! ```text
//! "CSOP" (4)  version (1): 1  key source (1)
//! key id: length (2), bytes    wrapped data key: length (2), bytes
//! nonce (12)  size of the plain content (8)
//! ciphertext and tag (16)
//! ```
//!
//! Numbers are big endian. The ciphertext is AES-256-GCM (NIST SP 800-38D) over the zstd-compressed
//! [content](super::content). Additional data are `countersign operation/1`, the operation's digest and the whole
//! header: under another digest, or with another header, nothing is decrypted.
//!
//! Every object has a data key of its own, so a nonce never meets its key twice. A key shared by several objects would
//! save one request to the key service for each, and need a count of its uses that survives restarts.

use super::keys::{DataKey, KeyOrigin, WrappedKey};
use super::{OPERATION_BYTES_MAX, OperationError, WholeOperation, content};
use crate::domain::id::Digest;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::io::{self, Read};

const MAGIC: &[u8; 4] = b"CSOP";
const VERSION: u8 = 1;
const CONTEXT: &[u8] = b"countersign operation/1";
const COMPRESSION_LEVEL: i32 = 3;

/// What compression and header may add to content that does not compress.
const OVERHEAD_BYTES_MAX: usize = 4 << 20;

/// The longest envelope that is read, in bytes.
pub const ENVELOPE_BYTES_MAX: usize = OPERATION_BYTES_MAX + OVERHEAD_BYTES_MAX;

/// Encrypts an operation under a data key that is used for nothing else.
pub fn seal(
    digest: Digest,
    operation: &WholeOperation,
    key: &DataKey,
    wrapped: &WrappedKey,
) -> Result<Vec<u8>, OperationError> {
    let content_bytes = content::measure(operation)?;
    let failed = |error: io::Error| OperationError::Unavailable { source: error.into() };
    let mut nonce = [0; NONCE_LEN];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| failed(io::Error::other("no random bytes could be had")))?;
    let header = header(wrapped, nonce, content_bytes).map_err(failed)?;
    let mut sealed = header.clone();
    compress(operation, content_bytes, &mut sealed).map_err(failed)?;
    let body = sealed.get_mut(header.len()..).unwrap_or_default();
    let tag = cipher(key)
        .and_then(|cipher| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            cipher.seal_in_place_separate_tag(nonce, Aad::from(bound(digest, &header)), body)
        })
        .map_err(|_| failed(io::Error::other("it could not be encrypted")))?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

fn header(wrapped: &WrappedKey, nonce: [u8; NONCE_LEN], content_bytes: usize) -> io::Result<Vec<u8>> {
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&[VERSION, wrapped.origin.code()]);
    for field in [wrapped.id.as_bytes(), &wrapped.bytes] {
        let length = u16::try_from(field.len()).map_err(io::Error::other)?;
        header.extend_from_slice(&length.to_be_bytes());
        header.extend_from_slice(field);
    }
    header.extend_from_slice(&nonce);
    header.extend_from_slice(&(content_bytes as u64).to_be_bytes());
    Ok(header)
}

fn compress(operation: &WholeOperation, content_bytes: usize, out: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = zstd::stream::Encoder::new(out, COMPRESSION_LEVEL)?;
    encoder.set_pledged_src_size(Some(content_bytes as u64))?;
    content::write(operation, &mut encoder)?;
    encoder.finish().map(drop)
}

fn cipher(key: &DataKey) -> Result<LessSafeKey, aws_lc_rs::error::Unspecified> {
    UnboundKey::new(&AES_256_GCM, key.bytes()).map(LessSafeKey::new)
}

fn bound(digest: Digest, header: &[u8]) -> Vec<u8> {
    [CONTEXT, &digest.0, header].concat()
}

/// An envelope whose header was read; nothing of it is proved yet.
pub struct Envelope {
    wrapped: WrappedKey,
    nonce: [u8; NONCE_LEN],
    content_bytes: usize,
    header_bytes: usize,
    bytes: Vec<u8>,
}

impl Envelope {
    /// Reads the header, or says why it is none.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, &'static str> {
        const CUT: &str = "it ends within its header";
        let mut rest = bytes.as_slice();
        let [m, a, g, i, version, origin] = take::<6>(&mut rest).ok_or(CUT)?;
        if [m, a, g, i] != *MAGIC {
            return Err("it is no encrypted operation");
        }
        if version != VERSION {
            return Err("its version is not known");
        }
        let origin = KeyOrigin::of(origin).ok_or("the origin of its key is not known")?;
        let id = take_field(&mut rest).ok_or(CUT)?;
        let id = String::from_utf8(id).map_err(|_| "the id of its key is no text")?;
        let wrapped = take_field(&mut rest).ok_or(CUT)?;
        let nonce = take::<NONCE_LEN>(&mut rest).ok_or(CUT)?;
        let content_bytes = u64::from_be_bytes(take(&mut rest).ok_or(CUT)?);
        let content_bytes = usize::try_from(content_bytes)
            .ok()
            .filter(|size| *size <= OPERATION_BYTES_MAX)
            .ok_or("its size is beyond all bounds")?;
        Ok(Self {
            wrapped: WrappedKey {
                origin,
                id,
                bytes: wrapped,
            },
            nonce,
            content_bytes,
            header_bytes: bytes.len() - rest.len(),
            bytes,
        })
    }

    /// The key that opens it, wrapped.
    pub fn wrapped(&self) -> &WrappedKey {
        &self.wrapped
    }

    /// Size of its content, as it says.
    pub fn content_bytes(&self) -> usize {
        self.content_bytes
    }

    /// Decrypts it, or says why it cannot be what was written under this digest.
    pub fn open(mut self, digest: Digest, key: &DataKey) -> Result<WholeOperation, &'static str> {
        let aad = bound(digest, self.bytes.get(..self.header_bytes).unwrap_or_default());
        let body = self.bytes.get_mut(self.header_bytes..).unwrap_or_default();
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let compressed = cipher(key)
            .and_then(|cipher| cipher.open_in_place(nonce, Aad::from(aad), body))
            .map_err(|_| "it was changed, or lies under another name than its own")?;
        let content =
            decompress(compressed, self.content_bytes).ok_or("its content is not of the size that it says")?;
        let operation = content::read(content.into()).ok_or("its content is not understood")?;
        if operation.digest() != digest {
            return Err("its content does not have the digest under which it lies");
        }
        Ok(operation)
    }
}

fn decompress(compressed: &[u8], content_bytes: usize) -> Option<Vec<u8>> {
    let mut content = Vec::with_capacity(content_bytes);
    let decoder = zstd::stream::Decoder::with_buffer(compressed).ok()?;
    // One byte more than it says, so that a longer content shows and never fills the memory.
    let read = decoder.take(content_bytes as u64 + 1).read_to_end(&mut content).ok()?;
    (read == content_bytes).then_some(content)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

fn take_field(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = u16::from_be_bytes(take(rest)?);
    let (taken, after) = rest.split_at_checked(length.into())?;
    *rest = after;
    Some(taken.to_vec())
}
