//! The tests that need more than one crate, as one binary. A module per subject.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod api;
mod audited;
mod bad_input;
mod cards;
mod chat;
mod chat_peers;
mod cloud;
mod configuration;
mod crashes;
mod deciders;
mod exports;
mod function;
mod granted;
mod identity;
mod invariants;
mod login;
mod malformed;
mod pages;
mod recording;
mod ring;
mod story;
mod tidy;
mod transports;
mod whole;
mod wire;
