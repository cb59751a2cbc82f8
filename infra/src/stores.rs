//! The stores of a gateway or a bot, as the configuration names them.

use crate::announcements::AnnouncementStore;
use crate::approvals::ApprovalStore;
use crate::aws::Aws;
use crate::chat_links::ChatLinkStore;
use crate::config::{AwsStore, Config, OperationsKey, Store};
use crate::directory::DirectoryStore;
use crate::dynamodb::DynamoStore;
use crate::embedded::EmbeddedStore;
use crate::grants::GrantStore;
use crate::journal::Journal;
use crate::operations::OperationStore;
use crate::operations::disk::DiskOperations;
use crate::operations::keys::{FileKeys, KeyFileError, KeySource, KmsKeys};
use crate::operations::s3::S3Operations;
use crate::recordings::RecordingStore;
use crate::recordings::disk::DiskRecordings;
use crate::recordings::s3::S3Recordings;
use crate::tickets::TicketStore;
use crate::{operations, recordings};
use anyhow::Context;
use chrono::TimeDelta;
use std::sync::Arc;

/// The file of the embedded store within the data directory.
pub const STORE_FILE: &str = "countersign.db";

/// The key file of the embedded store's operations within the data directory.
pub const OPERATIONS_KEY_FILE: &str = "keys/operations.key";

/// What is wrong with the key file that all gateways of a store have, and what to do about it.
pub fn no_operations_key(error: &KeyFileError) -> String {
    match error {
        KeyFileError::Missing { path } => format!(
            "the key of operations: {error}: take the one of the other gateways of this store; for the first, make it \
             with `countersign keys operations {}`",
            path.display()
        ),
        KeyFileError::Io { .. }
        | KeyFileError::Exposed { .. }
        | KeyFileError::Exists { .. }
        | KeyFileError::Lost { .. }
        | KeyFileError::Invalid { .. }
        | KeyFileError::TooLong { .. }
        | KeyFileError::Empty { .. }
        | KeyFileError::Random => format!("the key of operations: {error}"),
    }
}

/// Where approvals, journal, recordings, whole operations, chat links and tickets live.
#[derive(Clone)]
pub struct Stores {
    pub approvals: Arc<dyn ApprovalStore>,
    pub journal: Arc<dyn Journal>,
    pub recordings: Arc<dyn RecordingStore>,
    pub operations: Arc<dyn OperationStore>,
    pub chat_links: Arc<dyn ChatLinkStore>,
    pub directory: Arc<dyn DirectoryStore>,
    pub tickets: Arc<dyn TicketStore>,
    pub announcements: Arc<dyn AnnouncementStore>,
    pub grants: Arc<dyn GrantStore>,
}

impl Stores {
    /// Opens the stores that a configuration names. The embedded store is made when missing; its directory must be there.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let directory = config.gateway.data_dir.clone();
        match &config.store {
            Store::Embedded {} => {
                let (file, key_file) = (directory.join(STORE_FILE), directory.join(OPERATIONS_KEY_FILE));
                let (store, keys) = tokio::task::spawn_blocking(move || {
                    let store = EmbeddedStore::open(file).context("the embedded store")?;
                    let keys = FileKeys::load_or_create(&key_file).context("the key of operations")?;
                    anyhow::Ok((store, keys))
                })
                .await??;
                Ok(Self {
                    approvals: Arc::new(store.clone()),
                    journal: Arc::new(store.clone()),
                    recordings: Arc::new(DiskRecordings::under(&directory)),
                    operations: Arc::new(DiskOperations::under(&directory, Arc::new(keys))),
                    chat_links: Arc::new(store.clone()),
                    directory: Arc::new(store.clone()),
                    tickets: Arc::new(store.clone()),
                    announcements: Arc::new(store.clone()),
                    grants: Arc::new(store),
                })
            }
            Store::Aws(options) => Self::open_aws(options).await,
        }
    }

    /// Stores that end this process at the write that `COUNTERSIGN_CRASH_AT` names.
    #[cfg(feature = "contract")]
    pub fn with_crash_point(self) -> anyhow::Result<Self> {
        use crate::crash::{CrashPoint, Crashing};
        let Ok(point) = std::env::var("COUNTERSIGN_CRASH_AT") else {
            return Ok(self);
        };
        let point: CrashPoint = point.parse()?;
        tracing::warn!(%point, "this gateway ends at a write");
        Ok(Self {
            approvals: Arc::new(Crashing::new(self.approvals, &point)),
            journal: Arc::new(Crashing::new(self.journal, &point)),
            recordings: Arc::new(Crashing::new(self.recordings, &point)),
            operations: Arc::new(Crashing::new(self.operations, &point)),
            ..self
        })
    }

    async fn open_aws(options: &AwsStore) -> anyhow::Result<Self> {
        let aws = Aws::from_environment().await;
        let retention = options.retention_days.map(|days| TimeDelta::days(i64::from(days)));
        let store = DynamoStore::open(&aws, &options.table, retention).await?;
        let keys: Arc<dyn KeySource> = match &options.operations_key {
            OperationsKey::Kms(key) => {
                Arc::new(KmsKeys::new(aws.kms.clone(), key).opening(options.operations_keys_before.clone()))
            }
            OperationsKey::File(path) => {
                let path = path.clone();
                // Never made here: each machine would have a key of its own, and not read what the others keep.
                let keys = tokio::task::spawn_blocking(move || FileKeys::load(&path)).await?;
                Arc::new(keys.map_err(|error| anyhow::anyhow!(no_operations_key(&error)))?)
            }
        };
        let recordings = S3Recordings::new(
            aws.s3.clone(),
            recordings::s3::S3Options {
                bucket: options.bucket.clone(),
                sse_kms_key: options.sse_kms_key.clone(),
                object_lock_days: options.object_lock_days,
                tags: options
                    .retention_tag
                    .iter()
                    .map(|tag| ("retention".to_owned(), tag.clone()))
                    .collect(),
            },
        )
        .ending(aws.s3_credentials.clone());
        let operations = S3Operations::new(
            aws.s3.clone(),
            operations::s3::S3Options {
                bucket: options.bucket.clone(),
                sse_kms_key: options.sse_kms_key.clone(),
                object_lock_days: options.object_lock_days,
            },
            keys,
        );
        Ok(Self {
            approvals: Arc::new(store.clone()),
            journal: Arc::new(store.clone()),
            recordings: Arc::new(recordings),
            operations: Arc::new(operations),
            chat_links: Arc::new(store.clone()),
            directory: Arc::new(store.clone()),
            tickets: Arc::new(store.clone()),
            announcements: Arc::new(store.clone()),
            grants: Arc::new(store),
        })
    }
}
