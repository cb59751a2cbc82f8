use super::EmbeddedStore;
use crate::approvals::{ApprovalQuery, ApprovalStore, ApprovalStoreExt, ChangeError, StoreError};
use crate::domain::approval::{Approval, Change, Choice, Rejected};
use crate::domain::audit::{Chain, Event, Happening, verify_chain};
use crate::domain::example::{alice, at, ballot, new_approval, pending, person, session, terms};
use crate::domain::id::ApprovalId;
use crate::journal::contract::story;
use crate::journal::{Journal, JournalError, JournalQuery};
use rusqlite::Connection;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A new store, and where it is.
fn store() -> (TempDir, PathBuf, EmbeddedStore) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = EmbeddedStore::open(&path).unwrap();
    (directory, path, store)
}

fn numbered(number: u8) -> Approval {
    let mut new = new_approval(terms(1));
    new.id = ApprovalId::from_random([1, 0, 0, 0, number]);
    Approval::open(new, at(0)).unwrap()
}

/// Changes the file behind the store's back.
fn tamper(path: &Path, sql: &str) {
    let file = Connection::open(path).unwrap();
    file.execute_batch("DROP TRIGGER IF EXISTS journal_keeps_bytes; DROP TRIGGER IF EXISTS journal_keeps_events;")
        .unwrap();
    file.execute_batch(sql).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_programs_on_one_file_agree_on_one_end() {
    let (_directory, path, gateway) = store();
    let bot = EmbeddedStore::open(&path).unwrap();
    let approval = pending(terms(1));
    gateway.open(&approval, &[]).await.unwrap();
    let votes = (0..50).map(|number| {
        let (store, id) = (
            if number % 2 == 0 { gateway.clone() } else { bot.clone() },
            approval.id.clone(),
        );
        let vote = Change::Vote(ballot(person(&format!("dba{number}"), &["dba"]), Choice::Approve));
        tokio::spawn(async move { store.change(&id, vote, at(1)).await })
    });
    let mut winners = 0;
    for vote in votes.collect::<Vec<_>>() {
        match vote.await.unwrap() {
            Ok(_) => winners += 1,
            Err(ChangeError::Rejected(Rejected::AlreadyApproved { .. })) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(winners, 1);
    assert_eq!(
        gateway.read(&approval.id).await.unwrap(),
        bot.read(&approval.id).await.unwrap()
    );
    assert_eq!(gateway.take_feed("gateway-1").await.unwrap(), [approval.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_does_not_fail_those_beside_it() {
    let (_directory, _path, store) = store();
    let calls = (0..100).map(|number| {
        let (store, approval) = (store.clone(), numbered(if number % 2 == 0 { 0 } else { number }));
        tokio::spawn(async move { store.create(&approval, &[]).await })
    });
    let mut made = 0;
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Ok(()) => made += 1,
            Err(StoreError::Conflict { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(made, 51);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_locked_by_another_program_is_unavailable_within_the_deadline() {
    let (_directory, path, store) = store();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let started = Instant::now();
    let calls = (0..5).map(|number| {
        let (store, approval) = (store.clone(), numbered(number));
        tokio::spawn(async move { store.create(&approval, &[]).await })
    });
    for call in calls.collect::<Vec<_>>() {
        let told = call.await.unwrap().unwrap_err().to_string();
        assert!(
            told.contains("unavailable") && told.contains("store.db") && told.contains("lock"),
            "{told}"
        );
    }
    assert!(
        started.elapsed() < Duration::from_secs(7),
        "it took {:?}",
        started.elapsed()
    );
    assert!(
        matches!(store.read(&numbered(0).id).await, Err(StoreError::NotFound(_))),
        "a writer held up a reader"
    );
    other.execute_batch("ROLLBACK").unwrap();
    assert!(
        store.create(&numbered(0), &[]).await.is_ok(),
        "the store did not recover"
    );
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_loses_nothing() {
    let (_directory, _path, store) = store();
    let before = story(session(1), &alice(), "orders", "SELECT 1");
    store.append(&before).await.unwrap();
    let limit = |pages: &'static str| {
        store.write(move |file| {
            file.query_row(pages, [], |_| Ok(()))?;
            Ok(Ok::<_, StoreError>(()))
        })
    };
    limit("PRAGMA max_page_count = 1").await.unwrap().unwrap();
    let big = story(session(2), &alice(), "orders", &"x".repeat(100_000));
    let told = store.append(&big).await.unwrap_err().to_string();
    assert!(told.contains("full") && told.contains("make room"), "{told}");
    limit("PRAGMA max_page_count = 1000000").await.unwrap().unwrap();
    assert_eq!(store.session(session(1)).await.unwrap(), before);
    assert_eq!(store.session(session(2)).await.unwrap(), []);
    store.append(&big).await.unwrap();
}

#[tokio::test]
async fn a_read_that_nobody_waits_for_is_stopped() {
    let (_directory, _path, store) = store();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let read = store.read_scan(move |file| {
        begun.send(()).unwrap();
        Ok(Ok::<i64, StoreError>(file.query_row(endless, [], |row| row.get(0))?))
    });
    tokio::select! {
        answer = read => panic!("an endless read ended: {answer:?}"),
        begun = has_begun => begun.unwrap(),
    }
    assert!(store.search(&JournalQuery::default()).await.unwrap().events.is_empty());
}

#[tokio::test]
async fn a_flipped_bit_in_a_stored_event_is_found() {
    let (_directory, path, store) = store();
    let events = story(session(1), &alice(), "orders", "SELECT 'é'");
    store.append(&events).await.unwrap();
    let file = Connection::open(&path).unwrap();
    tamper(&path, "");
    let body: Vec<u8> = file
        .query_row("SELECT CAST(body AS BLOB) FROM journal WHERE seq = 1", [], |row| {
            row.get(0)
        })
        .unwrap();
    let mut put = file
        .prepare("UPDATE journal SET body = CAST(? AS TEXT) WHERE seq = 1")
        .unwrap();
    for place in 0..body.len() {
        let mut flipped = body.clone();
        flipped[place] ^= 1 << (place % 8);
        put.execute([&flipped]).unwrap();
        // Either it does not read, or it reads as what its hash does not cover.
        let found = match store.session(session(1)).await {
            Err(JournalError::Damaged { seq, .. }) => Some(seq),
            Ok(read) => verify_chain(&read).err().map(|broken| broken.seq),
            Err(other) => panic!("byte {place}: {other}"),
        };
        assert_eq!(found, Some(1), "byte {place}");
    }
    put.execute([&body]).unwrap();
    assert_eq!(store.session(session(1)).await.unwrap(), events);
}

#[tokio::test]
async fn a_change_of_a_column_that_searches_read_is_found() {
    for change in [
        "seq = 9",
        "at = at + 1",
        "event = 'refused'",
        "issuer = 'x'",
        "issuer = NULL",
        "subject = 'x'",
        "subject = NULL",
        "target = 'other'",
        "approval = 'K7Q2M4XA'",
        "words = ''",
        "words = CAST(x'ff' AS TEXT)",
    ] {
        let (_directory, path, store) = store();
        store
            .append(&story(session(1), &alice(), "orders", "SELECT 1"))
            .await
            .unwrap();
        tamper(&path, &format!("UPDATE journal SET {change} WHERE seq = 5"));
        let read = store.session(session(1)).await;
        assert!(matches!(read, Err(JournalError::Damaged { .. })), "{change}: {read:?}");
    }
}

#[tokio::test]
async fn an_event_that_is_taken_out_or_moved_breaks_the_chain() {
    for change in [
        "DELETE FROM journal WHERE seq = 2",
        "UPDATE journal SET session = 'x' WHERE seq = 2",
    ] {
        let (_directory, path, store) = store();
        store
            .append(&story(session(1), &alice(), "orders", "SELECT 1"))
            .await
            .unwrap();
        tamper(&path, change);
        let broken = verify_chain(&store.session(session(1)).await.unwrap()).unwrap_err();
        assert_eq!(broken.seq, 2, "{change}");
    }
}

#[tokio::test]
async fn the_journal_refuses_to_change_what_it_holds() {
    let (_directory, path, store) = store();
    store
        .append(&story(session(1), &alice(), "orders", "SELECT 1"))
        .await
        .unwrap();
    let file = Connection::open(&path).unwrap();
    for change in [
        "UPDATE journal SET body = ''",
        "DELETE FROM journal",
        "UPDATE people SET word = ''",
        "DELETE FROM people",
    ] {
        assert_eq!(
            file.execute(change, []).unwrap_err().to_string(),
            "the journal is append-only"
        );
    }
}

#[tokio::test]
async fn a_damaged_approval_decides_nothing_and_hides_no_other() {
    for change in [
        "state = 'approved'",
        "version = 7",
        "lease_until = 0",
        "record = '{}'",
        "record = record || ' '",
    ] {
        let (_directory, path, store) = store();
        let approval = pending(terms(1));
        store.open(&approval, &[]).await.unwrap();
        tamper(&path, &format!("UPDATE approvals SET {change}"));
        let read = store.read(&approval.id).await;
        assert!(matches!(read, Err(StoreError::Damaged { .. })), "{change}: {read:?}");
        let sound = numbered(1);
        store.open(&sound, &[]).await.unwrap();
        assert_eq!(
            store.list(&ApprovalQuery::default()).await.unwrap(),
            std::slice::from_ref(&sound),
            "{change}"
        );
        assert_eq!(store.overdue(at(60)).await.unwrap(), [sound], "{change}");
    }
}

/// In a process of its own it writes until it is killed; among the other tests it writes a little.
#[tokio::test]
async fn a_child_writes_events_and_says_each_that_is_durable() {
    let (directory, path, count) = match std::env::var("COUNTERSIGN_TEST_STORE") {
        Ok(path) => (None, PathBuf::from(path), u64::MAX),
        Err(_) => {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("store.db");
            (Some(directory), path, 10)
        }
    };
    let store = EmbeddedStore::open(path).unwrap();
    let mut chain = Chain::new(session(7), "child", None, None);
    for number in 0..count {
        let event = chain.next(at(0), Happening::GatewaySent { what: "x".repeat(500) });
        store.append(&[event]).await.unwrap();
        writeln!(std::io::stdout(), "durable {number}").unwrap();
    }
    drop(directory);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_to_be_durable_survives_a_kill_while_another_program_writes() {
    let (_directory, path, ours) = store();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "embedded::tests::a_child_writes_events_and_says_each_that_is_durable",
            "--nocapture",
        ])
        .env("COUNTERSIGN_TEST_STORE", &path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let mut durable = 0;
    let mut chain = Chain::new(session(8), "parent", None, None);
    let mut written: Vec<Event> = Vec::new();
    while durable < 100 {
        let line = lines.next().expect("the child ended by itself");
        durable = line
            .strip_prefix("durable ")
            .map_or(durable, |number| number.parse().unwrap());
        if written.len() < 50 {
            written.push(chain.next(at(0), Happening::GatewaySent { what: line }));
            ours.append(&written[written.len() - 1..]).await.unwrap();
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    durable = lines
        .filter_map(|line| line.strip_prefix("durable ")?.parse().ok())
        .last()
        .unwrap_or(durable);
    drop(ours);

    let again = EmbeddedStore::open(&path).unwrap();
    let found = again.session(session(7)).await.unwrap();
    assert!(
        found.len() as u64 > durable,
        "{} events of {durable} are there",
        found.len()
    );
    assert_eq!(verify_chain(&found), Ok(()));
    assert_eq!(again.session(session(8)).await.unwrap(), written);
    let health: String = Connection::open(&path)
        .unwrap()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(health, "ok");
}
