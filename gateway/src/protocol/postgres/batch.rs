//! What is under way between the gateway and one server: which replies are owed, what the names stand for, and how
//! the transaction stands. Pure: it reads messages and touches nothing.
//!
//! Names change only on the server's answer: a Parse that fails leaves the old text under its name.
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY>

use super::effects::{Analysis, Role};
use bytes::Bytes;
use countersign_infra::domain::approval::Outcome;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Longest text of command tags that an outcome keeps.
const SUMMARY_BYTES_MAX: usize = 400;
/// PreparedStatement statements and portals that one session may have at a time.
pub const NAMES_MAX: usize = 10_000;

/// A statement's or portal's name, cut to the 63 bytes that the server looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(Bytes);

impl Name {
    pub fn new(name: Bytes) -> Self {
        const SIGNIFICANT: usize = 63;
        if name.len() <= SIGNIFICANT {
            return Self(name);
        }
        // The server clips at a character's boundary.
        let end = (0..=SIGNIFICANT)
            .rev()
            .find(|at| name.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80))
            .unwrap_or(0);
        Self(name.slice(..end))
    }

    pub fn of(name: &str) -> Self {
        Self::new(Bytes::copy_from_slice(name.as_bytes()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A prepared statement: its exact text and what it would do.
#[derive(Debug)]
pub struct PreparedStatement {
    pub text: Bytes,
    pub analysis: Arc<Analysis>,
    /// Parameter types as the client declared or the server described them; 0 where not known.
    pub types: Vec<u32>,
}

/// A bound value: its format (0 text, 1 binary) and bytes; none is NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub format: u16,
    pub bytes: Option<Bytes>,
}

/// A statement with its values, or a cursor.
#[derive(Clone, Debug)]
pub struct Portal {
    pub prepared: Arc<PreparedStatement>,
    pub values: Arc<[Value]>,
    /// The session's epoch when it was judged: a portal from before a change of session state is judged again.
    pub epoch: u64,
}

/// What a statement's completion changes.
#[derive(Clone, Debug, Default)]
pub struct Step {
    pub names: Option<NameChange>,
    pub block: Option<BlockChange>,
    pub copy_in: bool,
}

#[derive(Clone, Debug)]
pub enum NameChange {
    Prepare(Name, Arc<PreparedStatement>),
    Deallocate(Option<Name>),
    Declare(Name, Portal),
    ClosePortal(Option<Name>),
    DiscardAll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockChange {
    Begin,
    End { chain: bool },
    Savepoint,
    RollbackToSavepoint,
}

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

/// An operation that was forwarded and whose end is awaited.
#[derive(Debug)]
pub struct Running<T> {
    pub ticket: T,
    pub started: std::time::Instant,
}

/// A reply that the server owes.
#[derive(Debug)]
pub enum Expected<T> {
    Parse {
        name: Name,
        prepared: Arc<PreparedStatement>,
    },
    Bind {
        name: Name,
        portal: Portal,
    },
    DescribeStatement {
        name: Name,
    },
    DescribePortal,
    Execute {
        step: Step,
    },
    Close {
        kind: u8,
        name: Name,
    },
    Sync,
    Query {
        steps: VecDeque<Step>,
    },
    FunctionCall,
    /// Not a reply: the operation that the entries before it belong to is at its end.
    End(Running<T>),
    /// Answers to the gateway's own messages: the client does not see them.
    Own(Own),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Own {
    Parse,
    Bind,
    /// Its row is kept for the gateway.
    Execute,
    Close,
    Sync,
    /// A statement that must fail; the client is told this instead of the server's error.
    Fail(Bytes),
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
    /// Text columns of the last row that answered the gateway's own query.
    own_row: Option<Bytes>,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Tally {
    tags: String,
    rows: Option<u64>,
    error: Option<String>,
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
            own_row: None,
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

    /// Takes the row that answered the gateway's own query.
    pub fn take_own_row(&mut self) -> Option<Bytes> {
        self.own_row.take()
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
        if let (Expected::End(_), true) = (&entry, self.expected.is_empty()) {
            return match entry {
                Expected::End(running) => Some(self.finish(running)),
                _ => None,
            };
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
                self.own_row = Some(Bytes::copy_from_slice(body));
                Ok(Disposition::Swallow)
            }
            _ => Err(Unexpected(tag)),
        }
    }

    fn description(&mut self, tag: u8, body: &[u8]) -> Result<Disposition<T>, Unexpected> {
        match self.expected.front() {
            Some(Expected::DescribeStatement { name }) if tag == b't' => {
                if let (Some(types), Some(prepared)) = (described_types(body), self.statements.get_mut(name)) {
                    let (text, analysis) = (prepared.text.clone(), prepared.analysis.clone());
                    *prepared = Arc::new(PreparedStatement { text, analysis, types });
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
                self.count(tag, body);
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
                self.count(tag, body);
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

    fn count(&mut self, tag: u8, body: &[u8]) {
        if tag != b'C' {
            return;
        }
        let text = body.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        if self.tally.tags.len() + text.len() < SUMMARY_BYTES_MAX {
            if !self.tally.tags.is_empty() {
                self.tally.tags.push_str("; ");
            }
            self.tally.tags.push_str(&text);
        }
        if let Some(rows) = text.rsplit(' ').next().and_then(|word| word.parse::<u64>().ok()) {
            self.tally.rows = Some(self.tally.rows.unwrap_or(0).saturating_add(rows));
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
        if extended && let Some(at) = self.expected.iter().position(|entry| matches!(entry, Expected::Sync)) {
            self.expected.remove(at);
            self.unsynced = Unsynced {
                any: true,
                bound: true,
                unflushed: false,
            };
        }
        Ok(Disposition::Pass)
    }

    fn failed(&mut self, body: &[u8]) -> Result<Disposition<T>, Unexpected> {
        self.copy_in = false;
        if let Some(Expected::Own(Own::Fail(instead))) = self.expected.front_mut() {
            let instead = std::mem::take(instead);
            self.expected.pop_front();
            self.skip_to_sync();
            return Ok(Disposition::Instead(instead));
        }
        self.tally.error.get_or_insert_with(|| error_summary(body));
        match self.expected.front() {
            // A fatal error while nothing is asked: the connection ends with it.
            None | Some(Expected::Sync | Expected::Query { .. } | Expected::FunctionCall) => Ok(Disposition::Pass),
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
                self.skip_to_sync();
                Ok(Disposition::Pass)
            }
        }
    }

    /// After an error the server ignores everything up to the next Sync. Ends of operations in between stay, before
    /// that Sync's own.
    fn skip_to_sync(&mut self) {
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
                    break;
                }
                Expected::End(running) => ends.push(running),
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
        for running in ends.into_iter().rev() {
            self.expected.push_front(Expected::End(running));
        }
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
            self.portals.clear();
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
        let tally = std::mem::take(&mut self.tally);
        let outcome = Outcome {
            ok: tally.error.is_none(),
            summary: tally.error.unwrap_or(tally.tags),
            rows: tally.rows,
            duration_ms: u64::try_from(running.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        (running, outcome)
    }
}

fn skipped<T>(running: &Running<T>) -> Outcome {
    Outcome {
        ok: false,
        summary: "not run: the server skipped it after an error".to_owned(),
        rows: None,
        duration_ms: u64::try_from(running.started.elapsed().as_millis()).unwrap_or(u64::MAX),
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

/// `SQLSTATE: message` of an ErrorResponse.
fn error_summary(body: &[u8]) -> String {
    let field = |code: u8| {
        let found = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&code));
        String::from_utf8_lossy(found.and_then(|field| field.get(1..)).unwrap_or_default()).into_owned()
    };
    let mut summary = format!("{}: {}", field(b'C'), field(b'M'));
    if let Some((end, _)) = summary.char_indices().nth(SUMMARY_BYTES_MAX) {
        summary.truncate(end);
    }
    summary
}

/// What the completion of a statement of this role changes.
pub fn step(role: &Role, text: &Bytes, cursor: impl FnOnce() -> Portal) -> Step {
    let names = match role {
        Role::Prepare { name, body } => {
            let analysis = Arc::new(Analysis {
                statements: vec![(**body).clone()],
            });
            Some(NameChange::Prepare(
                Name::of(name),
                Arc::new(PreparedStatement {
                    text: text.clone(),
                    analysis,
                    types: vec![],
                }),
            ))
        }
        Role::Deallocate { name } => Some(NameChange::Deallocate(name.as_deref().map(Name::of))),
        Role::Declare { name } => Some(NameChange::Declare(Name::of(name), cursor())),
        Role::Close { name } => Some(NameChange::ClosePortal(name.as_deref().map(Name::of))),
        Role::DiscardAll => Some(NameChange::DiscardAll),
        Role::Plain
        | Role::Begin
        | Role::Commit { .. }
        | Role::Rollback { .. }
        | Role::Savepoint
        | Role::RollbackToSavepoint
        | Role::ReleaseSavepoint
        | Role::Execute { .. }
        | Role::Fetch { .. }
        | Role::CopyIn
        | Role::CopyOut => None,
    };
    let block = match role {
        Role::Begin => Some(BlockChange::Begin),
        Role::Commit { chain } | Role::Rollback { chain } => Some(BlockChange::End { chain: *chain }),
        Role::Savepoint => Some(BlockChange::Savepoint),
        Role::RollbackToSavepoint => Some(BlockChange::RollbackToSavepoint),
        Role::Plain
        | Role::ReleaseSavepoint
        | Role::Prepare { .. }
        | Role::Execute { .. }
        | Role::Deallocate { .. }
        | Role::Declare { .. }
        | Role::Fetch { .. }
        | Role::Close { .. }
        | Role::CopyIn
        | Role::CopyOut
        | Role::DiscardAll => None,
    };
    Step {
        names,
        block,
        copy_in: matches!(role, Role::CopyIn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Talk = Conversation<&'static str>;

    fn prepared(text: &'static str) -> Arc<PreparedStatement> {
        let text = Bytes::from_static(text.as_bytes());
        Arc::new(PreparedStatement {
            text,
            analysis: Arc::default(),
            types: vec![],
        })
    }

    fn parse(name: &str, text: &'static str) -> Expected<&'static str> {
        Expected::Parse {
            name: Name::of(name),
            prepared: prepared(text),
        }
    }

    fn bind(name: &str) -> Expected<&'static str> {
        let portal = Portal {
            prepared: prepared("select 1"),
            values: Arc::new([]),
            epoch: 0,
        };
        Expected::Bind {
            name: Name::of(name),
            portal,
        }
    }

    fn execute() -> Expected<&'static str> {
        Expected::Execute { step: Step::default() }
    }

    fn query(steps: Vec<Step>) -> Expected<&'static str> {
        Expected::Query { steps: steps.into() }
    }

    fn end(ticket: &'static str) -> Expected<&'static str> {
        Expected::End(Running {
            ticket,
            started: std::time::Instant::now(),
        })
    }

    fn talk(entries: impl IntoIterator<Item = Expected<&'static str>>) -> Talk {
        let mut talk = Talk::default();
        entries
            .into_iter()
            .for_each(|entry| assert!(talk.expect(entry).is_none()));
        talk
    }

    /// Feeds messages and gives, for each, what became of it: `pass`, `swallow`, `instead`, or the tickets that ended.
    #[track_caller]
    fn feed(talk: &mut Talk, messages: &[(u8, &[u8])]) -> Vec<String> {
        let became = messages.iter().map(|(tag, body)| match talk.reply(*tag, body) {
            Ok(Disposition::Pass) => "pass".to_owned(),
            Ok(Disposition::Swallow) => "swallow".to_owned(),
            Ok(Disposition::Instead(_)) => "instead".to_owned(),
            Ok(Disposition::PassAfter(ends)) => {
                let ends = ends
                    .iter()
                    .map(|(running, outcome)| format!("{} {}", running.ticket, outcome.summary));
                ends.collect::<Vec<_>>().join(", ")
            }
            Err(unexpected) => unexpected.to_string(),
        });
        became.collect()
    }

    fn text_of(talk: &Talk, name: &str) -> Option<Bytes> {
        talk.statement(&Name::of(name)).map(|prepared| prepared.text.clone())
    }

    const ERROR: &[u8] = b"SERROR\0C42P05\0Malready exists\0\0";

    #[test]
    fn a_parse_that_fails_leaves_the_old_text_under_its_name() {
        let mut talk = talk([parse("s", "select 1"), Expected::Sync]);
        feed(&mut talk, &[(b'1', b""), (b'Z', b"I")]);
        talk.expect(parse("s", "delete from t"));
        talk.expect(Expected::Sync);
        assert_eq!(text_of(&talk, "s"), Some(Bytes::from("select 1")));
        feed(&mut talk, &[(b'E', ERROR), (b'Z', b"I")]);
        assert_eq!(text_of(&talk, "s"), Some(Bytes::from("select 1")));
        assert!(talk.is_settled());
    }

    #[test]
    fn after_an_error_nothing_is_owed_up_to_the_next_sync() {
        let mut talk = talk([
            parse("a", "x"),
            bind(""),
            execute(),
            end("one"),
            parse("b", "y"),
            Expected::Sync,
            end("two"),
        ]);
        assert_eq!(feed(&mut talk, &[(b'1', b""), (b'E', ERROR)]), ["pass", "pass"]);
        assert_eq!(feed(&mut talk, &[(b'Z', b"I")]), ["one 42P05: already exists, two "]);
        assert_eq!(text_of(&talk, "b"), None);
        assert!(talk.is_settled());
    }

    #[test]
    fn what_is_sent_while_the_server_skips_is_never_owed() {
        let mut talk = talk([bind("")]);
        feed(&mut talk, &[(b'E', ERROR)]);
        assert!(talk.is_skipping());
        assert!(talk.expect(parse("a", "x")).is_none());
        assert!(talk.expect(query(vec![Step::default()])).is_none());
        assert!(talk.expect(end("one")).is_some_and(|(_, outcome)| !outcome.ok));
        talk.expect(Expected::Sync);
        assert_eq!(feed(&mut talk, &[(b'Z', b"I")]), ["pass"]);
        assert!(talk.is_settled() && !talk.is_skipping());
    }

    #[test]
    fn each_statement_of_a_query_changes_names_when_it_completes() {
        let prepare = |name: &str| Step {
            names: Some(NameChange::Prepare(Name::of(name), prepared("delete from t"))),
            ..Step::default()
        };
        let mut talk = talk([query(vec![prepare("a"), prepare("b")]), end("q")]);
        assert_eq!(
            feed(&mut talk, &[(b'C', b"PREPARE\0"), (b'E', ERROR)]),
            ["pass", "pass"]
        );
        assert_eq!(feed(&mut talk, &[(b'Z', b"I")]), ["q 42P05: already exists"]);
        assert!(text_of(&talk, "a").is_some() && text_of(&talk, "b").is_none());
    }

    #[test]
    fn portals_end_with_their_transaction_and_statements_stay() {
        let mut talk = talk([parse("s", "select 1"), bind("p"), execute(), Expected::Sync]);
        feed(&mut talk, &[(b'1', b""), (b'2', b""), (b's', b""), (b'Z', b"T")]);
        assert!(talk.portal(&Name::of("p")).is_some());
        talk.expect(Expected::Sync);
        feed(&mut talk, &[(b'Z', b"I")]);
        assert!(talk.portal(&Name::of("p")).is_none() && text_of(&talk, "s").is_some());
    }

    #[test]
    fn the_answer_to_the_gateways_own_question_is_kept_from_the_client() {
        let own = [Own::Parse, Own::Bind, Own::Execute, Own::Close, Own::Close, Own::Sync];
        let mut talk = talk(own.map(Expected::Own));
        let answer: [(u8, &[u8]); 7] = [
            (b'1', b""),
            (b'2', b""),
            (b'D', b"row"),
            (b'C', b"SELECT 1\0"),
            (b'3', b""),
            (b'3', b""),
            (b'Z', b"I"),
        ];
        assert_eq!(feed(&mut talk, &answer), ["swallow"; 7]);
        assert_eq!(talk.take_own_row(), Some(Bytes::from("row")));
    }

    #[test]
    fn the_error_of_the_failing_statement_becomes_the_refusal() {
        let mut talk = talk([Expected::Own(Own::Fail(Bytes::from("refused"))), Expected::Sync]);
        talk.block = Block::Open;
        assert_eq!(feed(&mut talk, &[(b'E', ERROR)]), ["instead"]);
        assert_eq!(talk.block, Block::Failed);
        assert_eq!(feed(&mut talk, &[(b'Z', b"E")]), ["pass"]);
    }

    #[test]
    fn a_sync_that_came_with_a_copy_is_never_answered() {
        let copy = Expected::Execute {
            step: Step {
                copy_in: true,
                ..Step::default()
            },
        };
        let mut talk = talk([parse("", "copy"), bind(""), copy, Expected::Sync, end("copy")]);
        assert_eq!(feed(&mut talk, &[(b'1', b""), (b'2', b""), (b'G', b"")]), ["pass"; 3]);
        assert!(talk.copy_in);
        assert_eq!(feed(&mut talk, &[(b'C', b"COPY 2\0")]), ["copy COPY 2"]);
        talk.expect(Expected::Sync);
        assert_eq!(feed(&mut talk, &[(b'Z', b"I")]), ["pass"]);
        assert!(talk.is_settled() && !talk.copy_in);
    }

    #[test]
    fn what_was_not_asked_for_is_not_taken() {
        let cases: [(&[u8], &str); 9] = [
            (b"1", "ParseComplete"),
            (b"2", "BindComplete"),
            (b"3", "CloseComplete"),
            (b"C", "CommandComplete"),
            (b"D", "DataRow"),
            (b"G", "CopyInResponse"),
            (b"W", "CopyBothResponse"),
            (b"Z", "ReadyForQuery"),
            (b"R", "Authentication"),
        ];
        for (tag, name) in cases {
            assert!(Talk::default().reply(tag[0], b"I").is_err(), "{name}");
        }
        // A COPY FROM STDIN that was not judged as one.
        assert!(talk([query(vec![Step::default()])]).reply(b'G', b"").is_err());
    }

    #[test]
    fn names_are_cut_to_63_bytes_at_a_character() {
        assert_eq!(Name::of(&"a".repeat(64)), Name::of(&"a".repeat(63)));
        let long = format!("{}\u{e9}", "a".repeat(62));
        assert_eq!(Name::of(&long).as_bytes(), "a".repeat(62).as_bytes());
    }
}
