//! INSERT, UPDATE, DELETE, MERGE, TRUNCATE and COPY.

use super::walk::Walk;
use super::{Role, walk};
use countersign_infra::domain::effect::{EffectKind, WriteKind};
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AExpr, CmdType, CopyStmt, DeleteStmt, DropBehavior, IndexElem, InferClause, InsertStmt, MergeMatchKind, MergeStmt,
    MergeWhenClause, Node, OnConflictAction, OnConflictClause, RangeVar, ReturningClause, TruncateStmt, UpdateStmt,
};

impl Walk {
    pub(super) fn insert(&mut self, insert: &InsertStmt) {
        let InsertStmt {
            relation,
            cols,
            select_stmt,
            on_conflict_clause,
            returning_clause,
            with_clause,
            r#override: _,
        } = insert;
        self.with(with_clause.as_ref());
        self.changes(Some(WriteKind::Insert), relation.as_ref(), returning_clause.as_ref());
        self.inserted(insert);
        self.children(cols);
        self.child(select_stmt.as_deref());
        if let Some(conflict) = on_conflict_clause.as_deref() {
            self.on_conflict(conflict);
        }
        self.leave();
    }

    fn on_conflict(&mut self, conflict: &OnConflictClause) {
        let OnConflictClause {
            action,
            infer,
            target_list,
            where_clause,
            location: _,
        } = conflict;
        // Whatever is not DO NOTHING may change rows that are there.
        if *action != OnConflictAction::OnconflictNothing as i32 {
            self.writes.insert(WriteKind::Upsert);
        }
        if let Some(InferClause {
            index_elems,
            where_clause,
            conname: _,
            location: _,
        }) = infer.as_deref()
        {
            self.children(index_elems);
            self.child(where_clause.as_deref());
        }
        self.assignments(target_list);
        self.child(where_clause.as_deref());
    }

    pub(super) fn update(&mut self, update: &UpdateStmt) {
        let UpdateStmt {
            relation,
            target_list,
            where_clause,
            from_clause,
            returning_clause,
            with_clause,
        } = update;
        self.with(with_clause.as_ref());
        self.changes(Some(WriteKind::Update), relation.as_ref(), returning_clause.as_ref());
        self.assignments(target_list);
        self.children(from_clause);
        self.restricted(where_clause.as_deref());
        self.leave();
    }

    pub(super) fn delete(&mut self, delete: &DeleteStmt) {
        let DeleteStmt {
            relation,
            using_clause,
            where_clause,
            returning_clause,
            with_clause,
        } = delete;
        self.with(with_clause.as_ref());
        self.changes(Some(WriteKind::Delete), relation.as_ref(), returning_clause.as_ref());
        self.children(using_clause);
        self.restricted(where_clause.as_deref());
        self.leave();
    }

    pub(super) fn merge(&mut self, merge: &MergeStmt) {
        let MergeStmt {
            relation,
            source_relation,
            join_condition,
            merge_when_clauses,
            returning_clause,
            with_clause,
        } = merge;
        self.with(with_clause.as_ref());
        self.changes(None, relation.as_ref(), returning_clause.as_ref());
        self.child(source_relation.as_deref());
        self.child(join_condition.as_deref());
        let joined = join_condition.as_deref().is_some_and(restricts);
        for clause in merge_when_clauses {
            if let Some(NodeEnum::MergeWhenClause(when)) = &clause.node {
                self.has_where &= has_where(when, joined);
            }
        }
        self.children(merge_when_clauses);
        self.leave();
    }

    pub(super) fn merge_when(&mut self, when: &MergeWhenClause) {
        let MergeWhenClause {
            match_kind: _,
            command_type,
            r#override: _,
            condition,
            target_list,
            values,
        } = when;
        self.writes.extend(match CmdType::try_from(*command_type) {
            Ok(CmdType::CmdInsert) => Some(WriteKind::MergeInsert),
            Ok(CmdType::CmdUpdate) => Some(WriteKind::MergeUpdate),
            Ok(CmdType::CmdDelete) => Some(WriteKind::MergeDelete),
            // DO NOTHING.
            Ok(CmdType::CmdNothing) => None,
            Ok(
                CmdType::Undefined | CmdType::CmdUnknown | CmdType::CmdSelect | CmdType::CmdMerge | CmdType::CmdUtility,
            )
            | Err(_) => Some(WriteKind::Other),
        });
        self.child(condition.as_deref());
        self.inserted_row("", target_list, values);
        self.assignments(target_list);
        self.children(values);
    }

    /// The table that is changed. RETURNING shows its rows, so it reads as well.
    fn changes(&mut self, how: Option<WriteKind>, relation: Option<&RangeVar>, returning: Option<&ReturningClause>) {
        self.effect(EffectKind::Write);
        self.writes.extend(how);
        if let Some(relation) = relation {
            self.names(EffectKind::Write, relation);
        }
        if let Some(ReturningClause { options, exprs }) = returning {
            self.children(options);
            self.children(exprs);
            if let Some(relation) = relation {
                self.names(EffectKind::Read, relation);
            }
        }
    }

    fn restricted(&mut self, condition: Option<&Node>) {
        self.has_where &= condition.is_some_and(restricts);
        self.child(condition);
    }

    pub(super) fn index_elem(&mut self, elem: &IndexElem) {
        self.child(elem.expr.as_deref());
        if let [_, ..] = walk::parts(&elem.opclass).as_slice() {
            self.opclass(&elem.opclass);
        }
        self.children(&elem.opclassopts);
    }

    pub(super) fn opclass(&mut self, name: &[Node]) {
        if let [schema, _] = walk::parts(name).as_slice()
            && *schema != "pg_catalog"
        {
            self.object(EffectKind::Call, walk::dotted(name));
        }
    }

    pub(super) fn truncate(&mut self, truncate: &TruncateStmt) {
        self.has_where = false;
        self.writes.insert(match DropBehavior::try_from(truncate.behavior) {
            Ok(DropBehavior::DropRestrict) => WriteKind::Truncate,
            // Tables that it does not name.
            Ok(DropBehavior::DropCascade | DropBehavior::Undefined) | Err(_) => WriteKind::Other,
        });
        for relation in &truncate.relations {
            self.named(EffectKind::Write, relation);
        }
    }

    pub(super) fn named(&mut self, kind: EffectKind, node: &Node) {
        self.effect(kind);
        if let Some(NodeEnum::RangeVar(relation)) = &node.node {
            self.names(kind, relation);
        }
    }

    pub(super) fn copy(&mut self, copy: &CopyStmt) {
        let CopyStmt {
            relation,
            query,
            attlist: _,
            is_from,
            is_program,
            filename,
            options,
            where_clause,
        } = copy;
        self.child(query.as_deref());
        self.child(where_clause.as_deref());
        self.children(options);
        if *is_from {
            self.writes.insert(WriteKind::Insert);
        }
        if let Some(relation) = relation {
            self.names(if *is_from { EffectKind::Write } else { EffectKind::Read }, relation);
        }
        match (is_program, filename.is_empty(), is_from) {
            (true, _, _) => self.object(EffectKind::Admin, "program"),
            (false, false, _) => self.object(EffectKind::Admin, filename.chars().take(200).collect::<String>()),
            (false, true, true) => self.role = Role::CopyIn,
            (false, true, false) => self.role = Role::CopyOut,
        }
    }
}

/// INSERT of what is not matched needs no WHERE; what the target has and the source has not is every other row.
fn has_where(when: &MergeWhenClause, joined: bool) -> bool {
    let changes = matches!(
        CmdType::try_from(when.command_type),
        Ok(CmdType::CmdUpdate | CmdType::CmdDelete)
    );
    let by_source = MergeMatchKind::try_from(when.match_kind) == Ok(MergeMatchKind::MergeWhenNotMatchedBySource);
    !changes || when.condition.as_deref().is_some_and(restricts) || (joined && !by_source)
}

/// Whether a condition can leave a row out: it looks at a column, and is not plainly true (`WHERE true OR ..`,
/// `WHERE id = id`). What takes more than the text to see through counts as a condition.
pub(super) fn restricts(condition: &Node) -> bool {
    use pg_query::protobuf::BoolExprType;
    match &condition.node {
        Some(NodeEnum::BoolExpr(parts)) => match BoolExprType::try_from(parts.boolop) {
            Ok(BoolExprType::OrExpr) => parts.args.iter().all(restricts),
            Ok(BoolExprType::AndExpr | BoolExprType::NotExpr) => parts.args.iter().any(restricts),
            Ok(BoolExprType::Undefined) | Err(_) => false,
        },
        Some(NodeEnum::AExpr(comparison)) => !is_same_column(comparison) && names_a_column(condition),
        Some(NodeEnum::CurrentOfExpr(_)) => true,
        _other => names_a_column(condition),
    }
}

fn is_same_column(comparison: &AExpr) -> bool {
    let fields = |side: &Option<Box<Node>>| match side.as_ref().and_then(|node| node.node.as_ref()) {
        Some(NodeEnum::ColumnRef(column)) => Some(column.fields.clone()),
        _other => None,
    };
    fields(&comparison.lexpr).is_some_and(|left| Some(left) == fields(&comparison.rexpr))
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "any other of the parser's nodes counts as a column"
)]
fn names_a_column(condition: &Node) -> bool {
    let Some(node) = &condition.node else { return false };
    // `nodes` walks without recursion, but not into every node: what it does not know counts as a column.
    match node {
        NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::SqlvalueFunction(_) => false,
        NodeEnum::TypeCast(cast) => cast.arg.as_deref().is_some_and(names_a_column),
        NodeEnum::CollateClause(collate) => collate.arg.as_deref().is_some_and(names_a_column),
        NodeEnum::NullTest(test) => test.arg.as_deref().is_some_and(names_a_column),
        NodeEnum::BooleanTest(test) => test.arg.as_deref().is_some_and(names_a_column),
        NodeEnum::AExpr(operation) => {
            let sides = operation.lexpr.as_deref().into_iter().chain(operation.rexpr.as_deref());
            sides.into_iter().any(names_a_column)
        }
        NodeEnum::BoolExpr(parts) => parts.args.iter().any(names_a_column),
        NodeEnum::FuncCall(call) => call.args.iter().any(names_a_column),
        NodeEnum::CoalesceExpr(parts) => parts.args.iter().any(names_a_column),
        NodeEnum::MinMaxExpr(parts) => parts.args.iter().any(names_a_column),
        NodeEnum::RowExpr(parts) => parts.args.iter().any(names_a_column),
        NodeEnum::AArrayExpr(parts) => parts.elements.iter().any(names_a_column),
        NodeEnum::List(list) => list.items.iter().any(names_a_column),
        _other => true,
    }
}
