//! The chain of a recording's chunks, the manifest that closes it, and the proof of both.

use super::format::{self, ChunkHead, Direction, Envelope, FormatError, Frame, KeyId, Kind};
use super::key::{PublicKey, SigningKey};
use crate::domain::Timestamp;
use crate::domain::id::{Digest, SessionId};
use crate::domain::session::SessionHeader;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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

/// What the journal says of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    pub anchors: Vec<Anchor>,
    /// What the journal says the recording ended with; none while the session is open there.
    pub closed: Option<Anchor>,
    pub header: Option<SessionHeader>,
}

/// Checks a recording chunk by chunk.
pub struct Verifier<'k> {
    key: &'k PublicKey,
    chain: Chain,
    witness: Witness,
    anchored: BTreeMap<u64, Digest>,
    header: Option<SessionHeader>,
}

impl<'k> Verifier<'k> {
    /// `key` must come from outside the place that holds the recording.
    pub fn new(session: SessionId, key: &'k PublicKey, witness: Witness) -> Result<Self, Broken> {
        let mut anchored = BTreeMap::from([(0, Digest::ZERO)]);
        for anchor in witness.anchors.iter().chain(&witness.closed) {
            let known = anchored.entry(anchor.chunks).or_insert(anchor.last);
            if *known != anchor.last {
                return Err(Broken::Anchors { chunks: anchor.chunks });
            }
        }
        Ok(Self {
            key,
            chain: Chain::new(session),
            witness,
            anchored,
            header: None,
        })
    }

    /// Checks the next chunk and returns its frames.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, Broken> {
        let number = self.chain.chunks;
        let frames = self.chain.follow(bytes, self.key)?;
        if number == 0 {
            self.header = Some(self.check_header(&frames)?);
        }
        match self.anchored.get(&self.chain.chunks) {
            Some(anchored) if *anchored != self.chain.last => Err(Broken::ChunkAnchor { number }),
            Some(_) | None => Ok(frames),
        }
    }

    fn check_header(&self, frames: &[Frame]) -> Result<SessionHeader, Broken> {
        let header = read_header(frames).map_err(Broken::Header)?;
        if header.id != self.chain.session {
            return Err(Broken::Header(format!("it names session {}", header.id)));
        }
        match &self.witness.header {
            Some(journaled) if *journaled != header => {
                Err(Broken::Header("it differs from the one in the journal".to_owned()))
            }
            Some(_) | None => Ok(header),
        }
    }

    /// Checks the end: against the manifest, and against what the journal knows.
    pub fn finish(self, manifest: Option<&[u8]>) -> Result<Report, Broken> {
        let chunks = self.chain.chunks;
        let anchored_chunks = self.anchored.keys().next_back().copied().unwrap_or(0);
        if anchored_chunks > chunks {
            return Err(Broken::Missing {
                chunks,
                expected: anchored_chunks,
                witness: "the journal",
            });
        }
        if let Some(closed) = self.witness.closed.filter(|closed| closed.chunks != chunks) {
            return Err(Broken::TooMany {
                chunks,
                expected: closed.chunks,
                witness: "the journal",
            });
        }
        let manifest = manifest.map(|bytes| Manifest::read(bytes, self.key)).transpose()?;
        match &manifest {
            Some(manifest) => agree(manifest, &self.chain, self.header.as_ref())?,
            None if self.witness.closed.is_some_and(|closed| closed.chunks > 0) => {
                return Err(Broken::ManifestMissing);
            }
            None => {}
        }
        Ok(Report {
            key: self.key.id(),
            chain: self.chain,
            header: self.header,
            anchors: self.witness.anchors.len() + usize::from(self.witness.closed.is_some()),
            anchored_chunks,
            closed: self.witness.closed.is_some(),
            manifest,
        })
    }
}

/// Reads the session's header from the frames of the first chunk.
pub fn read_header(frames: &[Frame]) -> Result<SessionHeader, String> {
    let mut json = Vec::new();
    for frame in frames {
        if frame.kind != Kind::Header {
            break;
        }
        json.extend_from_slice(&frame.bytes);
        if !frame.more {
            break;
        }
    }
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}

fn agree(manifest: &Manifest, chain: &Chain, header: Option<&SessionHeader>) -> Result<(), Broken> {
    let (chunks, expected, witness) = (chain.chunks, manifest.chunks, "the manifest");
    if manifest.session != chain.session {
        return Err(Broken::ManifestDisagrees("the session"));
    }
    if expected > chunks {
        return Err(Broken::Missing {
            chunks,
            expected,
            witness,
        });
    }
    if expected < chunks {
        return Err(Broken::TooMany {
            chunks,
            expected,
            witness,
        });
    }
    if manifest.last != chain.last {
        return Err(Broken::ManifestDisagrees("the last chunk"));
    }
    if manifest.totals != chain.totals {
        return Err(Broken::ManifestDisagrees("the totals"));
    }
    if header.is_some_and(|header| header.opened != manifest.started) {
        return Err(Broken::ManifestDisagrees("the start"));
    }
    Ok(())
}

/// Checks a whole recording. See [`Report`] for what that proves.
pub fn verify_recording(
    session: SessionId,
    chunks: &[Bytes],
    manifest: Option<&[u8]>,
    witness: Witness,
    key: &PublicKey,
) -> Result<Report, Broken> {
    let mut verifier = Verifier::new(session, key, witness)?;
    for chunk in chunks {
        verifier.chunk(chunk)?;
    }
    verifier.finish(manifest)
}

/// What was checked of a recording that is as its gateway wrote it. Displayed, it says what that proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub key: KeyId,
    pub chain: Chain,
    pub header: Option<SessionHeader>,
    /// How many anchors of the journal were compared.
    pub anchors: usize,
    /// Up to how many chunks the journal's anchors reach.
    pub anchored_chunks: u64,
    /// The journal says that the session was closed.
    pub closed: bool,
    pub manifest: Option<Manifest>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chunks = self.chain.chunks;
        let totals = &self.chain.totals;
        writeln!(f, "recording of session {}", self.chain.session)?;
        writeln!(
            f,
            "  chunks    {chunks}, each signed by key {}, each naming the SHA-256 of the one before",
            self.key
        )?;
        writeln!(
            f,
            "  bytes     {} from the client, {} to the client, {} sent upstream by the gateway itself",
            totals.client_to_gateway.bytes, totals.gateway_to_client.bytes, totals.gateway_to_upstream.bytes
        )?;
        writeln!(
            f,
            "  journal   {} anchors agree; they reach to chunk {} of {chunks}",
            self.anchors, self.anchored_chunks
        )?;
        self.write_manifest(f)?;
        f.write_str(
            "This proves that nobody without that private key changed the recording after the gateway wrote it",
        )?;
        if self.manifest.is_none() && self.anchored_chunks < chunks {
            f.write_str(", up to its last chunk; whether more chunks followed is not proved")?;
        } else if self.manifest.is_none() {
            f.write_str(", and that no chunk is missing that the journal knows of")?;
        } else {
            f.write_str(", and that none of its chunks is missing")?;
        }
        f.write_str(". It does not prove that the gateway wrote what happened.")
    }
}

impl Report {
    fn write_manifest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.manifest {
            Some(manifest) => writeln!(
                f,
                "  manifest  signed by the same key; {} from {} to {} ({})",
                if manifest.interrupted {
                    "interrupted,"
                } else {
                    "complete,"
                },
                manifest.started.format("%Y-%m-%d %H:%M:%S UTC"),
                manifest.ended.format("%Y-%m-%d %H:%M:%S UTC"),
                manifest.why.escape_debug()
            ),
            None => writeln!(f, "  manifest  none yet: the session was not closed"),
        }
    }
}

#[cfg(test)]
mod tests;
