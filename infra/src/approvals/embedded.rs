//! The approval store in SQLite.
