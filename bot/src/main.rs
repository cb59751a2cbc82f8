//! `countersign-bot`: the chats' side of Countersign.

use clap::{Parser, Subcommand};
use countersign_bot::run;
use std::path::PathBuf;
use std::process::ExitCode;

/// Shows what waits for approval in Slack and Discord, and takes decisions there.
#[derive(Parser)]
#[command(name = "countersign-bot", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the bot.
    Serve(Args),
    /// Asks every workspace whether the bot can work there; says what is missing.
    Check(Args),
    /// Tells every Discord server of the configuration the slash commands.
    Register(Args),
}

#[derive(clap::Args)]
struct Args {
    /// The configuration that the gateways have too.
    #[arg(long, env = "COUNTERSIGN_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    debug_assert!(installed.is_ok(), "a provider is there already");
    match carry_out(Cli::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("countersign-bot: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn carry_out(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => run::long_lived::run(&args.config).await.map(|()| ExitCode::SUCCESS),
        Command::Register(args) => run::register_all(&args.config).await,
        Command::Check(args) => run::check_all(&args.config).await,
    }
}
