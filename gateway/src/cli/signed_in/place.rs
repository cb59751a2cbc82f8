//! Where sign-ins are kept: one file per gateway that only its owner may read.
//!
//! It is always a file. A keyring (the Secret Service of a desktop) would bring some sixty crates and a second
//! asynchronous runtime's worth of D-Bus for what a file of mode 0600 gives as well against other accounts of the
//! machine; it guards neither against programs of the same account, nor exists where engineers work over SSH. Kept:
//! 2026-11. What would change it: a demand that tokens be encrypted at rest with the login password.

use super::SignIn;
use crate::cli::client::ClientError;
use crate::console::SignInEntry;
use chrono::{DateTime, Utc};
use countersign_infra::domain::secret::Secret;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

const FILE_BYTES_MAX: u64 = 1 << 20;
/// A refresh asks an issuer three times, each within its bound.
const LOCK_TIME_MAX: Duration = Duration::from_secs(120);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// A person's directory of sign-ins.
pub struct Place {
    directory: PathBuf,
}

/// Held while a sign-in is changed. The lock ends with the process, too.
pub struct Lock {
    _file: File,
}

impl Place {
    /// `$XDG_STATE_HOME/countersign`, else `~/.local/state/countersign` (XDG Base Directory Specification). It is made
    /// when something is kept.
    pub fn of_this_person() -> Result<Self, ClientError> {
        let absolute = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
        let state = state.ok_or_else(|| {
            ClientError::NotSignedIn("there is no place for a sign-in: set HOME, or COUNTERSIGN_TOKEN".to_owned())
        })?;
        Ok(Self {
            directory: state.join("countersign"),
        })
    }

    /// Reads what is kept for a gateway. What others may read is refused.
    pub fn read(&self, gateway: &Url) -> Result<Option<SignIn>, ClientError> {
        let path = self.path(gateway, "json");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, error)),
        };
        only_mine(&self.directory, &std::fs::metadata(&self.directory))?;
        only_mine(&path, &file.metadata())?;
        let mut text = String::new();
        file.take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|error| failed(&path, error))?;
        let damaged = |why: String| {
            let path = path.display();
            ClientError::Usage(format!(
                "{path} holds no sign-in ({why}): run `countersign login` again"
            ))
        };
        let written: Written = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        match named(&written.gateway) == named(gateway) {
            true => Ok(Some(written.sign_in())),
            false => Err(damaged(format!("it is of {}", written.gateway))),
        }
    }

    /// Writes a sign-in, whole or not at all, and says where.
    pub fn write(&self, gateway: &Url, sign_in: &SignIn) -> Result<PathBuf, ClientError> {
        self.make()?;
        let (path, temporary) = (self.path(gateway, "json"), self.path(gateway, "new"));
        let text = serde_json::to_vec_pretty(&Written::of(gateway, sign_in))
            .map_err(|error| ClientError::Usage(error.to_string()))?;
        // Left by a command that was killed; only the owner of the lock comes here.
        drop(std::fs::remove_file(&temporary));
        let written = write_synced(&temporary, &text).and_then(|()| std::fs::rename(&temporary, &path));
        written.map_err(|error| failed(&path, error))?;
        Ok(path)
    }

    pub fn remove(&self, gateway: &Url) -> Result<(), ClientError> {
        let path = self.path(gateway, "json");
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(&path, error)),
        }
    }

    /// Waits until no other command changes the sign-in at this gateway.
    pub async fn lock(&self, gateway: &Url) -> Result<Lock, ClientError> {
        self.make()?;
        let path = self.path(gateway, "lock");
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        let file = opened.map_err(|error| failed(&path, error))?;
        let wait = async {
            loop {
                match file.try_lock() {
                    Ok(()) => return Ok(()),
                    Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
                    Err(TryLockError::Error(error)) => return Err(failed(&path, error)),
                }
            }
        };
        match tokio::time::timeout(LOCK_TIME_MAX, wait).await {
            Ok(locked) => locked.map(|()| Lock { _file: file }),
            Err(_) => Err(ClientError::Unavailable(format!(
                "another command has held {} for {} s: end it, or try again",
                path.display(),
                LOCK_TIME_MAX.as_secs()
            ))),
        }
    }

    fn make(&self) -> Result<(), ClientError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.map_err(|error| failed(&self.directory, error))?;
        only_mine(&self.directory, &std::fs::metadata(&self.directory))
    }

    fn path(&self, gateway: &Url, end: &str) -> PathBuf {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, named(gateway).as_bytes());
        let short = digest.as_ref().iter().take(8);
        let short: String = short.map(|byte| format!("{byte:02x}")).collect();
        let host: String = gateway.host_str().unwrap_or_default().chars().take(64).collect();
        let host = host.replace(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.', "_");
        self.directory.join(format!("sign-in-{host}-{short}.{end}"))
    }
}

/// A gateway's address, with its last slash or without.
fn named(gateway: &Url) -> &str {
    gateway.as_str().trim_end_matches('/')
}

fn only_mine(path: &Path, metadata: &io::Result<std::fs::Metadata>) -> Result<(), ClientError> {
    let mode = metadata.as_ref().map(MetadataExt::mode);
    match mode {
        Ok(mode) if mode & 0o077 == 0 => Ok(()),
        Ok(mode) => Err(ClientError::Usage(format!(
            "others may read {} (mode {:03o}), which holds tokens: run `chmod go= {0}`, then `countersign logout` and \
             `countersign login`",
            path.display(),
            mode & 0o777
        ))),
        Err(error) => Err(ClientError::Usage(format!("{}: {error}", path.display()))),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn failed(path: &Path, error: io::Error) -> ClientError {
    ClientError::Usage(format!("{}: {error}", path.display()))
}

/// A sign-in as it stands in its file.
#[derive(Serialize, Deserialize)]
struct Written {
    gateway: Url,
    #[serde(flatten)]
    entry: SignInEntry,
    subject: String,
    name: String,
    ends: DateTime<Utc>,
    token: Shown,
    refresh_token: Option<Shown>,
}

/// A secret in its owner's file, the one place where it is written down.
struct Shown(Secret);

impl Written {
    fn of(gateway: &Url, sign_in: &SignIn) -> Self {
        let SignIn {
            entry,
            subject,
            name,
            ends,
            token,
            refresh_token,
        } = sign_in.clone();
        Self {
            gateway: gateway.clone(),
            entry,
            subject,
            name,
            ends,
            token: Shown(token),
            refresh_token: refresh_token.map(Shown),
        }
    }

    fn sign_in(self) -> SignIn {
        SignIn {
            entry: self.entry,
            subject: self.subject,
            name: self.name,
            ends: self.ends,
            token: self.token.0,
            refresh_token: self.refresh_token.map(|token| token.0),
        }
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.reveal().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret::new).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn place(directory: &tempfile::TempDir) -> Place {
        Place {
            directory: directory.path().join("state/countersign"),
        }
    }

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn sign_in(token: &str) -> SignIn {
        SignIn {
            entry: SignInEntry {
                issuer: url("https://login.example.com"),
                client_id: "countersign-cli".to_owned(),
                scopes: vec!["groups".to_owned()],
                algorithms: vec!["RS256".to_owned()],
            },
            subject: "s".to_owned(),
            name: "Alice".to_owned(),
            ends: DateTime::from_timestamp(1_790_000_000, 0).unwrap(),
            token: Secret::new(token.to_owned()),
            refresh_token: Some(Secret::new("refresh".to_owned())),
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_sign_in_is_read_as_it_was_written_and_only_by_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let (place, gateway) = (place(&directory), url("https://gateway.example.com:8443"));
        assert!(place.read(&gateway).unwrap().is_none());
        for token in ["first", "second"] {
            let path = place.write(&gateway, &sign_in(token)).unwrap();
            assert_eq!((mode(&path), mode(&place.directory)), (0o600, 0o700));
            let read = place.read(&url("https://gateway.example.com:8443/")).unwrap().unwrap();
            assert_eq!((read.token.reveal(), read.name.as_str()), (token, "Alice"));
            assert_eq!(read.refresh_token.unwrap().reveal(), "refresh");
            assert_eq!(read.entry, sign_in(token).entry);
        }
        let files = std::fs::read_dir(&place.directory).unwrap().count();
        assert_eq!(files, 1, "a temporary file is left");
        assert!(place.read(&url("https://gateway.example.com")).unwrap().is_none());
        place.remove(&gateway).unwrap();
        place.remove(&gateway).unwrap();
        assert!(place.read(&gateway).unwrap().is_none());
    }

    #[test]
    fn what_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (place, gateway) = (place(&directory), url("https://gateway.example.com"));
        let path = place.write(&gateway, &sign_in("token")).unwrap();
        for (changed, open, shut) in [(&path, 0o640, 0o600), (&place.directory, 0o705, 0o700)] {
            std::fs::set_permissions(changed, Permissions::from_mode(open)).unwrap();
            let error = place.read(&gateway).unwrap_err().to_string();
            assert!(
                error.contains("others may read") && error.contains("chmod go="),
                "{error}"
            );
            assert!(!error.contains("token\""), "{error}");
            std::fs::set_permissions(changed, Permissions::from_mode(shut)).unwrap();
        }
        assert!(place.read(&gateway).unwrap().is_some());
    }

    #[test]
    fn a_damaged_file_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let (place, gateway) = (place(&directory), url("https://gateway.example.com"));
        let path = place.write(&gateway, &sign_in("token")).unwrap();
        let other = place
            .write(&url("https://other.example.com"), &sign_in("token"))
            .unwrap();
        for text in ["", "{}", "[]", &std::fs::read_to_string(other).unwrap()] {
            std::fs::write(&path, text).unwrap();
            let error = place.read(&gateway).unwrap_err().to_string();
            assert!(error.contains("run `countersign login` again"), "{error}");
        }
    }

    #[tokio::test]
    async fn one_command_at_a_time_has_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let (place, gateway) = (place(&directory), url("https://gateway.example.com"));
        let held = place.lock(&gateway).await.unwrap();
        let mut second = std::pin::pin!(place.lock(&gateway));
        let early = tokio::time::timeout(LOCK_PAUSE * 4, &mut second).await;
        assert!(early.is_err(), "two hold the lock");
        drop(place.lock(&url("https://other.example.com")).await.unwrap());
        drop(held);
        drop(second.await.unwrap());
        assert_eq!(mode(&place.path(&gateway, "lock")), 0o600);
    }
}
