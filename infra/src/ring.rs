//! A ring: how a gateway tells the bot to look at an approval, and how the bot knows that a gateway rings.
//!
//! A ring is `POST <bot.url>/ring` with the approval's number and nothing else of it: the bot reads the store. It is
//! signed like a webhook: `v1=` and HMAC-SHA256 (RFC 2104) over version, time and the body's own bytes. A repeated
//! ring is harmless, because it only makes the cards show the present state; so no ring is remembered.

use crate::domain::Timestamp;
use crate::domain::id::ApprovalId;
use crate::domain::secret::Secret;
use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};

/// Where rings go, below the bot's address.
pub const PATH: &str = "/ring";
/// Names the header with the moment of the signature: Unix seconds.
pub const TIME_HEADER: &str = "x-countersign-time";
/// Names the header with the signature: `v1=` and 64 hexadecimal digits.
pub const SIGNATURE_HEADER: &str = "x-countersign-signature";
/// How far the two clocks may be apart, in seconds.
pub const AGE_SECONDS_MAX: u64 = 300;
/// Longest body of a ring, in bytes.
pub const BODY_BYTES_MAX: usize = 1024;

const VERSION: &str = "v1";

/// The body of a ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ring {
    pub approval: ApprovalId,
}

/// What the bot says of a ring: how many places should show the approval, and how many show its present state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingAnswer {
    pub places: u32,
    pub shown: u32,
}

/// The key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the ring key has {bytes} bytes, it needs at least {}: make one with `openssl rand -hex 32`",
    RingKey::BYTES_MIN
)]
pub struct ShortRingKey {
    pub bytes: usize,
}

/// Why something that came in is no ring of a gateway of ours. Says nothing of what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingRefused {
    #[error("its time is no number of seconds")]
    Time,
    #[error("its time is more than {AGE_SECONDS_MAX} s off: look at the clocks of gateway and bot")]
    Age,
    #[error("its signature is not that of the ring key")]
    Signature,
}

/// The secret that gateways and bot share. Nothing shows it.
pub struct RingKey(hmac::Key);

impl RingKey {
    /// Shortest key, in bytes: as long as what it makes (RFC 2104, section 3).
    pub const BYTES_MIN: usize = 32;

    /// Takes the key's text as it is, without blanks and line ends around it.
    pub fn new(secret: Secret) -> Result<Self, ShortRingKey> {
        let key = secret.reveal().trim().as_bytes();
        match key.len() {
            bytes @ 0..Self::BYTES_MIN => Err(ShortRingKey { bytes }),
            _ => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, key))),
        }
    }

    /// Signs a body: the values of the time and of the signature header.
    pub fn sign(&self, now: Timestamp, body: &[u8]) -> (String, String) {
        let time = now.timestamp().to_string();
        let tag = hmac::sign(&self.0, &signed(&time, body));
        (time, format!("{VERSION}={}", hex::encode(tag)))
    }

    /// Checks the headers of a ring against its body, before anything of the body is read. Takes the same time
    /// wherever a signature is wrong.
    pub fn verify(&self, now: Timestamp, time: &str, signature: &str, body: &[u8]) -> Result<(), RingRefused> {
        let seconds = seconds(time).ok_or(RingRefused::Time)?;
        if now.timestamp().abs_diff(seconds) > AGE_SECONDS_MAX {
            return Err(RingRefused::Age);
        }
        let digits = signature
            .strip_prefix(VERSION)
            .and_then(|rest| rest.strip_prefix('='))
            .ok_or(RingRefused::Signature)?;
        let tag = hex::decode(digits).map_err(|_| RingRefused::Signature)?;
        hmac::verify(&self.0, &signed(time, body), &tag).map_err(|_| RingRefused::Signature)
    }
}

impl std::fmt::Debug for RingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RingKey(..)")
    }
}

fn signed(time: &str, body: &[u8]) -> Vec<u8> {
    [VERSION.as_bytes(), b":", time.as_bytes(), b":", body].concat()
}

/// Digits alone: no sign, no blanks, which `parse` would take.
fn seconds(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    const KEY: &str = "0123456789abcdef0123456789abcdef";
    const TIME: i64 = 1_790_000_000;
    const BODY: &str = r#"{"approval":"QJF6HN4C"}"#;
    /// `printf 'v1:1790000000:{"approval":"QJF6HN4C"}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef`
    const SIGNATURE: &str = "v1=a7913213cb26b73cf53de4e7d6b71957297131c7e8ae4c3f62250f113cd0d2cb";

    fn key(text: &str) -> Result<RingKey, ShortRingKey> {
        RingKey::new(Secret::new(text.to_owned()))
    }

    fn at(seconds: i64) -> Timestamp {
        DateTime::from_timestamp(seconds, 999_000_000).unwrap()
    }

    fn check(time: &str, signature: &str, body: &str, wanted: Result<(), RingRefused>) {
        let answer = key(KEY).unwrap().verify(at(TIME), time, signature, body.as_bytes());
        assert_eq!(answer, wanted, "{time} {signature} {body}");
    }

    #[test]
    fn a_ring_is_signed_as_openssl_signs_it() {
        let (time, signature) = key(KEY).unwrap().sign(at(TIME), BODY.as_bytes());
        assert_eq!((time.as_str(), signature.as_str()), ("1790000000", SIGNATURE));
        check(&time, &signature, BODY, Ok(()));
    }

    #[test]
    fn what_is_not_signed_by_the_key_is_refused() {
        let refused = Err(RingRefused::Signature);
        let other = key("fedcba9876543210fedcba9876543210").unwrap();
        check("1790000000", &other.sign(at(TIME), BODY.as_bytes()).1, BODY, refused);
        check("1790000001", SIGNATURE, BODY, refused);
        check("1790000000", SIGNATURE, r#"{"approval":"QJF6HN4D"}"#, refused);
        check("1790000000", SIGNATURE, r#"{"approval": "QJF6HN4C"}"#, refused);
        for signature in [
            "",
            "v1",
            "v1=",
            "v1=00",
            "v1=zz",
            &SIGNATURE[3..],
            &SIGNATURE[..SIGNATURE.len() - 2],
            &format!("{SIGNATURE}00"),
            &SIGNATURE.replacen("v1", "v0", 1),
            &format!("{} ", SIGNATURE),
        ] {
            check("1790000000", signature, BODY, refused);
        }
    }

    #[test]
    fn a_ring_of_another_time_is_refused_even_with_a_right_signature() {
        let key = key(KEY).unwrap();
        for (seconds, wanted) in [
            (TIME - 301, Err(RingRefused::Age)),
            (TIME - 300, Ok(())),
            (TIME + 300, Ok(())),
            (TIME + 301, Err(RingRefused::Age)),
        ] {
            let (time, signature) = key.sign(at(seconds), BODY.as_bytes());
            check(&time, &signature, BODY, wanted);
        }
        for time in [
            "",
            " 1790000000",
            "+1790000000",
            "-1",
            "1790000000.5",
            "99999999999999999999",
        ] {
            check(time, SIGNATURE, BODY, Err(RingRefused::Time));
        }
    }

    #[test]
    fn a_short_key_is_refused_and_no_key_is_shown() {
        assert_eq!(key(&KEY[1..]).unwrap_err(), ShortRingKey { bytes: 31 });
        assert_eq!(key(&format!("{} ", &KEY[1..])).unwrap_err(), ShortRingKey { bytes: 31 });
        let key = key(&format!("{KEY}\n")).unwrap();
        assert_eq!(key.sign(at(TIME), BODY.as_bytes()).1, SIGNATURE);
        assert_eq!(format!("{key:?}"), "RingKey(..)");
    }

    #[test]
    fn the_body_names_an_approval_and_nothing_else() {
        let ring: Ring = serde_json::from_str(BODY).unwrap();
        assert_eq!(serde_json::to_string(&ring).unwrap(), BODY);
        for body in [
            "{}",
            r#"{"approval":"x"}"#,
            r#"{"approval":"QJF6HN4C","state":"approved"}"#,
        ] {
            assert!(serde_json::from_str::<Ring>(body).is_err(), "{body}");
        }
    }
}
