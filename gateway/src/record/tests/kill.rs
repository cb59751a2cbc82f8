//! A kill -9 between any two steps of a recording's way: each state of the disk is made, then recovered.

use super::*;
use crate::record::session::{read_head, write_head};
use countersign_infra::recordings::chain::End;

/// What the gateway had done since the frames were written.
#[derive(Clone, Copy)]
enum Step {
    /// `0.new` is half written.
    BeginChunk,
    Seal,
    /// The head does not count the chunk yet.
    ForgetChunk,
    /// The frames were not removed yet.
    KeepFrames,
    BeginNextFrames,
    SendChunk,
    RemoveChunk,
    /// `manifest.new` is half written.
    BeginManifest,
    WriteManifest,
    SendManifest,
    RenameDirectory,
    RemoveHead,
}

/// How the recording ends once it was recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Interrupted,
    /// As the session ended it.
    InOrder,
    /// The gateway had done all of it but tidy up.
    Done,
}

const STATES: [(&str, &[Step], Ends); 14] = {
    use Ends::*;
    use Step::*;
    [
        ("the frames are written", &[], Interrupted),
        ("the chunk is half written", &[BeginChunk], Interrupted),
        (
            "the head does not count the chunk",
            &[Seal, ForgetChunk, KeepFrames],
            Interrupted,
        ),
        ("the frames are still there", &[Seal, KeepFrames], Interrupted),
        ("the chunk is made", &[Seal], Interrupted),
        ("the next frames have begun", &[Seal, BeginNextFrames], Interrupted),
        (
            "the store has the chunk, and the spool too",
            &[Seal, SendChunk],
            Interrupted,
        ),
        (
            "the chunk has left the spool",
            &[Seal, SendChunk, RemoveChunk],
            Interrupted,
        ),
        ("the manifest is half written", &[Seal, BeginManifest], Interrupted),
        (
            "the manifest is there before the chunk left",
            &[Seal, WriteManifest],
            InOrder,
        ),
        (
            "the manifest is there alone",
            &[Seal, SendChunk, RemoveChunk, WriteManifest],
            InOrder,
        ),
        (
            "the store has the manifest, and the spool too",
            &[Seal, SendChunk, RemoveChunk, WriteManifest, SendManifest],
            InOrder,
        ),
        (
            "the directory is renamed",
            &[
                Seal,
                SendChunk,
                RemoveChunk,
                WriteManifest,
                SendManifest,
                RenameDirectory,
            ],
            Done,
        ),
        (
            "the directory is half removed",
            &[
                Seal,
                SendChunk,
                RemoveChunk,
                WriteManifest,
                SendManifest,
                RenameDirectory,
                RemoveHead,
            ],
            Done,
        ),
    ]
};

/// A recording as a kill left it.
struct Scene {
    house: House,
    id: SessionId,
    dir: PathBuf,
    frames: Vec<u8>,
    head: Vec<u8>,
}

impl Scene {
    async fn of(house: House, spool: Spool, spool_dir: PathBuf, steps: &[Step]) -> Self {
        let header = header();
        house.store.feel(Mood::Down);
        let mut recorder = spool.open_session(&header).unwrap();
        recorder.record(ASK, &[b"before"]).await.unwrap();
        recorder.durable().await.unwrap();
        house.kill(spool, vec![recorder]).await;
        house.store.feel(Mood::Well);
        let dir = spool_dir.join(header.id.to_string());
        let mut scene = Self {
            id: header.id,
            frames: fs::read(dir.join("0.frames")).unwrap(),
            head: fs::read(dir.join("head")).unwrap(),
            house,
            dir,
        };
        for step in steps {
            scene.take(*step).await;
        }
        scene
    }

    async fn take(&mut self, step: Step) {
        let read = |name: &str| Bytes::from(fs::read(self.dir.join(name)).unwrap());
        let write = |name: &str, bytes: &[u8]| fs::write(self.dir.join(name), bytes).unwrap();
        let remove = |name: &str| fs::remove_file(self.dir.join(name)).unwrap();
        let store = &self.house.store;
        match step {
            Step::BeginChunk => write("0.new", b"half a chunk"),
            Step::Seal => {
                let mut head = read_head(&self.dir).unwrap().unwrap();
                let chunk = head.chain.seal(&read("0.frames"), &self.house.key).unwrap();
                write("0.chunk", &chunk);
                write_head(&self.dir, &head.chain, head.started).unwrap();
                remove("0.frames");
            }
            Step::ForgetChunk => write("head", &self.head),
            Step::KeepFrames => write("0.frames", &self.frames),
            Step::BeginNextFrames => write("1.frames", b""),
            Step::SendChunk => store.put_chunk(self.id, 0, read("0.chunk")).await.unwrap(),
            Step::RemoveChunk => remove("0.chunk"),
            Step::BeginManifest => write("manifest.new", b"half a manifest"),
            Step::WriteManifest => {
                let head = read_head(&self.dir).unwrap().unwrap();
                let end = End {
                    started: head.started,
                    ended: chrono::Utc::now(),
                    interrupted: false,
                    why: "the client left".to_owned(),
                };
                write("manifest", &head.chain.close(end, &self.house.key));
            }
            Step::SendManifest => store.put_manifest(self.id, read("manifest")).await.unwrap(),
            Step::RenameDirectory => {
                let gone = self.dir.with_extension("gone");
                fs::rename(&self.dir, &gone).unwrap();
                self.dir = gone;
            }
            Step::RemoveHead => remove("head"),
        }
    }

    async fn check(&self, what: &str, recovered: &[Recovered], keys: &[PublicKey], ends: Ends) {
        let (report, frames) = self.house.read_with(self.id, keys).await;
        assert_eq!(stream(&frames, ASK), b"before", "{what}");
        assert_eq!(report.chain.chunks, 1, "{what}");
        let manifest = report.manifest.as_ref().unwrap();
        assert_eq!(manifest.interrupted, ends == Ends::Interrupted, "{what}");
        let expected = Recovered {
            session: self.id,
            chunks: 1,
            last: report.chain.last,
        };
        let expected = (ends != Ends::Done).then_some(expected);
        assert_eq!(recovered, expected.as_slice(), "{what}: what the journal is told");
        assert!(!self.dir.exists(), "{what}: nothing is left in the spool");
    }
}

#[tokio::test]
async fn a_kill_between_any_two_steps_loses_nothing_and_the_next_start_completes_the_recording() {
    for (what, steps, ends) in STATES {
        let house = house();
        let (spool, dir) = (house.open(), house.spool_dir());
        let scene = Scene::of(house, spool, dir, steps).await;
        let spool = scene.house.open();
        let recovered = scene.house.recover(&spool).await;
        let keys = [scene.house.key.public().clone()];
        scene.check(what, &recovered, &keys, ends).await;
        assert_eq!(spool.bytes(), 0, "{what}");
        assert_eq!(scene.house.recover(&spool).await, [], "{what}");
    }
}

#[tokio::test]
async fn a_kill_between_any_two_steps_loses_nothing_and_another_gateway_completes_the_recording() {
    for (what, steps, ends) in STATES {
        let house = house();
        let spool = house.open_beside(&house.key);
        let dir = house.spools().pop().unwrap();
        let scene = Scene::of(house, spool, dir, steps).await;
        let house = &scene.house;
        let other = Arc::new(SigningKey::generate().unwrap());
        let spool = house.open_beside(&other);
        let mut recovered = Vec::new();
        for adopted in spool.adopt().await {
            recovered.extend(house.recover(&adopted).await);
            assert!(adopted.remove_if_empty().await.unwrap(), "{what}");
        }
        let keys = [house.key.public().clone(), other.public().clone()];
        scene.check(what, &recovered, &keys, ends).await;
        assert_eq!(
            house.spools().len(),
            1,
            "{what}: only the spool of the gateway that lives"
        );
    }
}

#[tokio::test]
async fn a_kill_before_anything_was_recorded_leaves_nothing() {
    for has_head in [false, true] {
        let (house, header) = (house(), header());
        let dir = house.session_dir(header.id);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("head.new"), b"half a head").unwrap();
        if has_head {
            let chain = countersign_infra::recordings::chain::Chain::new(header.id);
            write_head(&dir, &chain, header.opened).unwrap();
            fs::write(dir.join("0.frames"), b"").unwrap();
        }
        let spool = house.open();
        for one in house.recover(&spool).await {
            assert_eq!((one.session, one.chunks), (header.id, 0));
        }
        assert!(!dir.exists());
    }
}

#[tokio::test]
async fn a_kill_of_the_one_who_recovers_is_recovered_too_and_the_journal_is_told_again() {
    let house = house();
    let (spool, dir) = (house.open(), house.spool_dir());
    let scene = Scene::of(house, spool, dir, &[]).await;
    let house = &scene.house;
    let spool = house.open();
    let first = spool.recover().await.unwrap();
    assert_eq!(first.len(), 1);
    assert!(scene.dir.join("manifest").exists(), "it stays until the journal knows");
    house.kill(spool, Vec::new()).await;
    let spool = house.open();
    assert_eq!(house.recover(&spool).await, first);
    let keys = [house.key.public().clone()];
    scene.check("recovered twice", &first, &keys, Ends::Interrupted).await;
}
