//! From files to rules that may judge: everything that Cedar lets pass and that would weaken a rule is an error
//! here.

use super::cache::Cache;
use super::draft::Draft;
use super::evaluate::Engine;
use super::fault::{Fault, PolicyError};
use super::ground::Ground;
use super::uses::Uses;
use crate::domain::approval::Approval;
use crate::domain::id::{Digest, DigestBuilder};
use cedar_policy::{Authorizer, PolicyId, PolicySet, Validator};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const FILES_MAX: usize = 256;
const BYTES_MAX: u64 = 4 << 20;

/// A set of rules that is complete, valid and proven to forbid.
pub struct Policies {
    pub(super) engine: Engine,
    pub(super) uses: Uses,
    /// Rules that look at the operation's text without asking whether it was cut.
    pub(super) trusts_text: Vec<String>,
    pub(super) cache: Mutex<Cache>,
    version: Digest,
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rules: Vec<_> = self.rule_ids().collect();
        f.debug_struct("Policies")
            .field("version", &self.version)
            .field("rules", &rules)
            .finish_non_exhaustive()
    }
}

impl Policies {
    /// Reads a `.cedar` file, or every `.cedar` file of a directory. Blocks on the disk.
    ///
    /// The error names every fault found, with file and line.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        Self::from_sources(&Sources::read(path)?)
    }

    pub(super) fn from_sources(sources: &Sources) -> Result<Self, PolicyError> {
        let ground = Ground::proven().map_err(|why| Fault::of_file(Path::new("schema.cedarschema"), why))?;
        let validator = Validator::new(ground.schema.clone());
        let mut draft = Draft::default();
        for (file, text) in &sources.files {
            draft.add_file(file, text, &validator);
        }
        draft.check_size(&sources.path);
        draft.faults.sort();
        draft.faults.dedup();
        if !draft.faults.is_empty() {
            return Err(PolicyError { faults: draft.faults });
        }
        let set = PolicySet::from_policies(draft.policies)
            .map_err(|error| Fault::of_file(&sources.path, error.to_string()))?;
        let engine = Engine {
            ground,
            authorizer: Authorizer::new(),
            set,
            rules: draft.rules,
        };
        Ok(Self {
            engine,
            uses: draft.uses,
            trusts_text: draft.trusts_text,
            cache: Mutex::default(),
            version: sources.version(),
        })
    }

    /// The SHA-256 of the sources: file names and contents.
    pub fn version(&self) -> Digest {
        self.version
    }

    /// The SHA-256 of one rule's text; none when there is no such rule (any more).
    pub fn rule_version(&self, id: &str) -> Option<Digest> {
        let policy = self.engine.set.policy(&PolicyId::new(id))?;
        Some(Digest::of(policy.to_cedar()?.as_bytes()))
    }

    /// The ids of all rules, sorted.
    /// Whether an approval wants a fresh sign-in, where `rules` ask for one. A rule of a name that the policy does not have may
    /// be any: then every approval wants one.
    pub fn steps_up(&self, rules: &BTreeSet<String>, approval: &Approval) -> bool {
        let holds_it = |rule: &String| approval.terms.clauses.iter().any(|clause| clause.rule == *rule);
        rules
            .iter()
            .any(|rule| holds_it(rule) || !self.engine.rules.contains_key(rule))
    }

    pub fn rule_ids(&self) -> impl Iterator<Item = &str> {
        self.engine.rules.keys().map(String::as_str)
    }
}

/// The text of all policy files, as it was read at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sources {
    path: PathBuf,
    files: BTreeMap<PathBuf, String>,
}

impl Sources {
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        let mut files = BTreeMap::new();
        let mut faults = Vec::new();
        let mut room = BYTES_MAX;
        for file in names(path)? {
            match read_text(&file, room) {
                Ok(text) => {
                    room = room.saturating_sub(text.len() as u64);
                    files.insert(file, text);
                }
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() {
            Ok(Self {
                path: path.to_owned(),
                files,
            })
        } else {
            Err(PolicyError { faults })
        }
    }

    pub fn version(&self) -> Digest {
        let mut digest = DigestBuilder::default();
        for (file, text) in &self.files {
            let name = file.file_name().unwrap_or_default();
            digest
                .part("file", name.as_encoded_bytes())
                .part("text", text.as_bytes());
        }
        digest.finish()
    }

    #[cfg(test)]
    pub fn of_texts(texts: &[(&str, &str)]) -> Self {
        let files = texts
            .iter()
            .map(|(file, text)| (PathBuf::from(file), (*text).to_owned()));
        Self {
            path: PathBuf::from("policies"),
            files: files.collect(),
        }
    }
}

fn names(path: &Path) -> Result<Vec<PathBuf>, PolicyError> {
    let unreadable = |error: std::io::Error| Fault::of_file(path, format!("cannot be read: {error}"));
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.path();
        if name.extension().is_some_and(|extension| extension == "cedar") {
            names.push(name);
        }
        if names.len() > FILES_MAX {
            return Err(Fault::of_file(path, format!("holds more than {FILES_MAX} .cedar files")).into());
        }
    }
    if names.is_empty() {
        return Err(Fault::of_file(path, "holds no .cedar file: everything would be denied").into());
    }
    names.sort();
    Ok(names)
}

fn read_text(file: &Path, room: u64) -> Result<String, Fault> {
    let is_file = std::fs::metadata(file).map(|known| known.is_file());
    if let Ok(false) = is_file {
        return Err(Fault::of_file(file, "is neither a file nor a directory"));
    }
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).and_then(|opened| opened.take(room + 1).read_to_end(&mut bytes));
    opened.map_err(|error| Fault::of_file(file, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > room {
        return Err(Fault::of_file(
            file,
            format!("more than {} MB of policy", BYTES_MAX >> 20),
        ));
    }
    String::from_utf8(bytes).map_err(|_| Fault::of_file(file, "is not UTF-8 text"))
}
