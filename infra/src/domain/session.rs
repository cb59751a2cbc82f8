//! A session: one client's connection from sign-in to its end.

use super::Timestamp;
use super::access_request::{Client, Protocol};
use super::id::{RunId, SessionId};
use super::identity::Person;
use serde::{Deserialize, Serialize};

/// Which session of which run of its gateway: counts from 0 without a gap, so that a missing session shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionNumber {
    pub run: RunId,
    pub number: u64,
}

/// What is known of a session when it opens. The first frame of its recording and its first journal event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionHeader {
    pub id: SessionId,
    pub gateway: String,
    pub number: SessionNumber,
    pub protocol: Protocol,
    pub person: Person,
    pub client: Client,
    pub target: String,
    pub database: String,
    /// The upstream role at the start.
    pub role: String,
    pub opened: Timestamp,
}
