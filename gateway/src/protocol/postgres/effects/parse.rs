//! From bytes to an analysis: text checks, both lexer modes, and the strictest of what they give.

use super::{Analysis, Role, StatementFacts, Unparseable, walk};
use countersign_infra::domain::effect::EffectKind;
use pg_query::ParserOptions;

/// Bounds of one analysis.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest text, in bytes.
    pub statement_bytes_max: usize,
}

impl Limits {
    pub(super) fn check(self, sql: &[u8]) -> Result<(), Unparseable> {
        if sql.len() <= self.statement_bytes_max {
            return Ok(());
        }
        let message = format!(
            "the statement has {} bytes, more than the {} that are analysed",
            sql.len(),
            self.statement_bytes_max
        );
        Err(Unparseable::new("54000", message)
            .hint("Split the statement, load the rows with COPY, or raise limits.statement_bytes_max."))
    }
}

/// Says what a string of statements would do, on the current thread. The thread needs a stack of 512 MB of virtual
/// memory for the deepest trees; [`super::Analyst`] has such threads.
///
/// A text with a backslash is read with `standard_conforming_strings` both on and off, because a gateway cannot know
/// for certain which one the server will use: the result is the union of what both readings would do. A reading that
/// does not parse would not parse on the server either, so it does not count; when neither parses the text is refused.
pub fn analyse(sql: &[u8], limits: Limits) -> Result<Analysis, Unparseable> {
    limits.check(sql)?;
    let text = text(sql)?;
    let standard = read(text, ParserOptions::DEFAULT);
    if !sql.contains(&b'\\') {
        return standard;
    }
    match (standard, read(text, ParserOptions::DISABLE_STANDARD_CONFORMING_STRINGS)) {
        (Ok(standard), Ok(escaped)) => Ok(strictest(standard, escaped)),
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
        (Err(refused), Err(_)) => Err(refused),
    }
}

/// PostgreSQL's scanner reads a run of operator characters to its end and gives all but the first back, again and again:
/// `/*/*/*` of 200 kB takes it a minute and a half. Runs that would take it longer than about a second are refused.
pub(crate) fn is_scannable(sql: &[u8]) -> bool {
    const COUNTED_FROM: u64 = 256;
    const STEPS_MAX: u64 = 400_000_000;
    let is_operator = |byte: &u8| b"~!@#^&|`?+-*/%<>=".contains(byte);
    let runs = sql
        .split(|byte| !is_operator(byte))
        .map(|run| run.len() as u64)
        .filter(|length| *length > COUNTED_FROM);
    runs.map(|length| length.saturating_mul(length))
        .fold(0, u64::saturating_add)
        <= STEPS_MAX
}

fn text(sql: &[u8]) -> Result<&str, Unparseable> {
    if !is_scannable(sql) {
        return Err(Unparseable::new(
            "54001",
            "the statement has too long a run of operator characters to be analysed",
        )
        .hint("Put spaces or line breaks into it, or shorten it."));
    }
    if sql.contains(&0) {
        return Err(Unparseable::new("22021", "the statement contains a NUL byte"));
    }
    std::str::from_utf8(sql).map_err(|fault| {
        let message = format!(
            "the statement is not UTF-8: byte {} starts no valid character",
            fault.valid_up_to()
        );
        Unparseable::new("22021", message).hint("Set client_encoding to UTF8.")
    })
}

fn read(text: &str, mode: ParserOptions) -> Result<Analysis, Unparseable> {
    let tree = pg_query::parse(text, mode).map_err(|error| refused(&error))?;
    let mut analysis = Analysis::default();
    for statement in &tree.protobuf.stmts {
        let (facts, sensitive) = walk::facts(statement).ok_or_else(too_deep)?;
        analysis.statements.push(facts);
        analysis.sensitive.merge(sensitive);
    }
    Ok(analysis)
}

fn refused(error: &pg_query::Error) -> Unparseable {
    let text = error.to_string();
    let message = text.strip_prefix("Invalid statement: ").unwrap_or(&text);
    let deep = ["stack depth limit exceeded", "nested too deeply", "memory exhausted"];
    if deep.iter().any(|sign| message.contains(sign)) {
        return too_deep();
    }
    Unparseable::new("42601", message)
}

fn too_deep() -> Unparseable {
    Unparseable::new("54001", "the statement is nested too deeply to be analysed")
        .hint("Split the statement, or write it with fewer levels.")
}

/// The union of two readings of one text. Readings that differ in what the session must follow are `unknown` as well.
fn strictest(mut standard: Analysis, mut escaped: Analysis) -> Analysis {
    if standard == escaped {
        return standard;
    }
    let roles_agree = roles(&standard).eq(roles(&escaped));
    if escaped.statements.len() > standard.statements.len() {
        std::mem::swap(&mut standard, &mut escaped);
    }
    standard.sensitive.merge(escaped.sensitive);
    for (index, other) in escaped.statements.into_iter().enumerate() {
        if let Some(facts) = standard.statements.get_mut(index) {
            facts.unite(other);
        }
    }
    if !roles_agree && let Some(facts) = standard.statements.first_mut() {
        facts.effects.add(EffectKind::Unknown);
        facts.changes_session = true;
    }
    standard
}

fn roles(analysis: &Analysis) -> impl Iterator<Item = &Role> {
    analysis
        .statements
        .iter()
        .map(|facts| &facts.role)
        .filter(|role| **role != Role::Plain)
}

impl StatementFacts {
    fn unite(&mut self, other: Self) {
        self.effects.merge(&other.effects);
        self.writes.extend(other.writes);
        self.has_where &= other.has_where;
        self.changes_session |= other.changes_session;
        self.tables.extend(other.tables);
        self.tables.sort();
        self.tables.dedup();
    }
}
