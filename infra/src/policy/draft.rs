//! Rules on their way in: each is read, held to the schema and to what Cedar does not check.

use super::annotations::{self, Rule};
use super::fault::{Fault, line_at};
use super::uses::Uses;
use cedar_policy::{Policy, PolicyId, PolicySet, ValidationMode, Validator};
use miette::Diagnostic;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const RULES_MAX: usize = 2000;

/// Rules and faults, gathered file by file.
#[derive(Default)]
pub(super) struct Draft {
    pub policies: Vec<Policy>,
    pub rules: BTreeMap<String, Rule>,
    places: BTreeMap<String, (PathBuf, usize)>,
    pub uses: Uses,
    pub trusts_text: Vec<String>,
    pub faults: Vec<Fault>,
}

impl Draft {
    /// Takes in all rules of one file and notes all of its faults.
    pub fn add_file(&mut self, file: &Path, text: &str, validator: &Validator) {
        let source = Source { file, text, validator };
        let set: PolicySet = match text.parse() {
            Ok(set) => set,
            Err(errors) => {
                let errors: &cedar_policy::ParseErrors = &errors;
                self.faults.extend(errors.iter().map(|error| source.fault(error)));
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
            let name = self.add_rule(&source, policy, offset);
            names.insert(policy.id().to_string(), name);
        }
        self.validate(&source, &set, &names);
    }

    /// Takes one rule in and gives the name by which faults speak of it.
    fn add_rule(&mut self, source: &Source<'_>, policy: &Policy, offset: usize) -> String {
        let Source { file, text, validator } = *source;
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
                self.lint(file, line, policy, &rule, validator);
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

    /// Refuses what Cedar accepts and what would never do what it seems to say.
    fn lint(&mut self, file: &Path, line: usize, policy: &Policy, rule: &Rule, validator: &Validator) {
        let gateway = |env: cedar_policy::RequestEnv| env.resource().to_string() == "Gateway";
        let mut envs = policy.get_valid_request_envs(validator.schema()).peekable();
        if rule.hold.is_some() && envs.peek().is_some() && envs.all(gateway) {
            let message = format!(
                "rule `{}`: @hold on a right of the gateway: nobody is asked for these, it would only refuse",
                rule.id
            );
            self.faults.push(Fault::at(file, line, message));
        }
    }

    fn add_uses(&mut self, file: &Path, line: usize, policy: &Policy, id: &str) {
        match Uses::of(policy) {
            Ok(uses) => {
                if uses.compares_names {
                    let message = format!(
                        "rule `{id}`: context.objects and context.tables hold a name with its schema and without: \
                         ask with contains or containsAny, nothing is ever equal to them"
                    );
                    self.faults.push(Fault::at(file, line, message));
                }
                if uses.looks_at("text") && !uses.looks_at("text_truncated") {
                    self.trusts_text.push(id.to_owned());
                }
                self.uses.merge(&uses);
            }
            Err(why) => self.faults.push(Fault::at(file, line, why)),
        }
    }

    fn validate(&mut self, source: &Source<'_>, set: &PolicySet, names: &BTreeMap<String, String>) {
        let outcome = source.validator.validate(set, ValidationMode::Strict);
        let fault = |error: &dyn Diagnostic, id: &PolicyId| {
            let mut fault = source.fault(error);
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

    pub fn check_size(&mut self, path: &Path) {
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

/// One file, and what holds it to the schema.
#[derive(Clone, Copy)]
struct Source<'a> {
    file: &'a Path,
    text: &'a str,
    validator: &'a Validator,
}

impl Source<'_> {
    /// Gives a fault of Cedar's its line, and Cedar's advice where it has some.
    fn fault(&self, error: &dyn Diagnostic) -> Fault {
        let label = error.labels().and_then(|mut labels| labels.next());
        let message = match error.help() {
            Some(help) => format!("{error} ({help})"),
            None => error.to_string(),
        };
        match label {
            Some(label) => Fault::at(self.file, line_at(self.text, label.offset()), message),
            None => Fault::of_file(self.file, message),
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
