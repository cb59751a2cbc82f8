//! The harness's cloud: what tests of stores stand on.

mod faults;
mod gateways;
mod harness;
mod operations;
mod recordings;
mod secrets;
mod spool;
mod stores;
mod terraform;
mod verify;
mod weather;
