//! The harness's cloud: what tests of stores stand on.

mod harness;
mod recordings;
mod spool;
mod terraform;
mod weather;
