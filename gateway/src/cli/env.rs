//! `countersign env TARGET`: the shell variables with which stock PostgreSQL clients connect.

use super::client::{ClientError, ConnectArgs, GatewayClient};
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
    let client = args.connect.connect().await?;
    let mut variables = variables(&client, &args.connect, &args.target, args.database.as_deref()).await?;
    if args.with_token {
        variables.extend(password(&client));
    }
    print(&exports(&variables))?;
    Ok(ExitCode::SUCCESS)
}

/// A variable's name and value.
pub(super) type Variable = (&'static str, String);

/// The variables with which stock clients find a target and verify the gateway, but for the password.
pub(super) async fn variables(
    client: &GatewayClient,
    connect: &ConnectArgs,
    target: &str,
    database: Option<&str>,
) -> anyhow::Result<Vec<Variable>> {
    let list: TargetList = client.read("/api/v1/targets", &[]).await?;
    let target = find(list.targets, target)?;
    let me: SelfView = client.read("/api/v1/whoami", &[]).await?;
    let database = match database {
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
    if let Some(ca) = &connect.ca {
        variables.push(("PGSSLROOTCERT", std::path::absolute(ca)?.display().to_string()));
    }
    Ok(variables)
}

/// The token, as the password that clients send.
pub(super) fn password(client: &GatewayClient) -> Option<Variable> {
    Some(("PGPASSWORD", client.token()?.reveal().to_owned()))
}

/// Lines for `eval`.
pub(super) fn exports(variables: &[Variable]) -> String {
    let line = |(name, value): &Variable| format!("export {name}={}\n", quoted(value));
    variables.iter().map(line).collect()
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
pub(super) fn quoted(text: &str) -> String {
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
