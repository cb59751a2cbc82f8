//! What a process uses, read from Linux' `/proc`.

use anyhow::{Context, Result};

/// Ticks of `/proc/PID/stat` in a second: 100 on Linux, whatever the kernel's own (proc(5), time(7)).
const TICKS: f64 = 100.0;

/// A line of `/proc/PID/status` (`VmRSS`, `VmHWM`), in MB.
pub fn memory_mb(pid: u32, line: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let found = status
        .lines()
        .find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let kilobytes = found.and_then(|text| text.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    Ok(kilobytes.with_context(|| format!("no {line} in the status"))? / 1024)
}

/// The CPU time of all its threads so far, in and out of the kernel.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name may hold anything; what follows its parenthesis begins with the third field.
    let (_, rest) = stat.rsplit_once(')').context("no name in the stat")?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut next = || fields.next().and_then(|field| field.parse::<f64>().ok());
    let (user, system) = (next().context("no user time")?, next().context("no system time")?);
    Ok((user + system) / TICKS)
}
