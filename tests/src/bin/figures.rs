//! `make figures`: measures the figures of the README, and fails when one is above its bound. Takes the names of those
//! to measure; all of them without any.
#![allow(clippy::print_stderr, reason = "it reports to the one who started it")]

use countersign_tests::figures;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match figures::run(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
