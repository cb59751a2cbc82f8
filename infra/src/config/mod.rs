//! The configuration: one `countersign.toml`.

mod bot;
mod checks;
mod load;
mod reference;
mod references;
mod schema;
mod stored_secret;
mod tls;
mod trust;
mod walk;

pub use bot::{Bot, Discord, Escalation, Place, Route, Slack};
pub use load::{ConfigError, Problem};
pub use reference::{Reference, ReferenceError};
pub use stored_secret::{StoredSecret, StoredSecretError};
pub use tls::provider as tls_provider;
pub use tls::{Speaks, TlsError};
pub use trust::TrustError;

use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use url::Url;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub gateway: Gateway,
    pub store: Store,
    pub postgres: PostgresListener,
    pub http: HttpListener,
    pub policy: Policy,
    #[serde(rename = "issuer")]
    pub issuers: Vec<Issuer>,
    #[serde(rename = "target")]
    pub targets: Vec<Target>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub mask: Mask,
    pub bot: Option<Bot>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Names this gateway in the journal and in leases.
    pub name: String,
    /// Holds the store, the spool, the recordings and the signing key. Made with mode 0700 when missing.
    pub data_dir: PathBuf,
    /// Where recordings wait for the store; `data_dir/spool` when not given. Gateways that share this directory on one
    /// disk complete each other's recordings after a crash.
    pub spool_dir: Option<PathBuf>,
    /// Logs as JSON instead of text.
    #[serde(default)]
    pub log_json: bool,
}

/// Which store holds approvals, journal and recordings.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Store {
    /// SQLite and files under `gateway.data_dir`.
    Embedded {},
    /// DynamoDB and S3. Region, credentials and, where it is not Amazon's, the endpoint (`AWS_ENDPOINT_URL`) come from the
    /// environment, as for every AWS client.
    Aws(AwsStore),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsStore {
    /// The DynamoDB table of approvals, journal and feeds.
    pub table: String,
    /// The S3 bucket of recordings and whole operations.
    pub bucket: String,
    /// What encrypts whole operations.
    pub operations_key: OperationsKey,
    /// ARNs of KMS keys that encrypted them before: they still decrypt.
    #[serde(default)]
    pub operations_keys_before: Vec<String>,
    /// The KMS key with which S3 encrypts the objects; without it the bucket's own setting holds.
    pub sse_kms_key: Option<String>,
    /// For so many days no object can be deleted or replaced (Object Lock); the bucket must have it switched on.
    pub object_lock_days: Option<u32>,
    /// The value of the tag `retention` on each object of a recording, for the bucket's lifecycle rules.
    pub retention_tag: Option<String>,
    /// After so many days approvals and events are no longer read and may be deleted, those of a session together, seven
    /// days later; without it they are kept.
    pub retention_days: Option<u32>,
}

/// Where the keys that encrypt whole operations come from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum OperationsKey {
    /// `kms:` and the id, ARN or alias of a key of the AWS Key Management Service.
    Kms(String),
    /// `file:` and a key file that every gateway and bot of this store has, made once by `countersign keys operations`.
    File(PathBuf),
}

impl TryFrom<String> for OperationsKey {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.split_once(':') {
            Some(("kms", key)) if !key.is_empty() => Ok(Self::Kms(key.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(PathBuf::from(path))),
            _ => Err("write kms:KEY (an id, ARN or alias) or file:PATH"),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM chain, the server's certificate first.
    pub certificate: Reference,
    pub key: Reference,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresListener {
    pub listen: SocketAddr,
    pub tls: Tls,
    /// Accepts clients without TLS when both ends are on the loopback interface.
    #[serde(default)]
    pub plaintext_on_loopback: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpListener {
    pub listen: SocketAddr,
    /// Without it the listener must be on the loopback interface.
    pub tls: Option<Tls>,
    /// How people reach it: stands in notices and on cards.
    pub public_url: Url,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// A `.cedar` file, or a directory of them.
    pub path: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// What the tokens' `iss` says, and where the discovery document is found.
    pub url: Url,
    /// A token's `aud` must contain one of these.
    pub audiences: Vec<String>,
    /// Clients, beside the audiences, that may have asked for a token (`azp`, else `client_id`). Only looked at
    /// in tokens of several audiences, or in all tokens when not empty.
    #[serde(default)]
    pub authorized_parties: Vec<String>,
    /// Every token of this issuer speaks for a program (for issuers of workload tokens).
    #[serde(default)]
    pub machines_only: bool,
    /// Claim with the groups: a whole name, else a path with dots between levels.
    #[serde(default = "groups_claim")]
    pub groups_claim: String,
    /// Claims tried in order for the name that people read.
    #[serde(default = "name_claims")]
    pub name_claims: Vec<String>,
    #[serde(default = "clock_skew_seconds")]
    pub clock_skew_seconds: u64,
    #[serde(default = "algorithms")]
    /// Signature algorithms accepted from this issuer: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA.
    pub algorithms: Vec<String>,
    /// PEM of further roots to trust for this issuer's TLS.
    pub ca: Option<Reference>,
    /// The client by which the gateway's pages sign people in (authorization code with PKCE); without it they do not.
    pub client_id: Option<String>,
    /// Its secret, where the issuer gave it one.
    pub client_secret: Option<Reference>,
    /// The public client by which `countersign login` signs people in (device flow, or a code on the loopback interface).
    pub login_client_id: Option<String>,
    /// What is asked of the issuer beside `openid`.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
}

fn scopes() -> Vec<String> {
    ["profile", "email", "groups"].map(str::to_owned).to_vec()
}

fn groups_claim() -> String {
    "groups".to_owned()
}

fn name_claims() -> Vec<String> {
    ["preferred_username", "name", "email", "client_id", "sub"]
        .map(str::to_owned)
        .to_vec()
}

fn clock_skew_seconds() -> u64 {
    30
}

fn algorithms() -> Vec<String> {
    vec!["RS256".to_owned()]
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// What clients write as the database name: `name` or `name/database`.
    pub name: String,
    pub kind: TargetKind,
    #[serde(default)]
    pub tags: Vec<String>,
    pub host: String,
    #[serde(default = "postgres_port")]
    pub port: u16,
    /// The database when the client names none.
    pub database: String,
    pub user: String,
    pub password: Reference,
    #[serde(default)]
    pub tls: UpstreamTls,
}

fn postgres_port() -> u16 {
    5432
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    Postgres,
}

/// TLS towards a target: verified in full unless said otherwise.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    #[serde(default)]
    pub mode: UpstreamTlsMode,
    /// Roots to trust instead of the system's.
    pub ca: Option<Reference>,
    /// The name in the server's certificate, when it is not `host`.
    pub server_name: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamTlsMode {
    #[default]
    VerifyFull,
    /// No TLS: only for a server on the loopback interface.
    Disable,
}

/// Bounds. Every wait has a deadline and every buffer a bound.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open client connections.
    pub connections_max: usize,
    /// From accept to the end of authentication.
    pub handshake_seconds_max: u64,
    /// Longest statement that is analysed, in bytes.
    pub statement_bytes_max: usize,
    /// Longest single protocol message from a client other than COPY data, in bytes.
    pub message_bytes_max: usize,
    /// Longest wait of a hold inside a transaction; 0 refuses such holds.
    pub hold_in_transaction_seconds_max: u64,
    /// A session without traffic ends after so many seconds; 0 means never.
    pub idle_seconds_max: u64,
    /// Bytes that the recording spool may hold before sessions wait.
    pub spool_bytes_max: u64,
    /// How long a session waits for the recording store before it ends.
    pub record_wait_seconds_max: u64,
    /// How long a stop waits for sessions to end by themselves.
    pub drain_seconds_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 2000,
            handshake_seconds_max: 20,
            statement_bytes_max: 1 << 20,
            message_bytes_max: 64 << 20,
            hold_in_transaction_seconds_max: 60,
            idle_seconds_max: 0,
            spool_bytes_max: 1 << 30,
            record_wait_seconds_max: 10,
            drain_seconds_max: 30,
        }
    }
}

/// What display texts never show, beside what is always masked (passwords, connection strings, tokens).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mask {
    /// Columns (`table.column` or `column`) whose literal values are masked in display texts.
    pub columns: Vec<String>,
}

#[cfg(test)]
mod tests;
