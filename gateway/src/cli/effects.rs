//! `countersign effects --jsonl`: what statements would do, a line in, a line out.

use crate::protocol::postgres::effects::{
    Analysis, Limits, Prepared, Role, STACK_BYTES, StatementFacts, Unparseable, analyse,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_infra::domain::effect::Effects;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;

/// Says what statements would do, without running them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Reads one JSON object a line: id, sql or sql_b64, and optionally settings, setup and params. Answers each with
    /// one line: id and effects, or id and error.
    #[arg(long, required = true)]
    pub jsonl: bool,
    /// Longest statement that is analysed, in bytes.
    #[arg(long, default_value_t = 1 << 20)]
    pub statement_bytes_max: usize,
}

/// A line may be longer than its statement by its escapes and its setup.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// Answers standard input line by line, in order, until its end. A line that cannot be read is answered with an error.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let limits = Limits {
        statement_bytes_max: args.statement_bytes_max,
    };
    let answering = std::thread::Builder::new()
        .name("effects".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || answer_all(std::io::stdin().lock(), std::io::stdout().lock(), limits))?;
    match answering.join() {
        Ok(result) => result.map(|()| ExitCode::SUCCESS),
        Err(_panic) => Ok(ExitCode::FAILURE),
    }
}

pub(crate) fn answer_all(mut input: impl BufRead, mut output: impl Write, limits: Limits) -> anyhow::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if std::io::Read::take(&mut input, LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let answer = match serde_json::from_slice::<Line>(&line) {
            Ok(line) => line.answer(limits),
            Err(fault) => Answer {
                id: Value::Null,
                effects: None,
                error: Some(format!("not a line of input: {fault}")),
            },
        };
        serde_json::to_writer(&mut output, &answer)?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: Value,
    sql: Option<String>,
    sql_b64: Option<String>,
    #[serde(default)]
    settings: HashMap<String, Value>,
    #[serde(default)]
    setup: Vec<String>,
    #[serde(default, rename = "params")]
    _params: Value,
}

#[derive(Serialize)]
struct Answer {
    id: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    effects: Option<Vec<Effect>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Effect {
    kind: &'static str,
    objects: BTreeSet<String>,
}

impl Line {
    fn answer(self, limits: Limits) -> Answer {
        match self.effects(limits) {
            Ok(effects) => Answer {
                id: self.id,
                effects: Some(listed(&effects)),
                error: None,
            },
            Err(refused) => Answer {
                id: self.id,
                effects: None,
                error: Some(refused.to_string()),
            },
        }
    }

    fn effects(&self, limits: Limits) -> Result<Effects, Unparseable> {
        self.encoding()?;
        let mut names = Names::default();
        for earlier in &self.setup {
            // What did not parse did not run either.
            if let Ok(analysis) = analyse(earlier.as_bytes(), limits) {
                names.run(&analysis);
            }
        }
        Ok(names.run(&analyse(&self.text()?, limits)?))
    }

    fn text(&self) -> Result<Vec<u8>, Unparseable> {
        match (&self.sql, &self.sql_b64) {
            (Some(sql), None) => Ok(sql.clone().into_bytes()),
            (None, Some(base64)) => STANDARD
                .decode(base64)
                .map_err(|fault| Unparseable::new("22023", format!("sql_b64: {fault}"))),
            (Some(_), Some(_)) | (None, None) => Err(Unparseable::new("22023", "give either sql or sql_b64")),
        }
    }

    /// A session whose encoding is not UTF-8 is ended by the gateway: bytes would mean something else to the server.
    fn encoding(&self) -> Result<(), Unparseable> {
        let setting = self
            .settings
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("client_encoding"));
        let Some(encoding) = setting.and_then(|(_, value)| value.as_str()) else {
            return Ok(());
        };
        let plain = encoding.replace(['-', '_'], "").to_ascii_lowercase();
        if matches!(plain.as_str(), "utf8" | "unicode") {
            return Ok(());
        }
        let message = format!("client_encoding is {encoding}: only UTF8 is understood");
        Err(Unparseable::new("22021", message).hint("Set client_encoding to UTF8."))
    }
}

fn listed(effects: &Effects) -> Vec<Effect> {
    effects
        .iter()
        .map(|(kind, objects)| Effect {
            kind: kind.as_str(),
            objects: objects.clone(),
        })
        .collect()
}

/// The prepared statements and cursors of a session of which only the text is known.
#[derive(Default)]
struct Names {
    statements: HashMap<String, Arc<StatementFacts>>,
    cursors: HashMap<String, Arc<StatementFacts>>,
}

impl Prepared for Names {
    fn statement(&self, name: &str) -> Option<Arc<StatementFacts>> {
        self.statements.get(name).cloned()
    }

    fn cursor(&self, name: &str) -> Option<Arc<StatementFacts>> {
        self.cursors.get(name).cloned()
    }
}

impl Names {
    /// Follows the names through a string of statements, and says what all of them would do.
    fn run(&mut self, analysis: &Analysis) -> Effects {
        let mut effects = Effects::default();
        for facts in &analysis.statements {
            let facts = facts.resolved(self);
            effects.merge(&facts.effects);
            self.follow(&facts);
        }
        effects
    }

    fn follow(&mut self, facts: &StatementFacts) {
        match &facts.role {
            Role::Prepare { name, body } => {
                self.statements.insert(name.clone(), Arc::clone(body));
            }
            Role::Declare { name, .. } => {
                self.cursors.insert(name.clone(), Arc::new(facts.clone()));
            }
            Role::Deallocate { name: Some(name) } => {
                self.statements.remove(name);
            }
            Role::Deallocate { name: None } => self.statements.clear(),
            Role::Close { name: Some(name) } => {
                self.cursors.remove(name);
            }
            Role::Close { name: None } => self.cursors.clear(),
            Role::DiscardAll => {
                self.statements.clear();
                self.cursors.clear();
            }
            Role::Plain
            | Role::Begin
            | Role::Commit { .. }
            | Role::Rollback { .. }
            | Role::Savepoint
            | Role::RollbackToSavepoint
            | Role::ReleaseSavepoint
            | Role::Execute { .. }
            | Role::Fetch { .. }
            | Role::CopyIn
            | Role::CopyOut => {}
        }
    }
}
