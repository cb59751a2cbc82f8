//! From files to rules that may judge: everything that Cedar lets pass and that would weaken a rule is an error
//! here.

use super::annotations::{self, Rule};
use super::cache::Cache;
use super::evaluate::Engine;
use super::fault::{Fault, PolicyError, line_at};
use super::ground::Ground;
use super::uses::Uses;
use cedar_policy::{Authorizer, Policy, PolicyId, PolicySet, ValidationMode, Validator};
use countersign_infra::domain::id::{Digest, DigestBuilder};
use miette::Diagnostic;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const FILES_MAX: usize = 256;
const BYTES_MAX: u64 = 4 << 20;
const RULES_MAX: usize = 2000;

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

    /// The ids of all rules, sorted.
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

/// Rules and faults, gathered file by file.
#[derive(Default)]
struct Draft {
    policies: Vec<Policy>,
    rules: BTreeMap<String, Rule>,
    places: BTreeMap<String, (PathBuf, usize)>,
    uses: Uses,
    trusts_text: Vec<String>,
    faults: Vec<Fault>,
}

impl Draft {
    fn add_file(&mut self, file: &Path, text: &str, validator: &Validator) {
        let set: PolicySet = match text.parse() {
            Ok(set) => set,
            Err(errors) => {
                let errors: &cedar_policy::ParseErrors = &errors;
                self.faults
                    .extend(errors.iter().map(|error| located(file, text, error)));
                return;
            }
        };
        for template in set.templates() {
            let line = text
                .find(&template.to_cedar())
                .map_or(1, |offset| line_at(text, offset));
            self.faults.push(Fault::at(
                file,
                line,
                "?principal and ?resource belong to templates: name them",
            ));
        }
        let mut names = BTreeMap::new();
        for (policy, offset) in in_order(&set, text) {
            let name = self.add_rule(file, text, policy, offset);
            names.insert(policy.id().to_string(), name);
        }
        self.validate(file, text, &set, &names, validator);
    }

    /// Takes one rule in and gives the name by which faults speak of it.
    fn add_rule(&mut self, file: &Path, text: &str, policy: &Policy, offset: usize) -> String {
        let line = line_at(text, offset);
        match annotations::read(policy) {
            Ok(rule) => {
                if let Some((first_file, first_line)) = self.places.get(&rule.id) {
                    let first = first_file.display();
                    let message = format!("@id(\"{}\") is already the rule at {first}:{first_line}", rule.id);
                    self.faults.push(Fault::at(file, line, message));
                    return rule.id;
                }
                self.places.insert(rule.id.clone(), (file.to_owned(), line));
                self.add_uses(file, line, policy, &rule.id);
                self.policies.push(policy.new_id(PolicyId::new(&rule.id)));
                let id = rule.id.clone();
                self.rules.insert(rule.id.clone(), rule);
                id
            }
            Err(bad) => {
                for fault in bad {
                    let line = fault
                        .key
                        .map_or(line, |key| line_at(text, annotation_at(text, offset, &key)));
                    self.faults.push(Fault::at(file, line, fault.message));
                }
                policy.annotation("id").unwrap_or("without @id").to_owned()
            }
        }
    }

    fn add_uses(&mut self, file: &Path, line: usize, policy: &Policy, id: &str) {
        match Uses::of(policy) {
            Ok(uses) => {
                if uses.looks_at("text") && !uses.looks_at("text_truncated") {
                    self.trusts_text.push(id.to_owned());
                }
                self.uses.merge(&uses);
            }
            Err(why) => self.faults.push(Fault::at(file, line, why)),
        }
    }

    fn validate(
        &mut self,
        file: &Path,
        text: &str,
        set: &PolicySet,
        names: &BTreeMap<String, String>,
        validator: &Validator,
    ) {
        let outcome = validator.validate(set, ValidationMode::Strict);
        let fault = |error: &dyn Diagnostic, id: &PolicyId| {
            let mut fault = located(file, text, error);
            let name = names.get(&id.to_string()).map_or("?", String::as_str);
            for joint in [", ", ": "] {
                fault.message = fault.message.replace(&format!("for policy `{id}`{joint}"), "");
            }
            fault.message = format!("rule `{name}`: {}", fault.message);
            fault
        };
        let errors = outcome.validation_errors().map(|error| fault(error, error.policy_id()));
        self.faults.extend(errors);
        let warnings = outcome
            .validation_warnings()
            .map(|warning| fault(warning, warning.policy_id()));
        self.faults.extend(warnings);
    }

    fn check_size(&mut self, path: &Path) {
        if self.policies.is_empty() && self.faults.is_empty() {
            self.faults
                .push(Fault::of_file(path, "holds no rule: everything would be denied"));
        }
        if self.policies.len() > RULES_MAX {
            self.faults
                .push(Fault::of_file(path, format!("holds more than {RULES_MAX} rules")));
        }
    }
}

/// The rules of one file with the byte at which each begins. Cedar numbers them in the order of the text.
fn in_order<'a>(set: &'a PolicySet, text: &str) -> Vec<(&'a Policy, usize)> {
    let number = |policy: &Policy| {
        policy
            .id()
            .to_string()
            .trim_start_matches("policy")
            .parse()
            .unwrap_or(usize::MAX)
    };
    let mut policies: Vec<_> = set.policies().collect();
    policies.sort_by_key(|policy| number(policy));
    let mut from = 0;
    let mut places = Vec::with_capacity(policies.len());
    for policy in policies {
        let own = policy.to_cedar().unwrap_or_default();
        let offset = text
            .get(from..)
            .and_then(|rest| rest.find(&own))
            .map_or(from, |found| from + found);
        from = offset + own.len();
        places.push((policy, offset));
    }
    places
}

fn annotation_at(text: &str, from: usize, key: &str) -> usize {
    let word = format!("@{key}");
    let rest = text.get(from..).unwrap_or_default();
    let whole = |at: &usize| {
        let next = rest.get(at + word.len()..).and_then(|after| after.chars().next());
        !next.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let found = rest.match_indices(&word).map(|(at, _)| at).find(whole);
    from + found.unwrap_or_default()
}

/// Gives a fault of Cedar's its line, and Cedar's advice where it has some.
fn located(file: &Path, text: &str, error: &dyn Diagnostic) -> Fault {
    let offset = error
        .labels()
        .and_then(|mut labels| labels.next())
        .map(|label| label.offset());
    let message = match error.help() {
        Some(help) => format!("{error} ({help})"),
        None => error.to_string(),
    };
    match offset {
        Some(offset) => Fault::at(file, line_at(text, offset), message),
        None => Fault::of_file(file, message),
    }
}
