//! What the ways into every chat share: what was here before, what was turned away, and the answers that are worked on.

use super::inbound::{Counters, Seen, Turned};
use super::{Answer, Request};
use crate::answer::Answers;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::id::{Digest, DigestBuilder};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

/// Answers that are worked on at once.
const AT_ONCE_MAX: usize = 256;

/// Far beyond what an answer may take: something is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

pub(super) struct Reception {
    /// For the log.
    chat: &'static str,
    answers: Arc<dyn Answers>,
    /// What was asked, whoever signed it when.
    seen: Seen,
    /// Signed requests, as they came.
    signed: Seen,
    pub counters: Counters,
    room: Arc<Semaphore>,
    pub tasks: TaskTracker,
}

impl Reception {
    pub fn new(chat: &'static str, answers: Arc<dyn Answers>) -> Self {
        Self {
            chat,
            answers,
            seen: Seen::default(),
            signed: Seen::default(),
            counters: Counters::default(),
            room: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            tasks: TaskTracker::new(),
        }
    }

    /// Waits for the answers that are worked on. To be called once nothing comes in any more.
    pub async fn drain(&self, within: Duration) {
        self.tasks.close();
        if tokio::time::timeout(within, self.tasks.wait()).await.is_err() {
            tracing::warn!(self.chat, "answers were still worked on and are given up");
        }
    }

    pub fn turn_away(&self, why: Turned) -> Turned {
        self.counters.turn_away(self.chat, why);
        why
    }

    /// Refuses a request whose time and bytes were here before: only a copy of it has the same signature.
    pub fn once(&self, timestamp: &str, body: &[u8], now: Timestamp) -> Result<(), Turned> {
        let mut parts = DigestBuilder::default();
        parts.part("timestamp", timestamp.as_bytes());
        parts.part("body", body);
        self.signed.remember(parts.finish(), now)
    }

    /// Refuses what was asked before: a chat that heard no answer in time asks again.
    pub fn first(&self, asked: Digest, now: Timestamp) -> Result<(), Turned> {
        let first = self.seen.remember(asked, now);
        first.map_err(|why| if why == Turned::Repeated { Turned::Resent } else { why })
    }

    pub fn tell_counts(&self) {
        self.counters.tell(self.chat, std::time::Instant::now());
    }

    /// A place among those that are worked on.
    pub fn place(&self) -> Result<OwnedSemaphorePermit, Turned> {
        let place = Arc::clone(&self.room).try_acquire_owned();
        place.map_err(|_| Turned::TooMany)
    }

    /// The answer to a request, for a task of its own: it never takes for ever.
    pub fn answering(&self, request: Request) -> impl Future<Output = Answer> + Send + use<> {
        let (chat, answers) = (self.chat, Arc::clone(&self.answers));
        async move {
            let answer = tokio::time::timeout(STUCK_AFTER, answers.answer(request)).await;
            answer.unwrap_or_else(|_| {
                tracing::error!(chat, "an answer was stuck and is given up");
                Answer::say("No answer came. Look at the card: it shows how the approval stands.")
            })
        }
    }
}
