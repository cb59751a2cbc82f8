//! The issuer's keys, and tokens signed with them as they should be or not.

use anyhow::Context;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use aws_lc_rs::{hmac, rsa};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    Rs256,
    Es256,
    /// By nobody: `alg` is `none`.
    Unsigned,
    /// With HS256 and the RSA public key as the secret: the classic confusion.
    Hs256WithPublicKey,
    /// With RS256 under the right key's name, by a key of somebody else.
    ForgedRs256,
}

pub(super) struct Key {
    id: String,
    pair: Pair,
}

enum Pair {
    Rsa(rsa::KeyPair),
    P256(EcdsaKeyPair),
}

impl Key {
    pub(super) fn rsa(id: String) -> anyhow::Result<Self> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).context("an RSA key")?;
        Ok(Self {
            id,
            pair: Pair::Rsa(pair),
        })
    }

    pub(super) fn p256(id: String) -> anyhow::Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).context("a P-256 key")?;
        Ok(Self {
            id,
            pair: Pair::P256(pair),
        })
    }

    /// The public half as a JSON Web Key.
    pub(super) fn public(&self) -> Value {
        match &self.pair {
            Pair::Rsa(pair) => {
                // RSAPublicKey (RFC 8017, A.1.1) of 2048 bits: 9 bytes of headers and sign, the modulus, 65537.
                let modulus = pair.public_key().as_ref().get(9..9 + 256).unwrap_or_default();
                json!({
                    "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id,
                    "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB",
                })
            }
            Pair::P256(pair) => {
                // An uncompressed point: 4, then x and y of 32 bytes each.
                let (x, y) = pair.public_key().as_ref().get(1..).unwrap_or_default().split_at(32);
                json!({
                    "kty": "EC", "use": "sig", "alg": "ES256", "crv": "P-256", "kid": self.id,
                    "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
                })
            }
        }
    }

    fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .context("an RSA signature")?;
                Ok(signature)
            }
            Pair::P256(pair) => Ok(pair
                .sign(&random, message)
                .context("a P-256 signature")?
                .as_ref()
                .to_vec()),
        }
    }

    fn is_rsa(&self) -> bool {
        matches!(self.pair, Pair::Rsa(_))
    }
}

/// Makes a token.
///
/// # Panics
/// When a key cannot sign, which the crypto library does not let happen.
pub(super) fn token(
    keys: &[Arc<Key>],
    header: Map<String, Value>,
    payload: &Map<String, Value>,
    signing: Signing,
) -> String {
    let key = keys
        .iter()
        .find(|key| key.is_rsa() == (signing != Signing::Es256))
        .expect("keys of both kinds");
    let algorithm = match signing {
        Signing::Rs256 | Signing::ForgedRs256 => "RS256",
        Signing::Es256 => "ES256",
        Signing::Unsigned => "none",
        Signing::Hs256WithPublicKey => "HS256",
    };
    let mut full = Map::from_iter([
        ("alg".to_owned(), Value::from(algorithm)),
        ("typ".to_owned(), Value::from("JWT")),
        ("kid".to_owned(), Value::from(key.id.as_str())),
    ]);
    full.extend(header);
    full.retain(|_, value| !value.is_null());
    let message = format!("{}.{}", encoded(&full), encoded(payload));
    let signature = match signing {
        Signing::Rs256 | Signing::Es256 => key.sign(message.as_bytes()),
        Signing::ForgedRs256 => Key::rsa(key.id.clone()).and_then(|other| other.sign(message.as_bytes())),
        Signing::Unsigned => Ok(Vec::new()),
        Signing::Hs256WithPublicKey => Ok(hmac_with_public_key(key, message.as_bytes())),
    };
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.expect("a signature")))
}

fn hmac_with_public_key(key: &Key, message: &[u8]) -> Vec<u8> {
    let secret = match &key.pair {
        Pair::Rsa(pair) => pair
            .public_key()
            .as_der()
            .expect("a public key in DER")
            .as_ref()
            .to_vec(),
        Pair::P256(pair) => pair.public_key().as_ref().to_vec(),
    };
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message)
        .as_ref()
        .to_vec()
}

fn encoded(part: &Map<String, Value>) -> String {
    URL_SAFE_NO_PAD.encode(Value::Object(part.clone()).to_string())
}
