//! `countersign recordings`: lists recordings, writes them to files, gives links to them.

mod export;
mod links;
mod list;

use std::process::ExitCode;

/// Lists recordings, exports them, or gives links to them.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    List(list::Args),
    Export(export::Args),
    Links(links::Args),
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::List(args) => list::run(args).await,
        Action::Export(args) => export::run(args).await,
        Action::Links(args) => links::run(args).await,
    }
}
