//! Frames of Discord's gateway, and the heartbeat between them.
//! <https://discord.com/developers/docs/events/gateway-events#payload-structure>

use countersign_infra::backoff::Backoff;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// The bounds within which a heartbeat is believed; Discord asks for one every 41 s.
const INTERVAL_MIN: Duration = Duration::from_millis(50);
const INTERVAL_MAX: Duration = Duration::from_secs(300);

/// What Discord sends. Read as far as it is needed: the models of `serenity` make an unknown event of one that has a field
/// too many, and its interaction would be lost.
#[derive(Debug, Deserialize)]
pub(super) struct Frame {
    pub op: u8,
    #[serde(default)]
    pub d: Value,
    pub s: Option<u64>,
    pub t: Option<String>,
}

impl Frame {
    pub(super) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// How often Discord wants to hear from the bot; none if it is no hello.
    pub(super) fn interval(&self) -> Option<Duration> {
        let millis = self
            .d
            .get("heartbeat_interval")
            .and_then(Value::as_u64)
            .filter(|_| self.op == 10)?;
        Some(Duration::from_millis(millis).clamp(INTERVAL_MIN, INTERVAL_MAX))
    }
}

/// What a session goes on with, over another connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resume {
    pub url: String,
    session: String,
    pub sequence: u64,
}

impl Resume {
    /// What READY says of the session.
    pub(super) fn of(frame: &Frame) -> Option<Self> {
        let text = |name: &str| frame.d.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            url: text("resume_gateway_url")?,
            session: text("session_id")?,
            sequence: frame.s?,
        })
    }

    pub(super) fn frame(&self, token: &str) -> Value {
        json!({"op": 6, "d": {"token": token, "session_id": self.session, "seq": self.sequence}})
    }
}

/// When to tell Discord that the bot is there, and whether Discord is. The first time after a random part of the interval,
/// so that not all bots come back at once.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    due: Instant,
    is_answered: bool,
}

impl Heartbeat {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            due: now + Backoff::new(interval, interval).pause(),
            is_answered: true,
        }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Whether to send one: not if the last one was never answered, for then nobody is there.
    pub(super) fn beat(&mut self, now: Instant) -> bool {
        self.due = now + self.interval;
        std::mem::take(&mut self.is_answered)
    }

    pub(super) fn answered(&mut self) {
        self.is_answered = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_says_how_often_and_not_too_often() {
        let interval = |text: &str| Frame::read(text)?.interval();
        for (millis, taken) in [(41_250, 41_250), (0, 50), (u64::MAX, 300_000)] {
            let hello = json!({"op": 10, "d": {"heartbeat_interval": millis}}).to_string();
            assert_eq!(interval(&hello), Some(Duration::from_millis(taken)));
        }
        for other in [
            "",
            "{}",
            "[]",
            "{\"op\":10}",
            "{\"op\":11,\"d\":{\"heartbeat_interval\":5}}",
            "{\"op\":10,\"d\":5}",
        ] {
            assert_eq!(interval(other), None, "{other}");
        }
    }

    #[test]
    fn a_session_goes_on_with_what_ready_said() {
        let ready = json!({"op": 0, "s": 1, "t": "READY", "d": {"session_id": "s1", "resume_gateway_url": "wss://x"}});
        let resume = Resume::of(&Frame::read(&ready.to_string()).unwrap()).unwrap();
        let expected = json!({"op": 6, "d": {"token": "t", "session_id": "s1", "seq": 1}});
        assert_eq!((resume.frame("t"), resume.url.as_str()), (expected, "wss://x"));
    }

    #[test]
    fn a_heartbeat_that_nobody_answers_is_the_last() {
        let (start, interval) = (Instant::now(), Duration::from_secs(40));
        let mut heart = Heartbeat::new(interval, start);
        assert!(heart.due() <= start + interval);
        assert!(heart.beat(start));
        assert_eq!(heart.due(), start + interval);
        heart.answered();
        assert!(heart.beat(start));
        assert!(!heart.beat(start));
    }
}
