//! Amazon's services, or what stands in for them at `AWS_ENDPOINT_URL`.

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// From the start of a connection to its handshake's end.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// One try of one call.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// The clients of the services that stores stand on. Cheap to clone; clones share their connections.
///
/// No client repeats a call by itself: a store knows which calls may be repeated, and with which token.
#[derive(Clone, Debug)]
pub struct Aws {
    pub dynamodb: aws_sdk_dynamodb::Client,
    pub s3: aws_sdk_s3::Client,
    pub kms: aws_sdk_kms::Client,
    /// When the credentials end that `s3` signs with.
    pub s3_credentials: CredentialsEnd,
}

impl Aws {
    /// Reads region, credentials and endpoint as every AWS client does: environment, profile, container, instance.
    /// Connects to nothing.
    pub async fn from_environment() -> Self {
        Self::of(&environment(RetryConfig::disabled()).await)
    }

    /// Clients of one configuration. Connects to nothing.
    pub fn of(config: &SdkConfig) -> Self {
        let s3_credentials = CredentialsEnd::default();
        // What stands in for S3 answers under one host name; S3 itself takes both forms.
        let mut s3 = aws_sdk_s3::config::Builder::from(config).force_path_style(config.endpoint_url().is_some());
        s3.set_credentials_provider(config.credentials_provider().map(|from| s3_credentials.noted(from)));
        Self {
            dynamodb: aws_sdk_dynamodb::Client::new(config),
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            kms: aws_sdk_kms::Client::new(config),
            s3_credentials,
        }
    }
}

/// What the environment says of region, credentials and endpoint. Connects to nothing.
pub(crate) async fn environment(retries: RetryConfig) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_MAX)
        .operation_attempt_timeout(ATTEMPT_MAX)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .retry_config(retries)
        .timeout_config(timeouts)
        .load()
        .await
}

/// When the credentials that a client uses end: what it signs for others is of no use after that.
#[derive(Clone, Debug, Default)]
pub struct CredentialsEnd(Arc<Mutex<Option<SystemTime>>>);

impl CredentialsEnd {
    /// Notes the end of all credentials that come from there.
    pub fn noted(&self, from: SharedCredentialsProvider) -> SharedCredentialsProvider {
        let end = self.clone();
        SharedCredentialsProvider::new(Noted { from, end })
    }

    /// The end of those that came last; none when they have no end, or none came yet.
    pub fn at(&self) -> Option<SystemTime> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Noted {
    from: SharedCredentialsProvider,
    end: CredentialsEnd,
}

impl ProvideCredentials for Noted {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let credentials = self.from.provide_credentials().await?;
            *self.end.0.lock().unwrap_or_else(PoisonError::into_inner) = credentials.expiry();
            Ok(credentials)
        })
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.from.fallback_on_interrupt()
    }
}

/// What became of a call, in words: the service's status, code and message, else the error with its causes.
///
/// Never the answer itself: it may hold statements, names and votes, and words go to logs.
pub(crate) fn said<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let SdkError::ServiceError(_) = error else {
        return words(error);
    };
    let status = status_of(error).map(|status| format!("HTTP {status}"));
    let parts = [status.as_deref(), error.code(), error.message()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The HTTP status of the answer.
pub(crate) fn status_of<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// An error with all its causes: the SDK's own prints little more than "service error".
pub(crate) fn words(error: &dyn Error) -> String {
    let mut words = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if words.last() != Some(&cause_words) {
            words.push(cause_words);
        }
        source = cause.source();
    }
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::operation::get_item::GetItemError;
    use aws_sdk_s3::error::ErrorMetadata;
    use aws_sdk_s3::primitives::SdkBody;

    type Told = SdkError<GetItemError, HttpResponse>;

    fn response(status: u16) -> HttpResponse {
        let body = SdkBody::from(r#"{"Item":{"record":{"S":"update salaries set"#);
        let mut response = HttpResponse::new(status.try_into().unwrap(), body);
        response.headers_mut().insert("x-amzn-requestid", "salaries");
        response
    }

    #[test]
    fn words_tell_what_was_said_and_why_and_nothing_of_the_answer() {
        let metadata = ErrorMetadata::builder().code("InternalServerError").message("not now");
        let failed = Told::service_error(GetItemError::generic(metadata.build()), response(500));
        assert_eq!(said(&failed), "HTTP 500 InternalServerError not now");

        let cut = std::io::Error::other("the answer ends too soon");
        let damaged = said(&Told::response_error(cut, response(200)));
        assert!(damaged.ends_with("the answer ends too soon"), "{damaged}");
        let late = said(&Told::timeout_error("late"));
        assert!(late.contains("late"), "{late}");
        for words in [damaged, late] {
            assert!(!words.contains("salaries") && !words.contains('{'), "{words}");
        }
    }
}
