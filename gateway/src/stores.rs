//! The stores of a gateway, as its configuration names them.

use crate::config::{Config, Store};
use anyhow::Context;
use countersign_infra::approvals::ApprovalStore;
use countersign_infra::embedded::EmbeddedStore;
use countersign_infra::journal::Journal;
use countersign_infra::operations::OperationStore;
use countersign_infra::operations::disk::DiskOperations;
use countersign_infra::operations::keys::FileKeys;
use countersign_infra::recordings::RecordingStore;
use countersign_infra::recordings::disk::DiskRecordings;
use std::sync::Arc;

/// The file of the embedded store within the data directory.
pub const STORE_FILE: &str = "countersign.db";

/// The key file of the embedded store's operations within the data directory.
pub const OPERATIONS_KEY_FILE: &str = "keys/operations.key";

/// Where approvals, journal, recordings and whole operations live.
#[derive(Clone)]
pub struct Stores {
    pub approvals: Arc<dyn ApprovalStore>,
    pub journal: Arc<dyn Journal>,
    pub recordings: Arc<dyn RecordingStore>,
    pub operations: Arc<dyn OperationStore>,
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
                    journal: Arc::new(store),
                    recordings: Arc::new(DiskRecordings::under(&directory)),
                    operations: Arc::new(DiskOperations::under(&directory, Arc::new(keys))),
                })
            }
            Store::Aws(_) => anyhow::bail!("this build has no AWS stores"),
        }
    }
}
