//! The format of a recording: frames, and chunks of frames as they lie in the store.
//!
//! ```text
//! frame   kind 1 | microseconds since the session began 8 | length 4 | bytes
//! chunk   magic 8 | version 2 | key id 8 | session 16 | number 8 | SHA-256 of the chunk before 32
//!         | length of the frames 4 | length of the payload 4 | payload (zstd of whole frames) | Ed25519 signature 64
//! ```
//! Numbers are big endian. The signature covers every byte before it. The first frame of the first chunk is the
//! [`SessionHeader`](crate::domain::session::SessionHeader) as JSON.

use crate::domain::id::{Digest, SessionId};
use bytes::Bytes;
use std::fmt;

/// Most bytes of frames in one chunk, before compression.
pub const PLAIN_BYTES_MAX: usize = 1 << 20;
/// Most bytes of payload in one frame; what is longer goes into several frames.
pub const FRAME_BYTES_MAX: usize = 64 << 10;
/// Bytes of a frame before its payload.
pub const FRAME_HEAD_BYTES: usize = 1 + 8 + 4;
/// Bytes of a chunk before its payload.
const CHUNK_HEAD_BYTES: usize = 8 + 2 + 8 + 16 + 8 + 32 + 4 + 4;
const SIGNATURE_BYTES: usize = 64;
/// zstd adds at most 1/256 and a little to what it cannot compress (`ZSTD_COMPRESSBOUND`).
const PAYLOAD_BYTES_MAX: usize = PLAIN_BYTES_MAX + (PLAIN_BYTES_MAX >> 8) + 1024;
/// Most bytes of one chunk object.
pub const CHUNK_BYTES_MAX: usize = CHUNK_HEAD_BYTES + PAYLOAD_BYTES_MAX + SIGNATURE_BYTES;

const MAGIC: &[u8; 8] = b"CSRECORD";
const VERSION: u16 = 1;
/// Set in a frame's kind when the next frame of the same kind goes on with the same bytes.
const MORE: u8 = 0x80;
/// The fastest level: a result of gigabytes passes here.
const ZSTD_LEVEL: i32 = 1;
/// Bytes of one direction that follow each other within so many microseconds share a frame.
const SAME_FRAME_MICROS: u64 = 1000;

/// Why bytes are not what a recording consists of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("it does not begin like a chunk of a recording")]
    Magic,
    #[error("it has version {0}, and this program knows version {VERSION}")]
    Version(u16),
    #[error("it ends too early")]
    Short,
    #[error("{0} bytes follow where it should end")]
    Trailing(usize),
    #[error("{what} is {length} bytes long, and {max} is the most")]
    TooLong {
        what: &'static str,
        length: usize,
        max: usize,
    },
    #[error("its payload does not decompress to the length that it names")]
    Compression,
    #[error("a frame has the unknown kind {0}")]
    Kind(u8),
    #[error("a frame is empty")]
    EmptyFrame,
    #[error("it holds no frame")]
    NoFrame,
}

/// Which way bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    ClientToGateway,
    /// After masking: what the client got to see.
    GatewayToClient,
    /// What the gateway itself sent upstream, beside what it forwarded.
    GatewayToUpstream,
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The session's header as JSON.
    Header,
    /// A remark of the gateway, UTF-8.
    Event,
    /// Bytes of the wire.
    Wire(Direction),
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Header => 1,
            Self::Event => 2,
            Self::Wire(Direction::ClientToGateway) => 3,
            Self::Wire(Direction::GatewayToClient) => 4,
            Self::Wire(Direction::GatewayToUpstream) => 5,
        }
    }

    fn from_code(code: u8) -> Result<Self, FormatError> {
        Ok(match code & !MORE {
            1 => Self::Header,
            2 => Self::Event,
            3 => Self::Wire(Direction::ClientToGateway),
            4 => Self::Wire(Direction::GatewayToClient),
            5 => Self::Wire(Direction::GatewayToUpstream),
            _ => return Err(FormatError::Kind(code)),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Event => "event",
            Self::Wire(Direction::ClientToGateway) => "client_to_gateway",
            Self::Wire(Direction::GatewayToClient) => "gateway_to_client",
            Self::Wire(Direction::GatewayToUpstream) => "gateway_to_upstream",
        })
    }
}

/// One frame as it stands in a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    /// The next frame of this kind goes on with the same bytes.
    pub more: bool,
    /// Microseconds since the session began.
    pub micros: u64,
    pub bytes: Bytes,
}

/// Frames that grow in memory. It allocates nothing until the first frame.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    at: usize,
    kind: Kind,
    micros: u64,
    length: usize,
}

impl FrameBuffer {
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of memory that it holds.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Appends a frame of all `parts` together, at most [`FRAME_BYTES_MAX`]; an empty one is left out. Bytes of the
    /// wire that follow others of the same direction within a millisecond go on in the same frame.
    pub fn push(&mut self, kind: Kind, micros: u64, parts: &[&[u8]], more: bool) {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        debug_assert!(length <= FRAME_BYTES_MAX, "the caller splits");
        if length == 0 {
            return;
        }
        if more || !self.extend_last(kind, micros, length) {
            let code = if more { kind.code() | MORE } else { kind.code() };
            let at = self.bytes.len();
            self.bytes.push(code);
            self.bytes.extend_from_slice(&micros.to_be_bytes());
            self.bytes.extend_from_slice(&(length as u32).to_be_bytes());
            self.last = (!more).then_some(Last {
                at,
                kind,
                micros,
                length,
            });
        }
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
    }

    fn extend_last(&mut self, kind: Kind, micros: u64, length: usize) -> bool {
        let Some(last) = &mut self.last else {
            return false;
        };
        let joins = matches!(kind, Kind::Wire(_))
            && last.kind == kind
            && micros.saturating_sub(last.micros) < SAME_FRAME_MICROS
            && last.length + length <= FRAME_BYTES_MAX;
        let at = last.at + FRAME_HEAD_BYTES - 4;
        match self.bytes.get_mut(at..at + 4) {
            Some(place) if joins => {
                last.length += length;
                place.copy_from_slice(&(last.length as u32).to_be_bytes());
                true
            }
            Some(_) | None => false,
        }
    }

    /// Takes the frames; the buffer is empty afterwards and holds no memory.
    pub fn take(&mut self) -> Vec<u8> {
        self.last = None;
        std::mem::take(&mut self.bytes)
    }

    /// Gives back the memory of taken frames for further use.
    pub fn reuse(&mut self, mut bytes: Vec<u8>) {
        if self.bytes.capacity() == 0 {
            bytes.clear();
            self.bytes = bytes;
        }
    }

    /// Puts taken frames back in front of what came since.
    pub fn put_back(&mut self, mut bytes: Vec<u8>) {
        self.last = None;
        bytes.append(&mut self.bytes);
        self.bytes = bytes;
    }
}

/// Reads frames one after the other; the first error is the last item.
pub fn frames(plain: &Bytes) -> impl Iterator<Item = Result<Frame, FormatError>> {
    let mut rest = plain.clone();
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed || rest.is_empty() {
            return None;
        }
        let frame = next_frame(&mut rest);
        failed = frame.is_err();
        Some(frame)
    })
}

fn next_frame(rest: &mut Bytes) -> Result<Frame, FormatError> {
    let mut reader = Reader(rest);
    let code = reader.byte()?;
    let micros = reader.u64()?;
    let length = reader.u32()? as usize;
    let kind = Kind::from_code(code)?;
    at_most("a frame", length, FRAME_BYTES_MAX)?;
    if length == 0 {
        return Err(FormatError::EmptyFrame);
    }
    if rest.len() < FRAME_HEAD_BYTES + length {
        return Err(FormatError::Short);
    }
    let bytes = rest.split_to(FRAME_HEAD_BYTES + length).slice(FRAME_HEAD_BYTES..);
    Ok(Frame {
        kind,
        more: code & MORE != 0,
        micros,
        bytes,
    })
}

/// How many bytes of whole frames stand at the beginning. What a torn write left behind comes after them.
pub fn whole_frames(plain: &Bytes) -> usize {
    frames(plain)
        .map_while(Result::ok)
        .map(|frame| FRAME_HEAD_BYTES + frame.bytes.len())
        .sum()
}

/// Names the key that signed, by the first 8 bytes of the SHA-256 of the public key as it stands in its PEM.
#[derive(Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for KeyId {
    type Error = hex::FromHexError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// What stands in front of a chunk's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHead {
    pub key: KeyId,
    pub session: SessionId,
    pub number: u64,
    pub previous: Digest,
}

/// Makes the object of a chunk from whole frames.
pub fn encode_chunk(
    head: &ChunkHead,
    plain: &[u8],
    sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_BYTES],
) -> Result<Bytes, FormatError> {
    at_most("the frames of a chunk", plain.len(), PLAIN_BYTES_MAX)?;
    if plain.is_empty() {
        return Err(FormatError::NoFrame);
    }
    let payload = zstd::bulk::compress(plain, ZSTD_LEVEL).map_err(|_| FormatError::Compression)?;
    at_most("the payload of a chunk", payload.len(), PAYLOAD_BYTES_MAX)?;
    let mut out = Vec::with_capacity(CHUNK_HEAD_BYTES + payload.len() + SIGNATURE_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&head.key.0);
    out.extend_from_slice(head.session.0.as_bytes());
    out.extend_from_slice(&head.number.to_be_bytes());
    out.extend_from_slice(&head.previous.0);
    out.extend_from_slice(&(plain.len() as u32).to_be_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(&payload);
    let signature = sign(&out);
    out.extend_from_slice(&signature);
    Ok(out.into())
}

/// A chunk taken apart: nothing of it is decompressed, and its signature is not yet checked.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    pub head: ChunkHead,
    plain_length: usize,
    payload: &'a [u8],
    /// What the signature covers.
    pub signed: &'a [u8],
    pub signature: &'a [u8; SIGNATURE_BYTES],
}

impl<'a> Envelope<'a> {
    /// Takes a chunk apart. Lengths are checked against bounds and against what is there; nothing may follow.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut reader = Reader(bytes);
        if reader.array::<8>()? != MAGIC {
            return Err(FormatError::Magic);
        }
        let version = u16::from_be_bytes(*reader.array()?);
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        let head = ChunkHead {
            key: KeyId(*reader.array()?),
            session: SessionId(uuid::Uuid::from_bytes(*reader.array()?)),
            number: reader.u64()?,
            previous: Digest(*reader.array()?),
        };
        let plain_length = reader.u32()? as usize;
        at_most("the frames of a chunk", plain_length, PLAIN_BYTES_MAX)?;
        let payload_length = reader.u32()? as usize;
        at_most("the payload of a chunk", payload_length, PAYLOAD_BYTES_MAX)?;
        let payload = reader.bytes(payload_length)?;
        let signature = reader.array()?;
        if !reader.0.is_empty() {
            return Err(FormatError::Trailing(reader.0.len()));
        }
        let signed = bytes
            .get(..CHUNK_HEAD_BYTES + payload_length)
            .ok_or(FormatError::Short)?;
        Ok(Self {
            head,
            plain_length,
            payload,
            signed,
            signature,
        })
    }

    /// Decompresses the frames: never more than the length that the chunk names, which [`PLAIN_BYTES_MAX`] bounds.
    pub fn plain(&self) -> Result<Bytes, FormatError> {
        let plain = zstd::bulk::decompress(self.payload, self.plain_length).map_err(|_| FormatError::Compression)?;
        if plain.len() == self.plain_length {
            Ok(plain.into())
        } else {
            Err(FormatError::Compression)
        }
    }

    /// Decompresses and reads all frames.
    pub fn frames(&self) -> Result<Vec<Frame>, FormatError> {
        let found = frames(&self.plain()?).collect::<Result<Vec<_>, _>>()?;
        if found.is_empty() {
            return Err(FormatError::NoFrame);
        }
        Ok(found)
    }
}

fn at_most(what: &'static str, length: usize, max: usize) -> Result<(), FormatError> {
    if length <= max {
        Ok(())
    } else {
        Err(FormatError::TooLong { what, length, max })
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(FormatError::Short)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], FormatError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(FormatError::Short)?;
        self.0 = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, FormatError> {
        self.array::<1>().map(|[byte]| *byte)
    }

    fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(|bytes| u64::from_be_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests;
