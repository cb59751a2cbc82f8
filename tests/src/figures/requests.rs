//! What gateways ask of the cloud, counted by a proxy before it, and what that costs.

use super::ask::{Asker, Voter};
use super::price::{Bill, SOURCE};
use super::print_table;
use crate::cloud::Cloud;
use crate::harness::{Gateway, GatewayOptions};
use crate::postgres::{Postgres, PostgresOptions};
use crate::wait::eventually;
use crate::weather::{Service, Weather};
use crate::world::{World, WorldOptions};
use anyhow::{Result, ensure};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After its start a gateway looks for the dead for so long, and then rarely: `LOOK_FAST_FOR` in the gateway's
/// `hold/watch.rs`, and a little.
const SETTLES_AFTER: Duration = Duration::from_secs(66);
/// A gateway where nothing is held looks for the dead every 15 minutes: `LOOK_EVERY_IDLE` there.
const LOOKS_A_DAY: f64 = 96.0;
const IDLE_FOR: Duration = Duration::from_secs(75);
/// A load balancer that asks every ten seconds.
const READYZ_A_DAY: f64 = 8640.0;
const ALLOWED: u32 = 200;
const APART: u32 = 5;
const APART_PAUSE: Duration = Duration::from_secs(6);
const HELD: u32 = 5;
const HELD_FOR: Duration = Duration::from_secs(10);
const WAITING_FOR: Duration = Duration::from_secs(60);
const BUSY_HELD: f64 = 1_000.0;
const BUSY_ALLOWED: f64 = 100_000.0;
const BUSY_SESSIONS: f64 = 500.0;
/// Longer than anything that a session leaves behind takes to its store.
const QUIET_FOR: Duration = Duration::from_secs(6);
const QUIET_LIMIT: Duration = Duration::from_secs(60);

struct Scene {
    world: World,
    other: Gateway,
    weather: Weather,
    voter: Voter,
    rows: Vec<(String, Bill)>,
}

pub async fn measure() -> Result<bool> {
    let cloud = Cloud::start().await?;
    let weather = Weather::over(&cloud).await?;
    weather.weigh();
    let server = Arc::new(Postgres::start(PostgresOptions::default()).await?);
    let gateway = GatewayOptions {
        store: Some(cloud.store().await?),
        environment: weather.environment(),
        ..GatewayOptions::default()
    };
    let options = WorldOptions {
        gateway,
        ..WorldOptions::default()
    };
    let world = World::start_on(server, options).await?;
    let started = Bill::of(&weather.tallies());
    let name = |options: &mut GatewayOptions| options.name = Some("other-gateway".to_owned());
    let other = world.another_gateway(name).await?;
    let voter = Voter::new()?;
    let mut scene = Scene {
        world,
        other,
        weather,
        voter,
        rows: vec![("a start, until ready".to_owned(), started)],
    };
    let (idle, look, ready) = scene.idle().await?;
    let session = scene.session().await?;
    let allowed = scene.allowed(&session).await?;
    let held = scene.held(&session).await?;
    scene.waiting().await?;

    let looks = look.times(LOOKS_A_DAY);
    let idle_day = idle.times(24.0 * 3600.0 / (2.0 * IDLE_FOR.as_secs_f64())).plus(&looks);
    let asked_day = idle_day.plus(&ready.times(READYZ_A_DAY));
    let busy_day = asked_day
        .plus(&held.times(BUSY_HELD))
        .plus(&allowed.times(BUSY_ALLOWED))
        .plus(&session.times(BUSY_SESSIONS));
    scene.add("computed: an idle gateway-day (96 looks for dead holders)", &idle_day);
    scene.add("computed: the same, /readyz every 10 s", &asked_day);
    let busy = format!(
        "computed: that with {BUSY_SESSIONS} sessions, {BUSY_HELD} held and {BUSY_ALLOWED} allowed statements (priced as one every 6 s)"
    );
    scene.add(&busy, &busy_day);
    scene.print();
    let good = idle.all_requests() == 0.0;
    println!("\nRequests while nothing is held: {}; bound: 0.", idle.all_requests());
    println!("{SOURCE}");
    Ok(good)
}

impl Scene {
    fn add(&mut self, what: &str, bill: &Bill) {
        self.rows.push((what.to_owned(), bill.clone()));
    }

    fn print(&self) {
        let rows: Vec<[String; 7]> = self
            .rows
            .iter()
            .map(|(what, bill)| {
                let [requests, read, write, others, dollars, operations] = bill.cells();
                [what.clone(), requests, read, write, others, dollars, operations]
            })
            .collect();
        print_table(
            [
                "what",
                "DynamoDB requests",
                "read units",
                "write units",
                "S3 / KMS requests",
                "price",
                "all requests by operation",
            ],
            &rows,
        );
    }

    /// Counts what is asked while something is done and until nothing more follows.
    async fn count(&self, work: impl Future<Output = Result<()>>) -> Result<Bill> {
        self.weather.count_anew();
        work.await?;
        self.quiet().await?;
        Ok(Bill::of(&self.weather.tallies()))
    }

    async fn quiet(&self) -> Result<()> {
        let mut last = (self.weather.tallies(), Instant::now());
        eventually("the gateways to be quiet", QUIET_LIMIT, async || {
            let now = self.weather.tallies();
            if now != last.0 {
                last = (now, Instant::now());
            }
            (last.1.elapsed() >= QUIET_FOR).then_some(())
        })
        .await
    }

    /// Two gateways without clients: a while, one look for dead holders, one answer of `/readyz`.
    async fn idle(&mut self) -> Result<(Bill, Bill, Bill)> {
        self.weather.count_anew();
        tokio::time::sleep(SETTLES_AFTER).await;
        let first = Bill::of(&self.weather.tallies());
        let looks = f64::from(u32::try_from(self.weather.count(Service::DynamoDb, "Query"))?);
        ensure!(
            looks == first.all_requests(),
            "an idle gateway does more than to look for dead holders"
        );
        let look = first.times(1.0 / looks.max(1.0));
        self.add("the minute after a start", &first.times(0.5));
        self.weather.count_anew();
        tokio::time::sleep(IDLE_FOR).await;
        let idle = Bill::of(&self.weather.tallies());
        let what = format!("{} s of two gateways, no client, nothing held", IDLE_FOR.as_secs());
        self.add(&what, &idle);
        let ready = async { self.voter.ready(&self.world.gateway).await.map(drop) };
        let ready = self.count(ready).await?;
        self.add("one /readyz", &ready);
        Ok((idle, look, ready))
    }

    /// A session that does nothing. One before it writes what is written once a day for each person.
    async fn session(&mut self) -> Result<Bill> {
        let gateway = &self.world.gateway;
        let first = self
            .count(async { Asker::connect(gateway).await?.close().await })
            .await?;
        let session = self
            .count(async { Asker::connect(gateway).await?.close().await })
            .await?;
        self.add("a session, opened and closed, alice's first of the day", &first);
        self.add("a session, opened and closed", &session);
        Ok(session)
    }

    async fn allowed(&mut self, session: &Bill) -> Result<Bill> {
        let gateway = &self.world.gateway;
        let text = "select total_cents from orders where id = 7";
        let close = async {
            let alice = Asker::connect(gateway).await?;
            for _ in 0..ALLOWED {
                alice.run(text).await?;
            }
            alice.close().await
        };
        let close = self
            .count(close)
            .await?
            .without(session)
            .times(1.0 / f64::from(ALLOWED));
        let apart = async {
            let alice = Asker::connect(gateway).await?;
            for _ in 0..APART {
                alice.run(text).await?;
                tokio::time::sleep(APART_PAUSE).await;
            }
            alice.close().await
        };
        let apart = self.count(apart).await?.without(session).times(1.0 / f64::from(APART));
        self.add(
            &format!("an allowed statement, of {ALLOWED} one after the other"),
            &close,
        );
        self.add(
            &format!("an allowed statement, one every {} s", APART_PAUSE.as_secs()),
            &apart,
        );
        Ok(apart)
    }

    /// Alice asks, waits, bob approves at the other gateway, and it is done.
    async fn held(&mut self, session: &Bill) -> Result<Bill> {
        let work = async {
            let mut alice = Asker::connect(&self.world.gateway).await?;
            for number in 0..HELD {
                let text = format!("update orders set total_cents = {number} where id = 7");
                let held = alice.ask(&text).await?;
                tokio::time::sleep(HELD_FOR).await;
                self.voter.approve(&self.other, &held.number).await?;
                held.done().await?;
            }
            alice.close().await
        };
        let held = self.count(work).await?.without(session).times(1.0 / f64::from(HELD));
        let what = format!(
            "a statement held for {} s, approved at another gateway",
            HELD_FOR.as_secs()
        );
        self.add(&what, &held);
        Ok(held)
    }

    /// What waiting alone costs.
    async fn waiting(&mut self) -> Result<()> {
        let mut alice = Asker::connect(&self.world.gateway).await?;
        let held = alice.ask("update orders set total_cents = 1 where id = 8").await?;
        self.weather.count_anew();
        tokio::time::sleep(WAITING_FOR).await;
        let waiting = Bill::of(&self.weather.tallies());
        self.voter.approve(&self.other, &held.number).await?;
        held.done().await?;
        alice.close().await?;
        let what = format!("the first {} s of waiting, one held statement", WAITING_FOR.as_secs());
        self.add(&what, &waiting);
        Ok(())
    }
}
