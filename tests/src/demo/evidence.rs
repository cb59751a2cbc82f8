//! The end of the story: the journal and the recording tell it again, and one changed byte in either is found.

use super::Screen;
use crate::wait::eventually;
use crate::world::World;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;

const DELETE: &str = "delete from orders where id = 7";

/// Runs the command line as a person and shows it: its exit code, and all that it printed.
pub fn cli(world: &World, screen: Screen, name: &str, arguments: &[&str]) -> Result<(i32, String)> {
    let (code, printed) = world.run(name, arguments)?;
    let words: Vec<&str> = arguments.to_vec();
    screen.exchange(
        &format!("{name}$"),
        &format!("countersign {}", words.join(" ")),
        &printed,
    );
    Ok((code, printed))
}

pub fn audit_shows_everything(world: &World, screen: Screen, numbers: &[String]) -> Result<()> {
    screen.step("The journal shows all of it, with names and times");
    let (code, printed) = cli(world, screen, "bob", &["audit", "--since", "1h", "--limit", "1000"])?;
    ensure!(code == 0, "`countersign audit` ended with {code}");
    let today = chrono::Utc::now().format("%Y-").to_string();
    let texts = [
        "alice",
        "bob",
        DELETE,
        "the customer has not been asked",
        today.as_str(),
    ];
    for needed in numbers.iter().map(String::as_str).chain(texts) {
        ensure!(printed.contains(needed), "the journal should show {needed:?}");
    }
    let (code, said) = world.run("alice", &["audit"])?;
    ensure!(
        code == 0 || code == 4,
        "alice's own look into the journal ended with {code}: {said}"
    );
    screen.checked("everyone, every number and every reason is there");
    Ok(())
}

pub async fn the_session_can_be_replayed(world: &World, screen: Screen, session: &str) -> Result<()> {
    screen.step("The recording shows the session again, and proves untouched");
    eventually("the session to be closed", Duration::from_secs(20), async || {
        let found = world.run("bob", &["audit", "--event", "session_closed", "--json"]);
        found
            .is_ok_and(|(code, printed)| code == 0 && printed.contains(session))
            .then_some(())
    })
    .await?;
    let (code, printed) = cli(world, screen, "bob", &["replay", session])?;
    ensure!(code == 0, "`countersign replay` ended with {code}");
    for needed in [DELETE, "DELETE 1", "the customer has not been asked"] {
        ensure!(printed.contains(needed), "the recording should show {needed:?}");
    }
    let (code, _) = cli(world, screen, "bob", &["verify", session])?;
    ensure!(code == 0, "`countersign verify` ended with {code}");
    screen.checked("the chain of journal and recording holds");
    Ok(())
}

/// Stops the world's gateway, copies its data, and lets a second gateway look at the copy: first untouched, then
/// with one byte of the journal changed, then with one byte of a chunk changed.
pub async fn a_changed_byte_is_found(world: &mut World, screen: Screen, session: &str) -> Result<()> {
    screen.step("One byte is changed in a copy of the journal, then in a copy of the recording");
    world.gateway.stop().context("the gateway does not stop")?;
    let copy = tempfile::Builder::new().prefix("countersign-copy-").tempdir()?;
    copy_directory(&world.gateway.data(), &copy.path().join("data"))?;
    let verify = async |what: &str| -> Result<(i32, String)> {
        let gateway = world.second_gateway(copy.path()).await?;
        let (code, printed) = gateway.run("bob", &["verify", session])?;
        screen.exchange("bob$", &format!("countersign verify {session}   # {what}"), &printed);
        Ok((code, printed))
    };
    let (code, said) = verify("the copy as it is").await?;
    ensure!(code == 0, "an untouched copy should verify: {said}");
    for (what, forged) in [
        ("one byte of the journal changed", Forged::journal(copy.path())?),
        ("one byte of a chunk changed", Forged::chunk(copy.path(), session)?),
    ] {
        forged.write()?;
        let (code, said) = verify(what).await?;
        ensure!(
            code == 1,
            "a changed byte should be found, but `verify` ended with {code}: {said}"
        );
        forged.undo()?;
    }
    screen.checked("both are found");
    Ok(())
}

/// A file with one byte to change.
struct Forged {
    path: PathBuf,
    original: Vec<u8>,
    place: usize,
}

impl Forged {
    /// In the text of a statement that the journal keeps.
    fn journal(copy: &Path) -> Result<Self> {
        for path in files(&copy.join("data"))? {
            let original = std::fs::read(&path)?;
            let found = original
                .windows(DELETE.len())
                .rposition(|window| window == DELETE.as_bytes());
            if let Some(place) = found.filter(|_| original.starts_with(b"SQLite format 3")) {
                return Ok(Self {
                    path,
                    original,
                    place: place + DELETE.len() - 1,
                });
            }
        }
        anyhow::bail!("no database under {} holds the statement", copy.display())
    }

    /// In the middle of the session's first chunk.
    fn chunk(copy: &Path, session: &str) -> Result<Self> {
        let paths = files(&copy.join("data"))?;
        let ours = |path: &PathBuf| {
            path.extension().is_some_and(|end| end == "chunk") && path.to_string_lossy().contains(session)
        };
        let path = paths.into_iter().find(ours).context("the session has no chunk")?;
        let original = std::fs::read(&path)?;
        let place = original.len() / 2;
        Ok(Self { path, original, place })
    }

    fn write(&self) -> Result<()> {
        let mut bytes = self.original.clone();
        *bytes.get_mut(self.place).context("an empty file")? ^= 1;
        Ok(std::fs::write(&self.path, bytes)?)
    }

    fn undo(&self) -> Result<()> {
        Ok(std::fs::write(&self.path, &self.original)?)
    }
}

/// All files below a directory, in order.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path)
            } else {
                found.push(path)
            }
        }
    }
    found.sort();
    Ok(found)
}

fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    for path in files(from)? {
        let copy = to.join(path.strip_prefix(from)?);
        std::fs::create_dir_all(copy.parent().unwrap_or(to))?;
        std::fs::copy(&path, &copy).with_context(|| format!("cannot copy {}", path.display()))?;
    }
    Ok(())
}
