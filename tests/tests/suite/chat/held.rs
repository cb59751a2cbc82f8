//! Statements that are held, many at a time: each knows its approval, and when it went on.

use anyhow::{Context, Result, ensure};
use countersign_tests::bot::Chats;
use countersign_tests::connect::connect_raw;
use countersign_tests::world::TARGET;
use countersign_tests::{discord, slack};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client};

/// For what should happen soon, on a slow machine.
const SOON: Duration = Duration::from_secs(30);

/// A connection of alice.
pub struct Session {
    client: Arc<Client>,
    notices: mpsc::Receiver<String>,
}

/// A statement of alice that waits for its approval.
pub struct Held {
    pub id: String,
    /// When its answer came.
    done: JoinHandle<Result<Instant>>,
}

impl Session {
    pub async fn open(chats: &Chats) -> Result<Self> {
        let gateway = &chats.world.gateway;
        let config = gateway.client_config("alice", TARGET);
        let (client, mut connection) = connect_raw(&config, gateway.ca_pem()).await?;
        let (told, notices) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notice(notice) = message {
                    drop(told.try_send(notice.message().to_owned()));
                }
            }
        });
        let client = Arc::new(client);
        Ok(Self { client, notices })
    }

    /// Sends a statement that the policy holds, and waits for the number of its approval.
    pub async fn hold(&mut self, statement: &str) -> Result<Held> {
        let (client, statement) = (Arc::clone(&self.client), statement.to_owned());
        let done = tokio::spawn(async move {
            client.simple_query(&statement).await?;
            Ok(Instant::now())
        });
        let held = async {
            loop {
                let notice = self.notices.recv().await.context("the statement was not held")?;
                let id = notice.split("held for approval ").nth(1);
                if let Some(id) = id.and_then(|rest| rest.get(..8)) {
                    return anyhow::Ok(id.to_owned());
                }
            }
        };
        let id = tokio::time::timeout(SOON, held).await;
        let id = id.context("the statement is not held in time")??;
        Ok(Held { id, done })
    }

    /// Runs a statement that must not be held: nobody is there to approve it.
    pub async fn run(&self, statement: &str) -> Result<()> {
        let ran = tokio::time::timeout(SOON, self.client.simple_query(statement)).await;
        ran.with_context(|| format!("{statement} is held"))??;
        Ok(())
    }
}

impl Held {
    /// Holds a statement in a session of its own.
    pub async fn open(chats: &Chats, statement: &str) -> Result<Self> {
        Session::open(chats).await?.hold(statement).await
    }

    /// Approves it as bob over the API; gives how long it took until the statement's answer came.
    pub async fn approve(self, chats: &Chats) -> Result<Duration> {
        let gateway = &chats.world.gateway;
        let url = format!("{}/api/v1/approvals/{}/votes", gateway.http_url(), self.id);
        let began = Instant::now();
        let body = json!({"choice": "approve", "via": "cli"});
        let vote = reqwest::Client::new()
            .post(url)
            .bearer_auth(gateway.token("bob"))
            .json(&body);
        let answer = vote.send().await?;
        ensure!(answer.status().is_success(), "the vote: {}", answer.text().await?);
        self.answered(began).await
    }

    /// Waits for the statement's answer.
    pub async fn answered(self, since: Instant) -> Result<Duration> {
        let done = tokio::time::timeout(SOON, self.done)
            .await
            .context("it does not go on")???;
        Ok(done.saturating_duration_since(since))
    }
}

/// What stands in a channel for an approval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub cards: usize,
    /// Of those, cards that tell the end.
    pub ended: usize,
    /// Notes that tell the end.
    pub outcomes: usize,
}

/// What there is to be of an approval that ended: no more, and no less.
pub const ENDED: Standing = Standing {
    cards: 1,
    ended: 1,
    outcomes: 1,
};

impl Standing {
    /// One message more of a kind.
    fn count(&mut self, kind: &str, is_ended: bool) {
        match kind {
            "card" => {
                self.cards += 1;
                self.ended += usize::from(is_ended);
            }
            "outcome" => self.outcomes += 1,
            _ => {}
        }
    }
}

/// What stands in Slack's channel for each approval.
pub fn in_slack(chats: &Chats) -> BTreeMap<String, Standing> {
    let mut all: BTreeMap<String, Standing> = BTreeMap::new();
    for message in chats.slack.messages(slack::TEAM, slack::CHANNEL) {
        let payload = &message.body["metadata"]["event_payload"];
        let (Some(approval), Some(kind)) = (payload["approval"].as_str(), payload["kind"].as_str()) else {
            continue;
        };
        let is_ended = is_ended(&message.body.to_string(), &message.buttons());
        all.entry(approval.to_owned()).or_default().count(kind, is_ended);
    }
    all
}

/// The same in Discord's.
pub fn in_discord(chats: &Chats) -> BTreeMap<String, Standing> {
    let mut all: BTreeMap<String, Standing> = BTreeMap::new();
    for message in chats.discord.messages(discord::CHANNEL) {
        let embeds = message.body["embeds"].as_array().into_iter().flatten();
        let mut marks = embeds.filter_map(|embed| embed["footer"]["text"].as_str());
        // `Countersign QJF6HN4C`, and of notes `: outcome` after it; a note that was changed has no mark any more.
        let Some(mark) = marks.find_map(|mark| mark.strip_prefix("Countersign ")) else {
            continue;
        };
        let (approval, kind) = mark.split_once(": ").unwrap_or((mark, "card"));
        let is_ended = is_ended(&message.body.to_string(), &message.buttons());
        all.entry(approval.to_owned()).or_default().count(kind, is_ended);
    }
    all
}

fn is_ended(body: &str, buttons: &[String]) -> bool {
    !super::is_open(buttons) && body.contains("UPDATE ")
}

/// Waits until both channels show the end of each of these, once and nothing else of them.
pub async fn all_ended(chats: &Chats, ids: &[String], within: Duration) {
    let began = Instant::now();
    loop {
        let (slack, discord) = (in_slack(chats), in_discord(chats));
        let wrong = |all: &BTreeMap<String, Standing>| -> Vec<(String, Standing)> {
            let standings = ids
                .iter()
                .map(|id| (id.clone(), all.get(id).cloned().unwrap_or_default()));
            standings.filter(|(_, standing)| *standing != ENDED).collect()
        };
        let (in_slack, in_discord) = (wrong(&slack), wrong(&discord));
        for (_, standing) in slack.iter().chain(&discord) {
            assert!(
                standing.cards <= 1 && standing.outcomes <= 1,
                "doubled: {slack:?}\n{discord:?}"
            );
        }
        if in_slack.is_empty() && in_discord.is_empty() {
            return;
        }
        assert!(
            began.elapsed() < within,
            "after {within:?} not as they should be, of {}: in Slack {} {:?}, in Discord {} {:?}\n{}",
            ids.len(),
            in_slack.len(),
            in_slack.iter().take(5).collect::<Vec<_>>(),
            in_discord.len(),
            in_discord.iter().take(5).collect::<Vec<_>>(),
            last_lines(&chats.bot_log()),
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines
        .get(lines.len().saturating_sub(60)..)
        .unwrap_or_default()
        .join("\n")
}
