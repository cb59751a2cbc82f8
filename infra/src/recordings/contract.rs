//! What every recording store must do. Run against each store, plain and wrapped in
//! [`Flaky`](super::flaky::Flaky): a call that is `Unavailable` is made again, as every user of a store does.

use super::{RecordingError, RecordingStore};
use crate::domain::id::SessionId;
use bytes::Bytes;

const TRIES_MAX: usize = 10;

/// Checks a store; panics where it does not do what it must. Uses new session ids, so that it can share a store.
pub async fn check(store: &dyn RecordingStore) -> Result<(), RecordingError> {
    insist(|| store.probe()).await?;
    nothing_is_known_of_a_session_without_recording(store).await?;
    what_is_put_is_read(store).await?;
    the_same_bytes_again_are_accepted_and_others_are_not(store).await?;
    sessions_are_apart(store).await?;
    of_two_writers_at_once_one_wins(store).await
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

fn session() -> SessionId {
    SessionId(uuid::Uuid::now_v7())
}

async fn insist<T, F: Future<Output = Result<T, RecordingError>>>(
    mut call: impl FnMut() -> F,
) -> Result<T, RecordingError> {
    for _ in 1..TRIES_MAX {
        match call().await {
            Err(RecordingError::Unavailable { .. }) => {}
            Err(error @ (RecordingError::NotFound(_) | RecordingError::Exists(_))) => return Err(error),
            Ok(value) => return Ok(value),
        }
    }
    call().await
}
