//! The gateway's memory with a thousand held statements, and while two gigabytes stream through.

use super::print_table;
use super::usage::memory_mb;
use crate::connect::{Stream, connect_raw};
use crate::postgres::{Postgres, PostgresOptions};
use crate::wait::eventually;
use crate::world::{TARGET, World, WorldOptions};
use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::{AsyncMessage, Client, Connection, Socket};

const HELD: usize = 1000;
const HELD_MB_MAX: u64 = 200;
const STREAM_ROWS: u64 = 2_048_000;
const STREAM_ROW_BYTES: u64 = 1024;
const STREAM_MB_MAX: u64 = 64;
const HOLD_LIMIT: Duration = Duration::from_secs(120);
/// So many clients connect at the same time.
const CONNECTING: usize = 16;

/// One row of the report.
struct Figure {
    what: &'static str,
    idle_mb: u64,
    peak_mb: u64,
    bound_mb: u64,
    seconds: u64,
}

/// Measures both.
pub async fn measure() -> Result<bool> {
    let options = PostgresOptions {
        connections_max: 1100,
        ..PostgresOptions::default()
    };
    let server = Arc::new(Postgres::start(options).await?);
    let figures = [held(Arc::clone(&server)).await?, stream(server).await?];
    let good = figures.iter().all(|figure| figure.above() <= figure.bound_mb);
    let heads = ["figure", "idle", "peak", "above idle", "bound", "took"];
    print_table(heads, &figures.map(|figure| figure.row()));
    Ok(good)
}

impl Figure {
    fn above(&self) -> u64 {
        self.peak_mb.saturating_sub(self.idle_mb)
    }

    fn row(&self) -> [String; 6] {
        [
            self.what.to_owned(),
            format!("{} MB", self.idle_mb),
            format!("{} MB", self.peak_mb),
            format!("{} MB", self.above()),
            format!("{} MB", self.bound_mb),
            format!("{} s", self.seconds),
        ]
    }
}

/// A thousand clients, each with a statement that waits for bob.
async fn held(server: Arc<Postgres>) -> Result<Figure> {
    let world = World::start_on(server, WorldOptions::default()).await?;
    let idle_mb = idle(&world).await?;
    let begun = Instant::now();
    let mut waiting = Vec::with_capacity(HELD);
    let noticed = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(tokio::sync::Semaphore::new(CONNECTING));
    let mut connecting = tokio::task::JoinSet::new();
    for _ in 0..HELD {
        let noticed = Arc::clone(&noticed);
        let (gate, config, ca) = (
            Arc::clone(&gate),
            world.gateway.client_config("alice", TARGET),
            world.gateway.ca_pem().to_owned(),
        );
        connecting.spawn(async move {
            let _turn = gate.acquire_owned().await?;
            let (client, connection) = connect_raw(&config, &ca).await?;
            count_notices(connection, noticed);
            Ok::<_, anyhow::Error>(client)
        });
    }
    while let Some(client) = connecting.join_next().await {
        waiting.push(ask(client??, waiting.len()));
    }
    eventually("all statements to be held", HOLD_LIMIT, async || {
        let ended = waiting.iter().any(tokio::task::JoinHandle::is_finished);
        (ended || noticed.load(Ordering::Relaxed) >= HELD).then_some(())
    })
    .await?;
    let peak_mb = memory(&world, "VmHWM")?;
    let alive = waiting.iter().filter(|task| !task.is_finished()).count();
    ensure!(alive == HELD, "only {alive} of {HELD} statements wait");
    ensure!(world.activity().await?.is_empty(), "the server should be idle");
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    let what = "1,000 held statements";
    Ok(Figure {
        what,
        idle_mb,
        peak_mb,
        bound_mb: HELD_MB_MAX,
        seconds: begun.elapsed().as_secs(),
    })
}

/// Every notice says that one statement is held.
fn count_notices(mut connection: Connection<Socket, Stream<Socket>>, noticed: Arc<AtomicUsize>) {
    tokio::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if matches!(message, AsyncMessage::Notice(_)) {
                noticed.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
}

fn ask(client: Client, number: usize) -> tokio::task::JoinHandle<Result<(), tokio_postgres::Error>> {
    tokio::spawn(async move {
        let text = format!(
            "update orders set total_cents = {number} where id = {}",
            number % 60 + 1
        );
        client.batch_execute(&text).await
    })
}

/// One client reads two gigabytes.
async fn stream(server: Arc<Postgres>) -> Result<Figure> {
    let world = World::start_on(server, WorldOptions::default()).await?;
    let idle_mb = idle(&world).await?;
    let begun = Instant::now();
    let alice = world.gateway.connect("alice", TARGET).await?;
    let text = format!(
        "select repeat(md5(n::text), {}) from generate_series(1, {STREAM_ROWS}) n",
        STREAM_ROW_BYTES / 32
    );
    let mut rows = pin!(alice.query_raw::<_, i32, _>(&text, []).await?);
    let mut bytes = 0;
    while let Some(row) = rows.next().await {
        bytes += row?.try_get::<_, &str>(0)?.len() as u64;
    }
    if bytes != STREAM_ROWS * STREAM_ROW_BYTES {
        bail!(
            "{bytes} bytes came through instead of {}",
            STREAM_ROWS * STREAM_ROW_BYTES
        );
    }
    let peak_mb = memory(&world, "VmHWM")?;
    let what = "2 GB of result streaming through";
    Ok(Figure {
        what,
        idle_mb,
        peak_mb,
        bound_mb: STREAM_MB_MAX,
        seconds: begun.elapsed().as_secs(),
    })
}

/// The memory of a gateway that has served one small session.
async fn idle(world: &World) -> Result<u64> {
    let alice = world.gateway.connect("alice", TARGET).await?;
    alice.simple_query("select 1").await?;
    drop(alice);
    memory(world, "VmRSS")
}

fn memory(world: &World, line: &str) -> Result<u64> {
    memory_mb(world.gateway.pid().context("the gateway is not running")?, line)
}
