//! A real browser, driven by a script of `drivers/`.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// Some starts of pages in two rounds, on a busy machine.
pub const BROWSER_LIMIT: Duration = Duration::from_secs(150);

/// Runs a script with its arguments, to which the browser and the folder for its pictures are added, and returns what it
/// printed. A line `ask TEXT` of it is answered once `answer` is done with the text.
///
/// Fails when the script fails, or after [`BROWSER_LIMIT`].
pub async fn drive(script: &str, mut arguments: Value, answer: impl AsyncFnMut(&str) -> Result<()>) -> Result<String> {
    let drivers = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers");
    ensure!(
        drivers.join("node_modules/playwright-core").is_dir(),
        "the drivers are not installed: run `make drivers`"
    );
    let more = arguments.as_object_mut().context("arguments are an object")?;
    more.insert("chromium".to_owned(), json!(chromium()?));
    more.insert("pictures".to_owned(), json!(pictures()?));
    let mut node = Command::new("node");
    node.arg(script).arg(arguments.to_string()).current_dir(drivers);
    node.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let child = node
        .spawn()
        .context("node does not start: run `make test`, which installs it")?;
    let ended = tokio::time::timeout(BROWSER_LIMIT, talk(child, answer)).await;
    ended.context("the browser is not done in time")?
}

async fn talk(mut child: Child, mut answer: impl AsyncFnMut(&str) -> Result<()>) -> Result<String> {
    let mut input = child.stdin.take().context("its input")?;
    let mut output = BufReader::new(child.stdout.take().context("its output")?).lines();
    let mut errors = child.stderr.take().context("its errors")?;
    let complaints = tokio::spawn(async move {
        let mut complaints = String::new();
        errors.read_to_string(&mut complaints).await.map(|_| complaints)
    });
    let mut printed = String::new();
    while let Some(line) = output.next_line().await? {
        match line.strip_prefix("ask ") {
            Some(asked) => {
                answer(asked).await?;
                input.write_all(b"done\n").await?;
            }
            None => printed += &format!("{line}\n"),
        }
    }
    let status = child.wait().await?;
    if !status.success() {
        bail!("{printed}{}", complaints.await??);
    }
    Ok(printed)
}

/// `target/pictures`, for people to look at.
fn pictures() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().find(|path| path.ends_with("target"));
    let pictures = target.context("the test's program is nowhere")?.join("pictures");
    std::fs::create_dir_all(&pictures)?;
    Ok(pictures)
}

fn chromium() -> Result<&'static str> {
    let found = [
        "/usr/bin/chromium",
        "/usr/bin/chromium-browser",
        "/usr/bin/google-chrome",
    ];
    let found = found.into_iter().find(|path| Path::new(path).exists());
    found.context("Chromium is missing: run `make test`, which installs it")
}
