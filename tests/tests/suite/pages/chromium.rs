//! The pages in a real browser, on a phone's screen.

use super::stage::Stage;
use chrono::Utc;
use countersign_infra::domain::example::{chat_account, client};
use countersign_infra::domain::id::Digest;
use countersign_infra::domain::ticket::{ConnectAnswer, ConnectWeb, LinkChat, Purpose, Ticket};
use countersign_infra::tickets::TicketStore;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStderr, Command};

const LIMIT: Duration = Duration::from_secs(30);
/// Three starts of pages in two rounds, on a busy machine.
const BROWSER_LIMIT: Duration = Duration::from_secs(150);

fn drivers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers")
}

/// Where the pictures go, for people to look at.
fn pictures() -> PathBuf {
    let target = std::env::current_exe().unwrap();
    let target = target
        .ancestors()
        .find(|path| path.ends_with("target"))
        .unwrap()
        .join("pictures");
    std::fs::create_dir_all(&target).unwrap();
    target
}

fn chromium() -> &'static str {
    let found = [
        "/usr/bin/chromium",
        "/usr/bin/chromium-browser",
        "/usr/bin/google-chrome",
    ];
    let found = found.into_iter().find(|path| Path::new(path).exists());
    found.expect("Chromium is missing: run `make test`, which installs it")
}

async fn node(script: &str, arguments: serde_json::Value) -> String {
    assert!(
        drivers().join("node_modules/playwright-core").is_dir(),
        "the drivers are not installed: run `make drivers`"
    );
    let mut command = Command::new("node");
    command
        .arg(script)
        .arg(arguments.to_string())
        .current_dir(drivers())
        .kill_on_drop(true);
    let ran = tokio::time::timeout(BROWSER_LIMIT, command.output()).await;
    let output = ran.expect("the browser is done in time").unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{printed}");
    printed
}

fn linking() -> Purpose {
    Purpose::LinkChat(LinkChat {
        account: chat_account(1),
        account_name: "carol.example".to_owned(),
        team_name: "Example & Co".to_owned(),
    })
}

fn connecting() -> Purpose {
    Purpose::ConnectWeb(ConnectWeb {
        target: "shop".to_owned(),
        database: "shop".to_owned(),
        user: "carol".to_owned(),
        client: client(),
        code: Digest::of(b"code"),
        tries: 1,
        answer: ConnectAnswer::None,
    })
}

/// Reads what psql says until it says where to decide.
async fn held_at(errors: &mut BufReader<ChildStderr>) -> String {
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
    let mut pages = Vec::new();
    for (random, name, purpose) in [(1, "link", linking()), (2, "connect", connecting())] {
        let (secret, ticket) = Ticket::new([random; 32], purpose, Utc::now(), BROWSER_LIMIT);
        TicketStore::create(&stage.store(), &ticket).await.unwrap();
        let url = format!("{}/{name}/{}", stage.world.gateway.http_url(), secret.reveal());
        pages.push((name, url));
    }
    let arguments = json!({
        "page": page, "person": "carol", "pictures": pictures(), "chromium": chromium(), "more": pages,
    });
    assert!(node("approve_in_browser.mjs", arguments).await.contains("approved"));
    let output = tokio::time::timeout(LIMIT, psql.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && printed.starts_with("UPDATE "), "{printed}");
}
