//! What a run keeps on disk of its digests, so that whoever comes after it can write the last one.
//!
//! ```text
//! <run>.lock     locked for as long as the run lives
//! <run>.json     where its digests stand
//! <run>.signed   the digest that is on its way to the store
//! ```
//! A file is written beside its place, synced and renamed: it is there wholly or not at all.

use countersign_infra::domain::id::RunId;
use countersign_infra::recordings::digest::{RunChain, RunDigest, SignedDigest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const STATE: &str = "json";
const SIGNED: &str = "signed";
const LOCK: &str = "lock";
const NEW: &str = "new";
/// A run that begins has its state so long after its lock at most.
const BEGUN_WITHIN: Duration = Duration::from_secs(60);

/// A file of a run could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct FileError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { path, source }
    }
}

/// The files of one run. They belong to whoever holds this.
#[derive(Debug)]
pub struct RunFiles {
    directory: PathBuf,
    run: RunId,
    _lock: File,
}

/// A digest that may have reached the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnItsWay {
    pub digest: RunDigest,
    /// The exact bytes of the object.
    pub object: String,
}

impl RunFiles {
    /// Begins the files of a run that lives now. Blocks.
    pub fn begin(directory: &Path, chain: &RunChain) -> Result<Self, FileError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(FileError::at(directory))?;
        let taken = || FileError {
            path: path(directory, chain.run, LOCK),
            source: io::Error::other("another gateway has this run"),
        };
        let files = Self::lock(directory, chain.run)?.ok_or_else(taken)?;
        files.keep(chain)?;
        Ok(files)
    }

    /// The runs that left their files here and live no more; they are held from now on. Blocks.
    pub fn of_the_dead(directory: &Path) -> Result<Vec<Self>, FileError> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(FileError::at(directory)(error)),
        };
        let mut dead = Vec::new();
        for entry in entries {
            let path = entry.map_err(FileError::at(directory))?.path();
            let run = path.file_stem().and_then(|stem| stem.to_str()?.parse::<RunId>().ok());
            if let Some(run) = run
                && (path.extension().is_some_and(|ending| ending == STATE) || is_left_over(&path))
                && let Some(files) = Self::lock(directory, run)?
            {
                dead.push(files);
            }
        }
        Ok(dead)
    }

    /// None when another process holds it.
    fn lock(directory: &Path, run: RunId) -> Result<Option<Self>, FileError> {
        let path = path(directory, run, LOCK);
        let mut options = File::options();
        // Its time stays that of the run's begin.
        let lock = options.write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(FileError::at(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self {
                directory: directory.to_owned(),
                run,
                _lock: lock,
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(FileError::at(&path)(error)),
        }
    }

    pub fn run(&self) -> RunId {
        self.run
    }

    /// Where the run's digests stand; none when somebody else has settled it in the meantime. Blocks.
    pub fn chain(&self) -> Result<Option<RunChain>, FileError> {
        self.read(STATE)
    }

    /// Blocks.
    pub fn keep(&self, chain: &RunChain) -> Result<(), FileError> {
        self.write(STATE, chain)?;
        self.remove(SIGNED)
    }

    /// The digest that may have reached the store. Blocks.
    pub fn on_its_way(&self) -> Result<Option<OnItsWay>, FileError> {
        self.read(SIGNED)
    }

    /// Blocks.
    pub fn send(&self, signed: &SignedDigest) -> Result<(), FileError> {
        let on_its_way = OnItsWay {
            digest: signed.digest.clone(),
            object: String::from_utf8_lossy(&signed.bytes).into_owned(),
        };
        self.write(SIGNED, &on_its_way)
    }

    /// Removes all files of a run that has nothing more to say. Blocks.
    pub fn settle(&self) -> Result<(), FileError> {
        [NEW, SIGNED, STATE, LOCK]
            .into_iter()
            .try_for_each(|ending| self.remove(ending))
    }

    fn read<T: DeserializeOwned>(&self, ending: &str) -> Result<Option<T>, FileError> {
        let path = path(&self.directory, self.run, ending);
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json)
                .map(Some)
                .map_err(|error| FileError::at(&path)(error.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::at(&path)(error)),
        }
    }

    fn write(&self, ending: &str, value: &impl Serialize) -> Result<(), FileError> {
        let path = path(&self.directory, self.run, ending);
        let temporary = path.with_extension(NEW);
        let write = || {
            let json = serde_json::to_vec(value)?;
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&json)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(FileError::at(&path))
    }

    fn remove(&self, ending: &str) -> Result<(), FileError> {
        let path = path(&self.directory, self.run, ending);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(FileError::at(&path)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// A lock without a state: the process ended while it settled the run, or while it began.
fn is_left_over(path: &Path) -> bool {
    let age = || fs::metadata(path).ok()?.modified().ok()?.elapsed().ok();
    path.extension().is_some_and(|ending| ending == LOCK)
        && !path.with_extension(STATE).exists()
        && age().is_some_and(|age| age >= BEGUN_WITHIN)
}

fn path(directory: &Path, run: RunId, ending: &str) -> PathBuf {
    directory.join(format!("{run}.{ending}"))
}
