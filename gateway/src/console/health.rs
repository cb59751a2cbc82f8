//! `GET /healthz` and `GET /readyz`: whether the process lives, and whether it can do its work.

use super::Console;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use countersign_infra::approvals::ClockOff;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use utoipa::ToSchema;

/// One check may take so long.
const CHECK_TIME_MAX: Duration = Duration::from_secs(3);
/// An answer is reused for so long: asking needs no token.
const ANSWER_KEPT: Duration = Duration::from_secs(1);

pub const LIVE_PATH: &str = "/healthz";

/// The last answer.
#[derive(Default)]
pub struct Readiness(Mutex<Option<(Instant, Ready)>>);

/// Whether the gateway can do its work.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    pub ready: bool,
    pub checks: Vec<Check>,
}

/// One thing that must be in order.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// `approvals`, `clock`, `journal`, `recordings` or `policy`.
    pub name: String,
    pub ok: bool,
    /// What is wrong; none when nothing is.
    pub detail: Option<String>,
}

/// Says that the process lives.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Alive {
    pub alive: bool,
}

/// Says that the process lives.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = Alive)), security(()))]
pub async fn live() -> Json<Alive> {
    Json(Alive { alive: true })
}

/// Says whether the gateway can do its work, check by check.
#[utoipa::path(
    get, path = "/readyz", security(()),
    responses((status = 200, body = Ready), (status = 503, description = "A check fails", body = Ready))
)]
pub async fn ready(State(console): State<Arc<Console>>) -> Response {
    let answer = match console.readiness.fresh() {
        Some(answer) => answer,
        None => console.readiness.keep(check(&console).await),
    };
    let status = if answer.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(answer)).into_response()
}

impl Readiness {
    fn fresh(&self) -> Option<Ready> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref()
            .filter(|(at, _)| at.elapsed() < ANSWER_KEPT)
            .map(|(_, answer)| answer.clone())
    }

    fn keep(&self, answer: Ready) -> Ready {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), answer.clone()));
        answer
    }
}

async fn check(console: &Console) -> Ready {
    let (store, journal, recordings) = tokio::join!(
        store_clock(console),
        outcome("journal", console.reader.probe()),
        outcome("recordings", console.recordings.probe()),
    );
    let recordings = match (console.unsent)() {
        // No session is opened until something has been sent again, whatever the store says to a probe.
        Some(since) if recordings.ok => failed(
            "recordings",
            format!("nothing could be sent for {} s; it is tried again", since.as_secs()),
        ),
        Some(_) | None => recordings,
    };
    let policy = match console.policy.last_error() {
        None => passed("policy"),
        Some(error) => {
            let faults = error.faults.len();
            failed(
                "policy",
                format!("the files have {faults} faults: the rules read before stay in force"),
            )
        }
    };
    let mut checks = store;
    checks.extend([journal, recordings, policy]);
    Ready {
        ready: checks.iter().all(|check| check.ok),
        checks,
    }
}

/// The store answers, and its clock is near ours.
async fn store_clock(console: &Console) -> Vec<Check> {
    match tokio::time::timeout(CHECK_TIME_MAX, console.clock.compare()).await {
        Ok(Ok(())) => vec![passed("approvals"), passed("clock")],
        Ok(Err(error @ ClockOff::Off { .. })) => vec![passed("approvals"), failed("clock", error.to_string())],
        Ok(Err(ClockOff::Unknown(error))) => {
            tracing::warn!(%error, "the approval store is not ready");
            vec![failed("approvals", "does not answer"), failed("clock", "not known")]
        }
        Err(_) => vec![failed("approvals", "took too long"), failed("clock", "not known")],
    }
}

async fn outcome<E: std::fmt::Display>(name: &str, work: impl Future<Output = Result<(), E>>) -> Check {
    match tokio::time::timeout(CHECK_TIME_MAX, work).await {
        Ok(Ok(())) => passed(name),
        Ok(Err(error)) => {
            tracing::warn!(%error, check = name, "a part is not ready");
            failed(name, "does not answer")
        }
        Err(_) => failed(name, "took too long"),
    }
}

fn passed(name: &str) -> Check {
    Check {
        name: name.to_owned(),
        ok: true,
        detail: None,
    }
}

fn failed(name: &str, why: impl Into<String>) -> Check {
    Check {
        name: name.to_owned(),
        ok: false,
        detail: Some(why.into()),
    }
}
