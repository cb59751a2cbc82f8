//! Whole operations as objects of S3: `operations/<digest>`.
//!
//! An object is written in one request, with its SHA-256, and takes the place of what lies under the name. A condition
//! (`If-None-Match`) would protect nothing here: whoever may write objects may write before or after. It would leave
//! an operation unreadable behind whatever lies there first, and the object at the end of its first term of retention.
//! In a bucket with versions, which Object Lock requires, what lay there before is kept as an older version.

use super::envelope::ENVELOPE_BYTES_MAX;
use super::keys::KeySource;
use super::retry::{BACKOFF, patiently};
use super::sealing::Sealing;
use super::{OperationError, OperationStore, WholeOperation};
use crate::aws::words;
use crate::domain::id::Digest;
use crate::recordings::s3::retention::{NO_LOCK, Retention};
use async_trait::async_trait;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::{ByteStream, ByteStreamError};
use aws_sdk_s3::types::{ChecksumMode, ServerSideEncryption};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// How long one object may take with all tries, beside what its size needs.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// One try, beside what its size needs.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// A line slower than this is taken for broken.
const BYTES_PER_SECOND_MIN: u64 = 4 << 20;

/// Where and how objects are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Options {
    pub bucket: String,
    /// The KMS key with which S3 encrypts the objects once more; without it the bucket's own setting holds.
    pub sse_kms_key: Option<String>,
    /// For so many days no version of an object can be deleted (Object Lock), or for longer where the bucket's own
    /// default says so; in its mode, else in governance mode.
    pub object_lock_days: Option<u32>,
}

/// Operations in a bucket.
#[derive(Clone)]
pub struct S3Operations {
    client: Client,
    options: S3Options,
    sealing: Sealing,
    /// What the options and the bucket's own default come to; asked once, with the first operation.
    retention: Arc<OnceCell<Retention>>,
}

impl S3Operations {
    /// Keeps operations in a bucket that is there. Asks nothing yet.
    pub fn new(client: Client, options: S3Options, keys: Arc<dyn KeySource>) -> Self {
        Self {
            client,
            options,
            sealing: Sealing::new(keys),
            retention: Arc::default(),
        }
    }

    /// The name of the object of an operation.
    pub fn name(digest: Digest) -> String {
        format!("operations/{digest}")
    }

    async fn retention(&self) -> Result<Option<&Retention>, OperationError> {
        let Some(days) = self.options.object_lock_days else {
            return Ok(None);
        };
        let retention = self.retention.get_or_try_init(|| self.ask_retention(days)).await?;
        Ok(Some(retention))
    }

    async fn ask_retention(&self, days: u32) -> Result<Retention, OperationError> {
        let ask = || {
            let request = self.client.get_object_lock_configuration();
            request.bucket(&self.options.bucket).send()
        };
        let found = match patiently(WAIT_MAX, ask).await {
            Ok(found) => found.object_lock_configuration,
            Err(failure) => match failure.service_error().and_then(ProvideErrorMetadata::code) {
                Some("ObjectLockConfigurationNotFoundError") => None,
                Some(_) | None => return Err(unavailable(failure.into_source())),
            },
        };
        Retention::of(days, found.as_ref()).ok_or_else(|| unavailable(NO_LOCK.into()))
    }
}

#[async_trait]
impl OperationStore for S3Operations {
    async fn keep(&self, digest: Digest, operation: &WholeOperation) -> Result<(), OperationError> {
        let sealed = Bytes::from(self.sealing.seal(digest, operation).await?);
        let checksum = BASE64_STANDARD.encode(Digest::of(&sealed).0);
        let longer = Duration::from_secs(sealed.len() as u64 / BYTES_PER_SECOND_MIN);
        let options = &self.options;
        let retention = self.retention().await?;
        let call = || {
            let request = self.client.put_object();
            request
                .bucket(&options.bucket)
                .key(Self::name(digest))
                .checksum_sha256(&checksum)
                .set_server_side_encryption(options.sse_kms_key.as_ref().map(|_| ServerSideEncryption::AwsKms))
                .set_ssekms_key_id(options.sse_kms_key.clone())
                .set_object_lock_mode(retention.map(|retention| retention.mode.clone()))
                .set_object_lock_retain_until_date(retention.map(|retention| retention.until(SystemTime::now())))
                .body(ByteStream::from(sealed.clone()))
                .customize()
                .config_override(attempt(ATTEMPT_MAX + longer))
                .send()
        };
        let put = patiently(WAIT_MAX + longer, call).await;
        put.map(drop).map_err(|failure| unavailable(failure.into_source()))
    }

    async fn read(&self, digest: Digest) -> Result<WholeOperation, OperationError> {
        let bytes = self.read_object(digest).await?;
        let bytes = bytes.ok_or_else(|| OperationError::Damaged {
            digest,
            why: "it is longer than any operation".to_owned(),
        })?;
        self.sealing.open(digest, bytes).await
    }
}

impl S3Operations {
    /// Reads an object, again while its body does not come whole; none where it is longer than any envelope.
    async fn read_object(&self, digest: Digest) -> Result<Option<Vec<u8>>, OperationError> {
        let (began, mut limit, mut backoff) = (Instant::now(), WAIT_MAX, BACKOFF);
        loop {
            let found = self.find(digest, limit.saturating_sub(began.elapsed())).await?;
            let size = found.content_length().and_then(|size| u64::try_from(size).ok());
            let size = size.unwrap_or_default().min(ENVELOPE_BYTES_MAX as u64);
            let longer = Duration::from_secs(size / BYTES_PER_SECOND_MIN);
            limit = WAIT_MAX + longer;
            let left = limit.saturating_sub(began.elapsed());
            let why = match tokio::time::timeout(left.min(ATTEMPT_MAX + longer), collect(found.body)).await {
                Ok(Ok(bytes)) => return Ok(bytes),
                Ok(Err(cut)) => words(&cut),
                Err(late) => late.to_string(),
            };
            let pause = backoff.pause();
            if began.elapsed() + pause >= limit {
                return Err(unavailable(why.into()));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// The head of an object, and its body to come.
    async fn find(&self, digest: Digest, limit: Duration) -> Result<GetObjectOutput, OperationError> {
        let call = || {
            let request = self.client.get_object();
            request
                .bucket(&self.options.bucket)
                .key(Self::name(digest))
                .checksum_mode(ChecksumMode::Enabled)
                .send()
        };
        patiently(limit, call).await.map_err(|failure| {
            let absent = failure.service_error().is_some_and(GetObjectError::is_no_such_key);
            match absent {
                true => OperationError::NotFound(digest),
                false => unavailable(failure.into_source()),
            }
        })
    }
}

fn attempt(limit: Duration) -> Builder {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(limit).build();
    Builder::new().timeout_config(timeouts)
}

/// Reads a body; none where it is longer than any envelope.
async fn collect(mut body: ByteStream) -> Result<Option<Vec<u8>>, ByteStreamError> {
    let mut bytes = Vec::new();
    while let Some(part) = body.next().await {
        let part = part?;
        if bytes.len() + part.len() > ENVELOPE_BYTES_MAX {
            return Ok(None);
        }
        bytes.extend_from_slice(&part);
    }
    Ok(Some(bytes))
}

fn unavailable(source: Box<dyn std::error::Error + Send + Sync>) -> OperationError {
    OperationError::Unavailable { source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::contract::example;
    use crate::operations::keys::FileKeys;
    use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    /// A server that says `whole` to each request; the first time it sends only a half of it.
    async fn cuts_the_first(listener: TcpListener, whole: Vec<u8>) {
        let mut sent = whole.len() / 2;
        while let Ok((stream, _)) = listener.accept().await {
            let (mut stream, mut line) = (BufReader::new(stream), String::new());
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).await.unwrap();
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                whole.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&whole[..sent]).await.unwrap();
            sent = whole.len();
        }
    }

    #[tokio::test]
    async fn an_object_that_is_cut_off_midway_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let keys = FileKeys::create(&directory.path().join("operations.key")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "tests"))
            .endpoint_url(format!("http://{}", listener.local_addr().unwrap()))
            .force_path_style(true)
            .build();
        let options = S3Options {
            bucket: "operations".to_owned(),
            ..S3Options::default()
        };
        let store = S3Operations::new(Client::from_conf(config), options, Arc::new(keys));
        let operation = example("delete from orders", b"delete from orders");
        let digest = operation.digest();
        let sealed = store.sealing.seal(digest, &operation).await.unwrap();
        let server = tokio::spawn(cuts_the_first(listener, sealed));
        let read = store.read(digest).await.unwrap();
        assert_eq!(read.digest(), digest);
        server.abort();
    }
}
