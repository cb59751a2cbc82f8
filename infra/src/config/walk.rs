//! Holds a document against the table of keys: every unknown, missing and wrongly typed key is found at once, each
//! with its line.

use super::load::Problem;
use super::reference::Reference;
use super::schema::{Field, Kind, ROOT};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use toml_edit::{Document, Item, TableLike, Value};
use url::Url;

/// How alike two keys must be for one to be proposed for the other; 1 is equal.
pub(super) const LIKENESS_MIN: f64 = 0.6;

/// On which line each key stands, by its path: `postgres.listen`, `target.0.name`.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<String, usize>);

impl Places {
    /// The line of a key, or of the table where it would stand.
    pub(super) fn line(&self, path: &str) -> Option<usize> {
        if let Some(line) = self.0.get(path) {
            return Some(*line);
        }
        path.rsplit_once('.').and_then(|(parent, _)| self.line(parent))
    }
}

/// Walks through a document and finds what is wrong with its keys and types.
pub(super) fn walk(text: &str) -> (Places, Vec<Problem>) {
    let mut walk = Walk {
        text,
        places: Places::default(),
        problems: Vec::new(),
    };
    match Document::parse(text) {
        Ok(document) => walk.table(document.as_table(), ROOT, &Position::root()),
        Err(error) => {
            let line = walk.line(error.span());
            let text = walk.broken(&error);
            walk.problems.push(Problem { line, text });
        }
    }
    walk.problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    (walk.places, walk.problems)
}

struct Walk<'a> {
    text: &'a str,
    places: Places,
    problems: Vec<Problem>,
}

/// Where the walk is: the path for the places, and how a person calls it.
struct Position {
    path: String,
    shown: String,
}

impl Position {
    fn root() -> Self {
        Self {
            path: String::new(),
            shown: "the configuration".to_owned(),
        }
    }

    fn key(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn table(&self, key: &str) -> Self {
        let path = self.key(key);
        let inner = self.shown.trim_start_matches('[').split(']').next().unwrap_or_default();
        let shown = if self.path.is_empty() {
            format!("[{key}]")
        } else {
            format!("[{inner}.{key}]")
        };
        Self { path, shown }
    }

    fn entry(&self, key: &str, index: usize, name: Option<&str>) -> Self {
        let named = name.map(|name| format!(" {name:?}")).unwrap_or_default();
        Self {
            path: format!("{}.{index}", self.key(key)),
            shown: format!("[[{key}]]{named}"),
        }
    }
}

impl Walk<'_> {
    fn table(&mut self, table: &dyn TableLike, fields: &[Field], at: &Position) {
        let mut proposed: Vec<&str> = Vec::new();
        for (name, item) in table.iter() {
            let line = self.line(table.key(name).and_then(|key| key.span()).or_else(|| item.span()));
            if let Some(line) = line {
                self.places.0.entry(at.key(name)).or_insert(line);
            }
            match fields.iter().find(|field| field.name == name) {
                Some(field) => self.item(field, item, line, at),
                None => {
                    let meant = nearest(name, fields);
                    proposed.extend(meant.map(|field| field.name));
                    self.problem(line, unknown(name, meant, fields, at));
                }
            }
        }
        let absent =
            |field: &&Field| field.required && !table.contains_key(field.name) && !proposed.contains(&field.name);
        for field in fields.iter().filter(absent) {
            let line = self.places.line(&at.path);
            self.problem(line, lacking(field, at));
        }
    }

    fn item(&mut self, field: &Field, item: &Item, line: Option<usize>, at: &Position) {
        match field.kind {
            Kind::Table(fields) => match item.as_table_like() {
                Some(table) => self.table(table, fields, &at.table(field.name)),
                None => self.wrong(field, item, line, at),
            },
            Kind::Tables(fields) => match tables(item) {
                Some(tables) => self.tables(field, &tables, fields, line, at),
                None => self.wrong(field, item, line, at),
            },
            Kind::Text
            | Kind::Number
            | Kind::Flag
            | Kind::Texts
            | Kind::Address
            | Kind::Link
            | Kind::Reference
            | Kind::OneOf(_) => match item.as_value() {
                Some(value) => self.value(field, item, value, line, at),
                None => self.wrong(field, item, line, at),
            },
        }
    }

    fn tables(&mut self, field: &Field, tables: &[Entry<'_>], fields: &[Field], line: Option<usize>, at: &Position) {
        if tables.is_empty() {
            self.problem(line, lacking(field, at));
        }
        for (index, (table, span)) in tables.iter().enumerate() {
            let name = ["name", "url"].iter().find_map(|key| table.get(key)?.as_str());
            let entry = at.entry(field.name, index, name);
            if let Some(line) = self.line(span.clone()).or(line) {
                self.places.0.insert(entry.path.clone(), line);
            }
            self.table(*table, fields, &entry);
        }
    }

    fn value(&mut self, field: &Field, item: &Item, value: &Value, line: Option<usize>, at: &Position) {
        let wrong = match (field.kind, value) {
            (Kind::Text, Value::String(_)) | (Kind::Flag, Value::Boolean(_)) => None,
            (Kind::Number, Value::Integer(number)) => {
                (*number.value() < 0).then(|| format!("{} is below 0", number.value()))
            }
            (Kind::Texts, Value::Array(list)) if list.iter().all(Value::is_str) => None,
            (Kind::Address, Value::String(text)) => address(text.value()),
            (Kind::Link, Value::String(text)) => link(text.value()),
            (Kind::Reference, Value::String(text)) => {
                Reference::try_from(text.value().clone()).err().map(str::to_owned)
            }
            (Kind::OneOf(words), Value::String(text)) => (!words.contains(&text.value().as_str()))
                .then(|| format!("{:?} is not one of {}", text.value(), words.join(", "))),
            _ => return self.wrong(field, item, line, at),
        };
        if let Some(wrong) = wrong {
            self.problem(line, format!("`{}` in {}: {wrong}", field.name, at.shown));
        }
    }

    fn wrong(&mut self, field: &Field, item: &Item, line: Option<usize>, at: &Position) {
        let text = format!(
            "`{}` in {} must be {}, not {}",
            field.name,
            at.shown,
            wanted(field),
            found(item)
        );
        self.problem(line, text);
    }

    /// What the parser says. Of the text only a key is shown: a value may be a secret in the wrong place.
    fn broken(&self, error: &toml_edit::TomlError) -> String {
        let message = one_line(error.message());
        match error.span().and_then(|span| self.text.get(span)) {
            Some(key) if message == "duplicate key" => format!("duplicate key `{key}`"),
            Some(_) | None => message,
        }
    }

    fn problem(&mut self, line: Option<usize>, text: String) {
        self.problems.push(Problem { line, text });
    }

    fn line(&self, span: Option<Range<usize>>) -> Option<usize> {
        let before = self.text.as_bytes().get(..span?.start)?;
        Some(1 + before.iter().filter(|byte| **byte == b'\n').count())
    }
}

/// One of the tables of a list, and where it stands.
type Entry<'a> = (&'a dyn TableLike, Option<Range<usize>>);

/// The entries of `[[key]]`, or of `key = [{ .. }]`.
fn tables(item: &Item) -> Option<Vec<Entry<'_>>> {
    if let Some(list) = item.as_array_of_tables() {
        return Some(
            list.iter()
                .map(|table| (table as &dyn TableLike, table.span()))
                .collect(),
        );
    }
    let list = item.as_array().filter(|list| list.iter().all(Value::is_inline_table))?;
    let tables = list.iter().filter_map(Value::as_inline_table);
    Some(tables.map(|table| (table as &dyn TableLike, table.span())).collect())
}

fn nearest<'a>(name: &str, fields: &'a [Field]) -> Option<&'a Field> {
    let likeness = |field: &&Field| strsim::normalized_damerau_levenshtein(name, field.name);
    let nearest = fields.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest.filter(|field| likeness(field) >= LIKENESS_MIN)
}

fn unknown(name: &str, meant: Option<&Field>, fields: &[Field], at: &Position) -> String {
    match meant {
        Some(field) => format!("unknown key `{name}` in {}; did you mean `{}`?", at.shown, field.name),
        None => {
            let known: Vec<String> = fields.iter().map(|field| format!("`{}`", field.name)).collect();
            format!(
                "unknown key `{name}` in {}; the keys there are {}",
                at.shown,
                known.join(", ")
            )
        }
    }
}

fn lacking(field: &Field, at: &Position) -> String {
    match field.kind {
        Kind::Table(_) if at.path.is_empty() => format!("{} lacks the table [{}]", at.shown, field.name),
        Kind::Tables(_) => format!("{} needs at least one [[{}]]", at.shown, field.name),
        Kind::Table(_)
        | Kind::Text
        | Kind::Number
        | Kind::Flag
        | Kind::Texts
        | Kind::Address
        | Kind::Link
        | Kind::Reference
        | Kind::OneOf(_) => format!("{} lacks the key `{}`", at.shown, field.name),
    }
}

fn wanted(field: &Field) -> String {
    match field.kind {
        Kind::Text => "text".to_owned(),
        Kind::Number => "a whole number".to_owned(),
        Kind::Flag => "true or false".to_owned(),
        Kind::Texts => "a list of texts".to_owned(),
        Kind::Address => "text like \"127.0.0.1:6432\"".to_owned(),
        Kind::Link => "text like \"https://example.com\"".to_owned(),
        Kind::Reference => "text like \"env:NAME\", \"file:PATH\" or \"secret:NAME\"".to_owned(),
        Kind::OneOf(words) => format!("one of {}", words.join(", ")),
        Kind::Table(_) => format!("a table [{}]", field.name),
        Kind::Tables(_) => format!("a list of tables [[{}]]", field.name),
    }
}

fn found(item: &Item) -> &'static str {
    match item {
        Item::Value(Value::String(_)) => "text",
        Item::Value(Value::Integer(_)) => "a whole number",
        Item::Value(Value::Float(_)) => "a number with a fraction",
        Item::Value(Value::Boolean(_)) => "true or false",
        Item::Value(Value::Datetime(_)) => "a date",
        Item::Value(Value::Array(_)) => "a list",
        Item::Value(Value::InlineTable(_)) | Item::Table(_) => "a table",
        Item::ArrayOfTables(_) => "a list of tables",
        Item::None => "nothing",
    }
}

fn address(text: &str) -> Option<String> {
    let wrong = text.parse::<SocketAddr>().is_err();
    wrong.then(|| format!("{text:?} is not an IP address and port, like 127.0.0.1:6432 or [::]:6432"))
}

fn link(text: &str) -> Option<String> {
    Url::parse(text)
        .err()
        .map(|error| format!("{text:?} is not a URL: {error}"))
}

/// The parser's message, which may run over several lines.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
