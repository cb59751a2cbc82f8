//! `countersign check`: says whether a gateway would start with this configuration.

use super::terminal;
use countersign_infra::config::{Config, ConfigError, Problem, Target};
use countersign_infra::policy::Policies;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long the name of a target's server may take to be found.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks a configuration with everything that it refers to: secrets, certificates, the policy, the names of the
/// targets' servers. Nothing is connected to.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "countersign.toml")]
    config: PathBuf,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Findings {
    /// What is in order, a line each.
    fine: Vec<String>,
    problems: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Finding {
    file: Option<PathBuf>,
    line: Option<usize>,
    text: String,
}

/// Prints a line for each part that is in order, and each problem on standard error. Exit code 0, or 1 where there
/// is a problem.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let findings = find(&args.config).await?;
    let code = if findings.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    if args.json {
        terminal::print_json(&findings)?;
        return Ok(code);
    }
    for fine in &findings.fine {
        terminal::print(&format!("ok  {fine}\n"))?;
    }
    for problem in &findings.problems {
        terminal::complain(&problem.shown());
    }
    Ok(code)
}

async fn find(path: &Path) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let owned = path.to_owned();
    let loaded = tokio::task::spawn_blocking(move || load(&owned)).await?;
    let (config, problems) = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => {
            findings.problems = problems;
            return Ok(findings);
        }
    };
    if problems.is_empty() {
        findings
            .fine
            .push(format!("{}: keys, values, secrets and certificates", path.display()));
    }
    findings.problems = problems;
    let policy = config.policy.path.clone();
    match tokio::task::spawn_blocking(move || Policies::load(&policy)).await? {
        Ok(policies) => {
            let rules = match policies.rule_ids().count() {
                1 => "1 rule".to_owned(),
                several => format!("{several} rules"),
            };
            findings
                .fine
                .push(format!("policy {}: {rules}", config.policy.path.display()));
            let unknown = config.bot.iter().flat_map(|bot| bot.unknown_rules(policies.rule_ids()));
            findings.problems.extend(unknown.map(|text| Finding {
                file: Some(path.to_owned()),
                line: None,
                text,
            }));
        }
        Err(error) => findings.problems.push(Finding {
            file: None,
            line: None,
            text: error.to_string(),
        }),
    }
    look_up(config.targets, &mut findings).await?;
    Ok(findings)
}

/// The configuration with what is wrong in its references, or what keeps it from being read at all.
fn load(path: &Path) -> Result<(Config, Vec<Finding>), Vec<Finding>> {
    let config = Config::load(path).map_err(Finding::of)?;
    let problems = crate::app::load(path).err().map(Finding::of).unwrap_or_default();
    Ok((config, problems))
}

async fn look_up(targets: Vec<Target>, findings: &mut Findings) -> anyhow::Result<()> {
    let mut lookups = JoinSet::new();
    for target in targets {
        lookups.spawn(async move {
            let found = tokio::time::timeout(LOOKUP_TIMEOUT, address(&target)).await;
            let found = found.unwrap_or_else(|_| Err("the lookup takes too long".to_owned()));
            (format!("target {}: {}", target.name, target.host), found)
        });
    }
    let mut found = lookups.join_all().await;
    found.sort();
    for (what, address) in found {
        match address {
            Ok(address) => findings.fine.push(format!("{what} is {address}")),
            Err(why) => {
                let text = format!("{what} cannot be found: {why}");
                findings.problems.push(Finding {
                    file: None,
                    line: None,
                    text,
                });
            }
        }
    }
    Ok(())
}

async fn address(target: &Target) -> Result<String, String> {
    let addresses = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
    let first = addresses.map_err(|error| error.to_string())?.next();
    first
        .map(|address| address.to_string())
        .ok_or_else(|| "it has no address".to_owned())
}

impl Finding {
    fn of(error: ConfigError) -> Vec<Self> {
        match error {
            ConfigError::Invalid { path, problems } => {
                let finding = |Problem { line, text }| Self {
                    file: Some(path.clone()),
                    line,
                    text,
                };
                problems.into_iter().map(finding).collect()
            }
            unreadable @ ConfigError::Unreadable(_) => {
                vec![Self {
                    file: None,
                    line: None,
                    text: unreadable.to_string(),
                }]
            }
        }
    }

    fn shown(&self) -> String {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => format!("{}:{line}: {}", file.display(), self.text),
            (Some(file), None) => format!("{}: {}", file.display(), self.text),
            (None, _) => self.text.clone(),
        }
    }
}
