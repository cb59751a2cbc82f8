//! The proof that a recording is as its gateway wrote it: chunk by chunk, against the manifest and the journal.

use super::chain::{Anchor, Broken, Chain, KeyIds, Manifest};
use super::format::{Envelope, Frame, KeyId, Kind};
use super::key::PublicKey;
use crate::domain::id::{Digest, SessionId};
use crate::domain::session::SessionHeader;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;

/// What the journal and the digests say of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    pub anchors: Vec<Anchor>,
    /// What the journal says the recording ended with; none while the session is open there.
    pub closed: Option<Anchor>,
    pub header: Option<SessionHeader>,
    /// What the gateway's signed digests say.
    pub digests: Vec<Anchor>,
}

const JOURNAL: &str = "the journal";
const DIGEST: &str = "the gateway's digest";

/// Checks a recording chunk by chunk.
pub struct Verifier {
    keys: Vec<PublicKey>,
    chain: Chain,
    witness: Witness,
    anchored: BTreeMap<u64, (Digest, &'static str)>,
    header: Option<SessionHeader>,
    /// The keys that signed the chunks so far.
    signers: Vec<KeyId>,
}

impl Verifier {
    /// `keys` must come from outside the place that holds the recording.
    pub fn new(
        session: SessionId,
        keys: &(impl AsRef<[PublicKey]> + ?Sized),
        witness: Witness,
    ) -> Result<Self, Broken> {
        let mut anchored = BTreeMap::from([(0, (Digest::ZERO, JOURNAL))]);
        let journaled = witness.anchors.iter().chain(&witness.closed);
        let all = journaled.map(|anchor| (anchor, JOURNAL));
        for (anchor, witness) in all.chain(witness.digests.iter().map(|anchor| (anchor, DIGEST))) {
            let (known, _) = anchored.entry(anchor.chunks).or_insert((anchor.last, witness));
            if *known != anchor.last {
                let chunks = anchor.chunks;
                return Err(Broken::Anchors { chunks, witness });
            }
        }
        Ok(Self {
            keys: keys.as_ref().to_vec(),
            chain: Chain::new(session),
            witness,
            anchored,
            header: None,
            signers: Vec::new(),
        })
    }

    /// Checks the next chunk and returns its frames.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, Broken> {
        let number = self.chain.chunks;
        let frames = self.chain.follow(bytes, self.keys.as_slice())?;
        if let Ok(Envelope { head, .. }) = Envelope::parse(bytes)
            && !self.signers.contains(&head.key)
        {
            self.signers.push(head.key);
        }
        if number == 0 {
            self.header = Some(self.check_header(&frames)?);
        }
        match self.anchored.get(&self.chain.chunks) {
            Some((anchored, witness)) if *anchored != self.chain.last => Err(Broken::ChunkAnchor { number, witness }),
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
        let last = self.anchored.last_key_value();
        let (expected, witness) = last.map_or((0, JOURNAL), |(chunks, (_, witness))| (*chunks, *witness));
        if expected > chunks {
            return Err(Broken::Missing {
                chunks,
                expected,
                witness,
            });
        }
        if let Some(closed) = self.witness.closed.filter(|closed| closed.chunks != chunks) {
            return Err(Broken::TooMany {
                chunks,
                expected: closed.chunks,
                witness: JOURNAL,
            });
        }
        let manifest = manifest
            .map(|bytes| Manifest::read(bytes, self.keys.as_slice()))
            .transpose()?;
        match &manifest {
            Some(manifest) => agree(manifest, &self.chain, self.header.as_ref())?,
            None if self.witness.closed.is_some_and(|closed| closed.chunks > 0) => {
                return Err(Broken::ManifestMissing);
            }
            None => {}
        }
        let mut signers = self.signers;
        let closer = manifest.as_ref().map(|manifest| manifest.key);
        signers.extend(closer.filter(|key| !signers.contains(key)));
        Ok(Report {
            keys: KeyIds(signers),
            chain: self.chain,
            header: self.header,
            anchors: self.witness.anchors.len() + usize::from(self.witness.closed.is_some()),
            anchored_chunks: expected,
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
    keys: &(impl AsRef<[PublicKey]> + ?Sized),
) -> Result<Report, Broken> {
    let mut verifier = Verifier::new(session, keys, witness)?;
    for chunk in chunks {
        verifier.chunk(chunk)?;
    }
    verifier.finish(manifest)
}

/// What was checked of a recording that is as its gateway wrote it. Displayed, it says what that proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The keys that signed it: more than one where another gateway closed it.
    pub keys: KeyIds,
    pub chain: Chain,
    pub header: Option<SessionHeader>,
    /// How many anchors of the journal were compared.
    pub anchors: usize,
    /// Up to how many chunks the anchors reach.
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
            "  chunks    {chunks}, each signed (by {}), each naming the SHA-256 of the one before",
            self.signers()
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
    fn signers(&self) -> String {
        match self.keys.0.len() {
            0 | 1 => format!("key {}", self.keys),
            _ => format!("keys {}", self.keys),
        }
    }

    fn write_manifest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.manifest {
            Some(manifest) => writeln!(
                f,
                "  manifest  signed by key {}; {} from {} to {} ({})",
                manifest.key,
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
