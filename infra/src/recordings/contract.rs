//! What every recording store must do. Run against each store, plain and wrapped in
//! [`Flaky`](super::flaky::Flaky): a call that is `Unavailable` is made again, as every user of a store does.

use super::{DIGEST_BYTES_MAX, RecordingError, RecordingObject, RecordingStore, SESSIONS_MAX};
use crate::domain::id::SessionId;
use bytes::Bytes;
use chrono::NaiveDate;
use std::time::Duration;

const TRIES_MAX: usize = 10;

/// Checks a store; panics where it does not do what it must. Uses new session ids, so that it can share a store.
pub async fn check(store: &dyn RecordingStore) -> Result<(), RecordingError> {
    check_one_by_one(store).await?;
    of_two_writers_at_once_one_wins(store).await
}

/// As [`check`], but for writers at the same time: for what stands in for a store and keeps its conditions only when
/// one writes after the other.
pub async fn check_one_by_one(store: &dyn RecordingStore) -> Result<(), RecordingError> {
    insist(|| store.probe()).await?;
    nothing_is_known_of_a_session_without_recording(store).await?;
    what_is_put_is_read(store).await?;
    the_same_bytes_again_are_accepted_and_others_are_not(store).await?;
    sessions_are_apart(store).await?;
    sessions_are_listed_by_day_also_while_they_live(store).await?;
    digests_are_kept_apart_by_day_and_written_once(store).await?;
    what_cannot_name_a_digest_is_invalid(store).await?;
    a_link_expires(store).await
}

async fn nothing_is_known_of_a_session_without_recording(store: &dyn RecordingStore) -> Result<(), RecordingError> {
    let id = session();
    let counted = insist(|| store.chunks(id)).await;
    assert!(
        matches!(counted, Err(RecordingError::NotFound(_)) | Ok(0)),
        "{counted:?}"
    );
    let chunk = insist(|| store.read_chunk(id, 0)).await;
    assert!(matches!(chunk, Err(RecordingError::NotFound(_))), "{chunk:?}");
    assert_eq!(insist(|| store.read_manifest(id)).await?, None);
    Ok(())
}

async fn what_is_put_is_read(store: &dyn RecordingStore) -> Result<(), RecordingError> {
    let id = session();
    let chunks = [
        Bytes::from_static(b"first"),
        vec![0xA5; 1 << 20].into(),
        Bytes::from_static(b"\0"),
    ];
    for (number, chunk) in (0..).zip(&chunks) {
        insist(|| store.put_chunk(id, number, chunk.clone())).await?;
        assert_eq!(insist(|| store.chunks(id)).await?, number + 1);
        assert_eq!(insist(|| store.read_manifest(id)).await?, None);
    }
    for (number, chunk) in (0..).zip(&chunks) {
        assert_eq!(&insist(|| store.read_chunk(id, number)).await?, chunk);
    }
    let missing = insist(|| store.read_chunk(id, 3)).await;
    assert!(matches!(missing, Err(RecordingError::NotFound(_))), "{missing:?}");
    insist(|| store.put_manifest(id, Bytes::from_static(b"manifest"))).await?;
    assert_eq!(
        insist(|| store.read_manifest(id)).await?,
        Some(Bytes::from_static(b"manifest"))
    );
    Ok(())
}

async fn the_same_bytes_again_are_accepted_and_others_are_not(
    store: &dyn RecordingStore,
) -> Result<(), RecordingError> {
    let id = session();
    for _ in 0..2 {
        insist(|| store.put_chunk(id, 0, Bytes::from_static(b"chunk"))).await?;
        insist(|| store.put_manifest(id, Bytes::from_static(b"manifest"))).await?;
    }
    for other in [
        &b"other"[..],
        b"chun",
        b"chunk and more",
        b"manifes",
        b"manifest and more",
        b"",
    ] {
        let other = Bytes::copy_from_slice(other);
        let chunk = insist(|| store.put_chunk(id, 0, other.clone())).await;
        assert!(matches!(chunk, Err(RecordingError::Exists(_))), "{chunk:?}");
        let manifest = insist(|| store.put_manifest(id, other.clone())).await;
        assert!(matches!(manifest, Err(RecordingError::Exists(_))), "{manifest:?}");
    }
    assert_eq!(insist(|| store.read_chunk(id, 0)).await?, "chunk");
    assert_eq!(
        insist(|| store.read_manifest(id)).await?,
        Some(Bytes::from_static(b"manifest"))
    );
    Ok(())
}

async fn sessions_are_apart(store: &dyn RecordingStore) -> Result<(), RecordingError> {
    let (one, two) = (session(), session());
    insist(|| store.put_chunk(one, 0, Bytes::from_static(b"one"))).await?;
    insist(|| store.put_chunk(two, 0, Bytes::from_static(b"two"))).await?;
    assert_eq!(insist(|| store.read_chunk(one, 0)).await?, "one");
    assert_eq!(insist(|| store.read_chunk(two, 0)).await?, "two");
    Ok(())
}

async fn of_two_writers_at_once_one_wins(store: &dyn RecordingStore) -> Result<(), RecordingError> {
    let id = session();
    let put = |text: &'static str| insist(move || store.put_chunk(id, 0, Bytes::from_static(text.as_bytes())));
    let (left, right) = tokio::join!(put("left"), put("right"));
    let winner = match (left, right) {
        (Ok(()), Err(RecordingError::Exists(_))) => "left",
        (Err(RecordingError::Exists(_)), Ok(())) => "right",
        both => panic!("one must win and the other must be told: {both:?}"),
    };
    assert_eq!(insist(|| store.read_chunk(id, 0)).await?, winner);
    Ok(())
}

/// Each run takes a day of its own, so that no other run's sessions are in the way.
async fn sessions_are_listed_by_day_also_while_they_live(store: &dyn RecordingStore) -> Result<(), RecordingError> {
    let (day, at) = day_of_its_own();
    let next_day = day.succ_opt().unwrap_or(day);
    assert_eq!(insist(|| store.sessions(day, None)).await?, []);
    let [first, second, third] = [at, at + 1, at + 2].map(session_at);
    // Not in the order in which they are listed, and with more than one object each.
    for id in [third, first, second] {
        insist(|| store.put_chunk(id, 0, Bytes::from_static(b"one"))).await?;
        insist(|| store.put_chunk(id, 1, Bytes::from_static(b"two"))).await?;
    }
    let tomorrow = session_at(at + 24 * 60 * 60 * 1000);
    insist(|| store.put_chunk(tomorrow, 0, Bytes::from_static(b"one"))).await?;
    insist(|| store.put_manifest(second, Bytes::from_static(b"manifest"))).await?;
    let listed = async |day, after| insist(|| store.sessions(day, after)).await;
    assert_eq!(listed(day, None).await?, [first, second, third]);
    assert_eq!(listed(day, Some(first)).await?, [second, third]);
    assert_eq!(listed(day, Some(session_at(at - 1))).await?, [first, second, third]);
    assert_eq!(listed(day, Some(third)).await?, []);
    assert_eq!(listed(next_day, None).await?, [tomorrow]);
    Ok(())
}

/// Checks that a day of more sessions than one listing returns is listed page by page. Puts a thousand objects.
pub async fn check_long_listing(store: &dyn RecordingStore) -> Result<(), RecordingError> {
    let (day, at) = day_of_its_own();
    let mut expected = Vec::new();
    for number in 0..SESSIONS_MAX as u64 + 2 {
        let id = session_at(at + number);
        insist(|| store.put_chunk(id, 0, Bytes::from_static(b"one"))).await?;
        expected.push(id);
    }
    let mut found = insist(|| store.sessions(day, None)).await?;
    assert_eq!(found.len(), SESSIONS_MAX);
    let last = found.last().copied();
    let rest = insist(|| store.sessions(day, last)).await?;
    assert_eq!(rest.len(), 2);
    found.extend(rest);
    assert_eq!(found, expected);
    Ok(())
}

async fn digests_are_kept_apart_by_day_and_written_once(store: &dyn RecordingStore) -> Result<(), RecordingError> {
    let (day, _) = day_of_its_own();
    let next_day = day.succ_opt().unwrap_or(day);
    assert_eq!(insist(|| store.digests(day)).await?, Vec::<String>::new());
    let missing = insist(|| store.read_digest(day, "b")).await;
    assert!(matches!(missing, Err(RecordingError::NoDigest(_))), "{missing:?}");
    let longest = Bytes::from(vec![0x5A; DIGEST_BYTES_MAX]);
    for _ in 0..2 {
        insist(|| store.put_digest(day, "b_2.json", longest.clone())).await?;
        insist(|| store.put_digest(day, "A-1", Bytes::from_static(b"one"))).await?;
    }
    insist(|| store.put_digest(next_day, "A-1", Bytes::from_static(b"other"))).await?;
    let other = insist(|| store.put_digest(day, "A-1", Bytes::from_static(b"other"))).await;
    assert!(matches!(other, Err(RecordingError::Exists(_))), "{other:?}");
    assert_eq!(insist(|| store.digests(day)).await?, ["A-1", "b_2.json"]);
    assert_eq!(insist(|| store.read_digest(day, "A-1")).await?, "one");
    assert_eq!(insist(|| store.read_digest(day, "b_2.json")).await?, longest);
    assert_eq!(insist(|| store.read_digest(next_day, "A-1")).await?, "other");
    assert_eq!(insist(|| store.sessions(day, None)).await?, []);
    Ok(())
}

async fn what_cannot_name_a_digest_is_invalid(store: &dyn RecordingStore) -> Result<(), RecordingError> {
    let (day, _) = day_of_its_own();
    for name in ["", "..", "a/b", ".hidden", "a b"] {
        let put = insist(|| store.put_digest(day, name, Bytes::from_static(b"one"))).await;
        assert!(matches!(put, Err(RecordingError::Invalid(_))), "{put:?}");
        let read = insist(|| store.read_digest(day, name)).await;
        assert!(matches!(read, Err(RecordingError::Invalid(_))), "{read:?}");
    }
    let long = Bytes::from(vec![0; DIGEST_BYTES_MAX + 1]);
    let put = insist(|| store.put_digest(day, "long", long.clone())).await;
    assert!(matches!(put, Err(RecordingError::Invalid(_))), "{put:?}");
    assert_eq!(insist(|| store.digests(day)).await?, Vec::<String>::new());
    Ok(())
}

async fn a_link_expires(store: &dyn RecordingStore) -> Result<(), RecordingError> {
    let id = session();
    let valid = Duration::from_secs(60);
    let Some(link) = insist(|| store.link(id, RecordingObject::Chunk(0), valid)).await? else {
        return Ok(());
    };
    let left = link.until - chrono::Utc::now();
    assert!(
        left > chrono::TimeDelta::zero() && left <= chrono::TimeDelta::seconds(60),
        "{left}"
    );
    let manifest = insist(|| store.link(id, RecordingObject::Manifest, valid)).await?;
    assert!(manifest.is_some_and(|manifest| manifest.url.path() != link.url.path()));
    let long = insist(|| store.link(id, RecordingObject::Manifest, Duration::from_secs(8 * 24 * 60 * 60))).await;
    assert!(matches!(long, Err(RecordingError::Invalid(_))), "{long:?}");
    Ok(())
}

fn session() -> SessionId {
    SessionId(uuid::Uuid::now_v7())
}

/// A day, nearly always one that no other run has taken, and the milliseconds of its noon.
fn day_of_its_own() -> (NaiveDate, u64) {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let random = uuid::Uuid::now_v7().as_u64_pair().1;
    // Up to the year 4199.
    let at = (random % (1 << 46)) / DAY * DAY + DAY / 2;
    let noon = i64::try_from(at).ok().and_then(chrono::DateTime::from_timestamp_millis);
    (noon.unwrap_or_default().date_naive(), at)
}

fn session_at(millis: u64) -> SessionId {
    let now = uuid::Uuid::now_v7();
    let random = now.as_bytes().last_chunk().unwrap_or(&[0; 10]);
    SessionId(uuid::Builder::from_unix_timestamp_millis(millis, random).into_uuid())
}

async fn insist<T, F: Future<Output = Result<T, RecordingError>>>(
    mut call: impl FnMut() -> F,
) -> Result<T, RecordingError> {
    for _ in 1..TRIES_MAX {
        match call().await {
            Err(RecordingError::Unavailable { .. }) => {}
            Err(
                error @ (RecordingError::NotFound(_)
                | RecordingError::NoDigest(_)
                | RecordingError::Exists(_)
                | RecordingError::Invalid(_)),
            ) => return Err(error),
            Ok(value) => return Ok(value),
        }
    }
    call().await
}
