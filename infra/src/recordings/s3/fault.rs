//! What an error of the SDK means, and what can be done about it.

use super::super::RecordingError;
use crate::aws::{said, status_of};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use std::error::Error;

/// Codes under which S3 and KMS ask for patience, or say that bytes were damaged on the way, whatever the status.
const PASSING: [&str; 10] = [
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "KMS.ThrottlingException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "OperationAborted",
    "ConditionalRequestConflict",
    "BadDigest",
    "XAmzContentChecksumMismatch",
];

/// Why one try of a call gave no value.
#[derive(Debug)]
pub(super) enum Fault {
    /// The same call may succeed a moment later.
    Passing(String),
    /// It will not.
    Lasting(String),
    /// No fault at all: what the caller is to be told.
    Answer(RecordingError),
}

/// A call that did not succeed, with what it was about.
#[derive(Debug, thiserror::Error)]
#[error("{operation} s3://{bucket}/{key}: {message}")]
pub(super) struct S3Error {
    pub operation: &'static str,
    pub bucket: String,
    pub key: String,
    pub message: String,
}

impl Fault {
    pub fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let may_pass = match error {
            SdkError::TimeoutError(_) | SdkError::ResponseError(_) => true,
            SdkError::DispatchFailure(failure) => !failure.is_user(),
            SdkError::ServiceError(_) => is_passing(error),
            // Also what the SDK may add one day: not known to be safe to repeat.
            SdkError::ConstructionFailure(_) | _ => false,
        };
        let said = said(error);
        match may_pass {
            true => Self::Passing(said),
            false => Self::Lasting(match advice(error) {
                Some(advice) => format!("{said}: {advice}"),
                None => said,
            }),
        }
    }
}

fn is_passing<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let passes = |status| status >= 500 || status == 429 || status == 408;
    status_of(error).is_some_and(passes) || error.code().is_some_and(|code| PASSING.contains(&code))
}

/// What a person can do about it.
fn advice<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&'static str> {
    let advice = match (error.code().unwrap_or_default(), status_of(error)) {
        ("NoSuchBucket", _) => "create the bucket, or name another as store.bucket",
        ("ExpiredToken" | "InvalidAccessKeyId" | "InvalidToken" | "SignatureDoesNotMatch", _) => {
            "look at the credentials of the gateway"
        }
        ("RequestTimeTooSkewed", _) => "set the clock of this machine",
        ("InvalidObjectState", _) => "the object is archived: restore it first",
        ("AuthorizationHeaderMalformed" | "PermanentRedirect", _) | (_, Some(301)) => {
            "the bucket is in another region: set AWS_REGION to it"
        }
        (code, _) if code.starts_with("KMS.") => "look at the key of store.sse_kms_key and its policy",
        (_, Some(403)) => {
            "let the gateway's role do s3:PutObject, s3:GetObject and s3:ListBucket there; with Object Lock also \
             s3:PutObjectRetention and s3:GetBucketObjectLockConfiguration, with tags s3:PutObjectTagging, with a key \
             kms:GenerateDataKey and kms:Decrypt"
        }
        // An answer to HEAD has no code.
        ("" | "NotFound", Some(404)) => "create the bucket, or name another as store.bucket",
        _ => return None,
    };
    Some(advice)
}
