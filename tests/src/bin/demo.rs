//! `make demo`: a play ground on this machine, or with `--store aws` on a small cloud; with `--auto` it plays the story by itself and checks every step.

use anyhow::Result;
use clap::Parser;
use countersign_tests::demo::{self, Screen, Store};
use std::process::ExitCode;

#[derive(Parser)]
struct Arguments {
    /// Plays the whole story unattended; the exit code is not 0 when one step differs.
    #[arg(long)]
    auto: bool,
    #[arg(long, default_value = "embedded")]
    store: Store,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Screen::Terminal.print(&format!("\nThe demo stops: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let mut stage = tokio::select! {
        stage = demo::start(arguments.store, Screen::Terminal) => stage?,
        pressed = tokio::signal::ctrl_c() => return Ok(pressed?),
    };
    if arguments.auto {
        // The story blocks its thread while psql works. What it started ends with this process.
        tokio::spawn(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        });
        return demo::play(&mut stage, Screen::Terminal).await;
    }
    Screen::Terminal.print(&demo::instructions(&stage));
    tokio::signal::ctrl_c().await?;
    Screen::Terminal.print("\nEnding everything.");
    Ok(())
}
