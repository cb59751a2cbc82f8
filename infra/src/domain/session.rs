//! A session: one client's connection from sign-in to its end.

use super::Timestamp;
use super::access_request::{Client, Protocol};
use super::id::SessionId;
use super::identity::Person;
use serde::{Deserialize, Serialize};

/// What is known of a session when it opens. The first frame of its recording and its first journal event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionHeader {
    pub id: SessionId,
    pub gateway: String,
    pub protocol: Protocol,
    pub person: Person,
    pub client: Client,
    pub target: String,
    pub database: String,
    /// The upstream role at the start.
    pub role: String,
    pub opened: Timestamp,
}
