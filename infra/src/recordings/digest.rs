//! Signed digests of a gateway's sessions: which sessions a run of a gateway had, and how far each recording had come.
//!
//! Sessions of a run are numbered without a gap, digests of a run too, and each digest names the SHA-256 of the one
//! before. So a session, a digest, or the last chunks of a recording that somebody removed show.

use super::chain::{Anchor, KeyIds};
use super::format::KeyId;
use super::key::{PublicKey, SigningKey};
use super::signed::{self, Signed, Unsigned};
use crate::domain::Timestamp;
use crate::domain::id::{Digest, RunId, SessionId};
use bytes::Bytes;
use chrono::{NaiveDate, SubsecRound, Timelike};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

pub use super::DIGEST_BYTES_MAX;

/// Most sessions that one digest names. A line has at most 235 bytes: with the rest it stays below
/// [`DIGEST_BYTES_MAX`].
pub const LINES_MAX: usize = 4000;
/// Longest name of a gateway in a digest, in bytes.
const GATEWAY_BYTES_MAX: usize = 1000;
const DIGEST_FORMAT: &str = "countersign session digest 1";

/// What a digest says of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionLine {
    pub number: u64,
    pub session: SessionId,
    /// Chunks of its recording that the journal had anchored.
    pub chunks: u64,
    /// SHA-256 of the last of them.
    pub last: Digest,
    /// The session was over, and its recording has no more chunks than these. Without any chunk it never began.
    pub closed: bool,
}

impl SessionLine {
    pub fn anchor(&self) -> Anchor {
        Anchor {
            chunks: self.chunks,
            last: self.last,
        }
    }
}

/// What a run of a gateway says of its sessions in a part of its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunDigest {
    format: String,
    pub gateway: String,
    pub run: RunId,
    /// Counts from 0 without a gap within the run.
    pub number: u64,
    /// SHA-256 of the object of the digest before; [`Digest::ZERO`] in the first.
    pub previous: Digest,
    /// The time that it speaks of; none between them where one digest was too small for all sessions of a time.
    pub from: Timestamp,
    pub to: Timestamp,
    /// The sessions that it names for the first time are those from `first` up to but not including `next`.
    pub first: u64,
    pub next: u64,
    /// By number. Those before `first` were opened earlier and still lived when this time began.
    pub sessions: Vec<SessionLine>,
    /// The run had no session after these.
    pub ends: bool,
    /// The gateway did not live to sign it: it was made of the journal afterwards.
    pub interrupted: bool,
    key: KeyId,
}

/// Where the digests of a run stand: what the next one begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunChain {
    pub gateway: String,
    pub run: RunId,
    /// How many there are.
    pub digests: u64,
    /// SHA-256 of the last.
    pub last: Digest,
    /// Up to which time they speak.
    pub to: Timestamp,
    /// Up to which session, not including it.
    pub next: u64,
    /// Those that were not over when the last time ended.
    pub open: Vec<SessionLine>,
    pub ended: bool,
}

/// What the next digest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub to: Timestamp,
    /// At most [`LINES_MAX`], by number.
    pub sessions: Vec<SessionLine>,
    pub ends: bool,
    pub interrupted: bool,
}

/// A digest as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedDigest {
    pub digest: RunDigest,
    pub day: NaiveDate,
    pub name: DigestName,
    pub bytes: Bytes,
    pub sha256: Digest,
}

/// The name of a digest's object within its day: `<hh>-<run>-<number>.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DigestName {
    pub hour: u32,
    pub run: RunId,
    pub number: u64,
}

/// Why a digest is not what its gateway wrote, or does not follow the one before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    #[error("it names the key {found}, which is not among those that are trusted ({tried})")]
    UnknownKey { found: KeyId, tried: KeyIds },
    #[error("it was changed: its signature does not fit its bytes")]
    Changed,
    #[error("it is stored under another digest's name")]
    Name,
    #[error("it is digest {found} of its run and stands in the place of digest {expected}, which is missing")]
    Number { found: u64, expected: u64 },
    #[error("it does not follow the digest before it")]
    Previous,
    #[error("it names sessions from number {found} on, but the digest before it ended with number {expected}")]
    Sessions { found: u64, expected: u64 },
    #[error("it belongs to another run")]
    Run,
    #[error("the digest before it says that the run was over")]
    AfterEnd,
}

impl Signed for RunDigest {
    const NAME: &'static str = "digest";
    const FORMAT: &'static str = DIGEST_FORMAT;
    const BYTES_MAX: usize = DIGEST_BYTES_MAX;

    fn format(&self) -> &str {
        &self.format
    }

    fn key(&self) -> KeyId {
        self.key
    }
}

impl RunDigest {
    /// Reads a digest's object, checks its signature by the one of `keys` that it names, and that it says nothing that
    /// contradicts itself.
    pub fn read(bytes: &[u8], keys: &(impl AsRef<[PublicKey]> + ?Sized)) -> Result<Self, DigestError> {
        let keys = keys.as_ref();
        let digest: Self = signed::read(bytes, keys).map_err(|unsigned| match unsigned {
            Unsigned::Unreadable(why) => DigestError::Unreadable(why),
            Unsigned::UnknownKey(found) => DigestError::UnknownKey {
                found,
                tried: KeyIds::of(keys),
            },
            Unsigned::Changed => DigestError::Changed,
        })?;
        digest.check()?;
        Ok(digest)
    }

    /// The day and the name under which it is stored.
    pub fn place(&self) -> (NaiveDate, DigestName) {
        let name = DigestName {
            hour: self.to.hour(),
            run: self.run,
            number: self.number,
        };
        (self.to.date_naive(), name)
    }

    pub fn key(&self) -> KeyId {
        self.key
    }

    /// Numbers ascend, and those from `first` on have no gap.
    fn check(&self) -> Result<(), DigestError> {
        let wrong = |why: &str| Err(DigestError::Unreadable(why.to_owned()));
        let numbers = self.sessions.iter().map(|line| line.number);
        if numbers
            .clone()
            .zip(numbers.clone().skip(1))
            .any(|(one, two)| one >= two)
        {
            return wrong("its sessions are not in order");
        }
        if !numbers.filter(|number| *number >= self.first).eq(self.first..self.next) {
            return wrong("its sessions have a gap");
        }
        if self.first > self.next || self.from > self.to {
            return wrong("it ends before it begins");
        }
        Ok(())
    }
}

impl RunChain {
    /// Of a run that has signed nothing yet.
    pub fn begin(gateway: &str, run: RunId, at: Timestamp) -> Self {
        Self {
            gateway: gateway.to_owned(),
            run,
            digests: 0,
            last: Digest::ZERO,
            to: at.trunc_subsecs(6),
            next: 0,
            open: Vec::new(),
            ended: false,
        }
    }

    /// Makes the next digest. The chain does not move on: [`follow`](Self::follow) it once it is safe.
    ///
    /// `Unreadable` when the draft contradicts itself or the chain, or is too long.
    pub fn sign(&self, draft: Draft, key: &SigningKey) -> Result<SignedDigest, DigestError> {
        let new = draft.sessions.iter().filter(|line| line.number >= self.next).count() as u64;
        let digest = RunDigest {
            format: DIGEST_FORMAT.to_owned(),
            gateway: self.gateway.clone(),
            run: self.run,
            number: self.digests,
            previous: self.last,
            from: self.to,
            // A clock that was set back must not keep a run from being digested.
            to: draft.to.trunc_subsecs(6).max(self.to),
            first: self.next,
            next: self.next + new,
            sessions: draft.sessions,
            ends: draft.ends,
            interrupted: draft.interrupted,
            key: key.key_id(),
        };
        digest.check()?;
        if digest.sessions.len() > LINES_MAX || digest.gateway.len() > GATEWAY_BYTES_MAX {
            return Err(DigestError::Unreadable("it is too long".to_owned()));
        }
        let bytes = signed::sign(&digest, key);
        let (day, name) = digest.place();
        Ok(SignedDigest {
            day,
            name,
            sha256: Digest::of(&bytes),
            bytes,
            digest,
        })
    }

    /// Checks that a digest, whose object has this SHA-256, is the next of the run, and moves on.
    pub fn follow(&mut self, digest: &RunDigest, sha256: Digest) -> Result<(), DigestError> {
        if digest.run != self.run || digest.gateway != self.gateway {
            return Err(DigestError::Run);
        }
        if digest.number != self.digests {
            return Err(DigestError::Number {
                found: digest.number,
                expected: self.digests,
            });
        }
        if digest.previous != self.last {
            return Err(DigestError::Previous);
        }
        if digest.first != self.next {
            return Err(DigestError::Sessions {
                found: digest.first,
                expected: self.next,
            });
        }
        if self.ended {
            return Err(DigestError::AfterEnd);
        }
        self.advance(digest, sha256);
        Ok(())
    }

    /// Goes on after a digest whose predecessors are not known.
    pub fn after(digest: &RunDigest, sha256: Digest) -> Self {
        let mut chain = Self::begin(&digest.gateway, digest.run, digest.from);
        chain.digests = digest.number;
        chain.advance(digest, sha256);
        chain
    }

    fn advance(&mut self, digest: &RunDigest, sha256: Digest) {
        self.digests += 1;
        self.last = sha256;
        self.to = digest.to;
        self.next = digest.next;
        self.ended = digest.ends;
        // What is open is named again and again until it is over.
        let is_named = |number: u64| {
            digest
                .sessions
                .binary_search_by_key(&number, |line| line.number)
                .is_ok()
        };
        self.open.retain(|line| !is_named(line.number));
        self.open.extend(digest.sessions.iter().filter(|line| !line.closed));
        self.open.sort_unstable_by_key(|line| line.number);
    }
}

impl fmt::Display for DigestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}-{}-{}.json", self.hour, self.run, self.number)
    }
}

/// The text is not the name of a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is called like 13-01890a5d-ac96-774b-bcce-b302099a8057-0.json")]
pub struct InvalidDigestName;

impl FromStr for DigestName {
    type Err = InvalidDigestName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (hour, rest) = text.strip_suffix(".json")?.split_once('-')?;
            let (run, number) = rest.rsplit_once('-')?;
            Some(Self {
                hour: hour.parse().ok()?,
                run: run.parse().ok()?,
                number: number.parse().ok()?,
            })
        };
        // One name, one spelling.
        parse().filter(|name| name.to_string() == text).ok_or(InvalidDigestName)
    }
}

#[cfg(test)]
mod tests;
