//! The parts of a running gateway, how they are put together, and how they stop.

use crate::console::{self, ApiLimits, Console, ConsoleParts, PageParts, ServeLimits, SignInEntry, TargetEntry};
use crate::digests::{Digests, Means};
use crate::directory::Directory;
use crate::gate::Gate;
use crate::grants::Grants;
use crate::hold::{Holds, Writers};
use crate::protocol::postgres::connection::Cancels;
use crate::protocol::postgres::effects::Analyst;
use crate::protocol::postgres::startup::Entry;
use crate::protocol::postgres::web::WebSignIns;
use crate::record::{RecordError, Spool};
use crate::ring::{Bell, Ringer, RingingApprovals};
use crate::sessions::SessionRegistry;
use crate::settle::{self, Settler, Trail};
use crate::vault::Vault;
use anyhow::Context;
use countersign_infra::config::{Config, ConfigError, Speaks, Target, TargetKind};
use countersign_infra::domain::access_request::Protocol;
use countersign_infra::identity::oidc::Verifier;
use countersign_infra::identity::sign_in::BrowserSignIn;
use countersign_infra::journal::Journal;
use countersign_infra::policy::{PolicyHandle, TargetFacts};
use countersign_infra::recordings::key::{KeyError, Keyring, SigningKey};
use countersign_infra::stores::Stores;
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What every connection needs.
pub struct App {
    pub config: Config,
    pub targets: BTreeMap<String, KnownTarget>,
    pub verifier: Arc<Verifier>,
    pub directory: Arc<Directory>,
    /// Clients that wait for their person to sign in by a browser.
    pub web: WebSignIns,
    pub vault: Vault,
    pub gate: Arc<Gate>,
    pub analyst: Analyst,
    pub journal: Arc<dyn Journal>,
    /// What is settled at a start and for gateways that are gone.
    pub trail: Trail,
    pub spool: Spool,
    pub sessions: SessionRegistry,
    pub digests: Digests,
    pub cancels: Cancels,
    /// Tells the bot of approvals, where one is configured.
    pub ringer: Option<Arc<Ringer>>,
    /// Cancelled when live sessions are to end.
    pub sessions_stop: CancellationToken,
}

impl App {
    fn settler(&self) -> Settler<'_> {
        Settler {
            spool: &self.spool,
            stores: &self.trail,
            sessions: &self.sessions,
        }
    }
}

/// A target of the configuration.
pub struct KnownTarget {
    pub facts: TargetFacts,
    /// The database when the client names none.
    pub database: String,
}

impl KnownTarget {
    fn of(target: &Target) -> Self {
        let kind = match target.kind {
            TargetKind::Postgres => Protocol::Postgres,
        };
        let facts = TargetFacts {
            name: target.name.clone(),
            kind,
            tags: target.tags.clone(),
        };
        Self {
            facts,
            database: target.database.clone(),
        }
    }
}

/// Reads a configuration with all that it refers to: what a gateway starts with. Blocks on the file system.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    Config::load_with_references(path, |target| {
        let password = Vault::check_password(target)
            .err()
            .map(|error| ("password", error.to_string()));
        let ca = Vault::check_tls(target)
            .err()
            .map(|error| ("tls.ca", error.to_string()));
        password.into_iter().chain(ca).collect()
    })
}

/// Runs the gateway of this configuration until SIGTERM, SIGINT, or a part that cannot go on.
pub async fn run(config: PathBuf) -> anyhow::Result<()> {
    let config = tokio::task::spawn_blocking(move || load(&config)).await??;
    countersign_infra::telemetry::start(config.gateway.log_json);
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let (app, stores, recording_keys) = assemble(config, &stop, &tasks).await?;
    let app = Arc::new(app);
    settle::earlier_run(&app.spool, &app.trail).await;

    let postgres = TcpListener::bind(app.config.postgres.listen)
        .await
        .context("the [postgres] listener")?;
    let http = TcpListener::bind(app.config.http.listen)
        .await
        .context("the [http] listener")?;
    let entry = Arc::new(Entry {
        tls: app
            .config
            .postgres
            .tls
            .acceptor(Speaks::Postgres)
            .context("the certificate of [postgres]")?,
        plaintext_on_loopback: app.config.postgres.plaintext_on_loopback,
    });
    let http_tls = match &app.config.http.tls {
        Some(tls) => Some(tls.acceptor(Speaks::Http).context("the certificate of [http]")?),
        None => None,
    };
    let clients = TaskTracker::new();
    let signing = app.clone();
    let sign_ins = tokio::task::spawn_blocking(move || signing.config.browser_sign_ins()).await?;
    let sign_ins = sign_ins.context("signing in by a browser")?;
    let api = console::router(Console::start(
        console_parts(&app, stores, recording_keys, sign_ins, postgres.local_addr()?),
        &tasks,
    ));
    tracing::info!(postgres = %postgres.local_addr()?, http = %http.local_addr()?, "the gateway is ready");
    tasks.spawn(console::serve(
        http,
        http_tls,
        api,
        ServeLimits::default(),
        // What is held can be decided to the last.
        app.sessions_stop.clone(),
    ));
    tasks.spawn(crate::serve::postgres(
        app.clone(),
        postgres,
        entry,
        clients.clone(),
        stop.clone(),
    ));
    let (holds, feed_stop) = (app.gate.holds().clone(), app.sessions_stop.clone());
    tasks.spawn(async move { holds.follow_feed(feed_stop).await });
    let writers = Writers {
        journal: app.journal.clone(),
        sessions: app.sessions.clone(),
    };
    let (holds, burying, bury_stop) = (app.gate.holds().clone(), writers.clone(), stop.clone());
    tasks.spawn(async move { holds.bury_the_dead(&burying, bury_stop).await });
    // Until the last session has ended: what is at a server while sessions drain is alive.
    let (holds, sessions_ended) = (app.gate.holds().clone(), CancellationToken::new());
    let (keep_stop, ring_stop) = (sessions_ended.clone(), sessions_ended.clone());
    tasks.spawn(async move { holds.look_after_kept(&writers, keep_stop).await });
    if let Some(ringer) = app.ringer.clone() {
        // As long: how they ended is rung, too.
        tasks.spawn(ringer.run(ring_stop));
    }
    let (settling, settle_stop) = (app.clone(), stop.clone());
    tasks.spawn(async move { settling.settler().keep(&settling.digests, settle_stop).await });
    let (digesting, digests_stop) = (app.clone(), stop.clone());
    tasks.spawn(async move { digesting.digests.keep(digests_stop).await });

    wait_for_signal().await?;
    drain(&app, &stop, &clients, &sessions_ended, &tasks).await;
    Ok(())
}

async fn assemble(
    config: Config,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> anyhow::Result<(App, Stores, Keyring)> {
    let directory = config.gateway.data_dir.clone();
    let (key, recording_keys) = {
        let directory = directory.clone();
        tokio::task::spawn_blocking(move || open_directory(&directory)).await??
    };
    let key = Arc::new(key);
    let mut stores = crate::stores::open(&config).await?;
    let ringer = match config.bot.clone() {
        Some(bot) => {
            let bell = Arc::new(Bell::default());
            stores.approvals = Arc::new(RingingApprovals::new(stores.approvals, bell.clone()));
            let ringer = tokio::task::spawn_blocking(move || Ringer::new(&bot, bell)).await?;
            Some(Arc::new(ringer.context("[bot]")?))
        }
        None => None,
    };
    let policy = PolicyHandle::start(config.policy.path.clone(), stop.clone()).context("the policy")?;
    let holds = Holds::new(
        stores.approvals.clone(),
        config.gateway.name.clone(),
        &config.http.public_url,
    )
    .context("the random source")?;
    let spool = open_spool(&config, &stores, key.clone()).context("the recording spool")?;
    let (config, verifier, vault) = tokio::task::spawn_blocking(move || {
        let verifier = config.verifier().context("the issuers")?;
        let vault = Vault::open(&config).context("the vault")?;
        anyhow::Ok((config, verifier, vault))
    })
    .await??;
    let sessions = SessionRegistry::default();
    let means = Means {
        gateway: config.gateway.name.clone(),
        key,
        recordings: stores.recordings.clone(),
        journal: stores.journal.clone(),
        directory: runs_directory(&config),
    };
    let digests = Digests::begin(means, sessions.clone())
        .await
        .context("the digests of sessions")?;
    let app = App {
        targets: config
            .targets
            .iter()
            .map(|target| (target.name.clone(), KnownTarget::of(target)))
            .collect(),
        verifier: Arc::new(verifier),
        directory: Arc::new(Directory::new(
            config.bot.is_some().then(|| stores.directory.clone()),
            tasks.clone(),
        )),
        web: WebSignIns::new(stores.tickets.clone(), pages(&config)),
        vault,
        gate: Arc::new(Gate::new(
            policy,
            holds,
            stores.operations.clone(),
            Grants::new(stores.grants.clone()),
        )),
        analyst: Analyst::new(config.limits.statement_bytes_max).context("the statement parser")?,
        journal: stores.journal.clone(),
        trail: Trail {
            journal: stores.journal.clone(),
            approvals: stores.approvals.clone(),
        },
        spool,
        sessions,
        digests,
        cancels: Cancels::default(),
        ringer,
        sessions_stop: CancellationToken::new(),
        config,
    };
    Ok((app, stores, recording_keys))
}

/// Where the pages are, if people can sign in there.
fn pages(config: &Config) -> Option<url::Url> {
    let can_sign_in = config.issuers.iter().any(|issuer| issuer.client_id.is_some());
    can_sign_in.then(|| config.http.public_url.clone())
}

/// A gateway that shares `spool_dir` with others has a directory of its own in it.
fn open_spool(config: &Config, stores: &Stores, key: Arc<SigningKey>) -> Result<Spool, RecordError> {
    let (bytes_max, store) = (config.limits.spool_bytes_max, stores.recordings.clone());
    let wait_max = Duration::from_secs(config.limits.record_wait_seconds_max);
    match &config.gateway.spool_dir {
        Some(shared) => Spool::open_beside(shared, bytes_max, store, key, wait_max),
        None => Spool::open(&config.gateway.data_dir.join("spool"), bytes_max, store, key, wait_max),
    }
}

/// Beside the spool: who completes the recordings of a gateway that is gone writes its last digest too.
fn runs_directory(config: &Config) -> PathBuf {
    let spool = config.gateway.spool_dir.as_ref();
    spool.unwrap_or(&config.gateway.data_dir).join("runs")
}

/// The key of this gateway's recordings, and it together with those of others that lie beside it.
fn open_directory(directory: &Path) -> anyhow::Result<(SigningKey, Keyring)> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("gateway.data_dir {}", directory.display()))?;
    let keys = directory.join("keys");
    let key = SigningKey::load_or_create(&keys).context("the recording key")?;
    let mut ring = Keyring::from(key.public().clone());
    match Keyring::load(&[keys]) {
        Ok(others) => others.keys().iter().for_each(|other| ring.add(other.clone())),
        Err(KeyError::NoKeys { .. }) => {}
        Err(error) => return Err(error).context("the keys of recordings"),
    }
    Ok((key, ring))
}

fn console_parts(
    app: &Arc<App>,
    stores: Stores,
    recording_keys: Keyring,
    sign_ins: Vec<BrowserSignIn>,
    listens: std::net::SocketAddr,
) -> ConsoleParts {
    let host = app
        .config
        .http
        .public_url
        .host_str()
        .map_or_else(|| listens.ip().to_string(), str::to_owned);
    let targets = app.config.targets.iter().map(|target| TargetEntry {
        name: target.name.clone(),
        kind: "postgres".to_owned(),
        host: host.clone(),
        port: listens.port(),
        database: target.database.clone(),
    });
    ConsoleParts {
        gateway: app.config.gateway.name.clone(),
        approvals: stores.approvals,
        journal: stores.journal,
        recordings: stores.recordings,
        operations: stores.operations,
        grants: stores.grants,
        recording_keys,
        verifier: app.verifier.clone(),
        directory: app.directory.clone(),
        policy: app.gate.policy().clone(),
        sessions: app.sessions.clone(),
        targets: targets.collect(),
        sign_in: app.config.issuers.iter().filter_map(SignInEntry::of).collect(),
        limits: ApiLimits::default(),
        clock: app.gate.holds().clock().clone(),
        unsent: {
            let app = app.clone();
            let wait_max = Duration::from_secs(app.config.limits.record_wait_seconds_max);
            // From then on no session is opened.
            Arc::new(move || {
                app.spool
                    .failing()
                    .map(|(since, _)| since)
                    .filter(|since| *since >= wait_max)
            })
        },
        dead: {
            let holds = app.gate.holds().clone();
            Arc::new(move || holds.saw_dead())
        },
        pages: PageParts {
            public_url: app.config.http.public_url.clone(),
            sign_ins,
            tickets: stores.tickets,
            chat_links: stores.chat_links,
            step_up_rules: app
                .config
                .bot
                .iter()
                .flat_map(|bot| bot.step_up_rules.iter().cloned())
                .collect(),
        },
    }
}

async fn wait_for_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Accepts nothing more, lets sessions end by themselves for a while, then ends them; every end is on record.
async fn drain(
    app: &App,
    stop: &CancellationToken,
    clients: &TaskTracker,
    sessions_ended: &CancellationToken,
    tasks: &TaskTracker,
) {
    let wait = Duration::from_secs(app.config.limits.drain_seconds_max);
    tracing::info!(sessions = app.sessions.len(), "the gateway is stopping");
    stop.cancel();
    clients.close();
    if !app.sessions.is_empty() && tokio::time::timeout(wait, clients.wait()).await.is_err() {
        tracing::warn!(sessions = app.sessions.len(), "sessions are ended");
    }
    app.sessions_stop.cancel();
    if tokio::time::timeout(Duration::from_secs(20), clients.wait())
        .await
        .is_err()
    {
        tracing::error!(sessions = app.sessions.len(), "sessions did not end in time");
    }
    sessions_ended.cancel();
    app.digests.end().await;
    tasks.close();
    drop(tokio::time::timeout(Duration::from_secs(20), tasks.wait()).await);
    app.spool.stop().await;
}
