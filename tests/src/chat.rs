//! What the fake chats share: faults on demand, the log of what was asked, and connections that can be cut.

mod line;

pub use line::{Cut, Lines};

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The longest request that a fake chat reads.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How many requests are kept; the oldest go first.
const REQUESTS_MAX: usize = 20_000;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Refused for now, with the time to wait for.
    RateLimited(Duration),
    /// Nothing is done, and the answer is this status.
    Status(u16),
    /// Nothing is done, and nothing is answered.
    Silent,
    /// Nothing is done, and the connection ends.
    Drop,
    /// It is done, and the answer is this status.
    DoneButStatus(u16),
    /// It is done, and the connection ends.
    DoneButDrop,
}

/// How requests are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seal {
    #[default]
    Good,
    /// With another secret.
    Forged,
    /// As long ago as that.
    Aged(Duration),
    /// Not at all.
    None,
}

/// What a bot said to a click, a command, a submission or an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Of HTTP; 200 where it came over a WebSocket.
    pub status: u16,
    /// Null where there was none.
    pub body: Value,
    /// How often it was sent before it was taken.
    pub deliveries: usize,
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// What was asked: `chat.postMessage`, or `POST /channels/{channel}/messages`.
    pub method: String,
    pub path: String,
    pub body: Value,
    pub when: DateTime<Utc>,
}

/// How often which fault is still due, whether there is an outage, and what was asked.
#[derive(Default)]
pub struct Weather {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    due: Vec<Due>,
    is_out: bool,
    requests: VecDeque<Request>,
    rates: Vec<Rate>,
}

/// How often a method may be asked in one channel: a token bucket of a second's worth.
struct Rate {
    method: String,
    a_second: f64,
    left: HashMap<String, (f64, Instant)>,
}

impl Rate {
    fn takes(&mut self, channel: &str, now: Instant) -> bool {
        let full = self.a_second.max(1.0);
        let (left, at) = self.left.entry(channel.to_owned()).or_insert((full, now));
        let gone = now.saturating_duration_since(*at).as_secs_f64();
        (*left, *at) = ((*left + gone * self.a_second).min(full), now);
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }
}

struct Due {
    /// Any, when there is none.
    method: Option<String>,
    times: usize,
    fault: Fault,
}

impl Weather {
    /// The next requests meet a fault: those of a method, or any.
    pub fn fail_next(&self, method: Option<&str>, times: usize, fault: Fault) {
        self.lock().due.push(Due {
            method: method.map(str::to_owned),
            times,
            fault,
        });
    }

    pub fn outage(&self, is_out: bool) {
        self.lock().is_out = is_out;
    }

    /// A method is done no more often than that in each channel; above it is asked to wait for a second.
    pub fn limit(&self, method: &str, a_second: f64) {
        self.lock().rates.push(Rate {
            method: method.to_owned(),
            a_second,
            left: HashMap::new(),
        });
    }

    pub fn is_out(&self) -> bool {
        self.lock().is_out
    }

    pub fn requests(&self) -> Vec<Request> {
        self.lock().requests.iter().cloned().collect()
    }

    /// Keeps a request and says what is to go wrong with it.
    pub fn take(&self, request: Request) -> Option<Fault> {
        let mut state = self.lock();
        let method = request.method.clone();
        let channel = request.body.get("channel").and_then(Value::as_str);
        let channel = channel.unwrap_or(&request.path).to_owned();
        if state.requests.len() >= REQUESTS_MAX {
            state.requests.pop_front();
        }
        state.requests.push_back(request);
        if state.is_out {
            return Some(Fault::Drop);
        }
        let due = &mut state.due;
        let due = due
            .iter_mut()
            .find(|due| due.times > 0 && due.method.as_deref().is_none_or(|wanted| wanted == method));
        let Some(due) = due else {
            let mut rates = state.rates.iter_mut().filter(|rate| rate.method == method);
            let takes = rates.all(|rate| rate.takes(&channel, Instant::now()));
            return (!takes).then_some(Fault::RateLimited(Duration::from_secs(1)));
        };
        due.times -= 1;
        let fault = due.fault;
        state.due.retain(|due| due.times > 0);
        Some(fault)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers as the fault wants it, doing the work only where it says so. `limited` words the refusal for now.
pub async fn answer(
    fault: Option<Fault>,
    cut: &Cut,
    limited: impl FnOnce(Duration) -> Response,
    work: impl Future<Output = Response>,
) -> Response {
    match fault {
        None => work.await,
        Some(Fault::RateLimited(wait)) => limited(wait),
        Some(Fault::Status(status)) => failed(status),
        Some(Fault::Silent) => std::future::pending().await,
        Some(Fault::Drop) => dropped(cut),
        Some(Fault::DoneButStatus(status)) => {
            work.await;
            failed(status)
        }
        Some(Fault::DoneButDrop) => {
            work.await;
            dropped(cut)
        }
    }
}

fn failed(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, "upstream connect error").into_response()
}

/// The answer is never written: the connection ends instead.
fn dropped(cut: &Cut) -> Response {
    cut.cut();
    Response::new(Body::empty())
}

/// An answer that is not JSON is kept as a string; none is null.
pub async fn read(response: reqwest::Response, deliveries: usize) -> anyhow::Result<Answer> {
    let status = response.status().as_u16();
    let text = response.text().await?;
    let body = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    };
    Ok(Answer {
        status,
        body,
        deliveries,
    })
}
