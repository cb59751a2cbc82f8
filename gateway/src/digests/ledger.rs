//! Which sessions this run had since its last digest, and how far their recordings had come.

use countersign_infra::domain::id::SessionId;
use countersign_infra::recordings::chain::Anchor;
use countersign_infra::recordings::digest::{LINES_MAX, SessionLine};
use std::collections::BTreeMap;

/// The sessions that the next digest names, by number. Each number that was given has an entry, so there is no gap.
#[derive(Debug, Default)]
pub struct Ledger {
    next: u64,
    entries: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    session: SessionId,
    anchor: Anchor,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Its recording is closed.
    Closed,
    /// It is gone, and its recording waits in the spool for the next start.
    Left,
}

impl Ledger {
    /// Numbers a session.
    pub fn open(&mut self, session: SessionId) -> u64 {
        let number = self.next;
        self.next += 1;
        let entry = Entry {
            session,
            anchor: Anchor::START,
            state: State::Open,
        };
        self.entries.insert(number, entry);
        number
    }

    /// Notes how far the recording has come.
    pub fn anchored(&mut self, number: u64, anchor: Anchor) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.anchor = anchor;
        }
    }

    /// Notes that the recording is closed; with no chunks, that the session never began.
    pub fn closed(&mut self, number: u64, anchor: Anchor) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.anchor = anchor;
            entry.state = State::Closed;
        }
    }

    /// Notes that the session is over, whatever became of its recording.
    pub fn left(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number)
            && entry.state == State::Open
        {
            entry.state = State::Left;
        }
    }

    /// It has just come to hold as many sessions as go into one digest.
    pub fn is_full(&self) -> bool {
        self.entries.len() == LINES_MAX
    }

    /// What a digest says now, by number.
    pub fn lines(&self) -> Vec<SessionLine> {
        let line = |(number, entry): (&u64, &Entry)| SessionLine {
            number: *number,
            session: entry.session,
            chunks: entry.anchor.chunks,
            last: entry.anchor.last,
            closed: entry.state == State::Closed,
        };
        self.entries.iter().map(line).collect()
    }

    /// Takes off what a digest has said the last word of.
    pub fn named(&mut self, lines: &[SessionLine]) {
        for line in lines {
            let is_left = self
                .entries
                .get(&line.number)
                .is_some_and(|entry| entry.state == State::Left);
            if line.closed || is_left {
                self.entries.remove(&line.number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_infra::domain::id::Digest;

    fn session() -> SessionId {
        SessionId(uuid::Uuid::now_v7())
    }

    fn anchor(chunks: u64) -> Anchor {
        let last = Digest::of(&chunks.to_be_bytes());
        Anchor { chunks, last }
    }

    fn said(ledger: &Ledger) -> Vec<(u64, u64, bool)> {
        let lines = ledger.lines();
        lines
            .iter()
            .map(|line| (line.number, line.chunks, line.closed))
            .collect()
    }

    #[test]
    fn a_session_is_named_until_its_end_was_said() {
        let mut ledger = Ledger::default();
        for number in 0..3 {
            assert_eq!(ledger.open(session()), number);
        }
        ledger.anchored(0, anchor(2));
        ledger.closed(1, anchor(5));
        assert_eq!(said(&ledger), [(0, 2, false), (1, 5, true), (2, 0, false)]);
        let lines = ledger.lines();
        ledger.closed(0, anchor(3));
        ledger.left(2);
        ledger.named(&lines);
        assert_eq!(said(&ledger), [(0, 3, true)], "it ended after the digest was made");
        let lines = ledger.lines();
        ledger.named(&lines);
        assert_eq!(said(&ledger), []);
        assert_eq!(ledger.open(session()), 3);
    }

    #[test]
    fn a_closed_session_stays_closed_when_it_leaves() {
        let mut ledger = Ledger::default();
        let number = ledger.open(session());
        ledger.closed(number, anchor(1));
        ledger.left(number);
        assert_eq!(said(&ledger), [(0, 1, true)]);
    }

    #[test]
    fn a_ledger_is_full_when_a_digest_would_be() {
        let mut ledger = Ledger::default();
        for _ in 1..LINES_MAX {
            ledger.open(session());
        }
        assert!(!ledger.is_full());
        ledger.open(session());
        assert!(ledger.is_full());
    }
}
