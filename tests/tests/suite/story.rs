//! The demo's story, as a test.

use countersign_tests::demo::{Screen, play};
use countersign_tests::world::{World, WorldOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_tells_its_story_to_the_end() {
    let mut world = World::start(WorldOptions::default()).await.unwrap();
    if let Err(error) = play(&mut world, Screen::Silent).await {
        panic!("{error:#}\n\nThe gateway's log:\n{}", world.gateway.log());
    }
}
