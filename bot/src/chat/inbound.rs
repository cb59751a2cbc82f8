//! What comes in from chats, before anything is done with it: who signed it, how old it is, whether it was here before.

use axum::body::{Body, Bytes};
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::id::Digest;
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How far a signature's time may lie from ours, in either direction.
/// <https://docs.slack.dev/authentication/verifying-requests-from-slack>
pub const AGE_SECONDS_MAX: i64 = 300;

/// The largest body of a request, in bytes: chats send a few kB.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// When an answer must be on its way: chats wait 3 s for it.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(2800);

/// How long a body may take to arrive: a part of [`ANSWER_WITHIN`].
pub const BODY_WITHIN: Duration = Duration::from_secs(1);

/// Requests that are remembered at once. Only what a chat signed is remembered: some 27 a second for ten minutes.
const SEEN_MAX: usize = 16_384;

/// Why a request was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Turned {
    #[error("it is not signed")]
    Unsigned,
    #[error("its signature is older, or younger, than 5 min")]
    Stale,
    #[error("its signature is not that of its body")]
    Tampered,
    #[error("it is of a workspace or an app that is not configured")]
    Foreign,
    /// The same bytes under the same signature: no chat sends that.
    #[error("it was here before, as it is")]
    Repeated,
    /// Signed anew by the chat, which holds the first for lost.
    #[error("the chat sent it again")]
    Resent,
    #[error("it cannot be read")]
    Malformed,
    #[error("it is larger than 1 MiB, or takes longer than 1 s to arrive")]
    TooLarge,
    #[error("too many requests are remembered already")]
    TooMany,
}

impl Turned {
    const ALL: [Self; 9] = [
        Self::Unsigned,
        Self::Stale,
        Self::Tampered,
        Self::Foreign,
        Self::Repeated,
        Self::Resent,
        Self::Malformed,
        Self::TooLarge,
        Self::TooMany,
    ];

    /// What it is called among the counts.
    fn name(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Stale => "stale",
            Self::Tampered => "tampered",
            Self::Foreign => "foreign",
            Self::Repeated => "repeated",
            Self::Resent => "resent",
            Self::Malformed => "malformed",
            Self::TooLarge => "too large",
            Self::TooMany => "too many",
        }
    }
}

/// How often the counts are logged at most: whoever sends rubbish must not fill the log.
pub const COUNTS_EVERY: Duration = Duration::from_secs(60);

/// How many requests were turned away, by why.
#[derive(Debug, Default)]
pub struct Counters {
    counts: [AtomicU64; Turned::ALL.len()],
    told: Mutex<Told>,
}

/// When the counts were logged last, and what they were then.
#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    counts: [u64; Turned::ALL.len()],
}

impl Counters {
    /// Counts one. Nothing of the request is logged: it may be anybody's.
    pub fn turn_away(&self, chat: &'static str, why: Turned) {
        if let Some(counter) = self.counter(why) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        tracing::debug!(chat, %why, "a request was turned away");
        self.tell(chat, Instant::now());
    }

    /// Logs how many requests were turned away since they were logged last; nothing where that was less than a minute ago, or
    /// there were none.
    pub fn tell(&self, chat: &'static str, now: Instant) {
        if let Some(counts) = self.untold(now) {
            tracing::warn!(chat, counts, "requests were turned away");
        }
    }

    fn untold(&self, now: Instant) -> Option<String> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told
            .at
            .is_some_and(|at| now.saturating_duration_since(at) < COUNTS_EVERY)
        {
            return None;
        }
        let counts = Turned::ALL.map(|why| self.of(why));
        let before = std::mem::replace(&mut told.counts, counts);
        let counts = Turned::ALL.iter().zip(counts).zip(before);
        let more = counts.filter(|((_, count), before)| count > before);
        let more: Vec<String> = more
            .map(|((why, count), before)| format!("{} {} ({count} in all)", count - before, why.name()))
            .collect();
        if more.is_empty() {
            return None;
        }
        told.at = Some(now);
        Some(more.join(", "))
    }

    pub fn of(&self, why: Turned) -> u64 {
        self.counter(why).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    fn counter(&self, why: Turned) -> Option<&AtomicU64> {
        let mut counters = Turned::ALL.iter().zip(&self.counts);
        counters.find(|(kind, _)| **kind == why).map(|(_, counter)| counter)
    }
}

/// The raw body of a request, as its signature is of it.
pub async fn whole(body: Body) -> Result<Bytes, Turned> {
    let read = axum::body::to_bytes(body, BODY_BYTES_MAX);
    let read = tokio::time::timeout(BODY_WITHIN, read).await;
    read.map_err(|_| Turned::TooLarge)?.map_err(|_| Turned::TooLarge)
}

/// Whether a signature of that time is to be looked at.
pub fn is_fresh(signed: Timestamp, now: Timestamp) -> bool {
    (now - signed).num_milliseconds().abs() <= AGE_SECONDS_MAX * 1000
}

/// The time that a header gives in seconds.
pub fn signed_at(seconds: &str) -> Option<Timestamp> {
    let digits = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = seconds.parse().ok().filter(|_| digits)?;
    Timestamp::from_timestamp(seconds, 0)
}

/// The requests of the last minutes. What is older than [`AGE_SECONDS_MAX`] is refused for its age.
///
/// Each replica remembers its own: what reaches two of them is done twice, and changes nothing the second time, as votes
/// and commands are made so that they may be repeated.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    order: VecDeque<(Timestamp, Digest)>,
    known: HashSet<Digest>,
}

impl Seen {
    /// Remembers a request whose signature was found good. Its signature may be of a moment ahead of us, so that it stays
    /// good for twice the time.
    pub fn remember(&self, request: Digest, now: Timestamp) -> Result<(), Turned> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.forget(now);
        if memory.known.contains(&request) {
            return Err(Turned::Repeated);
        }
        if memory.order.len() >= SEEN_MAX {
            return Err(Turned::TooMany);
        }
        memory.known.insert(request);
        memory.order.push_back((now, request));
        Ok(())
    }
}

impl Memory {
    fn forget(&mut self, now: Timestamp) {
        while let Some((arrived, request)) = self.order.front().copied() {
            if (now - arrived).num_seconds() <= 2 * AGE_SECONDS_MAX {
                return;
            }
            self.order.pop_front();
            self.known.remove(&request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_infra::domain::example::at;

    #[test]
    fn a_signature_is_good_for_five_minutes_either_way() {
        for (seconds, fresh) in [(-301, false), (-300, true), (0, true), (300, true), (301, false)] {
            assert_eq!(is_fresh(at(seconds), at(0)), fresh, "{seconds} s");
        }
    }

    #[test]
    fn only_a_plain_number_is_a_time() {
        assert_eq!(
            signed_at("1767225600").map(|time| time.timestamp()),
            Some(1_767_225_600)
        );
        for text in [
            "",
            "-5",
            "+5",
            " 5",
            "5 ",
            "5.0",
            "1e9",
            "99999999999999999999",
            "9223372036854775807",
            "٣",
        ] {
            assert_eq!(signed_at(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_request_is_new_once_while_its_signature_is_good() {
        let seen = Seen::default();
        let [first, second] = [b"1", b"2"].map(|bytes| Digest::of(bytes));
        assert_eq!(seen.remember(first, at(0)), Ok(()));
        assert_eq!(seen.remember(second, at(1)), Ok(()));
        assert_eq!(seen.remember(first, at(600)), Err(Turned::Repeated));
        assert_eq!(seen.remember(first, at(601)), Ok(()), "too old to be good");
        assert_eq!(seen.remember(second, at(601)), Err(Turned::Repeated));
    }

    #[test]
    fn a_full_memory_takes_nothing_new_and_forgets_nothing() {
        let seen = Seen::default();
        let digest = |number: usize| Digest::of(&number.to_be_bytes());
        for number in 0..SEEN_MAX {
            assert_eq!(seen.remember(digest(number), at(0)), Ok(()));
        }
        assert_eq!(seen.remember(digest(SEEN_MAX), at(1)), Err(Turned::TooMany));
        assert_eq!(seen.remember(digest(0), at(1)), Err(Turned::Repeated));
        assert_eq!(seen.remember(digest(SEEN_MAX), at(601)), Ok(()));
    }

    #[test]
    fn each_kind_is_counted_for_itself() {
        let counters = Counters::default();
        counters.turn_away("slack", Turned::Stale);
        counters.turn_away("slack", Turned::Stale);
        counters.turn_away("slack", Turned::TooMany);
        let counted = Turned::ALL.map(|why| counters.of(why));
        assert_eq!(counted, [0, 2, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn the_counts_are_told_at_once_and_then_once_a_minute_while_there_are_more() {
        let (counters, now) = (Counters::default(), Instant::now());
        let count = |why| counters.counter(why).unwrap().fetch_add(1, Ordering::Relaxed);
        assert_eq!(counters.untold(now), None);
        count(Turned::Stale);
        assert_eq!(counters.untold(now).as_deref(), Some("1 stale (1 in all)"));
        count(Turned::Stale);
        count(Turned::Repeated);
        assert_eq!(counters.untold(now + COUNTS_EVERY / 2), None);
        let told = counters.untold(now + COUNTS_EVERY);
        assert_eq!(told.as_deref(), Some("1 stale (2 in all), 1 repeated (1 in all)"));
        assert_eq!(counters.untold(now + COUNTS_EVERY * 3), None);
    }
}
