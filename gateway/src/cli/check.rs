//! `countersign check`: says whether a gateway would start with this configuration.

use std::path::PathBuf;
use std::process::ExitCode;

/// Checks a configuration with everything that it refers to.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "countersign.toml")]
    config: PathBuf,
}

/// Prints a line for each part that is in order, or all that is wrong. Exit code 0 or 1.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    crate::config::Config::load_with_references(&args.config)?;
    Ok(ExitCode::SUCCESS)
}
