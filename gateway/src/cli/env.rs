//! `countersign env TARGET`: the shell variables with which stock PostgreSQL clients connect.

use super::client::{ClientError, ConnectArgs};
use super::terminal::print;
use crate::console::{SelfView, TargetEntry, TargetList};
use std::process::ExitCode;

/// Prints `export PG...` lines for `eval`, so that psql and other clients connect through the gateway.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The target's name.
    target: String,
    /// A database of the target other than its usual one.
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// Also prints PGPASSWORD with your token. Whoever reads it can act as you until it ends.
    #[arg(long)]
    with_token: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.connect.connect()?;
    let list: TargetList = client.read("/api/v1/targets", &[]).await?;
    let target = find(list.targets, &args.target)?;
    let me: SelfView = client.read("/api/v1/whoami", &[]).await?;
    let database = match &args.database {
        Some(database) => format!("{}/{database}", target.name),
        None => target.name,
    };
    let mut variables = vec![
        ("PGHOST", target.host),
        ("PGPORT", target.port.to_string()),
        ("PGDATABASE", database),
        ("PGUSER", me.person.name),
        ("PGSSLMODE", "verify-full".to_owned()),
    ];
    if let Some(ca) = &args.connect.ca {
        variables.push(("PGSSLROOTCERT", std::path::absolute(ca)?.display().to_string()));
    }
    if args.with_token {
        variables.push(("PGPASSWORD", args.connect.token()?.reveal().to_owned()));
    }
    let lines = variables
        .iter()
        .map(|(name, value)| format!("export {name}={}\n", quoted(value)));
    print(&lines.collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}

fn find(targets: Vec<TargetEntry>, name: &str) -> Result<TargetEntry, ClientError> {
    let names: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
    let unknown = || ClientError::Usage(format!("there is no target {name}; there are: {}", names.join(", ")));
    targets
        .into_iter()
        .find(|target| target.name == name)
        .ok_or_else(unknown)
}

/// One word for a POSIX shell, whatever the text holds.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_word_for_the_shell() {
        for (text, wanted) in [
            ("orders", "'orders'"),
            ("it's", r"'it'\''s'"),
            ("$(rm -rf /); `x` \\", "'$(rm -rf /); `x` \\'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(text), wanted);
        }
    }
}
