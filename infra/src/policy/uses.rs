//! What a rule looks at: this decides what may be left out of a cache key, and which names a statement that
//! leaves the schema out could mean.

use cedar_policy::Policy;
use serde_json::Value;
use std::collections::BTreeSet;

/// What rules look at in their context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Uses {
    attributes: BTreeSet<String>,
    /// The context is used in some way that is not the reading of one attribute: then all of it counts.
    whole_context: bool,
    /// Every string of the form `schema.name` in a condition.
    qualified_names: BTreeSet<String>,
    /// It asks whether the names of an object are exactly such and such. They hold the name with its schema and
    /// without, so that no such question is ever answered with yes.
    pub compares_names: bool,
}

impl Uses {
    /// Reads what one rule looks at.
    pub fn of(policy: &Policy) -> Result<Self, String> {
        let tree = policy.to_json().map_err(|error| error.to_string())?;
        let mut uses = Self::default();
        // A list of what is still to be seen instead of recursion: conditions may be nested deeply.
        let mut ahead = vec![&tree];
        while let Some(node) = ahead.pop() {
            match node {
                Value::Object(fields) if is_context(node) => uses.whole_context |= !fields.is_empty(),
                Value::Object(fields) => {
                    for (key, value) in fields {
                        uses.field(key, value, &mut ahead);
                    }
                }
                Value::Array(items) => ahead.extend(items),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        Ok(uses)
    }

    pub fn merge(&mut self, other: &Self) {
        self.attributes.extend(other.attributes.iter().cloned());
        self.qualified_names.extend(other.qualified_names.iter().cloned());
        self.whole_context |= other.whole_context;
    }

    pub fn looks_at(&self, attribute: &str) -> bool {
        self.whole_context || self.attributes.contains(attribute)
    }

    /// The names with a schema that a bare `name` could mean.
    pub fn could_mean<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a String> {
        let fits = move |(_, last): (&str, &str)| last == name || last == "*";
        self.qualified_names
            .iter()
            .filter(move |qualified| qualified.rsplit_once('.').is_some_and(fits))
    }

    fn field<'a>(&mut self, key: &str, value: &'a Value, ahead: &mut Vec<&'a Value>) {
        self.compares_names |= match (key, value) {
            ("==" | "!=", Value::Object(sides)) => sides.values().any(is_names),
            ("containsAll", Value::Object(sides)) => sides.get("right").is_some_and(is_names),
            _ => false,
        };
        match (key, value) {
            ("." | "has", Value::Object(access)) if access.get("left").is_some_and(is_context) => {
                match access.get("attr") {
                    Some(Value::String(attribute)) => {
                        self.attributes.insert(attribute.clone());
                    }
                    Some(_) | None => self.whole_context = true,
                }
            }
            ("Value", Value::String(text)) if text.contains('.') => {
                self.qualified_names.insert(text.clone());
            }
            _ => ahead.push(value),
        }
    }
}

/// `context.objects` or `context.tables`.
fn is_names(node: &Value) -> bool {
    let Some(access) = node.get(".") else { return false };
    let attribute = access.get("attr").and_then(Value::as_str);
    access.get("left").is_some_and(is_context) && matches!(attribute, Some("objects" | "tables"))
}

fn is_context(node: &Value) -> bool {
    node.get("Var").and_then(Value::as_str) == Some("context")
}
