//! A statement that is longer than what a record keeps of it: kept whole and encrypted, read, approved, run.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use countersign_tests::world::{TARGET, World, WorldOptions};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};

const SECRET: &str = "hunter2-and-more";
const END: &str = "the end of a long statement";

async fn world() -> World {
    World::start(WorldOptions::default()).await.unwrap()
}

/// An UPDATE of more than 40 KB that sets one order's state, with a password in a comment.
fn statement() -> String {
    let notes: String = (0..1000)
        .map(|number| format!("-- note {number}: why this order is closed, at some length\n"))
        .collect();
    format!("update orders set state = 'closed' -- password={SECRET}\n{notes}-- {END}\nwhere id = 7;\n")
}

/// Alice runs a file with psql.
fn psql(world: &World, text: &str) -> Child {
    let file = world.gateway.path().join("statement.sql");
    std::fs::write(&file, text).unwrap();
    let mut psql = world.gateway.psql("alice", TARGET);
    psql.arg("--file").arg(file).args(["--set", "ON_ERROR_STOP=1"]);
    psql.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    psql.spawn().unwrap()
}

/// What psql printed, and whether it was content.
fn ended(psql: Child) -> (bool, String) {
    let output = psql.wait_with_output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
}

fn objects(world: &World) -> Vec<PathBuf> {
    match std::fs::read_dir(world.gateway.data().join("operations")) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

async fn closed(world: &World) -> i64 {
    let closed = "select count(*) from orders where id = 7 and state = 'closed'";
    world.count(closed).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_statement_is_approved_only_by_who_has_read_the_whole_of_it() {
    let world = world().await;
    let statement = statement();
    assert!(statement.len() > 40_000);
    let psql = psql(&world, &statement);
    let held = world.waiting().await.unwrap();
    let number = held.number.as_str();

    let record = world.json("bob", &["approvals", "show", number, "--json"]).unwrap();
    let shown = record["operation"]["display"].as_str().unwrap();
    assert!(shown.len() <= 16 << 10 && !shown.contains(END));
    assert!(record["operation"]["display_bytes"].as_u64().unwrap() > 40_000);
    let (code, card) = world.run("bob", &["approvals", "show", number]).unwrap();
    assert_eq!(code, 0, "{card}");
    assert!(card.contains("This is not all of it: 16384 of "), "{card}");

    let (code, said) = world.approve("bob", number).unwrap();
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains(&format!("countersign approvals show {number} --whole")),
        "{said}"
    );
    assert_eq!(world.state(number).unwrap(), "pending");

    let (code, whole) = world.run("bob", &["approvals", "show", number, "--whole"]).unwrap();
    assert_eq!(code, 0, "{whole}");
    assert!(whole.contains("note 0:") && whole.contains("note 999:") && whole.contains(END));
    assert!(!whole.contains(SECRET), "the whole text is masked too");
    let (code, said) = world.approve("bob", number).unwrap();
    assert_eq!(code, 0, "{said}");
    let (content, printed) = ended(psql);
    assert!(content && printed.contains("UPDATE 1"), "{printed}");
    assert_eq!(closed(&world).await, 1);

    let (code, journal) = world.run("bob", &["audit", "--event", "audit_queried"]).unwrap();
    assert_eq!(code, 0, "{journal}");
    assert!(
        journal.contains(&format!("operation of approval {number}, whole text")),
        "{journal}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_lies_encrypted_on_the_disk_and_only_auditors_read_it_exactly() {
    let world = world().await;
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    alice.simple_query("select 1 as not_held").await.unwrap();
    assert_eq!(objects(&world), Vec::<PathBuf>::new(), "what runs outright is not kept");
    let statement = statement();
    let psql = psql(&world, &statement);
    let held = world.waiting().await.unwrap();
    let number = held.number.as_str();

    let record = world.json("bob", &["approvals", "show", number, "--json"]).unwrap();
    let digest = record["operation"]["digest"].as_str().unwrap();
    let path = world.gateway.data().join("operations").join(digest);
    assert_eq!(objects(&world), std::slice::from_ref(&path));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let stored = std::fs::read(&path).unwrap();
    for text in [SECRET, END, "update orders", "note 999", "password"] {
        let found = stored.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!found, "{text} stands in {}", path.display());
    }
    let key = world.gateway.data().join("keys/operations.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    let exact = ["approvals", "show", number, "--exact", "--json"];
    let (code, said) = world.run("alice", &exact).unwrap();
    assert_eq!(code, 4, "{said}");
    let view = world.json("bob", &exact).unwrap();
    let part = &view["parts"][0];
    assert_eq!(part["tag"], "query");
    let bytes = BASE64_STANDARD.decode(part["base64"].as_str().unwrap()).unwrap();
    assert!(
        String::from_utf8(bytes)
            .unwrap()
            .contains(&format!("password={SECRET}"))
    );
    let (code, printed) = world.run("bob", &["approvals", "show", number, "--exact"]).unwrap();
    assert_eq!(code, 0, "{printed}");
    assert!(printed.starts_with("query\n"), "{printed}");
    let journal = world
        .json("bob", &["audit", "--event", "audit_queried", "--json"])
        .unwrap();
    let queries: Vec<&Value> = journal["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["query"])
        .collect();
    let wanted = format!("operation of approval {number}, exact parts");
    assert!(queries.contains(&&Value::from(wanted)), "{queries:?}");

    // To deny, nothing needs to be read.
    assert_eq!(world.deny("dora-who-is-nobody", number, "no").unwrap().0, 4);
    assert_eq!(world.deny("bob", number, "not today").unwrap().0, 0);
    let (content, printed) = ended(psql);
    assert!(!content && printed.contains("not today"), "{printed}");
    assert_eq!(closed(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_kept_whole_is_not_held_and_not_run() {
    let world = world().await;
    std::fs::write(world.gateway.data().join("operations"), "a file stands in the way").unwrap();
    let (content, printed) = ended(psql(&world, "update orders set state = 'closed' where id = 7;\n"));
    assert!(!content, "{printed}");
    assert!(
        printed.contains("the store of operations is not available, so nothing was run"),
        "{printed}"
    );
    assert_eq!(closed(&world).await, 0);
    assert_eq!(world.pending().unwrap(), []);
    let (code, journal) = world.run("bob", &["audit", "--event", "asked,refused"]).unwrap();
    assert_eq!(code, 0, "{journal}");
    assert!(
        journal.contains("update orders") && journal.contains("the store of operations"),
        "{journal}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_lost_its_key_does_not_begin_with_another() {
    let mut world = world().await;
    let psql = psql(&world, "update orders set state = 'closed' where id = 7;\n");
    let held = world.waiting().await.unwrap();
    world.deny("bob", &held.number, "no").unwrap();
    ended(psql);
    world.gateway.stop().unwrap();
    let key = world.gateway.data().join("keys/operations.key");
    let aside = key.with_extension("aside");
    std::fs::rename(&key, &aside).unwrap();
    let error = world.gateway.restart().await.unwrap_err().to_string();
    assert!(error.contains("operations.key is missing"), "{error}");
    std::fs::rename(&aside, &key).unwrap();
    world.gateway.restart().await.unwrap();
    let (code, whole) = world
        .run("bob", &["approvals", "show", &held.number, "--whole"])
        .unwrap();
    assert_eq!(code, 0, "{whole}");
    assert!(
        whole.contains("update orders set state = 'closed' where id = 7"),
        "{whole}"
    );
}
