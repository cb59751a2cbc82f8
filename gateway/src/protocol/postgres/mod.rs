//! PostgreSQL.

pub mod batch;
pub mod connection;
pub mod effects;
pub mod inbound;
pub mod message;
pub mod operation;
pub mod outbound;
pub mod reply;
pub mod session;
pub mod startup;
pub mod upstream;
pub mod values;
pub mod web;
pub mod wire;
