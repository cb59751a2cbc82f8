//! The bot as a function on AWS Lambda, behind a function URL or an HTTP API: it costs nothing while nobody asks.
//!
//! Nothing goes on after an answer: a ring waits until every card is drawn. Reminders and escalations come when a gateway
//! rings again, which it does while it holds something.

use super::{assemble, load};
use crate::app::Mode;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Names the configuration; beside the program where it is not set.
const CONFIG_VARIABLE: &str = "COUNTERSIGN_CONFIG";
const CONFIG_FILE: &str = "countersign.toml";

/// Answers until the sandbox ends.
pub async fn run() -> anyhow::Result<()> {
    let path = match std::env::var_os(CONFIG_VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?.with_file_name(CONFIG_FILE),
    };
    let (config, bot) = load(&path)?;
    countersign_infra::telemetry::start(true);
    let stop = CancellationToken::new();
    let running = assemble(config, bot, Mode::Function, &stop).await?;
    // A stage of an HTTP API stands before the path.
    let answered = lambda_http::run(running.router.clone()).await;
    stop.cancel();
    answered.map_err(|error| anyhow::anyhow!(error))
}
