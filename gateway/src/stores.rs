//! The stores of a gateway, as its configuration names them.

use crate::config::{Config, Store};
use anyhow::Context;
use countersign_infra::approvals::ApprovalStore;
use countersign_infra::embedded::EmbeddedStore;
use countersign_infra::journal::Journal;
use countersign_infra::recordings::RecordingStore;
use countersign_infra::recordings::disk::DiskRecordings;
use std::sync::Arc;

/// The file of the embedded store within the data directory.
pub const STORE_FILE: &str = "countersign.db";

/// Where approvals, journal and recordings live.
#[derive(Clone)]
pub struct Stores {
    pub approvals: Arc<dyn ApprovalStore>,
    pub journal: Arc<dyn Journal>,
    pub recordings: Arc<dyn RecordingStore>,
}

impl Stores {
    /// Opens the stores that a configuration names. The embedded store is made when missing; its directory must be there.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let directory = config.gateway.data_dir.clone();
        match &config.store {
            Store::Embedded {} => {
                let file = directory.join(STORE_FILE);
                let store = tokio::task::spawn_blocking(move || EmbeddedStore::open(file))
                    .await?
                    .context("the embedded store")?;
                Ok(Self {
                    approvals: Arc::new(store.clone()),
                    journal: Arc::new(store),
                    recordings: Arc::new(DiskRecordings::under(&directory)),
                })
            }
            Store::Aws(_) => anyhow::bail!("this build has no AWS stores"),
        }
    }
}
