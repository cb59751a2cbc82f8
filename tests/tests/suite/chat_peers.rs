//! The fake chats are held to the vendors' own clients: small bots of theirs, in `tests/drivers`, that people of the
//! fake chats click on.

pub mod discord;
mod faults;
mod readers;
mod slack;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

const LIMIT: Duration = Duration::from_secs(60);

fn drivers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers")
}

/// Node.js with what `make drivers` installed.
fn node() -> PathBuf {
    let modules = drivers().join("node_modules/@slack/bolt");
    assert!(modules.exists(), "{} is missing: run `make drivers`", modules.display());
    PathBuf::from("node")
}

fn python() -> PathBuf {
    let python = drivers().join(".venv/bin/python");
    assert!(python.exists(), "{} is missing: run `make drivers`", python.display());
    python
}

/// A bot that runs. It is killed when it is dropped.
struct Bot {
    child: Child,
    input: ChildStdin,
    port: u16,
}

impl Bot {
    /// Starts a script and waits until it says that it is ready.
    async fn start(program: PathBuf, arguments: &[&str], variables: BTreeMap<&str, String>) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).envs(variables).current_dir(drivers());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = tokio::time::timeout(LIMIT, async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some(port) = line.strip_prefix("ready ") {
                    return Some(port.parse().unwrap());
                }
            }
            None
        });
        let Some(port) = port.await.expect("the bot did not start") else {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
            panic!("{arguments:?}: {said}");
        };
        // What it still says is nobody's concern, but it must not block it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, input, port }
    }

    /// Ends it by the end of its input. It must end well.
    async fn end(self) {
        drop(self.input);
        let output = self.child.wait_with_output();
        let output = tokio::time::timeout(LIMIT, output).await.expect("it ends").unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}
