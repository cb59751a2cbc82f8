//! Slack.

pub mod card;
