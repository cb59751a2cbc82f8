//! Whole operations in S3, with keys of KMS and of a file.

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ObjectLockMode, ServerSideEncryption};
use countersign_infra::aws::Aws;
use countersign_infra::domain::id::Digest;
use countersign_infra::operations::contract::{self, example};
use countersign_infra::operations::disk::DiskOperations;
use countersign_infra::operations::flaky::Flaky;
use countersign_infra::operations::keys::{FileKeys, KeySource, KmsKeys};
use countersign_infra::operations::s3::{S3Operations, S3Options};
use countersign_infra::operations::{OperationError, OperationStore, WholeOperation};
use countersign_tests::cloud::Cloud;
use countersign_tests::harness::GatewayOptions;
use countersign_tests::wait::eventually;
use countersign_tests::weather::{Requests, Service, Trouble, Weather};
use countersign_tests::world::TARGET;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);
const SECRET: &str = "correct horse battery staple";

/// A bucket with a key of KMS.
struct Bucket {
    /// Past the weather.
    aws: Aws,
    /// Under which the store is.
    weather: Weather,
    name: String,
    key: String,
    store: S3Operations,
}

impl Bucket {
    async fn new() -> Self {
        Self::with(false, |_| {}).await
    }

    async fn with(object_lock: bool, change: impl FnOnce(&mut S3Options)) -> Self {
        let cloud = Cloud::shared().await.unwrap();
        let aws = cloud.aws().await;
        let name = cloud.bucket(object_lock).await.unwrap();
        let key = cloud.kms_key().await.unwrap();
        let mut options = S3Options {
            bucket: name.clone(),
            ..S3Options::default()
        };
        change(&mut options);
        let weather = Weather::over(&cloud).await.unwrap();
        let outside = weather.aws().await;
        let keys = Arc::new(KmsKeys::new(outside.kms, &key));
        let store = S3Operations::new(outside.s3, options, keys);
        Self {
            aws,
            weather,
            name,
            key,
            store,
        }
    }

    fn with_keys(&self, keys: Arc<dyn KeySource>) -> S3Operations {
        let options = S3Options {
            bucket: self.name.clone(),
            ..S3Options::default()
        };
        S3Operations::new(self.aws.s3.clone(), options, keys)
    }

    async fn keep(&self, operation: &WholeOperation) -> Digest {
        self.store.keep(operation.digest(), operation).await.unwrap();
        operation.digest()
    }

    async fn bytes(&self, digest: Digest) -> Vec<u8> {
        let get = self
            .aws
            .s3
            .get_object()
            .bucket(&self.name)
            .key(S3Operations::name(digest));
        let body = get.send().await.unwrap().body;
        body.collect().await.unwrap().to_vec()
    }

    async fn put(&self, digest: Digest, bytes: &[u8]) {
        let put = self
            .aws
            .s3
            .put_object()
            .bucket(&self.name)
            .key(S3Operations::name(digest));
        put.body(ByteStream::from(bytes.to_vec())).send().await.unwrap();
    }

    async fn head(&self, digest: Digest) -> HeadObjectOutput {
        let head = self
            .aws
            .s3
            .head_object()
            .bucket(&self.name)
            .key(S3Operations::name(digest));
        head.send().await.unwrap()
    }
}

fn file_keys() -> (tempfile::TempDir, Arc<FileKeys>) {
    let directory = tempfile::tempdir().unwrap();
    let keys = FileKeys::load_or_create(&directory.path().join("operations.key")).unwrap();
    (directory, Arc::new(keys))
}

/// Why what is read there is damaged.
async fn damage(store: &dyn OperationStore, digest: Digest) -> String {
    match store.read(digest).await {
        Err(OperationError::Damaged { digest: named, why }) if named == digest => why,
        // What names the key is what was changed.
        Err(OperationError::OtherKey { digest: named, key }) if named == digest => key,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was read"),
    }
}

#[tokio::test]
async fn s3_with_keys_of_kms_keeps_the_contract() {
    contract::check(&Bucket::new().await.store).await.unwrap();
}

#[tokio::test]
async fn s3_with_keys_of_kms_keeps_the_contract_while_calls_fail() {
    let bucket = Bucket::new().await;
    let flaky = Flaky::every_other(bucket.store.clone());
    contract::check(&flaky).await.unwrap();
    assert!(flaky.failures() > 10);
}

#[tokio::test]
async fn s3_with_keys_of_a_file_keeps_the_contract() {
    let (_directory, keys) = file_keys();
    contract::check(&Bucket::new().await.with_keys(keys)).await.unwrap();
}

#[tokio::test]
async fn s3_with_keys_of_a_file_keeps_the_contract_while_calls_fail() {
    let (_directory, keys) = file_keys();
    let flaky = Flaky::every_other(Bucket::new().await.with_keys(keys));
    contract::check(&flaky).await.unwrap();
    assert!(flaky.failures() > 10);
}

#[tokio::test]
async fn nothing_of_an_operation_stands_in_its_object() {
    let bucket = Bucket::new().await;
    let digest = bucket
        .keep(&example("UPDATE users -- shown to people", SECRET.as_bytes()))
        .await;
    let stored = bucket.bytes(digest).await;
    for text in [SECRET, "UPDATE", "shown to people", "sub-alice", "value:text"] {
        let found = stored.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!found, "{text} stands in the object");
    }
}

#[tokio::test]
async fn every_changed_byte_of_an_envelope_with_a_key_of_kms_is_found() {
    let bucket = Bucket::new().await;
    let directory = tempfile::tempdir().unwrap();
    let keys = Arc::new(KmsKeys::new(bucket.aws.kms.clone(), &bucket.key));
    let store = DiskOperations::under(directory.path(), keys);
    let operation = example("UPDATE users", b"a");
    let digest = operation.digest();
    store.keep(digest, &operation).await.unwrap();
    let path = store.path(digest);
    let bytes = std::fs::read(&path).unwrap();
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        std::fs::write(&path, changed).unwrap();
        damage(&store, digest).await;
    }
    std::fs::write(&path, bytes).unwrap();
    assert!(store.read(digest).await.unwrap() == operation);
}

#[tokio::test]
async fn objects_that_are_exchanged_cut_or_garbage_are_found_and_kept_again() {
    let bucket = Bucket::new().await;
    let (one, two) = (example("UPDATE a", b"a"), example("UPDATE b", b"b"));
    let (first, second) = (bucket.keep(&one).await, bucket.keep(&two).await);
    let good = bucket.bytes(first).await;
    let foreign = bucket.bytes(second).await;
    for bytes in [&foreign[..], &good[..good.len() - 1], &good[..100], b"garbage", b""] {
        bucket.put(first, bytes).await;
        damage(&bucket.store, first).await;
        bucket.keep(&one).await;
        assert!(bucket.store.read(first).await.unwrap() == one);
    }
}

#[tokio::test]
async fn only_the_configured_key_opens_whatever_the_object_names() {
    let bucket = Bucket::new().await;
    let digest = bucket.keep(&example("UPDATE users", b"a")).await;
    let cloud = Cloud::shared().await.unwrap();
    let other = KmsKeys::new(bucket.aws.kms.clone(), cloud.kms_key().await.unwrap());
    let (_directory, of_a_file) = file_keys();
    for store in [bucket.with_keys(Arc::new(other)), bucket.with_keys(of_a_file)] {
        match store.read(digest).await {
            Err(OperationError::OtherKey { key, .. }) => assert_eq!(key, bucket.key),
            other => panic!("{:?}", other.map(|read| read.digest())),
        }
    }
}

#[tokio::test]
async fn what_an_alias_encrypted_with_its_former_key_is_opened_with_that_key_when_it_is_configured() {
    let bucket = Bucket::new().await;
    let (kms, alias) = (&bucket.aws.kms, format!("alias/{}", bucket.name));
    let create = kms.create_alias().alias_name(&alias).target_key_id(&bucket.key);
    create.send().await.unwrap();
    let keys = KmsKeys::new(kms.clone(), &alias);
    let store = bucket.with_keys(Arc::new(keys.clone()));
    let former = example("UPDATE users", b"a");
    store.keep(former.digest(), &former).await.unwrap();
    let other = Cloud::shared().await.unwrap().kms_key().await.unwrap();
    // LocalStack takes no ARN here.
    let id = other.rsplit('/').next().unwrap();
    let repoint = kms.update_alias().alias_name(&alias).target_key_id(id);
    repoint.send().await.unwrap();
    match store.read(former.digest()).await {
        Err(OperationError::OtherKey { key, .. }) => assert_eq!(key, bucket.key),
        other => panic!("{:?}", other.map(|read| read.digest())),
    }

    let store = bucket.with_keys(Arc::new(keys.opening(vec![bucket.key.clone()])));
    assert!(store.read(former.digest()).await.unwrap() == former);
    let next = example("UPDATE users", b"b");
    store.keep(next.digest(), &next).await.unwrap();
    assert!(store.read(next.digest()).await.unwrap() == next);
}

#[tokio::test]
async fn a_key_that_is_disabled_or_never_was_makes_the_store_unavailable_and_nothing_is_lost() {
    let bucket = Bucket::new().await;
    let operation = example("UPDATE users", b"a");
    let digest = bucket.keep(&operation).await;
    bucket.aws.kms.disable_key().key_id(&bucket.key).send().await.unwrap();
    let kept = bucket.store.keep(digest, &operation).await;
    assert!(matches!(kept, Err(OperationError::Unavailable { .. })), "{kept:?}");
    let read = bucket.store.read(digest).await;
    assert!(matches!(read, Err(OperationError::Unavailable { .. })));
    bucket.aws.kms.enable_key().key_id(&bucket.key).send().await.unwrap();
    assert!(bucket.store.read(digest).await.unwrap() == operation);

    let never = KmsKeys::new(bucket.aws.kms.clone(), "alias/countersign-never-made");
    let error = bucket
        .with_keys(Arc::new(never))
        .keep(digest, &operation)
        .await
        .unwrap_err();
    assert!(matches!(error, OperationError::Unavailable { .. }));
    assert!(error.to_string().contains("countersign-never-made"), "{error}");
}

#[tokio::test]
async fn objects_are_locked_and_encrypted_by_the_bucket_when_configured() {
    let cloud = Cloud::shared().await.unwrap();
    let sse_key = cloud.kms_key().await.unwrap();
    let bucket = Bucket::with(true, |options| {
        options.sse_kms_key = Some(sse_key.clone());
        options.object_lock_days = Some(2);
    });
    let bucket = bucket.await;
    let operation = example("UPDATE users", b"a");
    let digest = bucket.keep(&operation).await;
    let head = bucket.head(digest).await;
    assert_eq!(head.object_lock_mode(), Some(&ObjectLockMode::Governance));
    let until = head.object_lock_retain_until_date().unwrap().secs();
    let in_two_days = chrono::Utc::now().timestamp() + 2 * 86_400;
    assert!((in_two_days - until).abs() < 600, "{until}");
    assert_eq!(head.server_side_encryption(), Some(&ServerSideEncryption::AwsKms));
    assert_eq!(head.ssekms_key_id(), Some(sse_key.as_str()));
    // Kept again: a new version, and the first stays.
    bucket.keep(&operation).await;
    let versions = bucket
        .aws
        .s3
        .list_object_versions()
        .bucket(&bucket.name)
        .send()
        .await
        .unwrap();
    assert_eq!(versions.versions().len(), 2);
    assert!(bucket.store.read(digest).await.unwrap() == operation);
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_unavailable_and_not_an_absent_operation() {
    let bucket = Bucket::new().await;
    let (_directory, keys) = file_keys();
    let options = S3Options {
        bucket: "countersign-never-made".to_owned(),
        ..S3Options::default()
    };
    let store = S3Operations::new(bucket.aws.s3.clone(), options, keys);
    let operation = example("UPDATE users", b"a");
    let kept = store.keep(operation.digest(), &operation).await;
    assert!(matches!(kept, Err(OperationError::Unavailable { .. })), "{kept:?}");
    let read = store.read(operation.digest()).await;
    assert!(matches!(read, Err(OperationError::Unavailable { .. })));
}

#[tokio::test]
async fn one_operation_costs_two_requests_to_keep_and_two_to_read() {
    let bucket = Bucket::new().await;
    let digest = bucket.keep(&example("UPDATE users", b"a")).await;
    bucket
        .store
        .read(digest)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let tallies = bucket.weather.tallies();
    let asked: Vec<_> = tallies
        .iter()
        .map(|((service, operation), tally)| (*service, operation.as_str(), tally.requests))
        .collect();
    let wanted = [
        (Service::S3, "GetObject", 1),
        (Service::S3, "PutObject", 1),
        (Service::Kms, "Decrypt", 1),
        (Service::Kms, "GenerateDataKey", 1),
    ];
    assert_eq!(asked, wanted);
}

#[tokio::test]
async fn a_while_of_bad_weather_is_sat_out() {
    let bucket = Bucket::new().await;
    let operation = example("UPDATE users", b"a");
    let digest = operation.digest();
    let mut orders = Vec::new();
    for (service, name) in [
        (Service::Kms, "GenerateDataKey"),
        (Service::Kms, "Decrypt"),
        (Service::S3, "PutObject"),
        (Service::S3, "GetObject"),
    ] {
        for trouble in [Trouble::Throttle, Trouble::Fail, Trouble::LoseAnswer] {
            let requests = Requests::of(service).named(name).times(1);
            orders.push(bucket.weather.order(requests, trouble));
        }
    }
    bucket.store.keep(digest, &operation).await.unwrap();
    assert!(bucket.store.read(digest).await.unwrap() == operation);
    assert!(orders.iter().all(|order| order.met() == 1));
}

#[tokio::test]
async fn a_storm_is_unavailable_in_time_and_nothing_is_lost() {
    let bucket = Bucket::new().await;
    let operation = example("UPDATE users", b"a");
    let digest = bucket.keep(&operation).await;
    for (service, trouble) in [
        (Service::Kms, Trouble::Silence),
        (Service::S3, Trouble::Throttle),
        (Service::S3, Trouble::Cut),
    ] {
        bucket.weather.order(Requests::of(service), trouble);
        let began = Instant::now();
        let (kept, read) = tokio::join!(bucket.store.keep(digest, &operation), bucket.store.read(digest));
        assert!(matches!(kept, Err(OperationError::Unavailable { .. })), "{kept:?}");
        assert!(matches!(read, Err(OperationError::Unavailable { .. })));
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        bucket.weather.clear().await.unwrap();
    }
    assert!(bucket.store.read(digest).await.unwrap() == operation);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_at_one_gateway_is_read_at_another_and_then_approved_at_the_first() {
    let world = super::gateways::world().await;
    let name = |options: &mut GatewayOptions| options.name = Some("other-gateway".to_owned());
    let other = world.another_gateway(name).await.unwrap();
    let alice = world.gateway.connect("alice", TARGET).await.unwrap();
    let note = "a long note ".repeat(4000);
    let text = format!("delete from orders where id = 7 /* {note} the end of it */");
    let delete = tokio::spawn(async move { alice.execute(text.as_str(), &[]).await });
    let number = world.waiting().await.unwrap().number;

    let (code, said) = world.approve("bob", &number).unwrap();
    assert_eq!(code, 1, "{said}");
    let (code, whole) = other.run("bob", &["approvals", "show", &number, "--whole"]).unwrap();
    assert_eq!(code, 0, "{whole}");
    assert!(whole.contains("the end of it"), "{whole}");
    // Searches read an index that follows the journal: the reading is seen a moment later.
    let approved = eventually("the reading to count", SOON, async || {
        let (code, _) = world.approve("bob", &number).ok()?;
        (code == 0).then_some(())
    });
    approved.await.unwrap();
    assert_eq!(delete.await.unwrap().unwrap(), 1);
}
