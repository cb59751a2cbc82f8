//! The story: what alice and bob do, and what must come of it. Wrong output counts as much as a wrong end.

use super::channel::OpenChannel;
use super::stage::{Stage, Stores};
use super::{Screen, cloud, evidence};
use crate::psql::{Psql, Typed};
use crate::votes::Waiting;
use crate::wait::eventually;
use crate::world::{TARGET, World};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// For whatever should happen at once, on a slow machine.
const SOON: Duration = Duration::from_secs(20);

/// Plays the story from the first SELECT to the forged journal. The gateway that holds is gone at the end.
pub async fn play(stage: &mut Stage, screen: Screen) -> Result<()> {
    if let Some(description) = stage.description() {
        screen.print(&format!("\n{description}"));
    }
    let world = &stage.world;
    screen.step("alice connects with psql; her password is the issuer's token");
    let mut story = Story::begin(world, screen)?;
    story.reading_is_free().await?;
    let approved = story.a_delete_waits_and_is_approved().await?;
    let denied = story.a_delete_is_denied().await?;
    let withdrawn = story.ctrl_c_withdraws().await?;
    let expired = story.nobody_answers().await?;
    story.a_write_without_where_is_refused().await?;
    let session = approved.session.clone();
    let numbers = [approved, denied, withdrawn, expired].map(|held| held.number);
    story.psql.quit()?;
    evidence::audit_shows_everything(world, screen, &numbers)?;
    evidence::the_session_can_be_replayed(world, screen, &session).await?;
    if let Some(chat) = stage.chat() {
        a_statement_is_approved_in_slack(world, chat, screen).await?;
    }
    match &stage.stores {
        Stores::Embedded => {
            stage.close_chat();
            evidence::a_changed_byte_is_found(&mut stage.world, screen, &session)?;
        }
        Stores::Cloud { aws, names } => {
            let (aws, names) = (aws.clone(), names.clone());
            cloud::decisions_were_made_elsewhere(world, screen)?;
            cloud::the_stores_tell_the_same(world, screen, &session)?;
            cloud::a_gateway_dies(stage, screen).await?;
            cloud::a_changed_byte_is_found(&stage.world, &aws, &names, screen, &session).await?;
        }
    }
    screen.print("\nThe whole story went as it should.");
    Ok(())
}

/// The card appears in the demo's Slack; a click of bob's lets psql go on, and the card says so.
async fn a_statement_is_approved_in_slack(world: &World, chat: &OpenChannel, screen: Screen) -> Result<()> {
    screen.step("A statement waits in Slack too, and bob approves it with a button");
    let mut story = Story::begin(world, screen)?;
    let held = story.hold("update orders set state = 'paid' where id = 11;").await?;
    let shown = eventually("the card in Slack", SOON, async || {
        chat.shows(&held.number, "Approve").await.ok().filter(|shows| *shows)
    });
    shown.await?;
    chat.click("alice", &held.number, "approve").await?;
    ensure!(
        world.state(&held.number)? == "pending",
        "alice's click changed the approval"
    );
    screen.checked("the channel shows the card; alice's own click changes nothing");
    chat.click("bob", &held.number, "approve").await?;
    let printed = story.finish(&held)?;
    ensure!(printed.contains("UPDATE 1"), "UPDATE 1 was expected:\n{printed}");
    let told = eventually("the outcome in Slack", SOON, async || {
        chat.shows(&held.number, "UPDATE 1").await.ok().filter(|shows| *shows)
    });
    told.await?;
    screen.checked("bob's click lets psql go on, and the card shows the outcome");
    story.psql.quit()
}

/// A statement that waits.
pub(super) struct Held {
    typed: Typed,
    pub number: String,
    pub session: String,
    /// What psql had printed when it began to wait.
    notice: String,
}

/// What alice does in one psql.
pub(super) struct Story<'a> {
    world: &'a World,
    screen: Screen,
    pub psql: Psql,
}

impl<'a> Story<'a> {
    /// Connects with psql as alice.
    pub fn begin(world: &'a World, screen: Screen) -> Result<Self> {
        let mut psql = Psql::start(&world.gateway.psql("alice", TARGET))?;
        psql.run("\\set VERBOSITY verbose", SOON)?;
        Ok(Self { world, screen, psql })
    }

    async fn reading_is_free(&mut self) -> Result<()> {
        self.screen.step("A SELECT is answered at once");
        let begun = Instant::now();
        let printed = self.run("select id, state, total_cents from orders where id in (7, 8, 9) order by id;")?;
        ensure!(printed.contains("(3 rows)"), "three rows were expected:\n{printed}");
        ensure!(!printed.contains("NOTICE"), "nothing should have been held:\n{printed}");
        self.screen
            .checked(&format!("answered after {} ms", begun.elapsed().as_millis()));
        Ok(())
    }

    async fn a_delete_waits_and_is_approved(&mut self) -> Result<Held> {
        self.screen.step("A DELETE waits until bob approves it");
        let held = self.hold("delete from orders where id = 7;").await?;
        for needed in [held.number.as_str(), "dba", &self.world.gateway.http_url()] {
            ensure!(
                held.notice.contains(needed),
                "psql should have named {needed:?}:\n{}",
                held.notice
            );
        }
        self.screen
            .checked("psql says the number, whom it waits for, and where to decide");
        let running = self.world.activity().await?;
        ensure!(running.is_empty(), "the server should be idle, but runs {running:?}");
        self.row_is_there(7, true).await?;
        self.screen
            .checked("pg_stat_activity shows nothing running; the row is still there");
        let (code, _) = self.cli("bob", &["approvals", "list"])?;
        ensure!(code == 0, "`approvals list` ended with {code}");
        let (code, said) = self.cli("bob", &["approvals", "approve", &held.number])?;
        ensure!(code == 0, "bob's approval was not taken ({code}): {said}");
        let printed = self.finish(&held)?;
        ensure!(
            printed.lines().any(|line| line == "DELETE 1"),
            "DELETE 1 was expected:\n{printed}"
        );
        self.row_is_there(7, false).await?;
        self.screen.checked("psql printed DELETE 1 and the row is gone");
        Ok(held)
    }

    async fn a_delete_is_denied(&mut self) -> Result<Held> {
        self.screen
            .step("Alice cannot approve her own; bob denies with a reason");
        let held = self.hold("delete from orders where id = 8;").await?;
        let (code, said) = self.cli("alice", &["approvals", "approve", &held.number])?;
        ensure!(
            code == 1 || code == 4,
            "alice's own vote must be refused, not end with {code}: {said}"
        );
        self.row_is_there(8, true).await?;
        ensure!(
            self.world.state(&held.number)? == "pending",
            "alice's vote changed the approval"
        );
        self.screen.checked("her vote is refused, the approval still waits");
        let reason = "the customer has not been asked";
        let (code, said) = self.cli("bob", &["approvals", "deny", &held.number, "--reason", reason])?;
        ensure!(code == 0, "bob's denial was not taken ({code}): {said}");
        let printed = self.finish(&held)?;
        for needed in ["ERROR:  42501", reason, "bob", held.number.as_str()] {
            ensure!(
                printed.contains(needed),
                "psql should have shown {needed:?}:\n{printed}"
            );
        }
        self.row_is_there(8, true).await?;
        self.the_connection_works_on()?;
        self.screen
            .checked("psql shows the reason under SQLSTATE 42501, the row is still there, the connection works on");
        Ok(held)
    }

    async fn ctrl_c_withdraws(&mut self) -> Result<Held> {
        self.screen.step("Ctrl-C in psql withdraws");
        let held = self.hold("delete from orders where id = 9;").await?;
        self.psql.interrupt(&held.typed)?;
        let printed = self.finish(&held)?;
        ensure!(
            printed.contains("ERROR:  57014"),
            "SQLSTATE 57014 was expected:\n{printed}"
        );
        self.world.becomes(&held.number, "withdrawn").await?;
        let (code, said) = self.cli("bob", &["approvals", "approve", &held.number])?;
        ensure!(code != 0, "a withdrawn approval took a vote: {said}");
        self.row_is_there(9, true).await?;
        self.the_connection_works_on()?;
        self.screen
            .checked("the approval is withdrawn, bob's late vote is refused, the row is still there");
        Ok(held)
    }

    async fn nobody_answers(&mut self) -> Result<Held> {
        self.screen
            .step("An approval that nobody answers expires (this rule gives ten seconds)");
        let held = self
            .hold("update stock set quantity = 0 where article = 'lamp';")
            .await?;
        let printed = self.finish(&held)?;
        ensure!(
            printed.contains("ERROR:  42501"),
            "SQLSTATE 42501 was expected:\n{printed}"
        );
        self.world.becomes(&held.number, "expired").await?;
        let left = self
            .world
            .count("select quantity::bigint from stock where article = 'lamp'")
            .await?;
        ensure!(left == 12, "the stock was changed to {left}");
        self.the_connection_works_on()?;
        self.screen.checked("it expired and nothing was changed");
        Ok(held)
    }

    async fn a_write_without_where_is_refused(&mut self) -> Result<()> {
        self.screen
            .step("A DELETE without WHERE is refused by the policy, with its reason");
        let printed = self.run("delete from orders;")?;
        for needed in ["ERROR:  42501", "touches every row"] {
            ensure!(
                printed.contains(needed),
                "psql should have shown {needed:?}:\n{printed}"
            );
        }
        let rows = self.world.count("select count(*) from orders").await?;
        ensure!(rows == 59, "59 orders were expected, there are {rows}");
        self.the_connection_works_on()?;
        self.screen.checked("nothing was deleted");
        Ok(())
    }

    /// Types a statement that must be held, and waits until psql shows its number.
    pub async fn hold(&mut self, statement: &str) -> Result<Held> {
        let typed = self.psql.begin(statement)?;
        let waiting = self.world.waiting().await;
        let Waiting { number, session } =
            waiting.with_context(|| format!("psql has printed:\n{}", self.psql.unseen()))?;
        let notice = self.psql.wait_for(&number, SOON)?;
        self.screen.exchange("shop=>", statement, notice.trim());
        Ok(Held {
            typed,
            number,
            session,
            notice,
        })
    }

    fn finish(&mut self, held: &Held) -> Result<String> {
        let printed = self.psql.finish(&held.typed, SOON * 2)?;
        let rest = printed.strip_prefix(held.notice.trim()).unwrap_or(&printed);
        self.screen.exchange("psql", "goes on:", rest.trim());
        Ok(printed)
    }

    fn run(&mut self, statement: &str) -> Result<String> {
        let printed = self.psql.run(statement, SOON)?;
        self.screen.exchange("shop=>", statement, &printed);
        Ok(printed)
    }

    fn the_connection_works_on(&mut self) -> Result<()> {
        let printed = self.psql.run("select 6 * 7 as answer;", SOON)?;
        ensure!(printed.contains("42"), "the connection should work on:\n{printed}");
        Ok(())
    }

    fn cli(&self, name: &str, arguments: &[&str]) -> Result<(i32, String)> {
        evidence::cli(self.world, self.screen, name, arguments)
    }

    async fn row_is_there(&self, id: i32, wanted: bool) -> Result<()> {
        let count = self
            .world
            .count(&format!("select count(*) from orders where id = {id}"))
            .await?;
        ensure!(
            (count == 1) == wanted,
            "order {id} is {}",
            if wanted { "gone" } else { "still there" }
        );
        Ok(())
    }
}
