//! The words of the product, as values: no I/O, no clock, no async.

pub mod access_request;
pub mod announcement;
pub mod approval;
pub mod audit;
pub mod chat_link;
pub mod directory;
pub mod display;
pub mod effect;
#[cfg(any(test, feature = "contract"))]
pub mod example;
pub mod grant;
pub mod id;
pub mod identity;
pub mod secret;
pub mod session;
pub mod ticket;

/// A moment in UTC. The domain never reads a clock: callers pass `now`.
pub type Timestamp = chrono::DateTime<chrono::Utc>;
