//! Recordings as people take them out: listed, exported for other programs, linked to; and found missing by digests.

use countersign_tests::harness::Gateway;
use countersign_tests::wait::eventually;
use countersign_tests::world::{TARGET, World, WorldOptions};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
/// The last digest of a killed run comes when the run was found dead a minute ago.
const BURIED: Duration = Duration::from_secs(150);

/// A world in which one session asked, failed, and was bound a value; it is over when `is_over`.
async fn told(is_over: bool) -> (World, String, Option<tokio_postgres::Client>) {
    let world = World::start(WorldOptions::default()).await.unwrap();
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    alice.simple_query("select 42 as the_answer").await.unwrap();
    alice.simple_query("select 1/0").await.unwrap_err();
    let row = alice.query_one("select $1::text as asked", &[&"bound"]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "bound");
    let session = listed(&world.gateway, |_| true).await;
    if !is_over {
        return (world, session, Some(alice));
    }
    drop(alice);
    listed(&world.gateway, |recording| recording["state"] == "ended").await;
    (world, session, None)
}

/// The one recording that is listed, once it is as wanted.
async fn listed(gateway: &Gateway, wanted: impl Fn(&Value) -> bool) -> String {
    let look = async || {
        let (code, printed) = gateway
            .run("bob", &["recordings", "list", "--since", "1h", "--json"])
            .ok()?;
        assert_eq!(code, 0, "{printed}");
        let list: Value = serde_json::from_str(&printed).unwrap();
        let recording = list.get(0).filter(|recording| wanted(recording))?;
        Some(recording["session"].as_str().unwrap().to_owned())
    };
    eventually("the recording to be listed", SOON, look).await.unwrap()
}

fn run(gateway: &Gateway, arguments: &[&str]) -> (i32, String) {
    gateway.run("bob", arguments).unwrap()
}

fn holds(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_lives_is_listed_replayed_and_exported_as_far_as_it_came() {
    let (world, session, alice) = told(false).await;
    let (code, list) = run(&world.gateway, &["recordings", "list"]);
    assert_eq!(code, 0, "{list}");
    holds(&list, &["SESSION", &session, "alice", TARGET, "open"]);
    let read = async || {
        let (code, text) = run(&world.gateway, &["recordings", "export", &session, "--format", "text"]);
        assert_eq!(code, 0, "{text}");
        text.contains("$1 = 'bound'").then_some(text)
    };
    let text = eventually("all of it to be in the store", SOON, read).await.unwrap();
    holds(&text, &["select 42 as the_answer", "the session was still open"]);
    let (code, replayed) = run(&world.gateway, &["replay", &session]);
    assert_eq!((code, replayed), (0, text), "text is what replay prints");
    let (code, said) = run(&world.gateway, &["verify", &session]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = run(&world.gateway, &["verify", "--since", "1h"]);
    assert_eq!(code, 0, "{said}");
    holds(&said, &["1 sessions are in no digest yet", "VERIFIED"]);
    drop(alice);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_as_json_is_an_object_a_line_for_each_message() {
    let (world, session, _) = told(true).await;
    let (code, printed) = run(&world.gateway, &["recordings", "export", &session, "--format", "json"]);
    assert_eq!(code, 0, "{printed}");
    let lines: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["what"], "header");
    assert_eq!(lines[0]["header"]["person"]["name"], "alice");
    assert_eq!(lines.last().unwrap()["proved"], true);
    let bound = lines.iter().find(|line| line["values"] == "$1 = 'bound'").unwrap();
    assert_eq!(bound["sql"], "select $1::text as asked");
    assert_eq!(bound["direction"], "client_to_gateway");
    chrono::DateTime::parse_from_rfc3339(bound["at"].as_str().unwrap()).unwrap();
    let report = lines.iter().find(|line| line["what"] == "report").unwrap();
    holds(report["text"].as_str().unwrap(), &["22012", "division by zero"]);
}

fn drivers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers")
}

/// asciinema 2.4, and the player of asciinema.org with its own parser: what viewers use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asciicast_of_either_version_plays_in_asciinema_and_in_its_player() {
    let (world, session, _) = told(true).await;
    let script = drivers().join("play_asciicast.mjs");
    for version in ["2", "3"] {
        let path = world.gateway.path().join(format!("session.v{version}.cast"));
        let file = path.to_str().unwrap();
        let export = [
            "recordings",
            "export",
            &session,
            "--format",
            "asciicast",
            "--output",
            file,
        ];
        let arguments = [&export[..], &["--asciicast-version", version]].concat();
        let (code, said) = run(&world.gateway, &arguments);
        assert_eq!(code, 0, "{said}");
        let played = Command::new("node").arg(&script).arg(&path).output().unwrap();
        let errors = String::from_utf8_lossy(&played.stderr).into_owned();
        assert!(played.status.success(), "version {version}: {errors}");
        let played: Value = serde_json::from_slice(&played.stdout).unwrap();
        assert!(played["duration"].as_f64().unwrap() > 0.0, "{played}");
        let shown = played["shown"].as_str().unwrap();
        holds(
            shown,
            &[
                "=> select 42 as the_answer\r\n",
                "the_answer\r\n----------\r\n42\r\n",
                "division by zero",
                "select $1::text as asked  -- $1 = 'bound'\r\n",
                "-- countersign: ended: ",
            ],
        );
        if version == "2" {
            let asciinema = drivers().join(".venv/bin/asciinema");
            assert!(
                asciinema.exists(),
                "{} is missing: run `make drivers`",
                asciinema.display()
            );
            let cat = Command::new(asciinema).arg("cat").arg(&path).output().unwrap();
            assert!(cat.status.success(), "{}", String::from_utf8_lossy(&cat.stderr));
            assert_eq!(String::from_utf8(cat.stdout).unwrap(), shown);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_recording_is_exported_with_a_warning_and_says_so_itself() {
    let (world, session, _) = told(true).await;
    let chunk = recording(&world.gateway, &session).join("0.chunk");
    let mut bytes = std::fs::read(&chunk).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&chunk, bytes).unwrap();
    for (format, itself) in [
        ("text", "select 42 as the_answer"),
        ("json", "\"proved\":false"),
        ("asciicast", "this recording is not proved"),
    ] {
        let (code, printed) = run(&world.gateway, &["recordings", "export", &session, "--format", format]);
        assert_eq!(code, 1, "{printed}");
        holds(&printed, &["WARNING: THIS RECORDING IS NOT PROVED", itself]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_on_disk_has_no_links_and_a_session_without_recording_no_export() {
    let (world, session, _) = told(true).await;
    let (code, said) = run(&world.gateway, &["recordings", "links", &session, "--valid", "1h"]);
    assert_eq!(code, 1, "{said}");
    holds(&said, &["on its own disk", "countersign recordings export"]);
    let (code, said) = run(&world.gateway, &["recordings", "links", &session, "--valid", "13h"]);
    assert_eq!(code, 2, "{said}");
    let nobody = uuid::Uuid::now_v7().to_string();
    let (code, said) = run(&world.gateway, &["recordings", "export", &nobody, "--format", "text"]);
    assert_eq!(code, 1, "{said}");
    let refused = world.gateway.run("alice", &["recordings", "list"]).unwrap();
    assert_eq!(refused.0, 4, "{}", refused.1);
}

/// The whole story, through the gateway's API and past the gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_and_a_killed_gateway_leave_digests_by_which_what_is_missing_shows() {
    let (mut world, first, _) = told(true).await;
    world.gateway.stop().unwrap();
    assert_eq!(digests(&world.gateway).len(), 1, "the stop signs one");
    world.gateway.restart().await.unwrap();
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    alice.simple_query("select 'before the kill'").await.unwrap();
    world.gateway.kill9().unwrap();
    drop(alice);
    world.gateway.restart().await.unwrap();
    let settled = async || (digests(&world.gateway).len() == 2).then_some(());
    eventually("the last digest of the killed run", BURIED, settled)
        .await
        .unwrap();

    let config = world.gateway.config();
    let ways: [Vec<&str>; 2] = [vec![], vec!["--config", config.to_str().unwrap()]];
    let verify = |way: &[&str]| run(&world.gateway, &[&["verify", "--since", "1h"], way].concat());
    let journaled = async || {
        let (code, said) = verify(&ways[0]);
        (code == 0).then_some(said)
    };
    let said = eventually("all to be verified", SOON, journaled).await.unwrap();
    holds(&said, &["2 of 2 runs", "sessions  2,", "VERIFIED"]);
    let (code, said) = run(&world.gateway, &["audit", "--event", "digest_signed"]);
    assert_eq!(code, 0, "{said}");
    holds(&said, &["digest_signed", "names 1 sessions"]);

    for way in &ways {
        let (code, said) = verify(way);
        assert_eq!(code, 0, "{said}");
        for digest in digests(&world.gateway) {
            let whole = std::fs::read(&digest).unwrap();
            std::fs::remove_file(&digest).unwrap();
            let (code, said) = verify(way);
            assert_eq!(code, 1, "{said}");
            holds(&said, &["BROKEN: digests/", "it is missing"]);
            std::fs::write(&digest, whole).unwrap();
        }
        let directory = recording(&world.gateway, &first);
        let aside = directory.with_extension("aside");
        std::fs::rename(&directory, &aside).unwrap();
        let (code, said) = verify(way);
        assert_eq!(code, 1, "{said}");
        holds(&said, &[&format!("BROKEN: session {first}"), "missing"]);
        std::fs::rename(&aside, &directory).unwrap();
    }
}

/// Where a session's recording lies.
fn recording(gateway: &Gateway, session: &str) -> PathBuf {
    let all = files(&gateway.data().join("recordings"));
    let chunk = all
        .iter()
        .find(|path| path.to_string_lossy().contains(session))
        .unwrap();
    chunk.parent().unwrap().to_owned()
}

fn digests(gateway: &Gateway) -> Vec<PathBuf> {
    files(&gateway.data().join("digests"))
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let (mut open, mut found) = (vec![directory.to_owned()], Vec::new());
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { &mut open } else { &mut found }.push(path);
        }
    }
    found.retain(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'));
    found
}
