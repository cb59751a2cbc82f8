//! Free ports on the loopback interface.

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range from which systems take ports for outgoing connections, so that none of those is in the way.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// Gives a port that nobody listens on. Two calls of one process never give the same one soon again, and
/// processes that run side by side begin at different places.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    (0..COUNT)
        .map(|_| FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| is_free(*port))
        .context("no free port between 20000 and 32000")
}

/// Gives `wanted` when it is free, else any free port.
pub fn preferred_port(wanted: u16) -> Result<u16> {
    if is_free(wanted) { Ok(wanted) } else { free_port() }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
