//! Approved together with what is alike, for a while: what runs by it, what does not, and how it is taken back.

use countersign_tests::world::{TARGET, World, WorldOptions};
use std::time::Duration;
use tokio_postgres::Client;

/// Runs a statement that must not be held: nobody is there to approve it.
async fn runs(client: &Client, statement: &str) {
    let ran = tokio::time::timeout(Duration::from_secs(10), client.simple_query(statement)).await;
    let ran = ran.unwrap_or_else(|_| panic!("{statement} is held"));
    ran.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// Runs a statement that must be held; bob denies it.
async fn is_held(world: &World, client: &Client, statement: &str) {
    let asked = client.simple_query(statement);
    let denied = async {
        let number = world.waiting().await.unwrap().number;
        world.deny("bob", &number, "ask again").unwrap();
    };
    let (asked, ()) = tokio::join!(asked, denied);
    let said = asked.expect_err(statement).to_string();
    assert!(said.contains("db error"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_alike_runs_until_somebody_takes_the_grant_back() {
    let world = World::start(WorldOptions::default()).await.unwrap();
    let client = world.gateway.connect("alice", TARGET).await.unwrap();
    let first = client.simple_query("update orders set state = 'sent' where id = 1");
    let approved = async {
        let number = world.waiting().await.unwrap().number;
        let (code, said) = world.run("bob", &["approvals", "approve", &number, "--grant"]).unwrap();
        assert_eq!(code, 0, "{said}");
        number
    };
    let (first, number) = tokio::join!(first, approved);
    first.unwrap();

    // Other rows, the same way.
    for id in 2..=4 {
        runs(&client, &format!("update orders set state = 'sent' where id = {id}")).await;
    }
    // Another way of changing the same table, another table, another session.
    is_held(&world, &client, "delete from orders where id = 5").await;
    is_held(&world, &client, "insert into orders select * from orders where id = 5").await;
    is_held(&world, &client, "update customers set name = name where id = 1").await;
    let other = world.gateway.connect("alice", TARGET).await.unwrap();
    is_held(&world, &other, "update orders set state = 'sent' where id = 6").await;
    runs(&client, "update orders set state = 'sent' where id = 7").await;

    let (_, shown) = world.run("alice", &["approvals", "show", &number]).unwrap();
    assert!(
        shown.contains("what is alike in its session, until") && shown.contains("used 4 times"),
        "{shown}"
    );
    let (code, said) = world
        .run("bob", &["approvals", "revoke", &number, "--reason", "enough"])
        .unwrap();
    assert_eq!((code, said.contains("used 4 times")), (0, true), "{said}");
    is_held(&world, &client, "update orders set state = 'sent' where id = 8").await;
    let (code, said) = world.run("bob", &["approvals", "revoke", &number]).unwrap();
    assert!(code != 0 && said.contains("revoked already"), "{said}");
    let (_, shown) = world.run("alice", &["approvals", "show", &number]).unwrap();
    assert!(shown.contains("revoked by bob; used 4 times"), "{shown}");
    let (_, journal) = world.run("bob", &["audit", "--event", "decided"]).unwrap();
    assert!(journal.contains(&format!("{number} revoke")), "{journal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asked_may_take_it_back_and_strangers_may_not() {
    let world = World::start(WorldOptions::default()).await.unwrap();
    world.add_person("eve", &["sales"]);
    let client = world.gateway.connect("alice", TARGET).await.unwrap();
    let approve = |grant: bool| {
        let world = &world;
        async move {
            let number = world.waiting().await.unwrap().number;
            let mut words = vec!["approvals", "approve", number.as_str()];
            words.extend(grant.then_some("--grant"));
            let (code, said) = world.run("bob", &words).unwrap();
            assert_eq!(code, 0, "{said}");
            number
        }
    };
    let (plain, ungranted) = tokio::join!(
        client.simple_query("update orders set state = 'sent' where id = 1"),
        approve(false)
    );
    plain.unwrap();
    let (granting, number) = tokio::join!(
        client.simple_query("update orders set state = 'sent' where id = 2"),
        approve(true)
    );
    granting.unwrap();
    for (name, number, wanted) in [("eve", &number, "no approval"), ("bob", &ungranted, "grants nothing")] {
        let (code, said) = world.run(name, &["approvals", "revoke", number]).unwrap();
        assert!(code != 0 && said.contains(wanted), "{name}: {said}");
    }
    runs(&client, "update orders set state = 'sent' where id = 3").await;
    let (code, said) = world.run("alice", &["approvals", "revoke", &number]).unwrap();
    assert_eq!(code, 0, "{said}");
    is_held(&world, &client, "update orders set state = 'sent' where id = 4").await;
}
