//! Cases with the answers that a policy must give: for the CI of policies.

use super::super::terminal::{print, print_json};
use super::case::{Answer, Asked, Ground, VerdictName};
use anyhow::Context;
use countersign_infra::domain::display::escape;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

const FILE_BYTES_MAX: u64 = 4 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "case")]
    cases: Vec<Case>,
}

/// One question and what must be answered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    ask: Asked,
    verdict: VerdictName,
    /// The rules that must have decided, in any order; not looked at when left out.
    rules: Option<Vec<String>>,
}

#[derive(Serialize)]
pub(super) struct Outcome {
    name: String,
    pub ok: bool,
    expected: VerdictName,
    expected_rules: Option<Vec<String>>,
    answer: Answer,
}

/// Runs every case. The exit code is 1 when one came out otherwise than expected.
pub(super) async fn run(file: &Path, ground: &Ground, json: bool) -> anyhow::Result<ExitCode> {
    let outcomes = outcomes(file, ground).await?;
    if json {
        print_json(&outcomes)?;
    } else {
        print(&in_lines(&outcomes))?;
    }
    Ok(ExitCode::from(u8::from(outcomes.iter().any(|outcome| !outcome.ok))))
}

pub(super) async fn outcomes(file: &Path, ground: &Ground) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for case in read(file)?.cases {
        let answer = ground.answer(&case.ask).await;
        let answer = answer.with_context(|| format!("case {:?}", case.name))?;
        outcomes.push(Outcome::new(case, answer));
    }
    Ok(outcomes)
}

fn read(file: &Path) -> anyhow::Result<File> {
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .with_context(|| format!("{} cannot be read", file.display()))?;
    anyhow::ensure!(
        text.len() as u64 <= FILE_BYTES_MAX,
        "{} is larger than 4 MB",
        file.display()
    );
    let cases: File = toml::from_str(&text).with_context(|| format!("{} holds no cases", file.display()))?;
    anyhow::ensure!(!cases.cases.is_empty(), "{} holds no cases", file.display());
    Ok(cases)
}

impl Outcome {
    fn new(case: Case, answer: Answer) -> Self {
        let sorted = |rules: &[String]| {
            let mut rules = rules.to_vec();
            rules.sort();
            rules
        };
        let rules_fit = case
            .rules
            .as_ref()
            .is_none_or(|rules| sorted(rules) == sorted(&answer.rules));
        Self {
            name: case.name,
            ok: rules_fit && case.verdict == answer.verdict,
            expected: case.verdict,
            expected_rules: case.rules,
            answer,
        }
    }

    pub fn in_words(&self) -> String {
        if self.ok {
            return format!("ok    {}", self.name);
        }
        let rules = |rules: &[String]| format!("[{}]", rules.join(", "));
        let wanted = self.expected_rules.as_deref().map(rules).unwrap_or_default();
        format!(
            "WRONG {}: expected {} {wanted}, got {} {} for {}; {}",
            self.name,
            self.expected,
            self.answer.verdict,
            rules(&self.answer.rules),
            self.answer.effects_in_words(),
            self.answer.reasons.join("; ")
        )
    }
}

fn in_lines(outcomes: &[Outcome]) -> String {
    let wrong = outcomes.iter().filter(|outcome| !outcome.ok).count();
    let lines = outcomes
        .iter()
        .map(|outcome| format!("{}\n", escape(&outcome.in_words())));
    lines
        .chain([format!("{} cases, {wrong} wrong\n", outcomes.len())])
        .collect()
}
