//! One session.

use super::*;

#[tokio::test]
async fn an_untouched_session_verifies_and_says_whose_key_was_used() {
    let data = Data::new().await;
    let session = data.recorded(1).await;
    let finding = data.examine(session).await;
    assert_eq!(finding.broken, None);
    let json = serde_json::to_value(&finding).unwrap();
    assert_eq!(json["verified"], true);
    assert_eq!(json["closed"], true);
    assert_eq!(json["own_key"], false);
    assert_eq!((&json["events"], &json["anchors"]), (&3.into(), &2.into()));
    assert!(finding.text.ends_with("VERIFIED\n"), "{}", finding.text);
    let hint = "give your own copy of it with --key";
    assert!(finding.text.contains(hint), "{}", finding.text);
    let own = Keyring::load(&[data.dir.path().join("keys")]).unwrap();
    assert!(!data.examine_with(session, Some(own)).await.text.contains(hint));
}

#[tokio::test]
async fn a_changed_byte_of_the_chunk_or_the_manifest_or_a_missing_file_is_named() {
    let data = Data::new().await;
    let session = data.recorded(1).await;
    for name in ["0.chunk", "manifest"] {
        let path = data.recording(session).join(name);
        let whole = std::fs::read(&path).unwrap();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        std::fs::write(&path, changed).unwrap();
        let broken = data.examine(session).await.broken.unwrap();
        assert!(broken.starts_with("the recording: "), "{broken}");
        std::fs::remove_file(&path).unwrap();
        let broken = data.examine(session).await.broken.unwrap();
        assert!(broken.contains("missing"), "{broken}");
        std::fs::write(&path, whole).unwrap();
    }
    assert_eq!(data.examine(session).await.broken, None);
    std::fs::remove_dir_all(data.recording(session)).unwrap();
    let broken = data.examine(session).await.broken.unwrap();
    assert!(broken.contains("the journal knows of 1 chunks"), "{broken}");
}

#[tokio::test]
async fn a_changed_byte_of_the_journal_is_named() {
    let data = Data::new().await;
    let session = data.recorded(1).await;
    let path = data.dir.path().join("countersign.db");
    let Data {
        dir,
        recordings,
        key,
        spool,
        journal,
        kept_days: _,
        sessions,
        digests,
    } = data;
    drop((key, spool, journal, sessions, digests));
    // The store's threads end after its last handle; then all of it is in the one file.
    while path.with_extension("db-wal").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (mut changed, needle) = (0, example::client().address);
    let mut bytes = std::fs::read(&path).unwrap();
    let places = bytes.windows(needle.len()).enumerate();
    let places = places
        .filter(|(_, window)| *window == needle.as_bytes())
        .map(|(place, _)| place);
    for place in places.collect::<Vec<_>>() {
        bytes[place] ^= 1;
        changed += 1;
    }
    std::fs::write(&path, bytes).unwrap();
    assert!(changed > 0);
    let journal = EmbeddedStore::open(&path).unwrap();
    let stores = Stores {
        approvals: Arc::new(journal.clone()),
        journal: Arc::new(journal.clone()),
        recordings,
        operations: operations(dir.path()),
        chat_links: Arc::new(journal.clone()),
        directory: Arc::new(journal.clone()),
        tickets: Arc::new(journal.clone()),
        announcements: Arc::new(journal.clone()),
        grants: Arc::new(journal),
    };
    let source = Source::stores(stores, &dir.path().join("keys"), None);
    let finding = examine(&source, session, &Said::default()).await.unwrap();
    let broken = finding.broken.unwrap();
    assert!(broken.starts_with("the journal: "), "{broken}");
}

#[tokio::test]
async fn a_journal_that_was_cut_off_before_the_sessions_end_is_named() {
    let data = Data::new().await;
    let session = data.recorded_until(1, Journaled::Opened).await;
    let broken = data.examine(session).await.broken.unwrap();
    assert!(broken.contains("its last events are missing"), "{broken}");
}

#[tokio::test]
async fn a_recording_without_a_journal_is_named_and_an_unknown_session_is_an_error() {
    let data = Data::new().await;
    let (session, other) = (data.recorded(1).await, SessionId(uuid::Uuid::now_v7()));
    std::fs::rename(data.recording(session), data.recording(other)).unwrap();
    let broken = data.examine(other).await.broken.unwrap();
    assert!(broken.contains("it has no event of this session"), "{broken}");
    let unknown = SessionId(uuid::Uuid::now_v7());
    let error = examine(&data.source(None), unknown, &Said::default())
        .await
        .unwrap_err();
    assert!(error.is::<UnknownSession>(), "{error}");
}

#[tokio::test]
async fn a_key_that_is_not_given_is_named_with_those_that_were_tried() {
    let data = Data::new().await;
    let session = data.recorded(1).await;
    let other = SigningKey::generate().unwrap();
    let own = Keyring::from(other.public().clone());
    let broken = data.examine_with(session, Some(own)).await.broken.unwrap();
    for id in [data.key.key_id(), other.key_id()] {
        assert!(broken.contains(&id.to_string()), "{broken}");
    }
    let both = Keyring::new([other.public().clone(), data.key.public().clone()]);
    assert_eq!(data.examine_with(session, Some(both)).await.broken, None);
}
