//! Recordings of real sessions: shown, proved, and found when they were changed or the gateway was killed.

use countersign_infra::recordings::RecordingStore;
use countersign_infra::recordings::disk::DiskRecordings;
use countersign_infra::recordings::key::Keyring;
use countersign_infra::recordings::proof::{Verifier, Witness};
use countersign_tests::harness::Gateway;
use countersign_tests::wait::eventually;
use countersign_tests::world::{TARGET, World, WorldOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_replayed_and_verified_and_a_changed_byte_is_found() {
    let world = World::start(WorldOptions::default()).await.unwrap();
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    alice.simple_query("select 42 as the_answer").await.unwrap();
    let row = alice.query_one("select $1::text as asked", &[&"bound"]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "bound");
    drop(alice);
    let session = ended_session(&world.gateway).await;

    let (code, shown) = world.gateway.run("bob", &["replay", &session]).unwrap();
    assert_eq!(code, 0, "{shown}");
    for needed in [
        "select 42 as the_answer",
        "the_answer",
        "$1 = 'bound'",
        "Complete: SELECT 1",
    ] {
        assert!(shown.contains(needed), "{needed} is missing in {shown}");
    }
    let (code, said) = world.gateway.run("bob", &["verify", &session]).unwrap();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("VERIFIED"), "{said}");

    let chunk = files(&world.gateway, &session)
        .into_iter()
        .find(|path| path.ends_with("0.chunk"))
        .unwrap();
    let mut bytes = std::fs::read(&chunk).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&chunk, bytes).unwrap();
    let (code, said) = world.gateway.run("bob", &["verify", &session]).unwrap();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("BROKEN: the recording: chunk 0 was changed"), "{said}");
    let (code, said) = world.gateway.run("bob", &["replay", &session]).unwrap();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("WARNING"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_was_killed_loses_nothing_of_a_recording_that_it_said_was_on_record() {
    let mut world = World::start(WorldOptions::default()).await.unwrap();
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    alice.simple_query("select 'before the kill'").await.unwrap();
    let session = live_session(&world.gateway);
    world.gateway.kill9().unwrap();
    world.gateway.restart().await.unwrap();

    let (code, said) = world.gateway.run("bob", &["verify", &session]).unwrap();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("interrupted"), "{said}");
    let (code, shown) = world.gateway.run("bob", &["replay", &session]).unwrap();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("Query: select 'before the kill'"), "{shown}");
}

/// Each has stores of its own here, so that it is plain to see who completed what.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateways_recording_is_completed_by_another_that_shares_the_spools_disk() {
    let shared = tempfile::tempdir().unwrap();
    let beside = || {
        let mut options = WorldOptions::default();
        options.gateway.gateway = format!("spool_dir = {:?}", shared.path());
        options
    };
    let mut killed = World::start(beside()).await.unwrap();
    let alice = killed.gateway.connect("alice", TARGET).await.unwrap();
    alice.simple_query("select 'before the kill'").await.unwrap();
    let session = live_session(&killed.gateway);
    killed.gateway.kill9().unwrap();

    let other = World::start(beside()).await.unwrap();
    let completed = async || {
        let manifest = |path: &PathBuf| path.ends_with("manifest");
        files(&other.gateway, &session).iter().any(manifest).then_some(())
    };
    eventually("the other gateway to complete it", SOON, completed)
        .await
        .unwrap();
    let keys = [&killed, &other].map(|world| world.gateway.data().join("keys"));
    let keys = Keyring::load(&keys).unwrap();
    let id = session.parse().unwrap();
    let mut verifier = Verifier::new(id, &keys, Witness::default()).unwrap();
    let store = DiskRecordings::under(&other.gateway.data());
    for number in 0..store.chunks(id).await.unwrap() {
        verifier.chunk(&store.read_chunk(id, number).await.unwrap()).unwrap();
    }
    let manifest = store.read_manifest(id).await.unwrap();
    let report = verifier.finish(manifest.as_deref()).unwrap();
    assert!(report.manifest.unwrap().interrupted);
    let left = async || (spools(shared.path()) == 1).then_some(());
    eventually("only the spool of the gateway that lives", SOON, left)
        .await
        .unwrap();

    // In order it ends without leaving anything.
    let mut other = other;
    other.gateway.stop().unwrap();
    assert_eq!(spools(shared.path()), 0);
}

/// The store goes while people think: what they approve then is not run, because it could not be recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_approved_after_the_recording_store_failed_is_not_run() {
    let mut options = WorldOptions::default();
    options.gateway.limits = "record_wait_seconds_max = 1".to_owned();
    let world = World::start(options).await.unwrap();
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    let delete = tokio::spawn(async move { alice.batch_execute("delete from orders where id = 7").await });
    let held = world.waiting().await.unwrap();
    let recordings = world.gateway.data().join("recordings");
    std::fs::remove_dir_all(&recordings).ok();
    std::fs::write(&recordings, b"a file where the store's directory was").unwrap();
    let fails = async || world.gateway.connect("bob", TARGET).await.err();
    eventually("the store to have failed for too long", SOON, fails)
        .await
        .unwrap();

    assert_eq!(world.approve("bob", &held.number).unwrap().0, 0);
    let told = delete.await.unwrap().unwrap_err();
    let told = told.as_db_error().unwrap().message();
    assert!(told.contains("cannot be recorded any more"), "{told}");
    world.becomes(&held.number, "abandoned").await.unwrap();
    let left = world.count("select count(*) from orders where id = 7").await;
    assert_eq!(left.unwrap(), 1);
    let (_, journal) = world
        .run("bob", &["audit", "--approval", &held.number, "--json"])
        .unwrap();
    assert!(!journal.contains("\"executing\""), "{journal}");

    // Each session has an end in the journal, also the one that was refused because it could not be recorded.
    let count = |event: &str| {
        let (code, printed) = world.run("bob", &["audit", "--event", event, "--json"]).ok()?;
        (code == 0).then(|| printed.matches("\"session\"").count())
    };
    let all_ended = async || (count("session_opened")? == count("session_closed")?).then_some(());
    eventually("all sessions to have ended", SOON, all_ended).await.unwrap();
    let (_, ends) = world
        .run("bob", &["audit", "--event", "session_closed", "--json"])
        .unwrap();
    assert!(ends.contains("not recorded: "), "{ends}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_chunk_of_a_session_in_which_nothing_is_said_is_anchored() {
    let world = World::start(WorldOptions::default()).await.unwrap();
    let idle = world.gateway.connect("alice", TARGET).await.unwrap();
    idle.simple_query("select 'the last for hours'").await.unwrap();
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    let delete = tokio::spawn(async move { alice.batch_execute("delete from orders where id = 7").await });
    let held = world.waiting().await.unwrap();
    let both = async || {
        let anchors = ["audit", "--event", "recording_anchor", "--json"];
        let (code, printed) = world.run("bob", &anchors).ok()?;
        (code == 0 && printed.matches("\"session\"").count() >= 2).then_some(())
    };
    eventually("an anchor of the idle session and of the one that waits", SOON, both)
        .await
        .unwrap();
    assert_eq!(world.state(&held.number).unwrap(), "pending");
    drop((idle, delete));
}

/// The spools in a directory that gateways share, beside the files of their runs.
fn spools(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .filter(|entry| entry.as_ref().unwrap().file_name() != "runs")
        .count()
}

/// The one session whose end the journal has.
async fn ended_session(gateway: &Gateway) -> String {
    let closed = async || {
        let (code, printed) = gateway
            .run("bob", &["audit", "--event", "session_closed", "--json"])
            .ok()?;
        (code == 0).then(|| session_in(&printed)).flatten()
    };
    eventually("the session to be closed", SOON, closed).await.unwrap()
}

/// The one session that lives.
fn live_session(gateway: &Gateway) -> String {
    let (code, printed) = gateway.run("bob", &["sessions", "--json"]).unwrap();
    assert_eq!(code, 0, "{printed}");
    let list: serde_json::Value = serde_json::from_str(&printed).unwrap();
    list["sessions"][0]["id"].as_str().unwrap().to_owned()
}

fn session_in(printed: &str) -> Option<String> {
    let (_, rest) = printed.split_once("\"session\"")?;
    rest.split('"').nth(1).map(str::to_owned)
}

/// The files of a session's recording.
fn files(gateway: &Gateway, session: &str) -> Vec<PathBuf> {
    let mut open = vec![gateway.data().join("recordings")];
    let mut found = Vec::new();
    open.retain(|directory| directory.exists());
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().contains(session) {
                found.push(path);
            }
        }
    }
    found
}
