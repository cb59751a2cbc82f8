//! The chats: how each draws a card.

pub mod discord;
pub mod slack;
