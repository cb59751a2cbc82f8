//! Child processes that never outlive the one that started them.

use crate::wait::eventually_blocking;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Starts the program, says its process id, and ends it when our end of the pipe closes: also after a panic, a
/// kill -9, or at the end of a process whose statics are never dropped.
const GUARD: &str = r#"
signal=$1 remove=$2; shift 2
exec 3<&0
"$@" </dev/null >&2 3<&- & child=$!
echo "$child"
[ -z "$remove" ] || rm -f "$remove/.keep"
exec >/dev/null
( read -r word <&3; [ "$word" != keep ] || : >"$remove/.keep"
  kill -s "$signal" "$child" 2>/dev/null; sleep 10; kill -s KILL "$child" 2>/dev/null ) & watcher=$!
wait "$child"; status=$?
kill "$watcher" 2>/dev/null
[ -z "$remove" ] || [ -e "$remove/.keep" ] || rm -rf -- "$remove"
exit "$status"
"#;

/// What to run and how.
#[derive(Clone, Debug, Default)]
pub struct Program {
    pub path: PathBuf,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(String, OsString)>,
    pub directory: Option<PathBuf>,
    /// Takes both output streams, appended.
    pub log: PathBuf,
    /// How it is asked to end when it is dropped (`TERM`, `QUIT`, `KILL`); killed 10 s later.
    pub stop_signal: &'static str,
    /// A directory that is deleted once it has ended.
    pub remove: Option<PathBuf>,
}

/// A running program. Dropping it ends it and waits for its end.
#[derive(Debug)]
pub struct Process {
    guard: Child,
    leash: Option<ChildStdin>,
    pid: u32,
    log: PathBuf,
}

impl Process {
    /// Starts a program, in a process group of its own so that a Ctrl-C in the terminal does not reach it.
    pub fn start(program: &Program) -> Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(&program.log);
        let log = log.with_context(|| format!("cannot write {}", program.log.display()))?;
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "guard", program.stop_signal]);
        command.arg(program.remove.as_deref().unwrap_or(Path::new("")));
        command.arg(&program.path).args(&program.arguments);
        command.envs(program.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &program.directory {
            command.current_dir(directory);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut guard = command.process_group(0).spawn().context("cannot run sh")?;
        let leash = guard.stdin.take();
        let mut line = String::new();
        if let Some(output) = guard.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let pid = line.trim().parse().context("the guard did not say a process id")?;
        Ok(Self {
            guard,
            leash,
            pid,
            log: program.log.clone(),
        })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Everything that it has printed so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Its exit status if it has ended; 128 + signal when a signal ended it.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.guard.try_wait().ok().flatten()
    }

    /// Sends a signal (`TERM`, `KILL`, `HUP`, ...).
    pub fn signal(&self, signal: &str) -> Result<()> {
        let sent = Command::new("kill")
            .args(["-s", signal, &self.pid.to_string()])
            .status()?;
        if !sent.success() {
            bail!("no process {} to send {signal} to", self.pid);
        }
        Ok(())
    }

    /// Waits for its end. Blocks the thread.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let pid = self.pid;
        eventually_blocking(&format!("end of process {pid}"), limit, || self.ended())
    }

    /// Ends it as dropping does, but leaves `Program::remove` in place.
    pub fn stop_keeping_files(mut self) {
        if let Some(leash) = &mut self.leash {
            let _ = leash.write_all(b"keep\n");
        }
    }

    /// Ends it at once, without a chance to clean up.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal("KILL")?;
        self.wait(Duration::from_secs(10)).map(|_| ())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.leash.take());
        let _ = self.wait(Duration::from_secs(15));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_process_is_gone_and_so_is_its_directory() {
        let directory = tempfile::tempdir().unwrap().keep();
        let process = Process::start(&Program {
            path: "sleep".into(),
            arguments: vec!["600".into()],
            log: directory.join("log"),
            stop_signal: "TERM",
            remove: Some(directory.clone()),
            ..Program::default()
        })
        .unwrap();
        let pid = process.pid();
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(!directory.exists());
    }

    #[test]
    fn a_program_that_ends_by_itself_says_how() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = Process::start(&Program {
            path: "sh".into(),
            arguments: vec!["-c".into(), "echo said; exit 7".into()],
            log: directory.path().join("log"),
            stop_signal: "TERM",
            ..Program::default()
        })
        .unwrap();
        assert_eq!(process.wait(Duration::from_secs(10)).unwrap().code(), Some(7));
        assert_eq!(process.log(), "said\n");
    }
}
