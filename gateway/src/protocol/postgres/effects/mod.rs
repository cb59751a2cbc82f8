//! What a string of SQL statements would do, by PostgreSQL's own parser.

mod analyst;
mod catalog;
mod ddl;
mod dml;
mod expr;
mod functions;
mod node;
mod parse;
mod resolve;
mod select;
mod sensitive;
mod utility;
mod walk;

pub use analyst::{Analyst, AnalystError};
pub(crate) use parse::is_scannable;
pub use parse::{Limits, analyse};
pub use resolve::Prepared;
pub(crate) use sensitive::is_secret;
pub use sensitive::{Place, Sensitive};

use countersign_infra::domain::effect::{Effects, WriteKind};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The stack that an analysis needs. Virtual memory: only what a statement needs is ever touched. libpg_query refuses
/// trees that need more than 2 MB of its own stack; the deepest that it hands out are decoded, walked and dropped in this
/// also by an unoptimised build.
pub(crate) const STACK_BYTES: usize = 512 << 20;

/// What the gateway must know of one statement beside its effects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing special.
    Plain,
    /// BEGIN or START TRANSACTION.
    Begin,
    /// COMMIT, END or PREPARE TRANSACTION. `chain`: another block begins.
    Commit {
        chain: bool,
    },
    /// ROLLBACK or ABORT of the whole block.
    Rollback {
        chain: bool,
    },
    Savepoint,
    RollbackToSavepoint,
    ReleaseSavepoint,
    /// PREPARE name AS ...: `body` is the analysis of the statement inside.
    Prepare {
        name: String,
        body: Arc<StatementFacts>,
    },
    /// EXECUTE name, also inside EXPLAIN and CREATE TABLE AS: its effects are those of what the name stands for.
    /// `plan_only`: EXPLAIN without ANALYZE, which plans the statement and evaluates only the arguments.
    /// `own`: what the statement does beside that (its arguments are evaluated, CREATE TABLE AS makes a table).
    /// The effects are `own` and `unknown` until [`StatementFacts::resolved`] knows better.
    Execute {
        name: String,
        plan_only: bool,
        own: Effects,
    },
    /// DEALLOCATE; none means ALL.
    Deallocate {
        name: Option<String>,
    },
    /// DECLARE name CURSOR: the query's effects are the statement's own.
    /// `with_hold`: the cursor outlives its transaction.
    Declare {
        name: String,
        with_hold: bool,
    },
    /// FETCH or MOVE.
    Fetch {
        name: String,
    },
    /// CLOSE; none means ALL.
    Close {
        name: Option<String>,
    },
    /// COPY ... FROM STDIN: data follows that nobody has seen.
    CopyIn,
    CopyOut,
    /// DISCARD ALL.
    DiscardAll,
}

/// What is known of one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementFacts {
    pub effects: Effects,
    pub role: Role,
    /// What it does to rows.
    pub writes: BTreeSet<WriteKind>,
    /// True unless an UPDATE or DELETE anywhere in it has no WHERE clause (TRUNCATE counts as none).
    pub has_where: bool,
    /// Every table that it names.
    pub tables: Vec<String>,
    /// It can change what later statements mean (SET, set_config, a call, RESET, DISCARD, SET ROLE, ...).
    pub changes_session: bool,
}

/// What is known of a string of statements (a Query message, or the text of a Parse message).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Analysis {
    /// In order. Empty for an empty string or one of comments only.
    pub statements: Vec<StatementFacts>,
    /// Where the values stand that a display of the text hides: see [`crate::mask::display`].
    pub sensitive: Sensitive,
}

/// Why a text was not analysed: nothing of it may be forwarded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unparseable {
    /// The SQLSTATE to answer with: 42601 syntax, 54000 or 54001 over a limit, 22021 not UTF-8.
    pub sqlstate: &'static str,
    pub message: String,
    pub hint: Option<String>,
}

impl Unparseable {
    pub(crate) fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self {
            sqlstate,
            message: message.into(),
            hint: None,
        }
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Analysis {
    /// An analysis of statements taken out of another one. Where their values stand in a text is not known any more, so
    /// a display hides every literal as soon as there are masked columns.
    pub fn of(statements: Vec<StatementFacts>) -> Self {
        Self {
            statements,
            sensitive: Sensitive::everything(),
        }
    }

    /// Roughly how many bytes it occupies.
    fn weight(&self) -> usize {
        self.statements.iter().map(StatementFacts::weight).sum::<usize>() + self.sensitive.weight() + 64
    }
}

impl StatementFacts {
    fn weight(&self) -> usize {
        let objects = self.effects.iter().flat_map(|(_, objects)| objects);
        let names = objects.chain(&self.tables).map(|name| name.len() + 48).sum::<usize>();
        let body = if let Role::Prepare { body, .. } = &self.role {
            body.weight()
        } else {
            0
        };
        names + body + 256
    }
}

#[cfg(test)]
mod tests;
