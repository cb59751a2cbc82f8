//! From files to rules that may judge: everything that Cedar lets pass and that would weaken a rule is an error
//! here.

use super::annotations::{self, Rule};
use super::cache::Cache;
use super::evaluate::{Engine, Judgement};
use super::facts::{Facts, Types};
use super::fault::{Fault, PolicyError, line_at};
use super::uses::Uses;
use super::{GatewayAction, Question, TargetFacts};
use cedar_policy::{Authorizer, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use chrono::DateTime;
use countersign_infra::domain::access_request::{AccessRequest, Client, Operation, Place, Protocol};
use countersign_infra::domain::effect::{EffectKind, Effects};
use countersign_infra::domain::id::{Digest, DigestBuilder, SessionId};
use countersign_infra::domain::identity::{Person, PersonKey, PersonKind};
use miette::Diagnostic;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The schema that every policy is held to. It ships with the product.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

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
        let schema = schema().map_err(|why| Fault::of_file(Path::new("schema.cedarschema"), why))?;
        let types = Types::new().map_err(|why| Fault::of_file(Path::new("schema.cedarschema"), why))?;
        let validator = Validator::new(schema.clone());
        let mut draft = Draft::default();
        for (file, text) in &sources.files {
            draft.add_file(file, text, &validator);
        }
        draft.check_size(&sources.path);
        if !draft.faults.is_empty() {
            return Err(PolicyError { faults: draft.faults });
        }
        let engine = draft
            .engine(schema, types)
            .map_err(|why| Fault::of_file(&sources.path, why))?;
        prove(&engine).map_err(|why| Fault::of_file(&sources.path, why))?;
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

fn schema() -> Result<Schema, String> {
    let (schema, warnings) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| error.to_string())?;
    match warnings.map(|warning| warning.to_string()).next() {
        Some(warning) => Err(warning),
        None => Ok(schema),
    }
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
                    .extend(errors.iter().map(|error| located(file, text, error, error.to_string())));
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
        let worded = |message: String, id: &PolicyId| {
            let name = names.get(&id.to_string()).map_or("?", String::as_str);
            let message = message.replace(&format!("for policy `{id}`, "), "");
            format!("rule `{name}`: {message}")
        };
        for error in outcome.validation_errors() {
            let message = worded(error.to_string(), error.policy_id());
            self.faults.push(located(file, text, error, message));
        }
        for warning in outcome.validation_warnings() {
            let message = worded(warning.to_string(), warning.policy_id());
            self.faults.push(located(file, text, warning, message));
        }
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

    fn engine(&mut self, schema: Schema, types: Types) -> Result<Engine, String> {
        let set = PolicySet::from_policies(self.policies.drain(..)).map_err(|error| error.to_string())?;
        let rules = std::mem::take(&mut self.rules);
        Ok(Engine {
            schema,
            types,
            authorizer: Authorizer::new(),
            set,
            rules,
        })
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
fn located(file: &Path, text: &str, error: &dyn Diagnostic, message: String) -> Fault {
    let offset = error
        .labels()
        .and_then(|mut labels| labels.next())
        .map(|label| label.offset());
    let message = match error.help() {
        Some(help) => format!("{message} ({help})"),
        None => message,
    };
    match offset {
        Some(offset) => Fault::at(file, line_at(text, offset), message),
        None => Fault::of_file(file, message),
    }
}

/// Proves, over the code that judges real questions, that a forbid on `any` denies each effect and that one on
/// everything denies each right on the gateway. A request or entities built without the schema would fail here.
fn prove(engine: &Engine) -> Result<(), String> {
    let permit = "permit (principal, action, resource);";
    let closed_any = format!("{permit} forbid (principal, action in Action::\"any\", resource);");
    let closed_all =
        format!("{permit} forbid (principal, action in [Action::\"any\", Action::\"oversee\"], resource);");
    for (text, open) in [(permit, true), (&closed_any, false)] {
        let proof = proving(engine, text)?;
        for kind in EffectKind::ALL {
            let judged = prove_effect(&proof, kind)?;
            expect(kind.as_str(), &judged, open)?;
        }
    }
    for (text, open) in [(permit, true), (&closed_all, false)] {
        let proof = proving(engine, text)?;
        for action in GatewayAction::ALL {
            let facts = Facts::of_gateway(&nobody(), DateTime::UNIX_EPOCH, &proof.schema, &proof.types);
            let judged = facts.and_then(|facts| Ok(proof.judge(&facts.gateway_action(action)?, &facts.entities)));
            expect(action.as_str(), &judged.map_err(|error| error.to_string())?, open)?;
        }
    }
    Ok(())
}

fn proving(engine: &Engine, text: &str) -> Result<Engine, String> {
    let set = text
        .parse()
        .map_err(|error: cedar_policy::ParseErrors| error.to_string())?;
    let types = Types::new()?;
    Ok(Engine {
        schema: engine.schema.clone(),
        types,
        authorizer: Authorizer::new(),
        set,
        rules: BTreeMap::new(),
    })
}

fn prove_effect(proof: &Engine, kind: EffectKind) -> Result<Judgement, String> {
    let request = nothing();
    let target = TargetFacts {
        name: "self-test".to_owned(),
        kind: Protocol::Postgres,
        tags: Vec::new(),
    };
    let question = Question {
        request: &request,
        target: &target,
        now: DateTime::UNIX_EPOCH,
    };
    let facts = Facts::of_operation(&question, &proof.schema, &proof.types, &Uses::default());
    let names = BTreeSet::from(["orders".to_owned()]);
    let judged = facts.and_then(|facts| Ok(proof.judge(&facts.effect(kind, &names)?, &facts.entities)));
    judged.map_err(|error| error.to_string())
}

fn expect(action: &str, judged: &Judgement, open: bool) -> Result<(), String> {
    match (judged, open) {
        (Judgement::Allowed(_), true) | (Judgement::Forbidden(_), false) => Ok(()),
        (other, _) => Err(format!(
            "the self-test of the policy engine failed at `{action}`: {other:?}"
        )),
    }
}

fn nobody() -> Person {
    Person {
        key: PersonKey {
            issuer: "self-test".to_owned(),
            subject: "nobody".to_owned(),
        },
        name: "nobody".to_owned(),
        email: None,
        groups: BTreeSet::from(["self-test".to_owned()]),
        kind: PersonKind::Machine,
    }
}

fn nothing() -> AccessRequest {
    let blank = String::new;
    AccessRequest {
        session: SessionId(uuid::Uuid::nil()),
        person: nobody(),
        client: Client {
            address: "127.0.0.1:1".to_owned(),
            application: blank(),
        },
        place: Place {
            target: "self-test".to_owned(),
            database: blank(),
            role: blank(),
            search_path: blank(),
        },
        operation: Operation {
            protocol: Protocol::Postgres,
            parts: Vec::new(),
            display: blank(),
            text: blank(),
            effects: Effects::default(),
            has_where: true,
            unseen_data: false,
        },
        in_transaction: false,
    }
}
