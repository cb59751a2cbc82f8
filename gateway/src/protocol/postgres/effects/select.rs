//! SELECT, VALUES, TABLE, and what stands in FROM.

use super::functions::column_name;
use super::walk::{Walk, known_as, relation_name};
use countersign_infra::domain::effect::{EffectKind, WriteKind};
use pg_query::NodeEnum;
use pg_query::protobuf::{
    CommonTableExpr, CteCycleClause, IntoClause, JoinExpr, JsonTable, JsonTableColumn, JsonTablePathSpec,
    LockingClause, Node, RangeFunction, RangeSubselect, RangeTableFunc, RangeTableFuncCol, RangeTableSample, RangeVar,
    SelectStmt,
};
use std::collections::HashSet;

impl Walk {
    pub(super) fn select(&mut self, select: &SelectStmt) {
        let SelectStmt {
            distinct_clause,
            into_clause,
            target_list,
            from_clause,
            where_clause,
            group_clause,
            group_distinct: _,
            having_clause,
            window_clause,
            values_lists,
            sort_clause,
            limit_offset,
            limit_count,
            limit_option: _,
            locking_clause,
            with_clause,
            op: _,
            all: _,
            larg,
            rarg,
        } = select;
        self.with(with_clause.as_ref());
        // A volatile function in the target list runs for the rows that WHERE lets through.
        let outer = self.column_name.take();
        if let [
            Node {
                node: Some(NodeEnum::RangeVar(_)),
            },
        ] = from_clause.as_slice()
        {
            self.column_name = column_name(where_clause.as_deref());
        }
        self.children(target_list);
        self.column_name = outer;
        for list in [
            distinct_clause,
            from_clause,
            group_clause,
            window_clause,
            values_lists,
            sort_clause,
        ] {
            self.children(list);
        }
        for part in [where_clause, having_clause, limit_offset, limit_count] {
            self.child(part.as_deref());
        }
        for arm in [larg, rarg] {
            if let Some(arm) = arm.as_deref() {
                self.deeper(|walk| walk.select(arm));
            }
        }
        if let Some(into) = into_clause.as_deref() {
            self.creates(into);
        }
        self.locking(locking_clause, from_clause);
        self.leave();
    }

    /// A table made and filled by a query.
    pub(super) fn creates(&mut self, into: &IntoClause) {
        if let Some(relation) = &into.rel {
            self.names(EffectKind::Ddl, relation);
            self.names(EffectKind::Write, relation);
        }
    }

    /// FOR UPDATE and its kin write row versions: a lock and a write of every table meant.
    fn locking(&mut self, clauses: &[Node], from: &[Node]) {
        if clauses.is_empty() {
            return;
        }
        let (mut named, mut all) = (HashSet::new(), false);
        for clause in clauses {
            if let Some(NodeEnum::LockingClause(LockingClause {
                locked_rels,
                strength: _,
                wait_policy: _,
            })) = &clause.node
            {
                all |= locked_rels.is_empty();
                named.extend(locked_rels.iter().filter_map(|node| match &node.node {
                    Some(NodeEnum::RangeVar(relation)) => Some(relation.relname.as_str()),
                    _other => None,
                }));
            }
        }
        let mut tables = Vec::new();
        from.iter().for_each(|item| relations(item, &mut tables));
        self.effect(EffectKind::Lock);
        self.effect(EffectKind::Write);
        self.writes.insert(WriteKind::RowLock);
        for table in tables {
            let is_query = table.schemaname.is_empty() && self.is_query(&table.relname);
            if (all || named.contains(known_as(table))) && !is_query {
                self.object(EffectKind::Lock, relation_name(table));
                self.object(EffectKind::Write, relation_name(table));
            }
        }
    }

    pub(super) fn common_table(&mut self, query: &CommonTableExpr) {
        self.child(query.ctequery.as_deref());
        if let Some(CteCycleClause {
            cycle_mark_value,
            cycle_mark_default,
            ..
        }) = query.cycle_clause.as_deref()
        {
            self.child(cycle_mark_value.as_deref());
            self.child(cycle_mark_default.as_deref());
        }
    }

    pub(super) fn join(&mut self, join: &JoinExpr) {
        let JoinExpr {
            jointype: _,
            is_natural: _,
            larg,
            rarg,
            using_clause: _,
            join_using_alias: _,
            quals,
            alias: _,
            rtindex: _,
        } = join;
        self.child(larg.as_deref());
        self.child(rarg.as_deref());
        self.child(quals.as_deref());
    }

    pub(super) fn range_subselect(&mut self, range: &RangeSubselect) {
        let RangeSubselect {
            lateral: _,
            subquery,
            alias: _,
        } = range;
        self.child(subquery.as_deref());
    }

    pub(super) fn range_function(&mut self, range: &RangeFunction) {
        let RangeFunction {
            lateral: _,
            ordinality: _,
            is_rowsfrom: _,
            functions,
            alias: _,
            coldeflist,
        } = range;
        self.children(functions);
        self.children(coldeflist);
    }

    pub(super) fn range_table_func(&mut self, range: &RangeTableFunc) {
        let RangeTableFunc {
            lateral: _,
            docexpr,
            rowexpr,
            namespaces,
            columns,
            alias: _,
            location: _,
        } = range;
        self.child(docexpr.as_deref());
        self.child(rowexpr.as_deref());
        self.children(namespaces);
        self.children(columns);
    }

    pub(super) fn range_table_func_col(&mut self, column: &RangeTableFuncCol) {
        let RangeTableFuncCol {
            colname: _,
            type_name,
            for_ordinality: _,
            is_not_null: _,
            colexpr,
            coldefexpr,
            location: _,
        } = column;
        self.maybe_type(type_name.as_ref());
        self.child(colexpr.as_deref());
        self.child(coldefexpr.as_deref());
    }

    pub(super) fn table_sample(&mut self, sample: &RangeTableSample) {
        let RangeTableSample {
            relation,
            method,
            args,
            repeatable,
            location: _,
        } = sample;
        self.child(relation.as_deref());
        match super::walk::parts(method).as_slice() {
            ["bernoulli" | "system"] | [.., "pg_catalog", "bernoulli" | "system"] => {}
            _ => self.object(EffectKind::Call, super::walk::dotted(method)),
        }
        self.children(args);
        self.child(repeatable.as_deref());
    }

    pub(super) fn json_table(&mut self, table: &JsonTable) {
        let JsonTable {
            context_item,
            pathspec,
            passing,
            columns,
            on_error,
            alias: _,
            lateral: _,
            location: _,
        } = table;
        self.json_value(context_item.as_deref());
        self.json_path(pathspec.as_deref());
        self.children(passing);
        self.children(columns);
        self.json_behavior(on_error.as_deref());
    }

    pub(super) fn json_table_column(&mut self, column: &JsonTableColumn) {
        let JsonTableColumn {
            coltype: _,
            name: _,
            type_name,
            pathspec,
            format: _,
            wrapper: _,
            quotes: _,
            columns,
            on_empty,
            on_error,
            location: _,
        } = column;
        self.maybe_type(type_name.as_ref());
        self.json_path(pathspec.as_deref());
        self.children(columns);
        self.json_behavior(on_empty.as_deref());
        self.json_behavior(on_error.as_deref());
    }

    pub(super) fn json_path(&mut self, path: Option<&JsonTablePathSpec>) {
        if let Some(JsonTablePathSpec {
            string,
            name: _,
            location: _,
            name_location: _,
        }) = path
        {
            self.child(string.as_deref());
        }
    }
}

/// The tables that stand in an item of FROM itself, not in a query below it.
fn relations<'a>(item: &'a Node, tables: &mut Vec<&'a RangeVar>) {
    let mut open = vec![item];
    while let Some(node) = open.pop() {
        match &node.node {
            Some(NodeEnum::RangeVar(relation)) => tables.push(relation),
            Some(NodeEnum::JoinExpr(join)) => open.extend(join.larg.as_deref().into_iter().chain(join.rarg.as_deref())),
            Some(NodeEnum::RangeTableSample(sample)) => open.extend(sample.relation.as_deref()),
            // A lock on a derived table reaches the tables inside it.
            Some(NodeEnum::RangeSubselect(range)) => open.extend(range.subquery.as_deref()),
            Some(NodeEnum::SelectStmt(select)) => open.extend(&select.from_clause),
            _other => {}
        }
    }
}
