//! What people are shown of an operation: its text without its secrets.

use crate::protocol::postgres::effects::{Analysis, Place, is_scannable, is_secret};
use countersign_infra::domain::display::{MASKED, escape, mask_secrets};
use pg_query::protobuf::{ScanToken, Token};
use std::collections::{BTreeMap, BTreeSet};

/// Texts inside texts (a function's body in dollar quotes) are looked into so many levels deep.
const BODIES_MAX: usize = 4;

/// The text of an operation as cards, journal and pages show it. Hidden are passwords, connection strings and keys, and
/// the literals that are compared with or assigned to a masked column (`column` or `table.column`). Without an analysis
/// (the text was refused) every literal is hidden as soon as there are masked columns. What cannot be told apart safely
/// is not shown at all. Takes some 60 ms for a megabyte; does not need a large stack.
pub fn display(statements: &str, analysis: Option<&Analysis>, masked_columns: &[String]) -> String {
    let shown = masked(statements, analysis, masked_columns).unwrap_or_else(|| {
        format!(
            "({} bytes of SQL, not shown: the secrets in it cannot be told apart)",
            statements.len()
        )
    });
    escape(&mask_secrets(&shown))
}

/// Which of `count` bound values (numbered from 1) are secrets or belong to a masked column.
pub fn masked_parameters(analysis: &Analysis, masked_columns: &[String], count: u32) -> BTreeSet<u32> {
    if analysis.sensitive.all && !masked_columns.is_empty() {
        return (1..=count).collect();
    }
    let places = analysis.sensitive.places(masked_columns).into_iter();
    places
        .filter_map(|place| {
            if let Place::Bound(number) = place {
                Some(number)
            } else {
                None
            }
        })
        .collect()
}

fn masked(text: &str, analysis: Option<&Analysis>, masked_columns: &[String]) -> Option<String> {
    let tokens = scanned(text)?;
    let mut hidden = BTreeMap::new();
    let hides_all = match analysis {
        Some(analysis) => analysis.sensitive.all && !masked_columns.is_empty(),
        None => !masked_columns.is_empty(),
    };
    for token in tokens.iter().filter(|token| hides_all && is_literal(token)) {
        hide(&mut hidden, token);
    }
    named_secrets(text, &tokens, &mut hidden);
    for place in analysis
        .map(|analysis| analysis.sensitive.places(masked_columns))
        .into_iter()
        .flatten()
    {
        if let Place::At(start) = place {
            hide(&mut hidden, literal_at(&tokens, start)?);
        }
    }
    // With backslashes in plain quotes the ends of literals depend on a setting that nobody can know.
    if !hidden.is_empty() && tokens.iter().any(|token| is_ambiguous(text, token)) {
        return None;
    }
    rewrite(text, &tokens, &hidden, BODIES_MAX)
}

fn scanned(text: &str) -> Option<Vec<ScanToken>> {
    is_scannable(text.as_bytes())
        .then(|| pg_query::scan(text).ok())
        .flatten()
        .map(|scan| scan.tokens)
}

/// A literal after a name that speaks of a secret: `PASSWORD 'x'`, `OPTIONS (password 'x')`, `SET my.token = 'x'`.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the scanner has five hundred kinds of token"
)]
fn named_secrets(text: &str, tokens: &[ScanToken], hidden: &mut BTreeMap<usize, usize>) {
    let mut named = false;
    for token in tokens {
        let word = slice(text, token).unwrap_or_default();
        match token.token() {
            Token::Ascii61 | Token::To | Token::ColonEquals | Token::EqualsGreater => {}
            Token::SqlComment | Token::CComment => {}
            _ if named && is_literal(token) => {
                hide(hidden, token);
                named = false;
            }
            _ => named = !is_literal(token) && (is_secret(word) || word.eq_ignore_ascii_case("connection")),
        }
    }
}

/// Writes the text with every hidden range replaced, and bodies in dollar quotes masked by the same rules of names.
fn rewrite(text: &str, tokens: &[ScanToken], hidden: &BTreeMap<usize, usize>, bodies: usize) -> Option<String> {
    let mut changes = hidden
        .iter()
        .map(|(start, end)| (*start, (*end, format!("'{MASKED}'"))))
        .collect::<BTreeMap<_, _>>();
    for token in tokens {
        let (start, end) = range(token)?;
        let word = text.get(start..end)?;
        if word.starts_with('$') && token.token() == Token::Sconst && !changes.contains_key(&start) {
            changes.insert(start, (end, body(word, bodies)?));
        }
    }
    let (mut shown, mut from) = (String::with_capacity(text.len()), 0);
    for (start, (end, instead)) in changes {
        shown.push_str(text.get(from..start)?);
        shown.push_str(&instead);
        from = end;
    }
    shown.push_str(text.get(from..)?);
    Some(shown)
}

/// A body in dollar quotes. One that is no SQL (another language's) is left to the patterns that follow.
fn body(quoted: &str, bodies: usize) -> Option<String> {
    let mark = quoted.get(..=quoted.get(1..)?.find('$')? + 1)?;
    let inside = quoted.strip_prefix(mark)?.strip_suffix(mark)?;
    let Some(tokens) = scanned(inside).filter(|_| bodies > 0) else {
        return Some(quoted.to_owned());
    };
    let mut hidden = BTreeMap::new();
    named_secrets(inside, &tokens, &mut hidden);
    Some(format!(
        "{mark}{}{mark}",
        rewrite(inside, &tokens, &hidden, bodies - 1)?
    ))
}

/// The literal that begins here; the parser gives a negative number the place of its sign.
fn literal_at(tokens: &[ScanToken], start: u32) -> Option<&ScanToken> {
    let index = tokens
        .binary_search_by_key(&i64::from(start), |token| i64::from(token.start))
        .ok()?;
    let mut following = tokens.get(index..)?.iter().filter(|token| !is_comment(token));
    let token = following.next()?;
    let is_sign = matches!(token.token(), Token::Ascii45 | Token::Ascii43);
    let literal = if is_sign { following.next()? } else { token };
    is_literal(literal).then_some(literal)
}

fn is_literal(token: &ScanToken) -> bool {
    matches!(
        token.token(),
        Token::Sconst
            | Token::Usconst
            | Token::Bconst
            | Token::Xconst
            | Token::Iconst
            | Token::Fconst
            | Token::TrueP
            | Token::FalseP
    )
}

fn is_comment(token: &ScanToken) -> bool {
    matches!(token.token(), Token::SqlComment | Token::CComment)
}

fn is_ambiguous(text: &str, token: &ScanToken) -> bool {
    let word = slice(text, token).unwrap_or_default();
    token.token() == Token::Sconst && word.starts_with('\'') && word.contains('\\')
}

fn hide(hidden: &mut BTreeMap<usize, usize>, token: &ScanToken) {
    if let Some((start, end)) = range(token) {
        hidden.insert(start, end);
    }
}

fn slice<'a>(text: &'a str, token: &ScanToken) -> Option<&'a str> {
    let (start, end) = range(token)?;
    text.get(start..end)
}

fn range(token: &ScanToken) -> Option<(usize, usize)> {
    Some((usize::try_from(token.start).ok()?, usize::try_from(token.end).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::postgres::effects::{Limits, analyse};

    fn check(sql: &str, columns: &[&str], expected: &str) {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>();
        let analysis = analyse(
            sql.as_bytes(),
            Limits {
                statement_bytes_max: 1 << 20,
            },
        )
        .unwrap();
        assert_eq!(display(sql, Some(&analysis), &columns), expected, "{sql}");
    }

    #[test]
    fn passwords_keys_and_connection_strings_are_never_shown() {
        check(
            "ALTER ROLE bob PASSWORD 'hunter2'",
            &[],
            "ALTER ROLE bob PASSWORD '****'",
        );
        check(
            "CREATE USER x ENCRYPTED PASSWORD E'a\\'b'",
            &[],
            "CREATE USER x ENCRYPTED PASSWORD '****'",
        );
        check(
            "CREATE USER MAPPING FOR bob SERVER s OPTIONS (user 'u', password 'p')",
            &[],
            "CREATE USER MAPPING FOR bob SERVER s OPTIONS (user 'u', password '****')",
        );
        check(
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password=p' PUBLICATION p",
            &[],
            "CREATE SUBSCRIPTION s CONNECTION '****' PUBLICATION p",
        );
        check(
            "SELECT dblink('host=h user=u', 'SELECT 1')",
            &[],
            "SELECT dblink('****', 'SELECT 1')",
        );
        check(
            "SELECT crypt('pw', gen_salt('bf'))",
            &[],
            "SELECT crypt('****', gen_salt('bf'))",
        );
        check("SET my.api_token = 'abc'", &[], "SET my.api_token = '****'");
        check(
            "DO $x$ BEGIN ALTER ROLE a PASSWORD 'b'; END $x$",
            &[],
            "DO $x$ BEGIN ALTER ROLE a PASSWORD '****'; END $x$",
        );
    }

    #[test]
    fn values_of_a_masked_column_are_hidden_and_the_others_are_shown() {
        let email = &["customers.email"];
        check(
            "SELECT * FROM customers WHERE id = 7 AND email = 'a@b'",
            email,
            "SELECT * FROM customers WHERE id = 7 AND email = '****'",
        );
        check(
            "UPDATE customers c SET email = lower('A@B'), name = 'n' WHERE c.email IN ('x', 'y') OR id = -7",
            email,
            "UPDATE customers c SET email = lower('****'), name = 'n' WHERE c.email IN ('****', '****') OR id = -7",
        );
        check(
            "INSERT INTO customers (id, email) VALUES (1, 'a'), (2, upper('b'))",
            email,
            "INSERT INTO customers (id, email) VALUES (1, '****'), (2, upper('****'))",
        );
        check(
            "INSERT INTO customers VALUES (1, 'a')",
            email,
            "INSERT INTO customers VALUES ('****', '****')",
        );
        check(
            "INSERT INTO orders VALUES (1, 'a')",
            email,
            "INSERT INTO orders VALUES (1, 'a')",
        );
        check(
            "INSERT INTO customers (id, email) SELECT 5, 'q'",
            email,
            "INSERT INTO customers (id, email) SELECT 5, '****'",
        );
        check(
            "SELECT 1 WHERE salary > -5",
            &["salary"],
            "SELECT 1 WHERE salary > -'****'",
        );
        check(
            "PREPARE p AS SELECT * FROM customers WHERE email LIKE $$a%$$",
            email,
            "PREPARE p AS SELECT * FROM customers WHERE email LIKE '****'",
        );
        check(
            "INSERT INTO t (email) VALUES ('a') ON CONFLICT (email) DO UPDATE SET email = 'b'",
            email,
            "INSERT INTO t (email) VALUES ('****') ON CONFLICT (email) DO UPDATE SET email = '****'",
        );
    }

    #[test]
    fn what_cannot_be_told_apart_is_not_shown() {
        let sql = "SELECT 'a\\' FROM t WHERE email = 'b'";
        let analysis = analyse(
            sql.as_bytes(),
            Limits {
                statement_bytes_max: 1 << 20,
            },
        )
        .unwrap();
        assert!(display(sql, Some(&analysis), &["email".to_owned()]).contains("bytes of SQL, not shown"));
        assert!(display("SELECT 'open", None, &[]).contains("12 bytes of SQL, not shown"));
        assert_eq!(
            display("SELEC 'x', 5", None, &["email".to_owned()]),
            "SELEC '****', '****'"
        );
        assert_eq!(display("SELEC 'x'", None, &[]), "SELEC 'x'");
    }

    #[test]
    fn bound_values_of_a_masked_column_are_named_by_their_numbers() {
        let sql = "UPDATE customers SET email = $2 WHERE id = $1";
        let analysis = analyse(
            sql.as_bytes(),
            Limits {
                statement_bytes_max: 1 << 20,
            },
        )
        .unwrap();
        assert_eq!(
            masked_parameters(&analysis, &["email".to_owned()], 2),
            BTreeSet::from([2])
        );
    }
}
