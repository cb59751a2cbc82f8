//! Where the story plays: one gateway with the embedded store, or two with a table and a bucket between them.

use super::channel::{Channel, OpenChannel};
use crate::cloud::{Cloud, CloudStores};
use crate::harness::GatewayOptions;
use crate::postgres::Postgres;
use crate::world::{World, WorldOptions};
use anyhow::{Context, Result};
use countersign_infra::aws::Aws;
use countersign_infra::recordings::key::SigningKey;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

/// Where alice's statements go.
pub(super) const FIRST: &str = "gateway-1";
/// Where people decide and ask.
pub(super) const SECOND: &str = "gateway-2";

/// A world, and what its gateways keep everything in. The world's desk is the second gateway, where there is one.
pub struct Stage {
    /// Dropped first: its bot writes into the world's files.
    chat: Option<OpenChannel>,
    pub world: World,
    pub(super) stores: Stores,
}

/// What the gateways keep everything in.
pub(super) enum Stores {
    Embedded,
    Cloud { aws: Aws, names: CloudStores },
}

impl Stage {
    /// One gateway with the embedded store, and a chat. `is_fixed`: its page has the port that people are told.
    pub async fn embedded(server: Arc<Postgres>, mut options: WorldOptions, is_fixed: bool) -> Result<Self> {
        let channel = Channel::prepare(is_fixed).await?;
        channel.configure(&mut options.gateway);
        let world = World::start_on(server, options).await?;
        Ok(Self {
            chat: Some(channel.open(&world).await?),
            world,
            stores: Stores::Embedded,
        })
    }

    /// Ends the demo's own Slack: nobody writes into the stores any more.
    pub(super) fn close_chat(&mut self) {
        self.chat = None;
    }

    /// Where the page of the demo's own Slack is.
    pub fn chat_url(&self) -> Option<String> {
        self.chat.as_ref().map(OpenChannel::url)
    }

    /// The demo's own Slack.
    pub(super) fn chat(&self) -> Option<&OpenChannel> {
        self.chat.as_ref()
    }

    /// Two gateways on the same stores, their files in `directory`. The second one's ports, where some are named, come
    /// after the first one's.
    pub async fn in_cloud(
        server: Arc<Postgres>,
        cloud: &Cloud,
        names: CloudStores,
        directory: &Path,
        options: WorldOptions,
    ) -> Result<Self> {
        let (first, second) = (directory.join(FIRST), directory.join(SECOND));
        exchange_keys(&first, &second)?;
        let spool = directory.join("spool");
        make_directory(&spool)?;
        let gateway = GatewayOptions {
            name: Some(FIRST.to_owned()),
            gateway: format!("spool_dir = \"{}\"", spool.display()),
            store: Some(names.configuration()),
            environment: Cloud::environment(cloud.endpoint()),
            directory: Some(first),
            ..options.gateway
        };
        let after = |port: Option<u16>| port.and_then(|port| port.checked_add(1));
        let (postgres_port, http_port) = (after(gateway.postgres_port), after(gateway.http_port));
        let mut world = World::start_on(server, WorldOptions { gateway, ..options }).await?;
        world
            .open_desk(|options| {
                options.name = Some(SECOND.to_owned());
                options.directory = Some(second);
                options.postgres_port = postgres_port;
                options.http_port = http_port;
            })
            .await?;
        let stores = Stores::Cloud {
            aws: cloud.aws().await,
            names,
        };
        Ok(Self {
            chat: None,
            world,
            stores,
        })
    }

    /// What the gateways have logged.
    pub fn logs(&self) -> String {
        match self.stores {
            Stores::Embedded => self.world.gateway.log(),
            Stores::Cloud { .. } => {
                let (first, second) = (self.world.gateway.log(), self.world.desk().log());
                format!("{first}\n\nThe log of {SECOND}:\n{second}")
            }
        }
    }

    /// Where everything is kept, in a sentence; nothing to say of one gateway with its own files.
    pub(super) fn description(&self) -> Option<String> {
        match &self.stores {
            Stores::Embedded => None,
            Stores::Cloud { names, .. } => Some(format!(
                "Two gateways keep everything in the DynamoDB table {} and the S3 bucket {}.\n\
                 alice's psql goes to {FIRST}, {}; whoever decides or asks does so at {SECOND}, {}.",
                names.table,
                names.bucket,
                self.world.gateway.http_url(),
                self.world.desk().http_url(),
            )),
        }
    }

    /// Where its files are.
    pub(super) fn directory(&self) -> &Path {
        let first = self.world.gateway.path();
        match self.stores {
            Stores::Embedded => first,
            Stores::Cloud { .. } => first.parent().unwrap_or(first),
        }
    }
}

/// Gives each of two gateways its key and the other's public one: either proves what both have signed.
fn exchange_keys(first: &Path, second: &Path) -> Result<()> {
    for (own, other) in [(first, second), (second, first)] {
        let (own, other) = (own.join("data"), other.join("data"));
        make_directory(&own)?;
        let key = SigningKey::load_or_create(&own.join("keys"))?;
        make_directory(&other.join("keys"))?;
        let path = other.join("keys/other-gateway.pub.pem");
        std::fs::write(&path, key.public_pem()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// For its owner only; it may be there.
fn make_directory(path: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make {}", path.display()))
}
