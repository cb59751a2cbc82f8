//! The demo's story, as a test.

use countersign_tests::cloud::Cloud;
use countersign_tests::demo::{Screen, Stage, play};
use countersign_tests::postgres::Postgres;
use countersign_tests::world::WorldOptions;

async fn plays_to_the_end(mut stage: Stage) {
    if let Err(error) = play(&mut stage, Screen::Silent).await {
        panic!("{error:#}\n\nThe gateway's log:\n{}", stage.logs());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_tells_its_story_to_the_end() {
    let server = Postgres::shared().await.unwrap();
    plays_to_the_end(Stage::embedded(server, WorldOptions::default(), false).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_tells_its_story_to_the_end_with_two_gateways_in_the_cloud() {
    let server = Postgres::shared().await.unwrap();
    let cloud = Cloud::shared().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let stores = cloud.stores().await.unwrap();
    let stage = Stage::in_cloud(server, &cloud, stores, directory.path(), WorldOptions::default()).await;
    plays_to_the_end(stage.unwrap()).await;
}
