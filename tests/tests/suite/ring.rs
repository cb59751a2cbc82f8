//! The gateway rings at the bot: signed, as long as it must, and without delaying what it tells of.

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use chrono::Utc;
use countersign_infra::domain::secret::Secret;
use countersign_infra::ring::{RingKey, SIGNATURE_HEADER, TIME_HEADER};
use countersign_tests::certificates::{Authority, LOCAL_NAMES};
use countersign_tests::harness::GatewayOptions;
use countersign_tests::issuer::encrypted::Encrypted;
use countersign_tests::wait::eventually;
use countersign_tests::world::{TARGET, World, WorldOptions};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

const SOON: Duration = Duration::from_secs(30);
const KEY: &str = "0123456789abcdef0123456789abcdef";
const DELETE: &str = "delete from orders where id = 7";

/// What the bot does with a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    Shows,
    Answers(StatusCode),
    /// Never answers.
    Silent,
}

/// A ring that came in.
#[derive(Clone, Debug)]
struct Came {
    at: Instant,
    approval: String,
}

/// As much of a bot as a gateway knows of it. Every ring must be signed by the key.
#[derive(Clone)]
struct Bot {
    url: String,
    came: Arc<Mutex<Vec<Came>>>,
    behaviour: Arc<Mutex<Behaviour>>,
}

impl Bot {
    async fn start(behaviour: Behaviour) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let bot = Self::at(format!("http://{}", listener.local_addr()?), behaviour);
        let router = bot.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(bot)
    }

    /// A bot that is reached by https, as `localhost`.
    async fn start_encrypted(authority: &Authority) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://localhost:{}/chat/", listener.local_addr()?.port());
        let bot = Self::at(url, Behaviour::Shows);
        let (listener, router) = (Encrypted::new(listener, &authority.leaf(&LOCAL_NAMES)?)?, bot.router());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(bot)
    }

    fn at(url: String, behaviour: Behaviour) -> Self {
        Self {
            url,
            came: Arc::default(),
            behaviour: Arc::new(Mutex::new(behaviour)),
        }
    }

    fn router(&self) -> Router {
        let routes = Router::new().route("/ring", post(ring)).route("/chat/ring", post(ring));
        routes.with_state(self.clone())
    }

    fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    fn came(&self) -> Vec<Came> {
        self.came.lock().unwrap().clone()
    }

    /// Waits until that many rings have come.
    async fn rings(&self, count: usize) -> Vec<Came> {
        let enough = async || Some(self.came()).filter(|came| came.len() >= count);
        let came = eventually(&format!("{count} rings"), SOON, enough).await;
        came.unwrap_or_else(|error| panic!("{error}: {:?}", self.came()))
    }

    fn more(&self) -> String {
        format!(
            "[bot]\nurl = \"{}\"\nring_key = \"env:RING_KEY\"\n\n\
             [[bot.slack]]\nteam = \"T1\"\nbot_token = \"env:CHAT_TOKEN\"\napp_token = \"env:CHAT_TOKEN\"\n",
            self.url
        )
    }
}

async fn ring(State(bot): State<Bot>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let key = RingKey::new(Secret::new(KEY.to_owned())).unwrap();
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    if key
        .verify(Utc::now(), header(TIME_HEADER), header(SIGNATURE_HEADER), &body)
        .is_err()
    {
        return StatusCode::UNAUTHORIZED;
    }
    let text = String::from_utf8(body.to_vec()).unwrap();
    // The number, and nothing else of the approval.
    let approval = text
        .strip_prefix("{\"approval\":\"")
        .and_then(|rest| rest.strip_suffix("\"}"));
    let approval = approval
        .filter(|number| number.len() == 8)
        .unwrap_or_else(|| panic!("{text}"))
        .to_owned();
    bot.came.lock().unwrap().push(Came {
        at: Instant::now(),
        approval,
    });
    let behaviour = *bot.behaviour.lock().unwrap();
    match behaviour {
        Behaviour::Shows => StatusCode::OK,
        Behaviour::Answers(status) => status,
        Behaviour::Silent => std::future::pending().await,
    }
}

fn variables(more: &[(&str, &str)]) -> Vec<(String, OsString)> {
    let own = [("RING_KEY", KEY), ("CHAT_TOKEN", "x")];
    let all = own.iter().chain(more);
    all.map(|(name, value)| ((*name).to_owned(), value.into())).collect()
}

async fn world(bot: &Bot, limits: &str, more: &[(&str, &str)]) -> World {
    let gateway = GatewayOptions {
        more: bot.more(),
        limits: limits.to_owned(),
        environment: variables(more),
        ..GatewayOptions::default()
    };
    let options = WorldOptions {
        gateway,
        ..WorldOptions::default()
    };
    World::start(options).await.unwrap()
}

/// Alice runs a statement that waits for bob.
async fn asks(world: &World, statement: &str) -> JoinHandle<Result<u64, tokio_postgres::Error>> {
    let (client, statement) = (
        world.gateway.connect("alice", TARGET).await.unwrap(),
        statement.to_owned(),
    );
    tokio::spawn(async move { client.execute(&statement, &[]).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_rings_and_each_change_of_it_rings_again() {
    let bot = Bot::start(Behaviour::Shows).await.unwrap();
    let world = world(&bot, "", &[]).await;
    let (ran, number) = (asks(&world, DELETE).await, world.waiting().await.unwrap().number);
    let first = bot.rings(1).await;
    assert_eq!((first.len(), first[0].approval.as_str()), (1, number.as_str()));

    let approved = Instant::now();
    assert_eq!(world.approve("bob", &number).unwrap().0, 0);
    assert_eq!(ran.await.unwrap().unwrap(), 1);
    world.becomes(&number, "done").await.unwrap();
    let last = eventually("a ring after the end", SOON, async || {
        bot.came().pop().filter(|last| last.at > approved)
    });
    assert_eq!(last.await.unwrap().approval, number);

    let (ran, second) = (asks(&world, DELETE).await, world.waiting().await.unwrap().number);
    let rings_of = |number: &str| bot.came().iter().filter(|came| came.approval == number).count();
    eventually("the ring of the second", SOON, async || {
        (rings_of(&second) == 1).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(world.deny("bob", &second, "no").unwrap().0, 0);
    assert!(ran.await.unwrap().is_err());
    eventually("the ring of the denial", SOON, async || {
        (rings_of(&second) >= 2).then_some(())
    })
    .await
    .unwrap();
    let log = world.gateway.log();
    assert!(!log.contains(KEY) && !log.contains("does not take"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_is_repeated_with_growing_pauses_until_the_bot_shows_the_approval() {
    let bot = Bot::start(Behaviour::Answers(StatusCode::ACCEPTED)).await.unwrap();
    let world = world(&bot, "", &[]).await;
    let ran = asks(&world, DELETE).await;
    for (count, behaviour) in [
        (2, Behaviour::Answers(StatusCode::SERVICE_UNAVAILABLE)),
        (3, Behaviour::Answers(StatusCode::UNAUTHORIZED)),
        (4, Behaviour::Answers(StatusCode::NOT_FOUND)),
        (5, Behaviour::Answers(StatusCode::FOUND)),
        (6, Behaviour::Shows),
    ] {
        bot.rings(count).await;
        bot.behave(behaviour);
    }
    // It waits, and is seen to wait, at least once in that time; it is not rung for that.
    let came = bot.rings(7).await;
    eventually("the bot to be heard", SOON, async || {
        world.gateway.log().contains("takes rings again").then_some(())
    })
    .await
    .unwrap();
    assert!(came.iter().all(|ring| ring.approval == came[0].approval));
    for (number, pair) in came.windows(2).enumerate() {
        let longest = Duration::from_millis(500 << number) + Duration::from_secs(2);
        assert!(
            pair[1].at - pair[0].at <= longest,
            "pause {number}: {:?}",
            pair[1].at - pair[0].at
        );
    }
    assert_eq!(world.approve("bob", &came[0].approval).unwrap().0, 0);
    assert_eq!(ran.await.unwrap().unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_holds_at_once_ring_each() {
    let bot = Bot::start(Behaviour::Shows).await.unwrap();
    let world = world(&bot, "", &[]).await;
    let mut asking = JoinSet::new();
    for number in 0..100 {
        let client = world.gateway.connect("alice", TARGET).await.unwrap();
        let statement = format!("update orders set state = 'paid' where id = {number}");
        asking.spawn(async move { client.execute(&statement, &[]).await });
    }
    let rung = || {
        bot.came()
            .into_iter()
            .map(|came| came.approval)
            .collect::<BTreeSet<_>>()
    };
    let all = eventually("all to be rung", SOON * 2, async || {
        Some(rung()).filter(|rung| rung.len() == 100)
    });
    let rung = all.await.unwrap();
    let waiting: BTreeSet<String> = world
        .pending()
        .unwrap()
        .into_iter()
        .map(|waiting| waiting.number)
        .collect();
    // A page of those that wait.
    assert!(
        waiting.len() >= 50 && waiting.is_subset(&rung),
        "{waiting:?} of {rung:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_bot_delays_nothing() {
    let bot = Bot::start(Behaviour::Silent).await.unwrap();
    let mut world = world(&bot, "", &[]).await;
    let ran = asks(&world, DELETE).await;
    let number = world.waiting().await.unwrap().number;
    bot.rings(1).await;
    let approved = Instant::now();
    assert_eq!(world.approve("bob", &number).unwrap().0, 0);
    assert_eq!(ran.await.unwrap().unwrap(), 1);
    // As fast as without a bot: its first ring is still under way.
    assert!(approved.elapsed() < Duration::from_secs(4), "{:?}", approved.elapsed());
    let stopped = Instant::now();
    assert!(world.gateway.stop().unwrap().success());
    assert!(stopped.elapsed() < Duration::from_secs(10), "{:?}", stopped.elapsed());
    assert!(world.gateway.log().contains("may not show their last state"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_rings_once_more_what_is_not_rung() {
    let bot = Bot::start(Behaviour::Answers(StatusCode::ACCEPTED)).await.unwrap();
    let mut world = world(&bot, "drain_seconds_max = 1", &[]).await;
    let ran = asks(&world, DELETE).await;
    bot.rings(3).await;
    let stopped = Instant::now();
    assert!(world.gateway.stop().unwrap().success());
    assert!(ran.await.unwrap().is_err());
    // Its end, after the sessions have had their second.
    let last = bot.came().pop().unwrap().at;
    assert!(last - stopped >= Duration::from_secs(1), "{:?}", last - stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_bot_whose_certificate_is_trusted_is_rung() {
    let authority = Authority::new("A bot's authority").unwrap();
    let trusted = tempfile::tempdir().unwrap();
    let file = trusted.path().join("roots.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    for is_trusted in [false, true] {
        let bot = Bot::start_encrypted(&authority).await.unwrap();
        let roots = [("SSL_CERT_FILE", file.to_str().unwrap())];
        let world = world(&bot, "", if is_trusted { &roots } else { &[] }).await;
        let ran = asks(&world, DELETE).await;
        let number = world.waiting().await.unwrap().number;
        if is_trusted {
            assert_eq!(bot.rings(1).await[0].approval, number);
        } else {
            let said = async || {
                world
                    .gateway
                    .log()
                    .contains("the bot does not take rings")
                    .then_some(())
            };
            eventually("the refusal", SOON, said).await.unwrap();
            assert!(world.gateway.log().contains("certificate"), "{}", world.gateway.log());
        }
        assert_eq!(world.approve("bob", &number).unwrap().0, 0);
        assert_eq!(ran.await.unwrap().unwrap(), 1);
        assert_eq!(bot.came().is_empty(), !is_trusted);
    }
}
