//! Operations on the disk, and what happens to those that are changed, cut, exchanged or met with another key.

use super::contract::{self, example};
use super::disk::DiskOperations;
use super::flaky::{Flaky, Mood};
use super::keys::FileKeys;
use super::{OperationError, OperationStore, WholeOperation};
use crate::domain::access_request::{AccessRequest, Operation};
use crate::domain::effect::WriteKind;
use crate::domain::example::{alice, client, effects, session};
use crate::domain::id::Digest;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

const SECRET: &str = "correct horse battery staple";

struct Shelf {
    directory: tempfile::TempDir,
    store: DiskOperations,
}

impl Shelf {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        Self { directory, store }
    }

    async fn keep(&self, operation: &WholeOperation) -> Digest {
        self.store.keep(operation.digest(), operation).await.unwrap();
        operation.digest()
    }

    fn bytes(&self, digest: Digest) -> Vec<u8> {
        fs::read(self.store.path(digest)).unwrap()
    }

    /// What is said of an object of these bytes.
    async fn damage(&self, digest: Digest, bytes: &[u8]) -> String {
        fs::write(self.store.path(digest), bytes).unwrap();
        match self.store.read(digest).await {
            Err(OperationError::Damaged { digest: named, why }) if named == digest => why,
            // The id of the key is what was changed.
            Err(OperationError::OtherKey { digest: named, key }) if named == digest => key,
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("it was read"),
        }
    }
}

fn open(directory: &Path) -> DiskOperations {
    let keys = FileKeys::load_or_create(&directory.join("keys/operations.key")).unwrap();
    DiskOperations::under(directory, Arc::new(keys))
}

#[tokio::test]
async fn the_disk_keeps_the_contract() {
    contract::check(&Shelf::new().store).await.unwrap();
}

#[tokio::test]
async fn the_disk_keeps_the_contract_while_calls_fail_before_and_after_their_effect() {
    let shelf = Shelf::new();
    let flaky = Flaky::every_other(shelf.store.clone());
    contract::check(&flaky).await.unwrap();
    assert!(flaky.failures() > 10);
}

#[tokio::test]
async fn a_store_that_is_down_says_so() {
    let shelf = Shelf::new();
    let flaky = Flaky::new(shelf.store.clone());
    flaky.feel(Mood::Down);
    let operation = example("SELECT 1", b"");
    let kept = flaky.keep(operation.digest(), &operation).await;
    assert!(matches!(kept, Err(OperationError::Unavailable { .. })));
    flaky.feel(Mood::Well);
    let read = flaky.read(operation.digest()).await;
    assert!(matches!(read, Err(OperationError::NotFound(_))));
}

#[tokio::test]
async fn every_changed_byte_is_found() {
    let shelf = Shelf::new();
    let digest = shelf.keep(&example("UPDATE users", SECRET.as_bytes())).await;
    let bytes = shelf.bytes(digest);
    for place in 0..bytes.len() {
        for bit in [0x01, 0x80] {
            let mut changed = bytes.clone();
            changed[place] ^= bit;
            shelf.damage(digest, &changed).await;
        }
    }
    fs::write(shelf.store.path(digest), &bytes).unwrap();
    shelf.store.read(digest).await.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn what_is_cut_or_goes_on_is_found() {
    let shelf = Shelf::new();
    let digest = shelf.keep(&example("UPDATE users", SECRET.as_bytes())).await;
    let bytes = shelf.bytes(digest);
    for length in 0..bytes.len() {
        shelf.damage(digest, &bytes[..length]).await;
    }
    shelf.damage(digest, &[&bytes[..], b"\0"].concat()).await;
}

#[tokio::test]
async fn objects_that_are_exchanged_are_found() {
    let shelf = Shelf::new();
    let one = shelf.keep(&example("UPDATE users SET note = 'a'", b"a")).await;
    let two = shelf.keep(&example("UPDATE users SET note = 'b'", b"b")).await;
    let why = shelf.damage(one, &shelf.bytes(two)).await;
    assert!(why.contains("another name"), "{why}");
}

#[tokio::test]
async fn what_was_written_with_another_key_is_told_with_the_name_of_that_key() {
    let shelf = Shelf::new();
    let digest = shelf.keep(&example("UPDATE users", b"a")).await;
    fs::remove_dir_all(shelf.directory.path().join("keys")).unwrap();
    let id = String::from_utf8_lossy(&shelf.bytes(digest))
        .chars()
        .skip(8)
        .take(16)
        .collect::<String>();
    let store = open(shelf.directory.path());
    let Err(error) = store.read(digest).await else {
        panic!("it was read with another key")
    };
    assert!(matches!(error, OperationError::OtherKey { .. }));
    assert!(error.to_string().contains(&format!("the key {id}")), "{error}");
    // Kept again, it is readable again.
    let operation = example("UPDATE users", b"a");
    store.keep(digest, &operation).await.unwrap();
    assert!(store.read(digest).await.unwrap() == operation);
}

#[tokio::test]
async fn whatever_lies_there_before_what_is_kept_can_be_read() {
    let shelf = Shelf::new();
    let operation = example("UPDATE users", b"a");
    let digest = operation.digest();
    fs::create_dir(shelf.directory.path().join("operations")).unwrap();
    for before in [&b""[..], b"CSOP\x01\x02", b"garbage of somebody"] {
        shelf.damage(digest, before).await;
        shelf.keep(&operation).await;
        assert!(shelf.store.read(digest).await.unwrap() == operation);
    }
}

#[tokio::test]
async fn nothing_of_an_operation_stands_in_what_is_stored() {
    let shelf = Shelf::new();
    let operation = example("UPDATE users SET note = '****' -- shown to people", SECRET.as_bytes());
    let digest = shelf.keep(&operation).await;
    let first = shelf.bytes(digest);
    shelf.keep(&operation).await;
    let second = shelf.bytes(digest);
    for stored in [&first, &second] {
        for text in [SECRET, "UPDATE", "shown to people", "public", "sub-alice", "value:text"] {
            let found = stored.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!found, "{text} stands in what is stored");
        }
    }
    // A key and a nonce of its own each time: the two have nothing in common behind the id of the key.
    let differ = first
        .iter()
        .zip(&second)
        .skip(26)
        .filter(|(one, two)| one != two)
        .count();
    assert!(differ > first.len() / 2, "{differ} of {}", first.len());
}

#[tokio::test]
async fn objects_are_readable_by_the_owner_only_and_nothing_else_is_left() {
    let shelf = Shelf::new();
    let digest = shelf.keep(&example("UPDATE users", b"a")).await;
    shelf.keep(&example("UPDATE users", b"a")).await;
    let path = shelf.store.path(digest);
    assert_eq!(path, shelf.directory.path().join("operations").join(digest.to_string()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_an_error_that_names_the_file() {
    let shelf = Shelf::new();
    fs::write(shelf.directory.path().join("operations"), b"a file stands in the way").unwrap();
    let operation = example("UPDATE users", b"a");
    let error = shelf.store.keep(operation.digest(), &operation).await.unwrap_err();
    assert!(matches!(error, OperationError::Unavailable { .. }));
    assert!(error.to_string().contains("operations"), "{error}");
}

#[test]
fn the_whole_operation_has_the_digest_of_the_request() {
    let whole = example("UPDATE users SET note = 'a'", b"a");
    let request = AccessRequest {
        session: session(1),
        person: alice(),
        client: client(),
        place: whole.place.clone(),
        operation: Operation {
            protocol: whole.protocol,
            parts: whole.parts.clone(),
            display: whole.display.to_string(),
            text: String::new(),
            effects: effects(),
            writes: [WriteKind::Update].into(),
            has_where: false,
            unseen_data: false,
        },
        in_transaction: false,
    };
    assert!(WholeOperation::of(&request) == whole);
    assert_eq!(whole.digest(), request.digest());
}

#[tokio::test]
async fn what_was_written_by_the_first_version_is_still_read() {
    let shelf = Shelf::new();
    let key = shelf.directory.path().join("keys/operations.key");
    fs::write(&key, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    let store = open(shelf.directory.path());
    let operation = example("UPDATE users SET note = 'a'", b"a");
    let path = store.path(operation.digest());
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, BASE64_STANDARD.decode(FIRST_VERSION).unwrap()).unwrap();
    assert!(store.read(operation.digest()).await.unwrap() == operation);
}

/// Written once by version 1 of the envelope.
const FIRST_VERSION: &str = "Q1NPUAECABA1ZWE5YjA5ZDhmNTRkM2E2ACAKRIpB+y6W2psjtwDyGg766VUJAB8gsjJwYar7e04cBkmubpUm+w5MQeOlbwAAAAAA\
    AAEiDVYsCQ92tzDOFNf8E5fjsTEMNv+gOr5DGrLjX7J2lTr+URX2+mP1PzR86Oj8iDKlXQOaCB+3lDhEF4GULavtRl6o2NsTTsfe\
    ibZ0lv+zGft7fYwR7g/ESYQ00EWl3WF4l0b3urSsyAhKCWtpX5+BWjC9HyRQG/e1qxt1h0toXY5FgI2aD+9x0x9SQL2w/tmuPQGA\
    53W8YUveQAeHWZqyHJlccFRUgeVUVM19r/0qopO6qjVq8M+8DC7MM8XufgA=";
