//! The announcement of an approval: which messages of which chats show it, so that any replica of the bot, after any
//! restart, brings every one of them up to date and posts none twice.

use super::Timestamp;
use super::chat_link::ChatPlatform;
use super::id::{ApprovalId, Digest};
use serde::{Deserialize, Serialize};

/// Messages of one announcement.
pub const POSTS_MAX: usize = 64;

/// The stored record of one announcement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    pub approval: ApprovalId,
    /// Counts the changes of the record.
    pub version: u64,
    /// When the approval was opened.
    pub created: Timestamp,
    pub posts: Vec<Post>,
    /// Who posts at present: of two bots at once, one does.
    pub turn: Option<Turn>,
    /// When somebody should look again, though nothing changes (a reminder, an escalation, a turn that nobody ended); none
    /// once there is nothing left to do.
    pub due: Option<Timestamp>,
}

/// One replica of the bot works on an announcement until then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Random, for each piece of work.
    pub bot: u64,
    pub until: Timestamp,
}

/// What a message is for. One of each kind in one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PostKind {
    /// The card.
    Card,
    /// How it ended, in the thread of the card.
    Outcome,
    /// So many reminders came before, in the thread of the card.
    Reminder { number: u32 },
}

/// Where a message stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Room {
    pub platform: ChatPlatform,
    /// Slack's team, Discord's guild.
    pub team: String,
    /// A channel, or the person of a direct message.
    pub channel: String,
    pub is_direct: bool,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    pub room: Room,
    #[serde(flatten)]
    pub kind: PostKind,
    #[serde(flatten)]
    pub state: PostState,
    /// When it may have been posted by somebody who did not write down that it was; none once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<Span>,
}

/// A time from one moment to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// How far a message has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PostState {
    /// Written before it is posted: it may be there already, if whoever posted it lost the answer.
    Posting,
    Posted {
        message: MessageRef,
        /// The hash of what it shows.
        shows: Digest,
    },
    /// The chat does not take it (no such channel, not invited, no valid token) until somebody has seen to that.
    Refused {
        why: String,
        /// When it is tried again; none: as soon as somebody looks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        again: Option<Timestamp>,
        /// The message that stands there as it was before, where only its change was refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<MessageRef>,
    },
}

/// A message as the chat calls it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRef {
    /// The channel where it stands: a direct message has one of its own.
    pub channel: String,
    pub message: String,
}

impl Announcement {
    /// An announcement that nothing has been posted of.
    pub fn new(approval: ApprovalId, created: Timestamp) -> Self {
        Self {
            approval,
            version: 0,
            created,
            posts: Vec::new(),
            turn: None,
            due: None,
        }
    }

    /// The message of this kind in this room.
    pub fn post(&self, room: &Room, kind: PostKind) -> Option<&Post> {
        self.posts.iter().find(|post| post.room == *room && post.kind == kind)
    }

    /// Whether somebody else works on it.
    pub fn is_taken(&self, now: Timestamp) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.until > now)
    }

    /// How many cards stand in chats.
    pub fn cards(&self) -> usize {
        let stands = |post: &&Post| post.kind == PostKind::Card && matches!(post.state, PostState::Posted { .. });
        self.posts.iter().filter(stands).count()
    }
}
