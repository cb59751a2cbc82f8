//! How fast recordings go to their store, and what CPU they take: a process that does nothing but record, with the
//! gateway's own spool and recorder.

use super::usage::{cpu_seconds, memory_mb};
use super::{RECORDING_CHILD, print_table};
use crate::cloud::Cloud;
use anyhow::{Context, Result, bail, ensure};
use aws_sdk_s3::primitives::ByteStream;
use countersign_gateway::record::{Direction, Spool};
use countersign_infra::aws::Aws;
use countersign_infra::domain::example;
use countersign_infra::domain::id::SessionId;
use countersign_infra::domain::session::SessionHeader;
use countersign_infra::recordings::RecordingStore;
use countersign_infra::recordings::disk::DiskRecordings;
use countersign_infra::recordings::key::SigningKey;
use countersign_infra::recordings::s3::{S3Options, S3Recordings};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// What is recorded of each kind and into each store.
const RECORDED_BYTES: usize = 512 << 20;
/// Rows that repeat after so many bytes: farther apart than anything that is compressed together.
const ROWS_BYTES: usize = 8 << 20;
const ROW_BYTES: usize = 1024;
const PIECE_BYTES: usize = 32 << 10;
const SPOOL_BYTES: u64 = 1 << 30;
const WAIT_MAX: Duration = Duration::from_secs(120);
const CHILD_LIMIT: Duration = Duration::from_secs(600);
const MANIFEST_EVERY: Duration = Duration::from_millis(20);
/// What LocalStack takes by itself: objects as large as chunks of what does not compress, one after the other.
const PLAIN_PUTS: usize = 64;
const PLAIN_PUT_BYTES: usize = 1 << 20;

/// What the child prints.
#[derive(Serialize, Deserialize)]
struct Took {
    seconds: f64,
    cpu_seconds: f64,
    peak_mb: u64,
}

/// Records what does not compress and what does, to disk and to S3.
pub async fn measure() -> Result<bool> {
    let cloud = Cloud::start().await?;
    let plain = plain_puts(&cloud).await?;
    let mut rows = Vec::new();
    for kind in ["random", "text"] {
        let disk = tempfile::Builder::new().prefix("countersign-recordings-").tempdir()?;
        let to_disk = run_child("disk", kind, &disk.path().display().to_string(), &cloud).await?;
        drop(disk);
        let bucket = cloud.bucket(false).await?;
        let to_s3 = run_child("s3", kind, &bucket, &cloud).await?;
        rows.push(row(kind, "disk", &to_disk, String::new()));
        let ratio = format!("{:.2}", rate(&to_s3) / rate(&to_disk));
        rows.push(row(kind, "S3", &to_s3, ratio));
    }
    print_table(
        [
            "512 MB of rows, one session",
            "store",
            "throughput",
            "CPU per MB",
            "cores busy",
            "memory, at most",
            "S3 : disk",
        ],
        &rows,
    );
    println!(
        "\nJust before, LocalStack took plain 1 MB objects, one after the other, at {plain:.0} MB/s: a session sends its \
         chunks one after the other too, so those that do not compress go to S3 here no faster than that."
    );
    Ok(true)
}

fn rate(took: &Took) -> f64 {
    megabytes(RECORDED_BYTES) / took.seconds
}

fn megabytes(bytes: usize) -> f64 {
    u32::try_from(bytes >> 20).map_or(0.0, f64::from)
}

fn row(kind: &str, store: &str, took: &Took, ratio: String) -> [String; 7] {
    [
        kind.to_owned(),
        store.to_owned(),
        format!("{:.0} MB/s", rate(took)),
        format!("{:.1} ms", took.cpu_seconds * 1e3 / megabytes(RECORDED_BYTES)),
        format!("{:.1}", took.cpu_seconds / took.seconds),
        format!("{} MB", took.peak_mb),
        ratio,
    ]
}

async fn plain_puts(cloud: &Cloud) -> Result<f64> {
    let (bucket, s3) = (cloud.bucket(false).await?, cloud.aws().await.s3);
    let bytes = bytes::Bytes::from(random(PLAIN_PUT_BYTES)?);
    let begun = Instant::now();
    for number in 0..PLAIN_PUTS {
        let put = s3.put_object().bucket(&bucket).key(number.to_string());
        put.body(ByteStream::from(bytes.clone())).send().await?;
    }
    Ok(megabytes(PLAIN_PUTS * PLAIN_PUT_BYTES) / begun.elapsed().as_secs_f64())
}

async fn run_child(store: &str, kind: &str, place: &str, cloud: &Cloud) -> Result<Took> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([RECORDING_CHILD, store, kind, place])
        .envs(Cloud::environment(cloud.endpoint()))
        .kill_on_drop(true);
    let output = tokio::time::timeout(CHILD_LIMIT, command.output()).await;
    let output = output.context("the recording takes too long")??;
    if !output.status.success() {
        bail!("recording failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("what the recording printed")
}

/// Records, and prints what that took.
pub async fn child(arguments: &[String]) -> Result<()> {
    let [store, kind, place] = arguments else {
        bail!("the recording child takes a store, a kind of rows and a place");
    };
    let store: Arc<dyn RecordingStore> = match store.as_str() {
        "disk" => Arc::new(DiskRecordings::under(Path::new(place))),
        "s3" => {
            let options = S3Options {
                bucket: place.clone(),
                ..S3Options::default()
            };
            Arc::new(S3Recordings::new(Aws::from_environment().await.s3, options))
        }
        other => bail!("there is no store {other:?}"),
    };
    let rows = if kind == "text" { text() } else { random(ROWS_BYTES)? };
    let directory = tempfile::Builder::new().prefix("countersign-spool-").tempdir()?;
    let key = Arc::new(SigningKey::generate()?);
    let spool = Spool::open(directory.path(), SPOOL_BYTES, Arc::clone(&store), key, WAIT_MAX)?;
    let header = header();
    let pid = std::process::id();
    let (begun, cpu) = (Instant::now(), cpu_seconds(pid)?);
    let mut recorder = spool.open_session(&header)?;
    let mut recorded = 0;
    for piece in rows.chunks(PIECE_BYTES).cycle() {
        recorder.record(Direction::GatewayToClient, &[piece]).await?;
        recorded += piece.len();
        if recorded >= RECORDED_BYTES {
            break;
        }
    }
    recorder.finish("all is recorded").await?;
    while store.read_manifest(header.id).await?.is_none() {
        ensure!(
            begun.elapsed() < CHILD_LIMIT,
            "the recording does not come to its store"
        );
        tokio::time::sleep(MANIFEST_EVERY).await;
    }
    let took = Took {
        seconds: begun.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds(pid)? - cpu,
        peak_mb: memory_mb(pid, "VmHWM")?,
    };
    spool.stop().await;
    println!("{}", serde_json::to_string(&took)?);
    Ok(())
}

fn random(length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    aws_lc_rs::rand::fill(&mut bytes).context("the random source")?;
    Ok(bytes)
}

/// Rows such as a list of orders has: numbers, names and words, no two alike.
fn text() -> Vec<u8> {
    const WORDS: [&str; 8] = ["paid", "Lisbon", "open", "Kyoto", "express", "returned", "Oslo", "gift"];
    let mut rows = String::with_capacity(ROWS_BYTES + ROW_BYTES);
    let mut state = 7_u64;
    let mut number = 0;
    while rows.len() < ROWS_BYTES {
        number += 1;
        let end = rows.len() + ROW_BYTES;
        // Writing into a String cannot fail.
        let _ = write!(rows, "{number}\t");
        while rows.len() < end {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let word = WORDS.get((state >> 61) as usize).copied().unwrap_or_default();
            let _ = write!(rows, "{word}\t{}\t", (state >> 40) % 100_000);
        }
    }
    rows.truncate(ROWS_BYTES);
    rows.into_bytes()
}

fn header() -> SessionHeader {
    example::header(SessionId(uuid::Uuid::now_v7()), example::alice())
}
