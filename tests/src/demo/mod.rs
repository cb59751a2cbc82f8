//! The demo: a world to play in, and a story that plays itself and checks each step.

mod channel;
mod cloud;
mod evidence;
mod screen;
mod stage;
mod story;

pub use screen::Screen;
pub use stage::Stage;
pub use story::play;

use crate::cloud::Cloud;
use crate::harness::{Gateway, GatewayOptions, countersign};
use crate::postgres::{Postgres, PostgresOptions};
use crate::world::{TARGET, WorldOptions};
use anyhow::{Context, Result};
use stage::{FIRST, SECOND, Stores};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const POSTGRES_PORT: u16 = 6543;
const HTTP_PORT: u16 = 6580;
const ISSUER_PORT: u16 = 6590;

/// Which stores the demo plays on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Store {
    /// One gateway with files of its own.
    Embedded,
    /// Two gateways with DynamoDB and S3 between them, on a LocalStack that is started for it.
    Aws,
}

/// Starts the demo's world, its files under `target/demo`.
pub async fn start(store: Store, screen: Screen) -> Result<Stage> {
    let directory = fresh_directory()?;
    let cloud = match store {
        Store::Embedded => None,
        Store::Aws => {
            screen.progress("starting LocalStack");
            let cloud = Cloud::shared().await?;
            screen.progress("making the table, the bucket and the key with Terraform");
            let stores = cloud.apply_terraform().await?;
            Some((cloud, stores))
        }
    };
    screen.progress("starting PostgreSQL with a small shop database");
    let server = Arc::new(Postgres::start(PostgresOptions::default()).await?);
    let options = WorldOptions {
        gateway: GatewayOptions {
            postgres_port: Some(POSTGRES_PORT),
            http_port: Some(HTTP_PORT),
            directory: Some(directory.clone()),
            ..GatewayOptions::default()
        },
        issuer_port: Some(ISSUER_PORT),
        database: Some("shop"),
        ..WorldOptions::default()
    };
    let stage = match cloud {
        None => {
            screen.progress("starting the issuer and the gateway");
            Stage::embedded(server, options, true).await?
        }
        Some((cloud, stores)) => {
            screen.progress("starting the issuer and two gateways");
            Stage::in_cloud(server, &cloud, stores, &directory, options).await?
        }
    };
    let world = &stage.world;
    write_environment(&directory, "alice", &world.gateway, [])?;
    // The gateways' own variables reach the stores: bob may read them past the gateways.
    write_environment(&directory, "bob", world.desk(), world.environment())?;
    Ok(stage)
}

/// What to type, in which terminal.
pub fn instructions(stage: &Stage) -> String {
    let directory = stage.directory();
    let directory = std::env::current_dir()
        .ok()
        .and_then(|here| directory.strip_prefix(here).ok().map(Path::to_owned))
        .unwrap_or_else(|| directory.to_owned());
    let directory = directory.display();
    let description = stage
        .description()
        .map_or_else(String::new, |text| format!("\n{text}\n"));
    let world = &stage.world;
    format!(
        "
The demo runs. PostgreSQL clients connect to the gateway on port {port}; the API is at {url}.
{description}
In a second terminal you are alice, an engineer, with stock psql:

    . {directory}/alice.env && psql

        select * from orders where id = 7;
        delete from orders where id = 7;        -- waits, and says for whom
        delete from orders;                     -- refused: no WHERE
        update stock set quantity = 11 where article = 'lamp';   -- expires after 10 seconds

{chat}
In a third terminal you are bob, a DBA:

    . {directory}/bob.env
    countersign approvals list
    countersign approvals approve NUMBER
    countersign approvals deny NUMBER --reason 'not before Monday'
    countersign audit
    {sessions}
    countersign replay SESSION
    countersign verify SESSION
{more}
The policy is {policy}: change it while a session is open. Ctrl-C here ends everything.
",
        port = world.gateway.postgres_port(),
        url = world.desk().http_url(),
        sessions = match stage.stores {
            Stores::Embedded => "countersign sessions",
            Stores::Cloud { .. } => "countersign recordings list",
        },
        chat = stage.chat().map_or_else(String::new, |chat| format!(
            "Or decide without an account in the demo's own Slack, as bob (as alice it says why not):\n\n    {}\n",
            chat.url()
        )),
        policy = match stage.stores {
            Stores::Embedded => format!("{directory}/policy.cedar"),
            Stores::Cloud { .. } => format!("policy.cedar in {directory}/{FIRST} and {directory}/{SECOND}"),
        },
        more = match stage.stores {
            Stores::Embedded => String::new(),
            Stores::Cloud { .. } => past_the_gateways(&world.gateway, &directory.to_string()),
        },
    )
}

/// What only two gateways with shared stores can show.
fn past_the_gateways(first: &Gateway, directory: &str) -> String {
    format!(
        "
Bob's shell also reaches the table and the bucket, past the gateways:

    countersign replay SESSION --config {directory}/{SECOND}/countersign.toml
    countersign verify SESSION --config {directory}/{SECOND}/countersign.toml

Kill {FIRST} while a statement of alice's waits: after 30 seconds it is abandoned, its recording is completed by
{SECOND} from the spool, and nothing has run. She connects again with PGPORT={port} (and PGSSLROOTCERT={ca}).

    kill -9 {pid}
",
        port = first.postgres_port().saturating_add(1),
        ca = format_args!("{directory}/{SECOND}/ca.pem"),
        pid = first.pid().unwrap_or_default(),
    )
}

/// A shell that has read this file is that person's, towards that gateway.
fn write_environment(
    directory: &Path,
    name: &str,
    gateway: &Gateway,
    more: impl IntoIterator<Item = (String, OsString)>,
) -> Result<()> {
    let program = countersign()?;
    let programs = program.parent().context("the program is nowhere")?;
    let mut text = format!("# Read this with `. {name}.env`: the shell then acts as {name}.\n");
    let more = more
        .into_iter()
        .map(|(variable, value)| (variable, value.to_string_lossy().into_owned()));
    for (variable, value) in gateway.environment(name, TARGET).into_iter().chain(more) {
        text += &format!("export {variable}='{}'\n", value.replace('\'', r"'\''"));
    }
    text += &format!("export PATH='{}':\"$PATH\"\n", programs.display());
    text += &format!("export PS1='{name}$ '\n");
    let path = directory.join(format!("{name}.env"));
    std::fs::write(&path, text)?;
    Ok(std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?)
}

/// `demo` beside the profile's directory, emptied of an earlier run.
fn fresh_directory() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own
        .parent()
        .and_then(Path::parent)
        .context("the demo's program is nowhere")?;
    let directory = target.join("demo");
    if directory.exists() {
        std::fs::remove_dir_all(&directory).with_context(|| format!("cannot empty {}", directory.display()))?;
    }
    std::fs::create_dir_all(&directory)?;
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700))?;
    Ok(directory)
}
