//! The gateway's side of the ring: tells the bot to look at an approval, each time something about it has changed.
//!
//! What changes an approval here goes through its store, so the bell hangs there ([`RingingApprovals`]): holds, votes of
//! the API and the burial of dead holders' approvals ring alike, and none of them waits for it. What is to be rung is a set
//! ([`Bell`]): the newest state counts, however many changes led to it. The bot reads the store, so a ring that comes
//! twice or late is harmless.

mod approvals;
mod bell;

pub use approvals::RingingApprovals;
pub use bell::Bell;

use crate::refusal::Chain;
use chrono::Utc;
use countersign_infra::config::{Bot, ReferenceError};
use countersign_infra::domain::id::ApprovalId;
use countersign_infra::ring::{PATH, Ring, RingKey, SIGNATURE_HEADER, ShortRingKey, TIME_HEADER};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, StatusCode};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// How many rings are under way at once.
const AT_ONCE: usize = 16;
/// One ring may take so long.
const RING_TIME_MAX: Duration = Duration::from_secs(5);
/// What is not rung at a stop is rung within this, or not by this gateway.
const LAST_TIME_MAX: Duration = Duration::from_secs(2);
/// Of an answer no more is read: it only lets the connection be used again.
const ANSWER_BYTES_MAX: usize = 4096;

/// Why a gateway cannot ring.
#[derive(Debug, thiserror::Error)]
pub enum RingerError {
    #[error("the ring key: {0}")]
    Reference(#[from] ReferenceError),
    #[error(transparent)]
    Short(#[from] ShortRingKey),
    #[error("the address of the bot: {0}")]
    Url(#[from] url::ParseError),
    #[error("TLS towards the bot cannot be set up: {0}")]
    Tls(#[from] reqwest::Error),
}

/// Rings at the bot.
pub struct Ringer {
    bell: Arc<Bell>,
    http: reqwest::Client,
    url: url::Url,
    key: RingKey,
    /// The bot did not take the last ring. For the log, which says so once.
    is_failing: AtomicBool,
}

/// What the bot did with a ring.
enum Answer {
    /// Every card shows the present state.
    Shown,
    NotYet,
    Refused(StatusCode),
}

impl Ringer {
    /// Makes the ringer of a bot. Blocks on the file system, to read the key and the system's roots.
    pub fn new(bot: &Bot, bell: Arc<Bell>) -> Result<Self, RingerError> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(RING_TIME_MAX)
            .timeout(RING_TIME_MAX)
            .build()?;
        let base = bot.url.as_str().trim_end_matches('/');
        Ok(Self {
            bell,
            http,
            url: url::Url::parse(&format!("{base}{PATH}"))?,
            key: RingKey::new(bot.ring_key.read()?)?,
            is_failing: AtomicBool::new(false),
        })
    }

    /// Rings whatever is due until the token is cancelled; then what is not rung yet, once and within two seconds.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut rings = JoinSet::new();
        while !stop.is_cancelled() {
            let room = AT_ONCE.saturating_sub(rings.len());
            for (id, news) in self.bell.due(Instant::now(), room) {
                rings.spawn(self.clone().ring(id, news));
            }
            let next = self.bell.next().filter(|_| rings.len() < AT_ONCE);
            // Each arm may be dropped midway: rings go on in their own tasks.
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.bell.changed() => {}
                Some(_) = rings.join_next() => {}
                () = until(next) => {}
            }
        }
        drop(timeout(LAST_TIME_MAX, self.clone().ring_all(rings)).await);
        let left = self.bell.untold();
        if left > 0 {
            tracing::warn!(
                approvals = left,
                "the gateway stops, and cards of approvals may not show their last state"
            );
        }
    }

    /// Rings what is not rung, each once for what happened to it last, also where that happened during a ring.
    async fn ring_all(self: Arc<Self>, mut rings: JoinSet<()>) {
        let mut tried = HashSet::new();
        loop {
            for (id, news) in self.bell.take_untried(&mut tried) {
                while rings.len() >= AT_ONCE && rings.join_next().await.is_some() {}
                rings.spawn(self.clone().ring(id, news));
            }
            if rings.join_next().await.is_none() {
                return;
            }
        }
    }

    async fn ring(self: Arc<Self>, id: ApprovalId, news: u64) {
        let answer = self.send(&id).await;
        let is_shown = matches!(answer, Ok(Answer::Shown));
        self.bell.rang(&id, news, is_shown, Instant::now());
        match answer {
            Ok(Answer::Shown | Answer::NotYet) => {
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("the bot takes rings again");
                }
            }
            Ok(Answer::Refused(status)) => self.complain(&id, format!("it answers {status}")),
            Err(error) => self.complain(&id, Chain(&error.without_url()).to_string()),
        }
    }

    async fn send(&self, id: &ApprovalId) -> Result<Answer, reqwest::Error> {
        let ring = Ring { approval: id.clone() };
        // Plain text in a struct: it always has a JSON form.
        let body = serde_json::to_vec(&ring).unwrap_or_default();
        let (time, signature) = self.key.sign(Utc::now(), &body);
        let request = self
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(TIME_HEADER, time)
            .header(SIGNATURE_HEADER, signature)
            .body(body);
        let answer = request.send().await?;
        let status = answer.status();
        read_out(answer).await;
        Ok(match status {
            StatusCode::OK => Answer::Shown,
            StatusCode::ACCEPTED => Answer::NotYet,
            other => Answer::Refused(other),
        })
    }

    fn complain(&self, id: &ApprovalId, why: String) {
        match self.is_failing.swap(true, Ordering::Relaxed) {
            false => {
                tracing::warn!(approval = %id, why, "the bot does not take rings: cards are late, decisions are not")
            }
            true => tracing::debug!(approval = %id, why, "the bot does not take a ring"),
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn read_out(mut answer: Response) {
    let mut bytes = 0;
    while let Ok(Some(part)) = answer.chunk().await {
        bytes += part.len();
        if bytes > ANSWER_BYTES_MAX {
            return;
        }
    }
}
