//! Values of columns and parameters as text: by their type where that is known, else as text or hexadecimal.

use countersign_infra::domain::display::escape;

/// Longest value that is shown whole, in characters.
const VALUE_CHARS_MAX: usize = 2000;

/// A value as it stands in a table: on one line.
pub fn cell(kind: u32, is_binary: bool, bytes: &[u8]) -> String {
    let text = text(kind, is_binary, bytes);
    cut(&text.replace('\n', "\\n").replace('\t', "\\t"))
}

/// A value as it stands in a sentence.
pub fn quoted(kind: u32, is_binary: bool, bytes: &[u8]) -> String {
    let text = cell(kind, is_binary, bytes);
    if text.parse::<f64>().is_ok() || text.starts_with("\\x") {
        return text;
    }
    format!("'{}'", text.replace('\'', "''"))
}

/// Bytes of which nothing is known.
pub fn text_or_hex(bytes: &[u8]) -> String {
    cut(&text(0, false, bytes))
}

fn text(kind: u32, is_binary: bool, bytes: &[u8]) -> String {
    let decoded = if is_binary { binary(kind, bytes) } else { None };
    decoded.unwrap_or_else(|| match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => escape(text),
        Ok(_) | Err(_) => format!("\\x{}", hex::encode(bytes)),
    })
}

/// The binary form of the types that are short and usual; their OIDs are fixed (`pg_type.dat`).
fn binary(kind: u32, bytes: &[u8]) -> Option<String> {
    Some(match kind {
        16 => match bytes {
            [0] => "f".to_owned(),
            [1] => "t".to_owned(),
            _ => return None,
        },
        20 => i64::from_be_bytes(bytes.try_into().ok()?).to_string(),
        21 => i16::from_be_bytes(bytes.try_into().ok()?).to_string(),
        23 => i32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        26 => u32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        700 => f32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        701 => f64::from_be_bytes(bytes.try_into().ok()?).to_string(),
        1082 => date(i32::from_be_bytes(bytes.try_into().ok()?))?,
        1114 => moment(i64::from_be_bytes(bytes.try_into().ok()?))?,
        1184 => format!("{}Z", moment(i64::from_be_bytes(bytes.try_into().ok()?))?),
        2950 => uuid::Uuid::from_bytes(bytes.try_into().ok()?).to_string(),
        // Texts have one form only.
        18 | 19 | 25 | 114 | 1042 | 1043 => return None,
        // What looks like text by chance is not shown as one.
        _ => format!("\\x{}", hex::encode(bytes)),
    })
}

/// Days since 2000-01-01.
fn date(days: i32) -> Option<String> {
    let epoch = chrono::NaiveDate::from_ymd_opt(2000, 1, 1)?;
    let date = epoch.checked_add_signed(chrono::TimeDelta::try_days(i64::from(days))?)?;
    Some(date.to_string())
}

/// Microseconds since 2000-01-01.
fn moment(micros: i64) -> Option<String> {
    let epoch = chrono::NaiveDate::from_ymd_opt(2000, 1, 1)?.and_hms_opt(0, 0, 0)?;
    let moment = epoch.checked_add_signed(chrono::TimeDelta::microseconds(micros))?;
    Some(moment.to_string())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => {
            let more = text.chars().count() - VALUE_CHARS_MAX;
            format!("{}… ({more} characters more)", text.get(..end).unwrap_or_default())
        }
        None => text.to_owned(),
    }
}
