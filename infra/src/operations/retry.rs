//! Calls to Amazon's services, made again while that may help.
//!
//! The clients repeat nothing by themselves. Every call here may be repeated: a data key that is made twice is only not
//! used, an object that is written twice is the same object.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use std::time::Duration;
use tokio::time::Instant;

const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Names under which services say "slower", whatever the status.
const THROTTLED: [&str; 5] = [
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "SlowDown",
    "TooManyRequestsException",
];

/// Why a call did not succeed.
#[derive(Debug)]
pub enum Failure<E> {
    /// What the service said last.
    Said(SdkError<E, HttpResponse>),
    /// It said nothing in time.
    TimedOut,
}

impl<E: std::error::Error + Send + Sync + 'static> Failure<E> {
    pub fn into_source(self) -> Box<dyn std::error::Error + Send + Sync> {
        match self {
            Self::Said(error) => Box::new(Worded::of(&error)),
            Self::TimedOut => "it did not answer in time".into(),
        }
    }
}

/// An SDK's error prints little more than "service error": this prints its causes too.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Worded(String);

impl Worded {
    fn of(error: &dyn std::error::Error) -> Self {
        let mut words = vec![error.to_string()];
        let mut source = error.source();
        while let Some(cause) = source {
            words.push(cause.to_string());
            source = cause.source();
        }
        Self(words.join(": "))
    }
}

/// Makes a call until it succeeds, fails for good, or `limit` has passed. Between tries it waits a random time below a
/// bound that doubles, so that many callers do not come back at once.
pub async fn patiently<T, E, F>(limit: Duration, mut call: impl FnMut() -> F) -> Result<T, Failure<E>>
where
    E: ProvideErrorMetadata,
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
{
    let deadline = Instant::now() + limit;
    let (mut pause_max, mut last) = (PAUSE_FIRST, Failure::TimedOut);
    while let Ok(result) = tokio::time::timeout_at(deadline, call()).await {
        match result {
            Ok(value) => return Ok(value),
            Err(error) if !may_pass(&error) => return Err(Failure::Said(error)),
            Err(error) => last = Failure::Said(error),
        }
        let pause = random_below(pause_max);
        if Instant::now() + pause >= deadline {
            break;
        }
        tokio::time::sleep(pause).await;
        pause_max = (pause_max * 2).min(PAUSE_MAX);
    }
    Err(last)
}

/// Whether the same call may succeed a moment later.
fn may_pass<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    if matches!(error, SdkError::ConstructionFailure(_)) {
        return false;
    }
    if error.as_service_error().is_none() {
        // Timed out, not reached, or an answer that was cut off.
        return true;
    }
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    let said = error.code().unwrap_or_default();
    status >= 500 || status == 429 || THROTTLED.contains(&said)
}

fn random_below(bound: Duration) -> Duration {
    let mut random = [0; 4];
    match aws_lc_rs::rand::fill(&mut random) {
        Ok(()) => bound.mul_f64(f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX)),
        Err(_) => bound,
    }
}
