//! The keys of one issuer: fetched, kept, and fetched again with a cap.

use super::oidc::{Issuer, TokenError, is_loopback, quoted};
use crate::domain::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use openidconnect::core::{CoreJsonWebKey, CoreJwsSigningAlgorithm};
use openidconnect::{JsonWebKey, JsonWebKeyAlgorithm, JsonWebKeyUse, JwsSigningAlgorithm};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use url::Url;

/// How long one request to an issuer may take, from the connection to the last byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer of an issuer, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Most keys of one issuer that are looked at.
const KEYS_MAX: usize = 64;
/// Shortest RSA modulus, in bytes: 2048 bits (RFC 7518, section 3.3).
const RSA_BYTES_MIN: usize = 256;

/// Keys are fetched again after this long, so that a withdrawn one is not trusted for ever.
const REFRESH_AFTER: TimeDelta = TimeDelta::minutes(10);
/// The shortest time between two fetches while there are keys.
const FETCH_EVERY: TimeDelta = TimeDelta::seconds(10);
/// The same while there are none yet: an issuer that starts after the gateway is soon found.
const FETCH_EVERY_WITHOUT_KEYS: TimeDelta = TimeDelta::seconds(1);
/// Keys of an issuer that cannot be reached are trusted for so long.
const TRUSTED_FOR: TimeDelta = TimeDelta::hours(24);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The keys of one issuer.
pub(super) struct Keys {
    issuer: Arc<Issuer>,
    client: reqwest::Client,
    kept: Mutex<Kept>,
    /// Held during a fetch, so that all who need one share it.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Kept {
    published: Option<Arc<Published>>,
    fetched: Option<Timestamp>,
    asked: Option<Timestamp>,
    failure: Option<String>,
    /// Fetches that ended, well or not.
    ended: u64,
}

/// What an issuer publishes.
pub(super) struct Published {
    /// What it calls itself, to the letter.
    issuer: String,
    keys: Vec<CoreJsonWebKey>,
    /// Where people sign in; none at issuers that serve only programs.
    pub(super) doors: Option<Doors>,
}

/// Where people sign in.
#[derive(Clone, Debug)]
pub(super) struct Doors {
    pub(super) authorization: Url,
    pub(super) token: Url,
    /// A client's secret goes into the body of a request, not into its head.
    pub(super) secret_in_body: bool,
    /// It names itself when it sends a browser back (RFC 9207).
    pub(super) names_itself: bool,
}

/// The keys that may have signed a token.
pub(super) enum Lookup {
    Found(Found),
    Unknown,
}

pub(super) struct Found {
    /// What the issuer calls itself, to the letter.
    pub(super) issuer: String,
    pub(super) keys: Vec<CoreJsonWebKey>,
}

impl Keys {
    pub(super) fn new(issuer: Arc<Issuer>) -> Result<Self, String> {
        Ok(Self {
            client: client(&issuer)?,
            issuer,
            kept: Mutex::default(),
            fetching: Arc::default(),
        })
    }

    /// Finds the keys for a token, and fetches them where needed. Cancel safe.
    pub(super) async fn find(
        this: &Arc<Self>,
        kid: Option<&str>,
        algorithm: &CoreJwsSigningAlgorithm,
        now: Timestamp,
    ) -> Result<Lookup, TokenError> {
        if let Some(found) = this.look(kid, algorithm, now) {
            // One caller fetches; the others go on with the keys that are there.
            if let (true, Ok(turn)) = (
                this.is_due(now, REFRESH_AFTER),
                Arc::clone(&this.fetching).try_lock_owned(),
            ) {
                Self::fetch_once(this, turn, now).await;
                return Ok(this.look(kid, algorithm, now).map_or(Lookup::Unknown, Lookup::Found));
            }
            return Ok(Lookup::Found(found));
        }
        let ended = this.kept().ended;
        let turn = Arc::clone(&this.fetching).lock_owned().await;
        // Who waited for a fetch takes what it brought: else callers of a silent issuer would wait for each other.
        let waited = this.kept().ended != ended;
        if !waited && this.is_due(now, TimeDelta::zero()) {
            Self::fetch_once(this, turn, now).await;
        }
        match this.look(kid, algorithm, now) {
            Some(found) => Ok(Lookup::Found(found)),
            None => this.unknown(now),
        }
    }

    /// What the issuer publishes, fetched where there is nothing or it is old. Cancel safe.
    pub(super) async fn published(this: &Arc<Self>, now: Timestamp) -> Result<Arc<Published>, TokenError> {
        let kept = |this: &Self| this.kept().trusted(now).cloned();
        if let Some(published) = kept(this).filter(|_| !this.is_due(now, REFRESH_AFTER)) {
            return Ok(published);
        }
        let ended = this.kept().ended;
        let turn = Arc::clone(&this.fetching).lock_owned().await;
        let waited = this.kept().ended != ended;
        if !waited && this.is_due(now, TimeDelta::zero()) {
            Self::fetch_once(this, turn, now).await;
        }
        kept(this).ok_or_else(|| this.unavailable())
    }

    /// Posts a form to an address that the issuer published. Gives the status and the body of its answer, bounded.
    pub(super) async fn post(
        &self,
        url: &Url,
        form: String,
        basic: Option<(&str, &str)>,
    ) -> Result<(u16, Vec<u8>), Failure> {
        let request = self.client.post(url.clone()).header("accept", "application/json");
        let request = match basic {
            Some((name, secret)) => request.basic_auth(name, Some(secret)),
            None => request,
        };
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body(form).send().await?;
        Ok((answer.status().as_u16(), body(url, answer).await?))
    }

    fn look(&self, kid: Option<&str>, algorithm: &CoreJwsSigningAlgorithm, now: Timestamp) -> Option<Found> {
        let kept = self.kept();
        let published = kept.trusted(now)?;
        let keys: Vec<CoreJsonWebKey> = published
            .keys
            .iter()
            .filter(|key| kid.is_none_or(|kid| key.key_id().is_some_and(|id| id.as_str() == kid)))
            .filter(|key| fits(key, algorithm))
            .cloned()
            .collect();
        (!keys.is_empty()).then(|| Found {
            issuer: published.issuer.clone(),
            keys,
        })
    }

    /// Whether keys older than `age` may be fetched now. A clock that went back counts as long ago.
    fn is_due(&self, now: Timestamp, age: TimeDelta) -> bool {
        let kept = self.kept();
        let cap = if kept.published.is_some() {
            FETCH_EVERY
        } else {
            FETCH_EVERY_WITHOUT_KEYS
        };
        let longer_ago = |moment: Option<Timestamp>, than: TimeDelta| {
            moment.is_none_or(|moment| now < moment || now.signed_duration_since(moment) >= than)
        };
        longer_ago(kept.fetched, age) && longer_ago(kept.asked, cap)
    }

    fn unknown(&self, now: Timestamp) -> Result<Lookup, TokenError> {
        let is_sound = {
            let kept = self.kept();
            kept.failure.is_none() && kept.trusted(now).is_some()
        };
        if is_sound {
            return Ok(Lookup::Unknown);
        }
        Err(self.unavailable())
    }

    fn unavailable(&self) -> TokenError {
        let failure = self.kept().failure.clone();
        let source = failure.unwrap_or_else(|| "its keys are too old".to_owned()).into();
        let issuer = self.issuer.url.to_string();
        TokenError::Unavailable { issuer, source }
    }

    /// Fetches in a task of its own, which ends by itself within two request timeouts: a caller that hangs up must
    /// not take the fetch with it, or hanging up would be a way to keep new keys out.
    async fn fetch_once(this: &Arc<Self>, turn: tokio::sync::OwnedMutexGuard<()>, now: Timestamp) {
        this.kept().asked = Some(now);
        let keys = Arc::clone(this);
        let task = tokio::spawn(async move {
            let fetched = keys.fetch().await;
            keys.keep(fetched, now);
            drop(turn);
        });
        // The outcome is in `kept`, also when the task failed: then there is nothing new.
        let _ = task.await;
    }

    fn keep(&self, fetched: Result<Published, Failure>, now: Timestamp) {
        let mut kept = self.kept();
        kept.ended = kept.ended.wrapping_add(1);
        match fetched {
            Ok(published) => {
                kept.published = Some(Arc::new(published));
                kept.fetched = Some(now);
                kept.failure = None;
            }
            Err(failure) => {
                let reason = chain(failure.as_ref());
                tracing::warn!(issuer = %self.issuer.url, reason, "the issuer's keys could not be fetched");
                kept.failure = Some(reason);
            }
        }
    }

    async fn fetch(&self) -> Result<Published, Failure> {
        let discovery: Discovery = serde_json::from_slice(&self.read(discovery_url(&self.issuer.url)?).await?)
            .map_err(|error| format!("its discovery document cannot be read: {error}"))?;
        if !self.issuer.is_called(&discovery.issuer) {
            return Err(format!("its discovery document is that of {}", quoted(&discovery.issuer)).into());
        }
        if !self.may_go_to(&discovery.jwks_uri) {
            return Err(format!("its keys are at {}, which is not https", discovery.jwks_uri).into());
        }
        let doors = self.doors(&discovery);
        let set: KeySet = serde_json::from_slice(&self.read(discovery.jwks_uri).await?)
            .map_err(|error| format!("its keys cannot be read: {error}"))?;
        let keys: Vec<CoreJsonWebKey> = set.keys.into_iter().take(KEYS_MAX).filter_map(usable).collect();
        if keys.is_empty() {
            return Err("it publishes no usable key".into());
        }
        Ok(Published {
            issuer: discovery.issuer,
            keys,
            doors,
        })
    }

    fn doors(&self, discovery: &Discovery) -> Option<Doors> {
        let at = |url: &Option<Url>| url.clone().filter(|url| self.may_go_to(url));
        let methods = discovery.token_endpoint_auth_methods_supported.as_deref();
        Some(Doors {
            authorization: at(&discovery.authorization_endpoint)?,
            token: at(&discovery.token_endpoint)?,
            secret_in_body: methods.is_some_and(|methods| {
                let knows = |wanted: &str| methods.iter().any(|method| method == wanted);
                knows("client_secret_post") && !knows("client_secret_basic")
            }),
            names_itself: discovery.authorization_response_iss_parameter_supported,
        })
    }

    fn may_go_to(&self, url: &Url) -> bool {
        url.scheme() == "https" || (self.is_plain() && is_loopback(url))
    }

    async fn read(&self, url: Url) -> Result<Vec<u8>, Failure> {
        let answer = self
            .client
            .get(url.clone())
            .header("accept", "application/json")
            .send()
            .await?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(format!("{url} answered {}", answer.status()).into());
        }
        body(&url, answer).await
    }

    fn is_plain(&self) -> bool {
        self.issuer.url.scheme() == "http"
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn body(url: &Url, mut answer: reqwest::Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(format!("{url} answered more than {BODY_BYTES_MAX} bytes").into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

impl Kept {
    fn trusted(&self, now: Timestamp) -> Option<&Arc<Published>> {
        let fetched = self.fetched?;
        self.published
            .as_ref()
            .filter(|_| now.signed_duration_since(fetched) < TRUSTED_FOR)
    }
}

/// The part of a discovery document that is needed here. Issuers that serve only programs leave out the rest, which
/// `openidconnect`'s own type requires.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: Url,
    authorization_endpoint: Option<Url>,
    token_endpoint: Option<Url>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// A public key for signatures that we understand; others in the set are left out, as RFC 7517, section 5, says.
fn usable(key: Value) -> Option<CoreJsonWebKey> {
    let kind = key.get("kty").and_then(Value::as_str)?;
    match kind {
        "RSA" => {
            let modulus = URL_SAFE_NO_PAD.decode(key.get("n")?.as_str()?).ok()?;
            let length = modulus.iter().skip_while(|byte| **byte == 0).count();
            (length >= RSA_BYTES_MIN).then_some(())?;
        }
        "EC" | "OKP" => {}
        _ => return None,
    }
    serde_json::from_value(key).ok()
}

fn fits(key: &CoreJsonWebKey, algorithm: &CoreJwsSigningAlgorithm) -> bool {
    let for_signatures = key.key_use().is_none_or(JsonWebKeyUse::allows_signature);
    let for_algorithm = match key.signing_alg() {
        JsonWebKeyAlgorithm::Algorithm(named) => named == algorithm,
        JsonWebKeyAlgorithm::Unspecified => true,
        JsonWebKeyAlgorithm::Unsupported => false,
    };
    for_signatures && for_algorithm && algorithm.key_type().as_ref() == Some(key.key_type())
}

fn discovery_url(issuer: &Url) -> Result<Url, Failure> {
    let base = issuer.as_str().trim_end_matches('/');
    Ok(Url::parse(&format!("{base}/.well-known/openid-configuration"))?)
}

fn client(issuer: &Issuer) -> Result<reqwest::Client, String> {
    let builder = reqwest::Client::builder()
        .use_preconfigured_tls(tls(issuer)?)
        .connect_timeout(REQUEST_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(1);
    let builder = if is_loopback(&issuer.url) {
        builder.no_proxy()
    } else {
        builder
    };
    builder.build().map_err(|error| chain(&error))
}

fn tls(issuer: &Issuer) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    if issuer.url.scheme() == "https" {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for certificate in CertificateDer::pem_slice_iter(issuer.ca_pem.as_deref().unwrap_or_default()) {
            let certificate = certificate.map_err(|error| format!("its CA cannot be read: {error}"))?;
            roots
                .add(certificate)
                .map_err(|error| format!("its CA cannot be used: {error}"))?;
        }
        if roots.is_empty() {
            return Err("there is no root to trust: install ca-certificates, or name a CA".to_owned());
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// An error with all its sources: what went wrong on the network stands in the last one.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
