//! Slack.

mod api;
pub mod card;
mod client;
#[cfg(test)]
mod example;
pub mod http;
mod intake;
#[cfg(test)]
mod manifest;
mod request;
mod respond;
pub mod say;
pub mod socket;
mod workspace;

pub use client::{EMAIL_SCOPE, SCOPES, SlackChat};
pub use intake::SlackIntake;
pub use workspace::SlackWorkspace;
