//! What is under way between the gateway and one server: which replies are owed, what the names stand for, and how
//! the transaction stands. Pure: it reads messages and touches nothing.
//!
//! Names change only on the server's answer: a Parse that fails leaves the old text under its name.
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY>

mod expected;
mod names;
mod tally;

pub use expected::{Expected, Own, Running};
pub use names::{BlockChange, Name, NameChange, Portal, PreparedStatement, Step, Value, step};

use bytes::Bytes;
use countersign_infra::domain::approval::Outcome;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tally::{SKIPPED, Tally, error_summary, skipped};

/// Prepared statements and portals that one session may have at a time.
pub const NAMES_MAX: usize = 10_000;

/// How the transaction block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    None,
    Open,
    Failed,
}

impl Block {
    /// The status byte of ReadyForQuery.
    pub fn status(self) -> u8 {
        match self {
            Self::None => b'I',
            Self::Open => b'T',
            Self::Failed => b'E',
        }
    }
}

/// What is to be done with a message from the server.
#[derive(Debug)]
pub enum Disposition<T> {
    Pass,
    Swallow,
    /// The client gets these bytes instead.
    Instead(Bytes),
    /// Passed once the operations that ended with it are on record.
    PassAfter(Vec<(Running<T>, Outcome)>),
}

/// The server sent what it must not send here: the session cannot go on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the server sent an unexpected message of type {:?}", char::from(*.0))]
pub struct Unexpected(pub u8);

/// Messages forwarded since the last Sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsynced {
    /// A Parse, Describe or Close.
    pub any: bool,
    /// A Bind or Execute: something may have run and not be committed.
    pub bound: bool,
    /// Not followed by a Flush yet: the server may keep its answers.
    pub unflushed: bool,
}

/// The state of one server connection.
#[derive(Debug)]
pub struct Conversation<T> {
    expected: VecDeque<Expected<T>>,
    /// The server ignores everything until a Sync that was not sent yet.
    skipping: bool,
    statements: HashMap<Name, Arc<PreparedStatement>>,
    portals: HashMap<Name, Portal>,
    pub block: Block,
    pub unsynced: Unsynced,
    /// COPY FROM STDIN is under way.
    pub copy_in: bool,
    /// Savepoints are set in the open block.
    pub savepoints: bool,
    /// The rows that answered the gateway's own questions.
    own_rows: Vec<Bytes>,
    tally: Tally,
}

impl<T> Default for Conversation<T> {
    fn default() -> Self {
        Self {
            expected: VecDeque::new(),
            skipping: false,
            statements: HashMap::new(),
            portals: HashMap::new(),
            block: Block::None,
            unsynced: Unsynced::default(),
            copy_in: false,
            savepoints: false,
            own_rows: Vec::new(),
            tally: Tally::default(),
        }
    }
}

impl<T> Conversation<T> {
    /// No reply is owed.
    pub fn is_settled(&self) -> bool {
        self.expected.is_empty()
    }

    /// An error makes the server ignore everything up to a Sync that has not been sent.
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// What is under way may change what names stand for.
    pub fn changes_names(&self) -> bool {
        self.expected.iter().any(|entry| match entry {
            Expected::Parse { .. } | Expected::Bind { .. } | Expected::Close { .. } => true,
            Expected::Execute { step } => step.names.is_some(),
            Expected::Query { steps } => steps.iter().any(|step| step.names.is_some()),
            Expected::DescribeStatement { .. }
            | Expected::DescribePortal
            | Expected::Sync
            | Expected::FunctionCall
            | Expected::End(_)
            | Expected::Own(_) => false,
        })
    }

    pub fn statement(&self, name: &Name) -> Option<&Arc<PreparedStatement>> {
        self.statements.get(name)
    }

    pub fn portal(&self, name: &Name) -> Option<&Portal> {
        self.portals.get(name)
    }

    pub fn has_portals(&self) -> bool {
        !self.portals.is_empty()
    }

    pub fn names(&self) -> usize {
        self.statements.len() + self.portals.len()
    }

    /// Bytes of statements and values that the names keep.
    pub fn kept_bytes(&self) -> usize {
        let statements = self.statements.values().map(|prepared| prepared.text.len());
        let values = self.portals.values().flat_map(|portal| portal.values.iter());
        let values = values.map(|value| value.bytes.as_ref().map_or(0, Bytes::len));
        statements.chain(values).sum()
    }

    /// Takes the rows that answered the gateway's own questions.
    pub fn take_own_rows(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.own_rows)
    }

    /// Notes that a message goes out which the server will answer. Returns what ended at once because the server
    /// is skipping to the next Sync.
    pub fn expect(&mut self, entry: Expected<T>) -> Option<(Running<T>, Outcome)> {
        self.note_unsynced(&entry);
        if self.skipping {
            match entry {
                Expected::Sync | Expected::Own(Own::Sync) => self.skipping = false,
                Expected::End(running) => {
                    let outcome = skipped(&running);
                    return Some((running, outcome));
                }
                Expected::Parse { .. }
                | Expected::Bind { .. }
                | Expected::DescribeStatement { .. }
                | Expected::DescribePortal
                | Expected::Execute { .. }
                | Expected::Close { .. }
                | Expected::Query { .. }
                | Expected::FunctionCall
                | Expected::Own(_) => return None,
            }
        }
        if self.expected.is_empty()
            && let Expected::End(running) = entry
        {
            return Some(self.finish(running));
        }
        self.expected.push_back(entry);
        None
    }

    fn note_unsynced(&mut self, entry: &Expected<T>) {
        match entry {
            Expected::Sync | Expected::Query { .. } | Expected::FunctionCall | Expected::Own(Own::Sync) => {
                self.unsynced = Unsynced::default();
            }
            Expected::Bind { .. } | Expected::Execute { .. } => {
                self.unsynced = Unsynced {
                    any: true,
                    bound: true,
                    unflushed: true,
                };
            }
            Expected::Parse { .. }
            | Expected::DescribeStatement { .. }
            | Expected::DescribePortal
            | Expected::Close { .. }
            | Expected::Own(_) => {
                self.unsynced.any = true;
                self.unsynced.unflushed = true;
            }
            Expected::End(_) => {}
        }
    }

    /// Notes that a Flush went out.
    pub fn flushed(&mut self) {
        self.unsynced.unflushed = false;
    }

    /// Takes note of one message from the server and says what to do with it. `body` may be cut for messages whose
    /// body does not matter here (rows, COPY data).
    pub fn reply(&mut self, tag: u8, body: &[u8]) -> Result<Disposition<T>, Unexpected> {
        match tag {
            b'N' | b'A' | b'S' => Ok(Disposition::Pass),
            b'D' | b'V' | b'H' | b'd' | b'c' => self.data(tag, body),
            b'T' | b'n' | b't' => self.description(tag, body),
            b'1' | b'2' | b'3' => self.acknowledged(tag),
            b'C' | b'I' | b's' => self.completed(tag, body),
            b'G' => self.copy_in_started(),
            b'E' => self.failed(body),
            b'Z' => self.ready(body),
            other => Err(Unexpected(other)),
        }
    }

    fn data(&mut self, tag: u8, body: &[u8]) -> Result<Disposition<T>, Unexpected> {
        match self.expected.front() {
            Some(Expected::Execute { .. } | Expected::Query { .. } | Expected::FunctionCall) => Ok(Disposition::Pass),
            Some(Expected::Own(Own::Execute)) if tag == b'D' => {
                self.own_rows.push(Bytes::copy_from_slice(body));
                Ok(Disposition::Swallow)
            }
            _ => Err(Unexpected(tag)),
        }
    }

    fn description(&mut self, tag: u8, body: &[u8]) -> Result<Disposition<T>, Unexpected> {
        match self.expected.front() {
            Some(Expected::DescribeStatement { name }) if tag == b't' => {
                if let (Some(types), Some(prepared)) = (described_types(body), self.statements.get_mut(name)) {
                    *prepared = Arc::new(PreparedStatement {
                        text: prepared.text.clone(),
                        analysis: prepared.analysis.clone(),
                        types,
                        foreign_types: prepared.foreign_types.clone(),
                    });
                }
                Ok(Disposition::Pass)
            }
            Some(Expected::DescribeStatement { .. } | Expected::DescribePortal) if tag != b't' => {
                self.expected.pop_front();
                Ok(self.passed())
            }
            Some(Expected::Query { .. }) if tag == b'T' => Ok(Disposition::Pass),
            _ => Err(Unexpected(tag)),
        }
    }

    fn acknowledged(&mut self, tag: u8) -> Result<Disposition<T>, Unexpected> {
        match (tag, self.expected.pop_front()) {
            (b'1', Some(Expected::Parse { name, prepared })) => {
                self.statements.insert(name, prepared);
            }
            (b'2', Some(Expected::Bind { name, portal })) => {
                self.portals.insert(name, portal);
            }
            (b'3', Some(Expected::Close { kind: b'S', name })) => {
                self.statements.remove(&name);
            }
            (b'3', Some(Expected::Close { name, .. })) => {
                self.portals.remove(&name);
            }
            (b'1', Some(Expected::Own(Own::Parse)))
            | (b'2', Some(Expected::Own(Own::Bind)))
            | (b'3', Some(Expected::Own(Own::Close))) => return Ok(Disposition::Swallow),
            _ => return Err(Unexpected(tag)),
        }
        Ok(self.passed())
    }

    fn completed(&mut self, tag: u8, body: &[u8]) -> Result<Disposition<T>, Unexpected> {
        match self.expected.front_mut() {
            Some(Expected::Query { steps }) if tag != b's' => {
                let step = if tag == b'C' { steps.pop_front() } else { None };
                self.tally.count(tag, body);
                self.apply(step.unwrap_or_default());
                Ok(Disposition::Pass)
            }
            Some(Expected::Execute { step }) => {
                let step = if tag == b'C' {
                    std::mem::take(step)
                } else {
                    Step::default()
                };
                self.expected.pop_front();
                self.tally.count(tag, body);
                self.apply(step);
                Ok(self.passed())
            }
            Some(Expected::Own(Own::Execute)) => {
                self.expected.pop_front();
                Ok(Disposition::Swallow)
            }
            _ => Err(Unexpected(tag)),
        }
    }

    fn apply(&mut self, step: Step) {
        self.copy_in &= !step.copy_in;
        match step.names {
            None => {}
            Some(NameChange::Prepare(name, prepared)) => {
                self.statements.insert(name, prepared);
            }
            Some(NameChange::Deallocate(Some(name))) => {
                self.statements.remove(&name);
            }
            Some(NameChange::Deallocate(None)) => self.statements.clear(),
            Some(NameChange::Declare(name, portal)) => {
                self.portals.insert(name, portal);
            }
            Some(NameChange::ClosePortal(Some(name))) => {
                self.portals.remove(&name);
            }
            Some(NameChange::ClosePortal(None)) => self.portals.clear(),
            Some(NameChange::DiscardAll) => {
                self.statements.clear();
                self.portals.clear();
            }
        }
        match step.block {
            None => {}
            Some(BlockChange::Begin) => self.block = Block::Open,
            Some(BlockChange::End { chain }) => {
                self.block = if chain { Block::Open } else { Block::None };
                self.savepoints = false;
            }
            Some(BlockChange::Savepoint) => self.savepoints = true,
            Some(BlockChange::RollbackToSavepoint) => self.block = Block::Open,
        }
    }

    fn copy_in_started(&mut self) -> Result<Disposition<T>, Unexpected> {
        let extended = match self.expected.front() {
            Some(Expected::Execute { step }) if step.copy_in => true,
            Some(Expected::Query { steps }) if steps.front().is_some_and(|step| step.copy_in) => false,
            // A COPY FROM STDIN that was not judged as one.
            _ => return Err(Unexpected(b'G')),
        };
        self.copy_in = true;
        // While it copies the server ignores Sync: the one that came with the unit is never answered.
        if extended {
            if let Some(at) = self.expected.iter().position(|entry| matches!(entry, Expected::Sync)) {
                self.expected.remove(at);
            }
            // The end of the copy is told only at a Sync or Flush behind the data.
            self.unsynced = Unsynced {
                any: true,
                bound: true,
                unflushed: true,
            };
        }
        Ok(Disposition::Pass)
    }

    fn failed(&mut self, body: &[u8]) -> Result<Disposition<T>, Unexpected> {
        self.copy_in = false;
        if let Some(Expected::Own(Own::Fail(instead))) = self.expected.front_mut() {
            let instead = std::mem::take(instead);
            self.expected.pop_front();
            // It is sent when nothing else is under way, and a Sync follows it: no operation ends here.
            let ends = self.skip_to_sync();
            debug_assert!(ends.is_empty());
            return Ok(Disposition::Instead(instead));
        }
        self.tally.error.get_or_insert_with(|| error_summary(body));
        match self.expected.front() {
            // A fatal error while nothing is asked: the connection ends with it.
            None | Some(Expected::Sync | Expected::Query { .. } | Expected::FunctionCall) => Ok(Disposition::Pass),
            // The gateway's own question was cancelled. Its Sync is on its way.
            Some(Expected::Own(_))
                if self
                    .expected
                    .iter()
                    .any(|entry| matches!(entry, Expected::Own(Own::Sync))) =>
            {
                drop(self.skip_to_sync());
                Ok(Disposition::Swallow)
            }
            Some(Expected::Own(_)) => Err(Unexpected(b'E')),
            Some(
                Expected::Parse { .. }
                | Expected::Bind { .. }
                | Expected::DescribeStatement { .. }
                | Expected::DescribePortal
                | Expected::Execute { .. }
                | Expected::Close { .. }
                | Expected::End(_),
            ) => {
                let ends = self.skip_to_sync();
                Ok(if ends.is_empty() {
                    Disposition::Pass
                } else {
                    Disposition::PassAfter(ends)
                })
            }
        }
    }

    /// After an error the server ignores everything up to the next Sync. Returns the operations that are over with
    /// it: the one that failed, and those that are not run at all.
    fn skip_to_sync(&mut self) -> Vec<(Running<T>, Outcome)> {
        if self.block == Block::Open {
            self.block = Block::Failed;
        }
        let mut ends = Vec::new();
        self.skipping = true;
        while let Some(entry) = self.expected.pop_front() {
            match entry {
                Expected::Sync | Expected::Own(Own::Sync) => {
                    self.skipping = false;
                    self.expected.push_front(entry);
                    if !ends.is_empty() {
                        // What else came with this Sync was not run either.
                        self.tally.error = Some(SKIPPED.to_owned());
                    }
                    break;
                }
                Expected::End(running) if ends.is_empty() => ends.push(self.finish(running)),
                Expected::End(running) => {
                    let outcome = skipped(&running);
                    ends.push((running, outcome));
                }
                Expected::Parse { .. }
                | Expected::Bind { .. }
                | Expected::DescribeStatement { .. }
                | Expected::DescribePortal
                | Expected::Execute { .. }
                | Expected::Close { .. }
                | Expected::Query { .. }
                | Expected::FunctionCall
                | Expected::Own(_) => {}
            }
        }
        ends
    }

    fn ready(&mut self, body: &[u8]) -> Result<Disposition<T>, Unexpected> {
        let mut finished = self.take_ends();
        let own = match self.expected.pop_front() {
            Some(Expected::Query { .. }) => {
                // A simple query drops the unnamed statement before it is read.
                self.statements.remove(&Name::of(""));
                false
            }
            Some(Expected::Sync | Expected::FunctionCall) => false,
            Some(Expected::Own(Own::Sync)) => true,
            _ => return Err(Unexpected(b'Z')),
        };
        self.block = match body {
            b"I" => Block::None,
            b"T" => Block::Open,
            b"E" => Block::Failed,
            _ => return Err(Unexpected(b'Z')),
        };
        self.copy_in = false;
        if self.block == Block::None {
            self.portals.retain(|_, portal| portal.with_hold);
            self.savepoints = false;
        }
        if own {
            return Ok(Disposition::Swallow);
        }
        finished.extend(self.take_ends());
        self.tally = Tally::default();
        Ok(if finished.is_empty() {
            Disposition::Pass
        } else {
            Disposition::PassAfter(finished)
        })
    }

    /// A reply that may have brought operations to their end.
    fn passed(&mut self) -> Disposition<T> {
        let finished = self.take_ends();
        if finished.is_empty() {
            Disposition::Pass
        } else {
            Disposition::PassAfter(finished)
        }
    }

    /// Takes the ends that stand first in the queue.
    pub fn take_ends(&mut self) -> Vec<(Running<T>, Outcome)> {
        let mut finished = Vec::new();
        while let Some(Expected::End(_)) = self.expected.front() {
            if let Some(Expected::End(running)) = self.expected.pop_front() {
                finished.push(self.finish(running));
            }
        }
        finished
    }

    /// Takes every operation whose end has not come: the connection is over.
    pub fn abandon(&mut self) -> Vec<Running<T>> {
        let entries = std::mem::take(&mut self.expected);
        let running = entries.into_iter().filter_map(|entry| match entry {
            Expected::End(running) => Some(running),
            Expected::Parse { .. }
            | Expected::Bind { .. }
            | Expected::DescribeStatement { .. }
            | Expected::DescribePortal
            | Expected::Execute { .. }
            | Expected::Close { .. }
            | Expected::Sync
            | Expected::Query { .. }
            | Expected::FunctionCall
            | Expected::Own(_) => None,
        });
        running.collect()
    }

    fn finish(&mut self, running: Running<T>) -> (Running<T>, Outcome) {
        let outcome = self.tally.outcome(&running);
        (running, outcome)
    }
}

/// The parameter types of a ParameterDescription.
fn described_types(body: &[u8]) -> Option<Vec<u32>> {
    let (_, oids) = body.split_first_chunk::<2>()?;
    Some(
        oids.chunks_exact(4)
            .filter_map(|oid| Some(u32::from_be_bytes(oid.try_into().ok()?)))
            .collect(),
    )
}

#[cfg(test)]
mod tests;
