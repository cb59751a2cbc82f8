//! The floor that the gateway and the bot stand on: the domain's words, the stores where the two programs
//! meet, the checks of who is asking, and what both read at their start: the configuration and the policy.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")
)]

pub mod announcements;
pub mod approvals;
pub mod aws;
pub mod backoff;
pub mod chat_links;
pub mod config;
#[cfg(any(test, feature = "contract"))]
pub mod crash;
pub mod directory;
pub mod domain;
pub mod dynamodb;
pub mod embedded;
#[cfg(any(test, feature = "contract"))]
pub mod flaky;
pub mod grants;
pub mod identity;
pub mod journal;
pub mod operations;
pub mod policy;
pub mod recordings;
pub mod ring;
pub mod serve;
pub mod stores;
pub mod table;
pub mod telemetry;
pub mod tickets;
