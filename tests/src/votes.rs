//! What people do with approvals, through the command line.

use crate::wait::eventually;
use crate::world::World;
use anyhow::{Context, Result};
use serde_json::Value;
use std::time::Duration;

/// For what should happen at once, on a slow machine.
const SOON: Duration = Duration::from_secs(20);

/// An approval that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub number: String,
    pub session: String,
}

impl World {
    /// Waits until an approval waits; the newest, when there are several.
    pub async fn waiting(&self) -> Result<Waiting> {
        let mut last = String::new();
        let waiting = eventually("a statement to be held", SOON, async || match self.pending() {
            Ok(found) => found.into_iter().next(),
            Err(error) => {
                last = format!("{error:#}");
                None
            }
        });
        waiting.await.context(last)
    }

    /// The approvals that wait at this moment, newest first, as bob sees them.
    pub fn pending(&self) -> Result<Vec<Waiting>> {
        let list = self.json("bob", &["approvals", "list", "--json"])?;
        let approvals = list
            .get("approvals")
            .and_then(Value::as_array)
            .context("no list of approvals")?;
        let waiting = |approval: &Value| {
            let field = |name: &str| approval.get(name).and_then(Value::as_str).map(str::to_owned);
            Some(Waiting {
                number: field("id")?,
                session: field("session")?,
            })
        };
        approvals
            .iter()
            .map(|approval| waiting(approval).context("not an approval"))
            .collect()
    }

    /// An approval's state in a word.
    pub fn state(&self, number: &str) -> Result<String> {
        let approval = self.json("bob", &["approvals", "show", number, "--json"])?;
        approval
            .get("state")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .context("an approval without a state")
    }

    /// Waits until an approval is in a state.
    pub async fn becomes(&self, number: &str, state: &str) -> Result<()> {
        self.becomes_within(SOON, number, state).await
    }

    /// The same where more than a moment may pass: a dead holder is taken for dead when its lease has ended.
    pub async fn becomes_within(&self, limit: Duration, number: &str, state: &str) -> Result<()> {
        let mut last = String::new();
        let what = format!("approval {number} to be {state}");
        let reached = eventually(&what, limit, async || {
            last = self.state(number).unwrap_or_else(|error| format!("{error:#}"));
            (last == state).then_some(())
        });
        reached.await.with_context(|| format!("it is: {last}"))
    }

    /// Approves; gives the exit code and what was printed.
    pub fn approve(&self, name: &str, number: &str) -> Result<(i32, String)> {
        self.run(name, &["approvals", "approve", number])
    }

    /// Denies with a reason.
    pub fn deny(&self, name: &str, number: &str, reason: &str) -> Result<(i32, String)> {
        self.run(name, &["approvals", "deny", number, "--reason", reason])
    }

    /// Runs the command line as a person: the exit code, and both streams.
    pub fn run(&self, name: &str, arguments: &[&str]) -> Result<(i32, String)> {
        self.desk().run(name, arguments)
    }

    /// Runs the command line as a person and reads its JSON.
    pub fn json(&self, name: &str, arguments: &[&str]) -> Result<Value> {
        let output = self.desk().cli(name, arguments)?;
        let said = || format!("{arguments:?} said {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).with_context(said)
    }
}
