//! How long a click takes to its statement: from the moment at which a person presses Approve in Slack until the
//! statement's last byte has gone to the server; and how long a held statement takes to its card.

use super::ask::Asker;
use super::decision::{percentile, some_of};
use super::print_table;
use super::usage::memory_mb;
use crate::bot::{ChatOptions, Chats, Way};
use crate::cloud::Cloud;
use crate::harness::GatewayOptions;
use crate::overhear::Overhear;
use crate::postgres::{Postgres, PostgresOptions};
use crate::slack;
use crate::world::WorldOptions;
use anyhow::{Context, Result};
use chrono::Utc;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// DBAs: one person alone would click faster than the bot lets anybody.
const CLICKERS: [&str; 6] = ["bob", "carol", "dave", "erin", "frank", "grace"];
const ROUNDS: usize = 12;
const PAUSE_MAX: Duration = Duration::from_millis(250);
const EMBEDDED_BOUND: Duration = Duration::from_millis(300);
const DYNAMODB_BOUND: Duration = Duration::from_secs(1);

/// One row: how long each of its statements took.
struct Sample {
    way: Way,
    store: &'static str,
    bound: Duration,
    to_card: Vec<Duration>,
    to_server: Vec<Duration>,
    memory_mb: Option<u64>,
}

pub async fn measure() -> Result<bool> {
    let server = Arc::new(Postgres::start(PostgresOptions::default()).await?);
    let mut samples = Vec::new();
    for way in [Way::Connected, Way::Signed, Way::Function] {
        let mut sample = Sample::of(way, "embedded", EMBEDDED_BOUND);
        sample.take(&server, GatewayOptions::default()).await?;
        samples.push(sample);
    }
    let cloud = Cloud::start().await?;
    for way in [Way::Connected, Way::Signed, Way::Function] {
        let options = GatewayOptions {
            store: Some(cloud.store().await?),
            environment: Cloud::environment(cloud.endpoint()),
            ..GatewayOptions::default()
        };
        let mut sample = Sample::of(way, "DynamoDB", DYNAMODB_BOUND);
        sample.take(&server, options).await?;
        samples.push(sample);
    }
    Ok(report(&mut samples))
}

impl Sample {
    fn of(way: Way, store: &'static str, bound: Duration) -> Self {
        Self {
            way,
            store,
            bound,
            to_card: Vec::new(),
            to_server: Vec::new(),
            memory_mb: None,
        }
    }

    async fn take(&mut self, server: &Arc<Postgres>, gateway: GatewayOptions) -> Result<()> {
        let overhear = Overhear::before(server).await?;
        let dbas = CLICKERS.map(|name| (name, vec!["dba"]));
        let options = ChatOptions {
            server: Some(Arc::clone(server)),
            // Who they are is found by their addresses.
            bot: "verified_email = true".to_owned(),
            world: WorldOptions {
                server_port: Some(overhear.port()),
                in_the_clear: true,
                people: [("alice", vec!["engineering"])].into_iter().chain(dbas).collect(),
                gateway,
                ..WorldOptions::default()
            },
            ..ChatOptions::new(self.way)
        };
        let chats = Chats::start(options).await?;
        self.memory_mb = chats.bot_pid().map(|pid| memory_mb(pid, "VmRSS")).transpose()?;
        for name in CLICKERS {
            chats
                .slack
                .add_user(slack::TEAM, slack::User::member(&account(name), name));
            chats.world.gateway.run(name, &["approvals", "list"])?;
        }
        let mut askers = Vec::with_capacity(CLICKERS.len());
        for _ in CLICKERS {
            askers.push(Asker::connect(&chats.world.gateway).await?);
        }
        for round in 0..ROUNDS {
            self.round(&chats, &overhear, &mut askers, round).await?;
        }
        Ok(())
    }

    /// Each asks for something that nobody else said; each of the DBAs approves one. The first round links their accounts
    /// and is not counted.
    async fn round(&mut self, chats: &Chats, overhear: &Overhear, askers: &mut [Asker], round: usize) -> Result<()> {
        let mut waiting = Vec::with_capacity(askers.len());
        for (index, asker) in askers.iter_mut().enumerate() {
            let said = 700_000 + round * CLICKERS.len() + index;
            let text = format!("update orders set total_cents = {said} where id = {}", said % 60 + 1);
            let held = asker.ask(&text).await?;
            waiting.push((text, held, Utc::now()));
        }
        for ((text, held, asked), name) in waiting.into_iter().zip(CLICKERS) {
            let found = chats.slack.wait_for("a card", |slack| {
                let mut messages = slack.messages(slack::TEAM, slack::CHANNEL).into_iter();
                messages.find(|message| message.text().starts_with(&held.number))
            });
            let card = found.await.with_context(|| chats.bot_log())?;
            let requests = chats.slack.requests().into_iter();
            let mut posts = requests.filter(|request| request.method == "chat.postMessage");
            let posted = posts.find(|post| {
                let text = post.body.get("text").and_then(Value::as_str);
                text.is_some_and(|text| text.starts_with(&held.number))
            });
            let posted = posted.context("the card was not posted")?.when;
            tokio::time::sleep(some_of(PAUSE_MAX)?).await;
            let person = chats.slack.person(slack::TEAM, &account(name));
            let clicked = Instant::now();
            person.click(slack::CHANNEL, &card.ts, "approve").await?;
            held.done().await.with_context(|| chats.bot_log())?;
            let heard = overhear.heard_at(&text).context("it did not pass")?;
            if round > 0 {
                self.to_server.push(heard.saturating_duration_since(clicked));
                self.to_card.push((posted - asked).to_std().unwrap_or_default());
            }
        }
        Ok(())
    }

    fn row(&self) -> [String; 8] {
        let of = |all: &[Duration], percent| format!("{:.0} ms", percentile(all, percent).as_secs_f64() * 1e3);
        [
            self.way.in_words().to_owned(),
            self.store.to_owned(),
            self.to_server.len().to_string(),
            of(&self.to_server, 50),
            of(&self.to_server, 99),
            format!("{} ms", self.bound.as_millis()),
            of(&self.to_card, 50),
            self.memory_mb.map_or("-".to_owned(), |mb| format!("{mb} MB")),
        ]
    }
}

fn account(name: &str) -> String {
    format!("U0{}", name.to_uppercase())
}

fn report(samples: &mut [Sample]) -> bool {
    let mut good = true;
    for sample in &mut *samples {
        sample.to_server.sort();
        sample.to_card.sort();
        good &= percentile(&sample.to_server, 99) < sample.bound;
    }
    let rows: Vec<_> = samples.iter().map(Sample::row).collect();
    print_table(
        [
            "Slack reaches the bot by",
            "store",
            "clicks",
            "click to server, p50",
            "p99",
            "bound of p99",
            "held to card, p50",
            "bot's memory after its start",
        ],
        &rows,
    );
    good
}
