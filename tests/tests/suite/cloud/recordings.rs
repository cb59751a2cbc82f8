//! Recordings in S3, as LocalStack has it.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketLocationConstraint, CreateBucketConfiguration, DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled,
    ObjectLockMode, ObjectLockRetentionMode, ObjectLockRule, ServerSideEncryption,
};
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use countersign_infra::domain::id::SessionId;
use countersign_infra::recordings::contract;
use countersign_infra::recordings::flaky::Flaky;
use countersign_infra::recordings::s3::{S3Options, S3Recordings};
use countersign_infra::recordings::{RecordingError, RecordingObject, RecordingStore};
use countersign_tests::cloud::{Cloud, REGION};
use countersign_tests::wait::eventually;
use std::collections::BTreeMap;
use std::time::Duration;

const CHUNK: Bytes = Bytes::from_static(b"a chunk");

struct Place {
    store: S3Recordings,
    s3: Client,
    bucket: String,
}

/// A bucket of the test's own, and a store on it.
async fn place(object_lock: bool, change: impl FnOnce(&mut S3Options)) -> Place {
    let cloud = Cloud::shared().await.unwrap();
    let bucket = cloud.bucket(object_lock).await.unwrap();
    on(cloud.aws().await.s3, bucket, change)
}

/// A bucket without versions. In one with versions LocalStack (4.9) looks at `If-None-Match` under a lock of the new
/// version, not of the key, so that two who put at once may both succeed there; S3 itself lets one of them.
async fn place_without_versions() -> Place {
    let s3 = Cloud::shared().await.unwrap().aws().await.s3;
    let bucket = format!("plain-{}", uuid::Uuid::now_v7().simple());
    let region = CreateBucketConfiguration::builder()
        .location_constraint(BucketLocationConstraint::from(REGION))
        .build();
    let create = s3.create_bucket().bucket(&bucket).create_bucket_configuration(region);
    create.send().await.unwrap();
    on(s3, bucket, |_| {})
}

fn on(s3: Client, bucket: String, change: impl FnOnce(&mut S3Options)) -> Place {
    let mut options = S3Options {
        bucket: bucket.clone(),
        ..S3Options::default()
    };
    change(&mut options);
    let store = S3Recordings::new(s3.clone(), options);
    Place { store, s3, bucket }
}

impl Place {
    /// The key of the one object whose name ends so.
    async fn key(&self, ending: &str) -> String {
        let keys = self.keys().await;
        let found = keys.iter().filter(|key| key.ends_with(ending)).collect::<Vec<_>>();
        assert_eq!(found.len(), 1, "{ending} in {keys:?}");
        found[0].clone()
    }

    async fn keys(&self) -> Vec<String> {
        let listed = self.s3.list_objects_v2().bucket(&self.bucket).send().await.unwrap();
        let keys = listed.contents().iter().filter_map(|object| object.key());
        keys.map(str::to_owned).collect()
    }

    async fn versions(&self, key: &str) -> usize {
        let listed = self.s3.list_object_versions().bucket(&self.bucket).prefix(key);
        let listed = listed.send().await.unwrap();
        listed.versions().len() + listed.delete_markers().len()
    }

    async fn put_chunk(&self) -> (SessionId, String) {
        let id = session();
        self.store.put_chunk(id, 0, CHUNK).await.unwrap();
        (id, self.key("0.chunk").await)
    }
}

fn session() -> SessionId {
    SessionId(uuid::Uuid::now_v7())
}

fn tags() -> BTreeMap<String, String> {
    BTreeMap::from([("retention".to_owned(), "7 years: all/more".to_owned())])
}

#[tokio::test]
async fn s3_keeps_the_recording_contract() {
    let place = place_without_versions().await;
    contract::check(&place.store).await.unwrap();
}

#[tokio::test]
async fn s3_keeps_the_recording_contract_while_calls_fail_before_and_after_their_effect() {
    let place = place_without_versions().await;
    let flaky = Flaky::every_other(place.store);
    contract::check(&flaky).await.unwrap();
    assert!(flaky.failures() > 10);
}

#[tokio::test]
async fn s3_keeps_the_recording_contract_with_versions_lock_key_and_tags() {
    let key = Cloud::shared().await.unwrap().kms_key().await.unwrap();
    let place = place(true, |options| {
        options.object_lock_days = Some(30);
        options.sse_kms_key = Some(key);
        options.tags = tags();
    });
    let store = place.await.store;
    contract::check_one_by_one(&store).await.unwrap();
    let flaky = Flaky::every_other(store);
    contract::check_one_by_one(&flaky).await.unwrap();
}

#[tokio::test]
async fn a_day_of_many_sessions_in_s3_is_listed_page_by_page() {
    let place = place(false, |_| {}).await;
    contract::check_long_listing(&place.store).await.unwrap();
}

#[tokio::test]
async fn a_recording_of_more_chunks_than_a_page_of_a_listing_is_counted_whole() {
    let place = place(false, |_| {}).await;
    let id = session();
    for number in 0..1003 {
        place.store.put_chunk(id, number, CHUNK).await.unwrap();
    }
    assert_eq!(place.store.chunks(id).await.unwrap(), 1003);
}

#[tokio::test]
async fn a_locked_recording_cannot_be_deleted_and_a_hidden_one_cannot_be_replaced_unseen() {
    let place = place(true, |options| options.object_lock_days = Some(30)).await;
    let (id, key) = place.put_chunk().await;
    let head = place.s3.head_object().bucket(&place.bucket).key(&key);
    let head = head.send().await.unwrap();
    assert_eq!(head.object_lock_mode(), Some(&ObjectLockMode::Governance));
    let until = head.object_lock_retain_until_date().unwrap().secs();
    let left = DateTime::from_timestamp(until, 0).unwrap() - Utc::now();
    assert!((TimeDelta::days(29)..=TimeDelta::days(30)).contains(&left), "{left}");

    let version = head.version_id().unwrap();
    let delete = place.s3.delete_object().bucket(&place.bucket).key(&key);
    let refused = delete.version_id(version).send().await.unwrap_err();
    assert_eq!(refused.raw_response().unwrap().status().as_u16(), 403);

    // A delete without a version only hides the object; what is put over it does not take the first one's place.
    let hide = place.s3.delete_object().bucket(&place.bucket).key(&key);
    hide.send().await.unwrap();
    place
        .store
        .put_chunk(id, 0, Bytes::from_static(b"forged"))
        .await
        .unwrap();
    let first = place.s3.get_object().bucket(&place.bucket).key(&key);
    let first = first.version_id(version).send().await.unwrap();
    assert_eq!(first.body.collect().await.unwrap().into_bytes(), CHUNK);
    let again = place.store.put_chunk(id, 0, CHUNK).await;
    assert!(matches!(again, Err(RecordingError::Exists(_))), "{again:?}");
}

#[tokio::test]
async fn a_bucket_whose_own_default_is_compliance_keeps_it() {
    let place = place(true, |options| options.object_lock_days = Some(1)).await;
    let firm = DefaultRetention::builder()
        .mode(ObjectLockRetentionMode::Compliance)
        .days(2)
        .build();
    let config = ObjectLockConfiguration::builder()
        .object_lock_enabled(ObjectLockEnabled::Enabled)
        .rule(ObjectLockRule::builder().default_retention(firm).build())
        .build();
    let put = place.s3.put_object_lock_configuration().bucket(&place.bucket);
    put.object_lock_configuration(config).send().await.unwrap();
    let (_, key) = place.put_chunk().await;
    let head = place.s3.head_object().bucket(&place.bucket).key(&key);
    let head = head.send().await.unwrap();
    assert_eq!(head.object_lock_mode(), Some(&ObjectLockMode::Compliance));
    let until = head.object_lock_retain_until_date().unwrap().secs();
    assert!(until > (Utc::now() + TimeDelta::days(1)).timestamp());
}

#[tokio::test]
async fn a_lock_that_the_bucket_does_not_have_is_told() {
    let place = place(false, |options| options.object_lock_days = Some(30)).await;
    let error = place.store.probe().await.unwrap_err().to_string();
    assert!(error.contains("the bucket has no Object Lock"), "{error}");
}

#[tokio::test]
async fn objects_are_encrypted_with_the_key_and_bear_the_tags_that_were_configured() {
    let key = Cloud::shared().await.unwrap().kms_key().await.unwrap();
    let place = place(false, |options| {
        options.sse_kms_key = Some(key.clone());
        options.tags = tags();
    });
    let place = place.await;
    let (id, object) = place.put_chunk().await;
    let head = place.s3.head_object().bucket(&place.bucket).key(&object);
    let head = head.send().await.unwrap();
    assert_eq!(head.server_side_encryption(), Some(&ServerSideEncryption::AwsKms));
    assert_eq!(head.ssekms_key_id(), Some(key.as_str()));
    let found = place.s3.get_object_tagging().bucket(&place.bucket).key(&object);
    let found = found.send().await.unwrap();
    let found = found.tag_set().iter().map(|tag| (tag.key(), tag.value()));
    let session = id.to_string();
    let expected = BTreeMap::from([("retention", "7 years: all/more"), ("session", session.as_str())]);
    assert_eq!(found.collect::<BTreeMap<_, _>>(), expected);
}

#[tokio::test]
async fn without_configuration_no_tag_and_no_lock_is_set() {
    let place = place(false, |_| {}).await;
    let (_, key) = place.put_chunk().await;
    let head = place.s3.head_object().bucket(&place.bucket).key(&key);
    let head = head.send().await.unwrap();
    assert_eq!(head.object_lock_mode(), None);
    let tags = place.s3.get_object_tagging().bucket(&place.bucket).key(&key);
    assert!(tags.send().await.unwrap().tag_set().is_empty());
}

#[tokio::test]
async fn an_auditor_fetches_an_object_by_its_link_until_the_link_expires() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let place = place(false, |_| {}).await;
    let (id, _) = place.put_chunk().await;
    let link = async |seconds| {
        let valid = Duration::from_secs(seconds);
        let link = place.store.link(id, RecordingObject::Chunk(0), valid).await.unwrap();
        link.expect("S3 has links").url
    };
    let lasting = reqwest::get(link(600).await).await.unwrap();
    assert_eq!(lasting.status(), 200);
    assert_eq!(lasting.bytes().await.unwrap(), CHUNK);

    let mut bent = link(600).await;
    bent.set_path(&bent.path().replace("0.chunk", "manifest"));
    assert_eq!(reqwest::get(bent).await.unwrap().status(), 403, "it opens one object");

    let short = link(1).await;
    let expired = async || {
        let answer = reqwest::get(short.clone()).await.ok()?;
        (answer.status() == 403).then_some(())
    };
    eventually("the link to expire", Duration::from_secs(20), expired)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_chunk_that_the_buckets_owner_overwrites_is_not_taken_for_the_one_that_was_put() {
    let place = place(false, |_| {}).await;
    let (id, key) = place.put_chunk().await;
    let overwrite = place.s3.put_object().bucket(&place.bucket).key(&key);
    let forged = ByteStream::from_static(b"A chunk");
    overwrite.body(forged).send().await.unwrap();
    assert_eq!(place.store.read_chunk(id, 0).await.unwrap(), "A chunk");
    let error = place.store.put_chunk(id, 0, CHUNK).await.unwrap_err();
    assert!(matches!(error, RecordingError::Exists(_)), "{error:?}");
    assert!(error.to_string().contains(&key), "{error}");
}

#[tokio::test]
async fn probes_leave_one_object_of_one_version() {
    for object_lock in [false, true] {
        let place = place(object_lock, |options| {
            options.object_lock_days = object_lock.then_some(30);
        });
        let place = place.await;
        for _ in 0..3 {
            place.store.probe().await.unwrap();
        }
        let keys = place.keys().await;
        assert_eq!(keys, ["recordings/probe"]);
        assert_eq!(place.versions("recordings/probe").await, 1);
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_named_with_what_to_do() {
    let s3 = Cloud::shared().await.unwrap().aws().await.s3;
    let options = S3Options {
        bucket: "nobody-made-this".to_owned(),
        ..S3Options::default()
    };
    let store = S3Recordings::new(s3, options);
    let day = NaiveDate::from_ymd_opt(2026, 11, 3).unwrap();
    let failed = [
        store.probe().await.map(drop),
        store.put_chunk(session(), 0, CHUNK).await,
        store.read_chunk(session(), 0).await.map(drop),
        store.chunks(session()).await.map(drop),
        store.digests(day).await.map(drop),
    ];
    for result in failed {
        let error = result.unwrap_err();
        assert!(matches!(error, RecordingError::Unavailable { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("s3://nobody-made-this/"), "{text}");
        assert!(text.contains("create the bucket, or name another"), "{text}");
    }
}
