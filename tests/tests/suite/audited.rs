//! What people ask of real sessions: who ran what, who decided it, and what became of it.

use countersign_tests::world::{TARGET, World, WorldOptions};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_of_a_session_is_told_with_its_end() {
    let world = World::start(WorldOptions::default()).await.unwrap();
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    alice.execute("select count(*) from orders", &[]).await.unwrap();
    alice.simple_query("select * from nowhere").await.unwrap_err();
    alice.simple_query("delete from orders").await.unwrap_err();

    let held = async |text: &'static str| {
        let client = world.gateway.connect("alice", TARGET).await.unwrap();
        let running = tokio::spawn(async move { client.simple_query(text).await.map(drop) });
        (running, world.waiting().await.unwrap().number)
    };
    let (approved, number) = held("delete from orders where id = 7").await;
    world.approve("bob", &number).unwrap();
    approved.await.unwrap().unwrap();
    let (denied, number) = held("delete from orders where id = 8").await;
    world.deny("bob", &number, "not today: ask again").unwrap();
    denied.await.unwrap().unwrap_err();
    let (left, number) = held("delete from orders where id = 9").await;
    world.run("alice", &["approvals", "withdraw", &number]).unwrap();
    left.await.unwrap().unwrap_err();
    let (_waits, _number) = held("delete from orders where id = 10").await;

    let found = world
        .json("bob", &["audit", "who:alice", "on:shop", "since:1h", "--json"])
        .unwrap();
    let told: Vec<_> = found["operations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|operation| {
            (
                operation["display"].as_str().unwrap(),
                operation["state"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("delete from orders where id = 10", "pending"),
            ("delete from orders where id = 9", "withdrawn"),
            ("delete from orders where id = 8", "denied"),
            ("delete from orders where id = 7", "done"),
            ("delete from orders", "denied"),
            ("select * from nowhere", "failed"),
            ("select count(*) from orders", "done"),
        ],
        "{found:#}"
    );
    let decided = |place: usize| &found["operations"][place]["decided_by"];
    assert_eq!((decided(2), decided(3)), (&json!(["bob"]), &json!(["bob"])));
    assert_eq!(decided(4), &json!([]));
    let by_number = |number: &str| {
        world
            .json("bob", &["audit", &format!("approval:{number}"), "--json"])
            .unwrap()
    };
    let Value::Array(one) = &by_number(&number)["operations"] else {
        panic!("no list")
    };
    assert_eq!(one.as_slice(), &found["operations"].as_array().unwrap()[1..2]);
}
