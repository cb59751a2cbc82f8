//! PostgreSQL.

pub mod effects;
