//! Alice asks over PostgreSQL, bob votes through the API: without a command line in between, whose start would be
//! most of what is measured.

use crate::connect::connect_raw;
use crate::harness::{Gateway, no_roots};
use crate::world::TARGET;
use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client};

const HELD_LIMIT: Duration = Duration::from_secs(30);
const DONE_LIMIT: Duration = Duration::from_secs(60);
/// What a notice says before an approval's number.
const BEFORE_NUMBER: &str = "held for approval ";

/// A session of alice's.
pub struct Asker {
    client: Arc<Client>,
    numbers: mpsc::UnboundedReceiver<String>,
    last: String,
    ended: JoinHandle<()>,
}

/// A statement that waits for bob.
pub struct Held {
    pub number: String,
    answer: JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Asker {
    pub async fn connect(gateway: &Gateway) -> Result<Self> {
        let config = gateway.client_config("alice", TARGET);
        let (client, mut connection) = connect_raw(&config, gateway.ca_pem()).await?;
        let (sender, numbers) = mpsc::unbounded_channel();
        let ended = tokio::spawn(async move {
            let mut messages = futures_util::stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                let AsyncMessage::Notice(notice) = message else {
                    continue;
                };
                let number = notice.message().split_once(BEFORE_NUMBER);
                if let Some((number, _)) = number.and_then(|(_, rest)| rest.split_once(':')) {
                    // Nobody listens any more once the session is given up.
                    let _ = sender.send(number.to_owned());
                }
            }
        });
        Ok(Self {
            client: Arc::new(client),
            numbers,
            last: String::new(),
            ended,
        })
    }

    /// Runs a statement that nobody has to approve.
    pub async fn run(&self, text: &str) -> Result<()> {
        Ok(self.client.batch_execute(text).await?)
    }

    /// Sends a statement, and returns once the gateway says that it is held.
    pub async fn ask(&mut self, text: &str) -> Result<Held> {
        let (client, text) = (Arc::clone(&self.client), text.to_owned());
        let answer = tokio::spawn(async move { client.batch_execute(&text).await });
        let numbers = &mut self.numbers;
        let last = &self.last;
        let number = async {
            // The gateway repeats itself while somebody waits.
            while let Some(number) = numbers.recv().await {
                if number != *last {
                    return Some(number);
                }
            }
            None
        };
        let number = tokio::time::timeout(HELD_LIMIT, number).await;
        let number = number
            .context("the statement is not held")?
            .context("the session ended")?;
        self.last.clone_from(&number);
        Ok(Held { number, answer })
    }

    /// Closes the session, and waits until the gateway has closed it too.
    pub async fn close(self) -> Result<()> {
        drop(self.client);
        Ok(tokio::time::timeout(DONE_LIMIT, self.ended).await??)
    }
}

impl Held {
    /// Waits until the server has answered.
    pub async fn done(self) -> Result<()> {
        Ok(tokio::time::timeout(DONE_LIMIT, self.answer).await???)
    }
}

/// Bob.
pub struct Voter(reqwest::Client);

/// When a vote was sent, and when its answer was there.
#[derive(Clone, Copy)]
pub struct Voted {
    pub sent: Instant,
    pub answered: Instant,
}

impl Voter {
    pub fn new() -> Result<Self> {
        let client = reqwest::Client::builder().use_preconfigured_tls(no_roots()?);
        Ok(Self(client.no_proxy().timeout(DONE_LIMIT).build()?))
    }

    /// Approves at a gateway.
    pub async fn approve(&self, gateway: &Gateway, number: &str) -> Result<Voted> {
        let url = format!("{}/api/v1/approvals/{number}/votes", gateway.http_url());
        let vote = serde_json::json!({"choice": "approve", "via": "cli"});
        let request = self.0.post(url).bearer_auth(gateway.token("bob")).json(&vote);
        let sent = Instant::now();
        let answer = request.send().await?;
        let answered = Instant::now();
        ensure!(answer.status() == 200, "{}: {}", answer.status(), answer.text().await?);
        drop(answer.bytes().await?);
        Ok(Voted { sent, answered })
    }

    /// Asks whether a gateway is ready.
    pub async fn ready(&self, gateway: &Gateway) -> Result<bool> {
        let answer = self.0.get(format!("{}/readyz", gateway.http_url())).send().await?;
        Ok(answer.status().is_success())
    }
}
