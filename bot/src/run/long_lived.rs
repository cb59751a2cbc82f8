//! `countersign-bot serve`: one program that stays.

use super::{assemble, check, load};
use crate::app::Mode;
use crate::chat::discord::{self, DiscordIntake};
use crate::chat::inbound::COUNTS_EVERY;
use crate::chat::slack::{self, SlackIntake};
use crate::sweep::sweep;
use anyhow::Context;
use countersign_infra::config::Speaks;
use countersign_infra::serve::{ServeLimits, serve};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a stop waits for answers and messages on their way.
const DRAIN_MAX: Duration = Duration::from_secs(20);

/// Runs until SIGTERM or SIGINT.
pub async fn run(path: &Path) -> anyhow::Result<()> {
    let (config, bot) = load(path)?;
    countersign_infra::telemetry::start(config.gateway.log_json);
    let stop = CancellationToken::new();
    let running = assemble(config, bot, Mode::LongLived, &stop).await?;
    let listen = running
        .bot
        .listen
        .context("bot.listen says where gateways ring: it is missing")?;
    let tls = match &running.bot.tls {
        Some(tls) => Some(tls.acceptor(Speaks::Http).context("the certificate of [bot]")?),
        None => None,
    };
    let listener = TcpListener::bind(listen).await.context("the [bot] listener")?;
    for missing in check(&running.chats).await {
        tracing::error!("{missing}");
    }
    tracing::info!(listen = %listener.local_addr()?, "the bot is ready");

    let tasks = TaskTracker::new();
    tasks.spawn(serve(
        listener,
        tls,
        running.router.clone(),
        ServeLimits::default(),
        stop.clone(),
    ));
    let (slack, slack_stop) = (running.slack.clone(), stop.clone());
    tasks.spawn(async move {
        if let Err(error) = slack::socket::serve(slack, slack_stop).await {
            tracing::error!(%error, "Slack's Socket Mode has ended");
        }
    });
    let (discord, discord_stop) = (running.discord.clone(), stop.clone());
    tasks.spawn(async move {
        if let Err(error) = discord::gateway::serve(discord, discord_stop).await {
            tracing::error!(%error, "Discord's gateway has ended");
        }
    });
    tasks.spawn(sweep(running.app.announcer.clone(), stop.clone()));
    tasks.spawn(tell_counts(
        running.slack.clone(),
        running.discord.clone(),
        stop.clone(),
    ));

    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    tracing::info!("the bot stops");
    stop.cancel();
    tasks.close();
    drop(tokio::time::timeout(DRAIN_MAX, tasks.wait()).await);
    running.slack.drain(DRAIN_MAX).await;
    running.discord.drain(DRAIN_MAX).await;
    let (work, writer) = (running.app.work.clone(), running.app.writer.clone());
    // The journal's writer ends with the last that could write.
    drop(running);
    let done = async {
        for tasks in [work, writer] {
            tasks.close();
            tasks.wait().await;
        }
    };
    drop(tokio::time::timeout(DRAIN_MAX, done).await);
    Ok(())
}

/// Logs what was turned away though nothing more is.
async fn tell_counts(slack: Arc<SlackIntake>, discord: Arc<DiscordIntake>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(COUNTS_EVERY) => {}
        }
        slack.tell_counts();
        discord.tell_counts();
    }
}
