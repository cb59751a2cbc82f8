//! Somebody who answers as a test says, and keeps what was asked.

use super::{Answer, Ask, Request};
use crate::answer::Answers;
use async_trait::async_trait;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) struct Script {
    answer: Answer,
    takes: Duration,
    requests: Mutex<Vec<Request>>,
    done: AtomicUsize,
}

impl Script {
    pub(crate) fn silent() -> Arc<Self> {
        Self::answering(Answer::Silent)
    }

    pub(crate) fn answering(answer: Answer) -> Arc<Self> {
        Self::slow(answer, Duration::ZERO)
    }

    pub(crate) fn slow(answer: Answer, takes: Duration) -> Arc<Self> {
        Arc::new(Self {
            answer,
            takes,
            requests: Mutex::default(),
            done: AtomicUsize::new(0),
        })
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn asked(&self) -> Vec<Ask> {
        self.requests().into_iter().map(|request| request.ask).collect()
    }

    /// How many answers were given to their end.
    pub(crate) fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Answers for Script {
    async fn answer(&self, request: Request) -> Answer {
        self.requests.lock().unwrap().push(request);
        tokio::time::sleep(self.takes).await;
        self.done.fetch_add(1, Ordering::SeqCst);
        self.answer.clone()
    }
}
