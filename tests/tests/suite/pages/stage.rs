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
    /// Where the same people could sign in too, if there is one.
    pub other: Option<Provider>,
}

impl Stage {
    pub async fn set() -> Result<Self> {
        Self::set_with(Provider::start().await?, None).await
    }

    /// One where people choose between two providers.
    pub async fn with_a_choice() -> Result<Self> {
        let (provider, other) = tokio::try_join!(Provider::start(), Provider::start())?;
        Self::set_with(provider, Some(other)).await
    }

    async fn set_with(provider: Provider, other: Option<Provider>) -> Result<Self> {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let mut gateway = provider.gateway();
        gateway.more.extend(other.as_ref().map(|other| other.gateway().more));
        let world = World::start(WorldOptions {
            gateway,
            ..WorldOptions::default()
        })
        .await?;
        Ok(Self { world, provider, other })
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
