//! The harness's cloud: what tests of stores stand on.

mod gateways;
mod harness;
mod stores;
mod weather;
