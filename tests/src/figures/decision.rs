//! How long a decided statement takes to its server: from the API's answer to bob's vote, by which time the decision
//! is written, until the statement's last byte has gone to the server.

use super::ask::{Asker, Held, Voted, Voter};
use super::print_table;
use crate::cloud::Cloud;
use crate::harness::{Gateway, GatewayOptions};
use crate::overhear::Overhear;
use crate::postgres::{Postgres, PostgresOptions};
use crate::world::{World, WorldOptions};
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The bound of the 99th percentile on DynamoDB, with the default polling.
const P99_BOUND: Duration = Duration::from_secs(1);
/// Statements that are held at the same time, and how often so many.
const TOGETHER: usize = 10;
const ROUNDS: usize = 12;
/// Votes come at any time between two looks at the feed.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// Statements that wait until the feed is looked at less often, and how long that takes.
const LATE: usize = 60;
const LATE_AFTER: Duration = Duration::from_secs(31);
const LATE_PAUSE_MAX: Duration = Duration::from_millis(1100);

/// One row: how long each of its statements took.
struct Sample {
    store: &'static str,
    what: &'static str,
    from_answer: Vec<Duration>,
    from_vote: Vec<Duration>,
}

/// A world with something that listens before its server.
struct Scene {
    world: World,
    overhear: Overhear,
    voter: Voter,
    said: AtomicU32,
}

pub async fn measure() -> Result<bool> {
    let options = PostgresOptions {
        connections_max: 300,
        ..PostgresOptions::default()
    };
    let server = Arc::new(Postgres::start(options).await?);
    let mut samples = Vec::new();
    {
        let scene = Scene::set(Arc::clone(&server), GatewayOptions::default()).await?;
        samples.push(
            scene
                .soon("embedded", "voted at the same gateway", &scene.world.gateway)
                .await?,
        );
        samples.push(scene.late("embedded", &scene.world.gateway).await?);
    }
    let cloud = Cloud::start().await?;
    let options = GatewayOptions {
        store: Some(cloud.store().await?),
        environment: Cloud::environment(cloud.endpoint()),
        ..GatewayOptions::default()
    };
    let scene = Scene::set(server, options).await?;
    let name = |options: &mut GatewayOptions| options.name = Some("other-gateway".to_owned());
    let other = scene.world.another_gateway(name).await?;
    samples.push(
        scene
            .soon("DynamoDB", "voted at the same gateway", &scene.world.gateway)
            .await?,
    );
    samples.push(scene.soon("DynamoDB", "voted at another gateway", &other).await?);
    samples.push(scene.late("DynamoDB", &other).await?);
    Ok(report(&mut samples))
}

impl Scene {
    async fn set(server: Arc<Postgres>, gateway: GatewayOptions) -> Result<Self> {
        let overhear = Overhear::before(&server).await?;
        let options = WorldOptions {
            server_port: Some(overhear.port()),
            in_the_clear: true,
            gateway,
            ..WorldOptions::default()
        };
        Ok(Self {
            world: World::start_on(server, options).await?,
            overhear,
            voter: Voter::new()?,
            said: AtomicU32::new(0),
        })
    }

    /// Votes within the first seconds, while the feed is looked at often.
    async fn soon(&self, store: &'static str, what: &'static str, votes_at: &Gateway) -> Result<Sample> {
        let mut askers = self.askers(TOGETHER).await?;
        let mut sample = Sample::of(store, what);
        for _ in 0..ROUNDS {
            let held = self.ask_all(&mut askers).await?;
            self.decide(held, votes_at, PAUSE_MAX, &mut sample).await?;
        }
        Ok(sample)
    }

    /// Votes on what has been held for so long that the feed is looked at less often.
    async fn late(&self, store: &'static str, votes_at: &Gateway) -> Result<Sample> {
        let mut askers = self.askers(LATE).await?;
        let held = self.ask_all(&mut askers).await?;
        let mut sample = Sample::of(store, "held for more than 30 s");
        tokio::time::sleep(LATE_AFTER).await;
        self.decide(held, votes_at, LATE_PAUSE_MAX, &mut sample).await?;
        Ok(sample)
    }

    async fn askers(&self, count: usize) -> Result<Vec<Asker>> {
        let mut askers = Vec::with_capacity(count);
        for _ in 0..count {
            askers.push(Asker::connect(&self.world.gateway).await?);
        }
        Ok(askers)
    }

    /// Each asks for something that nobody else said.
    async fn ask_all(&self, askers: &mut [Asker]) -> Result<Vec<(String, Held)>> {
        let mut held = Vec::with_capacity(askers.len());
        for asker in askers {
            let said = 700_000 + self.said.fetch_add(1, Ordering::Relaxed);
            let text = format!("update orders set total_cents = {said} where id = {}", said % 60 + 1);
            let asked = asker.ask(&text).await?;
            held.push((text, asked));
        }
        Ok(held)
    }

    async fn decide(
        &self,
        held: Vec<(String, Held)>,
        votes_at: &Gateway,
        pause_max: Duration,
        sample: &mut Sample,
    ) -> Result<()> {
        for (text, held) in held {
            tokio::time::sleep(some_of(pause_max)?).await;
            let Voted { sent, answered } = self.voter.approve(votes_at, &held.number).await?;
            held.done().await?;
            let heard: Instant = self.overhear.heard_at(&text).context("it did not pass")?;
            // The gateway may be faster than the answer to the vote.
            sample.from_answer.push(heard.saturating_duration_since(answered));
            sample.from_vote.push(heard.saturating_duration_since(sent));
        }
        Ok(())
    }
}

impl Sample {
    fn of(store: &'static str, what: &'static str) -> Self {
        Self {
            store,
            what,
            from_answer: Vec::new(),
            from_vote: Vec::new(),
        }
    }

    fn row(&self, p99: Duration) -> [String; 8] {
        let of = |all: &[Duration], percent| format!("{:.0} ms", percentile(all, percent).as_secs_f64() * 1e3);
        let bound = if self.store == "DynamoDB" { "1000 ms" } else { "" };
        [
            self.store.to_owned(),
            self.what.to_owned(),
            self.from_answer.len().to_string(),
            of(&self.from_answer, 50),
            format!("{:.0} ms", p99.as_secs_f64() * 1e3),
            bound.to_owned(),
            of(&self.from_vote, 50),
            of(&self.from_vote, 99),
        ]
    }
}

fn report(samples: &mut [Sample]) -> bool {
    let mut rows = Vec::new();
    let mut good = true;
    for sample in &mut *samples {
        sample.from_answer.sort();
        sample.from_vote.sort();
        let p99 = percentile(&sample.from_answer, 99);
        good &= sample.store != "DynamoDB" || p99 < P99_BOUND;
        rows.push(sample.row(p99));
    }
    print_table(
        [
            "store",
            "decided",
            "statements",
            "p50",
            "p99",
            "bound of p99",
            "p50 from the vote's sending",
            "p99 from the vote's sending",
        ],
        &rows,
    );
    if let (Some(embedded), Some(dynamodb)) = (samples.first(), samples.get(2)) {
        let ratio = |percent| {
            percentile(&dynamodb.from_vote, percent).as_secs_f64()
                / percentile(&embedded.from_vote, percent).as_secs_f64()
        };
        println!(
            "\nDynamoDB : embedded, at the same gateway, from the vote's sending: {:.1} (p50), {:.1} (p99)",
            ratio(50),
            ratio(99)
        );
    }
    good
}

/// The nearest rank of what is sorted.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// Any time up to the whole, each as likely.
pub fn some_of(whole: Duration) -> Result<Duration> {
    let mut random = [0; 1];
    aws_lc_rs::rand::fill(&mut random).context("the random source")?;
    Ok(whole * u32::from(random.first().copied().unwrap_or_default()) / 255)
}
