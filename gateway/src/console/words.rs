//! How approvals are told in words, on the command line and on pages.

use super::view::ApprovalView;
use chrono::{DateTime, SecondsFormat, Utc};
use countersign_infra::domain::approval::{State, Vote};
use countersign_infra::domain::display::escape;

/// What an approver must not miss.
pub fn warnings(view: &ApprovalView) -> Vec<&'static str> {
    let operation = &view.approval.operation;
    let all = [
        (
            !operation.has_where,
            "it changes rows without a WHERE clause, or there is none to have",
        ),
        (operation.unseen_data, "rows follow that nobody has seen"),
        (
            operation.in_transaction,
            "it waits inside an open transaction, which may hold locks",
        ),
        (
            view.approval.terms.critical,
            "critical: one vote must come from the console or the command line",
        ),
    ];
    all.into_iter()
        .filter_map(|(holds, text)| holds.then_some(text))
        .collect()
}

/// A name with the address that the issuer verified.
pub fn person(name: &str, email: Option<&str>) -> String {
    email.map_or_else(|| name.to_owned(), |email| format!("{name} <{email}>"))
}

/// One vote.
pub fn cast(vote: &Vote) -> String {
    let ballot = &vote.ballot;
    let reason = ballot
        .reason
        .as_deref()
        .map_or(String::new(), |reason| format!(": {reason}"));
    let (name, choice, via) = (&ballot.voter.name, ballot.choice.as_str(), ballot.via.as_str());
    let alike = if ballot.grants { " and what is alike" } else { "" };
    format!("{} {name} {choice}{alike} ({via}){reason}", time(vote.at))
}

/// A state with what is known of how it came about.
pub fn in_words(state: &State) -> String {
    let text = match state {
        State::Pending => "waits for votes".to_owned(),
        State::Approved { at } => format!("approved at {}", time(*at)),
        State::Denied { at, by, reason: None } => format!("denied by {} at {}", by.name, time(*at)),
        State::Denied {
            at,
            by,
            reason: Some(reason),
        } => {
            format!("denied by {} at {}: {reason}", by.name, time(*at))
        }
        State::Expired { at } => format!("expired at {}", time(*at)),
        State::Withdrawn { at, why } => format!("withdrawn at {}: {why}", time(*at)),
        State::Abandoned { at, why } => format!("abandoned at {}: {why}", time(*at)),
        State::Revoked { at, why } => format!("revoked at {}: {why}", time(*at)),
        State::Executing { at } => format!("sent at {}, no answer yet", time(*at)),
        State::Done { at, outcome } => format!("ran, answered at {}: {}", time(*at), outcome.summary),
        State::Unknown { at, why } => format!("sent, outcome not known since {}: {why}", time(*at)),
    };
    escape(&text)
}

/// A moment in UTC, to the second.
pub fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A length of time in words: `45s`, `12m`, `3h`, `9d`.
pub fn length(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        172_800.. => format!("{}d", seconds / 86_400),
    }
}

/// How long ago a moment was.
pub fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    length(u64::try_from((now - at).num_seconds()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_at_a_glance() {
        let words = [0, 119, 120, 7199, 7200, 172_799, 172_800].map(length);
        assert_eq!(words, ["0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    }
}
