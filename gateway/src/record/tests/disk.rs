//! A disk under the spool that is full.

use super::*;
use std::process::Command;

/// A small disk of its own, in memory.
struct SmallDisk {
    at: TempDir,
}

impl SmallDisk {
    /// Fails where mounting is not permitted: what a full disk does cannot be seen without one.
    fn mount(size: &str) -> Self {
        let at = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=0700");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "countersign-test"])
            .arg(at.path())
            .output()
            .unwrap();
        assert!(
            mount.status.success(),
            "this test mounts a tmpfs and must run where that is permitted (as root, with CAP_SYS_ADMIN): {}",
            String::from_utf8_lossy(&mount.stderr)
        );
        Self { at }
    }

    /// Fills all but some room with something else.
    fn fill_up_to(&self, free: usize) -> PathBuf {
        let path = self.at.path().join("something-else");
        let mut file = fs::File::create(&path).unwrap();
        let zeros = [0; 4096];
        while std::io::Write::write_all(&mut file, &zeros).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length - free as u64).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.at.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_ends_sessions_with_its_name_and_all_goes_on_once_there_is_room() {
    let disk = SmallDisk::mount("8m");
    let something_else = disk.fill_up_to(400 << 10);
    let house = house();
    let store = Arc::clone(&house.store) as Arc<dyn RecordingStore>;
    let at = disk.at.path().join("spool");
    let wait_max = Duration::from_secs(20);
    let spool = Spool::open(&at, 1 << 30, store, Arc::clone(&house.key), wait_max).unwrap();

    let first = header();
    let mut recorder = spool.open_session(&first).unwrap();
    let mut durable = Vec::new();
    let error = loop {
        let piece = noise(durable.len() as u64, 100_000);
        if let Err(error) = recorder.record(ANSWER, &[&piece]).await {
            break error;
        }
        if let Err(error) = recorder.durable().await {
            break error;
        }
        durable.extend(piece);
    };
    assert!(matches!(error, RecordError::DiskFull { .. }), "{error:?}");
    assert!(error.to_string().contains(at.to_str().unwrap()), "{error}");
    assert!(durable.len() >= 200_000, "{}", durable.len());
    recorder.durable().await.unwrap_err();
    let error = recorder.finish("it could not be recorded").await.unwrap_err();
    assert!(matches!(error, RecordError::DiskFull { .. }), "{error:?}");

    // Nothing else is taken for recorded either.
    let mut other = spool.open_session(&header()).unwrap();
    other.record(ASK, &[&noise(1, 60_000)]).await.unwrap();
    let error = other.durable().await.unwrap_err();
    assert!(matches!(error, RecordError::DiskFull { .. }), "{error:?}");
    drop(other);

    fs::remove_file(something_else).unwrap();
    let third = header();
    let mut recorder = spool.open_session(&third).unwrap();
    recorder.record(ASK, &[b"there is room"]).await.unwrap();
    recorder.durable().await.unwrap();
    recorder.finish("done").await.unwrap();
    let (_, frames) = house.read(third.id).await;
    assert_eq!(stream(&frames, ASK), b"there is room");

    let recovered = spool.recover_left(|_| true).await;
    spool.release(&recovered).await;
    assert_eq!(recovered.len(), 2);
    let (report, frames) = house.read(first.id).await;
    assert!(report.manifest.unwrap().interrupted);
    assert!(
        stream(&frames, ANSWER).starts_with(&durable),
        "all that was said to be durable is there"
    );
    until(|| spool.bytes() == 0).await;
}

#[tokio::test]
async fn a_full_disk_is_named_as_such_and_nothing_is_taken_for_durable() {
    let (house, header) = (house(), header());
    let spool = house.open();
    let dir = house.session_dir(header.id);
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.join("0.frames")).unwrap();
    let mut recorder = spool.open_session(&header).unwrap();
    recorder.record(ASK, &[b"a question"]).await.unwrap();
    let error = recorder.durable().await.unwrap_err();
    assert!(matches!(error, RecordError::DiskFull { .. }), "{error:?}");
    assert!(error.to_string().contains("free some space"), "{error}");
    recorder.durable().await.unwrap_err();
}
