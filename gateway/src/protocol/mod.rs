//! The protocols that the gateway speaks.

pub mod postgres;
