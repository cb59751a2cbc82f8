//! The end of the story: the journal and the recording tell it again, and one changed byte in either is found.

use super::Screen;
use crate::wait::eventually;
use crate::world::World;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const ASKED: &str = "\"event\":\"asked\"";
/// Between them stands the operation's digest.
const ASKED_TO_DISPLAY: usize = 120;
pub(super) const DELETE: &str = "delete from orders where id = 7";

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

/// Stops the world's gateway and looks at a copy of its data: first untouched, then with one byte of the journal
/// changed, then with one byte of a chunk changed.
pub fn a_changed_byte_is_found(world: &mut World, screen: Screen, session: &str) -> Result<()> {
    screen.step("One byte is changed in a copy of the journal, then in a copy of the recording");
    world.gateway.stop().context("the gateway does not stop")?;
    let copy = tempfile::Builder::new().prefix("countersign-copy-").tempdir()?;
    let data = copy.path().join("data");
    copy_directory(&world.gateway.data(), &data)?;
    let config = std::fs::read_to_string(world.gateway.config())?;
    let config = config.replace(&*world.gateway.data().to_string_lossy(), &data.to_string_lossy());
    let config_path = world.gateway.path().join("copy.toml");
    std::fs::write(&config_path, config)?;
    let verify = |what: &str| -> Result<(i32, String)> {
        let (code, printed) = world.run("bob", &["verify", session, "--config", &config_path.to_string_lossy()])?;
        let last = printed.lines().last().unwrap_or_default();
        screen.exchange(
            "bob$",
            &format!("countersign verify {session} --config copy.toml   # {what}"),
            last,
        );
        Ok((code, printed))
    };
    let (code, said) = verify("the copy as it is")?;
    ensure!(code == 0, "an untouched copy should verify: {said}");
    for (what, forged) in [
        ("one byte of the journal changed", Forged::journal(&data)?),
        ("one byte of a chunk changed", Forged::chunk(&data, session)?),
    ] {
        forged.write()?;
        let (code, said) = verify(what)?;
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
    /// In the text of a statement, where the journal keeps it.
    fn journal(data: &Path) -> Result<Self> {
        let path = data.join("countersign.db");
        tidy_up(&path)?;
        let original = std::fs::read(&path)?;
        let place = event_text(&original).context("the journal does not hold the statement")?;
        Ok(Self { path, original, place })
    }

    /// In the middle of the session's first chunk.
    fn chunk(data: &Path, session: &str) -> Result<Self> {
        let paths = files(data)?;
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

/// Brings everything into the database's one file, and forgets what is deleted: each text stands there once.
fn tidy_up(database: &Path) -> Result<()> {
    let connection = rusqlite::Connection::open(database)?;
    connection.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0))?;
    // Without it the free space of pages keeps shreds of other pages.
    connection.pragma_update_and_check(None, "secure_delete", true, |row| row.get::<_, i64>(0))?;
    connection.execute("VACUUM", [])?;
    connection.close().map_err(|(_, error)| error.into())
}

/// Where the last letter of the statement stands in the event that says who asked for it.
fn event_text(bytes: &[u8]) -> Option<usize> {
    let text = format!("\"display\":\"{DELETE}");
    let mut places = bytes
        .windows(text.len())
        .enumerate()
        .filter(|(_, window)| *window == text.as_bytes());
    let asked = |place: usize| {
        let before = bytes
            .get(place.saturating_sub(ASKED_TO_DISPLAY)..place)
            .unwrap_or_default();
        before.windows(ASKED.len()).any(|window| window == ASKED.as_bytes())
    };
    let (place, _) = places.find(|(place, _)| asked(*place))?;
    Some(place + text.len() - 1)
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
