//! Bound values as people read them.

use super::batch::Value;
use chrono::{DateTime, NaiveDate, TimeDelta};
use countersign_infra::domain::display::escape;

/// Longest rendering of one value on a card; the exact bytes are in the digest whatever is shown.
const VALUE_CHARS_MAX: usize = 4096;

/// Renders a bound value by its format and type. What is not known is shown as hexadecimal bytes.
pub fn render(value: &Value, oid: u32) -> String {
    let Some(bytes) = &value.bytes else {
        return "NULL".to_owned();
    };
    let text = match value.format {
        0 => std::str::from_utf8(bytes).ok().map(quoted),
        1 => binary(bytes, oid),
        _ => None,
    };
    let text = text.unwrap_or_else(|| format!("\\x{}", hex::encode(bytes)));
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!(
            "{}... ({} bytes in all)",
            text.get(..end).unwrap_or_default(),
            bytes.len()
        ),
        None => text,
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", escape(&text.replace('\'', "''")))
}

/// <https://www.postgresql.org/docs/current/catalog-pg-type.html>: OIDs of the built-in types are fixed.
fn binary(bytes: &[u8], oid: u32) -> Option<String> {
    match oid {
        16 => match bytes {
            [0] => Some("false".to_owned()),
            [1] => Some("true".to_owned()),
            _ => None,
        },
        21 => Some(i16::from_be_bytes(bytes.try_into().ok()?).to_string()),
        23 => Some(int4(bytes)?.to_string()),
        20 => Some(int8(bytes)?.to_string()),
        26 => Some((int4(bytes)? as u32).to_string()),
        700 => Some(f32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        701 => Some(f64::from_be_bytes(bytes.try_into().ok()?).to_string()),
        18 | 19 | 25 | 114 | 142 | 1042 | 1043 => std::str::from_utf8(bytes).ok().map(quoted),
        3802 => bytes
            .strip_prefix(&[1])
            .and_then(|json| std::str::from_utf8(json).ok())
            .map(quoted),
        2950 => uuid::Uuid::from_slice(bytes).ok().map(|uuid| format!("'{uuid}'")),
        1082 => epoch_date()?
            .checked_add_signed(TimeDelta::try_days(int4(bytes)?.into())?)
            .map(|day| format!("'{day}'")),
        1114 => timestamp(bytes).map(|at| format!("'{}'", at.naive_utc())),
        1184 => timestamp(bytes).map(|at| format!("'{}'", at.to_rfc3339())),
        _ => None,
    }
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
        assert_eq!(render(&value, oid), shown);
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
        assert_eq!(render(&Value { format: 0, bytes: None }, 23), "NULL");
    }

    #[test]
    fn what_is_not_known_is_shown_as_bytes() {
        check(1, 23, &[1, 2], "\\x0102");
        check(1, 99_999, &[1, 2], "\\x0102");
        check(0, 25, &[0xff], "\\xff");
        check(7, 25, b"a", "\\x61");
    }
}
