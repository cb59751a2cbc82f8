//! `make figures`: what the README says in numbers, measured; those that have a bound are held to it.
#![allow(clippy::print_stdout, reason = "it reports to the one who started it")]

mod ask;
mod click;
mod decision;
mod memory;
mod price;
mod recording;
mod recovery;
mod requests;
mod usage;

use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;

/// The figures in the order in which they are measured, each with what it says.
const FIGURES: [(&str, &str); 6] = [
    (
        "memory",
        "memory with 1,000 held statements, and while 2 GB stream through",
    ),
    ("decision", "from a decision to its statement at the server"),
    (
        "click",
        "from a click in Slack to its statement at the server, and from a held statement to its card",
    ),
    ("requests", "requests to the cloud, and their price"),
    ("recording", "throughput and CPU of recording"),
    ("recovery", "a start after kill -9 with a gigabyte in the spool"),
];

/// What the figures' program starts itself with, to have a process that does nothing but record.
const RECORDING_CHILD: &str = "recording-child";

/// Measures the named figures, or all, and prints them. False when one is above its bound or could not be measured.
///
/// # Errors
///
/// When there is no figure of that name.
pub async fn run(arguments: &[String]) -> Result<bool> {
    if let [child, arguments @ ..] = arguments
        && child == RECORDING_CHILD
    {
        recording::child(arguments).await?;
        return Ok(true);
    }
    let wanted: BTreeSet<&str> = arguments.iter().map(String::as_str).collect();
    let known = FIGURES.map(|(name, _)| name);
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
        bail!("there is no figure {unknown:?}: {} are measured", known.join(", "));
    }
    println!("{}", circumstances()?);
    let mut good = true;
    for (name, what) in FIGURES {
        if !wanted.is_empty() && !wanted.contains(name) {
            continue;
        }
        println!("\n## {name}: {what}\n");
        // One that cannot be measured must not hide the others. Boxed: each is a large future.
        good &= match Box::pin(measure(name)).await {
            Ok(within) => {
                let verdict = if within { "Within the bounds." } else { "ABOVE A BOUND." };
                println!("\n{verdict}");
                within
            }
            Err(error) => {
                println!("Not measured: {error:#}");
                false
            }
        };
    }
    Ok(good)
}

async fn measure(name: &str) -> Result<bool> {
    match name {
        "memory" => memory::measure().await,
        "decision" => decision::measure().await,
        "click" => click::measure().await,
        "requests" => requests::measure().await,
        "recording" => recording::measure().await,
        "recovery" => recovery::measure().await,
        other => bail!("there is no figure {other:?}"),
    }
}

/// Numbers say nothing without what they were measured on.
fn circumstances() -> Result<String> {
    let build = if cfg!(debug_assertions) {
        "development build"
    } else {
        "release build"
    };
    let cores = std::thread::available_parallelism()?;
    let load = std::fs::read_to_string("/proc/loadavg").context("the load of this machine")?;
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    Ok(format!(
        "{build}, {cores} cores, load averages at the start {load}; store and S3 are LocalStack on the same machine"
    ))
}

/// Prints a table: its heads, then its rows.
fn print_table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) {
    println!("\n| {} |\n|{}", heads.join(" | "), "---|".repeat(N));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}
