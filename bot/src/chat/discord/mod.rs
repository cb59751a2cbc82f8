//! Discord.

pub mod card;
