//! The gateway: it holds operations on the open connection until a person decides.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")
)]

pub mod app;
pub mod catalog;
pub mod cli;
pub mod console;
pub mod digests;
pub mod directory;
pub mod gate;
pub mod grants;
pub mod hold;
pub mod journal;
pub mod mask;
pub mod pace;
pub mod protocol;
pub mod record;
pub mod refusal;
pub mod ring;
pub mod serve;
pub mod sessions;
pub mod settle;
pub mod stores;
pub mod vault;
