//! The walk over the parser's tree: one statement, its effects so far, and the names in scope.

use super::sensitive::{Atom, Sensitive};
use super::{Role, StatementFacts};
use countersign_infra::domain::effect::{EffectKind, Effects, WriteKind};
use pg_query::NodeEnum;
use pg_query::protobuf::{Alias, Node, RangeVar, RawStmt, WithClause};
use std::collections::{BTreeSet, HashMap};

/// Deeper trees are refused. libpg_query hands out none of more than some 12,000 levels.
const DEPTH_MAX: usize = 40_000;
/// A statement may name so many different objects; one more makes it `unknown`.
const OBJECTS_MAX: usize = 10_000;

/// Collects what one statement would do.
pub(super) struct Walk {
    pub(super) effects: Effects,
    pub(super) tables: BTreeSet<String>,
    pub(super) writes: BTreeSet<WriteKind>,
    pub(super) has_where: bool,
    pub(super) role: Role,
    pub(super) changes_session: bool,
    /// The names of the WITH queries in scope, a frame for each WITH clause.
    frames: Vec<Vec<String>>,
    queries: HashMap<String, usize>,
    depth: usize,
    pub(super) too_deep: bool,
    objects: usize,
    pub(super) sensitive: Sensitive,
    pub(super) atom: Option<Atom>,
    /// Set while something is walked a second time, for its places: its effects are counted where it stands.
    pub(super) quiet: bool,
    /// What WHERE name = '...' lets a column called `name` be.
    pub(super) column_name: Option<String>,
}

/// Says what one statement would do, and where its sensitive values stand. None: the tree is too deep.
pub(super) fn facts(statement: &RawStmt) -> Option<(StatementFacts, Sensitive)> {
    let mut walk = Walk::new();
    walk.child(statement.stmt.as_deref());
    let sensitive = std::mem::take(&mut walk.sensitive);
    walk.finish().map(|facts| (facts, sensitive))
}

impl Walk {
    pub(super) fn new() -> Self {
        Self {
            effects: Effects::default(),
            tables: BTreeSet::new(),
            writes: BTreeSet::new(),
            has_where: true,
            role: Role::Plain,
            changes_session: false,
            frames: Vec::new(),
            queries: HashMap::new(),
            depth: 0,
            too_deep: false,
            objects: 0,
            sensitive: Sensitive::default(),
            atom: None,
            quiet: false,
            column_name: None,
        }
    }

    pub(super) fn finish(mut self) -> Option<StatementFacts> {
        if self.too_deep {
            return None;
        }
        if let Role::Execute { name, own, .. } = &mut self.role {
            own.clone_from(&self.effects);
            self.effects.add_object(EffectKind::Unknown, name.clone());
        }
        if self.effects.is_empty() {
            self.effects.add(EffectKind::Read);
        }
        let turns = [
            EffectKind::Session,
            EffectKind::Privilege,
            EffectKind::Call,
            EffectKind::Admin,
            EffectKind::Unknown,
        ];
        let ends_block = matches!(
            self.role,
            Role::Commit { .. } | Role::Rollback { .. } | Role::RollbackToSavepoint
        );
        self.changes_session |= ends_block || turns.into_iter().any(|kind| self.effects.contains(kind));
        Some(StatementFacts {
            effects: self.effects,
            role: self.role,
            writes: self.writes,
            has_where: self.has_where,
            tables: self.tables.into_iter().collect(),
            changes_session: self.changes_session,
        })
    }

    /// Analyses a statement that is kept or planned, not run now, by a walk of its own with the same names in scope.
    pub(super) fn apart(&mut self, node: Option<&Node>) -> Option<StatementFacts> {
        let mut inner = Self::new();
        inner.depth = self.depth;
        inner.queries.clone_from(&self.queries);
        inner.child(node);
        self.too_deep |= inner.too_deep;
        self.sensitive.merge(std::mem::take(&mut inner.sensitive));
        inner.finish()
    }

    pub(super) fn child(&mut self, node: Option<&Node>) {
        if let Some(node) = node.and_then(|node| node.node.as_ref()) {
            self.deeper(|walk| walk.expression(node));
        }
    }

    pub(super) fn children(&mut self, nodes: &[Node]) {
        for node in nodes {
            self.child(Some(node));
        }
    }

    pub(super) fn deeper(&mut self, visit: impl FnOnce(&mut Self)) {
        if self.depth >= DEPTH_MAX {
            self.too_deep = true;
            return;
        }
        self.depth += 1;
        visit(self);
        self.depth -= 1;
    }

    pub(super) fn effect(&mut self, kind: EffectKind) {
        if self.quiet {
            return;
        }
        self.effects.add(kind);
    }

    pub(super) fn object(&mut self, kind: EffectKind, object: impl Into<String>) {
        if self.quiet {
            return;
        }
        self.objects += 1;
        if self.objects > OBJECTS_MAX {
            self.effects.add(kind);
            self.effects.add(EffectKind::Unknown);
            return;
        }
        self.effects.add_object(kind, object);
    }

    /// A table that is read, unless the name is that of a WITH query.
    pub(super) fn reads(&mut self, relation: &RangeVar) {
        if relation.schemaname.is_empty() && self.is_query(&relation.relname) {
            return;
        }
        self.names(EffectKind::Read, relation);
    }

    /// A table that the statement acts on: never a WITH query.
    pub(super) fn names(&mut self, kind: EffectKind, relation: &RangeVar) {
        if self.quiet {
            return;
        }
        let name = relation_name(relation);
        if self.tables.len() < OBJECTS_MAX {
            self.tables.insert(name.clone());
        }
        self.object(kind, name);
    }

    pub(super) fn is_query(&self, name: &str) -> bool {
        self.queries.contains_key(name)
    }

    /// Walks the WITH queries and keeps their names in scope until `leave`.
    pub(super) fn with(&mut self, with: Option<&WithClause>) {
        self.frames.push(Vec::new());
        let Some(WithClause {
            ctes,
            recursive,
            location: _,
        }) = with
        else {
            return;
        };
        let names = ctes.iter().map(|cte| match &cte.node {
            Some(NodeEnum::CommonTableExpr(query)) => query.ctename.clone(),
            _other => String::new(),
        });
        let mut names = names.collect::<Vec<_>>();
        if *recursive {
            self.in_scope(names.drain(..));
        }
        for (index, cte) in ctes.iter().enumerate() {
            self.child(Some(cte));
            self.in_scope(names.get(index).cloned());
        }
    }

    fn in_scope(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            *self.queries.entry(name.clone()).or_default() += 1;
            if let Some(frame) = self.frames.last_mut() {
                frame.push(name);
            }
        }
    }

    pub(super) fn leave(&mut self) {
        for name in self.frames.pop().unwrap_or_default() {
            if let Some(count) = self.queries.get_mut(&name) {
                *count -= 1;
                if *count == 0 {
                    self.queries.remove(&name);
                }
            }
        }
    }
}

/// `table` or `schema.table`, as written.
pub(super) fn relation_name(relation: &RangeVar) -> String {
    qualified(&relation.schemaname, &relation.relname)
}

/// The name that other clauses know a relation by.
pub(super) fn known_as(relation: &RangeVar) -> &str {
    let alias = relation
        .alias
        .as_ref()
        .map(|Alias { aliasname, .. }| aliasname.as_str());
    alias.unwrap_or(&relation.relname)
}

pub(super) fn qualified(schema: &str, name: &str) -> String {
    match schema.is_empty() {
        true => quoted(name),
        false => format!("{}.{}", quoted(schema), quoted(name)),
    }
}

/// A part with a dot or a quote in it stands in quotes, so that `"a.b"` is not taken for `b` in schema `a`.
fn quoted(part: &str) -> String {
    match part.contains(['.', '"']) {
        true => format!("\"{}\"", part.replace('"', "\"\"")),
        false => part.to_owned(),
    }
}

/// The parts of a dotted name.
pub(super) fn parts(list: &[Node]) -> Vec<&str> {
    list.iter().filter_map(string).collect()
}

/// The text of a name node; none for any other node.
pub(super) fn string(node: &Node) -> Option<&str> {
    if let Some(NodeEnum::String(text)) = &node.node {
        Some(&text.sval)
    } else {
        None
    }
}

/// A dotted name as an object: its last two parts.
pub(super) fn dotted(list: &[Node]) -> String {
    match parts(list).as_slice() {
        [] => String::new(),
        [name] => qualified("", name),
        [.., schema, name] => qualified(schema, name),
    }
}
