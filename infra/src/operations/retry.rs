//! Calls to Amazon's services, made again while that may help.
//!
//! The clients repeat nothing by themselves. Every call here may be repeated: a data key that is made twice is only not
//! used, an object that is written twice is the same object.

use crate::aws::{said, status_of};
use crate::backoff::Backoff;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use std::time::Duration;
use tokio::time::Instant;

pub(super) const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

/// Names under which S3 and KMS ask for patience, or say that bytes were damaged on the way, whatever the status.
const PASSING: [&str; 9] = [
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "KMS.ThrottlingException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "OperationAborted",
    "BadDigest",
    "XAmzContentChecksumMismatch",
];

/// Why a call did not succeed.
#[derive(Debug)]
pub enum Failure<E> {
    /// What the service said last.
    Said(Box<SdkError<E, HttpResponse>>),
    /// It said nothing in time.
    TimedOut,
}

impl<E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static> Failure<E> {
    /// What the service itself said last.
    pub fn service_error(&self) -> Option<&E> {
        match self {
            Self::Said(error) => error.as_service_error(),
            Self::TimedOut => None,
        }
    }

    pub fn into_source(self) -> Box<dyn std::error::Error + Send + Sync> {
        match self {
            Self::Said(error) => said(&error).into(),
            Self::TimedOut => "it did not answer in time".into(),
        }
    }
}

/// Makes a call until it succeeds, fails for good, or `limit` has passed.
pub async fn patiently<T, E, F>(limit: Duration, mut call: impl FnMut() -> F) -> Result<T, Failure<E>>
where
    E: ProvideErrorMetadata,
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
{
    let deadline = Instant::now() + limit;
    let (mut backoff, mut last) = (BACKOFF, Failure::TimedOut);
    while let Ok(result) = tokio::time::timeout_at(deadline, call()).await {
        match result {
            Ok(value) => return Ok(value),
            Err(error) if !may_pass(&error) => return Err(Failure::Said(Box::new(error))),
            Err(error) => last = Failure::Said(Box::new(error)),
        }
        let pause = backoff.pause();
        if Instant::now() + pause >= deadline {
            break;
        }
        tokio::time::sleep(pause).await;
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
    let status = status_of(error).unwrap_or_default();
    let said = error.code().unwrap_or_default();
    status >= 500 || status == 429 || status == 408 || PASSING.contains(&said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_kms::operation::decrypt::DecryptError;
    use aws_sdk_s3::config::http::HttpResponse;
    use aws_sdk_s3::error::ErrorMetadata;
    use aws_sdk_s3::primitives::SdkBody;
    use std::cell::Cell;

    type Said = SdkError<DecryptError, HttpResponse>;

    fn said(status: u16, code: &str) -> Said {
        let metadata = ErrorMetadata::builder().code(code).build();
        let response = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
        SdkError::service_error(DecryptError::generic(metadata), response)
    }

    fn timed_out() -> Said {
        SdkError::timeout_error("late")
    }

    /// How often a call is made that fails twice with that error.
    async fn calls(error: fn() -> Said) -> usize {
        let calls = Cell::new(0);
        let call = async || {
            calls.set(calls.get() + 1);
            if calls.get() < 3 { Err(error()) } else { Ok(()) }
        };
        drop(patiently(Duration::from_secs(10), call).await);
        calls.get()
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_and_what_is_for_good_is_not() {
        assert_eq!(calls(|| said(400, "ThrottlingException")).await, 3);
        assert_eq!(calls(|| said(503, "SlowDown")).await, 3);
        assert_eq!(calls(|| said(500, "KMSInternalException")).await, 3);
        assert_eq!(calls(|| said(429, "")).await, 3);
        assert_eq!(calls(timed_out).await, 3);
        assert_eq!(calls(|| said(400, "InvalidCiphertextException")).await, 1);
        assert_eq!(calls(|| said(400, "DisabledException")).await, 1);
        assert_eq!(calls(|| said(403, "AccessDenied")).await, 1);
        assert_eq!(calls(|| SdkError::construction_failure("no bucket")).await, 1);
    }

    #[tokio::test]
    async fn a_service_that_only_fails_or_never_answers_is_given_up_in_time() {
        let limit = Duration::from_millis(300);
        let started = Instant::now();
        let failed = patiently(limit, async || Err::<(), _>(said(503, "SlowDown"))).await;
        let words = failed.unwrap_err().into_source().to_string();
        assert!(words.contains("SlowDown"), "{words}");
        let silent = patiently(limit, std::future::pending::<Result<(), Said>>).await;
        assert!(matches!(silent, Err(Failure::TimedOut)));
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
