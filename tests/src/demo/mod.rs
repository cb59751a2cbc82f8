//! The demo: a world to play in, and a story that plays itself and checks each step.

mod evidence;
mod screen;
mod story;

pub use screen::Screen;
pub use story::play;

use crate::harness::{GatewayOptions, countersign};
use crate::postgres::{Postgres, PostgresOptions};
use crate::world::{TARGET, World, WorldOptions};
use anyhow::{Context, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const POSTGRES_PORT: u16 = 6543;
const HTTP_PORT: u16 = 6580;
const ISSUER_PORT: u16 = 6590;
/// Those who have a shell prepared.
const PEOPLE: [&str; 2] = ["alice", "bob"];

/// Starts the demo's world, its files under `target/demo`.
pub async fn start(screen: Screen) -> Result<World> {
    let directory = fresh_directory()?;
    screen.progress("starting PostgreSQL with a small shop database");
    let server = Arc::new(Postgres::start(PostgresOptions::default()).await?);
    screen.progress("starting the issuer and the gateway");
    let gateway = GatewayOptions {
        postgres_port: Some(POSTGRES_PORT),
        http_port: Some(HTTP_PORT),
        directory: Some(directory.clone()),
        ..GatewayOptions::default()
    };
    let options = WorldOptions {
        gateway,
        issuer_port: Some(ISSUER_PORT),
        database: Some("shop"),
        ..WorldOptions::default()
    };
    let world = World::start_on(server, options).await?;
    for name in PEOPLE {
        write_environment(&world, &directory, name)?;
    }
    Ok(world)
}

/// What to type, in which terminal.
pub fn instructions(world: &World) -> String {
    let directory = world.gateway.path();
    let directory = std::env::current_dir()
        .ok()
        .and_then(|here| directory.strip_prefix(here).ok().map(Path::to_owned))
        .unwrap_or_else(|| directory.to_owned());
    let directory = directory.display();
    format!(
        "
The demo runs. PostgreSQL clients connect to the gateway on port {port}; the API is at {url}.

In a second terminal you are alice, an engineer, with stock psql:

    . {directory}/alice.env && psql

        select * from orders where id = 7;
        delete from orders where id = 7;        -- waits, and says for whom
        delete from orders;                     -- refused: no WHERE
        update stock set quantity = 11 where article = 'lamp';   -- expires after 10 seconds

In a third terminal you are bob, a DBA:

    . {directory}/bob.env
    countersign approvals list
    countersign approvals approve NUMBER
    countersign approvals deny NUMBER --reason 'not before Monday'
    countersign audit
    countersign sessions
    countersign replay SESSION
    countersign verify SESSION

The policy is {directory}/policy.cedar: change it while a session is open. Ctrl-C here ends everything.
",
        port = world.gateway.postgres_port(),
        url = world.gateway.http_url(),
    )
}

/// A shell that has read this file is that person's.
fn write_environment(world: &World, directory: &Path, name: &str) -> Result<()> {
    let program = countersign()?;
    let programs = program.parent().context("the program is nowhere")?;
    let mut text = format!("# Read this with `. {name}.env`: the shell then acts as {name}.\n");
    for (variable, value) in world.gateway.environment(name, TARGET) {
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
