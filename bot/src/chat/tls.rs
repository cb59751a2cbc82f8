//! The way out to the chats: one TLS stack for all of them.

use countersign_infra::identity::oidc::is_loopback;
use hyper_rustls::ConfigBuilderExt;
use rustls::ClientConfig;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long a chat may take to answer a call.
pub const CALL_WITHIN: Duration = Duration::from_secs(10);

/// Why nothing can be asked of chats.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the system's certificates of trusted authorities cannot be used: {0}; install ca-certificates")]
    Roots(#[source] io::Error),
    #[error("the HTTP client cannot be made: {0}")]
    Client(#[source] reqwest::Error),
}

/// TLS that trusts what the system trusts. Blocks on the file system.
pub fn config() -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| TlsError::Roots(io::Error::other(error)))?;
    let builder = builder.with_native_roots().map_err(TlsError::Roots)?;
    Ok(builder.with_no_client_auth())
}

/// A client of an API. It follows no redirect (a token would follow too) and ends every call within [`CALL_WITHIN`].
pub fn client(api: &str) -> Result<reqwest::Client, TlsError> {
    let builder = reqwest::Client::builder().use_preconfigured_tls(config()?);
    let builder = match api.parse() {
        // A proxy would not find it.
        Ok(api) if is_loopback(&api) => builder.no_proxy(),
        Ok(_) | Err(_) => builder,
    };
    let builder = builder.redirect(reqwest::redirect::Policy::none()).timeout(CALL_WITHIN);
    let builder = builder.user_agent(concat!("Countersign (", env!("CARGO_PKG_VERSION"), ")"));
    builder.build().map_err(TlsError::Client)
}
