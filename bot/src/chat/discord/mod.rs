//! Discord.

pub mod card;
mod client;
#[cfg(test)]
mod example;
mod frame;
pub mod gateway;
mod guild;
pub mod http;
mod intake;
mod permissions;
mod register;
mod request;
mod respond;
mod rest;
mod say;

pub use client::DiscordChat;
pub use guild::{DiscordGuild, GuildError};
pub use intake::DiscordIntake;
pub use register::{Registered, commands};
