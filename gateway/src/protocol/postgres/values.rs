//! Bound values as people read them.

use super::batch::Value;
use chrono::{DateTime, NaiveDate, TimeDelta};
use countersign_infra::domain::display::escape;

/// A value is rendered by pieces of so many bytes, so that what would be too long is noticed before it is made.
const PIECE_BYTES: usize = 64 << 10;

/// Appends a bound value by its format and type, whole. What is not known is shown as hexadecimal bytes.
///
/// Stops soon after `text` is longer than `bytes_max`: so long a display is kept and shown by nobody.
pub fn render(value: &Value, oid: u32, text: &mut String, bytes_max: usize) {
    let Some(bytes) = &value.bytes else {
        return text.push_str("NULL");
    };
    let shown = match value.format {
        0 => std::str::from_utf8(bytes).ok().map(Shown::Quoted),
        1 => binary(bytes, oid),
        _ => None,
    };
    match shown {
        Some(Shown::Bare(literal)) => text.push_str(&literal),
        Some(Shown::Quoted(content)) => {
            text.push('\'');
            for piece in pieces(content) {
                if text.len() > bytes_max {
                    return;
                }
                text.push_str(&escape(&piece.replace('\'', "''")));
            }
            text.push('\'');
        }
        None => {
            text.push_str("\\x");
            for piece in bytes.chunks(PIECE_BYTES) {
                if text.len() > bytes_max {
                    return;
                }
                text.push_str(&hex::encode(piece));
            }
        }
    }
}

/// How a value is shown.
enum Shown<'v> {
    /// As it stands here.
    Bare(String),
    /// As a literal in quotes.
    Quoted(&'v str),
}

/// The text in pieces that end between characters.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, after) = rest.split_at_checked(rest.floor_char_boundary(PIECE_BYTES))?;
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// <https://www.postgresql.org/docs/current/catalog-pg-type.html>: OIDs of the built-in types are fixed.
fn binary(bytes: &[u8], oid: u32) -> Option<Shown<'_>> {
    let bare = match oid {
        18 | 19 | 25 | 114 | 142 | 1042 | 1043 => return std::str::from_utf8(bytes).ok().map(Shown::Quoted),
        3802 => {
            let json = bytes.strip_prefix(&[1])?;
            return std::str::from_utf8(json).ok().map(Shown::Quoted);
        }
        16 => match bytes {
            [0] => "false".to_owned(),
            [1] => "true".to_owned(),
            _ => return None,
        },
        21 => i16::from_be_bytes(bytes.try_into().ok()?).to_string(),
        23 => int4(bytes)?.to_string(),
        20 => int8(bytes)?.to_string(),
        26 => (int4(bytes)? as u32).to_string(),
        700 => f32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        701 => f64::from_be_bytes(bytes.try_into().ok()?).to_string(),
        2950 => format!("'{}'", uuid::Uuid::from_slice(bytes).ok()?),
        1082 => {
            let day = epoch_date()?.checked_add_signed(TimeDelta::try_days(int4(bytes)?.into())?)?;
            format!("'{day}'")
        }
        1114 => format!("'{}'", timestamp(bytes)?.naive_utc()),
        1184 => format!("'{}'", timestamp(bytes)?.to_rfc3339()),
        _ => return None,
    };
    Some(Shown::Bare(bare))
}

fn int4(bytes: &[u8]) -> Option<i32> {
    bytes.try_into().ok().map(i32::from_be_bytes)
}

fn int8(bytes: &[u8]) -> Option<i64> {
    bytes.try_into().ok().map(i64::from_be_bytes)
}

fn epoch_date() -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(2000, 1, 1)
}

/// Microseconds since the year 2000.
fn timestamp(bytes: &[u8]) -> Option<DateTime<chrono::Utc>> {
    let epoch = epoch_date()?.and_hms_opt(0, 0, 0)?.and_utc();
    epoch.checked_add_signed(TimeDelta::microseconds(int8(bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[track_caller]
    fn check(format: u16, oid: u32, bytes: &[u8], shown: &str) {
        let value = Value {
            format,
            bytes: Some(Bytes::copy_from_slice(bytes)),
        };
        assert_eq!(rendered(&value, oid, usize::MAX), shown);
    }

    fn rendered(value: &Value, oid: u32, bytes_max: usize) -> String {
        let mut text = String::new();
        render(value, oid, &mut text, bytes_max);
        text
    }

    #[test]
    fn values_are_shown_by_their_type() {
        check(0, 0, b"7", "'7'");
        check(0, 25, b"it's", "'it''s'");
        check(1, 23, &7i32.to_be_bytes(), "7");
        check(1, 20, &(-7i64).to_be_bytes(), "-7");
        check(1, 16, &[1], "true");
        check(1, 25, b"bob", "'bob'");
        check(1, 3802, b"\x01{}", "'{}'");
        check(1, 1082, &1i32.to_be_bytes(), "'2000-01-02'");
        check(1, 1114, &1_000_000i64.to_be_bytes(), "'2000-01-01 00:00:01'");
        assert_eq!(rendered(&Value { format: 0, bytes: None }, 23, usize::MAX), "NULL");
    }

    #[test]
    fn what_is_not_known_is_shown_as_bytes() {
        check(1, 23, &[1, 2], "\\x0102");
        check(1, 99_999, &[1, 2], "\\x0102");
        check(0, 25, &[0xff], "\\xff");
        check(7, 25, b"a", "\\x61");
    }

    #[test]
    fn a_long_value_is_shown_whole_up_to_the_bound() {
        let text = "\u{e4}'\u{202e}".repeat(50_000);
        check(
            0,
            25,
            text.as_bytes(),
            &format!("'{}'", "\u{e4}''\\u{202e}".repeat(50_000)),
        );
        let bytes = vec![0xff; 300_000];
        check(0, 25, &bytes, &format!("\\x{}", "ff".repeat(300_000)));
        for bytes in [Bytes::from(text), Bytes::from(bytes)] {
            let value = Value {
                format: 0,
                bytes: Some(bytes),
            };
            let cut = rendered(&value, 25, 100_000).len();
            assert!(cut > 100_000 && cut < 100_000 + 8 * PIECE_BYTES, "{cut}");
        }
    }
}
