//! The page of the demo's own Slack, in a real browser on a phone's screen.

use super::chromium::held_at;
use countersign_tests::chromium::drive;
use countersign_tests::demo::Stage;
use countersign_tests::postgres::Postgres;
use countersign_tests::world::WorldOptions;
use serde_json::json;
use std::process::Stdio;
use tokio::io::BufReader;
use tokio::process::{Child, Command};

/// Alice's psql, and the number of the approval that it waits for.
async fn held(stage: &Stage, statement: &str) -> (Child, String) {
    let mut psql = Command::from(stage.world.gateway.psql("alice", "shop"));
    psql.args(["--command", statement])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut psql = psql.spawn().unwrap();
    let mut errors = BufReader::new(psql.stderr.take().unwrap());
    let page = held_at(&mut errors).await;
    psql.stderr = Some(errors.into_inner());
    (psql, page.rsplit('/').next().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demos_slack_is_used_on_a_phone() {
    let server = Postgres::shared().await.unwrap();
    let stage = Stage::embedded(server, WorldOptions::default(), false).await.unwrap();
    let (approved, light) = held(&stage, "delete from orders where id = 1").await;
    let (denied, dark) = held(&stage, "delete from orders where id = 2 and state <> '<b>*open*</b>'").await;
    let arguments = json!({"url": stage.chat_url(), "light": light, "dark": dark});
    let said = drive("channel_in_browser.mjs", arguments, async |_| Ok(())).await;
    assert_eq!(said.unwrap(), "decided\n", "{}", stage.logs());
    let approved = approved.wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&approved.stdout), "DELETE 1\n");
    let denied = denied.wait_with_output().await.unwrap();
    let told = String::from_utf8_lossy(&denied.stderr).into_owned();
    assert!(
        told.contains("denied by bob: the customer <b>was</b> not asked"),
        "{told}"
    );
}
