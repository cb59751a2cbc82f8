//! What needs more than one crate: the harness of the end-to-end tests, and the demo.
