//! How long a gateway that was killed with a gigabyte in its spool takes to be ready again, and until the last of it
//! is in the store.

use super::ask::Voter;
use super::print_table;
use super::usage::{cpu_seconds, memory_mb};
use crate::cloud::Cloud;
use crate::harness::GatewayOptions;
use crate::postgres::{Postgres, PostgresOptions};
use crate::wait::eventually;
use crate::weather::{Requests, Service, Trouble, Weather};
use crate::world::{TARGET, World, WorldOptions};
use anyhow::{Context, Result, ensure};
use countersign_infra::domain::id::SessionId;
use countersign_infra::recordings::RecordingStore;
use countersign_infra::recordings::s3::{S3Options, S3Recordings};
use futures_util::StreamExt;
use std::collections::BTreeSet;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_postgres::Client;

const MEMORY_MB_MAX: u64 = 256;
/// Many: while the store fails, each session writes only a few MB into the spool between two tries.
const SESSIONS: u64 = 64;
/// Rows that do not compress, 16 MB of them, read by each session.
const NOISE: &str = "create table noise (id int, data bytea);
    insert into noise select g, decode(string_agg(md5(random()::text || h), ''), 'hex')
    from generate_series(1, 16384) g, generate_series(1, 64) h group by g;";
const READ_MB: u64 = 16;
const SPOOL_MB: u64 = SESSIONS * READ_MB;
/// More than the gigabyte; the store may be down for ten minutes.
const LIMITS: &str = "spool_bytes_max = 2147483648\nrecord_wait_seconds_max = 600";
const LIMIT: Duration = Duration::from_secs(600);
/// How often the recordings are looked for: each look is a request to the store that is being filled.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub async fn measure() -> Result<bool> {
    let cloud = Cloud::start().await?;
    let weather = Weather::over(&cloud).await?;
    let bucket = cloud.bucket(false).await?;
    let (table, key) = (cloud.table().await?, cloud.kms_key().await?);
    let server = Arc::new(Postgres::start(PostgresOptions::default()).await?);
    let options = WorldOptions {
        gateway: GatewayOptions {
            store: Some(format!(
                "kind = \"aws\"\ntable = \"{table}\"\nbucket = \"{bucket}\"\noperations_key = \"kms:{key}\""
            )),
            environment: weather.environment(),
            limits: LIMITS.to_owned(),
            ..GatewayOptions::default()
        },
        script: format!("{}\n{NOISE}", WorldOptions::default().script),
        ..WorldOptions::default()
    };
    let mut world = World::start_on(server, options).await?;
    let store = S3Recordings::new(
        cloud.aws().await.s3,
        S3Options {
            bucket,
            ..S3Options::default()
        },
    );
    weather.order(Requests::of(Service::S3).named("PutObject"), Trouble::Fail);
    let begun = Instant::now();
    let clients = tokio::time::timeout(LIMIT, fill(&world))
        .await
        .context("the spool does not fill")??;
    let filled = begun.elapsed();
    world.gateway.kill9()?;
    drop(clients);
    let spooled_mb = size_of(&world.gateway.data().join("spool"))? >> 20;
    ensure!(spooled_mb >= SPOOL_MB, "only {spooled_mb} MB are in the spool");
    weather.clear().await?;
    let recovered = recover(&mut world, &store).await?;
    let heads = [
        "in the spool",
        "ready after",
        "last manifest in S3 after",
        "memory, at most",
        "bound",
        "CPU per MB",
    ];
    print_table(heads, &[recovered.row(spooled_mb)]);
    println!(
        "\n{SESSIONS} sessions had filled it in {:.0} s while S3 failed; {} MB/s back into LocalStack.",
        filled.as_secs_f64(),
        spooled_mb / recovered.complete.as_secs().max(1)
    );
    Ok(recovered.peak_mb <= MEMORY_MB_MAX)
}

struct Recovery {
    ready: Duration,
    complete: Duration,
    peak_mb: u64,
    cpu_seconds: f64,
}

impl Recovery {
    fn row(&self, spooled_mb: u64) -> [String; 6] {
        let spooled = u32::try_from(spooled_mb).map_or(f64::INFINITY, f64::from);
        [
            format!("{spooled_mb} MB"),
            format!("{:.1} s", self.ready.as_secs_f64()),
            format!("{:.1} s", self.complete.as_secs_f64()),
            format!("{} MB", self.peak_mb),
            format!("{MEMORY_MB_MAX} MB"),
            format!("{:.1} ms", self.cpu_seconds * 1e3 / spooled),
        ]
    }
}

/// Starts the gateway again, and waits until it is ready and until every recording is complete in the store.
async fn recover(world: &mut World, store: &S3Recordings) -> Result<Recovery> {
    let begun = Instant::now();
    world.gateway.launch()?;
    let pid = world.gateway.pid().context("the gateway is not running")?;
    let gateway = &world.gateway;
    let voter = Voter::new()?;
    let ready = async {
        let is_ready = async || voter.ready(gateway).await.unwrap_or(false).then_some(());
        eventually("the gateway to be ready", LIMIT, is_ready).await?;
        Ok(begun.elapsed())
    };
    let complete = async {
        let mut complete = BTreeSet::new();
        while !are_complete(store, &mut complete).await? {
            ensure!(begun.elapsed() < LIMIT, "the recordings do not come to their store");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok::<_, anyhow::Error>(begun.elapsed())
    };
    let (ready, complete) = tokio::try_join!(ready, complete)?;
    Ok(Recovery {
        ready,
        complete,
        peak_mb: memory_mb(pid, "VmHWM")?,
        cpu_seconds: cpu_seconds(pid)?,
    })
}

/// Whether there are as many manifests as sessions. Asks only for those that were not there before.
async fn are_complete(store: &S3Recordings, complete: &mut BTreeSet<SessionId>) -> Result<bool> {
    for session in sessions(store).await? {
        if !complete.contains(&session) && store.read_manifest(session).await?.is_some() {
            complete.insert(session);
        }
    }
    Ok(complete.len() as u64 == SESSIONS)
}

/// Of today and of yesterday: midnight may pass meanwhile.
async fn sessions(store: &S3Recordings) -> Result<Vec<SessionId>> {
    let today = chrono::Utc::now().date_naive();
    let mut found = store.sessions(today, None).await?;
    if let Some(yesterday) = today.pred_opt() {
        found.extend(store.sessions(yesterday, None).await?);
    }
    Ok(found)
}

/// Sessions that read, all at once; they are still open when this returns.
async fn fill(world: &World) -> Result<Vec<Client>> {
    let mut connected = Vec::new();
    // All before the first reads: a machine that is busy with the reading would let later ones time out.
    for _ in 0..SESSIONS {
        connected.push(world.gateway.connect("alice", TARGET).await?);
    }
    let mut filling = JoinSet::new();
    for client in connected {
        filling.spawn(async move {
            read(&client).await?;
            Ok::<_, anyhow::Error>(client)
        });
    }
    let mut clients = Vec::new();
    while let Some(client) = filling.join_next().await {
        clients.push(client??);
    }
    Ok(clients)
}

async fn read(client: &Client) -> Result<()> {
    let rows = client.query_raw::<_, i32, _>("select data from noise", []).await?;
    let (mut rows, mut bytes) = (pin!(rows), 0);
    while let Some(row) = rows.next().await {
        bytes += row?.try_get::<_, &[u8]>(0)?.len() as u64;
    }
    ensure!(
        bytes == READ_MB << 20,
        "{bytes} bytes came through instead of {READ_MB} MB"
    );
    Ok(())
}

/// All files under a directory.
fn size_of(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() {
            size_of(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(sum)
}
