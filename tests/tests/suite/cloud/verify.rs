//! Recordings in S3 with their journal in DynamoDB: read and proved past the gateway and through it, linked to, and
//! whatever is removed, swapped or changed is named.

use super::gateways::world;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use countersign_tests::cloud::Cloud;
use countersign_tests::wait::eventually;
use countersign_tests::world::{TARGET, World};
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
/// What comes back fills three chunks.
const LONG: &str = "select string_agg(md5(i::text), '') from generate_series(1, 80000) i";

/// A world in the cloud that has recorded two sessions, the first in several chunks, and signed their digest.
struct Place {
    world: World,
    s3: Client,
    bucket: String,
    long: String,
}

async fn place() -> Place {
    let mut world = world().await;
    for statement in [LONG, "select 1"] {
        let alice = world.gateway.connect("alice", TARGET).await.unwrap();
        alice.simple_query(statement).await.unwrap();
    }
    let both_ended = async || {
        let list = recordings(&world);
        let ended = list.iter().filter(|recording| recording["state"] == "ended").count();
        (ended == 2).then_some(list)
    };
    let list = eventually("both sessions to end", SOON, both_ended).await.unwrap();
    let long = list
        .iter()
        .max_by_key(|recording| recording["chunks"].as_u64())
        .unwrap();
    assert!(long["chunks"].as_u64().unwrap() >= 3, "{long}");
    let long = long["session"].as_str().unwrap().to_owned();
    world.gateway.stop().unwrap();
    world.gateway.restart().await.unwrap();
    let config = std::fs::read_to_string(world.gateway.config()).unwrap();
    let (_, rest) = config.split_once("bucket = \"").unwrap();
    let bucket = rest.split('"').next().unwrap().to_owned();
    let s3 = Cloud::shared().await.unwrap().aws().await.s3;
    Place {
        world,
        s3,
        bucket,
        long,
    }
}

fn recordings(world: &World) -> Vec<Value> {
    let list = ["recordings", "list", "--since", "1h", "--json"];
    let (code, printed) = world.gateway.run("bob", &list).unwrap();
    assert_eq!(code, 0, "{printed}");
    serde_json::from_str(&printed).unwrap()
}

impl Place {
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        self.world.gateway.run("bob", arguments).unwrap()
    }

    /// As `run`, but the stores are read directly.
    fn directly(&self, arguments: &[&str]) -> (i32, String) {
        let config = self.world.gateway.config();
        self.run(&[arguments, &["--config", config.to_str().unwrap()]].concat())
    }

    async fn keys(&self, word: &str) -> Vec<String> {
        let listed = self.s3.list_objects_v2().bucket(&self.bucket).send().await.unwrap();
        let keys = listed.contents().iter().filter_map(|object| object.key());
        keys.filter(|key| key.contains(word)).map(str::to_owned).collect()
    }

    async fn key(&self, word: &str) -> String {
        self.keys(word).await.remove(0)
    }

    async fn read(&self, key: &str) -> Bytes {
        let got = self.s3.get_object().bucket(&self.bucket).key(key).send().await.unwrap();
        got.body.collect().await.unwrap().into_bytes()
    }

    async fn write(&self, key: &str, bytes: Bytes) {
        let put = self.s3.put_object().bucket(&self.bucket).key(key);
        put.body(ByteStream::from(bytes)).send().await.unwrap();
    }

    async fn remove(&self, key: &str) {
        let delete = self.s3.delete_object().bucket(&self.bucket).key(key);
        delete.send().await.unwrap();
    }

    /// Through the gateway and past it the same thing is named.
    fn names(&self, words: &[&str]) {
        for (code, said) in [
            self.directly(&["verify", "--since", "1h"]),
            self.run(&["verify", "--since", "1h"]),
        ] {
            assert_eq!(code, 1, "{said}");
            let first = said.lines().next().unwrap();
            for word in words {
                assert!(first.contains(word), "{word:?} is missing in {said}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_cloud_is_verified_replayed_exported_and_linked_to() {
    let place = place().await;
    for arguments in [
        vec!["verify", "--since", "1h"],
        vec!["verify", "--all", "--quick"],
        vec!["verify", &place.long],
    ] {
        for (code, said) in [place.directly(&arguments), place.run(&arguments)] {
            assert_eq!(code, 0, "{arguments:?}: {said}");
            assert!(said.contains("VERIFIED"), "{said}");
        }
    }
    let export = ["recordings", "export", &place.long, "--format", "text"];
    let (code, text) = place.directly(&export);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("string_agg(md5(i::text), '')"), "{text}");
    assert_eq!(place.run(&["replay", &place.long]), (0, text.clone()));
    assert_eq!(place.directly(&["replay", &place.long]), (0, text));

    let (code, printed) = place.run(&["recordings", "links", &place.long, "--valid", "10m", "--json"]);
    assert_eq!(code, 0, "{printed}");
    // Fails only when another test was first.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let links: Value = serde_json::from_str(&printed).unwrap();
    let links = links["links"].as_array().unwrap().clone();
    assert_eq!(links.last().unwrap()["object"], "manifest");
    for link in links {
        let object = link["object"].as_str().unwrap();
        let fetched = reqwest::get(link["url"].as_str().unwrap()).await.unwrap();
        assert!(fetched.status().is_success(), "{object}: {}", fetched.status());
        let key = place.key(&format!("{}/{object}", place.long)).await;
        assert_eq!(fetched.bytes().await.unwrap(), place.read(&key).await, "{object}");
    }
    let (code, printed) = place.run(&["audit", "--event", "audit_queried", "--text", "links to the recording"]);
    assert!(code == 0 && printed.contains(&place.long), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_removed_swapped_or_changed_in_the_cloud_is_named() {
    let place = place().await;
    let long = format!("session {}", place.long);
    let chunk = async |number: u64| place.key(&format!("{}/{number}.chunk", place.long)).await;

    // An altered chunk.
    let middle = chunk(1).await;
    let whole = place.read(&middle).await;
    let mut changed = whole.to_vec();
    changed[200] ^= 1;
    place.write(&middle, changed.into()).await;
    place.names(&[&long, "chunk 1 was changed"]);

    // Swapped chunks.
    let last = place.keys(&format!("{}/", place.long)).await.len() as u64 - 2;
    let end = chunk(last).await;
    let tail = place.read(&end).await;
    place.write(&middle, tail.clone()).await;
    place.write(&end, whole.clone()).await;
    place.names(&[&long, &format!("in the place of chunk 1 stands chunk {last}")]);
    place.write(&end, tail.clone()).await;

    // A removed chunk, and a tail that was cut off with the manifest.
    place.remove(&middle).await;
    place.names(&[&long, "chunk 1 is missing"]);
    place.write(&middle, whole).await;
    let manifest = place.key(&format!("{}/manifest", place.long)).await;
    let closed = place.read(&manifest).await;
    place.remove(&end).await;
    place.names(&[&long, &format!("chunk {last} is missing")]);
    place.remove(&manifest).await;
    place.names(&[&long, &format!("chunk {last} is missing")]);
    place.write(&end, tail).await;
    place.names(&[&long, "manifest is missing"]);
    place.write(&manifest, closed).await;
    let (code, said) = place.directly(&["verify", "--since", "1h"]);
    assert_eq!(code, 0, "all is put back: {said}");

    // A digest.
    let digest = place.key("digests/").await;
    let signed = place.read(&digest).await;
    place.remove(&digest).await;
    place.names(&[&digest, "it is missing"]);
    place.write(&digest, signed).await;

    // A whole session.
    for key in place.keys(&place.long).await {
        place.remove(&key).await;
    }
    place.names(&[&long, "it is missing"]);
}
