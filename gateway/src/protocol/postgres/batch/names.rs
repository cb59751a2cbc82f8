//! What names stand for, and what the completion of a statement changes.

use crate::protocol::postgres::effects::{Analysis, Role};
use bytes::Bytes;
use std::sync::Arc;

/// Names longer than this may mean another name at the server: it looks at 63 bytes in an encoding of its own, and cuts
/// at a character's boundary.
const CERTAIN_BYTES_MAX: usize = 59;
/// The same for names that are not ASCII and may grow when the server converts them.
const CERTAIN_BYTES_MAX_NOT_ASCII: usize = 29;

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

    /// Whether a name in SQL means the same name to the server.
    pub fn is_certain(name: &str) -> bool {
        let max = if name.is_ascii() {
            CERTAIN_BYTES_MAX
        } else {
            CERTAIN_BYTES_MAX_NOT_ASCII
        };
        name.len() <= max
    }

    /// Whether a name in a message means the same name to the server.
    pub fn is_certain_in_message(name: &[u8]) -> bool {
        name.is_ascii() || name.len() <= CERTAIN_BYTES_MAX_NOT_ASCII
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
    /// Types that the client declared and that are not the server's own.
    pub foreign_types: Vec<u32>,
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
    /// A cursor that outlives its transaction.
    pub with_hold: bool,
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

/// What the completion of a statement of this role changes.
pub fn step(role: &Role, text: &Bytes, cursor: impl FnOnce() -> Portal) -> Step {
    let names = match role {
        Role::Prepare { name, body } => {
            let analysis = Arc::new(Analysis::of(vec![(**body).clone()]));
            Some(NameChange::Prepare(
                Name::of(name),
                Arc::new(PreparedStatement {
                    text: text.clone(),
                    analysis,
                    types: vec![],
                    foreign_types: vec![],
                }),
            ))
        }
        Role::Deallocate { name } => Some(NameChange::Deallocate(name.as_deref().map(Name::of))),
        Role::Declare { name, .. } => Some(NameChange::Declare(Name::of(name), cursor())),
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
