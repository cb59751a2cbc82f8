//! A throwaway real PostgreSQL: TLS by an authority of its own, scram-sha-256, loopback only.

use crate::certificates::{Authority, LOCAL_NAMES};
use crate::connect::connect;
use crate::ports::free_port;
use crate::process::{Process, Program};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_postgres::Client;

/// The name that stands in the server's certificate.
pub const HOST: &str = "localhost";
const SUPERUSER: &str = "postgres";

/// How a server is started.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Any free port when none is given.
    pub port: Option<u16>,
    pub connections_max: u32,
    /// More lines for postgresql.conf.
    pub settings: Vec<String>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            port: None,
            connections_max: 200,
            settings: Vec::new(),
        }
    }
}

/// A running server. Its processes and its directory are gone when it is dropped, or when this process ends in
/// whatever way.
pub struct Postgres {
    process: Mutex<Option<Process>>,
    layout: Layout,
    port: u16,
    password: String,
    ca: String,
}

/// A database on a server, with a role that owns it.
#[derive(Clone, Debug)]
pub struct Database {
    pub name: String,
    pub user: String,
    pub password: String,
}

impl Postgres {
    /// Starts a server of one's own; takes about two seconds.
    pub async fn start(options: PostgresOptions) -> Result<Self> {
        let layout = Layout::make()?;
        let authority = Authority::new("Test database authority")?;
        let password = random_word();
        layout.initdb(&password)?;
        layout.write_certificates(&authority)?;
        let port = options.port.map_or_else(free_port, Ok)?;
        layout.write_settings(port, &options)?;
        layout.hand_over()?;
        let server = Self {
            process: Mutex::new(Some(layout.run()?)),
            layout,
            port,
            password,
            ca: authority.pem().to_owned(),
        };
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// The server that all tests of this binary share. Take a `database` of your own on it.
    pub async fn shared() -> Result<Arc<Self>> {
        static SHARED: tokio::sync::OnceCell<Arc<Postgres>> = tokio::sync::OnceCell::const_new();
        let start = async || Self::start(PostgresOptions::default()).await.map(Arc::new);
        SHARED.get_or_try_init(start).await.cloned()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The authority that signed the server's certificate, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.layout.log()).unwrap_or_default()
    }

    /// Stops the server at once (as a crash would); `restart` brings it back on the same port.
    pub fn stop(&self) {
        if let Some(process) = self
            .process
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .take()
        {
            process.stop_keeping_files();
        }
    }

    /// Starts a stopped server again.
    pub async fn restart(&self) -> Result<()> {
        *self.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(self.layout.run()?);
        self.wait_until_ready().await
    }

    /// Connects as the superuser, past any gateway.
    pub async fn admin(&self, database: &str) -> Result<Client> {
        let mut config = tokio_postgres::Config::new();
        config
            .host(HOST)
            .port(self.port)
            .user(SUPERUSER)
            .password(&self.password)
            .dbname(database);
        config
            .ssl_mode(tokio_postgres::config::SslMode::Require)
            .connect_timeout(Duration::from_secs(10));
        connect(&config, &self.ca).await
    }

    /// Makes a new database, owned by a new role, and runs `script` in it as that role.
    pub async fn database(&self, script: &str) -> Result<Database> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        self.named_database(&format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed)), script)
            .await
    }

    /// The same with a name, which is the role's too.
    pub async fn named_database(&self, name: &str, script: &str) -> Result<Database> {
        let database = Database {
            name: name.to_owned(),
            user: format!("{name}_app"),
            password: random_word(),
        };
        let admin = self.admin("postgres").await?;
        let Database { name, user, password } = &database;
        admin
            .batch_execute(&format!("create role {user} login password '{password}'"))
            .await?;
        admin
            .batch_execute(&format!("create database {name} owner {user}"))
            .await?;
        let inside = self.admin(name).await?;
        inside
            .batch_execute(&format!("grant all on schema public to {user}; set role {user}"))
            .await?;
        inside
            .batch_execute(script)
            .await
            .context("the database's script failed")?;
        Ok(database)
    }

    /// What runs in a database at this moment, other than the question itself: user, state and text.
    pub async fn activity(&self, database: &str) -> Result<Vec<String>> {
        let admin = self.admin("postgres").await?;
        let rows = admin
            .query(
                "select usename::text, state, query from pg_stat_activity
                 where datname = $1 and backend_type = 'client backend' and state <> 'idle'",
                &[&database],
            )
            .await?;
        let line = |row: &tokio_postgres::Row| {
            let text = |column| row.get::<usize, Option<String>>(column).unwrap_or_default();
            format!("{} {}: {}", text(0), text(1), text(2))
        };
        Ok(rows.iter().map(line).collect())
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let ready = crate::wait::eventually("PostgreSQL takes connections", Duration::from_secs(30), async || {
            let ended = match self
                .process
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .as_mut()
            {
                Some(process) => process.ended().is_some(),
                None => true,
            };
            if ended {
                return Some(false);
            }
            self.admin("postgres").await.is_ok().then_some(true)
        });
        match ready.await {
            Ok(true) => Ok(()),
            Ok(false) => bail!("PostgreSQL did not start:\n{}", self.log()),
            Err(error) => bail!("{error}:\n{}", self.log()),
        }
    }
}

/// Where a server's files are, and as whom its programs run (never as root: it refuses).
struct Layout {
    root: PathBuf,
    programs: PathBuf,
    as_other: bool,
}

impl Layout {
    fn make() -> Result<Self> {
        let root = tempfile::Builder::new()
            .prefix("countersign-postgres-")
            .tempdir()?
            .keep();
        let as_other = std::fs::metadata(&root)?.uid() == 0;
        let layout = Self {
            root,
            programs: newest_programs()?,
            as_other,
        };
        layout.hand_over()?;
        Ok(layout)
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The program and its first arguments that run `name` as a user that PostgreSQL accepts.
    fn program(&self, name: &str) -> (PathBuf, Vec<OsString>) {
        let program = self.programs.join(name);
        if !self.as_other {
            return (program, Vec::new());
        }
        let arguments = ["--reuid=postgres", "--regid=postgres", "--init-groups", "--"];
        let arguments = arguments
            .into_iter()
            .map(OsString::from)
            .chain([program.into_os_string()])
            .collect();
        (PathBuf::from("setpriv"), arguments)
    }

    fn initdb(&self, password: &str) -> Result<()> {
        let password_file = self.root.join("password");
        std::fs::write(&password_file, password)?;
        self.hand_over()?;
        let (program, arguments) = self.program("initdb");
        let output = Command::new(program)
            .args(arguments)
            .args([
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--auth=scram-sha-256",
            ])
            .args(["--username", SUPERUSER, "--pgdata"])
            .arg(self.data())
            .arg("--pwfile")
            .arg(&password_file)
            .current_dir(&self.root)
            .output()
            .context("cannot run initdb")?;
        std::fs::remove_file(&password_file)?;
        if !output.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn write_certificates(&self, authority: &Authority) -> Result<()> {
        let leaf = authority.leaf(&LOCAL_NAMES)?;
        std::fs::write(self.data().join("server.crt"), leaf.certificate)?;
        let key = self.data().join("server.key");
        std::fs::write(&key, leaf.key)?;
        Ok(std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?)
    }

    fn write_settings(&self, port: u16, options: &PostgresOptions) -> Result<()> {
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\n\
             max_connections = {}\nssl = on\npassword_encryption = 'scram-sha-256'\n\
             # Nothing here survives the day: speed is worth more than a power cut.\n\
             fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nshared_buffers = '64MB'\n\
             autovacuum = off\nlog_line_prefix = '%m [%p] %u@%d '\nlog_min_messages = warning\n\
             log_timezone = 'UTC'\nlogging_collector = off\n{}\n",
            options.connections_max,
            options.settings.join("\n")
        );
        std::fs::write(self.data().join("postgresql.auto.conf"), settings)?;
        let access = "hostssl all all 127.0.0.1/32 scram-sha-256\n";
        Ok(std::fs::write(self.data().join("pg_hba.conf"), access)?)
    }

    /// Gives all files to the user that the programs run as.
    fn hand_over(&self) -> Result<()> {
        if self.as_other {
            let status = Command::new("chown")
                .args(["-R", "postgres:postgres"])
                .arg(&self.root)
                .status()?;
            if !status.success() {
                bail!("there is no user 'postgres' to run PostgreSQL as: install the package postgresql");
            }
        }
        Ok(())
    }

    fn run(&self) -> Result<Process> {
        let (path, mut arguments) = self.program("postgres");
        arguments.extend([OsString::from("-D"), self.data().into_os_string()]);
        Process::start(&Program {
            path,
            arguments,
            directory: Some(self.root.clone()),
            log: self.log(),
            stop_signal: "QUIT",
            remove: Some(self.root.clone()),
            ..Program::default()
        })
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// The newest installed server's programs: Debian keeps them by version, others on the path.
fn newest_programs() -> Result<PathBuf> {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| Some((version(&entry.path())?, entry.path().join("bin"))))
        .filter(|(_, programs)| programs.join("initdb").exists())
        .max();
    if let Some((_, programs)) = newest {
        return Ok(programs);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .find(|directory| directory.join("initdb").exists() && directory.join("postgres").exists())
        .context("there is no PostgreSQL server on this machine: install the package postgresql")
}

fn random_word() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_speaks_tls_and_its_databases_have_their_own_roles() {
        let server = Postgres::start(PostgresOptions::default()).await.unwrap();
        let database = server
            .database("create table t (a int); insert into t values (7)")
            .await
            .unwrap();
        let mut config = tokio_postgres::Config::new();
        config
            .host(HOST)
            .port(server.port())
            .user(&database.user)
            .password(&database.password)
            .dbname(&database.name);
        let client = connect(&config, server.ca_pem()).await.unwrap();
        assert_eq!(
            client.query_one("select a from t", &[]).await.unwrap().get::<_, i32>(0),
            7
        );
        let tls = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        assert!(client.query_one(tls, &[]).await.unwrap().get::<_, bool>(0));
        assert_eq!(server.activity(&database.name).await.unwrap(), Vec::<String>::new());

        server.stop();
        assert!(server.admin("postgres").await.is_err());
        server.restart().await.unwrap();
        assert!(server.admin("postgres").await.is_ok());
    }
}
