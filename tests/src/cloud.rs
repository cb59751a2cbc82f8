//! A throwaway LocalStack: S3, KMS, Secrets Manager and Amazon's own DynamoDB emulator, on loopback only.

mod table;
mod terraform;

use crate::ports::free_port;
use crate::process::{Process, Program};
use crate::wait::eventually;
use anyhow::{Context, Result, bail};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration, DefaultRetention,
    ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule, VersioningConfiguration,
};
use countersign_infra::aws::Aws;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::process::Command;

pub use table::{create_table, describe_table};

/// Where tests take place. Not the region that clients fall back to, so that a client which forgot it is found out.
pub const REGION: &str = "eu-central-1";
/// LocalStack's account and, at the same time, key.
const ACCESS_KEY: &str = "test";
/// Set to `external`, tests take what stands at `AWS_ENDPOINT_URL` instead of starting a LocalStack.
const CHOICE: &str = "COUNTERSIGN_TEST_CLOUD";
const SERVICES: &str = "s3,dynamodb,sts,kms,secretsmanager";

const INSTALL_LIMIT: Duration = Duration::from_secs(1800);
const START_LIMIT: Duration = Duration::from_secs(120);
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);

/// What a gateway's stores are called there.
#[derive(Clone, Debug)]
pub struct CloudStores {
    pub table: String,
    pub bucket: String,
    /// An ARN.
    pub kms_key: String,
}

impl CloudStores {
    /// The lines of `[store]` that name them.
    pub fn configuration(&self) -> String {
        let Self { table, bucket, kms_key } = self;
        format!("kind = \"aws\"\ntable = \"{table}\"\nbucket = \"{bucket}\"\noperations_key = \"kms:{kms_key}\"")
    }
}

/// What a secret holds.
#[derive(Clone, Copy, Debug)]
pub enum SecretValue<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

/// A running LocalStack. Its processes and its directory are gone when it is dropped, or when this process ends in
/// whatever way.
pub struct Cloud {
    endpoint: String,
    /// None for one that somebody else started.
    process: Option<Mutex<Process>>,
}

impl Cloud {
    /// Starts a LocalStack of one's own, which takes about ten seconds; installs it first where it is missing.
    pub async fn start() -> Result<Self> {
        let localstack = localstack();
        install(&localstack).await?;
        let directory = tempfile::Builder::new().prefix("countersign-cloud-").tempdir()?.keep();
        let port = free_port()?;
        let process = Process::start(&Program {
            path: localstack.join("run.sh"),
            arguments: vec![port.to_string().into(), directory.clone().into_os_string()],
            environment: vec![("CLOUD_SERVICES".to_owned(), SERVICES.into())],
            directory: Some(directory.clone()),
            log: directory.join("log"),
            stop_signal: "KILL",
            remove: Some(directory),
        })?;
        let cloud = Self {
            endpoint: format!("http://127.0.0.1:{port}"),
            process: Some(Mutex::new(process)),
        };
        cloud.wait_until_ready().await?;
        Ok(cloud)
    }

    /// The one that all tests of this binary share. Take tables, buckets and keys of your own in it.
    pub async fn shared() -> Result<Arc<Self>> {
        static SHARED: tokio::sync::OnceCell<Arc<Cloud>> = tokio::sync::OnceCell::const_new();
        let start = async || match std::env::var(CHOICE).as_deref() {
            Err(_) | Ok("") => Self::start().await.map(Arc::new),
            Ok("external") => Self::external().await.map(Arc::new),
            Ok(other) => bail!("{CHOICE} is {other:?}: it takes `external`, or is not set"),
        };
        SHARED.get_or_try_init(start).await.cloned()
    }

    async fn external() -> Result<Self> {
        let endpoint = std::env::var("AWS_ENDPOINT_URL")
            .with_context(|| format!("{CHOICE} is external, so AWS_ENDPOINT_URL must name a LocalStack"))?;
        let cloud = Self {
            endpoint,
            process: None,
        };
        cloud.wait_until_ready().await?;
        Ok(cloud)
    }

    /// What `AWS_ENDPOINT_URL` has to be.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Clients of this cloud. Connections belong to the runtime that opened them: take clients of your own in
    /// each test.
    pub async fn aws(&self) -> Aws {
        Self::aws_at(&self.endpoint).await
    }

    /// Clients as `Aws::from_environment` makes them, with test credentials, for what stands at `endpoint`.
    pub async fn aws_at(endpoint: &str) -> Aws {
        Aws::of(&Self::configuration(endpoint).await)
    }

    async fn configuration(endpoint: &str) -> SdkConfig {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_LIMIT)
            .operation_attempt_timeout(ATTEMPT_LIMIT)
            .build();
        aws_config::defaults(BehaviorVersion::latest())
            .endpoint_url(endpoint)
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new(ACCESS_KEY, ACCESS_KEY, None, None, "tests"))
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .load()
            .await
    }

    /// What a program needs in its environment to use the cloud at `endpoint`: this one's own, or a `Weather`'s.
    pub fn environment(endpoint: &str) -> Vec<(String, OsString)> {
        let variables = [
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", ACCESS_KEY),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ];
        variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect()
    }

    /// Makes a table as `terraform/modules/store` does, and gives its name.
    pub async fn table(&self) -> Result<String> {
        let name = fresh_name("store");
        create_table(&self.aws().await.dynamodb, &name).await?;
        Ok(name)
    }

    /// Makes a bucket with versions, and gives its name. With `object_lock`, what is put there is kept for a day in
    /// GOVERNANCE mode.
    pub async fn bucket(&self, object_lock: bool) -> Result<String> {
        let name = fresh_name("recordings");
        let s3 = self.aws().await.s3;
        let place = CreateBucketConfiguration::builder()
            .location_constraint(BucketLocationConstraint::from(REGION))
            .build();
        s3.create_bucket()
            .bucket(&name)
            .create_bucket_configuration(place)
            .object_lock_enabled_for_bucket(object_lock)
            .send()
            .await?;
        let versions = VersioningConfiguration::builder()
            .status(BucketVersioningStatus::Enabled)
            .build();
        s3.put_bucket_versioning()
            .bucket(&name)
            .versioning_configuration(versions)
            .send()
            .await?;
        if object_lock {
            s3.put_object_lock_configuration()
                .bucket(&name)
                .object_lock_configuration(kept_for_a_day())
                .send()
                .await?;
        }
        Ok(name)
    }

    /// Makes a symmetric key, and gives its ARN.
    pub async fn kms_key(&self) -> Result<String> {
        let answer = self.aws().await.kms.create_key().send().await?;
        let key = answer.key_metadata.context("CreateKey answered without a key")?;
        key.arn.context("CreateKey answered without an ARN")
    }

    /// Keeps a secret, and gives its ARN.
    pub async fn secret(&self, value: SecretValue<'_>) -> Result<String> {
        let client = aws_sdk_secretsmanager::Client::new(&Self::configuration(&self.endpoint).await);
        let create = client.create_secret().name(fresh_name("secret"));
        let create = match value {
            SecretValue::Text(text) => create.secret_string(text),
            SecretValue::Binary(bytes) => create.secret_binary(Blob::new(bytes)),
        };
        let made = create.send().await?;
        made.arn.context("CreateSecret answered without an ARN")
    }

    /// Makes a table, a bucket and a key.
    pub async fn stores(&self) -> Result<CloudStores> {
        Ok(CloudStores {
            table: self.table().await?,
            bucket: self.bucket(false).await?,
            kms_key: self.kms_key().await?,
        })
    }

    /// Makes a table, a bucket and a key, and gives the lines of `[store]` that name them.
    pub async fn store(&self) -> Result<String> {
        Ok(self.stores().await?.configuration())
    }

    /// What LocalStack has printed so far; nothing for one that somebody else started.
    pub fn log(&self) -> String {
        let process = self.process.as_ref();
        process.map_or_else(String::new, |process| {
            process.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).log()
        })
    }

    /// The services start one after the other; DynamoDB, a process of its own, is the last to answer.
    async fn wait_until_ready(&self) -> Result<()> {
        let aws = self.aws().await;
        let ready = eventually("LocalStack's DynamoDB and S3 answer", START_LIMIT, async || {
            if self.ended() {
                return Some(false);
            }
            let answers = aws.dynamodb.list_tables().send().await.is_ok() && aws.s3.list_buckets().send().await.is_ok();
            answers.then_some(true)
        });
        match ready.await {
            Ok(true) => Ok(()),
            Ok(false) => bail!("LocalStack ended while starting:\n{}", self.log()),
            Err(error) => bail!("{error} at {}:\n{}", self.endpoint, self.log()),
        }
    }

    fn ended(&self) -> bool {
        self.process.as_ref().is_some_and(|process| {
            process
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .ended()
                .is_some()
        })
    }
}

/// The scripts that install and run LocalStack.
fn localstack() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../localstack")
}

async fn install(localstack: &Path) -> Result<()> {
    let script = Command::new(localstack.join("install.sh")).kill_on_drop(true).output();
    let output = tokio::time::timeout(INSTALL_LIMIT, script)
        .await
        .context("localstack/install.sh takes too long")?
        .context("cannot run localstack/install.sh")?;
    if !output.status.success() {
        bail!(
            "localstack/install.sh failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn kept_for_a_day() -> ObjectLockConfiguration {
    let retention = DefaultRetention::builder()
        .mode(ObjectLockRetentionMode::Governance)
        .days(1)
        .build();
    ObjectLockConfiguration::builder()
        .object_lock_enabled(ObjectLockEnabled::Enabled)
        .rule(ObjectLockRule::builder().default_retention(retention).build())
        .build()
}

fn fresh_name(kind: &str) -> String {
    format!("{kind}-{}", uuid::Uuid::now_v7().simple())
}
