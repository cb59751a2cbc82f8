//! Identifiers, and the digest that binds an approval to exact bytes.

use super::Timestamp;
use chrono::DateTime;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The number of an approval as people read it aloud: eight characters of Crockford's base 32 (40 random bits).
///
/// It names the record and grants nothing: every use of it is checked against the caller's identity. The store
/// refuses a second record under the same number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApprovalId(String);

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl ApprovalId {
    /// Number of characters.
    pub const LENGTH: usize = 8;

    /// Makes a number of 40 bits of randomness given by the caller.
    pub fn from_random(random: [u8; 5]) -> Self {
        let mut bits = random.iter().fold(0u64, |acc, byte| acc << 8 | u64::from(*byte));
        let mut text = [0u8; Self::LENGTH];
        for place in text.iter_mut().rev() {
            *place = CROCKFORD.get((bits & 31) as usize).copied().unwrap_or(b'0');
            bits >>= 5;
        }
        Self(text.iter().map(|byte| char::from(*byte)).collect())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not an approval number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an approval number has {} letters and digits, like K7Q2M4XA", ApprovalId::LENGTH)]
pub struct InvalidApprovalId;

impl FromStr for ApprovalId {
    type Err = InvalidApprovalId;

    /// Reads a number as a person types it: any case, dashes and blanks ignored, I and L read as 1, O as 0.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut id = String::with_capacity(Self::LENGTH);
        for letter in text.chars().filter(|c| !matches!(c, '-' | ' ')) {
            let letter = match letter.to_ascii_uppercase() {
                'I' | 'L' => '1',
                'O' => '0',
                other => other,
            };
            if id.len() == Self::LENGTH || !letter.is_ascii() || !CROCKFORD.contains(&(letter as u8)) {
                return Err(InvalidApprovalId);
            }
            id.push(letter);
        }
        if id.len() == Self::LENGTH {
            Ok(Self(id))
        } else {
            Err(InvalidApprovalId)
        }
    }
}

impl TryFrom<String> for ApprovalId {
    type Error = InvalidApprovalId;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ApprovalId> for String {
    fn from(id: ApprovalId) -> Self {
        id.0
    }
}

/// The id of a session: a UUID of version 7, so that ids sort by the time they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub uuid::Uuid);

impl SessionId {
    /// When the id was made: a moment before the session's first event. None when it is of another version.
    pub fn made(self) -> Option<Timestamp> {
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SessionId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// One run of a gateway, from its start to its end: a UUID of version 7, so that runs sort by their start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub uuid::Uuid);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The id of a grant: a UUID of version 7, so that ids sort by the time they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrantId(pub uuid::Uuid);

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for GrantId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A SHA-256 digest, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest that stands before the first link of a chain.
    pub const ZERO: Self = Self([0; 32]);

    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = DigestBuilder::default();
        hasher.raw(bytes);
        hasher.finish()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = hex::FromHexError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// Builds a digest of tagged, length-prefixed parts, so that no two different lists of parts share their bytes.
pub struct DigestBuilder(aws_lc_rs::digest::Context);

impl Default for DigestBuilder {
    fn default() -> Self {
        Self(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256))
    }
}

impl DigestBuilder {
    /// Adds one part: the tag's length and bytes, then the value's length (8 bytes, big endian) and bytes.
    pub fn part(&mut self, tag: &str, value: &[u8]) -> &mut Self {
        self.0.update(&(tag.len() as u64).to_be_bytes());
        self.0.update(tag.as_bytes());
        self.0.update(&(value.len() as u64).to_be_bytes());
        self.0.update(value);
        self
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Digest(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{ApprovalId, Digest, DigestBuilder, InvalidApprovalId};

    #[test]
    fn a_number_is_read_as_people_type_it() {
        for (typed, expected) in [
            ("K7Q2M4XA", Ok("K7Q2M4XA")),
            ("k7q2-m4xa", Ok("K7Q2M4XA")),
            (" k7q2 m4xa ", Ok("K7Q2M4XA")),
            ("oOiIlL00", Ok("00111100")),
            ("", Err(InvalidApprovalId)),
            ("K7Q2M4X", Err(InvalidApprovalId)),
            ("K7Q2M4XAB", Err(InvalidApprovalId)),
            ("K7Q2M4XU", Err(InvalidApprovalId)),
            ("K7Q2M4X'", Err(InvalidApprovalId)),
            ("K7Q2M4Xé", Err(InvalidApprovalId)),
            ("\u{17f}7Q2M4XA", Err(InvalidApprovalId)),
        ] {
            let read = typed.parse::<ApprovalId>();
            assert_eq!(
                read.as_ref().map(ApprovalId::as_str),
                expected.as_ref().copied(),
                "{typed:?}"
            );
        }
    }

    #[test]
    fn every_bit_of_the_randomness_counts() {
        assert_eq!(ApprovalId::from_random([0; 5]).as_str(), "00000000");
        assert_eq!(ApprovalId::from_random([0xff; 5]).as_str(), "ZZZZZZZZ");
        let flipped = (0..40).map(|bit| {
            let mut random = [0; 5];
            random[bit / 8] = 1 << (bit % 8);
            ApprovalId::from_random(random)
        });
        let distinct: std::collections::BTreeSet<_> = flipped.collect();
        assert_eq!(distinct.len(), 40);
    }

    #[test]
    fn a_digest_is_sha_256_in_hexadecimal() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), abc);
        assert_eq!(Digest::try_from(abc.to_owned()), Ok(Digest::of(b"abc")));
        for wrong in ["", "ba78", &abc.replace('b', "g"), &format!("{abc}00")] {
            assert!(Digest::try_from(wrong.to_owned()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn lists_of_parts_that_read_alike_have_digests_of_their_own() {
        let digest = |parts: &[(&str, &str)]| {
            let mut digest = DigestBuilder::default();
            for (tag, value) in parts {
                digest.part(tag, value.as_bytes());
            }
            digest.finish()
        };
        let lists: [&[(&str, &str)]; 8] = [
            &[],
            &[("", "")],
            &[("a", "b")],
            &[("ab", "")],
            &[("", "ab")],
            &[("a", ""), ("b", "")],
            &[("a", "b"), ("", "")],
            &[("b", "a")],
        ];
        let distinct: std::collections::BTreeSet<_> = lists.iter().map(|list| digest(list)).collect();
        assert_eq!(distinct.len(), lists.len());
    }
}
