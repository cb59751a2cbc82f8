//! Running the bot: the same parts, long-lived or as a function.

pub mod lambda;
pub mod long_lived;

use crate::answer::Answers;
use crate::app::{App, Mode};
use crate::chat::Chat;
use crate::chat::discord::{self, DiscordChat, DiscordGuild, DiscordIntake, Registered};
use crate::chat::slack::{self, SlackChat, SlackIntake, SlackWorkspace};
use crate::ring;
use anyhow::Context;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use countersign_infra::config::{Bot, Config};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A bot that is put together.
pub struct Running {
    pub config: Config,
    pub bot: Bot,
    pub app: App,
    pub chats: Vec<Arc<dyn Chat>>,
    pub slack: Arc<SlackIntake>,
    pub discord: Arc<DiscordIntake>,
    /// Rings, and what chats send by HTTP.
    pub router: Router,
}

/// The workspaces of a configuration, with their secrets read.
struct Workspaces {
    slack: Vec<Arc<SlackChat>>,
    discord: Vec<Arc<DiscordChat>>,
}

impl Workspaces {
    /// Blocks on the file system.
    fn open(bot: &Bot) -> anyhow::Result<Self> {
        let mut slack = Vec::with_capacity(bot.slack.len());
        for (index, config) in bot.slack.iter().enumerate() {
            let workspace = SlackWorkspace::open(config).with_context(|| format!("bot.slack.{index}"))?;
            slack.push(Arc::new(SlackChat::new(workspace, bot.verified_email)?));
        }
        let mut discord = Vec::with_capacity(bot.discord.len());
        for (index, config) in bot.discord.iter().enumerate() {
            let guild = DiscordGuild::open(config).with_context(|| format!("bot.discord.{index}"))?;
            discord.push(Arc::new(DiscordChat::new(guild)?));
        }
        Ok(Self { slack, discord })
    }

    fn chats(&self) -> Vec<Arc<dyn Chat>> {
        let slack = self.slack.iter().map(|chat| chat.clone() as Arc<dyn Chat>);
        let discord = self.discord.iter().map(|chat| chat.clone() as Arc<dyn Chat>);
        slack.chain(discord).collect()
    }
}

/// Reads the configuration and its `[bot]` section.
pub fn load(path: &Path) -> anyhow::Result<(Config, Bot)> {
    let config = Config::load(path)?;
    let bot = config.bot.clone();
    let bot = bot.with_context(|| format!("{} has no [bot] section", path.display()))?;
    Ok((config, bot))
}

/// Puts a bot together.
pub async fn assemble(config: Config, bot: Bot, mode: Mode, stop: &CancellationToken) -> anyhow::Result<Running> {
    let reading = bot.clone();
    let workspaces = tokio::task::spawn_blocking(move || Workspaces::open(&reading)).await??;
    let chats = workspaces.chats();
    let app = App::assemble(&config, &bot, chats.clone(), mode, stop).await?;
    let answers: Arc<dyn Answers> = Arc::new(app.desk.clone());
    let slack = SlackIntake::new(workspaces.slack, answers.clone());
    let discord = DiscordIntake::new(workspaces.discord, answers);
    let router = Router::new()
        .route("/livez", get(async || StatusCode::OK))
        .merge(ring::router(app.bell.clone()))
        .merge(slack::http::router(slack.clone()))
        .merge(discord::http::router(discord.clone()));
    Ok(Running {
        config,
        bot,
        app,
        chats,
        slack,
        discord,
        router,
    })
}

/// Asks every workspace whether it can be used, and says what is missing. The bot works with those that can.
pub async fn check(chats: &[Arc<dyn Chat>]) -> Vec<String> {
    let asked = chats.iter().map(|chat| async move {
        let name = format!("{} {}", chat.platform().as_str(), chat.team());
        chat.check().await.err().map(|error| format!("{name}: {error}"))
    });
    futures_util::future::join_all(asked)
        .await
        .into_iter()
        .flatten()
        .collect()
}

/// `countersign-bot register`: tells every guild the slash commands.
pub async fn register_all(path: &Path) -> anyhow::Result<ExitCode> {
    let (_, bot) = load(path)?;
    let workspaces = tokio::task::spawn_blocking(move || Workspaces::open(&bot)).await??;
    let mut code = ExitCode::SUCCESS;
    for chat in &workspaces.discord {
        match chat.register().await {
            Ok(registered) => {
                let what = match registered {
                    Registered::Already => "the commands are there already",
                    Registered::Anew => "the commands are registered",
                };
                writeln!(std::io::stdout(), "discord {}: {what}", chat.team())?;
            }
            Err(error) => {
                eprintln!("discord {}: {error}", chat.team());
                code = ExitCode::from(1);
            }
        }
    }
    Ok(code)
}

/// `countersign-bot check`.
pub async fn check_all(path: &Path) -> anyhow::Result<ExitCode> {
    let (_, bot) = load(path)?;
    let workspaces = tokio::task::spawn_blocking(move || Workspaces::open(&bot)).await??;
    let missing = check(&workspaces.chats()).await;
    for missing in &missing {
        eprintln!("{missing}");
    }
    Ok(match missing.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(1),
    })
}
