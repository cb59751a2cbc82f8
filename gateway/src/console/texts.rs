//! Bounds on the texts that callers send.

use super::problem::Problem;
use chrono::NaiveDate;
use countersign_infra::domain::id::{ApprovalId, SessionId};

/// Longest reason of a vote, in characters.
pub const REASON_CHARS_MAX: usize = 500;
/// Longest value of a filter, in characters.
pub const FILTER_CHARS_MAX: usize = 200;

/// Reads an approval's number from a path.
pub fn approval_id(text: &str) -> Result<ApprovalId, Problem> {
    text.parse().map_err(Problem::bad_request)
}

/// Reads a session's id from a path.
pub fn session_id(text: &str) -> Result<SessionId, Problem> {
    let wrong = |_| Problem::bad_request("a session's id is a UUID, like 01890a5d-ac96-774b-bcce-b302099a8057");
    text.parse().map_err(wrong)
}

/// Reads a day.
pub fn day(text: &str) -> Result<NaiveDate, Problem> {
    let wrong = |_| Problem::bad_request("a day is written like 2026-01-31");
    text.parse().map_err(wrong)
}

/// Refuses a text that is too long, or that could rearrange what people read (control and bidi characters).
pub fn plain(what: &str, text: &str, chars_max: usize) -> Result<(), Problem> {
    if text.chars().count() > chars_max {
        return Err(Problem::bad_request(format!(
            "`{what}` is longer than {chars_max} characters"
        )));
    }
    if text.chars().any(rearranges) {
        let why = format!("`{what}` holds control characters or line breaks: write it as one plain line");
        return Err(Problem::bad_request(why));
    }
    Ok(())
}

/// Control characters, and the bidirectional controls of UAX #9.
fn rearranges(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_could_mislead_a_reader_is_refused() {
        for (text, good) in [
            ("looks fine, ticket 12", true),
            ("schöne Grüße 👍🏽 שלום", true),
            ("two\r\nlines", false),
            ("bell\u{7}", false),
            ("esc\u{1b}[31m", false),
            ("right-to-left \u{202e} override", false),
            ("isolate \u{2067}", false),
            ("line separator \u{2028}", false),
            (&"x".repeat(REASON_CHARS_MAX), true),
            (&"x".repeat(REASON_CHARS_MAX + 1), false),
        ] {
            assert_eq!(plain("reason", text, REASON_CHARS_MAX).is_ok(), good, "{text:?}");
        }
    }
}
