//! A running bot before a fake Slack and a fake Discord, in a world with a gateway.

use crate::discord::{self, Discord};
use crate::harness::{Gateway, GatewayOptions, program};
use crate::lambda::{Function, FunctionOptions, Sandbox};
use crate::ports::free_port;
use crate::postgres::Postgres;
use crate::process::{Process, Program};
use crate::slack::{self, Endpoints, Slack};
use crate::wait::eventually;
use crate::world::{World, WorldOptions};
use anyhow::{Context, Result};
use chrono::Utc;
use countersign_infra::chat_links::ChatLinkStore;
use countersign_infra::domain::chat_link::{ChatAccount, ChatLink, ChatPlatform};
use countersign_infra::domain::identity::{Person, PersonKey, PersonKind};
use countersign_infra::embedded::EmbeddedStore;
use countersign_infra::stores::STORE_FILE;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// The secret that gateway and bot share here.
pub const RING_KEY: &str = "a-ring-key-for-tests-of-forty-characters";

/// Sandboxes of a function: while some draw cards, others take clicks.
const SANDBOXES: usize = 4;

/// How the bot and the chats reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The bot connects: Socket Mode, and Discord's gateway.
    Connected,
    /// The chats send signed requests.
    Signed,
    /// They send signed requests to a function.
    Function,
}

impl Way {
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Connected => "Socket Mode",
            Self::Signed => "HTTP",
            Self::Function => "Lambda emulator",
        }
    }
}

/// What a chat world is made of.
#[derive(Clone)]
pub struct ChatOptions {
    pub way: Way,
    pub world: WorldOptions,
    /// The server; the one that this binary's tests share when none is given.
    pub server: Option<Arc<Postgres>>,
    /// Lines of the `[bot]` table.
    pub bot: String,
    /// Lines of the first `[[bot.route]]`, beside its channels.
    pub route: String,
    /// Where gateways ring; at the bot where there is none.
    pub ring_url: Option<Url>,
}

impl ChatOptions {
    pub fn new(way: Way) -> Self {
        Self {
            way,
            world: WorldOptions::default(),
            server: None,
            bot: String::new(),
            route: String::new(),
            ring_url: None,
        }
    }
}

/// A world with both chats. Everything ends when it is dropped.
pub struct Chats {
    /// Dropped first: it writes into the world's files.
    bot: Option<Running>,
    pub slack: Slack,
    pub discord: Discord,
    pub world: World,
    way: Way,
    port: u16,
}

enum Running {
    LongLived(Bot),
    Function(Function),
}

/// A running bot.
pub struct Bot {
    process: Process,
}

impl Bot {
    /// Starts the bot of a gateway's configuration.
    pub fn start(gateway: &Gateway, environment: Vec<(String, OsString)>) -> Result<Self> {
        Self::start_with(gateway, &gateway.config(), environment)
    }

    /// Starts a bot of a configuration in a gateway's directory.
    pub fn start_with(gateway: &Gateway, config: &Path, environment: Vec<(String, OsString)>) -> Result<Self> {
        let process = Process::start(&Program {
            path: program("countersign-bot")?,
            arguments: ["serve".into(), "--config".into(), config.into()].into(),
            environment,
            directory: Some(gateway.path().to_owned()),
            log: gateway.path().join("bot.log"),
            stop_signal: "TERM",
            remove: None,
        })?;
        Ok(Self { process })
    }

    /// Ends it at once, whatever it is doing.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill9()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

impl Chats {
    /// Starts a world, the chats and the bot; returns once the bot can be clicked at.
    pub async fn start(options: ChatOptions) -> Result<Self> {
        let (slack, discord) = (Slack::start().await?, Discord::start().await?);
        let port = free_port()?;
        let mut world = options.world.clone();
        let mut environment: Vec<(String, OsString)> = [
            ("RING_KEY", RING_KEY.to_owned()),
            ("SLACK_TOKEN", slack.bot_token(slack::TEAM)),
            ("SLACK_SECRET", slack.signing_secret()),
            ("SLACK_APP_TOKEN", slack.app_token()),
            ("DISCORD_TOKEN", discord.token()),
        ]
        .map(|(name, value)| (name.to_owned(), value.into()))
        .to_vec();
        environment.append(&mut world.gateway.environment);
        world.gateway = GatewayOptions {
            more: world.gateway.more + "\n" + &section(&slack, &discord, port, &options),
            environment,
            ..world.gateway
        };
        if options.way != Way::Connected {
            let at = |path: &str| format!("http://127.0.0.1:{port}{path}").parse();
            slack.use_endpoints(Some(Endpoints {
                interactions: at("/slack/interactions")?,
                commands: at("/slack/commands")?,
                events: at("/slack/events")?,
            }));
            discord.use_endpoint(Some(at("/discord/interactions")?));
        }
        let server = match options.server {
            Some(server) => server,
            None => Postgres::shared().await?,
        };
        let world = World::start_on(server, world).await?;
        let mut chats = Self {
            bot: None,
            slack,
            discord,
            world,
            way: options.way,
            port,
        };
        chats.register()?;
        chats.start_bot().await?;
        if options.way == Way::Connected {
            eventually("the bot connects to Slack", Duration::from_secs(20), async || {
                (chats.slack.connections() > 0).then_some(())
            })
            .await?;
        }
        Ok(chats)
    }

    /// Starts the bot, again after `stop_bot`.
    pub async fn start_bot(&mut self) -> Result<()> {
        let environment = self.world.environment();
        self.bot = Some(match self.way {
            Way::Connected | Way::Signed => Running::LongLived(Bot::start(&self.world.gateway, environment)?),
            Way::Function => Running::Function(
                Function::start(FunctionOptions {
                    config: self.world.gateway.config(),
                    environment,
                    log: self.world.gateway.path().join("bot.log"),
                    port: self.port,
                    sandboxes: SANDBOXES,
                })
                .await?,
            ),
        });
        self.answers(self.port).await
    }

    /// Starts one more bot on the same store, and gives where it listens.
    pub async fn another_bot(&self) -> Result<(Bot, u16)> {
        let gateway = &self.world.gateway;
        let port = free_port()?;
        let text = std::fs::read_to_string(gateway.config())?;
        let [mine, other] = [self.port, port].map(|port| format!("listen = \"127.0.0.1:{port}\"\nring_key"));
        gateway.write("another.toml", &text.replace(&mine, &other))?;
        let bot = Bot::start_with(gateway, &gateway.path().join("another.toml"), self.world.environment())?;
        self.answers(port).await?;
        Ok((bot, port))
    }

    async fn answers(&self, port: u16) -> Result<()> {
        let url = format!("http://127.0.0.1:{port}/livez");
        let answered = eventually("the bot answers", Duration::from_secs(30), async || {
            let answer = reqwest::get(&url).await.ok()?;
            answer.status().is_success().then_some(())
        });
        answered.await.with_context(|| self.bot_log())
    }

    /// Tells Discord the commands, as whoever sets a bot up does.
    fn register(&self) -> Result<()> {
        let gateway = &self.world.gateway;
        let told = std::process::Command::new(program("countersign-bot")?)
            .args(["register", "--config"])
            .arg(gateway.config())
            .envs(self.world.environment())
            .current_dir(gateway.path())
            .output()?;
        let said = String::from_utf8_lossy(&told.stderr);
        anyhow::ensure!(told.status.success(), "the commands were not registered: {said}");
        Ok(())
    }

    /// Ends the bot; kills it where it would take its time.
    pub fn stop_bot(&mut self) {
        self.bot = None;
    }

    /// What the bot has logged.
    pub fn bot_log(&self) -> String {
        std::fs::read_to_string(self.world.gateway.path().join("bot.log")).unwrap_or_default()
    }

    /// Ends the bot at once, whatever it is doing.
    pub fn kill_bot(&mut self) -> Result<()> {
        match &mut self.bot {
            Some(Running::LongLived(bot)) => bot.kill(),
            Some(Running::Function(function)) => function.sandboxes().iter().try_for_each(Sandbox::end),
            None => Ok(()),
        }
    }

    pub fn bot_port(&self) -> u16 {
        self.port
    }

    /// Its process; of a function, that of one sandbox.
    pub fn bot_pid(&self) -> Option<u32> {
        match &self.bot {
            Some(Running::LongLived(bot)) => Some(bot.pid()),
            Some(Running::Function(function)) => function.sandboxes().first().and_then(Sandbox::pid),
            None => None,
        }
    }

    /// The function that the bot is.
    pub fn function(&self) -> Result<&Function> {
        match &self.bot {
            Some(Running::Function(function)) => Ok(function),
            Some(Running::LongLived(_)) | None => anyhow::bail!("the bot is no running function"),
        }
    }

    /// Ties accounts of both chats to a person of the world, as a sign-in does.
    pub async fn link(&self, name: &str, groups: &[&str], slack: &str, discord: &str) -> Result<()> {
        link(&self.world, name, groups, &[(slack, Some(discord))]).await
    }

    /// The store that gateway and bot share.
    pub fn store(&self) -> Result<EmbeddedStore> {
        open(&self.world.gateway.data())
    }
}

/// Ties accounts, each of Slack and perhaps of Discord, to a person of a world with the embedded store.
pub async fn link(world: &World, name: &str, groups: &[&str], accounts: &[(&str, Option<&str>)]) -> Result<()> {
    let person = Person {
        key: PersonKey {
            // As its tokens call it.
            issuer: world.issuer.url().as_str().trim_end_matches('/').to_owned(),
            subject: name.to_owned(),
        },
        name: name.to_owned(),
        email: Some(format!("{name}@example.com")),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        kind: PersonKind::Human,
    };
    let store = open(&world.gateway.data())?;
    let accounts = accounts.iter().flat_map(|(slack, discord)| {
        let slack = (ChatPlatform::Slack, slack::TEAM, *slack);
        std::iter::once(slack).chain(discord.map(|user| (ChatPlatform::Discord, discord::GUILD, user)))
    });
    for (platform, team, user) in accounts {
        let account = ChatAccount {
            platform,
            team: team.to_owned(),
            user: user.to_owned(),
        };
        let former = ChatLinkStore::read(&store, &account).await?;
        let link = ChatLink::link(account, person.clone(), former.as_ref(), Utc::now());
        ChatLinkStore::put(&store, &link, former.as_ref()).await?;
    }
    Ok(())
}

fn open(data: &Path) -> Result<EmbeddedStore> {
    EmbeddedStore::open(data.join(STORE_FILE)).context("the store of the world")
}

fn section(slack: &Slack, discord: &Discord, port: u16, options: &ChatOptions) -> String {
    let ChatOptions { way, bot, route, .. } = options;
    let url = match &options.ring_url {
        Some(url) => url.to_string(),
        None => format!("http://127.0.0.1:{port}"),
    };
    let slack_way = match way {
        Way::Connected => "app_token = \"env:SLACK_APP_TOKEN\"",
        Way::Signed | Way::Function => "signing_secret = \"env:SLACK_SECRET\"",
    };
    format!(
        "[bot]\nurl = \"{url}\"\nlisten = \"127.0.0.1:{port}\"\nring_key = \"env:RING_KEY\"\n{bot}\n\
         [[bot.slack]]\nteam = \"{}\"\napp = \"{}\"\nbot_token = \"env:SLACK_TOKEN\"\n{slack_way}\napi_url = \"{}\"\n\
         [[bot.discord]]\nguild = \"{}\"\napplication = \"{}\"\npublic_key = \"{}\"\nbot_token = \"env:DISCORD_TOKEN\"\n\
         long_lived = {}\napi_url = \"{}\"\n\
         [[bot.route]]\nchannels = [\"slack:{}:{}\", \"discord:{}:{}\"]\n{route}\n",
        slack::TEAM,
        slack::APP,
        slack.api_url(),
        discord::GUILD,
        discord::APPLICATION,
        discord.public_key(),
        *way == Way::Connected,
        discord.api_url(),
        slack::TEAM,
        slack::CHANNEL,
        discord::GUILD,
        discord::CHANNEL,
    )
}
