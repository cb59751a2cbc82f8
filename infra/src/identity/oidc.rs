//! Checks bearer tokens (JWT) against their issuer's discovery document and keys.
//!
//! ID tokens (OpenID Connect Core 1.0, section 3.1.3.7) and JWT access tokens (RFC 9068) are both accepted: what
//! counts is that a trusted issuer signed them for our audience. The verifier of the `openidconnect` crate knows
//! only the first kind and reads the groups of neither, so its keys and signatures are used and the claims are
//! checked here.

use super::claims;
use super::keys::{Keys, Lookup};
use super::token::Token;
use crate::domain::Timestamp;
use crate::domain::identity::SignedIn;
use openidconnect::core::CoreJwsSigningAlgorithm;
use std::collections::HashSet;
use std::sync::Arc;
use url::Url;

/// One issuer that is trusted.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// What its tokens call it (`iss`), and where its discovery document is found: https, or http on loopback.
    pub url: Url,
    /// The token's `aud` must contain one of these.
    pub audiences: Vec<String>,
    /// Clients, beside the audiences, that may have asked for a token (`azp`, else `client_id`). Looked at in tokens
    /// of several audiences, and in every token when not empty.
    pub authorized_parties: Vec<String>,
    /// Every token speaks for a program, whatever its claims say.
    pub machines_only: bool,
    /// The claim that lists groups: a whole name, else a path with dots between levels (`realm_access.roles`).
    pub groups_claim: String,
    /// Claims tried in order for the name that people read.
    pub name_claims: Vec<String>,
    /// How far the issuer's clock may be off; at most 300.
    pub clock_skew_seconds: u64,
    /// Signature algorithms accepted from this issuer, of those in `Issuer::ALGORITHMS`.
    pub algorithms: Vec<String>,
    /// PEM of further roots to trust for this issuer's TLS.
    pub ca_pem: Option<Vec<u8>>,
}

impl Issuer {
    /// What may stand in `algorithms`: signatures by public keys only. `none` and the shared secrets of HS* never.
    pub const ALGORITHMS: [&str; 9] = [
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
    ];
    /// Largest `clock_skew_seconds`.
    pub const CLOCK_SKEW_SECONDS_MAX: u64 = 300;

    /// An issuer with the usual settings: `groups`, the usual names, 30 s of skew, RS256.
    pub fn new(url: Url, audiences: Vec<String>) -> Self {
        Self {
            url,
            audiences,
            authorized_parties: Vec::new(),
            machines_only: false,
            groups_claim: "groups".to_owned(),
            name_claims: ["preferred_username", "name", "email", "client_id", "sub"]
                .map(str::to_owned)
                .to_vec(),
            clock_skew_seconds: 30,
            algorithms: vec!["RS256".to_owned()],
            ca_pem: None,
        }
    }

    /// Whether an issuer that calls itself `name` is this one. A URL without a path is the same with and without
    /// its last slash; anything else must be equal to the letter.
    pub(super) fn is_called(&self, name: &str) -> bool {
        let url = self.url.as_str();
        name == url || (self.url.path() == "/" && url.strip_suffix('/') == Some(name))
    }
}

/// Why issuers cannot be used as they are configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    #[error("issuer {url}: {reason}")]
    Unusable { url: String, reason: String },
    #[error("issuer {0} is there twice")]
    Twice(String),
}

/// Why a token was refused. Safe to show: holds no part of the token but the short claims it is about.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The token itself: malformed, expired, of another audience, unsigned. Worded for its owner.
    #[error("{0}")]
    Refused(String),
    /// The issuer could not be asked.
    #[error("the identity provider {issuer} is unavailable: try again in a moment")]
    Unavailable {
        issuer: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Verifies tokens of any of its issuers. Shared; keeps their keys.
pub struct Verifier {
    trusted: Vec<Trusted>,
}

struct Trusted {
    issuer: Arc<Issuer>,
    algorithms: HashSet<CoreJwsSigningAlgorithm>,
    keys: Arc<Keys>,
}

impl Verifier {
    /// Makes a verifier. Nothing is fetched before the first token of an issuer.
    ///
    /// Blocks on the file system, to read the system's roots, when an issuer is reached by https.
    pub fn new(issuers: Vec<Issuer>) -> Result<Self, IssuerError> {
        let mut trusted: Vec<Trusted> = Vec::with_capacity(issuers.len());
        for issuer in issuers {
            if trusted.iter().any(|other| other.issuer.url == issuer.url) {
                return Err(IssuerError::Twice(issuer.url.to_string()));
            }
            trusted.push(Trusted::new(issuer)?);
        }
        Ok(Self { trusted })
    }

    /// Checks a token and says who it speaks for.
    ///
    /// `now` also decides whether the issuer's keys are old. They are fetched when there are none, when they are ten
    /// minutes old, and when the token names a key that is not among them, but not more often than every 10 s; a
    /// fetch takes at most 10 s. Keys of an issuer that cannot be reached are used for 24 h. Cancel safe: a fetch
    /// that others wait for goes on.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<SignedIn, TokenError> {
        let token = Token::read(token)?;
        let name = token.issuer()?;
        let trusted = self
            .trusted
            .iter()
            .find(|trusted| trusted.issuer.is_called(name))
            .ok_or_else(|| self.unknown_issuer(name))?;
        trusted.verify(&token, now).await
    }

    /// The keys of the only issuer, of a verifier that has one.
    pub(super) fn keys(&self) -> Option<&Arc<Keys>> {
        match self.trusted.as_slice() {
            [trusted] => Some(&trusted.keys),
            _ => None,
        }
    }

    fn unknown_issuer(&self, name: &str) -> TokenError {
        let known: Vec<&str> = self.trusted.iter().map(|trusted| trusted.issuer.url.as_str()).collect();
        TokenError::Refused(format!(
            "no configured issuer is called {}: sign in at {}",
            quoted(name),
            known.join(" or ")
        ))
    }
}

impl Trusted {
    fn new(issuer: Issuer) -> Result<Self, IssuerError> {
        let unusable = |reason: String| IssuerError::Unusable {
            url: issuer.url.to_string(),
            reason,
        };
        check(&issuer).map_err(unusable)?;
        let algorithms = issuer
            .algorithms
            .iter()
            .map(|name| algorithm(name))
            .collect::<Result<_, _>>();
        let algorithms = algorithms.map_err(unusable)?;
        let issuer = Arc::new(issuer);
        let keys = Keys::new(Arc::clone(&issuer)).map_err(|reason| IssuerError::Unusable {
            url: issuer.url.to_string(),
            reason,
        })?;
        Ok(Self {
            issuer,
            algorithms,
            keys: Arc::new(keys),
        })
    }

    async fn verify(&self, token: &Token, now: Timestamp) -> Result<SignedIn, TokenError> {
        let algorithm = token.algorithm()?;
        if !self.algorithms.contains(&algorithm) {
            return Err(TokenError::Refused(format!(
                "the token is signed with {}, which is not accepted from {}: expected {}",
                quoted(token.algorithm_name()),
                self.issuer.url,
                self.issuer.algorithms.join(" or ")
            )));
        }
        // Before the signature, so that a token that is refused anyway makes nobody fetch keys.
        let validity = claims::check(&self.issuer, token.payload(), now)?;
        self.check_signature(token, &algorithm, now).await?;
        claims::signed_in(&self.issuer, token.payload(), validity)
    }

    async fn check_signature(
        &self,
        token: &Token,
        algorithm: &CoreJwsSigningAlgorithm,
        now: Timestamp,
    ) -> Result<(), TokenError> {
        let kid = token.key_id()?;
        let found = match Keys::find(&self.keys, kid, algorithm, now).await? {
            Lookup::Found(found) => found,
            Lookup::Unknown => {
                return Err(TokenError::Refused(format!(
                    "{} has no key {} for the token's signature: sign in again",
                    self.issuer.url,
                    kid.map(quoted).unwrap_or_else(|| "that fits".to_owned())
                )));
            }
        };
        if found.issuer != token.issuer()? {
            return Err(TokenError::Refused(format!(
                "the token calls its issuer {}, which calls itself {}",
                quoted(token.issuer()?),
                found.issuer
            )));
        }
        if found.keys.iter().any(|key| token.is_signed_by(key, algorithm)) {
            Ok(())
        } else {
            Err(TokenError::Refused(format!(
                "the token's signature is not that of {}: sign in again",
                self.issuer.url
            )))
        }
    }
}

/// Says whether an issuer may be asked at this address: https, or http on the loopback interface.
pub fn may_ask(url: &Url) -> Result<(), &'static str> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err("an issuer's URL holds no user name or password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("an issuer's URL has neither a query nor a fragment");
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(url) => Ok(()),
        _ => Err("an issuer is reached by https (http only on the loopback interface)"),
    }
}

/// Whether a URL's host is this machine by name or address.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Text from a token or an issuer as it may be shown: escaped and cut.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN_MAX: usize = 200;
    let cut: String = text.chars().take(SHOWN_MAX).collect();
    let more = if cut.len() < text.len() { ".." } else { "" };
    format!("\"{}{more}\"", cut.escape_debug())
}

fn check(issuer: &Issuer) -> Result<(), String> {
    may_ask(&issuer.url)?;
    if issuer.audiences.is_empty() || issuer.audiences.iter().any(String::is_empty) {
        return Err("at least one audience is needed, and none may be empty".to_owned());
    }
    if issuer.algorithms.is_empty() {
        return Err("at least one signature algorithm is needed".to_owned());
    }
    if issuer.groups_claim.is_empty() {
        return Err("the groups claim has no name".to_owned());
    }
    if issuer.clock_skew_seconds > Issuer::CLOCK_SKEW_SECONDS_MAX {
        return Err(format!(
            "the clock skew is at most {} s",
            Issuer::CLOCK_SKEW_SECONDS_MAX
        ));
    }
    Ok(())
}

fn algorithm(name: &str) -> Result<CoreJwsSigningAlgorithm, String> {
    if !Issuer::ALGORITHMS.contains(&name) {
        return Err(format!(
            "the signature algorithm {} is not accepted: choose of {}",
            quoted(name),
            Issuer::ALGORITHMS.join(", ")
        ));
    }
    serde_json::from_value(serde_json::Value::from(name)).map_err(|error| error.to_string())
}
