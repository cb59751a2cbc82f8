//! Moments as callers write them: `24h`, `7d`, or RFC 3339.

use super::problem::Problem;
use countersign_infra::domain::Timestamp;
use countersign_infra::journal::words::{WordsError, time};

/// Reads a moment: a length of time before `now`, or a date and time.
pub fn moment(what: &'static str, text: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    time(text, now).ok_or_else(|| Problem::bad_request(WordsError::NoTime(what)))
}
