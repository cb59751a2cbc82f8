//! What a machine that lost its power leaves of files that the disk did not have yet.

use super::*;

/// Frames of four closed files, of which none is a chunk yet, and what was recorded in each.
async fn four_files(house: &House) -> (SessionId, PathBuf) {
    let (spool, header) = (house.open(), header());
    let mut recorder = spool.open_session(&header).unwrap();
    recorder.record(ASK, &[b"0"]).await.unwrap();
    recorder.durable().await.unwrap();
    house.kill(spool, vec![recorder]).await;
    let dir = house.session_dir(header.id);
    let mut micros = 10_000_000;
    for number in 1..4 {
        let mut frames = countersign_infra::recordings::format::FrameBuffer::default();
        for text in [b"a", b"b"] {
            micros += 1_000_000;
            frames.push(Kind::Wire(ASK), micros, &[format!("{number}").as_bytes(), text], false);
        }
        fs::write(dir.join(format!("{number}.frames")), frames.take()).unwrap();
    }
    (header.id, dir)
}

/// The client's bytes, with `!` where the recording says that something is lost.
async fn told(house: &House, id: SessionId) -> String {
    let spool = house.open();
    assert_eq!(house.recover(&spool).await.len(), 1);
    assert_eq!(spool.bytes(), 0);
    house.kill(spool, Vec::new()).await;
    let (_, frames) = house.read(id).await;
    let micros: Vec<u64> = frames.iter().map(|frame| frame.micros).collect();
    assert!(micros.is_sorted(), "{micros:?}");
    let mut told = String::new();
    for frame in frames {
        let text = String::from_utf8_lossy(&frame.bytes).into_owned();
        match frame.kind {
            Kind::Header => {}
            Kind::Event if text.contains("are lost here") => told.push('!'),
            Kind::Event => told.push('?'),
            Kind::Wire(_) => told.push_str(&text),
        }
    }
    told
}

#[tokio::test]
async fn bytes_that_are_lost_in_the_middle_of_a_recording_are_told_in_it() {
    let cut = |dir: &Path, number: u64, length: u64| {
        let file = fs::OpenOptions::new()
            .write(true)
            .open(dir.join(format!("{number}.frames")));
        file.unwrap().set_len(length).unwrap();
    };
    let house = house();
    let (id, dir) = four_files(&house).await;
    cut(&dir, 2, 20);
    assert_eq!(told(&house, id).await, "01a1b2a!3a3b");
    let (id, dir) = four_files(&house).await;
    cut(&dir, 2, 0);
    assert_eq!(told(&house, id).await, "01a1b!3a3b");
    let (id, dir) = four_files(&house).await;
    fs::write(dir.join("1.frames"), [0; 40]).unwrap();
    fs::remove_file(dir.join("2.frames")).unwrap();
    assert_eq!(told(&house, id).await, "0!!3a3b");
    // The last file is cut when a gateway is killed too.
    let (id, dir) = four_files(&house).await;
    cut(&dir, 3, 20);
    assert_eq!(told(&house, id).await, "01a1b2a2b3a");
    let (id, dir) = four_files(&house).await;
    cut(&dir, 3, 0);
    assert_eq!(told(&house, id).await, "01a1b2a2b");
}
