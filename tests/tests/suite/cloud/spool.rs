//! The spool of a gateway before S3 in bad weather: sessions end within the bound, and nothing is lost.

use countersign_gateway::record::{Direction, RecordError, Recorder, Spool};
use countersign_infra::domain::example;
use countersign_infra::domain::id::SessionId;
use countersign_infra::domain::session::SessionHeader;
use countersign_infra::recordings::RecordingStore;
use countersign_infra::recordings::key::SigningKey;
use countersign_infra::recordings::proof::{Report, Verifier, Witness};
use countersign_infra::recordings::s3::{S3Options, S3Recordings};
use countersign_tests::cloud::Cloud;
use countersign_tests::wait::eventually;
use countersign_tests::weather::{Requests, Service, Trouble, Weather};
use std::sync::Arc;
use std::time::{Duration, Instant};

const WAIT_MAX: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);
const ANSWER: Direction = Direction::GatewayToClient;

struct Scene {
    weather: Weather,
    /// Past the weather.
    store: S3Recordings,
    spool: Spool,
    key: Arc<SigningKey>,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn set() -> Self {
        let cloud = Cloud::shared().await.unwrap();
        let weather = Weather::over(&cloud).await.unwrap();
        let options = S3Options {
            bucket: cloud.bucket(false).await.unwrap(),
            ..S3Options::default()
        };
        let under = S3Recordings::new(weather.aws().await.s3, options.clone());
        let (dir, key) = (tempfile::tempdir().unwrap(), Arc::new(SigningKey::generate().unwrap()));
        let spool = Spool::open(dir.path(), 1 << 30, Arc::new(under), Arc::clone(&key), WAIT_MAX).unwrap();
        Self {
            weather,
            store: S3Recordings::new(cloud.aws().await.s3, options),
            spool,
            key,
            _dir: dir,
        }
    }

    fn open_session(&self) -> (SessionId, Recorder) {
        let header = header();
        (header.id, self.spool.open_session(&header).unwrap())
    }

    async fn verify(&self, id: SessionId) -> Report {
        let mut verifier = Verifier::new(id, self.key.public(), Witness::default()).unwrap();
        for number in 0..self.store.chunks(id).await.unwrap() {
            verifier
                .chunk(&self.store.read_chunk(id, number).await.unwrap())
                .unwrap();
        }
        let manifest = self.store.read_manifest(id).await.unwrap();
        verifier.finish(manifest.as_deref()).unwrap()
    }
}

fn puts() -> Requests {
    Requests::of(Service::S3).named("PutObject")
}

fn header() -> SessionHeader {
    example::header(SessionId(uuid::Uuid::now_v7()), example::alice())
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes
}

/// Records until the spool says that it must end, and returns how long that took and how many bytes were durable.
async fn record_until_the_end(recorder: &mut Recorder) -> (RecordError, Duration, u64) {
    let (begun, mut durable) = (Instant::now(), 0);
    loop {
        let piece = noise(20_000);
        let recorded = async {
            recorder.record(ANSWER, &[&piece]).await?;
            recorder.durable().await
        };
        match recorded.await {
            Ok(()) => durable += piece.len() as u64,
            Err(error) => return (error, begun.elapsed(), durable),
        }
        assert!(begun.elapsed() < PATIENCE, "it runs on unrecorded");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn ends_within_the_bound_and_loses_nothing(trouble: Option<Trouble>) {
    let scene = Scene::set().await;
    let (id, mut recorder) = scene.open_session();
    match trouble {
        Some(trouble) => drop(scene.weather.order(puts(), trouble)),
        None => scene.weather.cut().await,
    }
    // Enough for a chunk, which is sent at once.
    let first = noise(1_100_000);
    recorder.record(ANSWER, &[&first]).await.unwrap();
    let (error, took, durable) = record_until_the_end(&mut recorder).await;
    assert!(matches!(error, RecordError::StoreDown { .. }), "{error}");
    assert!(took < WAIT_MAX + Duration::from_secs(3), "{took:?}");
    assert!(
        scene.spool.open_session(&header()).is_err(),
        "no new session while the store is down"
    );
    drop(recorder);

    scene.weather.clear().await.unwrap();
    let sent = async || (scene.spool.bytes() == 0).then_some(());
    eventually("the spool to be empty", PATIENCE, sent).await.unwrap();
    let recovered = scene.spool.recover_left(|_| true).await;
    scene.spool.release(&recovered).await;
    let report = scene.verify(id).await;
    assert!(report.manifest.unwrap().interrupted);
    let recorded = report.chain.totals.gateway_to_client.bytes;
    assert!(recorded >= first.len() as u64 + durable, "{recorded}");
    let (next, mut recorder) = scene.open_session();
    recorder.record(ANSWER, &[b"fair again"]).await.unwrap();
    recorder.finish("done").await.unwrap();
    assert!(!scene.verify(next).await.manifest.unwrap().interrupted);
}

#[tokio::test]
async fn sessions_end_within_the_bound_when_s3_fails() {
    ends_within_the_bound_and_loses_nothing(Some(Trouble::Fail)).await;
}

#[tokio::test]
async fn sessions_end_within_the_bound_when_s3_throttles() {
    ends_within_the_bound_and_loses_nothing(Some(Trouble::Throttle)).await;
}

#[tokio::test]
async fn sessions_end_within_the_bound_when_s3_is_silent() {
    ends_within_the_bound_and_loses_nothing(Some(Trouble::Silence)).await;
}

#[tokio::test]
async fn sessions_end_within_the_bound_when_s3_is_cut_off() {
    ends_within_the_bound_and_loses_nothing(None).await;
}

#[tokio::test]
async fn a_session_outlasts_trouble_of_s3_that_passes_and_lost_answers() {
    let scene = Scene::set().await;
    let orders = [Trouble::Throttle, Trouble::Fail, Trouble::LoseAnswer]
        .map(|trouble| scene.weather.order(puts().times(2), trouble));
    let (id, mut recorder) = scene.open_session();
    for _ in 0..4 {
        recorder.record(ANSWER, &[&noise(1_000_000)]).await.unwrap();
        recorder.durable().await.unwrap();
    }
    let anchor = recorder.finish("done").await.unwrap();
    for order in orders {
        assert_eq!(order.met(), 2);
    }
    let sent = async || (scene.spool.bytes() == 0).then_some(());
    eventually("the spool to be empty", PATIENCE, sent).await.unwrap();
    let done = async || scene.store.read_manifest(id).await.unwrap();
    eventually("the manifest", PATIENCE, done).await.unwrap();
    let report = scene.verify(id).await;
    assert_eq!(report.chain.anchor(), anchor);
    assert_eq!(report.chain.totals.gateway_to_client.bytes, 4_000_000);
}
