//! The harness's cloud: what tests of stores stand on.

mod harness;
