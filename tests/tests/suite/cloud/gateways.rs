//! Gateways on one store: what is held at one is decided at another.

use countersign_tests::cloud::Cloud;
use countersign_tests::harness::GatewayOptions;
use countersign_tests::world::{World, WorldOptions};

/// A world whose gateway keeps everything in the cloud, and the cloud.
pub async fn world() -> World {
    let cloud = Cloud::shared().await.unwrap();
    let gateway = GatewayOptions {
        store: Some(cloud.store().await.unwrap()),
        environment: Cloud::environment(cloud.endpoint()),
        ..GatewayOptions::default()
    };
    World::start(WorldOptions {
        gateway,
        ..WorldOptions::default()
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_at_one_gateway_is_decided_at_another() {
    let world = world().await;
    let other = world
        .another_gateway(|options| options.name = Some("other-gateway".to_owned()))
        .await
        .unwrap();
    let alice = world.gateway.connect("alice", "shop").await.unwrap();
    let delete = tokio::spawn(async move { alice.execute("delete from orders where id = 7", &[]).await });
    let number = world.waiting().await.unwrap().number;
    let (code, said) = other.run("bob", &["approvals", "approve", &number]).unwrap();
    assert_eq!(code, 0, "{said}");
    assert_eq!(delete.await.unwrap().unwrap(), 1);
    world.becomes(&number, "done").await.unwrap();
}
