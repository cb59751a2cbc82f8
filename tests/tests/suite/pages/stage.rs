//! A gateway between real clients and a real server, whose pages sign people in at a certified provider.

use anyhow::Result;
use countersign_infra::approvals::embedded::EmbeddedStore;
use countersign_infra::domain::audit::Event;
use countersign_infra::journal::{Journal, JournalQuery};
use countersign_tests::provider::Provider;
use countersign_tests::world::{World, WorldOptions};

pub struct Stage {
    pub world: World,
    pub provider: Provider,
}

impl Stage {
    pub async fn set() -> Result<Self> {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let provider = Provider::start().await?;
        let world = World::start(WorldOptions {
            gateway: provider.gateway(),
            ..WorldOptions::default()
        })
        .await?;
        Ok(Self { world, provider })
    }

    pub fn store(&self) -> EmbeddedStore {
        EmbeddedStore::open(self.world.gateway.data().join("countersign.db")).unwrap()
    }

    /// Events of one kind, oldest first.
    pub async fn journaled(&self, event: &str) -> Vec<Event> {
        let query = JournalQuery {
            events: vec![event.to_owned()],
            ..JournalQuery::default()
        };
        let mut events = self.store().search(&query).await.unwrap().events;
        events.reverse();
        events
    }
}
