//! A held operation in a real browser, on a phone's screen.

use super::stage::Stage;
use countersign_tests::chromium::drive;
use serde_json::json;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStderr, Command};

const LIMIT: Duration = Duration::from_secs(30);

/// Reads what psql says until it says where to decide.
pub(super) async fn held_at(errors: &mut BufReader<ChildStderr>) -> String {
    let mut said = String::new();
    while !said.contains("Decide at ") {
        let read = tokio::time::timeout(LIMIT, errors.read_line(&mut said)).await;
        assert_ne!(read.expect("psql is told that it is held").unwrap(), 0, "{said}");
    }
    let (_, rest) = said.split_once("Decide at ").unwrap();
    rest.split(' ').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_statement_is_read_and_approved_on_a_phone() {
    let stage = Stage::set().await.unwrap();
    let ids: Vec<String> = (0..20_000).map(|id| format!("{id},")).collect();
    let state = "'<b onclick=\"alert(1)\">held</b>'";
    let rows: Vec<String> = ids.chunks(20).map(|row| row.join(" ")).collect();
    let statement = format!(
        "update orders set state = {state} where id in (\n{}\n7);",
        rows.join("\n")
    );
    stage.world.gateway.write("long.sql", &statement).unwrap();
    let mut psql = Command::from(stage.world.gateway.psql("alice", "shop"));
    psql.arg("--file").arg(stage.world.gateway.path().join("long.sql"));
    let mut psql = psql
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(psql.stderr.take().unwrap());
    let page = held_at(&mut errors).await;
    let arguments = json!({"page": page, "person": "carol"});
    let said = drive("approve_in_browser.mjs", arguments, async |_| Ok(())).await;
    assert_eq!(said.unwrap(), "approved\n");
    let output = tokio::time::timeout(LIMIT, psql.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && printed.starts_with("UPDATE "), "{printed}");
}
