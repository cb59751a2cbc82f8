//! Gateways that share a directory on one disk.

use super::*;

#[tokio::test]
async fn a_second_gateway_cannot_open_the_same_spool() {
    let house = house();
    let _spool = house.open();
    let store = Arc::clone(&house.store) as Arc<dyn RecordingStore>;
    let second = Spool::open(&house.spool_dir(), 1, store, Arc::clone(&house.key), Duration::ZERO);
    assert!(matches!(second.err(), Some(RecordError::Locked { .. })));
}

#[tokio::test]
async fn gateways_that_live_leave_each_others_spools_alone() {
    let (house, header) = (house(), header());
    let (one, other) = (house.open_beside(&house.key), house.open_beside(&house.key));
    assert_eq!(house.spools().len(), 2);
    let mut recorder = one.open_session(&header).unwrap();
    recorder.record(ASK, &[b"alive"]).await.unwrap();
    recorder.durable().await.unwrap();
    assert!(other.adopt().await.is_empty());
    assert!(one.adopt().await.is_empty(), "nor one's own");
    recorder.finish("done").await.unwrap();
    house.read(header.id).await;
}

#[tokio::test]
async fn a_gateway_completes_what_a_dead_one_left_and_signs_only_what_was_not_signed() {
    let (house, header) = (house(), header());
    house.store.feel(Mood::Down);
    let dead = house.open_beside(&house.key);
    let answer = noise(13, 2_500_000);
    let mut recorder = dead.open_session(&header).unwrap();
    recorder.record(ANSWER, &[&answer]).await.unwrap();
    recorder.durable().await.unwrap();
    until(|| recorder.anchor().chunks == 2).await;
    house.kill(dead, vec![recorder]).await;
    house.store.feel(Mood::Well);

    let own = Arc::new(SigningKey::generate().unwrap());
    let spool = house.open_beside(&own);
    let [adopted] = <[Spool; 1]>::try_from(spool.adopt().await).ok().unwrap();
    let recovered = house.recover(&adopted).await;
    let keys = [house.key.public().clone(), own.public().clone()];
    let (report, frames) = house.read_with(header.id, &keys).await;
    assert!(stream(&frames, ANSWER) == answer);
    assert_eq!(recovered[0].last, report.chain.last);
    let manifest = report.manifest.unwrap();
    assert!(manifest.interrupted);
    assert_eq!(manifest.key, own.key_id());
    let signers = house.signers(header.id).await;
    assert_eq!(signers, [house.key.key_id(), house.key.key_id(), own.key_id()]);
    assert!(adopted.remove_if_empty().await.unwrap());
    assert_eq!(house.spools().len(), 1);
}

#[tokio::test]
async fn a_recording_over_which_three_gateways_died_is_completed_by_a_fourth() {
    let (house, header) = (house(), header());
    house.store.feel(Mood::Down);
    let first = house.open_beside(&house.key);
    let mut recorder = first.open_session(&header).unwrap();
    recorder.record(ASK, &[b"whole"]).await.unwrap();
    recorder.durable().await.unwrap();
    house.kill(first, vec![recorder]).await;

    let mut keys = vec![house.key.public().clone()];
    for step in 0..3 {
        let key = Arc::new(SigningKey::generate().unwrap());
        keys.push(key.public().clone());
        let spool = house.open_beside(&key);
        let [adopted] = <[Spool; 1]>::try_from(spool.adopt().await).ok().unwrap();
        if step == 2 {
            house.store.feel(Mood::Well);
        }
        let recovered = adopted.recover().await.unwrap();
        assert_eq!(recovered.len(), 1, "each of them may have to tell the journal");
        if step == 2 {
            adopted.release(&recovered).await;
            assert!(adopted.remove_if_empty().await.unwrap());
        }
        // The one before has counted its chunk in vain: the head that it wrote last does not count it.
        let head = house.spools().iter().find_map(|dir| {
            let head = dir.join(header.id.to_string()).join("head");
            head.exists().then_some(head)
        });
        house.kill(adopted, Vec::new()).await;
        house.kill(spool, Vec::new()).await;
        if let (0, Some(head)) = (step, head) {
            let chain = countersign_infra::recordings::chain::Chain::new(header.id);
            super::super::session::write_head(head.parent().unwrap(), &chain, header.opened).unwrap();
            fs::remove_file(head.with_file_name("manifest")).unwrap();
        }
    }
    let (report, frames) = house.read_with(header.id, &keys).await;
    assert_eq!(stream(&frames, ASK), b"whole");
    assert!(report.manifest.unwrap().interrupted);
    assert_eq!(
        house.signers(header.id).await,
        [keys[1].id()],
        "the second gateway's chunk was kept"
    );
}

#[tokio::test]
async fn of_two_gateways_that_look_at_once_one_gets_each_dead_spool() {
    let house = house();
    house.store.feel(Mood::Down);
    for _ in 0..6 {
        let dead = house.open_beside(&house.key);
        let mut recorder = dead.open_session(&header()).unwrap();
        recorder.durable().await.unwrap();
        house.kill(dead, vec![recorder]).await;
    }
    let (one, other) = (house.open_beside(&house.key), house.open_beside(&house.key));
    let (mut ones, mut others) = tokio::join!(one.adopt(), other.adopt());
    assert!(ones.len() + others.len() >= 4, "a few at a look");
    ones.extend(one.adopt().await);
    others.extend(other.adopt().await);
    assert_eq!(ones.len() + others.len(), 6);
    house.store.feel(Mood::Well);
    let mut sessions = Vec::new();
    for adopted in ones.into_iter().chain(others) {
        sessions.extend(house.recover(&adopted).await.iter().map(|one| one.session));
        assert!(adopted.remove_if_empty().await.unwrap());
    }
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!(sessions.len(), 6);
    assert_eq!(house.spools().len(), 2);
}

#[tokio::test]
async fn a_gateway_that_stops_leaves_its_spool_only_when_something_is_in_it() {
    let house = house();
    let spool = house.open_beside(&house.key);
    spool.open_session(&header()).unwrap().finish("done").await.unwrap();
    spool.stop().await;
    assert_eq!(house.spools(), Vec::<PathBuf>::new());

    house.store.feel(Mood::Down);
    let spool = house.open_with_beside(Duration::from_millis(100), &house.key);
    let mut recorder = spool.open_session(&header()).unwrap();
    recorder.durable().await.unwrap();
    recorder.finish("done").await.unwrap();
    spool.stop().await;
    assert_eq!(house.spools().len(), 1);
}

#[tokio::test]
async fn what_a_dead_gateway_left_that_nobody_understands_stays_for_a_person_to_look_at() {
    let house = house();
    let dead = house.open_beside(&house.key);
    let strange = house.spools()[0].join(SessionId(uuid::Uuid::now_v7()).to_string());
    fs::create_dir(&strange).unwrap();
    fs::write(strange.join("0.frames"), b"something").unwrap();
    house.kill(dead, Vec::new()).await;
    let spool = house.open_beside(&house.key);
    let [adopted] = <[Spool; 1]>::try_from(spool.adopt().await).ok().unwrap();
    assert_eq!(house.recover(&adopted).await, []);
    assert!(!adopted.remove_if_empty().await.unwrap());
    assert!(spool.adopt().await.is_empty(), "it is not taken up again and again");
    assert!(strange.join("0.frames").exists());
}

#[tokio::test]
async fn a_spool_that_was_never_finished_is_removed_and_what_cannot_be_removed_hides_no_other() {
    let house = house();
    let dead = house.open_beside(&house.key);
    house.store.feel(Mood::Down);
    let mut recorder = dead.open_session(&header()).unwrap();
    recorder.durable().await.unwrap();
    house.kill(dead, vec![recorder]).await;
    let begun = |age: u64| {
        let dir = house
            .dir
            .path()
            .join("shared")
            .join(format!(".{}.new", uuid::Uuid::now_v7()));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("lock"), b"").unwrap();
        let modified = std::time::SystemTime::now() - Duration::from_secs(age);
        fs::File::open(&dir).unwrap().set_modified(modified).unwrap();
        dir
    };
    let (old, new) = (begun(120), begun(0));
    // A directory is expected there.
    let stubborn = house.dir.path().join("shared").join("0.gone");
    fs::write(&stubborn, b"").unwrap();
    let spool = house.open_beside(&house.key);
    assert_eq!(spool.adopt().await.len(), 1);
    assert!(!old.exists());
    assert!(new.exists(), "that of a gateway that starts");
    assert!(stubborn.exists());
}

/// So many dead gateways that left 2 MB each, because the store is down.
async fn leave(house: &House, gateways: u64) {
    house.store.feel(Mood::Down);
    for seed in 0..gateways {
        let dead = house.open_beside(&house.key);
        let mut recorder = dead.open_session(&header()).unwrap();
        recorder.record(ANSWER, &[&noise(seed, 2_000_000)]).await.unwrap();
        recorder.durable().await.unwrap();
        house.kill(dead, vec![recorder]).await;
    }
}

#[tokio::test]
async fn no_session_is_opened_while_what_dead_gateways_left_fills_the_spool() {
    let house = house();
    leave(&house, 2).await;
    let spool = house.open_small_beside(4_000_000, Duration::from_secs(20));
    let refused = || spool.open_session(&header()).err();
    assert!(
        matches!(refused(), Some(RecordError::NoRoom { .. })),
        "they lie beside it"
    );
    let adopted = spool.adopt().await;
    assert_eq!(adopted.len(), 2);
    assert!(
        matches!(refused(), Some(RecordError::NoRoom { .. })),
        "they are its own now"
    );
    house.store.feel(Mood::Well);
    for adopted in adopted {
        house.recover(&adopted).await;
        assert!(adopted.remove_if_empty().await.unwrap());
    }
    spool.open_session(&header()).unwrap().finish("done").await.unwrap();
}

#[tokio::test]
async fn one_gateway_that_starts_again_and_again_fills_a_spool_once() {
    let house = house();
    leave(&house, 6).await;
    let bytes_max = 14_000_000;
    let spool = house.open_small_beside(bytes_max, Duration::from_secs(4));
    let mut recorder = spool.open_session(&header()).unwrap();
    let adopted = spool.adopt().await;
    assert_eq!(adopted.len(), 4, "two are left beside it");
    let error = loop {
        if let Err(error) = recorder.record(ANSWER, &[&noise(9, 50_000)]).await {
            break error;
        }
    };
    let is_either = matches!(error, RecordError::SpoolFull { .. } | RecordError::StoreDown { .. });
    assert!(is_either, "{error}");
    let spools = house.spools();
    let bytes: u64 = spools
        .iter()
        .map(|dir| super::super::spool::bytes_in(dir).unwrap())
        .sum();
    assert!(bytes > 12_000_000, "{bytes}");
    // A chunk that is being made lies there twice for a moment.
    assert!(bytes <= bytes_max + (1 << 20), "{bytes}");
}
