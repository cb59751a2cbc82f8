//! Where a text holds values that a display of it must not show: found by the parser, never by a pattern.

use super::walk::{Walk, parts};
use pg_query::NodeEnum;
use pg_query::protobuf::{AConst, FuncCall, InsertStmt, Node, ResTarget, SelectStmt};
use std::collections::BTreeSet;

/// More values than this are not kept one by one: then all of them are masked.
const PLACES_MAX: usize = 20_000;

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A literal that begins at this byte of the text.
    At(u32),
    /// The bound value of this number, from 1.
    Bound(u32),
}

/// Which values a text compares with, or assigns to, which columns; and which are secrets whatever the column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sensitive {
    /// Arguments that carry keys or connection strings.
    pub(crate) secrets: Vec<Place>,
    groups: Vec<Group>,
    /// Too many to be kept: every literal counts as sensitive.
    pub(crate) all: bool,
    places: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    columns: Vec<Column>,
    places: Vec<Place>,
}

/// A column by its name, or every column of a table (INSERT without a column list).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Column {
    Named(String),
    AllOf(String),
}

impl Sensitive {
    pub(super) fn everything() -> Self {
        Self {
            all: true,
            ..Self::default()
        }
    }

    /// The places of values that belong to a masked column (`column` or `table.column`; a table's alias does not help to
    /// get round it, so only the column's name is compared), and the secrets.
    pub fn places(&self, masked_columns: &[String]) -> BTreeSet<Place> {
        let masked = |group: &&Group| group.columns.iter().any(|column| column.is_masked(masked_columns));
        let groups = self
            .groups
            .iter()
            .filter(masked)
            .flat_map(|group| group.places.iter().copied());
        groups.chain(self.secrets.iter().copied()).collect()
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.all |= other.all;
        self.secrets.extend(other.secrets);
        self.places += other.places;
        self.all |= self.places > PLACES_MAX;
        match self.all {
            true => self.groups.clear(),
            false => self.groups.extend(other.groups),
        }
    }

    pub(super) fn weight(&self) -> usize {
        let groups = self
            .groups
            .iter()
            .map(|group| 64 * group.columns.len() + 8 * group.places.len());
        groups.sum::<usize>() + 8 * self.secrets.len()
    }

    fn keep(&mut self, group: Group) {
        self.places += group.places.len() + group.columns.len();
        if self.places > PLACES_MAX {
            self.all = true;
            self.groups.clear();
        } else if !group.columns.is_empty() && !group.places.is_empty() {
            self.groups.push(group);
        }
    }
}

impl Column {
    fn is_masked(&self, masked: &[String]) -> bool {
        masked.iter().any(|entry| {
            let mut names = entry.rsplit('.');
            let column = names.next().unwrap_or_default();
            match self {
                Self::Named(name) => name.eq_ignore_ascii_case(column),
                Self::AllOf(table) => names.next().is_none_or(|masked| masked.eq_ignore_ascii_case(table)),
            }
        })
    }
}

/// The columns and values of one comparison or assignment while it is walked.
#[derive(Default)]
pub(super) struct Atom {
    columns: Vec<Column>,
    places: Vec<Place>,
}

impl Walk {
    /// Walks one comparison, assignment or call: the values in it belong to the columns in it.
    pub(super) fn atom(&mut self, column: Option<&str>, visit: impl FnOnce(&mut Self)) {
        self.atom_of(column.map(|name| Column::Named(name.to_owned())), visit);
    }

    fn atom_of(&mut self, column: Option<Column>, visit: impl FnOnce(&mut Self)) {
        let outer = self.atom.replace(Atom {
            columns: column.into_iter().collect(),
            places: Vec::new(),
        });
        visit(self);
        let atom = self.atom.take().unwrap_or_default();
        self.sensitive.keep(Group {
            columns: atom.columns,
            places: atom.places,
        });
        self.atom = outer;
    }

    /// Opens an atom for an expression that stands in none.
    pub(super) fn expression(&mut self, node: &NodeEnum) {
        let opens = matches!(
            node,
            NodeEnum::AExpr(_)
                | NodeEnum::CaseExpr(_)
                | NodeEnum::CoalesceExpr(_)
                | NodeEnum::MinMaxExpr(_)
                | NodeEnum::FuncCall(_)
                | NodeEnum::TypeCast(_)
                | NodeEnum::RowExpr(_)
                | NodeEnum::SubLink(_)
                | NodeEnum::CollateClause(_)
                | NodeEnum::AIndirection(_)
        );
        match self.atom.is_none() && opens {
            true => self.atom(None, |walk| walk.node(node)),
            false => self.node(node),
        }
    }

    pub(super) fn column_ref(&mut self, fields: &[Node]) {
        if let (Some(atom), Some(name)) = (&mut self.atom, parts(fields).last())
            && atom.columns.len() < PLACES_MAX
        {
            atom.columns.push(Column::Named((*name).to_owned()));
        }
    }

    pub(super) fn constant(&mut self, constant: &AConst) {
        self.place(u32::try_from(constant.location).ok().map(Place::At));
    }

    pub(super) fn parameter(&mut self, number: i32) {
        self.place(u32::try_from(number).ok().map(Place::Bound));
    }

    fn place(&mut self, place: Option<Place>) {
        match (&mut self.atom, place) {
            (Some(atom), Some(place)) if atom.places.len() <= PLACES_MAX => atom.places.push(place),
            // The grammar makes constants of its own, without a place: nobody wrote them.
            (Some(_) | None, Some(_) | None) => {}
        }
    }

    /// `SET column = value`, also in ON CONFLICT and MERGE.
    pub(super) fn assignments(&mut self, targets: &[Node]) {
        for target in targets {
            match &target.node {
                Some(NodeEnum::ResTarget(target)) => self.assignment(target),
                _other => self.child(Some(target)),
            }
        }
    }

    fn assignment(&mut self, target: &ResTarget) {
        self.atom(Some(&target.name), |walk| walk.deeper(|walk| walk.res_target(target)));
    }

    /// The values that an INSERT gives to its columns, by their positions.
    pub(super) fn inserted(&mut self, insert: &InsertStmt) {
        let table = insert
            .relation
            .as_ref()
            .map_or("", |relation| relation.relname.as_str());
        let mut arms = Vec::new();
        if let Some(Some(NodeEnum::SelectStmt(select))) = insert.select_stmt.as_deref().map(|node| &node.node) {
            arms.push(&**select);
        }
        while let Some(select) = arms.pop() {
            let SelectStmt {
                values_lists,
                target_list,
                larg,
                rarg,
                ..
            } = select;
            arms.extend(larg.as_deref().into_iter().chain(rarg.as_deref()));
            for row in values_lists {
                if let Some(NodeEnum::List(row)) = &row.node {
                    self.inserted_row(table, &insert.cols, &row.items);
                }
            }
            self.inserted_row(table, &insert.cols, target_list);
        }
    }

    pub(super) fn inserted_row(&mut self, table: &str, columns: &[Node], values: &[Node]) {
        if self.quiet {
            return;
        }
        for (position, value) in values.iter().enumerate() {
            let column = match columns.get(position).and_then(|column| column.node.as_ref()) {
                Some(NodeEnum::ResTarget(column)) => Column::Named(column.name.clone()),
                _other => Column::AllOf(table.to_owned()),
            };
            if let Some(place) = plain(value) {
                self.sensitive.keep(Group {
                    columns: vec![column],
                    places: vec![place],
                });
            } else if is_computed(value) {
                self.quietly(|walk| walk.atom_of(Some(column), |walk| walk.child(Some(value))));
            }
        }
    }

    /// Walks again for the places only: what it does is counted where it stands.
    fn quietly(&mut self, visit: impl FnOnce(&mut Self)) {
        self.quiet = true;
        visit(self);
        self.quiet = false;
    }

    /// Arguments that carry keys, passwords or connection strings.
    pub(super) fn secret_arguments(&mut self, call: &FuncCall) {
        let name = parts(&call.funcname).pop().unwrap_or_default();
        let keyed = ["crypt", "encrypt", "encrypt_iv", "decrypt", "decrypt_iv", "hmac"].contains(&name);
        let keyed = keyed || name.starts_with("pgp_sym_") || name.starts_with("pgp_pub_");
        let connects = name.starts_with("dblink");
        let settings = name == "set_config"
            && call
                .args
                .first()
                .and_then(super::functions::literal)
                .is_some_and(is_secret);
        if !(keyed || connects || settings) {
            return;
        }
        let first = usize::from(settings);
        for argument in call.args.iter().skip(first) {
            let text = super::functions::literal(argument);
            if !connects || text.is_some_and(is_connection) {
                self.secret(argument);
            }
        }
    }

    pub(super) fn secret(&mut self, value: &Node) {
        if let Some(place) = plain(value) {
            self.sensitive.secrets.push(place);
        }
    }
}

/// A setting or an option by whose name its value is a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let signs = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "conninfo",
        "api_key",
        "apikey",
        "private_key",
    ];
    signs.iter().any(|sign| name.contains(sign))
}

fn is_connection(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let words = ["password", "host", "hostaddr", "dbname", "user", "service"];
    text.contains("://") || (text.contains('=') && words.iter().any(|word| text.contains(word)))
}

/// The place of a literal or bound value, also below casts.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "no other of the parser's nodes is a plain value"
)]
fn plain(value: &Node) -> Option<Place> {
    match value.node.as_ref()? {
        // NULL is no value.
        NodeEnum::AConst(AConst { val: None, .. }) => None,
        NodeEnum::AConst(AConst { location, .. }) => u32::try_from(*location).ok().map(Place::At),
        NodeEnum::ParamRef(parameter) => u32::try_from(parameter.number).ok().map(Place::Bound),
        NodeEnum::TypeCast(cast) => plain(cast.arg.as_deref()?),
        NodeEnum::ResTarget(target) => plain(target.val.as_deref()?),
        NodeEnum::NamedArgExpr(named) => plain(named.arg.as_deref()?),
        _other => None,
    }
}

/// Neither NULL nor a bare column nor DEFAULT: values may stand in it.
fn is_computed(value: &Node) -> bool {
    !matches!(
        &value.node,
        None | Some(NodeEnum::AConst(_) | NodeEnum::ColumnRef(_) | NodeEnum::SetToDefault(_) | NodeEnum::ParamRef(_))
    )
}
