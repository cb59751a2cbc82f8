//! A whole small world: a PostgreSQL with a database, an issuer with some people, and a gateway between them.

use crate::harness::{Gateway, GatewayOptions, IssuerOptions, TargetOptions};
use crate::issuer::{Claims, Issuer};
use crate::ports::{free_port, preferred_port};
use crate::postgres::{Database, Postgres};
use anyhow::Result;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// The audience of the tokens that the gateway takes.
pub const AUDIENCE: &str = "countersign";
/// The target's name.
pub const TARGET: &str = "shop";
/// Tokens live as long as somebody may play with the demo on one day.
const TOKEN_SECONDS: i64 = 12 * 3600;

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// Cedar text.
    pub policy: String,
    /// SQL that fills the database.
    pub script: String,
    /// Names with their groups.
    pub people: Vec<(&'static str, Vec<&'static str>)>,
    /// More for the gateway; policy and issuers are filled in, and the world's target comes before others.
    pub gateway: GatewayOptions,
    /// Taken when it is free.
    pub issuer_port: Option<u16>,
    /// The database's name; one that nobody has when none is given.
    pub database: Option<&'static str>,
    /// Where the gateway finds the server, when that is not the server itself (a `Tap`).
    pub server_port: Option<u16>,
    /// The gateway speaks in the clear to what stands before the server (an `Overhear`).
    pub in_the_clear: bool,
}

impl Default for WorldOptions {
    /// The demo's shop with its policy: alice is an engineer, bob is a DBA.
    fn default() -> Self {
        Self {
            policy: include_str!("../demo/policy.cedar").to_owned(),
            script: include_str!("../demo/shop.sql").to_owned(),
            people: vec![("alice", vec!["engineering"]), ("bob", vec!["dba"])],
            gateway: GatewayOptions::default(),
            issuer_port: None,
            database: None,
            server_port: None,
            in_the_clear: false,
        }
    }
}

/// A running world. Everything ends when it is dropped.
pub struct World {
    pub gateway: Gateway,
    /// Where people decide and ask, when that is another gateway.
    desk: Option<Gateway>,
    pub issuer: Issuer,
    pub server: Arc<Postgres>,
    pub database: Database,
    /// What its gateway was started with.
    started: GatewayOptions,
}

impl World {
    /// Starts a world on the server that this binary's tests share.
    pub async fn start(options: WorldOptions) -> Result<Self> {
        Self::start_on(Postgres::shared().await?, options).await
    }

    /// Starts a world on a server.
    pub async fn start_on(server: Arc<Postgres>, options: WorldOptions) -> Result<Self> {
        let database = match options.database {
            Some(name) => server.named_database(name, &options.script).await?,
            None => server.database(&options.script).await?,
        };
        let port = options.issuer_port.map_or_else(free_port, preferred_port)?;
        let issuer = Issuer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        let mut target = TargetOptions::of(TARGET, &server, &database);
        target.port = options.server_port.unwrap_or(target.port);
        target.ca = target.ca.filter(|_| !options.in_the_clear);
        let mut targets = vec![target];
        targets.extend(options.gateway.targets);
        let started = GatewayOptions {
            policy: options.policy,
            issuers: vec![IssuerOptions {
                url: issuer.url().to_string(),
                audience: AUDIENCE.to_owned(),
            }],
            targets,
            ..options.gateway
        };
        let gateway = Gateway::start(started.clone()).await?;
        for (name, groups) in &options.people {
            let claims = Claims {
                lifetime_seconds: TOKEN_SECONDS,
                ..Claims::person(name, AUDIENCE, groups)
            };
            gateway.sign_in(name, issuer.token(&claims));
        }
        Ok(Self {
            gateway,
            desk: None,
            issuer,
            server,
            database,
            started,
        })
    }

    /// Starts one more gateway before the same server, for the same people, with the same options but for what `change`
    /// makes of them. Its ports and its directory are its own.
    pub async fn another_gateway(&self, change: impl FnOnce(&mut GatewayOptions)) -> Result<Gateway> {
        let mut options = GatewayOptions {
            postgres_port: None,
            http_port: None,
            directory: None,
            ..self.started.clone()
        };
        change(&mut options);
        let gateway = Gateway::start(options).await?;
        gateway.knows_all_of(&self.gateway);
        Ok(gateway)
    }

    /// Starts one more gateway, as `another_gateway` does, at which people decide and ask from now on.
    pub async fn open_desk(&mut self, change: impl FnOnce(&mut GatewayOptions)) -> Result<()> {
        self.desk = Some(self.another_gateway(change).await?);
        Ok(())
    }

    /// The gateway at which people decide and ask.
    pub fn desk(&self) -> &Gateway {
        self.desk.as_ref().unwrap_or(&self.gateway)
    }

    /// The environment that its gateway was started with.
    pub fn environment(&self) -> Vec<(String, OsString)> {
        self.started.environment.clone()
    }

    /// Signs a token for one more person and names it for `Gateway::psql` and the like.
    pub fn add_person(&self, name: &str, groups: &[&str]) {
        let token = self.issuer.token(&Claims::person(name, AUDIENCE, groups));
        for gateway in [Some(&self.gateway), self.desk.as_ref()].into_iter().flatten() {
            gateway.sign_in(name, token.clone());
        }
    }

    /// One number from the database, read past the gateway.
    pub async fn count(&self, query: &str) -> Result<i64> {
        let admin = self.server.admin(&self.database.name).await?;
        Ok(admin.query_one(query, &[]).await?.try_get(0)?)
    }

    /// What runs in the database at this moment.
    pub async fn activity(&self) -> Result<Vec<String>> {
        self.server.activity(&self.database.name).await
    }
}
