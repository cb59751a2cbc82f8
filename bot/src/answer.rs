//! What the transports of every chat hand over, and get back.

use crate::chat::{Answer, Request};
use async_trait::async_trait;

/// Answers what people do in chats.
#[async_trait]
pub trait Answers: Send + Sync + 'static {
    /// Answers within 2.5 s as a function, and within 25 s as a program that stays and can bring an answer later. A decision is
    /// written first, cards are drawn anew after the answer. Never fails: what cannot be done is said.
    async fn answer(&self, request: Request) -> Answer;
}
