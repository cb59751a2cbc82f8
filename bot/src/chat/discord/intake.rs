//! From what was heard to the first answer, whichever way it came.

use super::client::DiscordChat;
use super::request::{Act, Heard, Origin, Reply};
use crate::answer::Answers;
use crate::chat::inbound::{Counters, Turned};
use crate::chat::reception::Reception;
use crate::chat::{Answer, Evidence, Request};
use chrono::Utc;
use countersign_infra::domain::chat_link::{ChatAccount, ChatPlatform};
use countersign_infra::domain::id::Digest;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// All guilds, and who answers there. Shared by both ways in, so that what comes by both is done once.
pub struct DiscordIntake {
    pub(super) chats: Vec<Arc<DiscordChat>>,
    pub(super) reception: Reception,
}

/// What is answered within the time that Discord gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    Pong,
    Answer(Answer),
    /// It takes longer: the answer takes the place of this one.
    Later,
}

/// An answer on its way.
pub(super) struct Answering {
    pub chat: Arc<DiscordChat>,
    pub origin: Origin,
    pub reply: Reply,
    answer: oneshot::Receiver<Answer>,
}

/// What is to be done with what was heard.
pub(super) enum Taken {
    Pong,
    Answering(Answering),
}

impl DiscordIntake {
    pub fn new(chats: Vec<Arc<DiscordChat>>, answers: Arc<dyn Answers>) -> Arc<Self> {
        let reception = Reception::new("discord", answers);
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

    /// Takes what was heard, of one of the guilds that it may be of. Starts to answer, in a task of its own: Discord does
    /// not wait long enough, and a decision must not be broken off.
    pub(super) fn take(&self, of: &[&Arc<DiscordChat>], heard: Heard, evidence: Evidence) -> Result<Taken, Turned> {
        let own = |chat: &&&Arc<DiscordChat>| chat.guild.application == heard.application;
        let mut own = of.iter().filter(own);
        let (user, name, ask, origin) = match heard.act {
            Act::Ping => return own.next().map(|_| Taken::Pong).ok_or(Turned::Foreign),
            Act::Asked {
                user,
                name,
                ask,
                origin,
            } => (user, name, ask, origin),
        };
        let chat = match &heard.guild {
            Some(guild) => own.find(|chat| chat.guild.guild == *guild),
            None => own.next(),
        };
        let chat = Arc::clone(chat.ok_or(Turned::Foreign)?);
        // A direct message is of no guild: of which of the application's it is, is told by who wrote it.
        let others = own.filter(|_| heard.guild.is_none());
        let account = |chat: &DiscordChat| ChatAccount {
            platform: ChatPlatform::Discord,
            team: chat.guild.guild.clone(),
            user: user.clone(),
        };
        let interaction = format!("{}:{}", heard.application, heard.reply.id);
        self.reception.first(Digest::of(interaction.as_bytes()), Utc::now())?;
        let request = Request {
            account: account(&chat),
            or_of: others.map(|chat| account(chat)).collect(),
            name,
            ask,
            evidence,
        };
        let answer = self.start(&chat, heard.reply.clone(), request)?;
        Ok(Taken::Answering(Answering {
            chat,
            origin,
            reply: heard.reply,
            answer,
        }))
    }

    fn start(
        &self,
        chat: &Arc<DiscordChat>,
        reply: Reply,
        request: Request,
    ) -> Result<oneshot::Receiver<Answer>, Turned> {
        let place = self.reception.place()?;
        let (told, answered) = oneshot::channel();
        let (chat, answer) = (Arc::clone(chat), self.reception.answering(request));
        self.reception.tasks.spawn(async move {
            let _place = place;
            if let Err(late) = told.send(answer.await) {
                chat.answer_late(&reply, late).await;
            }
        });
        Ok(answered)
    }
}

impl Answering {
    /// Waits for the answer; in its place says in time that it is not there yet.
    pub(super) async fn first(&mut self, until: Instant) -> First {
        match tokio::time::timeout_at(until, &mut self.answer).await {
            Ok(answer) => First::Answer(answer.unwrap_or(Answer::Silent)),
            Err(_) => {
                // From here on it is told by itself, unless it came just now.
                self.answer.close();
                self.answer.try_recv().map_or(First::Later, First::Answer)
            }
        }
    }
}
