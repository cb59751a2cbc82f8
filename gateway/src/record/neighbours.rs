//! Whose spool a directory is: taken with a lock that ends with its process.
//!
//! Gateways that share a directory have a spool each in it, named by a UUID that is new with every start. A spool whose
//! lock can be had belongs to a gateway that is gone; who gets the lock completes what is in it. The lock is of the
//! kernel (flock), so that a crash frees it and two gateways never have it at once.

use super::RecordError;
use super::session::write_atomically;
use super::spool::{GONE, bytes_in};
use countersign_infra::recordings::key::{Keyring, PublicKey};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

const LOCK: &str = "lock";
/// A spool that is not locked yet has a dot before its name, and this ending.
const NEW_ENDING: &str = ".new";
/// Nobody takes longer between making a spool and giving it its name.
const MADE_WITHIN: Duration = Duration::from_secs(60);
/// The public keys of the gateways that signed what is in a spool: trusted for that and nothing else.
const KEY_ENDING: &str = "pub.pem";
/// Spools that are taken at one look: what is found is worked on with the means of one gateway.
pub(super) const TAKEN_MAX: usize = 4;

/// A spool's directory, and the lock on it.
pub(super) struct Taken {
    pub dir: PathBuf,
    pub lock: File,
}

/// Takes a directory that belongs to one gateway only. Blocks.
pub(super) fn take_own(dir: &Path) -> Result<Taken, RecordError> {
    make(dir)?;
    let path = dir.join(LOCK);
    let lock = File::create(&path).map_err(RecordError::io(&path))?;
    if !locks(&lock, &path)? {
        return Err(RecordError::Locked { path: dir.to_owned() });
    }
    let dir = dir.to_owned();
    Ok(Taken { dir, lock })
}

/// Makes a new directory beside those of other gateways. Blocks.
pub(super) fn take_new(beside: &Path) -> Result<Taken, RecordError> {
    let name = Uuid::now_v7().to_string();
    // Under this name nobody takes it for a dead gateway's before it is locked.
    let hidden = beside.join(format!(".{name}{NEW_ENDING}"));
    let Taken { lock, .. } = take_own(&hidden)?;
    let dir = beside.join(name);
    fs::rename(&hidden, &dir).map_err(RecordError::io(&hidden))?;
    Ok(Taken { dir, lock })
}

/// What gateways that are gone left behind.
pub(super) struct Dead {
    pub taken: Vec<Taken>,
    /// In the spools that were not taken.
    pub bytes_beside: u64,
}

/// Takes spools whose gateways are gone, `taken_max` at most. Empty ones are removed. Blocks.
pub(super) fn take_dead(beside: &Path, taken_max: usize) -> Result<Dead, RecordError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(beside).map_err(RecordError::io(beside))? {
        let path = entry.map_err(RecordError::io(beside))?.path();
        let ending = path.extension();
        if ending.is_some_and(|ending| ending == GONE) || is_begun(&path) {
            // One that cannot be removed must not hide the others.
            if let Err(error) = remove_all(&path) {
                tracing::warn!(%error, "what is left of a spool cannot be removed");
            }
        } else if is_spool(&path) {
            found.push(path);
        }
    }
    found.sort_unstable();
    let (mut taken, mut bytes_beside) = (Vec::new(), 0);
    for dir in found {
        let is_enough = taken.len() >= taken_max;
        match take(&dir) {
            // Weighed under its lock, which is given back at once.
            Ok(Some(found)) if is_enough => bytes_beside += bytes_in(&found.dir).unwrap_or_default(),
            Ok(found) => taken.extend(found),
            // One that cannot be taken must not hide the others.
            Err(error) => tracing::warn!(%error, "the spool of a gateway that is gone cannot be taken"),
        }
    }
    Ok(Dead { taken, bytes_beside })
}

fn take(dir: &Path) -> Result<Option<Taken>, RecordError> {
    let Some(lock) = lock_of_the_dead(dir)? else {
        return Ok(None);
    };
    if remove_if_empty(dir)? {
        return Ok(None);
    }
    let dir = dir.to_owned();
    Ok(Some(Taken { dir, lock }))
}

/// Removes a spool that holds no recording, under its lock. Blocks.
pub(super) fn remove_if_empty(dir: &Path) -> Result<bool, RecordError> {
    for entry in fs::read_dir(dir).map_err(RecordError::io(dir))? {
        let path = entry.map_err(RecordError::io(dir))?.path();
        if path.is_dir() && path.extension().is_none_or(|ending| ending != GONE) {
            return Ok(false);
        }
    }
    // First out of the others' sight: who waits for the lock must not get that of a spool that is half removed.
    let gone = dir.with_extension(GONE);
    fs::rename(dir, &gone).map_err(RecordError::io(dir))?;
    remove_all(&gone)?;
    Ok(true)
}

/// Leaves a public key beside what its gateway signs, for whoever has to complete it. Blocks.
pub(super) fn leave_key(dir: &Path, key: &PublicKey) -> Result<(), RecordError> {
    let path = dir.join(format!("{}.{KEY_ENDING}", key.id()));
    if path.exists() {
        return Ok(());
    }
    write_atomically(&path, key.pem().as_bytes())
}

/// The keys with which what lies in a spool may be signed: those that were left there, and one's own. Blocks.
pub(super) fn keys_of(dir: &Path, own: &PublicKey) -> Keyring {
    let mut keys = Keyring::from(own.clone());
    match Keyring::load(&[dir.to_owned()]) {
        Ok(left) => left.keys().iter().for_each(|key| keys.add(key.clone())),
        Err(error) => tracing::warn!(%error, "the keys in a spool cannot be read"),
    }
    keys
}

fn make(dir: &Path) -> Result<(), RecordError> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(dir);
    made.map_err(RecordError::io(dir))
}

fn is_spool(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.parse::<Uuid>().is_ok()) && path.is_dir()
}

/// Whether its gateway ended while it [made](take_new) its spool. One that lives is done with that in a moment.
fn is_begun(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let hidden = name.and_then(|name| name.strip_prefix('.')?.strip_suffix(NEW_ENDING));
    let age = || fs::metadata(path).ok()?.modified().ok()?.elapsed().ok();
    hidden.is_some_and(|name| name.parse::<Uuid>().is_ok()) && age().is_some_and(|age| age >= MADE_WITHIN)
}

/// None when its gateway lives, or another one was faster and has removed it.
fn lock_of_the_dead(dir: &Path) -> Result<Option<File>, RecordError> {
    let path = dir.join(LOCK);
    let lock = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RecordError::io(&path)(error)),
    };
    if !locks(&lock, &path)? {
        return Ok(None);
    }
    // Between the opening and the locking it may have been removed: then this is the lock of nothing.
    let (own, there) = (lock.metadata(), fs::metadata(&path));
    let same = |own: fs::Metadata, there: fs::Metadata| (own.dev(), own.ino()) == (there.dev(), there.ino());
    Ok(own
        .ok()
        .zip(there.ok())
        .is_some_and(|(own, there)| same(own, there))
        .then_some(lock))
}

fn locks(lock: &File, path: &Path) -> Result<bool, RecordError> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(RecordError::io(path)(error)),
    }
}

/// Removes a directory that somebody else may be removing too. Blocks.
pub(super) fn remove_all(dir: &Path) -> Result<(), RecordError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(RecordError::io(dir)),
    }
}
