//! The chain of a recording's chunks, and the manifest that closes it.

use super::format::{self, ChunkHead, Direction, Envelope, FormatError, Frame, KeyId, Kind};
use super::key::{PublicKey, SigningKey};
use crate::domain::Timestamp;
use crate::domain::id::{Digest, SessionId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

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

    /// Checks that `bytes` are the next chunk, signed by `key`, and returns its frames.
    pub fn follow(&mut self, bytes: &[u8], key: &PublicKey) -> Result<Vec<Frame>, Broken> {
        let number = self.chunks;
        let format = |source| Broken::Chunk { number, source };
        let envelope = Envelope::parse(bytes).map_err(format)?;
        let head = envelope.head;
        if head.key != key.id() {
            return Err(Broken::ChunkKey {
                number,
                found: head.key,
                expected: key.id(),
            });
        }
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
        let body = manifest.body();
        let signature = hex::encode(key.sign(body.as_bytes()));
        Manifest::object(&body, &signature).into()
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedManifest {
    manifest: Manifest,
    signature: String,
}

impl Manifest {
    /// Reads a manifest object and checks its signature. Only the exact bytes that the gateway wrote pass: another
    /// spelling of the same JSON does not.
    pub fn read(bytes: &[u8], key: &PublicKey) -> Result<Self, Broken> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(Broken::Manifest(format!(
                "it is longer than {MANIFEST_BYTES_MAX} bytes"
            )));
        }
        let signed: SignedManifest =
            serde_json::from_slice(bytes).map_err(|error| Broken::Manifest(error.to_string()))?;
        let manifest = signed.manifest;
        if manifest.format != MANIFEST_FORMAT {
            return Err(Broken::Manifest(format!("its format is not `{MANIFEST_FORMAT}`")));
        }
        if manifest.key != key.id() {
            return Err(Broken::ManifestKey {
                found: manifest.key,
                expected: key.id(),
            });
        }
        let body = manifest.body();
        let signature = hex::decode(&signed.signature).unwrap_or_default();
        let same =
            Self::object(&body, &signed.signature).as_bytes() == bytes && hex::encode(&signature) == signed.signature;
        if !same || !key.verifies(body.as_bytes(), &signature) {
            return Err(Broken::ManifestSignature);
        }
        Ok(manifest)
    }

    fn body(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn object(body: &str, signature: &str) -> String {
        format!("{{\"manifest\":{body},\"signature\":\"{signature}\"}}\n")
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
    #[error("chunk {number} names the key {found}, not {expected}: another key signed it, or its head was changed")]
    ChunkKey { number: u64, found: KeyId, expected: KeyId },
    #[error("chunk {number} was changed: its signature does not fit its bytes")]
    ChunkSignature { number: u64 },
    #[error("chunk {number} belongs to session {found}")]
    ChunkSession { number: u64, found: SessionId },
    #[error("in the place of chunk {number} stands chunk {found}")]
    ChunkNumber { number: u64, found: u64 },
    #[error("chunk {number} does not follow the chunk before it")]
    ChunkPrevious { number: u64 },
    #[error("chunk {number} is not the one that the journal anchored")]
    ChunkAnchor { number: u64 },
    #[error("the journal holds two different anchors of {chunks} chunks")]
    Anchors { chunks: u64 },
    #[error("the recording does not begin with its session's header: {0}")]
    Header(String),
    #[error("the recording has {chunks} chunks, but {witness} knows of {expected}: its tail is missing")]
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
    #[error("the manifest names the key {found}, not {expected}")]
    ManifestKey { found: KeyId, expected: KeyId },
    #[error("the manifest was changed: its signature does not fit its bytes")]
    ManifestSignature,
    #[error("the manifest and the chunks disagree about {0}")]
    ManifestDisagrees(&'static str),
}
