//! What an operation would do.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The kinds of effect, from harmless to unknown. The names are the actions that policies speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    Read,
    Session,
    Transaction,
    Lock,
    Write,
    Ddl,
    Privilege,
    Call,
    Admin,
    Exec,
    Unknown,
}

/// What a write is. Policies do not tell them apart, grants do: none stands for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteKind {
    Insert,
    /// INSERT ... ON CONFLICT DO UPDATE.
    Upsert,
    Update,
    Delete,
    /// What a MERGE does.
    MergeInsert,
    MergeUpdate,
    MergeDelete,
    Truncate,
    /// Rows are locked for a change.
    RowLock,
    /// `nextval`: it changes no row.
    NextValue,
    /// Any other: `setval`, large objects, TRUNCATE ... CASCADE, what another session prepared.
    Other,
}

impl EffectKind {
    pub const ALL: [Self; 11] = [
        Self::Read,
        Self::Session,
        Self::Transaction,
        Self::Lock,
        Self::Write,
        Self::Ddl,
        Self::Privilege,
        Self::Call,
        Self::Admin,
        Self::Exec,
        Self::Unknown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Lock => "lock",
            Self::Write => "write",
            Self::Ddl => "ddl",
            Self::Privilege => "privilege",
            Self::Call => "call",
            Self::Admin => "admin",
            Self::Exec => "exec",
            Self::Unknown => "unknown",
        }
    }
}

impl EffectKind {
    /// What somebody wants to do, without objects and before them.
    fn deed(self) -> (&'static str, &'static str) {
        match self {
            Self::Read => ("read", "read"),
            Self::Session => ("change the session", "change the session's"),
            Self::Transaction => ("control a transaction", "control the transaction"),
            Self::Lock => ("lock", "lock"),
            Self::Write => ("write", "write"),
            Self::Ddl => ("change structures", "change the structure of"),
            Self::Privilege => ("change rights", "change the rights of"),
            Self::Call => ("call a function", "call"),
            Self::Admin => ("administer the server", "administer the server:"),
            Self::Exec => ("run a program", "run"),
            Self::Unknown => ("do something that is not known", "do something that is not known with"),
        }
    }
}

impl fmt::Display for EffectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The effects of an operation: each kind with the objects it names (`orders`, `shop.orders`, `pg_sleep`).
/// A kind may name no object (`VACUUM`, `BEGIN`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Effects(BTreeMap<EffectKind, BTreeSet<String>>);

impl Effects {
    pub fn add(&mut self, kind: EffectKind) {
        self.0.entry(kind).or_default();
    }

    pub fn add_object(&mut self, kind: EffectKind, object: impl Into<String>) {
        self.0.entry(kind).or_default().insert(object.into());
    }

    pub fn merge(&mut self, other: &Self) {
        for (kind, objects) in &other.0 {
            self.0.entry(*kind).or_default().extend(objects.iter().cloned());
        }
    }

    pub fn contains(&self, kind: EffectKind) -> bool {
        self.0.contains_key(&kind)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (EffectKind, &BTreeSet<String>)> {
        self.0.iter().map(|(kind, objects)| (*kind, objects))
    }

    pub fn kinds(&self) -> impl Iterator<Item = EffectKind> + '_ {
        self.0.keys().copied()
    }

    /// Says the effects in words: `write orders; call pg_sleep`.
    pub fn in_words(&self) -> String {
        let words = self.0.iter().map(|(kind, objects)| match objects.len() {
            0 => kind.to_string(),
            _ => format!(
                "{kind} {}",
                objects.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
            ),
        });
        words.collect::<Vec<_>>().join("; ")
    }

    /// Says what somebody wants to do: `write orders; change the structure of shop.orders`.
    pub fn as_deed(&self) -> String {
        let deeds = self.0.iter().map(|(kind, objects)| {
            let (alone, with_objects) = kind.deed();
            match objects.len() {
                0 => alone.to_owned(),
                _ => {
                    let objects = objects.iter().map(String::as_str).collect::<Vec<_>>();
                    format!("{with_objects} {}", objects.join(", "))
                }
            }
        });
        deeds.collect::<Vec<_>>().join("; ")
    }
}
