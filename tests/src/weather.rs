//! What lies between a program and its cloud: a proxy on loopback that counts the requests and, when it is told to,
//! answers errors, throttles, is slow or silent, loses answers, lies about the time or cuts all connections.

mod answer;
mod request;
mod trouble;
mod weigh;

use crate::cloud::Cloud;
use crate::harness::no_roots;
use crate::ports::free_port;
use anyhow::{Context, Result};
use axum::body::Body;
use countersign_infra::aws::Aws;
use hyper::Response;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use answer::Answer;
pub use request::{Seen, Service};
use trouble::Rule;
pub use trouble::{Requests, Trouble};
pub use weigh::Units;

const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Shorter than LocalStack keeps an idle connection, so that none is used which it is just closing.
const IDLE: Duration = Duration::from_secs(1);
const FORWARD_LIMIT: Duration = Duration::from_secs(120);
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A proxy to one endpoint. It ends when it is dropped.
pub struct Weather {
    sky: Arc<Sky>,
}

/// Rules and counts by request, shared with the tasks that serve connections.
struct Sky {
    upstream: String,
    port: u16,
    client: reqwest::Client,
    rules: Mutex<Vec<Arc<Rule>>>,
    tallies: Mutex<BTreeMap<(Service, String), Tally>>,
    weighs: AtomicBool,
    /// None while all connections are cut.
    listening: Mutex<Option<JoinHandle<()>>>,
}

/// What was asked of one operation. Lost, refused and failed requests count as soon as they were read; the answer's
/// bytes are those of forwarded requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    pub requests: u64,
    pub request_bytes: u64,
    pub answer_bytes: u64,
    /// What DynamoDB charges for the answered requests, from `Weather::weigh` on.
    pub units: Units,
}

/// A trouble that was ordered.
#[derive(Clone)]
pub struct Order {
    sky: Arc<Sky>,
    rule: Arc<Rule>,
}

impl Weather {
    /// Opens a proxy to a cloud, in fair weather.
    pub async fn over(cloud: &Cloud) -> Result<Self> {
        Self::before(cloud.endpoint()).await
    }

    /// Opens a proxy to what stands at `upstream` (`http://127.0.0.1:...`).
    pub async fn before(upstream: &str) -> Result<Self> {
        let client = reqwest::Client::builder()
            .use_preconfigured_tls(no_roots()?)
            .no_proxy()
            .pool_idle_timeout(IDLE)
            .timeout(FORWARD_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let sky = Arc::new(Sky {
            upstream: upstream.trim_end_matches('/').to_owned(),
            port: free_port()?,
            client,
            rules: Mutex::default(),
            tallies: Mutex::default(),
            weighs: AtomicBool::new(false),
            listening: Mutex::default(),
        });
        open(&sky).await?;
        Ok(Self { sky })
    }

    /// What `AWS_ENDPOINT_URL` has to be for a program under this weather.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.sky.port)
    }

    /// Clients under this weather; see `Cloud::aws`.
    pub async fn aws(&self) -> Aws {
        Cloud::aws_at(&self.endpoint()).await
    }

    /// The environment of a program under this weather.
    pub fn environment(&self) -> Vec<(String, OsString)> {
        Cloud::environment(&self.endpoint())
    }

    /// Orders trouble for some requests, from now on until it is lifted or the weather cleared. A request may meet
    /// several troubles: they come in the order in which they were ordered.
    pub fn order(&self, requests: Requests, trouble: Trouble) -> Order {
        let rule = Arc::new(Rule::new(requests, trouble));
        lock(&self.sky.rules).push(Arc::clone(&rule));
        let sky = Arc::clone(&self.sky);
        Order { sky, rule }
    }

    /// Drops every connection and refuses new ones until `clear`.
    pub async fn cut(&self) {
        if let Some(listening) = self.sky.cut() {
            let _ = listening.await;
        }
    }

    /// Lifts every trouble, and takes connections again.
    ///
    /// # Errors
    ///
    /// When somebody took the port while connections were cut.
    pub async fn clear(&self) -> Result<()> {
        lock(&self.sky.rules).clear();
        open(&self.sky).await
    }

    /// What was asked so far, by service and operation.
    pub fn tallies(&self) -> BTreeMap<(Service, String), Tally> {
        lock(&self.sky.tallies).clone()
    }

    /// How often an operation was asked for.
    pub fn count(&self, service: Service, operation: &str) -> u64 {
        let tallies = lock(&self.sky.tallies);
        tallies
            .get(&(service, operation.to_owned()))
            .map_or(0, |tally| tally.requests)
    }

    /// How often anything was asked of a service.
    pub fn count_all(&self, service: Service) -> u64 {
        let tallies = lock(&self.sky.tallies);
        let of_service = tallies.iter().filter(|((of, _), _)| *of == service);
        of_service.map(|(_, tally)| tally.requests).sum()
    }

    /// From now on counts the request units of DynamoDB too.
    pub fn weigh(&self) {
        self.sky.weighs.store(true, Ordering::Relaxed);
    }

    /// Counts from zero again.
    pub fn count_anew(&self) {
        lock(&self.sky.tallies).clear();
    }
}

impl Drop for Weather {
    fn drop(&mut self) {
        drop(self.sky.cut());
    }
}

impl Order {
    /// How many requests met it so far.
    pub fn met(&self) -> u64 {
        self.rule.met()
    }

    /// Ends it for requests to come.
    pub fn lift(&self) {
        lock(&self.sky.rules).retain(|rule| !Arc::ptr_eq(rule, &self.rule));
    }
}

impl Sky {
    /// Stops listening and, as soon as the task is dropped, every connection.
    fn cut(&self) -> Option<JoinHandle<()>> {
        let listening = lock(&self.listening).take()?;
        listening.abort();
        Some(listening)
    }

    fn troubles_of(&self, seen: &Seen) -> Vec<Trouble> {
        let rules = lock(&self.rules).clone();
        rules.iter().filter_map(|rule| rule.strikes(seen)).collect()
    }

    fn tally(&self, seen: &Seen, change: impl FnOnce(&mut Tally)) {
        let mut tallies = lock(&self.tallies);
        change(tallies.entry((seen.service, seen.operation.clone())).or_default());
    }

    /// One request. None closes the connection without an answer.
    async fn handle(&self, request: hyper::Request<Incoming>) -> Option<Response<Body>> {
        let (head, body) = request.into_parts();
        let Ok(body) = axum::body::to_bytes(Body::new(body), REQUEST_BYTES_MAX).await else {
            return Some(answer::proxy_failure(
                "the request is longer than 16 MiB, or was cut off",
            ));
        };
        let seen = Seen::read(&head, body);
        let bytes = seen.body.len() as u64;
        self.tally(&seen, |tally| {
            tally.requests += 1;
            tally.request_bytes += bytes;
        });
        let troubles = self.troubles_of(&seen);
        for trouble in &troubles {
            match trouble {
                Trouble::Before(hook) => hook(seen.clone()).await,
                Trouble::Slow(delay) => tokio::time::sleep(*delay).await,
                Trouble::Fail => return Some(answer::failure(&seen)),
                Trouble::Throttle => return Some(answer::throttled(&seen)),
                Trouble::Silence => std::future::pending().await,
                Trouble::Cut => {
                    drop(self.cut());
                    std::future::pending().await
                }
                Trouble::After(_) | Trouble::LoseAnswer | Trouble::ShiftDate(_) => {}
            }
        }
        let mut answer = match self.fetch(&head, &seen).await {
            Ok(answer) => answer,
            Err(error) => return Some(answer::proxy_failure(&format!("{error:#}"))),
        };
        for trouble in &troubles {
            match trouble {
                Trouble::After(hook) => hook(seen.clone()).await,
                Trouble::ShiftDate(seconds) => answer.shift_date(*seconds),
                Trouble::LoseAnswer => return None,
                Trouble::Before(_)
                | Trouble::Slow(_)
                | Trouble::Fail
                | Trouble::Throttle
                | Trouble::Silence
                | Trouble::Cut => {}
            }
        }
        Some(answer.into_response())
    }

    async fn fetch(&self, head: &Parts, seen: &Seen) -> Result<Answer> {
        let weighs = seen.service == Service::DynamoDb && self.weighs.load(Ordering::Relaxed);
        let mut sent = seen.clone();
        if weighs {
            sent.body = weigh::asking(&seen.body);
        }
        let answer = Answer::fetch(&self.client, &self.upstream, head, &sent).await?;
        let units = if weighs {
            weigh::units(seen, &answer.body)
        } else {
            Units::default()
        };
        let bytes = answer.body.len() as u64;
        self.tally(seen, |tally| {
            tally.answer_bytes += bytes;
            tally.units.read += units.read;
            tally.units.write += units.write;
        });
        Ok(answer)
    }
}

/// Listens, unless it does already.
async fn open(sky: &Arc<Sky>) -> Result<()> {
    if lock(&sky.listening).is_some() {
        return Ok(());
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, sky.port)).await;
    let listener = listener.with_context(|| format!("the proxy's port {} is not free", sky.port))?;
    let listening = tokio::spawn(serve(listener, Arc::clone(sky)));
    *lock(&sky.listening) = Some(listening);
    Ok(())
}

/// Takes connections until it is aborted, and all of them with it.
async fn serve(listener: TcpListener, sky: Arc<Sky>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(serve_connection(stream, Arc::clone(&sky)));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection(stream: TcpStream, sky: Arc<Sky>) {
    let service = service_fn(move |request| {
        let sky = Arc::clone(&sky);
        async move { sky.handle(request).await.ok_or("the answer is lost") }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // An error is a lost answer, or a client that went away: both are what tests bring about.
    let _ = connection.await;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
