//! The place of an event among all events of a journal.

use crate::domain::Timestamp;
use crate::domain::audit::Event;
use crate::domain::id::SessionId;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// Digits of the time, of the session, and of the number, in the text form.
const AT_DIGITS: usize = 17;
const SESSION_CHARS: usize = 36;
const SEQ_DIGITS: usize = 10;

/// The last that fit into their digits: the year 5138, and ten thousand million events of one session.
const AT_MAX: u64 = 10u64.pow(17) - 1;
const SEQ_MAX: u64 = 10u64.pow(10) - 1;

/// Where an event stands in a journal: by its time in microseconds, then its session, then its number there.
///
/// The text form (`<17 digits>.<session>.<10 digits>`) sorts by its bytes as the value sorts. It is the cursor of
/// pages, and what a store may use as its sort key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    at_micros: u64,
    session: SessionId,
    seq: u64,
}

/// The event's time or number is outside what a journal can order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {seq} of session {session} has a time before 1970 or after 5138, or a number of more than ten digits")]
pub struct NoMoment {
    session: SessionId,
    seq: u64,
}

/// The text names no place in a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it names no place in the journal")]
pub struct InvalidMoment;

impl Moment {
    /// The place behind all others.
    pub(super) const LAST: Self = Self {
        at_micros: AT_MAX,
        session: SessionId(Uuid::max()),
        seq: SEQ_MAX,
    };

    /// Finds an event's place. A journal does not accept an event that has none.
    pub fn of(event: &Event) -> Result<Self, NoMoment> {
        Self::at(event.at, event.session, event.seq)
    }

    /// The place of an event of this time, session and number.
    pub fn at(at: Timestamp, session: SessionId, seq: u64) -> Result<Self, NoMoment> {
        match u64::try_from(at.timestamp_micros()) {
            Ok(at_micros) if at_micros <= AT_MAX && seq <= SEQ_MAX => Ok(Self {
                at_micros,
                session,
                seq,
            }),
            Ok(_) | Err(_) => Err(NoMoment { session, seq }),
        }
    }

    /// The place before all events of this microsecond and later. Times that no event can have are moved to the
    /// nearest that one can.
    pub fn start_of(at: Timestamp) -> Self {
        match u64::try_from(at.timestamp_micros()) {
            Ok(at_micros) if at_micros > AT_MAX => Self::LAST,
            micros => Self {
                at_micros: micros.unwrap_or(0),
                session: SessionId(Uuid::nil()),
                seq: 0,
            },
        }
    }

    /// Microseconds since 1970.
    pub fn at_micros(&self) -> u64 {
        self.at_micros
    }

    pub fn session(&self) -> SessionId {
        self.session
    }

    pub fn seq(&self) -> u64 {
        self.seq
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, session, seq) = (self.at_micros, self.session.0.hyphenated(), self.seq);
        write!(f, "{at:0AT_DIGITS$}.{session}.{seq:0SEQ_DIGITS$}")
    }
}

impl FromStr for Moment {
    type Err = InvalidMoment;

    /// Reads the text form, and nothing that is only alike.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.');
        let (Some(at), Some(session), Some(seq), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidMoment);
        };
        let session_text = session;
        let session: SessionId = session_text.parse().map_err(|_| InvalidMoment)?;
        if session_text.len() != SESSION_CHARS || session.to_string() != session_text {
            return Err(InvalidMoment);
        }
        Ok(Self {
            at_micros: digits(at, AT_DIGITS)?,
            session,
            seq: digits(seq, SEQ_DIGITS)?,
        })
    }
}

fn digits(text: &str, count: usize) -> Result<u64, InvalidMoment> {
    if text.len() != count || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidMoment);
    }
    text.parse().map_err(|_| InvalidMoment)
}

#[cfg(test)]
mod tests {
    use super::{AT_MAX, InvalidMoment, Moment, SEQ_MAX};
    use crate::domain::audit::{Chain, Event, Happening};
    use crate::domain::example::{session, start};
    use crate::domain::id::SessionId;
    use chrono::DateTime;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn any_moment() -> impl Strategy<Value = Moment> {
        // Few times and numbers, so that ties come up, and the ends of the range.
        let at = prop_oneof![0u64..3, Just(AT_MAX), 0..=AT_MAX];
        let seq = prop_oneof![0u64..3, Just(SEQ_MAX), 0..=SEQ_MAX];
        let id = prop_oneof![0u128..3, any::<u128>()];
        (at, id, seq).prop_map(|(at_micros, id, seq)| Moment {
            at_micros,
            session: SessionId(Uuid::from_u128(id)),
            seq,
        })
    }

    proptest! {
        #[test]
        fn the_text_sorts_as_the_value_and_reads_back(one in any_moment(), other in any_moment()) {
            prop_assert_eq!(one.to_string().cmp(&other.to_string()), one.cmp(&other));
            prop_assert_eq!(one.to_string().parse(), Ok(one));
        }
    }

    #[test]
    fn only_the_text_form_itself_is_read() {
        let sound = "01767225600123456.00000000-0000-0000-0000-00000000000a.0000000007";
        assert_eq!(
            sound.parse::<Moment>().map(|moment| moment.to_string()),
            Ok(sound.to_owned())
        );
        for wrong in [
            "",
            "7",
            "..",
            "1767225600123456.00000000-0000-0000-0000-00000000000a.0000000007",
            "01767225600123456.00000000-0000-0000-0000-00000000000a.7",
            "01767225600123456.00000000-0000-0000-0000-00000000000A.0000000007",
            "01767225600123456.0000000000000000000000000000000a.0000000007",
            "01767225600123456.{00000000-0000-0000-0000-00000000000a}.0000000007",
            "+1767225600123456.00000000-0000-0000-0000-00000000000a.0000000007",
            "-1767225600123456.00000000-0000-0000-0000-00000000000a.0000000007",
            "01767225600123456.00000000-0000-0000-0000-00000000000a.0000000007.",
            " 01767225600123456.00000000-0000-0000-0000-00000000000a.0000000007",
            "0176722560012345\u{0663}.00000000-0000-0000-0000-00000000000a.0000000007",
        ] {
            assert_eq!(wrong.parse::<Moment>(), Err(InvalidMoment), "{wrong:?}");
        }
    }

    #[test]
    fn a_time_or_number_that_does_not_fit_has_no_place() {
        let mut chain = Chain::new(session(1), "gateway-1", None, None);
        let event = chain.next(start(), Happening::GatewaySent { what: String::new() });
        assert!(Moment::of(&event).is_ok());
        let before = Event {
            at: DateTime::from_timestamp_micros(-1).unwrap(),
            ..event.clone()
        };
        let late = Event {
            at: DateTime::from_timestamp_micros(10i64.pow(17)).unwrap(),
            ..event.clone()
        };
        let numerous = Event {
            seq: SEQ_MAX + 1,
            ..event
        };
        for none in [&before, &late, &numerous] {
            assert!(Moment::of(none).is_err(), "{none:?}");
        }
        assert_eq!(Moment::start_of(before.at).at_micros(), 0);
        assert_eq!(Moment::start_of(late.at), Moment::LAST);
    }
}
