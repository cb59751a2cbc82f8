//! Function calls, judged by name.

use super::catalog;
use super::walk::{Walk, dotted, parts};
use countersign_infra::domain::effect::{EffectKind, WriteKind};
use pg_query::NodeEnum;
use pg_query::protobuf::{AExprKind, FuncCall, Node, WindowDef, a_const::Val};

impl Walk {
    pub(super) fn func_call(&mut self, call: &FuncCall) {
        let FuncCall {
            funcname,
            args,
            agg_order,
            agg_filter,
            over,
            agg_within_group: _,
            agg_star: _,
            agg_distinct: _,
            func_variadic: _,
            funcformat: _,
            location: _,
        } = call;
        self.function(funcname, args);
        self.secret_arguments(call);
        self.children(args);
        self.children(agg_order);
        self.child(agg_filter.as_deref());
        if let Some(over) = over.as_deref() {
            self.window(over);
        }
    }

    /// A call by name. A name without a schema is taken for the one of `pg_catalog` where that has one.
    pub(super) fn function(&mut self, name: &[Node], args: &[Node]) {
        let kind = match parts(name).as_slice() {
            ["set_config"] | [.., "pg_catalog", "set_config"] => return self.set_config(args),
            // With three arguments it replaces words and runs nothing.
            ["ts_rewrite"] | [.., "pg_catalog", "ts_rewrite"] if args.len() == 3 => EffectKind::Read,
            [function] | [.., "pg_catalog", function] => match catalog::function(function) {
                Some(kind) => kind,
                None if args.len() == 1 && catalog::is_type(function) => EffectKind::Read,
                None => EffectKind::Call,
            },
            // JDBC and ODBC list keys with these.
            [.., "information_schema", function] if function.starts_with("_pg_") => EffectKind::Read,
            _ => EffectKind::Call,
        };
        if let Some(relation) = exported(name, args) {
            self.about(&[EffectKind::Read], relation);
        }
        if kind == EffectKind::Write {
            let is_next = matches!(parts(name).as_slice(), ["nextval"] | [.., "pg_catalog", "nextval"]);
            self.writes.insert(if is_next {
                WriteKind::NextValue
            } else {
                WriteKind::Other
            });
        }
        match kind {
            EffectKind::Read => {}
            EffectKind::Write if is_sequence_call(name) => {
                let sequence = args
                    .first()
                    .and_then(literal)
                    .map_or_else(|| dotted(name), str::to_owned);
                self.object(EffectKind::Write, sequence);
            }
            EffectKind::Session
            | EffectKind::Transaction
            | EffectKind::Lock
            | EffectKind::Write
            | EffectKind::Ddl
            | EffectKind::Privilege
            | EffectKind::Call
            | EffectKind::Admin
            | EffectKind::Exec
            | EffectKind::Unknown => self.object(kind, dotted(name)),
        }
    }

    /// `set_config('role', ...)` is SET ROLE; so may be a name that is known only when it runs.
    fn set_config(&mut self, args: &[Node]) {
        let named = args.iter().find_map(|arg| match &arg.node {
            Some(NodeEnum::NamedArgExpr(named)) if named.name == "setting_name" => Some(named.arg.as_deref()),
            _other => None,
        });
        let setting = named.unwrap_or(args.first());
        let known = self.column_name.clone();
        let by_column = setting.filter(|setting| is_column_name(setting)).and(known);
        match setting.and_then(literal).map(str::to_owned).or(by_column) {
            Some(setting) => self.setting(&setting),
            None => {
                self.object(EffectKind::Session, "set_config");
                self.object(EffectKind::Privilege, "set_config");
            }
        }
    }

    /// A change of a setting of the session.
    pub(super) fn setting(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        if matches!(name.as_str(), "role" | "session_authorization" | "is_superuser") {
            self.object(EffectKind::Privilege, name.clone());
        }
        self.object(EffectKind::Session, name);
    }

    pub(super) fn window(&mut self, window: &WindowDef) {
        let WindowDef {
            name: _,
            refname: _,
            partition_clause,
            order_clause,
            frame_options: _,
            start_offset,
            end_offset,
            location: _,
        } = window;
        self.children(partition_clause);
        self.children(order_clause);
        self.child(start_offset.as_deref());
        self.child(end_offset.as_deref());
    }
}

fn is_column_name(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::ColumnRef(column)) => column.fields.len() == 1 && parts(&column.fields) == ["name"],
        _other => false,
    }
}

/// The literal of `name = '...'`, alone in a WHERE: pg_dump picks the setting that it changes so.
pub(super) fn column_name(condition: Option<&Node>) -> Option<String> {
    let Some(NodeEnum::AExpr(expression)) = &condition?.node else {
        return None;
    };
    let equals = expression.kind() == AExprKind::AexprOp && parts(&expression.name) == ["="];
    let left = expression.lexpr.as_deref().is_some_and(is_column_name);
    let text = expression.rexpr.as_deref().and_then(literal);
    text.filter(|_| equals && left).map(str::to_owned)
}

/// The relation that `table_to_xml` and its kin read, by the text that names it.
fn exported(name: &[Node], args: &[Node]) -> Option<String> {
    let function = parts(name).pop()?;
    let whole = ["table_to_xml", "schema_to_xml", "database_to_xml"]
        .iter()
        .any(|family| function.starts_with(family));
    whole.then(|| args.first().and_then(literal).unwrap_or_default().to_owned())
}

fn is_sequence_call(name: &[Node]) -> bool {
    matches!(parts(name).last(), Some(&("nextval" | "setval")))
}

/// The text of a string literal, also below a cast to a built-in type.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "no other of the parser's nodes is a literal"
)]
pub(super) fn literal(node: &Node) -> Option<&str> {
    match node.node.as_ref()? {
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            Val::Sval(text) => Some(&text.sval),
            Val::Ival(_) | Val::Fval(_) | Val::Boolval(_) | Val::Bsval(_) => None,
        },
        NodeEnum::TypeCast(cast) => literal(cast.arg.as_deref()?),
        _other => None,
    }
}
