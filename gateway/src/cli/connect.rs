//! `countersign connect TARGET`: runs stock psql through the gateway.

use super::client::{ClientError, ConnectArgs};
use super::env::{Variable, exports, password, quoted, variables};
use super::terminal::print;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Runs psql at a target of the gateway, signed in as you. Its exit code is psql's.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The target's name, and a database of it other than its usual one.
    #[arg(value_name = "TARGET[/DATABASE]")]
    target: String,
    /// Prints the command instead, without your token.
    #[arg(long, conflicts_with = "env")]
    print: bool,
    /// Prints `export PG...` lines for `eval` instead, with your token: whoever reads it can act as you until it ends.
    #[arg(long)]
    env: bool,
    #[command(flatten)]
    connect: ConnectArgs,
    /// Given to psql.
    #[arg(last = true, value_name = "PSQL ARGS")]
    psql: Vec<OsString>,
}

/// Variables that would send psql, and with it the token, elsewhere than to the gateway.
const ELSEWHERE: [&str; 5] = [
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGHOSTADDR",
    "PGPASSFILE",
    "PGREQUIREAUTH",
];

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.connect.connect().await?;
    let (target, database) = match args.target.split_once('/') {
        Some((target, database)) => (target, Some(database)),
        None => (args.target.as_str(), None),
    };
    let mut variables = variables(&client, &args.connect, target, database).await?;
    if args.print {
        print(&in_words(&variables, &args.psql))?;
        return Ok(ExitCode::SUCCESS);
    }
    variables.extend(password(&client));
    if args.env {
        print(&exports(&variables))?;
        return Ok(ExitCode::SUCCESS);
    }
    Err(become_psql(variables, &args.psql).into())
}

/// Puts psql in the place of this process, so that signals and the exit code are its own. The token is in its
/// environment, which nobody else may read; arguments are open to everybody on the machine. Returns only why it failed.
fn become_psql(variables: Vec<Variable>, arguments: &[OsString]) -> ClientError {
    let mut command = Command::new("psql");
    for name in ELSEWHERE {
        command.env_remove(name);
    }
    let error = command.envs(variables).args(arguments).exec();
    if error.kind() != io::ErrorKind::NotFound {
        return ClientError::Usage(format!("psql cannot be run: {error}"));
    }
    ClientError::Usage(
        "there is no psql here: install it (`apt-get install postgresql-client`), or take another client with \
         `countersign env`"
            .to_owned(),
    )
}

/// What would run, as a shell takes it.
fn in_words(variables: &[Variable], arguments: &[OsString]) -> String {
    let set = variables
        .iter()
        .map(|(name, value)| format!("{name}={}", quoted(value)));
    let token = ["PGPASSWORD=YOUR_TOKEN".to_owned(), "psql".to_owned()];
    let given = arguments.iter().map(|argument| quoted(&argument.to_string_lossy()));
    let words: Vec<String> = set.chain(token).chain(given).collect();
    format!("{}\n", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_one_for_a_shell_and_holds_no_token() {
        let variables = [("PGHOST", "gateway".to_owned()), ("PGUSER", "o'hara".to_owned())];
        let words = in_words(&variables, &["-c".into(), "select 1".into()]);
        let wanted = r"PGHOST='gateway' PGUSER='o'\''hara' PGPASSWORD=YOUR_TOKEN psql '-c' 'select 1'";
        assert_eq!(words, format!("{wanted}\n"));
    }
}
