//! `countersign gateway`: runs the gateway until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

/// Runs the gateway until SIGTERM or Ctrl-C.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "countersign.toml")]
    config: PathBuf,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    crate::app::run(args.config).await?;
    Ok(ExitCode::SUCCESS)
}
