//! Refusals, holds and their ends, in and around transactions: client and server agree, and no lock stays.

use super::Ground;
use countersign_tests::raw::{Raw, about, bind, cancel, execute, extended, flush, parse, query, sync};
use countersign_tests::wait::eventually;
use std::time::Duration;

const CHANGE: &str = "delete from t where id = 7";

/// How what is held ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Approved,
    Denied,
    Expired,
    Cancelled,
}

impl Fate {
    fn code(self) -> &'static str {
        match self {
            Self::Approved => "C DELETE 1",
            Self::Denied | Self::Expired => "E 42501",
            Self::Cancelled => "E 57014",
        }
    }

    /// Waits until something is held, and ends it.
    async fn come(self, ground: &Ground, raw: &Raw) {
        let number = ground.world.waiting().await.unwrap().number;
        match self {
            Self::Approved => assert_eq!(ground.world.approve("bob", &number).unwrap().0, 0),
            Self::Denied => assert_eq!(ground.world.deny("bob", &number, "not today").unwrap().0, 0),
            Self::Expired => {}
            Self::Cancelled => cancel(&ground.world.gateway, raw.key).await.unwrap(),
        }
    }
}

/// Prepares with `before`, sends `bytes` which are held, lets their fate come, and checks the ReadyForQuery.
async fn check(ground: &Ground, what: &str, before: &[&str], bytes: Vec<u8>, fate: Fate, ready: &str) {
    let what = format!("{what}, {fate:?}");
    let mut raw = ground.raw("alice").await;
    for text in before {
        let words = raw.query(text).await.unwrap();
        assert!(!words[0].starts_with('E'), "{what}: {words:?}");
    }
    raw.send(&bytes).await.unwrap();
    fate.come(ground, &raw).await;
    let words = raw.words().await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
    let all = words.join(", ");
    assert!(all.contains(fate.code()), "{what}: {all}");
    assert_eq!(words.last().map(String::as_str), Some(ready), "{what}: {all}");
    // What the client believes is what the server believes.
    let state = if ready == "Z I" { 0 } else { 1 };
    assert_eq!(ground.in_transaction().await, state, "{what}");
    if fate != Fate::Approved && !before.iter().any(|text| text.starts_with("savepoint")) {
        assert_eq!(ground.locks("t").await, 0, "{what}");
    }
    if ready == "Z E" {
        let failed = raw.query("select 1").await.unwrap();
        assert!(failed[0].starts_with("E 25P02"), "{what}: {failed:?}");
    }
    if ready != "Z I" {
        assert_eq!(raw.query("rollback").await.unwrap(), ["C ROLLBACK", "Z I"], "{what}");
    }
    assert_eq!(raw.query("select 1").await.unwrap(), ["C SELECT 1", "Z I"], "{what}");
    drop(raw);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_ends_a_hold_client_and_server_agree_on_the_transaction() {
    let ground = Ground::start().await;
    let lock = "lock table t in row share mode";
    for fate in [Fate::Denied, Fate::Cancelled] {
        check(&ground, "alone", &[], query(CHANGE), fate, "Z I").await;
        check(
            &ground,
            "extended",
            &[],
            [extended(CHANGE, &[]), sync()].concat(),
            fate,
            "Z I",
        )
        .await;
        check(&ground, "in a block", &["begin", lock], query(CHANGE), fate, "Z E").await;
        check(
            &ground,
            "extended in a block",
            &["begin", lock],
            [extended(CHANGE, &[]), sync()].concat(),
            fate,
            "Z E",
        )
        .await;
        check(
            &ground,
            "behind a savepoint",
            &["begin", lock, "savepoint a"],
            query(CHANGE),
            fate,
            "Z E",
        )
        .await;
        check(
            &ground,
            "begun in the same batch",
            &[],
            [extended("begin", &[]), extended(CHANGE, &[]), sync()].concat(),
            fate,
            "Z E",
        )
        .await;
        check(
            &ground,
            "in one string",
            &[],
            query(&format!("select 1; {CHANGE}")),
            fate,
            "Z I",
        )
        .await;
    }
    check(
        &ground,
        "in a block",
        &["begin"],
        query("delete from brief where id = 1"),
        Fate::Expired,
        "Z E",
    )
    .await;
    ground.untouched("refused").await;
    check(
        &ground,
        "in a block",
        &["begin", lock],
        query(CHANGE),
        Fate::Approved,
        "Z T",
    )
    .await;
    ground.untouched("rolled back").await;
    check(&ground, "alone", &[], query(CHANGE), Fate::Approved, "Z I").await;
    assert_eq!(ground.world.count("select count(*) from t").await.unwrap(), 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_keeps_no_lock_for_a_statement_that_was_only_described() {
    let ground = Ground::start().await;
    let mut raw = ground.raw("alice").await;
    raw.send_all(&[
        parse("s", "update t set note = $1 where id = 7"),
        about(b'D', b'S', "s"),
        flush(),
    ])
    .await
    .unwrap();
    raw.until(b'n').await.unwrap();
    raw.send_all(&[bind("", "s", &["new"]), execute("", 0), sync()])
        .await
        .unwrap();
    let number = ground.world.waiting().await.unwrap().number;
    assert_eq!((ground.locks("t").await, ground.in_transaction().await), (0, 0));
    assert!(!ground.ear.heard("new"), "the values are with the server already");
    ground.world.approve("bob", &number).unwrap();
    assert_eq!(raw.words().await.unwrap(), ["2", "C UPDATE 1", "Z I"]);
    ground.world.becomes(&number, "done").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_savepoint_saves_the_session_from_its_refused_transaction() {
    let ground = Ground::start().await;
    let mut raw = ground.raw("carol").await;
    for text in ["begin", "savepoint a"] {
        raw.query(text).await.unwrap();
    }
    let words = raw.query("delete from secret").await.unwrap();
    assert!(words[0].starts_with("E 42501") && words[1] == "Z E", "{words:?}");
    assert_eq!(
        raw.query("rollback to savepoint a").await.unwrap(),
        ["C ROLLBACK", "Z T"]
    );
    // Longer than a failed block with savepoints may stand.
    let slept = raw.query("select pg_sleep(11)").await.unwrap();
    assert_eq!(slept, ["C SELECT 1", "Z T"]);
    let idle = tokio::time::timeout(Duration::from_millis(500), raw.next()).await;
    assert!(idle.is_err(), "the session was ended: {idle:?}");
    assert_eq!(raw.query("commit").await.unwrap(), ["C COMMIT", "Z I"]);

    for text in ["begin", "savepoint a", "delete from secret"] {
        raw.query(text).await.unwrap();
    }
    let words = raw.words().await.unwrap();
    assert!(
        words[0].starts_with("E 57P01"),
        "a failed block with savepoints stands for ever: {words:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sessions_change_about_themselves_does_no_harm_to_honest_work() {
    let ground = Ground::start().await;
    for (what, texts) in [
        (
            "an isolation level behind SET LOCAL",
            &[
                "begin",
                "set local lock_timeout = '5s'",
                "set transaction isolation level serializable",
                "select * from t",
                "commit",
            ][..],
        ),
        (
            "a cursor",
            &[
                "begin",
                "declare c cursor for select * from t",
                "fetch 2 from c",
                "close c",
                "commit",
            ][..],
        ),
        (
            "a cursor that outlives its transaction",
            &[
                "begin",
                "declare c cursor with hold for select * from t",
                "commit",
                "fetch 2 from c",
                "close c",
            ][..],
        ),
        ("nothing at all", &["", ";", "-- a comment", " ; ; "][..]),
        (
            "PREPARE and EXECUTE",
            &[
                "prepare s (int) as select * from t where id = $1",
                "execute s (3)",
                "deallocate s",
            ][..],
        ),
        (
            "search_path",
            &[
                "set search_path = other",
                "select * from t",
                "reset search_path",
                "select * from t",
            ][..],
        ),
        (
            "search_path, rolled back",
            &["begin", "set search_path = other", "rollback", "select * from t"][..],
        ),
        ("LISTEN", &["listen news", "unlisten news"][..]),
        (
            "DISCARD ALL",
            &[
                "prepare s as select 1",
                "discard all",
                "prepare s as select 2",
                "execute s",
            ][..],
        ),
        (
            "end and begin in one string",
            &["begin; select 1", "commit; begin", "commit"][..],
        ),
    ] {
        let mut raw = ground.raw("carol").await;
        for text in texts {
            let words = raw.query(text).await.unwrap();
            assert!(
                !words.iter().any(|word| word.starts_with('E')),
                "{what}: {text}: {words:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_request_reaches_what_its_key_stands_for_and_nothing_else() {
    let ground = Ground::start().await;
    let gateway = &ground.world.gateway;
    let mut raw = ground.raw("alice").await;
    let sleeps = || async {
        ground
            .world
            .activity()
            .await
            .unwrap()
            .iter()
            .any(|line| line.contains("pg_sleep"))
            .then_some(())
    };

    raw.send(&query("select pg_sleep(60)")).await.unwrap();
    eventually("it sleeps", Duration::from_secs(20), sleeps).await.unwrap();
    for bit in 0..8 {
        let mut wrong = raw.key;
        wrong[bit] ^= 1;
        cancel(gateway, wrong).await.unwrap();
    }
    assert!(sleeps().await.is_some(), "a wrong key cancelled it");
    cancel(gateway, raw.key).await.unwrap();
    assert!(raw.words().await.unwrap()[0].starts_with("E 57014"));

    // What came too late for one hold does not reach the next.
    for _ in 0..2 {
        raw.send(&query(CHANGE)).await.unwrap();
        ground.world.waiting().await.unwrap();
        let (one, two) = tokio::join!(cancel(gateway, raw.key), cancel(gateway, raw.key));
        one.and(two).unwrap();
        assert!(raw.words().await.unwrap()[0].starts_with("E 57014"));
    }
    raw.send(&query(CHANGE)).await.unwrap();
    let number = ground.world.waiting().await.unwrap().number;
    ground.world.approve("bob", &number).unwrap();
    assert_eq!(raw.words().await.unwrap(), ["C DELETE 1", "Z I"]);
    assert_eq!(ground.world.state(&number).unwrap(), "done");
    // With nothing running it does nothing, however often it comes.
    for _ in 0..5 {
        cancel(gateway, raw.key).await.unwrap();
    }
    raw.query("set lock_timeout = 0").await.unwrap();
    assert_eq!(raw.query("select 1").await.unwrap(), ["C SELECT 1", "Z I"]);
}
