//! Who has read the whole of which operation, and who reads which recording. The journal knows it for good; the newest
//! are remembered here.

use super::Console;
use super::caller::Caller;
use super::problem::Problem;
use countersign_infra::domain::approval::Approval;
use countersign_infra::domain::id::{ApprovalId, SessionId};
use countersign_infra::domain::identity::PersonKey;
use countersign_infra::journal::reading::{self, Reading};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Readings that are remembered; older ones are looked up in the journal.
const REMEMBERED_MAX: usize = 4096;
/// What one person reads of one recording within this time is one reading in the journal: a long recording has thousands
/// of parts.
const READING_FOR: Duration = Duration::from_secs(600);
/// Whole operations in memory at once.
const AT_ONCE_MAX: usize = 4;

/// The newest readings, and places for those who read.
pub struct Readings {
    whole: Mutex<VecDeque<(ApprovalId, PersonKey)>>,
    /// Oldest first.
    recordings: Mutex<VecDeque<(Instant, SessionId, PersonKey)>>,
    places: Semaphore,
}

impl Default for Readings {
    fn default() -> Self {
        Self {
            whole: Mutex::default(),
            recordings: Mutex::default(),
            places: Semaphore::new(AT_ONCE_MAX),
        }
    }
}

impl Readings {
    /// Waits for a place. The caller bounds the wait.
    pub async fn place(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let closed = |_| Problem::unavailable("the gateway is stopping");
        self.places.acquire().await.map_err(closed)
    }

    /// Remembers a reading that is journaled.
    pub fn note(&self, reading: &Reading<'_>, reader: &PersonKey) {
        if !reading.as_asked || self.remembers(reading.approval, reader) {
            return;
        }
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if whole.len() >= REMEMBERED_MAX {
            whole.pop_front();
        }
        whole.push_back((reading.approval.clone(), reader.clone()));
    }

    /// Whether this person's reading of a recording was journaled a short while ago.
    pub fn goes_on(&self, session: SessionId, reader: &PersonKey, now: Instant) -> bool {
        let mut recordings = self.recordings.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |(begun, ..): &(Instant, SessionId, PersonKey)| now.duration_since(*begun) >= READING_FOR;
        while recordings.front().is_some_and(is_over) {
            recordings.pop_front();
        }
        recordings.iter().any(|(_, id, key)| *id == session && key == reader)
    }

    /// Remembers that a person began to read a recording, and that it is journaled.
    pub fn begun(&self, session: SessionId, reader: &PersonKey, now: Instant) {
        let mut recordings = self.recordings.lock().unwrap_or_else(PoisonError::into_inner);
        if recordings.len() >= REMEMBERED_MAX {
            recordings.pop_front();
        }
        recordings.push_back((now, session, reader.clone()));
    }

    pub fn remembers(&self, approval: &ApprovalId, reader: &PersonKey) -> bool {
        let whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        whole.iter().any(|(id, key)| id == approval && key == reader)
    }
}

/// Whether the caller was shown the whole of what is held: by its record, or by any gateway that journals to the same
/// place.
pub async fn has_read_whole(console: &Console, caller: &Caller, approval: &Approval) -> Result<bool, Problem> {
    let reader = &caller.0.key;
    let operation = &approval.operation;
    if operation.display.len() as u64 >= operation.display_bytes || console.readings.remembers(&approval.id, reader) {
        return Ok(true);
    }
    Ok(reading::has_read_whole(console.reader.as_ref(), reader, approval).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(subject: &str) -> PersonKey {
        PersonKey {
            issuer: "https://id.example".to_owned(),
            subject: subject.to_owned(),
        }
    }

    fn id(number: usize) -> ApprovalId {
        let [.., a, b, c, d, e] = number.to_be_bytes();
        ApprovalId::from_random([a, b, c, d, e])
    }

    fn read(readings: &Readings, number: usize, as_asked: bool) {
        let reading = Reading {
            approval: &id(number),
            exact: false,
            as_asked,
        };
        readings.note(&reading, &key("bob"));
    }

    #[test]
    fn a_reading_is_of_one_person_and_one_approval_and_of_what_was_asked() {
        let readings = Readings::default();
        read(&readings, 1, true);
        read(&readings, 2, false);
        assert!(readings.remembers(&id(1), &key("bob")));
        assert!(!readings.remembers(&id(1), &key("dora")));
        assert!(!readings.remembers(&id(2), &key("bob")));
    }

    #[test]
    fn only_the_newest_readings_are_remembered() {
        let readings = Readings::default();
        for number in 0..=REMEMBERED_MAX {
            read(&readings, number, true);
            read(&readings, number, true);
        }
        assert!(!readings.remembers(&id(0), &key("bob")));
        assert!(readings.remembers(&id(1), &key("bob")));
        assert!(readings.remembers(&id(REMEMBERED_MAX), &key("bob")));
    }

    #[test]
    fn a_recording_is_read_for_a_while_by_one_person() {
        let (readings, now) = (Readings::default(), Instant::now());
        let [one, other] = [1, 2].map(|number| SessionId(uuid::Uuid::from_u128(number)));
        assert!(!readings.goes_on(one, &key("bob"), now));
        readings.begun(one, &key("bob"), now);
        let later = now + READING_FOR - Duration::from_secs(1);
        assert!(readings.goes_on(one, &key("bob"), later));
        assert!(!readings.goes_on(one, &key("dora"), later));
        assert!(!readings.goes_on(other, &key("bob"), later));
        assert!(!readings.goes_on(one, &key("bob"), now + READING_FOR));
        for _ in 0..=REMEMBERED_MAX {
            readings.begun(other, &key("bob"), now);
        }
        assert!(readings.recordings.lock().unwrap().len() <= REMEMBERED_MAX);
    }
}
