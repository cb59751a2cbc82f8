//! `countersign keys operations`: makes the key that the gateways of one store share.

use super::terminal::print;
use countersign_infra::operations::keys::FileKeys;
use std::path::PathBuf;
use std::process::ExitCode;

/// Makes keys that several gateways share.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes the key file of whole operations that `store.operations_key = "file:..."` names, for its owner alone.
    /// Every gateway of the store needs the same file. A file that is there is not replaced.
    Operations { file: PathBuf },
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Operations { file } = args.command;
    let shown = file.display().to_string();
    let keys = tokio::task::spawn_blocking(move || FileKeys::create(&file)).await??;
    let id = keys.ids().next().unwrap_or_default();
    print(&format!(
        "{shown}: made with the key {id}. Give every gateway of the store this file, and keep a copy in another place: \
         without it no operation that was kept can be read.\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}
