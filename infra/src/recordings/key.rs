//! The key that signs recordings: Ed25519, PKCS#8.

use super::format::KeyId;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The file of the private key within the keys directory.
pub const PRIVATE_FILE: &str = "recording.pem";
/// The file of the public key within the keys directory.
pub const PUBLIC_FILE: &str = "recording.pub.pem";
/// How files of public keys end that a directory of keys is made of.
const PUBLIC_ENDING: &str = ".pub.pem";

/// An Ed25519 SubjectPublicKeyInfo up to the 32 bytes of the key (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} can be read by others (mode {mode:o}): run chmod 600 on it, and think about a new key")]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "{path} is missing, but {public} is there: put the private key back, or move the public key away to \
             begin with a new pair"
    )]
    Lost { path: PathBuf, public: PathBuf },
    #[error("this is not {0}")]
    Invalid(&'static str),
    #[error("{path} is not an Ed25519 public key in PEM")]
    NotPublic { path: PathBuf },
    #[error("there is no public key in {path}: their files end in {PUBLIC_ENDING}")]
    NoKeys { path: PathBuf },
    #[error("{path} has more than {KEYS_MAX} public keys")]
    TooMany { path: PathBuf },
    #[error("no key could be made")]
    Random,
}

/// Signs chunks and manifests.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.public.id())
    }
}

impl SigningKey {
    /// Makes a new key.
    pub fn generate() -> Result<Self, KeyError> {
        Self::from_pair(Ed25519KeyPair::generate().map_err(|_| KeyError::Random)?)
    }

    /// Reads a PKCS#8 private key in PEM (RFC 5958, version 1 or 2).
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        const WHAT: &str = "an Ed25519 private key in PEM (PKCS#8)";
        let der = Zeroizing::new(pem_decode("PRIVATE KEY", pem).ok_or(KeyError::Invalid(WHAT))?);
        Self::from_pair(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| KeyError::Invalid(WHAT))?)
    }

    fn from_pair(pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let public = PublicKey::from_raw(pair.public_key().as_ref())?;
        Ok(Self { pair, public })
    }

    /// Writes the private key as PKCS#8 in PEM, version 1, which OpenSSL reads too.
    pub fn private_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let der = self.pair.to_pkcs8v1().map_err(|_| KeyError::Random)?;
        Ok(Zeroizing::new(pem_encode("PRIVATE KEY", der.as_ref())))
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub fn public_pem(&self) -> String {
        self.public.pem()
    }

    pub fn key_id(&self) -> KeyId {
        self.public.id()
    }

    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut out = [0; 64];
        out.copy_from_slice(self.pair.sign(message).as_ref());
        out
    }

    /// Loads the key from a directory; makes a new pair where there is none (private key with mode 0600). Blocks.
    pub fn load_or_create(directory: &Path) -> Result<Self, KeyError> {
        let (path, public) = (directory.join(PRIVATE_FILE), directory.join(PUBLIC_FILE));
        match std::fs::metadata(&path) {
            Ok(_) => Self::load(&path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if public.exists() {
                    return Err(KeyError::Lost { path, public });
                }
                let key = Self::generate()?;
                std::fs::create_dir_all(directory).map_err(io(directory))?;
                write_new(&path, key.private_pem()?.as_bytes(), 0o600)?;
                write_new(&public, key.public_pem().as_bytes(), 0o644)?;
                Ok(key)
            }
            Err(error) => Err(io(&path)(error)),
        }
    }

    /// Loads a private key from a file that nobody else may read. Blocks.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let mode = std::fs::metadata(path).map_err(io(path))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        Self::from_pem(&Zeroizing::new(std::fs::read_to_string(path).map_err(io(path))?))
    }
}

/// Checks what a [`SigningKey`] signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    raw: [u8; 32],
}

impl PublicKey {
    fn from_raw(raw: &[u8]) -> Result<Self, KeyError> {
        let raw = raw.try_into().map_err(|_| KeyError::Invalid("an Ed25519 public key"))?;
        Ok(Self { raw })
    }

    /// Reads a public key in PEM (SubjectPublicKeyInfo).
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        const WHAT: &str = "an Ed25519 public key in PEM";
        let der = pem_decode("PUBLIC KEY", pem).ok_or(KeyError::Invalid(WHAT))?;
        Self::from_raw(der.strip_prefix(&SPKI_PREFIX).ok_or(KeyError::Invalid(WHAT))?)
    }

    pub fn pem(&self) -> String {
        pem_encode("PUBLIC KEY", &self.der())
    }

    pub fn id(&self) -> KeyId {
        let mut id = [0; 8];
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.der());
        for (to, from) in id.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        KeyId(id)
    }

    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.raw)
            .verify(message, signature)
            .is_ok()
    }

    fn der(&self) -> Vec<u8> {
        [SPKI_PREFIX.as_slice(), self.raw.as_slice()].concat()
    }
}

/// One key is a list of one: what is checked by a list can be checked by a key.
impl AsRef<[PublicKey]> for PublicKey {
    fn as_ref(&self) -> &[PublicKey] {
        std::slice::from_ref(self)
    }
}

/// The key of that name.
pub(super) fn find(keys: &[PublicKey], id: KeyId) -> Option<&PublicKey> {
    keys.iter().find(|key| key.id() == id)
}

/// The public keys that a reader of recordings trusts: each gateway signs with its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyring(Vec<PublicKey>);

/// Most keys of a keyring.
const KEYS_MAX: usize = 1000;
/// Longest file that is read as a public key.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

impl Keyring {
    /// Each key once, in the order given.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        let mut ring = Self(Vec::new());
        for key in keys {
            ring.add(key);
        }
        ring
    }

    pub fn add(&mut self, key: PublicKey) {
        if !self.0.contains(&key) {
            self.0.push(key);
        }
    }

    /// Loads public keys in PEM: from files, and from every `*.pub.pem` of directories. A place without any key is an
    /// error. Blocks.
    pub fn load(places: &[PathBuf]) -> Result<Self, KeyError> {
        let mut ring = Self(Vec::new());
        for place in places {
            let files = if place.is_dir() {
                public_files(place)?
            } else {
                vec![place.clone()]
            };
            if files.is_empty() {
                return Err(KeyError::NoKeys { path: place.clone() });
            }
            for file in files {
                ring.add(read_public(&file)?);
            }
            if ring.0.len() > KEYS_MAX {
                return Err(KeyError::TooMany { path: place.clone() });
            }
        }
        Ok(ring)
    }

    pub fn keys(&self) -> &[PublicKey] {
        &self.0
    }
}

impl AsRef<[PublicKey]> for Keyring {
    fn as_ref(&self) -> &[PublicKey] {
        &self.0
    }
}

impl From<PublicKey> for Keyring {
    fn from(key: PublicKey) -> Self {
        Self(vec![key])
    }
}

fn public_files(directory: &Path) -> Result<Vec<PathBuf>, KeyError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io(directory))? {
        let path = entry.map_err(io(directory))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.ends_with(PUBLIC_ENDING)) {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn read_public(path: &Path) -> Result<PublicKey, KeyError> {
    let mut pem = String::new();
    let file = std::fs::File::open(path).map_err(io(path))?;
    file.take(KEY_FILE_BYTES_MAX)
        .read_to_string(&mut pem)
        .map_err(io(path))?;
    PublicKey::from_pem(&pem).map_err(|_| KeyError::NotPublic { path: path.to_owned() })
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::Io { path, source }
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyError> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(io(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io(path))
}

fn pem_encode(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for (index, letter) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            pem.push('\n');
        }
        pem.push(letter);
    }
    pem.push_str(&format!("\n-----END {label}-----\n"));
    pem
}

fn pem_decode(label: &str, pem: &str) -> Option<Vec<u8>> {
    let body = pem.trim().strip_prefix(&format!("-----BEGIN {label}-----"))?;
    let body = body.strip_suffix(&format!("-----END {label}-----"))?;
    let text = body.split_ascii_whitespace().collect::<String>();
    BASE64_STANDARD.decode(text).ok()
}
