//! The chats: what the bot asks of each workspace, and what people do there.

use crate::card::Card;
use async_trait::async_trait;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::announcement::{MessageRef, PostKind, Room, Span};
use countersign_infra::domain::chat_link::{ChatAccount, ChatPlatform};
use countersign_infra::domain::id::{ApprovalId, Digest};
use std::time::Duration;
use url::Url;

pub mod discord;
#[cfg(test)]
mod example;
pub mod inbound;
mod reception;
pub mod slack;
pub mod tls;

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Card(Box<Card>),
    /// One line, for eyes: never read as markup.
    Note(String),
}

/// Where a message goes, and what it is known by.
#[derive(Clone, Copy, Debug)]
pub struct To<'a> {
    pub room: &'a Room,
    /// The message in whose thread it stands.
    pub thread: Option<&'a MessageRef>,
    pub approval: &'a ApprovalId,
    pub kind: PostKind,
}

/// Why a chat did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// It will not do it later either: no such channel, not invited, the message is gone.
    #[error("{0}")]
    Refused(String),
    /// Nothing was done; it may be asked again after that time.
    #[error("asked too often: try again in {} s", after.as_secs())]
    TooOften { after: Duration },
    /// Whether it was done is not known: no answer, or one that says nothing of it.
    #[error("{0}")]
    Unsure(String),
}

/// An account as the workspace knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What people read.
    pub name: String,
    /// Confirmed by the workspace.
    pub email: Option<String>,
    /// A guest, a bot, a member of another organisation: nobody who decides here.
    pub outsider: Option<&'static str>,
}

/// One workspace: a team of Slack, a guild of Discord. Each request to it ends within 10 s; a call may take several.
#[async_trait]
pub trait Chat: Send + Sync + 'static {
    fn platform(&self) -> ChatPlatform;

    /// Slack's team, Discord's guild.
    fn team(&self) -> &str;

    /// The hash of a message as this chat draws it: what stands there already is not drawn again.
    fn digest(&self, content: &Content) -> Digest;

    async fn post(&self, to: &To<'_>, content: &Content) -> Result<MessageRef, ChatError>;

    /// The message that an earlier call posted and lost the answer of, if it did; looked for among those of that time, and
    /// a minute before and after, as clocks differ. `Refused` where there are more than are looked through: then nobody
    /// knows whether it was posted.
    async fn find(&self, to: &To<'_>, tried: Span) -> Result<Option<MessageRef>, ChatError>;

    async fn update(&self, message: &MessageRef, content: &Content) -> Result<(), ChatError>;

    async fn profile(&self, user: &str) -> Result<Profile, ChatError>;

    /// Looks that the workspace's credentials work and are allowed what the bot does; says what is missing.
    async fn check(&self) -> Result<(), ChatError>;
}

/// What somebody did in a chat. Its signature was checked before it was read.
#[derive(Clone, Debug)]
pub struct Request {
    pub account: ChatAccount,
    /// The same person's accounts in other workspaces, of any of which the request may be: empty but for direct messages to a
    /// bot that serves several.
    pub or_of: Vec<ChatAccount>,
    /// What the chat calls the account: for eyes.
    pub name: String,
    pub ask: Ask,
    pub evidence: Evidence,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A card's button. `action` as [`crate::card::Button::action`] names it.
    Press { action: String, approval: String },
    /// The reason of a denial was sent off.
    Reason { approval: String, reason: String },
    /// What follows `/countersign`.
    Command { text: String },
    /// A button below an answer: the opaque id of what it leads to.
    Page { ticket: String },
}

/// What proves that the chat sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// SHA-256 of the raw payload.
    pub payload: Digest,
    /// When the chat signed it; none for what came over a connection that the bot opened.
    pub signed: Option<Timestamp>,
}

/// What the person gets to see. Nobody else does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The card says it all.
    Silent,
    Say(Box<Say>),
    /// A form that asks for the reason of a denial.
    AskReason {
        approval: ApprovalId,
    },
}

/// An answer in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Say {
    /// Lines for eyes: never read as markup.
    pub text: String,
    /// Drawn with letters of one width.
    pub table: Option<String>,
    /// Links for this person alone.
    pub links: Vec<(String, Url)>,
    /// Labels, and the opaque ids of what they lead to.
    pub buttons: Vec<(String, String)>,
    /// A card, as the channel shows it.
    pub card: Option<Box<Card>>,
    pub file: Option<File>,
}

/// A file beside an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub name: String,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn say(text: impl Into<String>) -> Self {
        let text = text.into();
        Self::Say(Box::new(Say { text, ..Say::default() }))
    }
}

/// A text of so many characters at most; one that was cut says so.
pub(crate) fn cut(text: &str, chars_max: usize) -> String {
    const CUT: &str = "...";
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let head = text.chars().take(chars_max.saturating_sub(CUT.len()));
    head.chain(CUT.chars()).collect()
}
