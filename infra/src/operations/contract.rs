//! What every store of operations must do. Run against each store, plain and wrapped in
//! [`Flaky`](super::flaky::Flaky): a call that is `Unavailable` is made again, as every user of a store does.

use super::{OPERATION_BYTES_MAX, OperationError, OperationStore, WholeOperation};
use crate::domain::access_request::{Part, Protocol};
use crate::domain::example::{alice, place};
use crate::domain::id::Digest;
use bytes::Bytes;

const TRIES_MAX: usize = 10;

/// An operation of alice with one statement and one value.
pub fn example(display: &str, value: &[u8]) -> WholeOperation {
    let part = |tag: &str, bytes: &[u8]| Part {
        tag: tag.to_owned(),
        bytes: Bytes::copy_from_slice(bytes),
    };
    WholeOperation {
        protocol: Protocol::Postgres,
        person: alice().key,
        place: place(),
        parts: vec![
            part("statement", b"UPDATE users SET note = $1"),
            part("value:text:25", value),
            part(Part::MESSAGES, &[0xA5; 32]),
        ],
        display: display.into(),
    }
}

/// Checks a store; panics where it does not do what it must. Uses operations that nobody had, so that it can share a
/// store.
pub async fn check(store: &dyn OperationStore) -> Result<(), OperationError> {
    what_was_never_kept_is_not_found(store).await?;
    what_is_kept_is_read(store).await?;
    what_is_kept_again_is_read_as_it_is_shown_now(store).await?;
    operations_are_apart(store).await?;
    of_two_writers_at_once_both_are_content(store).await?;
    what_is_too_large_or_has_another_digest_is_not_kept(store).await
}

async fn what_was_never_kept_is_not_found(store: &dyn OperationStore) -> Result<(), OperationError> {
    let digest = unique("never kept").digest();
    let error = insist(|| store.read(digest)).await.err();
    assert!(
        matches!(error, Some(OperationError::NotFound(found)) if found == digest),
        "{error:?}"
    );
    Ok(())
}

async fn what_is_kept_is_read(store: &dyn OperationStore) -> Result<(), OperationError> {
    let mut empty = unique("");
    empty.parts.clear();
    empty.place.role = uuid::Uuid::now_v7().to_string();
    let mut long = unique(&"line of a display text ✓\n".repeat(40_000));
    long.parts.push(Part {
        tag: "value:binary:17".to_owned(),
        bytes: noise(3 << 20),
    });
    for operation in [unique("SELECT 1"), empty, long] {
        let digest = operation.digest();
        insist(|| store.keep(digest, &operation)).await?;
        assert!(insist(|| store.read(digest)).await? == operation);
    }
    Ok(())
}

async fn what_is_kept_again_is_read_as_it_is_shown_now(store: &dyn OperationStore) -> Result<(), OperationError> {
    let mut operation = unique("shown as at first");
    let digest = operation.digest();
    for display in ["shown as at first", "shown as at first", "shown with more masks"] {
        operation.display = display.into();
        assert_eq!(operation.digest(), digest);
        insist(|| store.keep(digest, &operation)).await?;
        assert!(insist(|| store.read(digest)).await? == operation);
    }
    Ok(())
}

async fn operations_are_apart(store: &dyn OperationStore) -> Result<(), OperationError> {
    let (one, two) = (unique("one"), unique("two"));
    for operation in [&one, &two] {
        insist(|| store.keep(operation.digest(), operation)).await?;
    }
    assert!(insist(|| store.read(one.digest())).await? == one);
    assert!(insist(|| store.read(two.digest())).await? == two);
    Ok(())
}

async fn of_two_writers_at_once_both_are_content(store: &dyn OperationStore) -> Result<(), OperationError> {
    let operation = unique(&"written twice ".repeat(10_000));
    let digest = operation.digest();
    let keep = || insist(|| store.keep(digest, &operation));
    let (left, right) = tokio::join!(keep(), keep());
    left?;
    right?;
    assert!(insist(|| store.read(digest)).await? == operation);
    Ok(())
}

async fn what_is_too_large_or_has_another_digest_is_not_kept(store: &dyn OperationStore) -> Result<(), OperationError> {
    let operation = unique("under another name");
    let foreign = unique("another name").digest();
    let kept = insist(|| store.keep(foreign, &operation)).await;
    assert!(
        matches!(kept, Err(OperationError::Damaged { digest, .. }) if digest == foreign),
        "{kept:?}"
    );
    let mut huge = unique("huge");
    let bytes = Bytes::from(vec![0; OPERATION_BYTES_MAX]);
    huge.parts.push(Part {
        tag: "value:binary:17".to_owned(),
        bytes,
    });
    let kept = insist(|| store.keep(huge.digest(), &huge)).await;
    assert!(matches!(kept, Err(OperationError::TooLarge { .. })), "{kept:?}");
    for digest in [foreign, huge.digest()] {
        let error = insist(|| store.read(digest)).await.err();
        assert!(matches!(error, Some(OperationError::NotFound(_))), "{error:?}");
    }
    Ok(())
}

fn unique(display: &str) -> WholeOperation {
    example(display, uuid::Uuid::now_v7().to_string().as_bytes())
}

/// Bytes that do not compress.
fn noise(length: usize) -> Bytes {
    let blocks = (0..length.div_ceil(32)).map(|number| Digest::of(&number.to_be_bytes()).0);
    blocks.flatten().take(length).collect()
}

async fn insist<T, F: Future<Output = Result<T, OperationError>>>(
    mut call: impl FnMut() -> F,
) -> Result<T, OperationError> {
    for _ in 1..TRIES_MAX {
        match call().await {
            Err(OperationError::Unavailable { .. }) => {}
            Err(
                error @ (OperationError::NotFound(_)
                | OperationError::Damaged { .. }
                | OperationError::OtherKey { .. }
                | OperationError::TooLarge { .. }),
            ) => return Err(error),
            Ok(value) => return Ok(value),
        }
    }
    call().await
}
