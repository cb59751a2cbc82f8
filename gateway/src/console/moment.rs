//! Moments as people write them: `24h`, `7d`, or RFC 3339.

use super::problem::Problem;
use chrono::{DateTime, TimeDelta, Utc};
use countersign_infra::domain::Timestamp;

/// Reads a moment: a length of time before `now`, or a date and time.
pub fn moment(what: &str, text: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    ago(text)
        .and_then(|length| now.checked_sub_signed(length))
        .or_else(|| DateTime::parse_from_rfc3339(text).ok().map(|at| at.with_timezone(&Utc)))
        .ok_or_else(|| {
            let forms = "write a length of time (30m, 24h, 7d) or a date and time (2026-01-31T12:00:00Z)";
            Problem::bad_request(format!("`{what}`: {forms}"))
        })
}

fn ago(text: &str) -> Option<TimeDelta> {
    let unit = text.chars().next_back()?;
    let count: i64 = text.strip_suffix(unit)?.parse::<u32>().ok()?.into();
    match unit {
        's' => TimeDelta::try_seconds(count),
        'm' => TimeDelta::try_minutes(count),
        'h' => TimeDelta::try_hours(count),
        'd' => TimeDelta::try_days(count),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        let now: Timestamp = "2026-03-10T12:00:00Z".parse().unwrap();
        for (text, wanted) in [
            ("90s", Some("2026-03-10T11:58:30Z")),
            ("30m", Some("2026-03-10T11:30:00Z")),
            ("24h", Some("2026-03-09T12:00:00Z")),
            ("7d", Some("2026-03-03T12:00:00Z")),
            ("2026-01-31T12:00:00+02:00", Some("2026-01-31T10:00:00Z")),
            ("", None),
            ("h", None),
            ("-1h", None),
            ("1w", None),
            ("4294967295d", None),
            ("99999999999999999999h", None),
            ("yesterday", None),
            ("2026-01-31", None),
            ("5é", None),
        ] {
            let wanted = wanted.map(|at| at.parse::<Timestamp>().unwrap());
            assert_eq!(moment("since", text, now).ok(), wanted, "{text:?}");
        }
    }
}
