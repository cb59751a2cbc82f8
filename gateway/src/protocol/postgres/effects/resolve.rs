//! What EXECUTE and FETCH do: the effects of what their name stands for.

use super::{Role, StatementFacts};
use countersign_infra::domain::effect::{EffectKind, Effects};
use std::sync::Arc;

/// What is known of the names that a session has given: prepared statements and cursors.
/// The session keeps its own maps, changed by the server's answers only; this trait is how they are asked.
pub trait Prepared {
    /// The statement that PREPARE (or Parse) put under this name.
    fn statement(&self, name: &str) -> Option<Arc<StatementFacts>>;
    /// The query of the cursor of this name.
    fn cursor(&self, name: &str) -> Option<Arc<StatementFacts>>;
}

impl StatementFacts {
    /// Adds the effects of what the statement's name stands for. A statement without a name is returned as it is.
    /// A name that nothing is known of is a `call` of that name: somebody else's code.
    #[must_use]
    pub fn resolved(&self, known: &impl Prepared) -> Self {
        match &self.role {
            Role::Execute { name, plan_only, own } => {
                let facts = Self {
                    effects: own.clone(),
                    ..self.clone()
                };
                facts.with_body(name, known.statement(name).as_deref(), *plan_only)
            }
            Role::Fetch { name } => match known.cursor(name) {
                Some(cursor) => self.with_body(name, Some(&cursor), false),
                None => self.clone(),
            },
            Role::Plain
            | Role::Begin
            | Role::Commit { .. }
            | Role::Rollback { .. }
            | Role::Savepoint
            | Role::RollbackToSavepoint
            | Role::ReleaseSavepoint
            | Role::Prepare { .. }
            | Role::Deallocate { .. }
            | Role::Declare { .. }
            | Role::Close { .. }
            | Role::CopyIn
            | Role::CopyOut
            | Role::DiscardAll => self.clone(),
        }
    }

    fn with_body(&self, name: &str, body: Option<&Self>, plan_only: bool) -> Self {
        let mut facts = self.clone();
        match body {
            Some(body) => {
                let effects = if plan_only {
                    planned(&body.effects)
                } else {
                    body.effects.clone()
                };
                facts.effects.merge(&effects);
                facts.writes.extend(body.writes.iter().filter(|_| !plan_only));
                facts.has_where &= plan_only || body.has_where;
                facts.changes_session |= body.changes_session;
                facts.tables.extend(body.tables.iter().cloned());
                facts.tables.sort();
                facts.tables.dedup();
            }
            None => {
                facts.effects.add_object(EffectKind::Call, name);
                facts.changes_session = true;
            }
        }
        facts
    }
}

/// What planning a statement does without running it: it reads what the statement names, and it runs the
/// functions that the planner folds or estimates with. Nothing is locked for writing, changed or created.
pub(super) fn planned(effects: &Effects) -> Effects {
    let mut planned = Effects::default();
    planned.add(EffectKind::Read);
    for (kind, objects) in effects.iter() {
        match kind {
            EffectKind::Read | EffectKind::Lock | EffectKind::Write | EffectKind::Ddl => {
                for object in objects {
                    planned.add_object(EffectKind::Read, object.clone());
                }
            }
            EffectKind::Session | EffectKind::Transaction => {}
            EffectKind::Privilege | EffectKind::Call | EffectKind::Admin | EffectKind::Exec | EffectKind::Unknown => {
                planned.add(kind);
                for object in objects {
                    planned.add_object(kind, object.clone());
                }
            }
        }
    }
    planned
}
