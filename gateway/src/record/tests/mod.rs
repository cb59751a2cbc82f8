mod disk;
mod kill;
mod power;
mod shared;

use super::session::BUFFER_BYTES_MAX;
use super::*;
use bytes::Bytes;
use countersign_infra::domain::example;
use countersign_infra::domain::session::SessionHeader;
use countersign_infra::recordings::RecordingStore;
use countersign_infra::recordings::chain::Manifest;
use countersign_infra::recordings::disk::DiskRecordings;
use countersign_infra::recordings::flaky::{Flaky, Mood};
use countersign_infra::recordings::format::{Envelope, Frame, KeyId, Kind};
use countersign_infra::recordings::key::{PublicKey, SigningKey};
use countersign_infra::recordings::proof::{Report, Verifier, Witness};
use std::fs;
use std::sync::Arc;
use std::time::Instant;
use tempfile::TempDir;

const ASK: Direction = Direction::ClientToGateway;
const ANSWER: Direction = Direction::GatewayToClient;

/// What a test waits for comes sooner, or not at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store, a key and a directory that outlive the spools opened on them.
struct House {
    dir: TempDir,
    store: Arc<Flaky<DiskRecordings>>,
    key: Arc<SigningKey>,
}

fn house() -> House {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Flaky::new(DiskRecordings::under(dir.path())));
    let key = Arc::new(SigningKey::generate().unwrap());
    House { dir, store, key }
}

impl House {
    fn open(&self) -> Spool {
        self.open_with(1 << 30, Duration::from_secs(20))
    }

    fn open_with(&self, bytes_max: u64, wait_max: Duration) -> Spool {
        let store = Arc::clone(&self.store) as Arc<dyn RecordingStore>;
        Spool::open(&self.spool_dir(), bytes_max, store, Arc::clone(&self.key), wait_max).unwrap()
    }

    fn spool_dir(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    fn open_beside(&self, key: &Arc<SigningKey>) -> Spool {
        self.open_with_beside(Duration::from_secs(20), key)
    }

    fn open_with_beside(&self, wait_max: Duration, key: &Arc<SigningKey>) -> Spool {
        let store = Arc::clone(&self.store) as Arc<dyn RecordingStore>;
        let directory = self.dir.path().join("shared");
        Spool::open_beside(&directory, 1 << 30, store, Arc::clone(key), wait_max).unwrap()
    }

    fn open_small_beside(&self, bytes_max: u64, wait_max: Duration) -> Spool {
        let store = Arc::clone(&self.store) as Arc<dyn RecordingStore>;
        let directory = self.dir.path().join("shared");
        Spool::open_beside(&directory, bytes_max, store, Arc::clone(&self.key), wait_max).unwrap()
    }

    /// The spools in the directory that gateways share.
    fn spools(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.path().join("shared")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn session_dir(&self, id: SessionId) -> PathBuf {
        self.spool_dir().join(id.to_string())
    }

    /// Ends a run of the gateway as far as one process can: nothing is finished, sealed or sent any more.
    async fn kill(&self, spool: Spool, recorders: Vec<Recorder>) {
        spool.stop().await;
        drop(recorders);
    }

    /// Recovers and sends what an earlier run left.
    async fn recover(&self, spool: &Spool) -> Vec<Recovered> {
        let recovered = spool.recover().await.unwrap();
        spool.release(&recovered).await;
        recovered
    }

    /// Verifies the stored recording and returns it with its frames.
    async fn read(&self, id: SessionId) -> (Report, Vec<Frame>) {
        self.read_with(id, &[self.key.public().clone()]).await
    }

    /// As `read`, where several gateways signed.
    async fn read_with(&self, id: SessionId, keys: &[PublicKey]) -> (Report, Vec<Frame>) {
        let mut verifier = Verifier::new(id, keys, Witness::default()).unwrap();
        let mut frames = Vec::new();
        for number in 0..self.store.chunks(id).await.unwrap() {
            let chunk = self.store.read_chunk(id, number).await.unwrap();
            frames.extend(verifier.chunk(&chunk).unwrap());
        }
        let manifest = self.store.read_manifest(id).await.unwrap();
        (verifier.finish(manifest.as_deref()).unwrap(), frames)
    }

    /// Who signed each chunk.
    async fn signers(&self, id: SessionId) -> Vec<KeyId> {
        let mut signers = Vec::new();
        for number in 0..self.store.chunks(id).await.unwrap() {
            let chunk = self.store.read_chunk(id, number).await.unwrap();
            signers.push(Envelope::parse(&chunk).unwrap().head.key);
        }
        signers
    }
}

fn header() -> SessionHeader {
    example::header(SessionId(uuid::Uuid::now_v7()), example::alice())
}

/// All bytes of one direction.
fn stream(frames: &[Frame], direction: Direction) -> Vec<u8> {
    let of_it = frames.iter().filter(|frame| frame.kind == Kind::Wire(direction));
    of_it.flat_map(|frame| frame.bytes.to_vec()).collect()
}

/// Waits for an event.
async fn until(reached: impl Fn() -> bool) {
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < PATIENCE, "it does not come");
        next_look().await;
    }
}

async fn next_look() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn what_is_recorded_is_read_back_and_verifies() {
    let (house, header) = (house(), header());
    let spool = house.open();
    let mut recorder = spool.open_session(&header).unwrap();
    recorder
        .record(ASK, &[b"Q", b"\0\0\0\x0d", b"SELECT 1\0"])
        .await
        .unwrap();
    recorder.durable().await.unwrap();
    recorder.record(ANSWER, &[b"1"]).await.unwrap();
    recorder.record(Direction::GatewayToUpstream, &[b"S"]).await.unwrap();
    recorder.note("held as K7Q2M4XA").await.unwrap();
    let anchor = recorder.finish("the client left").await.unwrap();

    let (report, frames) = house.read(header.id).await;
    assert_eq!(report.chain.anchor(), anchor);
    assert_eq!(report.header.as_ref(), Some(&header));
    let manifest = report.manifest.unwrap();
    assert!(!manifest.interrupted);
    assert_eq!(manifest.why, "the client left");
    assert_eq!(stream(&frames, ASK), b"Q\0\0\0\x0dSELECT 1\0");
    assert_eq!(stream(&frames, ANSWER), b"1");
    assert_eq!(stream(&frames, Direction::GatewayToUpstream), b"S");
    assert_eq!(frames.last().unwrap().bytes, "held as K7Q2M4XA");
    assert!(!house.session_dir(header.id).exists(), "nothing is left in the spool");
    assert_eq!(spool.bytes(), 0);
}

#[tokio::test]
async fn a_long_result_becomes_many_chunks_and_each_is_at_most_a_mebibyte_of_frames() {
    let (house, header) = (house(), header());
    let spool = house.open();
    let mut recorder = spool.open_session(&header).unwrap();
    let mut expected = Vec::new();
    for (seed, length) in (1..).zip([3 << 20, 10, 200_000, 65_536, 65_537, 1, 1 << 20, 127]) {
        let bytes = noise(seed, length);
        let (left, right) = bytes.split_at(length / 3);
        recorder.record(ANSWER, &[left, right]).await.unwrap();
        expected.extend(bytes);
    }
    for row in 0..20_000u32 {
        recorder.record(ANSWER, &[&row.to_be_bytes(), b" a row"]).await.unwrap();
        expected.extend([&row.to_be_bytes()[..], b" a row"].concat());
    }
    let anchor = recorder.finish("done").await.unwrap();
    assert!(anchor.chunks >= 5, "{anchor:?}");
    let (report, frames) = house.read(header.id).await;
    assert_eq!(report.chain.anchor(), anchor);
    assert!(stream(&frames, ANSWER) == expected);
    assert_eq!(spool.bytes(), 0);
}

#[tokio::test]
async fn what_was_durable_survives_a_kill_and_the_next_start_closes_it_as_interrupted() {
    let (house, headers) = (house(), [header(), header(), header()]);
    house.store.feel(Mood::Down);
    let spool = house.open();
    let mut recorders = Vec::new();
    let answer = noise(7, 2_500_000);
    for header in &headers {
        let mut recorder = spool.open_session(header).unwrap();
        recorder.record(ASK, &[b"before"]).await.unwrap();
        recorder.record(ANSWER, &[&answer]).await.unwrap();
        recorder.durable().await.unwrap();
        recorders.push(recorder);
    }
    house.kill(spool, recorders).await;

    house.store.feel(Mood::Well);
    let spool = house.open();
    assert!(spool.bytes() > 7_000_000);
    let recovered = house.recover(&spool).await;
    assert_eq!(recovered.len(), 3);
    for (header, recovered) in headers.iter().zip(recovered) {
        let (report, frames) = house.read(header.id).await;
        assert_eq!(stream(&frames, ASK), b"before");
        assert!(stream(&frames, ANSWER) == answer);
        assert!(report.manifest.as_ref().unwrap().interrupted);
        assert_eq!((recovered.session, recovered.chunks), (header.id, report.chain.chunks));
        assert_eq!(recovered.last, report.chain.last);
    }
    assert_eq!(spool.bytes(), 0);
    assert_eq!(house.recover(&spool).await, []);
}

#[tokio::test]
async fn a_torn_tail_of_the_spool_is_cut_off_and_the_rest_is_kept() {
    for cut in [1, 5, 12, 14] {
        let (house, header) = (house(), header());
        let spool = house.open();
        let mut recorder = spool.open_session(&header).unwrap();
        recorder.record(ASK, &[b"whole"]).await.unwrap();
        recorder.record(ANSWER, &[b"torn"]).await.unwrap();
        recorder.durable().await.unwrap();
        house.kill(spool, vec![recorder]).await;
        let path = house.session_dir(header.id).join("0.frames");
        let length = fs::metadata(&path).unwrap().len();
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(length - cut)
            .unwrap();

        let recovered = house.recover(&house.open()).await;
        assert_eq!(recovered.len(), 1);
        let (_, frames) = house.read(header.id).await;
        assert_eq!(stream(&frames, ASK), b"whole");
        assert_eq!(stream(&frames, ANSWER), b"");
    }
}

#[tokio::test]
async fn a_store_whose_calls_fail_before_and_after_their_effect_gets_every_chunk_once() {
    let (house, header) = (house(), header());
    house.store.feel(Mood::EveryOther);
    let spool = house.open_with(1 << 30, Duration::from_secs(60));
    let mut recorder = spool.open_session(&header).unwrap();
    let answer = noise(3, 3_000_000);
    recorder.record(ANSWER, &[&answer]).await.unwrap();
    let anchor = recorder.finish("done").await.unwrap();
    house.store.feel(Mood::Well);
    let (report, frames) = house.read(header.id).await;
    assert_eq!(report.chain.anchor(), anchor);
    assert!(stream(&frames, ANSWER) == answer);
    assert!(house.store.failures() > 0);
}

#[tokio::test]
async fn a_store_that_stays_down_ends_sessions_after_the_bounded_wait() {
    let (house, header) = (house(), header());
    house.store.feel(Mood::Down);
    let spool = house.open_with(1 << 30, Duration::from_secs(1));
    let mut recorder = spool.open_session(&header).unwrap();
    let begun = Instant::now();
    let mut answer = Ok(());
    while answer.is_ok() {
        assert!(begun.elapsed() < PATIENCE);
        recorder.record(ANSWER, &[&noise(9, 1000)]).await.unwrap();
        answer = recorder.durable().await;
        next_look().await;
    }
    let error = answer.unwrap_err();
    assert!(matches!(error, RecordError::StoreDown { .. }), "{error}");
    assert!(error.to_string().contains("failed on purpose"), "{error}");
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert!(
        spool.open_session(&super::tests::header()).is_err(),
        "no new session either"
    );

    house.store.feel(Mood::Well);
    drop(recorder);
    until(|| spool.failing().is_none()).await;
    assert_eq!(house.recover(&spool).await.len(), 1);
    house.read(header.id).await;
}

#[tokio::test]
async fn a_session_goes_on_into_the_spool_while_the_store_takes_its_time() {
    let (house, header) = (house(), header());
    house.store.feel(Mood::Silent);
    let spool = house.open_with(1 << 30, Duration::from_secs(20));
    let mut recorder = spool.open_session(&header).unwrap();
    let begun = Instant::now();
    let answer = noise(17, 12_000_000);
    for piece in answer.chunks(500_000) {
        recorder.record(ANSWER, &[piece]).await.unwrap();
    }
    recorder.durable().await.unwrap();
    until(|| recorder.anchor().chunks > 10).await;
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "it did not wait for the store"
    );
    house.store.feel(Mood::Well);
    recorder.finish("done").await.unwrap();
    let (_, frames) = house.read(header.id).await;
    assert!(stream(&frames, ANSWER) == answer);
}

#[tokio::test]
async fn a_store_that_is_silent_ends_sessions_after_the_bounded_wait_too() {
    let (house, header) = (house(), header());
    house.store.feel(Mood::Silent);
    let wait_max = Duration::from_secs(1);
    let spool = house.open_with(1 << 30, wait_max);
    let mut recorder = spool.open_session(&header).unwrap();
    recorder.record(ANSWER, &[&noise(9, 1_100_000)]).await.unwrap();
    recorder.durable().await.unwrap();
    let begun = Instant::now();
    let error = loop {
        assert!(begun.elapsed() < wait_max * 10, "it runs on unrecorded");
        recorder.record(ANSWER, &[&noise(9, 1000)]).await.unwrap();
        if let Err(error) = recorder.durable().await {
            break error;
        }
        next_look().await;
    };
    assert!(matches!(error, RecordError::StoreDown { .. }), "{error}");
    assert!(error.to_string().contains("it does not answer"), "{error}");
    assert!(
        spool.open_session(&super::tests::header()).is_err(),
        "no new session either"
    );

    house.store.feel(Mood::Well);
    drop(recorder);
    until(|| spool.bytes() == 0).await;
    let recovered = spool.recover_left(|_| true).await;
    spool.release(&recovered).await;
    let (report, _) = house.read(header.id).await;
    assert!(report.manifest.unwrap().interrupted);
}

#[tokio::test]
async fn a_full_spool_makes_a_session_wait_and_then_ends_it() {
    let (house, header) = (house(), header());
    house.store.feel(Mood::Down);
    let spool = house.open_with(1_500_000, Duration::from_secs(1));
    let mut recorder = spool.open_session(&header).unwrap();
    let begun = Instant::now();
    let error = loop {
        match recorder.record(ANSWER, &[&noise(5, 50_000)]).await {
            Ok(()) => assert!(spool.bytes() < 4_000_000, "the bound holds"),
            Err(error) => break error,
        }
    };
    let is_either = matches!(error, RecordError::SpoolFull { .. } | RecordError::StoreDown { .. });
    assert!(is_either, "{error}");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(begun.elapsed() < PATIENCE);
}

#[tokio::test]
async fn a_session_longer_than_the_spool_goes_through_while_the_store_keeps_pace() {
    let (house, header) = (house(), header());
    let spool = house.open_with(2_000_000, Duration::from_secs(60));
    let mut recorder = spool.open_session(&header).unwrap();
    let piece = noise(11, 500_000);
    for _ in 0..20 {
        recorder.record(ANSWER, &[&piece]).await.unwrap();
    }
    recorder.finish("done").await.unwrap();
    let (report, _) = house.read(header.id).await;
    assert_eq!(report.chain.totals.gateway_to_client.bytes, 10_000_000);
}

#[tokio::test]
async fn what_is_recorded_gets_to_the_store_within_seconds_also_when_the_session_then_idles() {
    let (house, header) = (house(), header());
    let spool = house.open();
    let mut recorder = spool.open_session(&header).unwrap();
    recorder.record(ASK, &[b"held"]).await.unwrap();
    assert_eq!(recorder.anchor(), Anchor::START);
    until(|| recorder.anchor().chunks > 0 && spool.bytes() == 0).await;
    let (_, frames) = house.read(header.id).await;
    assert_eq!(stream(&frames, ASK), b"held");

    let now = Instant::now();
    let later = now + ANCHOR_INTERVAL;
    assert_eq!(recorder.anchor_due(later), Some(recorder.anchor()));
    assert_eq!(recorder.anchor_due(later + ANCHOR_INTERVAL), None, "nothing new");
}

#[tokio::test]
async fn a_session_that_idles_holds_no_buffer() {
    let (house, header) = (house(), header());
    let spool = house.open();
    let mut recorder = spool.open_session(&header).unwrap();
    recorder.record(ASK, &[&noise(1, BUFFER_BYTES_MAX / 4)]).await.unwrap();
    recorder.durable().await.unwrap();
    assert_eq!(recorder.buffer_capacity(), 0);
}

#[tokio::test]
async fn a_recorder_that_was_dropped_is_closed_by_recover_while_others_go_on() {
    let (house, left, live) = (house(), header(), header());
    let spool = house.open();
    let mut dropped = spool.open_session(&left).unwrap();
    let mut recorder = spool.open_session(&live).unwrap();
    dropped.record(ASK, &[b"left"]).await.unwrap();
    recorder.record(ASK, &[b"live"]).await.unwrap();
    drop(dropped);
    let recovered = house.recover(&spool).await;
    assert_eq!(recovered.iter().map(|one| one.session).collect::<Vec<_>>(), [left.id]);
    recorder.record(ASK, &[b" still"]).await.unwrap();
    recorder.finish("done").await.unwrap();
    let (_, frames) = house.read(live.id).await;
    assert_eq!(stream(&frames, ASK), b"live still");
    let (report, _) = house.read(left.id).await;
    assert!(report.manifest.unwrap().interrupted);
}

#[tokio::test]
async fn a_directory_that_cannot_be_understood_does_not_keep_the_others_from_being_recovered() {
    let (house, header) = (house(), header());
    let spool = house.open();
    let mut recorder = spool.open_session(&header).unwrap();
    recorder.durable().await.unwrap();
    house.kill(spool, vec![recorder]).await;
    let strange = house.session_dir(SessionId(uuid::Uuid::now_v7()));
    fs::create_dir(&strange).unwrap();
    fs::write(strange.join("head"), b"not a head").unwrap();
    fs::write(strange.join("0.frames"), b"something").unwrap();
    let recovered = house.recover(&house.open()).await;
    assert_eq!(recovered.len(), 1);
    assert!(strange.join("0.frames").exists(), "it is left for a person to look at");
}

#[tokio::test]
async fn every_changed_byte_of_a_stored_recording_is_found() {
    let (house, header) = (house(), header());
    let spool = house.open();
    let mut recorder = spool.open_session(&header).unwrap();
    recorder
        .record(ASK, &[b"DELETE FROM orders WHERE id = 7"])
        .await
        .unwrap();
    recorder.record(ANSWER, &[b"DELETE 1"]).await.unwrap();
    recorder.finish("done").await.unwrap();
    let chunk = house.store.read_chunk(header.id, 0).await.unwrap();
    let manifest = house.store.read_manifest(header.id).await.unwrap().unwrap();
    for place in 0..chunk.len() {
        let mut changed = chunk.to_vec();
        changed[place] ^= 1;
        let mut verifier = Verifier::new(header.id, house.key.public(), Witness::default()).unwrap();
        assert!(verifier.chunk(&changed).is_err(), "byte {place} of the chunk");
    }
    for place in 0..manifest.len() {
        let mut changed = manifest.to_vec();
        changed[place] ^= 1;
        assert!(
            Manifest::read(&changed, house.key.public()).is_err(),
            "byte {place} of the manifest"
        );
    }
}
