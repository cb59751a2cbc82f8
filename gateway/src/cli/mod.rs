//! The `countersign` command line. One file per subcommand.

mod approvals;
mod audit;
mod check;
mod client;
mod connect;
pub(crate) mod effects;
mod env;
mod gateway;
mod keys;
mod login;
mod logout;
mod policy;
mod recording;
mod recordings;
mod replay;
mod sessions;
mod signed_in;
mod terminal;
mod verify;

pub use client::{ClientError, ConnectArgs, GatewayClient};
pub use terminal::{ago, print};

use clap::{Parser, Subcommand};
use countersign_infra::telemetry;
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Commands that ask a gateway find it by --url or COUNTERSIGN_URL, take the token of --token-file,
COUNTERSIGN_TOKEN_FILE or COUNTERSIGN_TOKEN, else the one that `countersign login` keeps, and trust
--ca or COUNTERSIGN_CA beside the system's roots.

Exit codes:
  0  done, or the answer is yes
  1  the answer is no: a vote that does not count, nothing under that number, a verification that failed
  2  wrong usage or configuration
  3  the gateway does not answer, or cannot do its work at the moment; or the identity provider
  4  not signed in, or not allowed";

/// The second signature that makes an operation valid: a gateway that holds operations until a person decides.
#[derive(Parser)]
#[command(name = "countersign", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Gateway(gateway::Args),
    Check(check::Args),
    Policy(policy::Args),
    Effects(effects::Args),
    Approvals(approvals::Args),
    Audit(audit::Args),
    Sessions(sessions::Args),
    Recordings(recordings::Args),
    Replay(replay::Args),
    Verify(verify::Args),
    Login(login::Args),
    Logout(logout::Args),
    Connect(connect::Args),
    Env(env::Args),
    Keys(keys::Args),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Fails only when one is installed already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&anyhow::anyhow!("the runtime does not start: {error}")),
    };
    if !matches!(cli.command, Command::Gateway(_)) {
        // The gateway starts its log itself, once it knows the format.
        telemetry::start(false);
    }
    match runtime.block_on(run(cli.command)) {
        Ok(code) => code,
        Err(error) => complain(&error),
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Gateway(args) => gateway::run(args).await,
        Command::Check(args) => check::run(args).await,
        Command::Policy(args) => policy::run(args).await,
        Command::Effects(args) => effects::run(&args),
        Command::Approvals(args) => approvals::run(args).await,
        Command::Audit(args) => audit::run(args).await,
        Command::Sessions(args) => sessions::run(args).await,
        Command::Recordings(args) => recordings::run(args).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Login(args) => login::run(args).await,
        Command::Logout(args) => logout::run(args).await,
        Command::Connect(args) => connect::run(args).await,
        Command::Env(args) => env::run(args).await,
        Command::Keys(args) => keys::run(args).await,
    }
}

fn complain(error: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    terminal::complain(&format!("{error:#}"));
    error
        .downcast_ref::<ClientError>()
        .map_or(ExitCode::from(2), ClientError::exit_code)
}

/// The reader of our output has seen enough (`| head`).
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
