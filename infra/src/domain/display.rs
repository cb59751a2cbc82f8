//! Display text: what people are shown of bytes that somebody else chose.

use regex::{Captures, Regex};
use std::borrow::Cow;
use std::fmt::Write;
use std::sync::LazyLock;

/// What stands where a secret stood.
pub const MASKED: &str = "****";

/// As much of a display text as records and events keep, in bytes. The whole stands in the operation's own object.
pub const HEAD_BYTES_MAX: usize = 16 << 10;

/// The beginning of a display text: at most [`HEAD_BYTES_MAX`] bytes, cut between characters.
pub fn head(display: &str) -> &str {
    let end = display.floor_char_boundary(HEAD_BYTES_MAX);
    display.get(..end).unwrap_or(display)
}

/// Shows what would not be seen, or would make the text around it be seen otherwise: control, bidi, zero-width and
/// other format characters, private and unassigned ones, blanks other than the space, all as `\u{..}`.
///
/// Newline and tab stay. A backslash stays as it is: the result is for eyes, and is never read back.
pub fn escape(text: &str) -> String {
    let Some(unseen) = UNSEEN.as_ref() else {
        return text.chars().map(escaped).collect();
    };
    unseen
        .replace_all(text, |found: &Captures<'_>| {
            found
                .get(0)
                .map_or("", |m| m.as_str())
                .chars()
                .map(escaped)
                .collect::<String>()
        })
        .into_owned()
}

fn escaped(letter: char) -> String {
    let mut shown = String::new();
    match letter {
        '\n' | '\t' => shown.push(letter),
        other => drop(write!(shown, "\\u{{{:x}}}", u32::from(other))),
    }
    shown
}

/// Control, format, unassigned and private characters; line and paragraph separators; what Unicode says is to be
/// ignored on display (Default_Ignorable_Code_Point); blanks beside the space; the empty braille pattern.
static UNSEEN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"[[\p{C}\p{Zl}\p{Zp}\p{Zs}\p{Default_Ignorable_Code_Point}\u{2800}]--[ \n\t]]+").ok());

/// Masks what looks like a secret, in any text: passwords in URLs and connection strings, `password = '...'` and its
/// kin in SQL, JSON, headers and shell, bearer tokens and JWTs, keys of well-known services, private keys.
///
/// Masks by shape, so it may mask what is none; what a reader must see of an operation is not judged here.
pub fn mask_secrets(text: &str) -> String {
    let Some(shapes) = SHAPES.as_ref() else {
        return MASKED.to_owned();
    };
    let masked = shapes.urls.replace_all(text, mask_url);
    let masked = shapes.keyed.replace_all(&masked, mask_keyed);
    let masked = replace(&shapes.headers, masked, "${kept}****");
    let masked = shapes.bearers.replace_all(&masked, mask_bearer).into_owned();
    replace(&shapes.tokens, Cow::Owned(masked), MASKED).into_owned()
}

fn replace<'t>(shape: &Regex, text: Cow<'t, str>, with: &str) -> Cow<'t, str> {
    match shape.replace_all(&text, with) {
        Cow::Borrowed(_) => text,
        Cow::Owned(changed) => Cow::Owned(changed),
    }
}

struct Shapes {
    urls: Regex,
    keyed: Regex,
    headers: Regex,
    bearers: Regex,
    tokens: Regex,
}

static SHAPES: LazyLock<Option<Shapes>> = LazyLock::new(|| {
    Some(Shapes {
        urls: Regex::new(URLS).ok()?,
        keyed: Regex::new(KEYED).ok()?,
        headers: Regex::new(HEADERS).ok()?,
        bearers: Regex::new(BEARERS).ok()?,
        tokens: Regex::new(TOKENS).ok()?,
    })
});

/// A URL with something before its last `@`: RFC 3986 wants blanks and slashes in it encoded, people do not.
const URLS: &str = r#"(?i)\b(?<scheme>[a-z][a-z0-9+.\-]*://)(?<user>[^\s:@/?\#'"<>]*):(?<secret>[^\s'"<>]*)@"#;

fn mask_url(found: &Captures<'_>) -> String {
    let [whole, scheme, user, secret] = ["", "scheme", "user", "secret"].map(|name| part(found, name));
    // `https://host:8080/a@b` names a port.
    let digits = secret.trim_start_matches(|letter: char| letter.is_ascii_digit());
    if digits.len() < secret.len() && digits.starts_with(['/', '?', '#']) {
        return whole.to_owned();
    }
    format!("{scheme}{user}:{MASKED}@")
}

/// A key that speaks of a secret, then its value: quoted as SQL, JSON or a shell would, or bare.
const KEYED: &str = r#"(?xis)
(?<key> \b [\w.\-]* (?: password | passwd | pwd | passphrase | secret | token | credentials? | signature
    | api[_\-]?key | access[_\-]?key | private[_\-]?key | account[_\-]?key | identified\x20by ) \d* \\?["']? )
(?: (?<between> (?: \s* (?: => | := | = | : ) \s* | \s+ ) (?: [enbx] | u& )? )
    (?<quoted> ''[^'\s,;)][^']*'' | \\"(?: [^"\\] | \\[^"] )*\\" | '(?: [^'\\] | '' | \\. )*'?
             | "(?: [^"\\] | \\. )*"? | \$\w*\$ [^$]* \$\w*\$ )
  | (?<tight> [=:] \x20? ) (?<bare> [^\s,;&'"()\[\]{}<>]+ )
  | (?<wide> \s+ = \s+ ) (?<word> [^\s,;&'"()\[\]{}<>]+ ) )
"#;

fn mask_keyed(found: &Captures<'_>) -> String {
    let [whole, key, between, quoted] = ["", "key", "between", "quoted"].map(|name| part(found, name));
    if !quoted.is_empty() {
        return format!("{key}{between}{}", mask_quoted(quoted));
    }
    let [tight, bare, wide, word] = ["tight", "bare", "wide", "word"].map(|name| part(found, name));
    if is_placeholder(bare) || is_placeholder(word) {
        return whole.to_owned();
    }
    format!("{key}{tight}{wide}{MASKED}")
}

/// Keeps the quotes, so that the text around reads as before.
fn mask_quoted(quoted: &str) -> String {
    let mark = ["\\\"", "''", "'", "\"", "$"]
        .into_iter()
        .find(|mark| quoted.starts_with(mark))
        .unwrap_or_default();
    match mark {
        // Empty: there is nothing to mask.
        _ if quoted == "''" || quoted == "\"\"" => quoted.to_owned(),
        "''" if !quoted.ends_with("''") => format!("'{MASKED}'"),
        "$" => format!("$${MASKED}$$"),
        mark => format!("{mark}{MASKED}{mark}"),
    }
}

/// Whether a value only says where the value comes from (`$1`, `?`, `:name`, `%s`, `NULL`), or is masked already.
fn is_placeholder(value: &str) -> bool {
    let dollar = value
        .strip_prefix('$')
        .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let word = ["null", "default", "true", "false", "?", "%s", MASKED];
    (dollar && value.len() > 1) || word.iter().any(|word| value.eq_ignore_ascii_case(word)) || value.starts_with("::")
}

const HEADERS: &str = r#"(?i)(?<kept>\b(?:proxy-)?authorization["']?\s*:\s*["']?)[^\r\n'"]+"#;

const BEARERS: &str = r"(?i)\b(?<word>bearer|basic)\s+(?<token>[a-z0-9._~+/=\-]{8,})";

fn mask_bearer(found: &Captures<'_>) -> String {
    let [whole, word, token] = ["", "word", "token"].map(|name| part(found, name));
    // "basic authentication" is no token.
    let is_prose = token.len() < 20 && token.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'.');
    if is_prose {
        whole.to_owned()
    } else {
        format!("{word} {MASKED}")
    }
}

/// Tokens that are known by their own shape: JWT (RFC 7519), AWS, GitHub, GitLab, Slack, Stripe, Google; private keys
/// in PEM (RFC 7468), and PostgreSQL's password verifiers.
const TOKENS: &str = r"(?x)
    \b eyJ[A-Za-z0-9_\-]{5,}\.[A-Za-z0-9_\-]{2,}(?:\.[A-Za-z0-9_\-]*)?
  | \b (?:AKIA|ASIA|AROA|AIDA|ANPA|AGPA|AIPA|ABIA|ACCA)[A-Z0-9]{16} \b
  | \b gh[pousr]_[A-Za-z0-9]{20,} | \b github_pat_\w{20,} | \b glpat-[\w\-]{20,}
  | \b xox[a-z]-[A-Za-z0-9\-]{10,} | \b xapp-[A-Za-z0-9\-]{10,}
  | \b [sr]k_(?:live|test)_[A-Za-z0-9]{16,} | \b AIza[\w\-]{35}
  | -----BEGIN\x20[A-Z0-9\x20]*PRIVATE\x20KEY----- (?s: .*? ) (?: -----END\x20[A-Z0-9\x20]*PRIVATE\x20KEY----- | \z )
  | \b SCRAM-SHA-256\$\d+:[^\s']+ | \b md5[0-9a-f]{32} \b";

fn part<'t>(found: &Captures<'t>, name: &str) -> &'t str {
    let part = if name.is_empty() {
        found.get(0)
    } else {
        found.name(name)
    };
    part.map_or("", |part| part.as_str())
}

#[cfg(test)]
mod tests {
    use super::{BEARERS, HEADERS, KEYED, TOKENS, URLS, escape, mask_secrets};
    use regex::Regex;

    fn check(function: impl Fn(&str) -> String, cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            assert_eq!(function(text), *expected, "of {text:?}");
            assert_eq!(function(&function(text)), *expected, "of {text:?}, twice");
        }
    }

    #[test]
    fn every_shape_is_understood() {
        for shape in [URLS, KEYED, HEADERS, BEARERS, TOKENS] {
            assert_eq!(Regex::new(shape).err(), None, "{shape}");
        }
    }

    #[test]
    fn what_is_seen_stays_as_it_is() {
        let plain = "SELECT 'Grüße, 世界 🦀' -- \\u{200b} \n\tFROM t; é ٣ ก็";
        assert_eq!(escape(plain), plain);
    }

    #[test]
    fn what_is_not_seen_is_shown() {
        check(
            escape,
            &[
                (
                    "a\u{0}b\u{7}\r\u{1b}[2J\u{7f}\u{9b}",
                    "a\\u{0}b\\u{7}\\u{d}\\u{1b}[2J\\u{7f}\\u{9b}",
                ),
                (
                    "x\u{202e}y\u{2066}z\u{200f}\u{61c}",
                    "x\\u{202e}y\\u{2066}z\\u{200f}\\u{61c}",
                ),
                (
                    "a\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}b",
                    "a\\u{200b}\\u{200d}\\u{2060}\\u{feff}\\u{ad}b",
                ),
                (
                    "\u{3164}\u{115f}\u{2800}\u{034f}\u{fe0f}",
                    "\\u{3164}\\u{115f}\\u{2800}\\u{34f}\\u{fe0f}",
                ),
                (
                    "a\u{a0}b\u{3000}c\u{2028}d\u{85}",
                    "a\\u{a0}b\\u{3000}c\\u{2028}d\\u{85}",
                ),
                (
                    "\u{e000}\u{e0041}\u{378}\u{10ffff}",
                    "\\u{e000}\\u{e0041}\\u{378}\\u{10ffff}",
                ),
            ],
        );
    }

    #[test]
    fn passwords_in_addresses_are_masked() {
        check(
            mask_secrets,
            &[
                ("postgres://app:s3cret@db:5432/shop", "postgres://app:****@db:5432/shop"),
                ("redis://:pw@cache/0 and more", "redis://:****@cache/0 and more"),
                ("postgres://app:p@ss/w:rd@db/shop", "postgres://app:****@db/shop"),
                ("'amqp://a:b@c', 'ftp://d:e@f'", "'amqp://a:****@c', 'ftp://d:****@f'"),
                ("https://example.com:8080/a@b", "https://example.com:8080/a@b"),
                ("https://example.com/a?b=c", "https://example.com/a?b=c"),
                (
                    "host=db password=hunter2 dbname=shop",
                    "host=db password=**** dbname=shop",
                ),
                (
                    "host=db password = hunter2 dbname=shop",
                    "host=db password = **** dbname=shop",
                ),
                (
                    "dblink('host=x password=''a b''')",
                    "dblink('host=x password=''****''')",
                ),
                ("Server=db;Pwd=x1;Database=shop", "Server=db;Pwd=****;Database=shop"),
                ("?access_token=abc&x=1", "?access_token=****&x=1"),
                ("AccountKey=abc/def==;x=1", "AccountKey=****;x=1"),
            ],
        );
    }

    #[test]
    fn secrets_under_a_name_are_masked() {
        check(
            mask_secrets,
            &[
                (
                    "ALTER ROLE app PASSWORD 'it''s' LOGIN",
                    "ALTER ROLE app PASSWORD '****' LOGIN",
                ),
                (
                    "ALTER ROLE app ENCRYPTED PASSWORD E'a\\'b'",
                    "ALTER ROLE app ENCRYPTED PASSWORD E'****'",
                ),
                ("SET password = 'x', name = 'y'", "SET password = '****', name = 'y'"),
                ("SET password = $$a'b$$ WHERE", "SET password = $$****$$ WHERE"),
                ("WHERE password = 'not closed", "WHERE password = '****'"),
                (
                    "{\"password\": \"a\\\"b\", \"n\": 1}",
                    "{\"password\": \"****\", \"n\": 1}",
                ),
                (
                    "\"{\\\"password\\\": \\\"a\\\"}\"",
                    "\"{\\\"password\\\": \\\"****\\\"}\"",
                ),
                ("PGPASSWORD=hunter2 psql", "PGPASSWORD=**** psql"),
                (
                    "export AWS_SECRET_ACCESS_KEY=abc/def",
                    "export AWS_SECRET_ACCESS_KEY=****",
                ),
                ("identified by 'x'", "identified by '****'"),
                ("SET client_secret := 'x'", "SET client_secret := '****'"),
                ("X-Api-Key: abcdef", "X-Api-Key: ****"),
            ],
        );
    }

    #[test]
    fn tokens_are_masked_by_their_shape() {
        check(
            mask_secrets,
            &[
                ("Authorization: Bearer abc.def", "Authorization: ****"),
                ("curl -H 'Authorization: Basic dTpw'", "curl -H 'Authorization: ****'"),
                ("use bearer 0a1b2c3d4e now", "use bearer **** now"),
                ("x eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln y", "x **** y"),
                ("key AKIAIOSFODNN7EXAMPLE end", "key **** end"),
                ("ghp_0123456789abcdefghijABCDEFGHIJ", "****"),
                ("xoxb-123456789012-abcdef", "****"),
                (
                    "-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\nx",
                    "****\nx",
                ),
                ("-----BEGIN RSA PRIVATE KEY-----\ncut off", "****"),
                ("'SCRAM-SHA-256$4096:c2FsdA==$a:b'", "'****'"),
            ],
        );
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        let plain = [
            "SELECT id, token_count, password_changed_at FROM users WHERE id = 7",
            "SELECT password FROM users",
            "UPDATE users SET password = $1 WHERE id = $2",
            "SET password = NULL, token = DEFAULT",
            "UPDATE users SET password = '' WHERE id = 1",
            "needs basic authentication",
            "the bearer of this",
            "SELECT 'a:b@c', now()::date, x -> 'y'",
            "DELETE FROM tokens WHERE expires < now()",
            "deadbeefdeadbeefdeadbeefdeadbeef",
        ];
        check(mask_secrets, &plain.map(|text| (text, text)));
    }

    #[test]
    fn a_long_text_is_done_without_growing() {
        let text = "password='".repeat(10_000);
        assert!(mask_secrets(&text).len() <= text.len());
        assert_eq!(escape(&text), text);
    }
}
