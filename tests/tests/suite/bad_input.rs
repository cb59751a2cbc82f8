//! What goes wrong before or beside a statement: each ends in an error of the client's own protocol that says what to
//! do, in the journal where there is a person, and in nothing forwarded.

use countersign_tests::certificates::Authority;
use countersign_tests::harness::{GatewayOptions, TargetOptions};
use countersign_tests::issuer::Claims;
use countersign_tests::ports::free_port;
use countersign_tests::postgres::Postgres;
use countersign_tests::world::{AUDIENCE, TARGET, World, WorldOptions};

/// A world with targets that cannot be reached, beside the one that can.
async fn world() -> World {
    let server = Postgres::shared().await.unwrap();
    let database = server.database("select 1").await.unwrap();
    let named = |name: &str| TargetOptions::of(name, &server, &database);
    let targets = vec![
        TargetOptions {
            port: free_port().unwrap(),
            ..named("down")
        },
        TargetOptions {
            ca: Some(Authority::new("somebody else").unwrap().pem().to_owned()),
            ..named("stranger")
        },
        TargetOptions {
            password: "wrong".to_owned(),
            ..named("locked-out")
        },
    ];
    let gateway = GatewayOptions {
        targets,
        ..GatewayOptions::default()
    };
    let options = WorldOptions {
        gateway,
        ..WorldOptions::default()
    };
    World::start_on(server, options).await.unwrap()
}

/// Runs `select 1` by psql and gives its exit code and what it said.
fn select(world: &World, who: &str, target: &str) -> (i32, String) {
    let mut psql = world.gateway.psql(who, target);
    let output = psql.args(["--command", "select 1"]).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[track_caller]
fn check(world: &World, who: &str, target: &str, says: &[&str]) {
    let (code, said) = select(world, who, target);
    assert_ne!(code, 0, "{who} on {target}: {said}");
    for part in says {
        assert!(said.contains(part), "{who} on {target}: {part:?} is missing in: {said}");
    }
    let token = world.gateway.token(who);
    assert!(!world.gateway.log().contains(&token), "the token is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_prove_nothing_are_refused_with_what_to_do() {
    let world = world().await;
    let usual = Claims::person("alice", AUDIENCE, &["engineering"]);
    let expired = Claims {
        lifetime_seconds: -3600,
        ..usual.clone()
    };
    let elsewhere = Claims::person("alice", "another-service", &["engineering"]);
    let genuine = world.issuer.token(&usual);
    let (body, _) = genuine.rsplit_once('.').unwrap();
    for (name, token, says) in [
        ("expired", world.issuer.token(&expired), "expired"),
        ("foreign", world.issuer.token(&elsewhere), "another-service"),
        ("unsigned", format!("{body}."), "countersign"),
        ("tampered", format!("{body}.{}", "A".repeat(342)), "signature"),
        ("word", "open-sesame".to_owned(), "token"),
    ] {
        world.gateway.sign_in(name, token);
        check(&world, name, TARGET, &["FATAL", says, "HINT"]);
    }
    let refused = world.gateway.log().matches("sign-in refused").count();
    assert_eq!(refused, 5, "one line for each");
    assert_eq!(select(&world, "alice", TARGET).0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_that_cannot_be_had_are_refused_and_journaled() {
    let world = world().await;
    let rows: [(&str, &[&str]); 5] = [
        (
            "nowhere",
            &["FATAL", "no target called", "down, locked-out, shop, stranger"],
        ),
        (
            "down",
            &["FATAL", "target down is not available", "no connection", "HINT"],
        ),
        ("stranger", &["FATAL", "certificate", "Nothing was sent to it"]),
        ("locked-out", &["FATAL", "did not let the gateway sign in (28P01)"]),
        ("shop/nodatabase", &["FATAL", "database \"nodatabase\" does not exist"]),
    ];
    for (target, says) in rows {
        check(&world, "alice", target, says);
    }
    let audit = ["audit", "--event", "sign_in_refused", "--json"];
    let (code, journal) = world.gateway.run("bob", &audit).unwrap();
    assert_eq!(code, 0, "{journal}");
    assert_eq!(journal.matches("\"sign_in_refused\"").count(), rows.len(), "{journal}");
    assert!(journal.contains("alice"), "{journal}");
    assert_eq!(select(&world, "alice", TARGET).0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_store_lets_nothing_run_and_nothing_is_lost_when_it_comes_back() {
    let world = world().await;
    let before = world.count("select count(*) from orders").await.unwrap();
    let lock = rusqlite::Connection::open(world.gateway.data().join("countersign.db")).unwrap();
    lock.execute_batch("begin immediate").unwrap();
    let (code, said) = tokio::task::block_in_place(|| select(&world, "alice", TARGET));
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("the journal is not available"), "{said}");
    lock.execute_batch("rollback").unwrap();
    assert_eq!(select(&world, "alice", TARGET).0, 0);
    assert_eq!(world.count("select count(*) from orders").await.unwrap(), before);
}
