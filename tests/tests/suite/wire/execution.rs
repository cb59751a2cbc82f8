//! What is approved is what runs, once; and what is known of it when something dies.

use super::Ground;
use countersign_tests::raw::{bind, execute, flush, parse, query, sync};
use countersign_tests::wait::eventually;
use std::time::Duration;

const CHANGE: &str = "delete from t where id = 7";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_approved_bytes_run_once_and_the_same_again_needs_another_approval() {
    let ground = Ground::start().await;
    let mut raw = ground.raw("alice").await;
    raw.send_all(&[parse("s", "delete from t where id = $1"), sync()])
        .await
        .unwrap();
    raw.words().await.unwrap();
    let mut numbers = Vec::new();
    for value in ["3", "3", "4"] {
        raw.send_all(&[bind("", "s", &[value]), execute("", 0), sync()])
            .await
            .unwrap();
        let number = ground.world.waiting().await.unwrap().number;
        assert!(!numbers.contains(&number), "an approval served twice");
        let shown = ground.world.run("bob", &["approvals", "show", &number]).unwrap().1;
        assert!(shown.contains(&format!("$1 = '{value}'")), "{shown}");
        ground.world.approve("bob", &number).unwrap();
        let words = raw.words().await.unwrap();
        assert!(words[1].starts_with("C DELETE"), "{words:?}");
        ground.world.becomes(&number, "done").await.unwrap();
        let (code, said) = ground.world.approve("bob", &number).unwrap();
        assert_ne!(code, 0, "{said}");
        numbers.push(number);
    }
    let binds = ground
        .ear
        .newest()
        .into_iter()
        .filter(|heard| heard.tag == 'B' && heard.body.contains("\0s\0"));
    let values: Vec<String> = binds
        .map(|heard| heard.body.chars().filter(|c| "34".contains(*c)).collect())
        .collect();
    assert_eq!(values, ["3", "3", "4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_can_approve_for_a_client_that_has_gone() {
    let ground = Ground::start().await;
    let mut raw = ground.raw("alice").await;
    raw.send(&query(CHANGE)).await.unwrap();
    let number = ground.world.waiting().await.unwrap().number;
    drop(raw);
    ground.world.becomes(&number, "withdrawn").await.unwrap();
    let (code, said) = ground.world.approve("bob", &number).unwrap();
    assert_ne!(code, 0, "{said}");
    assert!(!ground.ear.heard(CHANGE));
    ground.untouched("withdrawn").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_the_session_abandons_what_is_held() {
    let ground = Ground::start().await;
    let mut raw = ground.raw("alice").await;
    raw.send(&query(CHANGE)).await.unwrap();
    let number = ground.world.waiting().await.unwrap().number;
    let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid()";
    assert!(ground.world.count(kill).await.unwrap() >= 1);
    let words = raw.words().await.unwrap();
    assert!(
        words[0].starts_with("E 57P01") && words.last().unwrap() == "closed",
        "{words:?}"
    );
    ground.world.becomes(&number, "abandoned").await.unwrap();
    ground.untouched("abandoned").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_asked_to_end_abandons_what_is_held_and_says_so() {
    let mut ground = Ground::with(super::options("drain_seconds_max = 2")).await;
    let mut raw = ground.raw("alice").await;
    raw.send(&query(CHANGE)).await.unwrap();
    let number = ground.world.waiting().await.unwrap().number;
    let stopping = ground.world.gateway.stop().unwrap();
    assert!(stopping.success(), "{stopping}");
    let words = raw.words().await.unwrap();
    assert!(
        words[0].starts_with("E 57P01") && words.last().unwrap() == "closed",
        "{words:?}"
    );
    ground.world.gateway.restart().await.unwrap();
    assert_eq!(ground.world.state(&number).unwrap(), "abandoned");
    assert!(!ground.ear.heard(CHANGE));
    ground.untouched("abandoned").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_what_was_held_is_abandoned_and_what_was_running_is_unknown() {
    let mut ground = Ground::start().await;
    let mut held = ground.raw("alice").await;
    held.send(&query(CHANGE)).await.unwrap();
    let held_number = ground.world.waiting().await.unwrap().number;
    let mut running = ground.raw("alice").await;
    running
        .send(&query("delete from t where id = 3 and pg_sleep(5) is not null"))
        .await
        .unwrap();
    let number = eventually("the second is held", Duration::from_secs(20), async || {
        let waiting = ground.world.pending().ok()?;
        waiting
            .into_iter()
            .map(|waiting| waiting.number)
            .find(|number| *number != held_number)
    });
    let running_number = number.await.unwrap();
    ground.world.approve("bob", &running_number).unwrap();
    ground.world.becomes(&running_number, "executing").await.unwrap();
    ground.world.gateway.kill9().unwrap();
    ground.world.gateway.restart().await.unwrap();
    for (number, state) in [(held_number, "abandoned"), (running_number, "unknown")] {
        let mut last = String::new();
        let reached = eventually(state, Duration::from_secs(50), async || {
            last = ground.world.state(&number).unwrap_or_default();
            (last == state).then_some(())
        });
        reached.await.unwrap_or_else(|error| panic!("{error:#}: {last}"));
        let (code, said) = ground.world.approve("bob", &number).unwrap();
        assert_ne!(code, 0, "{said}");
    }
    assert!(!ground.ear.heard(CHANGE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_and_cannot_wait_is_refused_and_journaled_once() {
    let ground = Ground::start().await;
    let mut raw = ground.raw("alice").await;
    // A Bind whose Execute would come later: nobody could be asked for it.
    let begun = [parse("", CHANGE), bind("", "", &[]), flush()];
    raw.send_all(&begun).await.unwrap();
    raw.until(b'E').await.unwrap();
    raw.send(&sync()).await.unwrap();
    raw.words().await.unwrap();
    let told = ground
        .world
        .json("bob", &["audit", "--event", "held,refused", "--json"])
        .unwrap();
    let names: Vec<&str> = told["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["refused", "held"], "{told:#}");
    assert_eq!(told["events"][0]["approval"], told["events"][1]["approval"]);
    ground.untouched("refused").await;
}
