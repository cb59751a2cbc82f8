//! `countersign policy check|test`: what the rules say, without a gateway and without a database.

mod case;
mod expectations;

use super::terminal::{print, print_json};
use anyhow::Context;
use case::{Answer, Asked, Ground};
use chrono::{DateTime, Utc};
use countersign_infra::config::Config;
use countersign_infra::domain::display::escape;
use countersign_infra::policy::Policies;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Exit codes:
  0  there is an answer, whatever it is; with --tests: every case came out as expected
  1  only with --tests: a case came out otherwise
  2  wrong usage, or a configuration, policy or file of cases that cannot be used";

/// Checks rules, and says what they would answer.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Names every fault of a policy with its file and line. Exit code 0 or 2.
    Check(Source),
    /// Says what an operation would do and what the policy answers.
    #[command(after_help = AFTER_HELP)]
    Test(Box<Test>),
}

/// Where the rules are.
#[derive(Debug, clap::Args)]
struct Source {
    /// A .cedar file, or a directory of them, instead of the configuration's.
    #[arg(long, value_name = "PATH")]
    policy: Option<PathBuf>,
    /// The configuration file that names the policy and the targets. Without --policy: countersign.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Test {
    #[command(flatten)]
    source: Source,
    /// Who asks: the subject that the issuer's token names.
    #[arg(long = "as", value_name = "PERSON", required_unless_present = "tests")]
    person: Option<String>,
    /// Their groups, separated by commas.
    #[arg(long, value_name = "GROUPS", value_delimiter = ',')]
    groups: Vec<String>,
    /// The issuer of their token. With --config: the first one configured.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Their verified e-mail address.
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// The token speaks for a program.
    #[arg(long)]
    machine: bool,
    /// The target's name.
    #[arg(long, value_name = "TARGET", required_unless_present = "tests")]
    target: Option<String>,
    /// The target's tags, separated by commas, instead of those that the configuration gives it.
    #[arg(long, value_name = "TAGS", value_delimiter = ',')]
    tags: Option<Vec<String>>,
    /// The database, instead of the target's usual one.
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// The role in force at the server, instead of the target's user.
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// The address that the client speaks from.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    client: IpAddr,
    /// What the client calls itself.
    #[arg(long, value_name = "NAME", default_value = "psql")]
    application: String,
    /// A transaction block is open.
    #[arg(long)]
    in_transaction: bool,
    /// The time of asking, like 2026-11-22T17:00:00Z, instead of now.
    #[arg(long, value_name = "TIME")]
    at: Option<DateTime<Utc>>,
    /// Prints one JSON object: effects, verdict, rules, reasons, terms.
    #[arg(long)]
    json: bool,
    /// Runs the cases of this TOML file instead (tests/policies/example.toml shows the form).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sql", "person", "target"])]
    tests: Option<PathBuf>,
    /// The statement, or several separated by semicolons.
    #[arg(value_name = "SQL", required_unless_present = "tests")]
    sql: Option<String>,
}

/// Prints what the policy says. Errors are faults of usage, configuration or policy.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Check(source) => check(&source),
        Command::Test(test) => match &test.tests {
            Some(file) => {
                let ground = test.source.ground()?;
                expectations::run(file, &ground, test.json).await
            }
            None => answer(&test).await,
        },
    }
}

fn check(source: &Source) -> anyhow::Result<ExitCode> {
    let policies = Policies::load(&source.place()?.0)?;
    print(&format!(
        "{} rules are in order (version {})\n",
        policies.rule_ids().count(),
        policies.version()
    ))?;
    Ok(ExitCode::SUCCESS)
}

async fn answer(test: &Test) -> anyhow::Result<ExitCode> {
    let answer = test.source.ground()?.answer(&test.asked()).await?;
    if test.json {
        print_json(&answer)?;
    } else {
        print(&in_lines(&answer))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Source {
    /// The policy's path, and the configuration where one is named or needed.
    fn place(&self) -> anyhow::Result<(PathBuf, Option<Config>)> {
        let config = match (&self.policy, &self.config) {
            (Some(_), None) => None,
            (_, Some(file)) => Some(Config::load(file)?),
            (None, None) => Some(Config::load("countersign.toml".as_ref()).map_err(|error| {
                anyhow::anyhow!("neither --policy PATH nor --config FILE is given, and there is no other: {error}")
            })?),
        };
        let path = self
            .policy
            .clone()
            .or(config.as_ref().map(|config| config.policy.path.clone()));
        Ok((
            path.context("no policy is named: give --policy PATH or --config FILE")?,
            config,
        ))
    }

    fn ground(&self) -> anyhow::Result<Ground> {
        let (path, config) = self.place()?;
        Ground::new(Policies::load(&path)?, config)
    }
}

impl Test {
    fn asked(&self) -> Asked {
        Asked {
            person: self.person.clone().unwrap_or_default(),
            groups: self.groups.clone(),
            issuer: self.issuer.clone(),
            email: self.email.clone(),
            machine: self.machine,
            target: self.target.clone().unwrap_or_default(),
            tags: self.tags.clone(),
            database: self.database.clone(),
            role: self.role.clone(),
            client: Some(self.client),
            application: Some(self.application.clone()),
            in_transaction: self.in_transaction,
            at: self.at,
            sql: self.sql.clone().unwrap_or_default(),
        }
    }
}

fn in_lines(answer: &Answer) -> String {
    let mut lines = vec![
        format!("verdict: {}", answer.verdict),
        format!("effects: {}", answer.effects_in_words()),
    ];
    if !answer.rules.is_empty() {
        lines.push(format!("rules:   {}", answer.rules.join(", ")));
    }
    lines.extend(answer.reasons.iter().map(|reason| format!("reason:  {reason}")));
    if let Some(terms) = &answer.terms {
        for clause in &terms.clauses {
            let people = if clause.quorum == 1 { "person" } else { "people" };
            let groups = clause.approvers.join(" or ");
            lines.push(format!(
                "needs:   {} {people} of {groups} (rule {})",
                clause.quorum, clause.rule
            ));
        }
        lines.push(format!("waits:   {}s", terms.expires_seconds));
        lines.extend(terms.grant_seconds.map(|grant| format!("grant:   up to {grant}s")));
        lines.extend(
            terms
                .critical
                .then(|| "critical: one vote must come from the console or the CLI".to_owned()),
        );
    }
    lines.iter().map(|line| format!("{}\n", escape(line))).collect()
}

#[cfg(test)]
mod tests;
