//! What the names of PostgreSQL's own catalog stand for: functions, types, operators.

use countersign_infra::domain::effect::EffectKind;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// The effect of a function of `pg_catalog` by its name; none for a name that `pg_catalog` does not have.
pub(super) fn function(name: &str) -> Option<EffectKind> {
    FUNCTIONS.get(name).copied()
}

/// True for a type of `pg_catalog`, also for an array of one (`_int4`).
pub(super) fn is_type(name: &str) -> bool {
    TYPES.contains(name) || name.strip_prefix('_').is_some_and(|element| TYPES.contains(element))
}

pub(super) fn is_operator(name: &str) -> bool {
    OPERATORS.contains(name)
}

static FUNCTIONS: LazyLock<HashMap<&'static str, EffectKind>> = LazyLock::new(|| {
    let mut functions = HashMap::new();
    for (class, names) in lines(include_str!("names/functions.txt")).filter_map(|line| line.split_once(':')) {
        let kind = match class {
            "read" => EffectKind::Read,
            "write" => EffectKind::Write,
            "session" => EffectKind::Session,
            "admin" => EffectKind::Admin,
            _ => EffectKind::Call,
        };
        functions.extend(names.split_whitespace().map(|name| (name, kind)));
    }
    functions
});

static TYPES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    lines(include_str!("names/types.txt"))
        .flat_map(str::split_whitespace)
        .collect()
});

static OPERATORS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    lines(include_str!("names/operators.txt"))
        .flat_map(str::split_whitespace)
        .collect()
});

/// The first lines of a table say what it is and begin with "# ".
fn lines(table: &'static str) -> impl Iterator<Item = &'static str> {
    table
        .lines()
        .filter(|line| !(line.starts_with("# ") && line.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_read_whole() {
        assert_eq!(function("lower"), Some(EffectKind::Read));
        assert_eq!(function("nextval"), Some(EffectKind::Write));
        assert_eq!(function("set_config"), Some(EffectKind::Session));
        assert_eq!(function("pg_terminate_backend"), Some(EffectKind::Admin));
        assert_eq!(function("query_to_xml"), Some(EffectKind::Call));
        assert_eq!(function("wipe"), None);
        for operator in ["#", "=", "!=", "~~*", "->>", "@@"] {
            assert!(is_operator(operator), "{operator}");
        }
        assert!(!is_operator("<~!~>"));
        for name in ["int4", "_text", "char", "pg_class", "xid8"] {
            assert!(is_type(name), "{name}");
        }
        assert!(!is_type("order_status"));
    }
}
