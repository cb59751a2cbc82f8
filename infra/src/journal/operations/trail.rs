//! Reading what follows an operation in its session: near operations of one session share what was read.

use super::ending::{Step, Telling};
use super::{Ending, LOOK_AHEAD_MAX};
use crate::domain::audit::Event;
use crate::domain::id::{Digest, SessionId};
use crate::journal::{Journal, JournalError};
use std::collections::BTreeMap;

/// So many events before an operation are looked at for operations of the same digest that were not answered yet.
const LOOK_BACK: u64 = 64;

/// Operations of a session that are nearer to each other are read together.
const NEAR: u64 = 32;

/// Events that are read at once at the start, and when the end of an operation has not come by then.
const READ_FIRST: usize = 16;
const READ_MORE: usize = 500;

/// Events that the operations of one call may cost beside their own.
const READ_MAX: usize = 20_000;

/// What was read of sessions, for the operations of one page.
pub(super) struct Trails<'a, J: ?Sized> {
    journal: &'a J,
    trails: BTreeMap<SessionId, Vec<Trail>>,
    events_read: usize,
}

/// A part of a session without a gap.
struct Trail {
    /// The operations that it was begun for: the first's number, and the last's.
    first: u64,
    last: u64,
    steps: Vec<Step>,
    /// The last event that was read.
    seq: u64,
    /// There is nothing behind it.
    is_whole: bool,
}

impl<'a, J: Journal + ?Sized> Trails<'a, J> {
    pub fn new(journal: &'a J) -> Self {
        Self {
            journal,
            trails: BTreeMap::new(),
            events_read: 0,
        }
    }

    /// Whether enough was read for one call.
    pub fn is_tired(&self) -> bool {
        self.events_read > READ_MAX
    }

    /// Begins anew with the operations of these events.
    pub fn look_for(&mut self, asked: &[Event]) {
        let mut seqs: BTreeMap<SessionId, Vec<u64>> = BTreeMap::new();
        for event in asked {
            seqs.entry(event.session).or_default().push(event.seq);
        }
        self.trails = seqs
            .into_iter()
            .map(|(session, seqs)| (session, Trail::through(seqs)))
            .collect();
    }

    /// Tells what became of an operation. Only of those that are looked for.
    pub async fn ending(&mut self, session: SessionId, seq: u64, digest: Digest) -> Result<Ending, JournalError> {
        let trails = self.trails.entry(session).or_default();
        if !trails.iter().any(|trail| trail.covers(seq)) {
            trails.push(Trail::new(seq));
        }
        let mut telling = Telling::new(digest);
        let Some(trail) = trails.iter_mut().find(|trail| trail.covers(seq)) else {
            return Ok(telling.ending());
        };
        let until = seq.saturating_add(LOOK_AHEAD_MAX);
        let mut told = seq.saturating_sub(LOOK_BACK + 1);
        let mut begun = false;
        loop {
            let from = trail.steps.partition_point(|step| step.seq <= told);
            let steps = trail.steps.get(from..).unwrap_or_default();
            for step in steps.iter().take_while(|step| step.seq <= until) {
                if step.seq >= seq && !begun {
                    telling.begin();
                    begun = true;
                }
                if step.seq != seq {
                    telling.add(step);
                }
                told = step.seq;
                if telling.is_ended() {
                    return Ok(telling.ending());
                }
            }
            if trail.is_whole || trail.seq >= until {
                if !begun {
                    telling.begin();
                }
                return Ok(telling.ending());
            }
            self.events_read += trail.read(self.journal, session).await?;
        }
    }
}

impl Trail {
    fn new(seq: u64) -> Self {
        Self {
            first: seq,
            last: seq,
            steps: Vec::new(),
            seq: seq.saturating_sub(LOOK_BACK + 1),
            is_whole: false,
        }
    }

    /// Trails through operations of one session: one for those that are near each other.
    fn through(mut seqs: Vec<u64>) -> Vec<Self> {
        seqs.sort_unstable();
        let mut trails: Vec<Self> = Vec::new();
        for seq in seqs {
            match trails.last_mut() {
                Some(trail) if seq - trail.last <= NEAR => trail.last = seq,
                Some(_) | None => trails.push(Self::new(seq)),
            }
        }
        trails
    }

    fn covers(&self, seq: u64) -> bool {
        (self.first..=self.last).contains(&seq)
    }

    /// Reads on. Says how many events it was.
    async fn read<J: Journal + ?Sized>(&mut self, journal: &J, session: SessionId) -> Result<usize, JournalError> {
        let is_first = self.seq < self.last;
        let limit = match is_first {
            true => usize::try_from(self.last - self.seq).unwrap_or(READ_MORE) + READ_FIRST,
            false => READ_MORE,
        };
        let events = journal.after(session, self.seq, limit).await?;
        let count = events.len();
        match events.last() {
            Some(last) => self.seq = last.seq,
            None => self.is_whole = true,
        }
        self.steps.extend(events.into_iter().filter_map(Step::of));
        Ok(count)
    }
}
