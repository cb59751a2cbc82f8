//! The chain of a recording's chunks, and the manifest that closes it.

use super::format::{self, ChunkHead, Direction, Envelope, FormatError, Frame, KeyId, Kind};
use super::key::{PublicKey, SigningKey, find};
use super::signed::{self, Signed, Unsigned};
use crate::domain::Timestamp;
use crate::domain::id::{Digest, SessionId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most bytes of a manifest object.
pub const MANIFEST_BYTES_MAX: usize = 16 << 10;
/// Most characters of a manifest's `why`; what is longer is cut.
const WHY_CHARS_MAX: usize = 500;
const MANIFEST_FORMAT: &str = "countersign recording manifest 1";

/// How many chunks a recording has so far, and the SHA-256 of the last of them. Written to the journal, so that a
/// tail that was cut off shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub chunks: u64,
    /// [`Digest::ZERO`] when there is none yet.
    pub last: Digest,
}

impl Anchor {
    /// The anchor of a recording without chunks.
    pub const START: Self = Self {
        chunks: 0,
        last: Digest::ZERO,
    };
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    pub bytes: u64,
    pub frames: u64,
}

/// What a recording holds, by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    pub client_to_gateway: Flow,
    pub gateway_to_client: Flow,
    pub gateway_to_upstream: Flow,
    /// Remarks of the gateway, and the header.
    pub events: Flow,
}

impl Totals {
    fn add(&mut self, frame: &Frame) {
        let flow = match frame.kind {
            Kind::Header | Kind::Event => &mut self.events,
            Kind::Wire(Direction::ClientToGateway) => &mut self.client_to_gateway,
            Kind::Wire(Direction::GatewayToClient) => &mut self.gateway_to_client,
            Kind::Wire(Direction::GatewayToUpstream) => &mut self.gateway_to_upstream,
        };
        flow.frames += 1;
        flow.bytes += frame.bytes.len() as u64;
    }
}

/// Where a recording's chain of chunks stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    pub session: SessionId,
    pub chunks: u64,
    pub last: Digest,
    pub totals: Totals,
    /// Microseconds of the last frame since the session began.
    pub micros: u64,
}

impl Chain {
    pub fn new(session: SessionId) -> Self {
        Self {
            session,
            chunks: 0,
            last: Digest::ZERO,
            totals: Totals::default(),
            micros: 0,
        }
    }

    pub fn anchor(&self) -> Anchor {
        Anchor {
            chunks: self.chunks,
            last: self.last,
        }
    }

    /// Makes the next chunk of whole frames, signed and linked to the one before.
    pub fn seal(&mut self, plain: &Bytes, key: &SigningKey) -> Result<Bytes, FormatError> {
        let frames = format::frames(plain).collect::<Result<Vec<_>, _>>()?;
        let head = ChunkHead {
            key: key.key_id(),
            session: self.session,
            number: self.chunks,
            previous: self.last,
        };
        let chunk = format::encode_chunk(&head, plain, |message| key.sign(message))?;
        self.advance(&chunk, &frames);
        Ok(chunk)
    }

    /// Checks that `bytes` are the next chunk, signed by the one of `keys` that it names, and returns its frames.
    pub fn follow(&mut self, bytes: &[u8], keys: &(impl AsRef<[PublicKey]> + ?Sized)) -> Result<Vec<Frame>, Broken> {
        let number = self.chunks;
        let format = |source| Broken::Chunk { number, source };
        let envelope = Envelope::parse(bytes).map_err(format)?;
        let head = envelope.head;
        let key = find(keys.as_ref(), head.key).ok_or_else(|| Broken::ChunkKey {
            number,
            found: head.key,
            tried: KeyIds::of(keys.as_ref()),
        })?;
        if !key.verifies(envelope.signed, envelope.signature) {
            return Err(Broken::ChunkSignature { number });
        }
        if head.session != self.session {
            return Err(Broken::ChunkSession {
                number,
                found: head.session,
            });
        }
        if head.number != number {
            return Err(Broken::ChunkNumber {
                number,
                found: head.number,
            });
        }
        if head.previous != self.last {
            return Err(Broken::ChunkPrevious { number });
        }
        let frames = envelope.frames().map_err(format)?;
        self.advance(bytes, &frames);
        Ok(frames)
    }

    fn advance(&mut self, chunk: &[u8], frames: &[Frame]) {
        self.chunks += 1;
        self.last = Digest::of(chunk);
        for frame in frames {
            self.totals.add(frame);
            self.micros = self.micros.max(frame.micros);
        }
    }

    /// Closes the chain with a signed manifest.
    pub fn close(&self, end: End, key: &SigningKey) -> Bytes {
        let manifest = Manifest {
            format: MANIFEST_FORMAT.to_owned(),
            session: self.session,
            chunks: self.chunks,
            last: self.last,
            totals: self.totals,
            started: end.started,
            ended: end.ended,
            interrupted: end.interrupted,
            why: end.why.chars().take(WHY_CHARS_MAX).collect(),
            key: key.key_id(),
        };
        signed::sign(&manifest, key)
    }
}

/// How a recording ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub started: Timestamp,
    pub ended: Timestamp,
    /// The gateway did not live to see the session's end.
    pub interrupted: bool,
    pub why: String,
}

/// What a finished recording consists of, as its gateway signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: String,
    pub session: SessionId,
    pub chunks: u64,
    pub last: Digest,
    pub totals: Totals,
    pub started: Timestamp,
    pub ended: Timestamp,
    pub interrupted: bool,
    pub why: String,
    pub key: KeyId,
}

impl Signed for Manifest {
    const NAME: &'static str = "manifest";
    const FORMAT: &'static str = MANIFEST_FORMAT;
    const BYTES_MAX: usize = MANIFEST_BYTES_MAX;

    fn format(&self) -> &str {
        &self.format
    }

    fn key(&self) -> KeyId {
        self.key
    }
}

impl Manifest {
    /// Reads a manifest object and checks its signature by the one of `keys` that it names. Only the exact bytes that
    /// the gateway wrote pass: another spelling of the same JSON does not.
    pub fn read(bytes: &[u8], keys: &(impl AsRef<[PublicKey]> + ?Sized)) -> Result<Self, Broken> {
        let keys = keys.as_ref();
        signed::read(bytes, keys).map_err(|unsigned| match unsigned {
            Unsigned::Unreadable(why) => Broken::Manifest(why),
            Unsigned::UnknownKey(found) => Broken::ManifestKey {
                found,
                tried: KeyIds::of(keys),
            },
            Unsigned::Changed => Broken::ManifestSignature,
        })
    }
}

impl Manifest {
    /// Reads a manifest without checking its signature: for lists, never for proofs.
    pub fn unproved(bytes: &[u8]) -> Option<Self> {
        signed::unproved(bytes)
    }
}

/// Names of keys, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyIds(pub Vec<KeyId>);

impl KeyIds {
    pub fn of(keys: &[PublicKey]) -> Self {
        Self(keys.iter().map(PublicKey::id).collect())
    }
}

impl fmt::Display for KeyIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(", "))
    }
}

/// The first thing about a recording that is not as its gateway wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("chunk {number} cannot be read: {source}")]
    Chunk {
        number: u64,
        #[source]
        source: FormatError,
    },
    #[error(
        "chunk {number} names the key {found}, which is not among those that are trusted ({tried}): another key signed \
         it, or its head was changed"
    )]
    ChunkKey { number: u64, found: KeyId, tried: KeyIds },
    #[error("chunk {number} was changed: its signature does not fit its bytes")]
    ChunkSignature { number: u64 },
    #[error("chunk {number} belongs to session {found}")]
    ChunkSession { number: u64, found: SessionId },
    #[error("in the place of chunk {number} stands chunk {found}")]
    ChunkNumber { number: u64, found: u64 },
    #[error("chunk {number} does not follow the chunk before it")]
    ChunkPrevious { number: u64 },
    #[error("chunk {number} is not the one that {witness} anchored")]
    ChunkAnchor { number: u64, witness: &'static str },
    #[error("{witness} holds an anchor of {chunks} chunks that differs from another one")]
    Anchors { chunks: u64, witness: &'static str },
    #[error("the recording does not begin with its session's header: {0}")]
    Header(String),
    #[error(
        "the recording has {chunks} chunks, but {witness} knows of {expected}: chunk {chunks} is missing, and \
            perhaps others after it"
    )]
    Missing {
        chunks: u64,
        expected: u64,
        witness: &'static str,
    },
    #[error("the recording has {chunks} chunks, but {witness} says that it ended with {expected}")]
    TooMany {
        chunks: u64,
        expected: u64,
        witness: &'static str,
    },
    #[error("the manifest is missing, and the journal says that the session was closed")]
    ManifestMissing,
    #[error("the manifest cannot be read: {0}")]
    Manifest(String),
    #[error("the manifest names the key {found}, which is not among those that are trusted ({tried})")]
    ManifestKey { found: KeyId, tried: KeyIds },
    #[error("the manifest was changed: its signature does not fit its bytes")]
    ManifestSignature,
    #[error("the manifest and the chunks disagree about {0}")]
    ManifestDisagrees(&'static str),
}
