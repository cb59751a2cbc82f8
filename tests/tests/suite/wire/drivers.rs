//! Real drivers through the gateway. A script of `tests/drivers` each; its exit code is the result.

use super::Ground;
use countersign_tests::world::TARGET;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(120);

fn drivers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers")
}

/// Python with what `make drivers` installed.
fn python() -> PathBuf {
    let python = drivers().join(".venv/bin/python");
    assert!(python.exists(), "{} is missing: run `make drivers`", python.display());
    python
}

fn node() -> PathBuf {
    let modules = drivers().join("node_modules/pg");
    assert!(modules.exists(), "{} is missing: run `make drivers`", modules.display());
    PathBuf::from("node")
}

/// Runs a script, approving as bob whatever is held.
async fn check(program: PathBuf, script: &str, approvals: usize) {
    let ground = Ground::start().await;
    let gateway = &ground.world.gateway;
    let mut command = Command::new(program);
    command
        .arg(drivers().join(script))
        .current_dir(drivers())
        .kill_on_drop(true);
    command
        .envs(gateway.environment("carol", TARGET))
        .env_remove("PGPASSWORD")
        .env_remove("PGUSER");
    for name in ["alice", "carol", "dave"] {
        command.env(format!("TOKEN_{name}"), gateway.token(name));
    }
    let script_run = command.stdin(Stdio::null()).output();
    let mut approved = Vec::new();
    let approving = async {
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            for waiting in ground.world.pending().unwrap() {
                if !approved.contains(&waiting.number) {
                    ground.world.approve("bob", &waiting.number).unwrap();
                    approved.push(waiting.number);
                }
            }
        }
    };
    let output = tokio::select! {
        output = tokio::time::timeout(LIMIT, script_run) => output.expect("the script did not end").unwrap(),
        () = approving => unreachable!("it loops"),
    };
    let said = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    assert!(
        output.status.success(),
        "{script}: {said}\n{}",
        ground.world.gateway.log()
    );
    assert_eq!(approved.len(), approvals, "{script}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psycopg_works_as_with_the_server_itself() {
    check(python(), "psycopg_test.py", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asyncpg_works_as_with_the_server_itself() {
    check(python(), "asyncpg_test.py", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pg8000_works_as_with_the_server_itself() {
    check(python(), "pg8000_test.py", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_postgres_works_as_with_the_server_itself() {
    check(node(), "node_postgres.mjs", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_js_works_as_with_the_server_itself() {
    check(node(), "postgres_js.mjs", 1).await;
}
