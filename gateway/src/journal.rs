//! One session's journal: its only writer.
