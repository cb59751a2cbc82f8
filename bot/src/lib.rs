//! The chat side: cards, decisions, audit questions.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")
)]

pub mod announce;
pub mod answer;
pub mod app;
pub mod card;
pub mod chat;
pub mod csv;
pub mod desk;
pub mod limits;
pub mod plan;
pub mod ring;
pub mod routes;
pub mod run;
pub mod sweep;
