//! Where objects lie, in every store alike: `recordings/yyyy/mm/dd/<session>/<n>.chunk` and `manifest`, and
//! `digests/yyyy/mm/dd/<name>`.

use super::{RecordingError, RecordingObject};
use crate::domain::id::SessionId;
use chrono::NaiveDate;

/// Most sessions that one listing returns.
pub const SESSIONS_MAX: usize = 1000;
/// Most digests of one day: hourly ones of four hundred gateways.
pub const DIGESTS_MAX: usize = 10_000;
/// Most bytes of a digest.
pub const DIGEST_BYTES_MAX: usize = 1 << 20;
const NAME_LENGTH_MAX: usize = 200;

/// The directory of all recordings of a day.
pub(super) fn day(day: NaiveDate) -> String {
    format!("recordings/{}", day.format("%Y/%m/%d"))
}

/// The directory of a session's recording. The day is that of the id (UUID version 7).
pub(super) fn session(session: SessionId) -> String {
    let found = session.made().map(|made| made.date_naive());
    let directory = found.map_or_else(|| "recordings/undated".to_owned(), day);
    format!("{directory}/{session}")
}

/// The directory of a day's digests.
pub(super) fn digests(day: NaiveDate) -> String {
    format!("digests/{}", day.format("%Y/%m/%d"))
}

/// The name of an object within its session's directory.
pub(super) fn object(object: RecordingObject) -> String {
    match object {
        RecordingObject::Chunk(number) => format!("{number}.chunk"),
        RecordingObject::Manifest => "manifest".to_owned(),
    }
}

/// The number of the chunk that has this name.
pub(super) fn chunk_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".chunk")?.parse().ok()?;
    (object(RecordingObject::Chunk(number)) == name).then_some(number)
}

/// The session whose directory has this name.
pub(super) fn session_named(name: &str) -> Option<SessionId> {
    name.parse::<SessionId>().ok().filter(|id| id.to_string() == name)
}

/// How many chunks there are without a gap from 0.
pub(super) fn unbroken(mut numbers: Vec<u64>) -> u64 {
    numbers.sort_unstable();
    let unbroken = (0..).zip(numbers).take_while(|(expected, found)| expected == found);
    unbroken.count() as u64
}

/// Refuses names that are no plain file names, before a store is asked.
pub(super) fn check_digest_name(name: &str) -> Result<(), RecordingError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !name.is_empty() && name.len() <= NAME_LENGTH_MAX && !name.starts_with('.') && name.bytes().all(is_plain) {
        return Ok(());
    }
    Err(RecordingError::Invalid(format!(
        "{name:?} cannot name a digest: 1 to {NAME_LENGTH_MAX} of A-Z a-z 0-9 . _ - with no dot in front can"
    )))
}

/// Refuses what is too long to be read again.
pub(super) fn check_digest(name: &str, bytes: &[u8]) -> Result<(), RecordingError> {
    check_digest_name(name)?;
    if bytes.len() > DIGEST_BYTES_MAX {
        return Err(RecordingError::Invalid(format!(
            "the digest {name} has {} bytes, more than the {DIGEST_BYTES_MAX} allowed",
            bytes.len()
        )));
    }
    Ok(())
}

pub(super) fn too_many_digests(directory: &str) -> RecordingError {
    RecordingError::Unavailable {
        source: format!("{directory} holds more than {DIGESTS_MAX} digests").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_lie_under_the_day_of_their_session() {
        let id: SessionId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        assert_eq!(
            session(id),
            "recordings/2023/06/30/01890a5d-ac96-774b-bcce-b302099a8057"
        );
        let undated: SessionId = "67e55044-10b1-426f-9247-bb680e5fe0c8".parse().unwrap();
        assert_eq!(
            session(undated),
            "recordings/undated/67e55044-10b1-426f-9247-bb680e5fe0c8"
        );
    }

    #[test]
    fn only_the_plain_spelling_of_a_number_names_a_chunk() {
        assert_eq!(chunk_number("17.chunk"), Some(17));
        for other in ["017.chunk", "+17.chunk", "17", ".chunk", "-1.chunk", "17.chunk.chunk"] {
            assert_eq!(chunk_number(other), None, "{other}");
        }
    }

    #[test]
    fn chunks_count_up_to_the_first_gap() {
        assert_eq!(unbroken(vec![3, 1, 0]), 2);
        assert_eq!(unbroken(vec![1, 2]), 0);
        assert_eq!(unbroken(vec![]), 0);
    }

    #[test]
    fn a_name_that_could_leave_its_directory_is_no_name() {
        check_digest_name("gateway-1.2026-11-03T09_00").unwrap();
        let long = "a".repeat(NAME_LENGTH_MAX + 1);
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a\\b",
            "a b",
            "ä",
            ".hidden",
            "a\n",
            long.as_str(),
        ] {
            assert!(check_digest_name(bad).is_err(), "{bad:?}");
        }
    }
}
