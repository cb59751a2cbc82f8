//! Secrets and files by reference.

use super::stored_secret::{StoredSecret, StoredSecretError};
use crate::domain::secret::Secret;
use serde::Deserialize;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A secret or a file's content by reference: `env:NAME`, `file:PATH` (relative to the configuration file), or
/// `secret:NAME-OR-ARN` and `secret:NAME-OR-ARN#KEY` (AWS Secrets Manager).
/// Text that is none of them is an error: a secret never stands in the configuration itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Reference {
    Env(String),
    File(PathBuf),
    Stored(StoredSecret),
}

impl TryFrom<String> for Reference {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(PathBuf::from(path))),
            Some(("secret", place)) => StoredSecret::parse(place).map(Self::Stored),
            _ => Err(
                "write env:NAME, file:PATH or secret:NAME (in AWS Secrets Manager): a secret never stands in the \
                 configuration itself",
            ),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Stored(place) => write!(f, "secret:{place}"),
        }
    }
}

/// Why a reference could not be read. Names the place, never what stands there.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    #[error("the environment variable {0} is not set")]
    NotSet(String),
    #[error("{0} is empty")]
    Empty(Reference),
    #[error("{0} is not UTF-8 text")]
    NotText(Reference),
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    #[error("{} is larger than {} bytes", .0.display(), Reference::BYTES_MAX)]
    TooLarge(PathBuf),
    #[error("{} is readable by everyone (mode {mode:04o}): run chmod o-rwx on it", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error(transparent)]
    Stored(#[from] StoredSecretError),
}

impl Reference {
    /// Longest content of a referenced file, in bytes.
    pub const BYTES_MAX: u64 = 1 << 20;

    /// Reads a secret: a password or a private key. Line ends at its end are cut off.
    ///
    /// Blocks on the file system, or for at most 10 s on Secrets Manager, which is asked once for each secret in the life of
    /// the program. A file that everyone may read, write or run is refused.
    pub fn read(&self) -> Result<Secret, ReferenceError> {
        let text = match self {
            Self::Env(name) => variable(name)?,
            Self::File(path) => {
                let bytes = Zeroizing::new(file(path, Audience::Owner)?);
                let text = std::str::from_utf8(&bytes).map_err(|_| ReferenceError::NotText(self.clone()))?;
                Zeroizing::new(text.to_owned())
            }
            Self::Stored(place) => place.read()?,
        };
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            return Err(ReferenceError::Empty(self.clone()));
        }
        Ok(Secret::new(secret.to_owned()))
    }

    /// Reads something public, such as a certificate, as it is. Blocks as `read` does.
    pub fn read_bytes(&self) -> Result<Vec<u8>, ReferenceError> {
        let bytes = match self {
            Self::Env(name) => variable(name)?.as_bytes().to_vec(),
            Self::File(path) => file(path, Audience::Anyone)?,
            Self::Stored(place) => place.read()?.as_bytes().to_vec(),
        };
        if bytes.is_empty() {
            return Err(ReferenceError::Empty(self.clone()));
        }
        Ok(bytes)
    }

    /// Reads something public that is text.
    pub(super) fn read_text(&self) -> Result<String, ReferenceError> {
        String::from_utf8(self.read_bytes()?).map_err(|_| ReferenceError::NotText(self.clone()))
    }

    /// Makes a relative path stand beside the configuration file.
    pub(super) fn resolve(&mut self, base: &Path) {
        match self {
            Self::File(path) => *path = base.join(&path),
            Self::Env(_) | Self::Stored(_) => {}
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Audience {
    Owner,
    Anyone,
}

fn variable(name: &str) -> Result<Zeroizing<String>, ReferenceError> {
    match std::env::var(name) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(std::env::VarError::NotPresent) => Err(ReferenceError::NotSet(name.to_owned())),
        Err(std::env::VarError::NotUnicode(_)) => Err(ReferenceError::NotText(Reference::Env(name.to_owned()))),
    }
}

fn file(path: &Path, audience: Audience) -> Result<Vec<u8>, ReferenceError> {
    let unreadable = |source| ReferenceError::Unreadable {
        path: path.to_owned(),
        source,
    };
    // Before the open: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(ReferenceError::NotAFile(path.to_owned()));
    }
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if audience == Audience::Owner && mode & 0o007 != 0 {
        return Err(ReferenceError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut bytes = Vec::new();
    file.take(Reference::BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > Reference::BYTES_MAX {
        return Err(ReferenceError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(mode: u32, bytes: &[u8]) -> (tempfile::TempDir, Reference) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, Reference::File(path))
    }

    #[test]
    fn a_secret_ends_before_its_line_end() {
        for bytes in ["s3cret", "s3cret\n", "s3cret\r\n", "s3cret\n\n"] {
            let (_dir, reference) = written(0o600, bytes.as_bytes());
            assert_eq!(reference.read().unwrap().reveal(), "s3cret");
        }
    }

    #[test]
    fn a_secret_that_everyone_may_read_is_refused() {
        for (mode, refused) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
            let (_dir, reference) = written(mode, b"s3cret");
            let result = reference.read();
            assert_eq!(
                matches!(result, Err(ReferenceError::Exposed { .. })),
                refused,
                "{mode:o}: {result:?}"
            );
            assert!(reference.read_bytes().is_ok(), "a certificate may be public");
        }
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused() {
        let (dir, empty) = written(0o600, b"\n");
        assert!(matches!(empty.read(), Err(ReferenceError::Empty(_))));
        let (_dir, binary) = written(0o600, &[0xff, 0xfe]);
        assert!(matches!(binary.read(), Err(ReferenceError::NotText(_))));
        let (_dir, large) = written(0o600, &vec![b'a'; 1 + (1 << 20)]);
        assert!(matches!(large.read(), Err(ReferenceError::TooLarge(_))));
        let directory = Reference::File(dir.path().to_owned());
        assert!(matches!(directory.read(), Err(ReferenceError::NotAFile(_))));
        let missing = Reference::File(dir.path().join("missing"));
        assert!(matches!(missing.read(), Err(ReferenceError::Unreadable { .. })));
        let unset = Reference::Env("COUNTERSIGN_TEST_NEVER_SET".to_owned());
        assert!(matches!(unset.read(), Err(ReferenceError::NotSet(_))));
    }

    #[test]
    fn text_that_is_no_reference_is_refused() {
        for text in [
            "hunter2",
            "env:",
            "file:",
            "secret:",
            "secret:a b",
            "vault:secret/x",
            "",
        ] {
            assert!(Reference::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
