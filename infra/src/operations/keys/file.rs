//! Keys in a local file.
//!
//! ```text
//! # a comment
//! <32 bytes in base 64>     the newest: makes and opens
//! <32 bytes in base 64>     older ones: open
//! ```
//!
//! A data key is derived, not wrapped: HKDF-SHA256 (RFC 5869) over the file's key with 32 random bytes as salt and
//! the operation's digest as info. The salt is what is stored. So no data key ever comes twice however many objects
//! there are, where wrapping with AES-GCM and random nonces under one key would be bounded at 2^32 of them
//! (NIST SP 800-38D, section 8.3). The id of a key is derived from it too: no file can give two keys one name.

use super::{DataKey, KeyError, KeyOrigin, KeySource, WrappedKey};
use crate::domain::id::Digest;
use async_trait::async_trait;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const KEYS_MAX: usize = 100;
const FILE_BYTES_MAX: u64 = 64 << 10;
const SALT_BYTES: usize = 32;

/// What a new file begins with.
const PREAMBLE: &str = "\
# Keys that encrypt whole operations, 32 bytes in base 64 each. The first encrypts; all of them decrypt.
# Without its key an operation can never be read again: keep a copy of this file in another place.
# To change the key, put a line from `openssl rand -base64 32` above the others, and keep those.
";

#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} can be read by others (mode {mode:o}): run chmod 600 on it, and put a new key first")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{path} is missing")]
    Missing { path: PathBuf },
    #[error("{path} is there already: its keys are kept")]
    Exists { path: PathBuf },
    #[error(
        "{path} is missing, but {witness} says that it was there: put it back, or move {witness} away to begin with \
         a new key, which opens nothing that was encrypted before"
    )]
    Lost { path: PathBuf, witness: PathBuf },
    #[error("{path}, line {line}: this is not a key of 32 bytes in base 64, or is there twice")]
    Invalid { path: PathBuf, line: usize },
    #[error("{path} has more than {FILE_BYTES_MAX} bytes: this is not a key file")]
    TooLong { path: PathBuf },
    #[error("{path} holds no key")]
    Empty { path: PathBuf },
    #[error("no key could be made")]
    Random,
}

/// The keys of a file, newest first.
pub struct FileKeys {
    newest: FileKey,
    older: Vec<FileKey>,
}

struct FileKey {
    id: String,
    bytes: Zeroizing<[u8; 32]>,
}

impl FileKeys {
    /// Loads the keys of a file; makes the file with a new key (mode 0600) where there is none. Blocks.
    ///
    /// Beside the file lies `<name>.ids`, which names its newest key when that was written: where it is there and the
    /// file is not, the file was lost, and nothing is made in its place.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyFileError> {
        let keys = match Self::load(path) {
            Err(KeyFileError::Missing { .. }) => {
                create(path)?;
                Self::load(path)?
            }
            loaded => loaded?,
        };
        // Also for a file that is there: who made it may have ended before this.
        keys.witnessed(&witness(path))
    }

    /// Makes a file with a new key (mode 0600), and its `<name>.ids`. A file that is there, or was lost, is not replaced.
    /// Blocks.
    pub fn create(path: &Path) -> Result<Self, KeyFileError> {
        match Self::load(path) {
            Err(KeyFileError::Missing { .. }) => {}
            Err(error @ (KeyFileError::Lost { .. } | KeyFileError::Io { .. })) => return Err(error),
            Ok(_) | Err(_) => return Err(KeyFileError::Exists { path: path.to_owned() }),
        }
        match create(path)? {
            Created::Now => Self::load(path)?.witnessed(&witness(path)),
            Created::Before => Err(KeyFileError::Exists { path: path.to_owned() }),
        }
    }

    /// Writes the witness where there is none.
    fn witnessed(self, witness: &Path) -> Result<Self, KeyFileError> {
        match write_new(witness, format!("{}\n", self.newest.id).as_bytes()) {
            Err(KeyFileError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => Ok(self),
            written => written.map(|()| self),
        }
    }

    /// Loads the keys of a file that nobody else may read. Blocks.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let file = open(path)?;
        let mode = file.metadata().map_err(io(path))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        // Room for all of it from the start: a buffer that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize + 1));
        file.take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(io(path))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(KeyFileError::TooLong { path: path.to_owned() });
        }
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, KeyFileError> {
        let mut keys: Vec<FileKey> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = FileKey::read(line).filter(|key| keys.iter().all(|other| other.id != key.id));
            let key = key.filter(|_| keys.len() < KEYS_MAX);
            keys.push(key.ok_or_else(|| KeyFileError::Invalid {
                path: path.to_owned(),
                line: index + 1,
            })?);
        }
        let mut keys = keys.into_iter();
        let newest = keys
            .next()
            .ok_or_else(|| KeyFileError::Empty { path: path.to_owned() })?;
        Ok(Self {
            newest,
            older: keys.collect(),
        })
    }

    /// The ids of its keys, newest first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.all().map(|key| key.id.as_str())
    }

    fn all(&self) -> impl Iterator<Item = &FileKey> {
        std::iter::once(&self.newest).chain(&self.older)
    }
}

impl std::fmt::Debug for FileKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl FileKey {
    fn read(line: &str) -> Option<Self> {
        let decoded = Zeroizing::new(BASE64_STANDARD.decode(line).ok()?);
        let mut bytes = Zeroizing::new([0; 32]);
        (decoded.len() == bytes.len()).then(|| bytes.copy_from_slice(&decoded))?;
        let mut id = [0; 8];
        derive(&bytes, &[], &[b"countersign operations key id"], &mut id)?;
        Some(Self {
            id: hex::encode(id),
            bytes,
        })
    }

    fn data_key(&self, digest: Digest, salt: &[u8]) -> Result<DataKey, KeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        let info = [b"countersign operation/1".as_slice(), &digest.0];
        derive(&self.bytes, salt, &info, bytes.as_mut_slice())
            .ok_or_else(|| KeyError::Refused("it could not be derived".to_owned()))?;
        Ok(DataKey::new(bytes))
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive(key: &[u8; 32], salt: &[u8], info: &[&[u8]], out: &mut [u8]) -> Option<()> {
    let extracted = Salt::new(HKDF_SHA256, salt).extract(key);
    let expanded = extracted.expand(info, Length(out.len())).ok()?;
    expanded.fill(out).ok()
}

#[async_trait]
impl KeySource for FileKeys {
    async fn make(&self, digest: Digest) -> Result<(DataKey, WrappedKey), KeyError> {
        let mut salt = vec![0; SALT_BYTES];
        aws_lc_rs::rand::fill(&mut salt).map_err(|error| KeyError::Unavailable { source: error.into() })?;
        let wrapped = WrappedKey {
            origin: KeyOrigin::File,
            id: self.newest.id.clone(),
            bytes: salt,
        };
        Ok((self.newest.data_key(digest, &wrapped.bytes)?, wrapped))
    }

    async fn open(&self, digest: Digest, wrapped: &WrappedKey) -> Result<DataKey, KeyError> {
        let found = self
            .all()
            .find(|key| wrapped.origin == KeyOrigin::File && key.id == wrapped.id);
        let key = found.ok_or_else(|| KeyError::Unknown(wrapped.id.clone()))?;
        key.data_key(digest, &wrapped.bytes)
    }
}

fn witness(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".ids");
    name.into()
}

fn open(path: &Path) -> Result<File, KeyFileError> {
    let is_missing = |opened: &io::Result<File>| opened.as_ref().is_err_and(|e| e.kind() == ErrorKind::NotFound);
    let opened = File::open(path);
    if !is_missing(&opened) {
        return opened.map_err(io(path));
    }
    let witness = witness(path);
    if !witness.exists() {
        return Err(KeyFileError::Missing { path: path.to_owned() });
    }
    // Another process may have made both since.
    let opened = File::open(path);
    if is_missing(&opened) {
        return Err(KeyFileError::Lost {
            path: path.to_owned(),
            witness,
        });
    }
    opened.map_err(io(path))
}

/// Whose file it is that lies there.
enum Created {
    Now,
    /// Another process made it in the meantime.
    Before,
}

/// Makes a file with one new key, complete or not at all. A file that is there by then is left as it is.
fn create(path: &Path) -> Result<Created, KeyFileError> {
    let directory = path.parent().filter(|directory| *directory != Path::new(""));
    let directory = directory.unwrap_or(Path::new("."));
    let mut random = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(random.as_mut_slice()).map_err(|_| KeyFileError::Random)?;
    let mut text = Zeroizing::new(String::with_capacity(PREAMBLE.len() + 64));
    text.push_str(PREAMBLE);
    BASE64_STANDARD.encode_string(random.as_slice(), &mut text);
    text.push('\n');
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(io(directory))?;
    let temporary = directory.join(format!(".key.{}", uuid::Uuid::now_v7().simple()));
    write_new(&temporary, text.as_bytes())?;
    let linked = match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Created::Before),
        linked => linked.map(|()| Created::Now),
    };
    fs::remove_file(&temporary).map_err(io(&temporary))?;
    let created = linked.map_err(io(path))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io(directory))?;
    Ok(created)
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(io(path))
}

fn io(path: &Path) -> impl FnOnce(io::Error) -> KeyFileError {
    let path = path.to_owned();
    move |source| KeyFileError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const ONE: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const TWO: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

    fn parse(text: &str) -> Result<FileKeys, KeyFileError> {
        FileKeys::parse(Path::new("operations.key"), text)
    }

    fn digest() -> Digest {
        Digest::of(b"an operation")
    }

    #[test]
    fn a_missing_file_is_made_for_its_owner_alone_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys/operations.key");
        let made = FileKeys::load_or_create(&path).unwrap();
        let again = FileKeys::load_or_create(&path).unwrap();
        assert!(made.ids().eq(again.ids()));
        assert_eq!(made.newest.bytes, again.newest.bytes);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let names = fs::read_dir(path.parent().unwrap()).unwrap();
        let names: BTreeSet<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["operations.key", "operations.key.ids"].map(Into::into).into());
        let shown = format!("{made:?}");
        assert!(
            !shown.contains(&BASE64_STANDARD.encode(made.newest.bytes.as_slice())),
            "{shown}"
        );
    }

    #[test]
    fn of_many_who_make_the_file_at_once_all_have_the_same_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("operations.key");
        let make = || FileKeys::load_or_create(&path).unwrap().newest.id;
        let ids: BTreeSet<String> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert_eq!(ids.len(), 1);
    }

    #[test]
    fn a_file_that_was_lost_is_not_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("operations.key");
        FileKeys::load_or_create(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let error = FileKeys::load_or_create(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Lost { .. }), "{error}");
        assert!(!path.exists());
        fs::remove_file(directory.path().join("operations.key.ids")).unwrap();
        FileKeys::load_or_create(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_there_or_was_lost_is_not_replaced_by_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("operations.key");
        let error = FileKeys::load(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Missing { .. }), "{error}");
        let made = FileKeys::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = FileKeys::create(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Exists { .. }), "{error}");
        assert!(made.ids().eq(FileKeys::load(&path).unwrap().ids()));
        fs::write(&path, "no key").unwrap();
        let error = FileKeys::create(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Exists { .. }), "{error}");
        fs::remove_file(&path).unwrap();
        for lost in [FileKeys::load(&path), FileKeys::create(&path)] {
            let error = lost.unwrap_err();
            assert!(matches!(error, KeyFileError::Lost { .. }), "{error}");
        }
    }

    #[test]
    fn a_file_whose_maker_ended_early_is_missed_too_when_it_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("operations.key");
        create(&path).unwrap();
        FileKeys::load_or_create(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let error = FileKeys::load_or_create(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Lost { .. }), "{error}");
    }

    #[test]
    fn a_file_that_is_too_long_is_refused_and_not_read_in_part() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("operations.key");
        let comment = format!("# {}\n", "-".repeat(FILE_BYTES_MAX as usize - ONE.len() - 4));
        let text = format!("{ONE}\n{comment}");
        assert_eq!(text.len() as u64, FILE_BYTES_MAX);
        write_new(&path, text.as_bytes()).unwrap();
        FileKeys::load(&path).unwrap();
        fs::write(&path, format!("{text}{TWO}\n")).unwrap();
        let error = FileKeys::load(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::TooLong { .. }), "{error}");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("operations.key");
        FileKeys::load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = FileKeys::load_or_create(&path).unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn what_is_no_key_file_is_told_with_its_line_and_without_its_content() {
        for (text, line) in [
            ("# only a comment\n", None),
            ("", None),
            ("c2hvcnQ=\n", Some(1)),
            (&format!("{ONE}\n\n{ONE}\n"), Some(3)),
            (&format!("# new\n{ONE}\nsecret?\n"), Some(3)),
            (&format!("{ONE}{TWO}\n"), Some(1)),
        ] {
            let error = parse(text).unwrap_err();
            assert!(!error.to_string().contains("secret?"), "{error}");
            match (line, error) {
                (None, KeyFileError::Empty { .. }) => {}
                (Some(wanted), KeyFileError::Invalid { line, .. }) => assert_eq!(line, wanted, "{text:?}"),
                (_, error) => panic!("{text:?}: {error}"),
            }
        }
    }

    #[tokio::test]
    async fn the_newest_key_makes_and_all_keys_open() {
        let before = parse(ONE).unwrap();
        let (old_key, old) = before.make(digest()).await.unwrap();
        let both = parse(&format!("# changed\n{TWO}\n{ONE}\n")).unwrap();
        let (new_key, new) = both.make(digest()).await.unwrap();
        assert_eq!(Some(new.id.as_str()), both.ids().next());
        assert_ne!(old.id, new.id);
        assert_eq!(both.open(digest(), &old).await.unwrap().bytes(), old_key.bytes());
        assert_eq!(both.open(digest(), &new).await.unwrap().bytes(), new_key.bytes());
        let error = before.open(digest(), &new).await.err().unwrap();
        assert!(matches!(&error, KeyError::Unknown(id) if *id == new.id), "{error}");
    }

    #[tokio::test]
    async fn no_two_objects_share_a_data_key() {
        let keys = parse(ONE).unwrap();
        let (one, wrapped) = keys.make(digest()).await.unwrap();
        let (two, _) = keys.make(digest()).await.unwrap();
        let other = keys.open(Digest::of(b"another"), &wrapped).await.unwrap();
        let all: BTreeSet<[u8; 32]> = [&one, &two, &other].map(|key| *key.bytes()).into();
        assert_eq!(all.len(), 3);
    }
}
