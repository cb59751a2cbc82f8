//! From what was heard to the answer, whichever way it came.

use super::client::SlackChat;
use super::request::{Heard, Origin};
use crate::answer::Answers;
use crate::chat::inbound::{Counters, Turned};
use crate::chat::reception::Reception;
use crate::chat::{Evidence, Request, Say};
use countersign_infra::domain::chat_link::{ChatAccount, ChatPlatform};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What is left to be said where a request came from, once it is answered.
pub(super) type Left = oneshot::Receiver<Option<Say>>;

/// All workspaces, and who answers there. Shared by both ways in.
pub struct SlackIntake {
    pub(super) chats: Vec<Arc<SlackChat>>,
    pub(super) reception: Reception,
}

impl SlackIntake {
    pub fn new(chats: Vec<Arc<SlackChat>>, answers: Arc<dyn Answers>) -> Arc<Self> {
        let reception = Reception::new("slack", answers);
        Arc::new(Self { chats, reception })
    }

    /// How many requests were turned away, by why.
    pub fn counters(&self) -> &Counters {
        &self.reception.counters
    }

    /// Logs how many requests were turned away, if it is time for that.
    pub fn tell_counts(&self) {
        self.reception.tell_counts();
    }

    /// Waits for the answers that are worked on. To be called once nothing comes in any more.
    pub async fn drain(&self, within: Duration) {
        self.reception.drain(within).await;
    }

    /// Starts to answer, in a task of its own: whoever asked may not wait long enough, and a decision must not be broken
    /// off. What is left to be said comes back; once nobody listens for it any more, it is told by itself.
    pub(super) fn answer(&self, chat: &Arc<SlackChat>, heard: Heard, evidence: Evidence) -> Result<Left, Turned> {
        let (told, left) = oneshot::channel();
        let Some(ask) = heard.ask else {
            drop(told);
            return Ok(left);
        };
        let place = self.reception.place()?;
        let request = Request {
            account: ChatAccount {
                platform: ChatPlatform::Slack,
                team: heard.team,
                user: heard.reply.user.clone(),
            },
            or_of: Vec::new(),
            name: heard.name,
            ask,
            evidence,
        };
        let (chat, answer) = (Arc::clone(chat), self.reception.answering(request));
        let (origin, reply) = (heard.origin, heard.reply);
        self.reception.tasks.spawn(async move {
            let _place = place;
            let left = chat.act(&reply, answer.await).await;
            let unheard = match (origin, left) {
                (Origin::Click, Some(say)) => Some(say),
                (Origin::Click | Origin::Command | Origin::Form, left) => told.send(left).err().flatten(),
            };
            if let Some(say) = unheard {
                chat.tell(&reply, &say).await;
            }
        });
        Ok(left)
    }

    /// Waits for what is left to be said; in its place says in time that it is not there yet.
    pub(super) async fn wait(origin: Origin, mut left: Left, until: Instant) -> Option<Say> {
        match tokio::time::timeout_at(until, &mut left).await {
            Ok(left) => left.unwrap_or_default(),
            Err(_) => {
                // From here on it is told by itself, unless it came just now.
                left.close();
                left.try_recv().unwrap_or_else(|_| late(origin))
            }
        }
    }
}

fn late(origin: Origin) -> Option<Say> {
    let text = match origin {
        Origin::Click => return None,
        Origin::Command => "This takes a moment.",
        Origin::Form => "This takes longer than usual: the card shows how the approval stands.",
    };
    Some(Say {
        text: text.to_owned(),
        ..Say::default()
    })
}
