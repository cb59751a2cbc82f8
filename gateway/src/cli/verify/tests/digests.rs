//! All sessions of a time, by the digests.

use super::*;

/// Two digests: of two sessions, and of one; the second ends the run.
async fn data() -> (Data, [SessionId; 3]) {
    let data = Data::new().await;
    let (one, two) = (data.recorded(3).await, data.recorded(1).await);
    data.digests.sign(Utc::now(), false).await.unwrap();
    let three = data.recorded(1).await;
    data.digests.sign(Utc::now(), true).await.unwrap();
    (data, [one, two, three])
}

/// What is found, as `about: what`, the first thing first.
async fn broken(data: &Data) -> Vec<String> {
    let swept = data.sweep().await;
    assert_eq!(swept.verified, swept.broken.is_empty());
    let shown = |broken: &super::super::gather::Broken| format!("{}: {}", broken.about, broken.what);
    let all: Vec<String> = swept.broken.iter().map(shown).collect();
    if let Some(first) = all.first() {
        assert!(swept.to_string().starts_with(&format!("BROKEN: {first}\n")), "{swept}");
    }
    all
}

/// Something is named, before anything else, with all of these words.
async fn names(data: &Data, words: &[&str]) {
    let all = broken(data).await;
    let first = all.first().expect("nothing was found");
    for word in words {
        assert!(first.contains(word), "{word:?} is missing in {all:#?}");
    }
}

#[tokio::test]
async fn what_is_untouched_verifies_and_says_what_that_proves() {
    let (data, _) = data().await;
    assert_eq!(broken(&data).await, Vec::<String>::new());
    let text = data.sweep().await.to_string();
    for needed in [
        "2 of 1 runs",
        "3, each with its journal",
        "5 chunks",
        "VERIFIED",
        "does not prove that the gateways wrote what happened",
    ] {
        assert!(text.contains(needed), "{needed:?} is missing in {text}");
    }
    assert!(data.sweep_at(Utc::now(), true).await.verified);
}

#[tokio::test]
async fn nothing_at_all_verifies() {
    assert!(Data::new().await.sweep().await.verified);
}

#[tokio::test]
async fn a_session_whose_recording_was_deleted_is_named() {
    let (data, [one, ..]) = data().await;
    std::fs::remove_dir_all(data.recording(one)).unwrap();
    names(&data, &[&one.to_string(), "it is missing", "3 chunks"]).await;
    assert!(!data.sweep_at(Utc::now(), true).await.verified);
}

#[tokio::test]
async fn a_session_of_which_recording_and_journal_were_deleted_is_named_by_the_digest() {
    let (data, [one, two, three]) = data().await;
    std::fs::remove_dir_all(data.recording(two)).unwrap();
    let database = data.dir.path().join("countersign.db");
    // A store whose journal never had the session: what an administrator of the journal would leave behind.
    let kept = tempfile::tempdir().unwrap();
    let journal = EmbeddedStore::open(kept.path().join("countersign.db")).unwrap();
    for session in [one, three] {
        journal
            .append(&data.journal.session(session).await.unwrap())
            .await
            .unwrap();
    }
    let signed = countersign_infra::journal::JournalQuery {
        events: vec!["digest_signed".to_owned()],
        ..Default::default()
    };
    for event in data.journal.search(&signed).await.unwrap().events {
        journal.append(&[event]).await.unwrap();
    }
    assert!(database.exists());
    let data = Data { journal, ..data };
    names(
        &data,
        &[
            &two.to_string(),
            "neither its journal nor its recording",
            "digest names it",
        ],
    )
    .await;
    assert!(!data.sweep_at(Utc::now(), true).await.verified);
}

/// A digest that was signed before anything of the session was anchored.
#[tokio::test]
async fn a_session_that_was_erased_whole_is_named_when_a_digest_says_that_it_lived() {
    let data = Data::new().await;
    let header = header(Utc::now(), |id| data.sessions.number(id));
    let live = data.sessions.register(&header, CancellationToken::new());
    data.digests.sign(Utc::now(), false).await.unwrap();
    // Its journal may come a moment after its number.
    assert!(data.sweep().await.verified);
    let later = Utc::now() + TimeDelta::minutes(5);
    for is_quick in [false, true] {
        let swept = data.sweep_at(later, is_quick).await;
        assert_eq!(swept.broken.len(), 1, "{swept}");
        let text = swept.to_string();
        assert!(text.contains(&format!("session {}", header.id)), "{text}");
    }
    // The gateway itself can take it back: it never began.
    data.sessions.give_up(header.number);
    drop(live);
    data.digests.sign(Utc::now(), true).await.unwrap();
    for is_quick in [false, true] {
        let swept = data.sweep_at(later, is_quick).await;
        assert!(swept.verified, "{swept}");
    }
}

#[tokio::test]
async fn a_session_that_was_refused_because_it_could_not_be_recorded_verifies() {
    let data = Data::new().await;
    let header = header(Utc::now(), |id| data.sessions.number(id));
    data.journal(&header, Anchor::START, Journaled::Closed).await;
    data.sessions.give_up(header.number);
    data.digests.sign(Utc::now(), true).await.unwrap();
    for is_quick in [false, true] {
        let swept = data.sweep_at(Utc::now() + TimeDelta::hours(3), is_quick).await;
        assert!(swept.verified, "{swept}");
    }
}

#[tokio::test]
async fn a_deleted_digest_is_named_by_the_journal_and_by_the_one_after_it() {
    for number in [0, 1] {
        let (data, _) = data().await;
        let path = data.digest_files().remove(number);
        std::fs::remove_file(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        names(&data, &[&name, "it is missing", "the journal says", "gateway g1"]).await;
        let all = broken(&data).await;
        if number == 0 {
            let gap = all.iter().any(|broken| broken.contains("in the place of digest 0"));
            assert!(gap, "{all:#?}");
        }
        let sessions = all.iter().filter(|broken| broken.starts_with("session ")).count();
        assert_eq!(sessions, if number == 0 { 2 } else { 0 }, "{all:#?}");
    }
}

#[tokio::test]
async fn all_digests_of_a_run_deleted_from_store_and_journal_show_by_its_sessions() {
    let data = Data::new().await;
    let one = data.recorded(1).await;
    let soon = data.sweep().await;
    assert!(soon.verified, "{soon}");
    assert!(soon.to_string().contains("1 sessions are in no digest yet"), "{soon}");
    let later = data.sweep_at(Utc::now() + TimeDelta::hours(3), false).await;
    let text = later.to_string();
    assert!(
        text.contains(&one.to_string()) && text.contains("no digest names it"),
        "{text}"
    );
}

#[tokio::test]
async fn the_last_chunks_of_a_recording_cut_off_are_named() {
    let (data, [one, ..]) = data().await;
    std::fs::remove_file(data.recording(one).join("2.chunk")).unwrap();
    names(
        &data,
        &[&one.to_string(), "has 2 chunks", "knows of 3", "chunk 2 is missing"],
    )
    .await;
    std::fs::remove_file(data.recording(one).join("manifest")).unwrap();
    names(&data, &[&one.to_string(), "chunk 2 is missing"]).await;
    assert!(!data.sweep_at(Utc::now(), true).await.verified);
}

#[tokio::test]
async fn a_chunk_removed_from_the_middle_is_named() {
    let (data, [one, ..]) = data().await;
    std::fs::remove_file(data.recording(one).join("1.chunk")).unwrap();
    names(&data, &[&one.to_string(), "chunk 1 is missing"]).await;
}

#[tokio::test]
async fn swapped_chunks_are_named() {
    let (data, [one, ..]) = data().await;
    let chunk = |number: u64| data.recording(one).join(format!("{number}.chunk"));
    std::fs::rename(chunk(1), chunk(9)).unwrap();
    std::fs::rename(chunk(2), chunk(1)).unwrap();
    std::fs::rename(chunk(9), chunk(2)).unwrap();
    names(&data, &[&one.to_string(), "in the place of chunk 1 stands chunk 2"]).await;
}

#[tokio::test]
async fn an_altered_chunk_is_named() {
    let (data, [one, ..]) = data().await;
    let path = data.recording(one).join("1.chunk");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    names(&data, &[&one.to_string(), "chunk 1 was changed"]).await;
}

#[tokio::test]
async fn an_altered_or_renamed_digest_is_named() {
    let (data, _) = data().await;
    let path = data.digest_files().remove(0);
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, whole.replace("\"closed\":true", "\"closed\":false")).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    names(&data, &[&name, "it was changed"]).await;
    std::fs::write(&path, &whole).unwrap();
    let renamed = path.with_file_name(name.replace("-0.json", "-5.json"));
    std::fs::rename(&path, &renamed).unwrap();
    names(&data, &["-5.json", "another digest"]).await;
    std::fs::rename(&renamed, path.with_file_name("what.json")).unwrap();
    names(&data, &["what.json", "no gateway gives"]).await;
}

#[tokio::test]
async fn a_recording_that_nobody_opened_is_named() {
    let (data, [one, ..]) = data().await;
    let other = SessionId(uuid::Uuid::now_v7());
    let (from, to) = (data.recording(one), data.recording(other));
    std::fs::create_dir_all(&to).unwrap();
    std::fs::copy(from.join("0.chunk"), to.join("0.chunk")).unwrap();
    names(&data, &[&other.to_string(), "it has no event of this session"]).await;
}

#[tokio::test]
async fn only_one_gateway_is_looked_at_when_it_is_named() {
    let (data, [one, ..]) = data().await;
    std::fs::remove_dir_all(data.recording(one)).unwrap();
    let source = data.source(None);
    for (gateway, is_verified) in [("g1", false), ("g2", true)] {
        let (since, now) = (None, Utc::now());
        let sweep = Sweep::new(&source, Span { since, now }, Some(gateway.to_owned()), false);
        assert_eq!(sweep.run().await.unwrap().verified, is_verified, "{gateway}");
    }
}

#[tokio::test]
async fn only_what_is_new_is_looked_at_when_a_time_is_named() {
    let (data, [one, ..]) = data().await;
    std::fs::remove_dir_all(data.recording(one)).unwrap();
    let source = data.source(None);
    let now = Utc::now() + TimeDelta::hours(2);
    for (hours, is_verified) in [(1, true), (3, false)] {
        let since = Some(now - TimeDelta::hours(hours));
        let sweep = Sweep::new(&source, Span { since, now }, None, false)
            .run()
            .await
            .unwrap();
        assert_eq!(sweep.verified, is_verified, "{sweep}");
    }
}

#[tokio::test]
async fn a_session_whose_number_was_given_and_that_never_began_breaks_nothing() {
    let data = Data::new().await;
    let number = data.sessions.number(SessionId(uuid::Uuid::now_v7()));
    data.sessions.give_up(number);
    data.digests.sign(Utc::now(), true).await.unwrap();
    let swept = data.sweep().await;
    assert!(swept.verified, "{swept}");
}

#[tokio::test]
async fn a_run_that_was_killed_verifies_once_its_last_digest_is_made_of_the_journal() {
    let data = Data::new().await;
    data.recorded(1).await;
    let means = data.digests.means().clone();
    let Data {
        dir,
        key,
        spool,
        journal,
        kept_days,
        recordings,
        sessions,
        digests,
    } = data;
    drop((digests, sessions));
    let sessions = SessionRegistry::default();
    let digests = Digests::begin(means, sessions.clone()).await.unwrap();
    let found = std::time::Instant::now();
    for now in [found, found + Duration::from_secs(60)] {
        digests.settle_the_dead(now).await.unwrap();
    }
    let data = Data {
        dir,
        key,
        spool,
        journal,
        kept_days,
        recordings,
        sessions,
        digests,
    };
    let later = data.sweep_at(Utc::now() + TimeDelta::hours(3), false).await;
    assert!(later.verified, "{later}");
    assert_eq!(data.digest_files().len(), 1);
}

/// An old session with its digest, and one of forty days later with the next, which ends the run; and what a journal still
/// has that keeps thirty days. Returns the later session and a time after all.
async fn kept_for_thirty_days() -> (Data, SessionId, Timestamp) {
    let data = Data::new().await;
    data.recorded(1).await;
    data.digests.sign(Utc::now(), false).await.unwrap();
    let later = Utc::now() + TimeDelta::days(40);
    let kept = data.recorded_at(later, 1, Journaled::Closed).await;
    let signed = later + TimeDelta::minutes(30);
    data.digests.sign(signed, true).await.unwrap();
    let journal = EmbeddedStore::open(data.dir.path().join("kept.db")).unwrap();
    journal
        .append(&data.journal.session(kept).await.unwrap())
        .await
        .unwrap();
    let told = JournalQuery {
        events: vec!["digest_signed".to_owned()],
        limit: 1,
        ..JournalQuery::default()
    };
    for event in data.journal.search(&told).await.unwrap().events {
        let mut chain = Chain::new(event.session, "g1", None, None);
        journal.append(&[chain.next(signed, event.what)]).await.unwrap();
    }
    let kept_days = Some(30);
    let data = Data {
        journal,
        kept_days,
        ..data
    };
    (data, kept, later + TimeDelta::hours(5))
}

#[tokio::test]
async fn what_the_journal_keeps_no_longer_is_not_missed() {
    let (data, _, now) = kept_for_thirty_days().await;
    for is_quick in [false, true] {
        let swept = data.sweep_at(now, is_quick).await;
        let text = swept.to_string();
        assert!(swept.verified, "{text}");
        for needed in ["1 of 1 runs", "sessions  1,", "the journal keeps 30 days"] {
            assert!(text.contains(needed), "{needed:?} is missing in {text}");
        }
    }
    let endless = Data {
        kept_days: None,
        ..data
    };
    assert!(!endless.sweep_at(now, false).await.verified);
}

#[tokio::test]
async fn what_the_journal_still_keeps_is_missed_as_ever() {
    let (data, kept, now) = kept_for_thirty_days().await;
    std::fs::remove_dir_all(data.recording(kept)).unwrap();
    let swept = data.sweep_at(now, false).await;
    assert!(swept.to_string().contains(&format!("session {kept}")), "{swept}");
    let (data, _, now) = kept_for_thirty_days().await;
    std::fs::remove_file(data.digest_files().remove(1)).unwrap();
    assert!(data.sweep_at(now, false).await.to_string().contains("it is missing"));
}
