//! `fuzz SECONDS [SEED]`: feeds mutated bytes to everything that reads what strangers send. Ends by itself; a panic
//! names the seed that repeats it.
#![allow(clippy::print_stdout, reason = "it reports to the one who started it")]

use anyhow::{Context, Result};
use countersign_tests::mutate::{Chance, Reader};
use std::time::{Duration, Instant, SystemTime};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().context("usage: fuzz SECONDS [SEED]")?.parse()?;
    let first = match arguments.next() {
        Some(seed) => seed.parse()?,
        None => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() << 20,
    };
    // The parser's deepest trees need a large stack, as the gateway's own parser threads have.
    let run = std::thread::Builder::new()
        .stack_size(512 << 20)
        .spawn(move || run(first, seconds))?;
    match run.join() {
        Ok(result) => result,
        Err(_) => std::process::exit(1),
    }
}

fn run(first: u64, seconds: u64) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let corpora = Reader::ALL.map(|reader| reader.seeds().map(|seeds| (reader, seeds)));
    let corpora = corpora.into_iter().collect::<Result<Vec<_>>>()?;
    let mut seed = first;
    while Instant::now() < until {
        for (reader, seeds) in &corpora {
            let bytes = Chance::new(seed).mutate(seeds);
            let read = std::panic::catch_unwind(|| reader.read(&bytes));
            anyhow::ensure!(read.is_ok(), "{reader:?} panicked: repeat it with `fuzz 1 {seed}`");
        }
        seed += 1;
    }
    println!(
        "{} inputs for each of {} readers, no panic",
        seed - first,
        corpora.len()
    );
    Ok(())
}
