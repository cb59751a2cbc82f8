//! The invariants of the README, seen from outside: the real gateway before a real PostgreSQL.

use anyhow::Result;
use countersign_tests::harness::GatewayOptions;
use countersign_tests::issuer::Claims;
use countersign_tests::postgres::Postgres;
use countersign_tests::tap::Tap;
use countersign_tests::wait::eventually;
use countersign_tests::world::{AUDIENCE, TARGET, World, WorldOptions};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_a_held_operation_reaches_the_upstream_without_a_permit() {
    let server = Postgres::shared().await.unwrap();
    let tap = Tap::before(server.port()).await.unwrap();
    let world = start(WorldOptions {
        server_port: Some(tap.port()),
        ..WorldOptions::default()
    })
    .await;
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    alice.simple_query("select 1").await.unwrap();
    let before = tap.sent();

    let delete = run_aside(alice, "delete from orders where id = 7");
    let held = world.waiting().await.unwrap();
    assert_eq!(
        tap.sent(),
        before,
        "bytes went to the server while the statement is held"
    );
    assert_eq!(world.activity().await.unwrap(), Vec::<String>::new());

    assert_eq!(world.approve("bob", &held.number).unwrap().0, 0);
    delete.await.unwrap().1.unwrap();
    assert!(tap.sent() > before);
    assert_eq!(order(&world, 7).await, 0);

    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    alice.simple_query("select 1").await.unwrap();
    let before = tap.sent();
    let delete = run_aside(alice, "delete from orders where id = 8");
    let held = world.waiting().await.unwrap();
    assert_eq!(world.deny("bob", &held.number, "no").unwrap().0, 0);
    let (_alice, answer) = delete.await.unwrap();
    assert_eq!(answer.unwrap_err().code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    assert_eq!(
        tap.sent(),
        before,
        "bytes went to the server although the statement was denied"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_approval_runs_one_operation() {
    let world = start(WorldOptions::default()).await;
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    let text = "update orders set total_cents = total_cents + 1 where id = 7";
    let first = run_aside(alice, text);
    let held = world.waiting().await.unwrap();
    world.approve("bob", &held.number).unwrap();
    let (alice, answer) = first.await.unwrap();
    answer.unwrap();

    let again = run_aside(alice, text);
    let second = world.waiting().await.unwrap();
    assert_ne!(second.number, held.number);
    assert_eq!(
        world.approve("bob", &held.number).unwrap().0,
        1,
        "a spent approval takes no vote"
    );
    assert_eq!(world.deny("bob", &second.number, "once is enough").unwrap().0, 0);
    assert!(again.await.unwrap().1.is_err());
    assert_eq!(
        world
            .count("select total_cents::bigint from orders where id = 7")
            .await
            .unwrap(),
        1000 + 250 * 7 + 1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_is_recorded_before_it_is_forwarded() {
    let world = start(WorldOptions::default()).await;
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    let delete = run_aside(alice, "delete from orders where id = 7");
    let held = world.waiting().await.unwrap();
    let (code, journal) = world.run("bob", &["audit", "--event", "asked", "--json"]).unwrap();
    assert_eq!(code, 0, "{journal}");
    assert!(journal.contains("delete from orders where id = 7"), "{journal}");
    assert_eq!(order(&world, 7).await, 1);
    world.deny("bob", &held.number, "seen").unwrap();
    let (alice, answer) = delete.await.unwrap();
    assert!(answer.is_err());

    // A journal that cannot be written: what policy allows outright is refused too.
    let lock = lock_journal(&world);
    let answer = tokio::time::timeout(Duration::from_secs(60), alice.simple_query("select 1 as unrecorded")).await;
    assert!(
        answer.unwrap().is_err(),
        "a statement ran although it could not be recorded"
    );
    drop(lock);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unclear_is_refused() {
    let server = Postgres::shared().await.unwrap();
    let tap = Tap::before(server.port()).await.unwrap();
    let world = start(WorldOptions {
        server_port: Some(tap.port()),
        ..WorldOptions::default()
    })
    .await;
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    alice.simple_query("select 1").await.unwrap();
    let long = format!("select '{}'", "x".repeat(2 << 20));
    let deep = format!("select {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    for (text, state) in [
        ("delet from orders where id = 7", "42601"),
        ("select 'no end", "42601"),
        ("execute nobody_prepared_this(7)", "42501"),
        (long.as_str(), "54000"),
        (deep.as_str(), "54001"),
        // A statement whose meaning depends on standard_conforming_strings: the worse reading counts.
        (r"select 'a\'; delete from orders; --'", "42501"),
    ] {
        let before = tap.sent();
        let head: String = text.chars().take(40).collect();
        let error = alice.simple_query(text).await.expect_err(&head);
        let code = error.code().unwrap_or_else(|| panic!("{head}: {error}")).code();
        assert!(
            code == state || (code.starts_with("54") && state.starts_with("54")),
            "{head}: {error:?}"
        );
        assert_eq!(tap.sent(), before, "{head}: bytes went to the server");
        alice.simple_query("select 1").await.expect("the connection works on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_appears_in_no_file_and_no_answer() {
    let mut world = start(WorldOptions::default()).await;
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    alice.simple_query("select 1").await.unwrap();
    let delete = run_aside(alice, "delete from orders where id = 7");
    let held = world.waiting().await.unwrap();
    let (_, shown) = world
        .run("bob", &["approvals", "show", &held.number, "--json"])
        .unwrap();
    world.deny("bob", &held.number, "seen").unwrap();
    drop(delete.await.unwrap());
    let (_, journal) = world.run("bob", &["audit", "--json", "--limit", "1000"]).unwrap();
    world.gateway.stop().unwrap();
    let mut places = vec![
        ("approval".to_owned(), shown.into_bytes()),
        ("journal".to_owned(), journal.into_bytes()),
    ];
    places.push(("log".to_owned(), world.gateway.log().into_bytes()));
    let mut open = vec![world.gateway.data()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => places.push((path.display().to_string(), std::fs::read(&path).unwrap())),
            }
        }
    }
    for secret in [
        world.database.password.clone(),
        world.gateway.token("alice"),
        world.gateway.token("bob"),
    ] {
        for (place, bytes) in &places {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{place} holds a secret");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_and_an_endless_message_meet_a_bound() {
    let gateway = GatewayOptions {
        limits: "handshake_seconds_max = 1".to_owned(),
        ..GatewayOptions::default()
    };
    let world = start(WorldOptions {
        gateway,
        ..WorldOptions::default()
    })
    .await;
    for first in [
        &[][..],
        // An SSLRequest, and then nothing.
        &[0, 0, 0, 8, 4, 210, 22, 47],
        // A startup message of a gigabyte.
        &[0x40, 0, 0, 0, 0, 3, 0, 0],
        // One of a negative length.
        &[0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0],
    ] {
        let mut client = tokio::net::TcpStream::connect(("127.0.0.1", world.gateway.postgres_port()))
            .await
            .unwrap();
        client.write_all(first).await.unwrap();
        let mut rest = Vec::new();
        let end = tokio::time::timeout(SOON, client.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "{first:?}: the gateway still waits");
    }
    world.gateway.connect("alice", TARGET).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_approved_is_what_runs() {
    let world = start(WorldOptions::default()).await;
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    let statement = alice.prepare("delete from orders where id = $1").await.unwrap();

    let (alice, statement, answer) = execute_aside(&world, alice, statement, 7, "bob").await;
    assert_eq!(answer.unwrap(), 1);
    assert_eq!(order(&world, 7).await, 0);

    // The same statement with another value is another operation, with a number of its own.
    let (_, shown) = world.run("bob", &["audit", "--event", "asked", "--json"]).unwrap();
    assert!(
        shown.contains('7'),
        "the bound value is part of what was asked: {shown}"
    );
    let second = tokio::spawn(async move { alice.execute(&statement, &[&8]).await });
    let held = world.waiting().await.unwrap();
    assert_eq!(order(&world, 8).await, 1);
    world.deny("bob", &held.number, "only order 7").unwrap();
    assert!(second.await.unwrap().is_err());
    assert_eq!(order(&world, 8).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_one_approves_their_own_request() {
    let world = start(WorldOptions::default()).await;
    // Alice herself, also as a DBA, also with a name and an address of bob's.
    world.add_person("alice", &["engineering", "dba"]);
    let mut disguised = Claims::person("alice", AUDIENCE, &["dba"]);
    disguised.more.insert("preferred_username".to_owned(), "bob".into());
    disguised.more.insert("email".to_owned(), "bob@example.com".into());
    world
        .gateway
        .sign_in("alice in disguise", world.issuer.token(&disguised));
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    let delete = run_aside(alice, "delete from orders where id = 7");
    let held = world.waiting().await.unwrap();
    for name in ["alice", "alice in disguise"] {
        let (code, said) = world.approve(name, &held.number).unwrap();
        assert!(code == 1 || code == 4, "{name}: {code} {said}");
        assert_eq!(world.state(&held.number).unwrap(), "pending", "{name}");
    }
    assert_eq!(order(&world, 7).await, 1);
    assert_eq!(world.approve("bob", &held.number).unwrap().0, 0);
    delete.await.unwrap().1.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_executing_when_its_holder_died_is_never_run_again() {
    let mut world = start(WorldOptions::default()).await;
    let mut admin = world.server.admin(&world.database.name).await.unwrap();
    let lock = admin.transaction().await.unwrap();
    lock.execute("select 1 from orders where id = 7 for update", &[])
        .await
        .unwrap();
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    let delete = run_aside(alice, "delete from orders where id = 7");
    let held = world.waiting().await.unwrap();
    world.approve("bob", &held.number).unwrap();
    world.becomes(&held.number, "executing").await.unwrap();
    eventually("the statement to wait for the row", SOON, async || {
        world
            .activity()
            .await
            .ok()?
            .iter()
            .any(|line| line.contains("delete from orders"))
            .then_some(())
    })
    .await
    .unwrap();

    world.gateway.kill9().unwrap();
    assert!(delete.await.unwrap().1.is_err());
    // Whatever became of it on the server: from now on there is an order 7 that must not go.
    let backend =
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where query like 'delete from orders%'";
    lock.query(backend, &[]).await.unwrap();
    lock.commit().await.unwrap();
    world.gateway.restart().await.unwrap();
    world.becomes_within(SOON * 4, &held.number, "unknown").await.unwrap();
    let (code, said) = world.approve("bob", &held.number).unwrap();
    assert_eq!(code, 1, "{said}");
    assert_eq!(order(&world, 7).await, 1);
    let (_, journal) = world
        .run("bob", &["audit", "--approval", &held.number, "--json"])
        .unwrap();
    assert_eq!(journal.matches("\"executing\"").count(), 1, "{journal}");
}

async fn start(options: WorldOptions) -> World {
    World::start(options).await.unwrap()
}

type Aside = tokio::task::JoinHandle<(Client, Result<(), tokio_postgres::Error>)>;

/// Sends a statement and does not wait for its end.
fn run_aside(client: Client, text: &str) -> Aside {
    let text = text.to_owned();
    tokio::spawn(async move {
        let answer = client.batch_execute(&text).await;
        (client, answer)
    })
}

/// Executes a prepared statement with one value, which `approver` approves.
async fn execute_aside(
    world: &World,
    client: Client,
    statement: tokio_postgres::Statement,
    value: i32,
    approver: &str,
) -> (Client, tokio_postgres::Statement, Result<u64, tokio_postgres::Error>) {
    let running = tokio::spawn(async move {
        let answer = client.execute(&statement, &[&value]).await;
        (client, statement, answer)
    });
    let held = world.waiting().await.unwrap();
    assert_eq!(world.approve(approver, &held.number).unwrap().0, 0);
    running.await.unwrap()
}

/// How many orders of this number there are: 0 or 1.
async fn order(world: &World, id: i32) -> i64 {
    world
        .count(&format!("select count(*) from orders where id = {id}"))
        .await
        .unwrap()
}

/// Keeps everybody else from writing the embedded store's file, as another process in the middle of a write does.
fn lock_journal(world: &World) -> rusqlite::Connection {
    let entries = std::fs::read_dir(world.gateway.data()).unwrap();
    let database = entries.map(|entry| entry.unwrap().path()).find(|path| {
        let head = path.is_file().then(|| std::fs::read(path).unwrap_or_default());
        head.is_some_and(|bytes| bytes.starts_with(b"SQLite format 3"))
    });
    let connection = rusqlite::Connection::open(database.unwrap()).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection.execute_batch("begin immediate").unwrap();
    connection
}
