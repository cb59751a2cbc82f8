//! The real `countersign` program between real clients and a real PostgreSQL.

use crate::certificates::{Authority, LOCAL_NAMES};
use crate::connect::connect;
use crate::ports::{free_port, preferred_port};
use crate::postgres::{Database, HOST, Postgres};
use crate::process::{Process, Program};
use crate::wait::eventually;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::Duration;
use tokio_postgres::Client;

const START_LIMIT: Duration = Duration::from_secs(30);

/// A target as it stands in the configuration.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    pub name: String,
    pub tags: Vec<String>,
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: String,
    /// The authority to trust, as PEM; none means no TLS.
    pub ca: Option<String>,
}

impl TargetOptions {
    /// A target for a database of the harness's own server.
    pub fn of(name: &str, server: &Postgres, database: &Database) -> Self {
        Self {
            name: name.to_owned(),
            tags: Vec::new(),
            host: HOST.to_owned(),
            port: server.port(),
            database: database.name.clone(),
            user: database.user.clone(),
            password: database.password.clone(),
            ca: Some(server.ca_pem().to_owned()),
        }
    }
}

/// An issuer as it stands in the configuration.
#[derive(Clone, Debug)]
pub struct IssuerOptions {
    pub url: String,
    pub audience: String,
}

/// What a gateway is started with.
#[derive(Clone, Debug, Default)]
pub struct GatewayOptions {
    /// Cedar text.
    pub policy: String,
    pub issuers: Vec<IssuerOptions>,
    pub targets: Vec<TargetOptions>,
    /// Lines of the `[limits]` table.
    pub limits: String,
    /// Lines of the `[gateway]` table, beside name and data_dir.
    pub gateway: String,
    /// The gateway's name; `test-gateway` when none is given.
    pub name: Option<String>,
    /// Lines of the `[store]` table; the embedded store when there are none.
    pub store: Option<String>,
    /// More tables, verbatim.
    pub more: String,
    pub environment: Vec<(String, OsString)>,
    /// Ports taken when they are free; any free ones otherwise.
    pub postgres_port: Option<u16>,
    pub http_port: Option<u16>,
    /// Where its files are kept; a temporary directory when none is given.
    pub directory: Option<PathBuf>,
}

/// A running gateway, its files in a directory of its own.
pub struct Gateway {
    /// Dropped first: its files can only be deleted once it writes no more.
    process: Option<Process>,
    directory: PathBuf,
    _temporary: Option<tempfile::TempDir>,
    environment: Vec<(String, OsString)>,
    ca: String,
    postgres_port: u16,
    http_port: u16,
    tokens: Mutex<BTreeMap<String, String>>,
}

impl Gateway {
    /// Writes the files and starts the gateway; returns once `/readyz` says yes.
    pub async fn start(options: GatewayOptions) -> Result<Self> {
        let mut gateway = Self::prepare(&options)?;
        gateway.launch()?;
        gateway.wait_until_ready().await?;
        Ok(gateway)
    }

    /// Writes the files and starts nothing: for tests of how a start fails.
    pub fn prepare(options: &GatewayOptions) -> Result<Self> {
        let (directory, temporary) = match &options.directory {
            Some(directory) => (directory.clone(), None),
            None => {
                let temporary = tempfile::Builder::new().prefix("countersign-gateway-").tempdir()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let authority = Authority::new("Test gateway authority")?;
        let port = |wanted: Option<u16>| wanted.map_or_else(free_port, preferred_port);
        let gateway = Self {
            directory,
            _temporary: temporary,
            process: None,
            environment: options.environment.clone(),
            ca: authority.pem().to_owned(),
            postgres_port: port(options.postgres_port)?,
            http_port: port(options.http_port)?,
            tokens: Mutex::default(),
        };
        let leaf = authority.leaf(&LOCAL_NAMES)?;
        gateway.write("ca.pem", authority.pem())?;
        gateway.write("gateway.crt", &leaf.certificate)?;
        gateway.write("gateway.key", &leaf.key)?;
        gateway.write("policy.cedar", &options.policy)?;
        for (number, target) in options.targets.iter().enumerate() {
            gateway.write(&format!("target{number}.password"), &target.password)?;
            gateway.write(
                &format!("target{number}.ca.pem"),
                target.ca.as_deref().unwrap_or_default(),
            )?;
        }
        gateway.write("countersign.toml", &gateway.configuration(options))?;
        Ok(gateway)
    }

    /// Starts the program without waiting for it to be ready.
    pub fn launch(&mut self) -> Result<()> {
        let mut environment = self.environment.clone();
        environment.push(("NO_COLOR".to_owned(), "1".into()));
        self.process = Some(Process::start(&Program {
            path: countersign()?,
            arguments: ["gateway".into(), "--config".into(), self.config().into_os_string()].into(),
            environment,
            directory: Some(self.path().to_owned()),
            log: self.path().join("gateway.log"),
            stop_signal: "KILL",
            remove: None,
        })?);
        Ok(())
    }

    /// Starts it again after `kill9` or `stop`, on the same ports and files.
    pub async fn restart(&mut self) -> Result<()> {
        drop(self.process.take());
        self.launch()?;
        self.wait_until_ready().await
    }

    /// Starts it again with other variables in its environment.
    pub async fn restart_with(&mut self, environment: Vec<(String, OsString)>) -> Result<()> {
        self.environment = environment;
        self.restart().await
    }

    /// Whether its process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| process.ended().is_some())
    }

    /// Ends it as a power cut would.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.as_mut().context("the gateway is not running")?.kill9()
    }

    /// Asks it to end and waits for that.
    pub fn stop(&mut self) -> Result<std::process::ExitStatus> {
        let process = self.process.as_mut().context("the gateway is not running")?;
        process.signal("TERM")?;
        process.wait(Duration::from_secs(60))
    }

    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("the gateway is not running")
    }

    /// The process id of the running gateway.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The directory of its files: `countersign.toml`, `policy.cedar`, `data/`, `gateway.log`, `ca.pem`.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    pub fn config(&self) -> PathBuf {
        self.path().join("countersign.toml")
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn ca_pem(&self) -> &str {
        &self.ca
    }

    pub fn postgres_port(&self) -> u16 {
        self.postgres_port
    }

    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// Everything that the gateway has logged so far, over restarts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("gateway.log")).unwrap_or_default()
    }

    /// Writes a file beside the configuration (a new policy, a broken one).
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path().join(name);
        std::fs::write(&path, text)?;
        // The gateway refuses secrets that everyone may read.
        Ok(std::fs::set_permissions(&path, Permissions::from_mode(0o600))?)
    }

    /// Names a token, so that `psql`, `cli` and `connect` can be called with the name.
    pub fn sign_in(&self, name: &str, token: impl Into<String>) {
        let mut tokens = self.tokens.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        tokens.insert(name.to_owned(), token.into());
    }

    /// Takes over the names that another gateway was given.
    pub fn knows_all_of(&self, other: &Self) {
        let theirs = other
            .tokens
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone();
        let mut tokens = self.tokens.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        tokens.extend(theirs);
    }

    /// The token of a name given to `sign_in`; a name nobody gave is itself sent as the token.
    pub fn token(&self, name: &str) -> String {
        let tokens = self.tokens.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        tokens.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }

    /// What a person's shell must hold to use stock PostgreSQL clients and the command line through the gateway.
    pub fn environment(&self, name: &str, target: &str) -> Vec<(String, String)> {
        let token = self.token(name);
        let variables = [
            ("PGHOST", HOST.to_owned()),
            ("PGPORT", self.postgres_port.to_string()),
            ("PGDATABASE", target.to_owned()),
            ("PGUSER", name.to_owned()),
            ("PGPASSWORD", token.clone()),
            ("PGSSLMODE", "verify-full".to_owned()),
            ("PGSSLROOTCERT", self.path().join("ca.pem").display().to_string()),
            ("COUNTERSIGN_URL", self.http_url()),
            ("COUNTERSIGN_TOKEN", token),
        ];
        variables
            .into_iter()
            .map(|(variable, value)| (variable.to_owned(), value))
            .collect()
    }

    /// Stock `psql` as a person towards a target, without start-up files.
    pub fn psql(&self, name: &str, target: &str) -> Command {
        let mut command = Command::new("psql");
        command.args(["--no-psqlrc", "--no-password"]);
        command
            .envs(self.environment(name, target))
            .env("PGCONNECT_TIMEOUT", "30");
        command
    }

    /// Runs the command line as a person.
    pub fn cli(&self, name: &str, arguments: &[&str]) -> Result<Output> {
        Ok(self.cli_command(name)?.args(arguments).output()?)
    }

    /// Runs the command line as a person: the exit code (-1 after a signal), and both streams.
    pub fn run(&self, name: &str, arguments: &[&str]) -> Result<(i32, String)> {
        let output = self.cli(name, arguments)?;
        let printed = [output.stdout, output.stderr].concat();
        Ok((
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&printed).into_owned(),
        ))
    }

    pub fn cli_command(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(countersign()?);
        command
            .envs(self.environment(name, ""))
            // With `--config` it reads the gateway's stores itself.
            .envs(self.environment.clone())
            .env("NO_COLOR", "1")
            .current_dir(self.path());
        command.env_remove("PGDATABASE");
        Ok(command)
    }

    /// How tokio-postgres reaches a target as a person.
    pub fn client_config(&self, name: &str, target: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host(HOST)
            .port(self.postgres_port)
            .user(name)
            .password(self.token(name))
            .dbname(target);
        config
            .ssl_mode(tokio_postgres::config::SslMode::Require)
            .connect_timeout(START_LIMIT);
        config
    }

    /// Connects through the gateway with tokio-postgres.
    pub async fn connect(&self, name: &str, target: &str) -> Result<Client> {
        connect(&self.client_config(name, target), &self.ca).await
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let url = format!("{}/readyz", self.http_url());
        let client = reqwest::Client::builder().use_preconfigured_tls(no_roots()?).build()?;
        let mut last = String::from("no answer");
        let ready = eventually("the gateway's /readyz", START_LIMIT, async || {
            if self.process.as_mut().is_none_or(|process| process.ended().is_some()) {
                return Some(false);
            }
            match client.get(&url).send().await {
                Ok(answer) if answer.status().is_success() => Some(true),
                Ok(answer) => {
                    last = format!("{}: {}", answer.status(), answer.text().await.unwrap_or_default());
                    None
                }
                Err(_) => None,
            }
        });
        match ready.await {
            Ok(true) => Ok(()),
            Ok(false) => bail!("the gateway ended while starting:\n{}", self.log()),
            Err(error) => bail!("{error} ({last}):\n{}", self.log()),
        }
    }

    fn configuration(&self, options: &GatewayOptions) -> String {
        let mut text = format!(
            "[gateway]\nname = \"{name}\"\ndata_dir = \"{data}\"\n{gateway}\n\n\
             [store]\n{store}\n\n\
             [postgres]\nlisten = \"127.0.0.1:{postgres}\"\n\
             tls = {{ certificate = \"file:gateway.crt\", key = \"file:gateway.key\" }}\n\n\
             [http]\nlisten = \"127.0.0.1:{http}\"\npublic_url = \"{url}\"\n\n\
             [policy]\npath = \"{policy}\"\n\n[limits]\n{limits}\n",
            name = options.name.as_deref().unwrap_or("test-gateway"),
            store = options.store.as_deref().unwrap_or("kind = \"embedded\""),
            data = self.data().display(),
            gateway = options.gateway,
            postgres = self.postgres_port,
            http = self.http_port,
            url = self.http_url(),
            policy = self.path().join("policy.cedar").display(),
            limits = options.limits,
        );
        for issuer in &options.issuers {
            text += &format!(
                "\n[[issuer]]\nurl = \"{}\"\naudiences = [\"{}\"]\n",
                issuer.url, issuer.audience
            );
        }
        for (number, target) in options.targets.iter().enumerate() {
            text += &target_table(number, target);
        }
        text + "\n" + &options.more + "\n"
    }
}

fn target_table(number: usize, target: &TargetOptions) -> String {
    let tls = match target.ca {
        Some(_) => format!("{{ mode = \"verify-full\", ca = \"file:target{number}.ca.pem\" }}"),
        None => "{ mode = \"disable\" }".to_owned(),
    };
    format!(
        "\n[[target]]\nname = \"{}\"\nkind = \"postgres\"\ntags = {:?}\nhost = \"{}\"\nport = {}\n\
         database = \"{}\"\nuser = \"{}\"\npassword = \"file:target{number}.password\"\ntls = {tls}\n",
        target.name, target.tags, target.host, target.port, target.database, target.user,
    )
}

/// The program under test: `countersign` of the profile that this code was built with.
pub fn countersign() -> Result<PathBuf> {
    program("countersign")
}

/// A program of the workspace, built beside this one.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let beside = own.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    let found = beside.into_iter().find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "no `{name}` program near {}: run `cargo build --workspace` first",
            own.display()
        )
    })
}

/// Plain HTTP on loopback needs no trusted roots.
pub(crate) fn no_roots() -> Result<rustls::ClientConfig> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth())
}
