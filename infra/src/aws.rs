//! Amazon's services, or what stands in for them at `AWS_ENDPOINT_URL`.

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use std::time::Duration;

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
}

impl Aws {
    /// Reads region, credentials and endpoint as every AWS client does: environment, profile, container, instance.
    /// Connects to nothing.
    pub async fn from_environment() -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_MAX)
            .operation_attempt_timeout(ATTEMPT_MAX)
            .build();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .load()
            .await;
        // What stands in for S3 answers under one host name; S3 itself takes both forms.
        let s3 = aws_sdk_s3::config::Builder::from(&config)
            .force_path_style(config.endpoint_url().is_some())
            .build();
        Self {
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            s3: aws_sdk_s3::Client::from_conf(s3),
            kms: aws_sdk_kms::Client::new(&config),
        }
    }
}
