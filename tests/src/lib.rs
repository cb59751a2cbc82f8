//! What needs more than one crate: the harness of the end-to-end tests, the demo and the figures.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")
)]

pub mod bot;
pub mod certificates;
pub mod chat;
pub mod chromium;
pub mod cloud;
pub mod connect;
pub mod demo;
pub mod discord;
pub mod figures;
pub mod harness;
pub mod issuer;
pub mod lambda;
pub mod mutate;
pub mod overhear;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod provider;
pub mod psql;
pub mod raw;
pub mod slack;
pub mod tap;
pub mod votes;
pub mod wait;
pub mod weather;
pub mod world;
