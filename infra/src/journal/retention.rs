//! How long a journal keeps what it was told.

use crate::domain::Timestamp;
use crate::domain::id::SessionId;
use chrono::{NaiveTime, TimeDelta};

/// A session is kept whole for so long after its start and the retention behind that: no event of a session that lasts
/// no longer is read without those before it. Of one that lasts longer the late events outlive the rest; only searches
/// find them then.
pub const SESSION_MAX: TimeDelta = TimeDelta::days(7);

/// For how long events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention(TimeDelta);

impl Retention {
    pub fn new(kept: TimeDelta) -> Self {
        Self(kept)
    }

    pub fn days(self) -> i64 {
        self.0.num_days()
    }

    /// When an event may be deleted. The same for all of a session's events, but those that come later than
    /// [`SESSION_MAX`] after its start; never sooner than the retention after the event.
    pub fn end_of(self, session: SessionId, at: Timestamp) -> Timestamp {
        let begun = session.made().unwrap_or(at);
        let from = begun.checked_add_signed(SESSION_MAX).unwrap_or(begun).max(at);
        from.checked_add_signed(self.0).unwrap_or(Timestamp::MAX_UTC)
    }

    /// Whether a session's first event may be deleted: then the session is gone whole.
    pub fn is_over(self, session: SessionId, now: Timestamp) -> bool {
        session.made().is_some_and(|made| self.end_of(session, made) <= now)
    }

    /// The start of the first day of which everything is kept.
    pub fn whole_since(self, now: Timestamp) -> Timestamp {
        let Some(border) = now.checked_sub_signed(self.0) else {
            return Timestamp::MIN_UTC;
        };
        let midnight = border.date_naive().and_time(NaiveTime::MIN).and_utc();
        match midnight < border {
            true => midnight.checked_add_signed(TimeDelta::days(1)).unwrap_or(midnight),
            false => midnight,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::example::session;
    use chrono::DateTime;
    use uuid::Uuid;

    const DAY: i64 = 24 * 3600;

    fn day(day: i64) -> Timestamp {
        DateTime::from_timestamp(1_767_225_600 + day * DAY, 0).unwrap()
    }

    fn begun(at: Timestamp) -> SessionId {
        let seconds = u64::try_from(at.timestamp()).unwrap();
        SessionId(Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0)))
    }

    #[test]
    fn no_event_outlives_the_one_before_it_while_a_session_is_no_longer_than_it_may() {
        let retention = Retention::new(TimeDelta::days(30));
        for (at, end) in [(0, 37), (6, 37), (7, 37), (8, 38), (90, 120)] {
            assert_eq!(retention.end_of(begun(day(0)), day(at)), day(end), "on day {at}");
        }
        // An id that tells no time.
        assert_eq!(retention.end_of(session(1), day(3)), day(40));
    }

    #[test]
    fn a_session_is_over_when_its_first_event_is() {
        let retention = Retention::new(TimeDelta::days(30));
        for (now, is_over) in [(36, false), (37, true), (100, true)] {
            assert_eq!(retention.is_over(begun(day(0)), day(now)), is_over, "on day {now}");
        }
        assert!(!retention.is_over(session(1), day(1000)));
    }

    #[test]
    fn a_day_is_whole_when_its_first_moment_is_kept() {
        let retention = Retention::new(TimeDelta::days(30));
        let second = TimeDelta::seconds(1);
        assert_eq!(retention.whole_since(day(40)), day(10));
        assert_eq!(retention.whole_since(day(40) + second), day(11));
        assert_eq!(retention.whole_since(day(40) - second), day(10));
    }
}
