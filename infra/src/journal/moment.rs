//! temp
use crate::domain::Timestamp;
use crate::domain::audit::Event;
use crate::domain::id::SessionId;
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    pub at: Timestamp,
    pub session: SessionId,
    pub seq: u64,
}
impl Moment {
    pub fn of(event: &Event) -> Self {
        Self {
            at: event.at,
            session: event.session,
            seq: event.seq,
        }
    }
    pub fn start_of(at: Timestamp) -> String {
        format!("{:017}", at.timestamp_micros())
    }
}
impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:017}.{}.{:010}",
            self.at.timestamp_micros(),
            self.session,
            self.seq
        )
    }
}
impl std::str::FromStr for Moment {
    type Err = ();
    fn from_str(t: &str) -> Result<Self, ()> {
        let mut p = t.split('.');
        let at = chrono::DateTime::from_timestamp_micros(p.next().ok_or(())?.parse().map_err(|_| ())?).ok_or(())?;
        let session = p.next().ok_or(())?.parse().map_err(|_| ())?;
        let seq = p.next().ok_or(())?.parse().map_err(|_| ())?;
        Ok(Self { at, session, seq })
    }
}
