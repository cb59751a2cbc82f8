//! The bot as a Lambda function: the program that the `provided.al2023` runtime starts.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    debug_assert!(installed.is_ok(), "a provider is there already");
    match countersign_bot::run::lambda::run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("countersign-bot: {error:#}");
            ExitCode::FAILURE
        }
    }
}
