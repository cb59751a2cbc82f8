//! Statements about the session, transactions, cursors, prepared statements and maintenance.

use super::resolve::planned;
use super::walk::{Walk, relation_name};
use super::{Role, walk};
use countersign_infra::domain::effect::{EffectKind, Effects, WriteKind};
use pg_query::NodeEnum;
use pg_query::protobuf::{
    CallStmt, ClusterStmt, CreateTableAsStmt, DeclareCursorStmt, DefElem, DiscardMode, DiscardStmt, ExecuteStmt,
    ExplainStmt, FetchStmt, LockStmt, Node, ObjectType, PrepareStmt, ReindexStmt, TransactionStmt, TransactionStmtKind,
    VacuumStmt, VariableSetKind, VariableSetStmt, a_const::Val,
};
use std::sync::Arc;

/// <https://www.postgresql.org/docs/current/sql-declare.html>, as nodes/parsenodes.h numbers it.
const CURSOR_OPT_HOLD: i32 = 0x20;

impl Walk {
    pub(super) fn transaction(&mut self, statement: &TransactionStmt) {
        self.effect(EffectKind::Transaction);
        let chain = statement.chain;
        match TransactionStmtKind::try_from(statement.kind) {
            Ok(TransactionStmtKind::TransStmtBegin | TransactionStmtKind::TransStmtStart) => self.role = Role::Begin,
            Ok(TransactionStmtKind::TransStmtCommit) => self.role = Role::Commit { chain },
            Ok(TransactionStmtKind::TransStmtPrepare) => self.role = Role::Commit { chain: false },
            Ok(TransactionStmtKind::TransStmtRollback) => self.role = Role::Rollback { chain },
            Ok(TransactionStmtKind::TransStmtSavepoint) => self.role = Role::Savepoint,
            Ok(TransactionStmtKind::TransStmtRelease) => self.role = Role::ReleaseSavepoint,
            Ok(TransactionStmtKind::TransStmtRollbackTo) => self.role = Role::RollbackToSavepoint,
            // It makes durable what another session prepared.
            Ok(TransactionStmtKind::TransStmtCommitPrepared) => {
                self.writes.insert(WriteKind::Other);
                self.object(EffectKind::Write, statement.gid.clone());
            }
            Ok(TransactionStmtKind::TransStmtRollbackPrepared) => {}
            Ok(TransactionStmtKind::Undefined) | Err(_) => self.effect(EffectKind::Unknown),
        }
    }

    pub(super) fn set(&mut self, statement: &VariableSetStmt) {
        self.effect(EffectKind::Session);
        self.changes_session = true;
        match VariableSetKind::try_from(statement.kind) {
            Ok(VariableSetKind::VarSetMulti) => self.effect(EffectKind::Transaction),
            Ok(VariableSetKind::VarResetAll) => {}
            Ok(
                VariableSetKind::VarSetValue
                | VariableSetKind::VarSetDefault
                | VariableSetKind::VarSetCurrent
                | VariableSetKind::VarReset,
            ) => {
                self.setting(&statement.name);
                if let Some(role) = self.role_of(statement) {
                    self.object(EffectKind::Privilege, role);
                }
            }
            Ok(VariableSetKind::Undefined) | Err(_) => self.effect(EffectKind::Unknown),
        }
        self.children(&statement.args);
        if super::sensitive::is_secret(&statement.name) {
            statement.args.iter().for_each(|value| self.secret(value));
        }
    }

    fn role_of(&self, statement: &VariableSetStmt) -> Option<String> {
        let is_role = ["role", "session_authorization"]
            .iter()
            .any(|name| statement.name.eq_ignore_ascii_case(name));
        statement
            .args
            .first()
            .filter(|_| is_role)
            .and_then(super::functions::literal)
            .map(str::to_owned)
    }

    pub(super) fn discard(&mut self, statement: &DiscardStmt) {
        self.effect(EffectKind::Session);
        if DiscardMode::try_from(statement.target) == Ok(DiscardMode::DiscardAll) {
            self.role = Role::DiscardAll;
        }
    }

    pub(super) fn lock(&mut self, statement: &LockStmt) {
        self.effect(EffectKind::Session);
        for relation in &statement.relations {
            self.named(EffectKind::Lock, relation);
        }
    }

    pub(super) fn prepare(&mut self, statement: &PrepareStmt) {
        self.effect(EffectKind::Session);
        let Some(mut body) = self.apart(statement.query.as_deref()) else {
            return;
        };
        // The types of the parameters convert what EXECUTE passes.
        let mut types = Self::new();
        types.children(&statement.argtypes);
        body.effects.merge(&types.effects);
        self.tables.extend(body.tables.iter().cloned());
        self.role = Role::Prepare {
            name: statement.name.clone(),
            body: Arc::new(body),
        };
    }

    pub(super) fn execute(&mut self, statement: &ExecuteStmt, plan_only: bool) {
        self.children(&statement.params);
        self.role = Role::Execute {
            name: statement.name.clone(),
            plan_only,
            own: Effects::default(),
        };
    }

    pub(super) fn declare(&mut self, statement: &DeclareCursorStmt) {
        self.effect(EffectKind::Session);
        self.child(statement.query.as_deref());
        self.role = Role::Declare {
            name: statement.portalname.clone(),
            with_hold: statement.options & CURSOR_OPT_HOLD != 0,
        };
    }

    pub(super) fn fetch(&mut self, statement: &FetchStmt) {
        self.effect(EffectKind::Session);
        self.role = Role::Fetch {
            name: statement.portalname.clone(),
        };
    }

    /// Without ANALYZE nothing of it runs but what the planner folds, and the arguments of EXECUTE.
    pub(super) fn explain(&mut self, statement: &ExplainStmt) {
        let Some(query) = statement.query.as_deref() else {
            return self.effect(EffectKind::Unknown);
        };
        if analyzes(&statement.options) {
            self.child(Some(query));
            // EXPLAIN of DECLARE opens no cursor.
            if !matches!(self.role, Role::Execute { .. }) {
                self.role = Role::Plain;
            }
            return;
        }
        self.effect(EffectKind::Read);
        if let Some(execute) = executed(query) {
            return self.execute(execute, true);
        }
        if let Some(inner) = self.apart(Some(query)) {
            self.effects.merge(&planned(&inner.effects));
            self.tables.extend(inner.tables);
        }
    }

    pub(super) fn create_table_as(&mut self, statement: &CreateTableAsStmt) {
        let CreateTableAsStmt {
            query,
            into,
            objtype,
            is_select_into: _,
            if_not_exists: _,
        } = statement;
        let skips = into.as_deref().is_some_and(|into| into.skip_data);
        let is_view = ObjectType::try_from(*objtype) == Ok(ObjectType::ObjectMatview);
        self.effect(EffectKind::Ddl);
        self.effect(EffectKind::Write);
        if let Some(into) = into.as_deref() {
            self.creates(into);
        }
        match (skips && is_view, query.as_deref()) {
            (true, Some(query)) => {
                if let Some(inner) = self.apart(Some(query)) {
                    self.effects.merge(&planned(&inner.effects));
                }
            }
            (_, query) => self.child(query),
        }
    }

    pub(super) fn call(&mut self, statement: &CallStmt) {
        match statement.funccall.as_deref() {
            Some(call) => {
                self.object(EffectKind::Call, walk::dotted(&call.funcname));
                self.func_call(call);
            }
            None => self.effect(EffectKind::Call),
        }
    }

    pub(super) fn vacuum(&mut self, statement: &VacuumStmt) {
        self.effect(EffectKind::Admin);
        for relation in &statement.rels {
            if let Some(NodeEnum::VacuumRelation(relation)) = &relation.node
                && let Some(relation) = &relation.relation
            {
                self.names(EffectKind::Admin, relation);
            }
        }
    }

    pub(super) fn reindex(&mut self, statement: &ReindexStmt) {
        self.effect(EffectKind::Ddl);
        match &statement.relation {
            Some(relation) => self.object(EffectKind::Ddl, relation_name(relation)),
            None if statement.name.is_empty() => {}
            None => self.object(EffectKind::Ddl, statement.name.clone()),
        }
    }

    pub(super) fn cluster(&mut self, statement: &ClusterStmt) {
        self.effect(EffectKind::Ddl);
        if let Some(relation) = &statement.relation {
            self.names(EffectKind::Ddl, relation);
        }
    }
}

/// The EXECUTE that an EXPLAIN is about, also below CREATE TABLE AS.
fn executed(query: &Node) -> Option<&ExecuteStmt> {
    match &query.node {
        Some(NodeEnum::ExecuteStmt(execute)) => Some(execute),
        Some(NodeEnum::CreateTableAsStmt(create)) => match create.query.as_deref().map(|query| &query.node) {
            Some(Some(NodeEnum::ExecuteStmt(execute))) => Some(execute),
            _other => None,
        },
        _other => None,
    }
}

/// Whether the options of EXPLAIN make it run the statement: the last ANALYZE wins, and what cannot be read is a yes.
fn analyzes(options: &[Node]) -> bool {
    let mut analyzes = false;
    for option in options {
        match &option.node {
            Some(NodeEnum::DefElem(option)) if option.defname.eq_ignore_ascii_case("analyze") => {
                analyzes = !is_false(option);
            }
            _other => {}
        }
    }
    analyzes
}

/// The words of PostgreSQL's `defGetBoolean` for no.
fn is_false(option: &DefElem) -> bool {
    let no = |word: &str| ["false", "off"].iter().any(|no| word.eq_ignore_ascii_case(no));
    match option.arg.as_deref().and_then(|arg| arg.node.as_ref()) {
        Some(NodeEnum::String(word)) => no(&word.sval),
        Some(NodeEnum::Integer(number)) => number.ival == 0,
        Some(NodeEnum::Boolean(value)) => !value.boolval,
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(Val::Sval(word)) => no(&word.sval),
            Some(Val::Ival(number)) => number.ival == 0,
            Some(Val::Boolval(value)) => !value.boolval,
            Some(Val::Fval(_) | Val::Bsval(_)) | None => false,
        },
        _other => false,
    }
}
