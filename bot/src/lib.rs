//! The chat side: cards, decisions, audit questions.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")
)]

pub mod answer;
pub mod card;
pub mod chat;
