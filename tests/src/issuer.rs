//! A small OpenID Connect issuer on the loopback interface, for tests and the demo: discovery, keys, and a token
//! endpoint for client credentials. It also signs whatever a test wants and misbehaves on demand.

pub mod encrypted;
mod signing;

pub use signing::Signing;

use crate::certificates::Leaf;
use anyhow::Context;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Utc;
use encrypted::Encrypted;
use serde_json::{Map, Value, json};
use signing::Key;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

/// A running issuer. It stops when it is dropped.
pub struct Issuer {
    shared: Arc<Shared>,
    stop: DropGuard,
}

/// How the issuer answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Normal,
    /// Every request is answered with 503.
    Down,
    /// No request is answered until the behaviour changes.
    Silent,
    /// The discovery document names another issuer.
    WrongIssuer,
    /// The keys come with some megabytes of others.
    HugeKeys,
    /// The keys are said to be elsewhere.
    Redirect,
    /// The set of keys is empty.
    NoKeys,
    /// The discovery document is a page.
    NotJson,
}

/// What a usual token says.
#[derive(Clone, Debug)]
pub struct Claims {
    pub subject: String,
    pub audience: String,
    pub groups: Vec<String>,
    pub lifetime_seconds: i64,
    /// Further claims, or others in the place of those above.
    pub more: Map<String, Value>,
}

impl Claims {
    /// A person's claims, valid for an hour.
    pub fn person(name: &str, audience: &str, groups: &[&str]) -> Self {
        let more = json!({
            "preferred_username": name,
            "email": format!("{name}@example.com"),
            "email_verified": true,
        });
        Self {
            subject: name.to_owned(),
            audience: audience.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            lifetime_seconds: 3600,
            more: more.as_object().cloned().unwrap_or_default(),
        }
    }

    /// A program's claims, valid for an hour.
    pub fn machine(client: &str, audience: &str, groups: &[&str]) -> Self {
        Self {
            more: Map::from_iter([("client_id".to_owned(), Value::from(client))]),
            ..Self::person(client, audience, groups)
        }
    }

    /// The payload of a token by the issuer of that URL.
    pub fn payload(&self, issuer: &str) -> Map<String, Value> {
        let now = Utc::now().timestamp();
        let mut payload = Map::from_iter([
            ("iss".to_owned(), Value::from(issuer)),
            ("sub".to_owned(), Value::from(self.subject.as_str())),
            ("aud".to_owned(), Value::from(self.audience.as_str())),
            ("groups".to_owned(), Value::from(self.groups.clone())),
            ("iat".to_owned(), Value::from(now)),
            ("exp".to_owned(), Value::from(now + self.lifetime_seconds)),
        ]);
        payload.extend(self.more.clone());
        payload
    }
}

struct Shared {
    url: Url,
    state: Mutex<Inner>,
    changed: tokio::sync::Notify,
}

struct Inner {
    keys: Vec<Arc<Key>>,
    keys_made: usize,
    behaviour: Behaviour,
    requests: usize,
    /// Secret and claims of each client of the token endpoint.
    clients: BTreeMap<String, (String, Claims)>,
    /// Code challenge and ID token of each code that is not used yet.
    codes: BTreeMap<String, (String, Map<String, Value>)>,
}

impl Issuer {
    /// Starts an issuer; `127.0.0.1:0` takes any free port. Its first keys are one of RSA and one of P-256.
    pub async fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = bind(address).await?;
        let issuer = Self::new(format!("http://{}", listener.local_addr()?).parse()?)?;
        issuer.serve(listener);
        Ok(issuer)
    }

    /// Starts an issuer that is reached by https, as `localhost`.
    pub async fn start_encrypted(address: SocketAddr, leaf: &Leaf) -> anyhow::Result<Self> {
        let listener = bind(address).await?;
        let issuer = Self::new(format!("https://localhost:{}", listener.local_addr()?.port()).parse()?)?;
        issuer.serve(Encrypted::new(listener, leaf)?);
        Ok(issuer)
    }

    fn new(url: Url) -> anyhow::Result<Self> {
        let inner = Inner {
            keys: Vec::new(),
            keys_made: 0,
            behaviour: Behaviour::Normal,
            requests: 0,
            clients: BTreeMap::new(),
            codes: BTreeMap::new(),
        };
        let shared = Arc::new(Shared {
            url,
            state: Mutex::new(inner),
            changed: tokio::sync::Notify::new(),
        });
        shared.renew_keys()?;
        let stop = CancellationToken::new();
        Ok(Self {
            shared,
            stop: stop.drop_guard(),
        })
    }

    fn serve<L>(&self, listener: L)
    where
        L: axum::serve::Listener,
        L::Addr: std::fmt::Debug,
    {
        let router = axum::Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .with_state(Arc::clone(&self.shared));
        let stopped = self.stop.token().clone();
        tokio::spawn(async move {
            tokio::select! {
                served = async { axum::serve(listener, router).await } => if let Err(error) = served {
                    tracing::error!(%error, "the test issuer ended");
                },
                () = stopped.cancelled() => {}
            }
        });
    }

    /// What goes into the gateway's configuration.
    pub fn url(&self) -> Url {
        self.shared.url.clone()
    }

    /// What its tokens call it.
    pub fn name(&self) -> String {
        self.shared.name()
    }

    /// Signs a usual token with RS256.
    pub fn token(&self, claims: &Claims) -> String {
        self.sign(claims.payload(&self.name()), Signing::Rs256)
    }

    /// Signs any payload. The header names algorithm and key as it should.
    pub fn sign(&self, payload: Map<String, Value>, signing: Signing) -> String {
        self.sign_with_header(Map::new(), payload, signing)
    }

    /// Signs any payload under any header: what stands in `header` replaces the usual members, and null leaves one
    /// out.
    pub fn sign_with_header(
        &self,
        header: Map<String, Value>,
        payload: Map<String, Value>,
        signing: Signing,
    ) -> String {
        let state = self.shared.lock();
        signing::token(&state.keys, header, &payload, signing)
    }

    /// Makes new keys. The old ones are published no more, and sign no more.
    pub fn rotate(&self) -> anyhow::Result<()> {
        self.shared.lock().keys.clear();
        self.shared.renew_keys()
    }

    /// Changes how requests are answered from now on, those that wait too.
    pub fn behave(&self, behaviour: Behaviour) {
        self.shared.lock().behaviour = behaviour;
        self.shared.changed.notify_waiters();
    }

    /// How often anything was asked so far.
    pub fn requests(&self) -> usize {
        self.shared.lock().requests
    }

    /// Lets whoever has the verifier of this challenge exchange a code, once, for an ID token of this payload.
    pub fn give_code(&self, code: &str, challenge: &str, payload: Map<String, Value>) {
        let token = (challenge.to_owned(), payload);
        self.shared.lock().codes.insert(code.to_owned(), token);
    }

    /// Lets a client ask the token endpoint with this secret for these claims.
    pub fn register(&self, client: &str, secret: &str, claims: Claims) {
        self.shared
            .lock()
            .clients
            .insert(client.to_owned(), (secret.to_owned(), claims));
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self) -> String {
        self.url.as_str().trim_end_matches('/').to_owned()
    }

    fn renew_keys(&self) -> anyhow::Result<()> {
        let mut state = self.lock();
        state.keys_made += 1;
        let round = state.keys_made;
        state.keys.push(Arc::new(Key::rsa(format!("rsa-{round}"))?));
        state.keys.push(Arc::new(Key::p256(format!("p256-{round}"))?));
        Ok(())
    }

    /// Counts a request and says how to answer it.
    async fn behaviour(&self) -> Behaviour {
        self.lock().requests += 1;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let behaviour = self.lock().behaviour;
            if behaviour != Behaviour::Silent {
                return behaviour;
            }
            changed.await;
        }
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    anyhow::ensure!(
        address.ip().is_loopback(),
        "the test issuer stays on the loopback interface"
    );
    TcpListener::bind(address).await.context("the issuer's port")
}

async fn discovery(State(shared): State<Arc<Shared>>) -> Response {
    let mut issuer = shared.name();
    match shared.behaviour().await {
        Behaviour::Down => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Behaviour::NotJson => return "<html>Sign in</html>".into_response(),
        Behaviour::WrongIssuer => issuer.push_str("/other"),
        Behaviour::Normal | Behaviour::Silent | Behaviour::HugeKeys | Behaviour::Redirect | Behaviour::NoKeys => {}
    }
    let url = shared.name();
    Json(json!({
        "issuer": issuer,
        "jwks_uri": format!("{url}/keys"),
        "token_endpoint": format!("{url}/token"),
        "authorization_endpoint": format!("{url}/authorize"),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
    }))
    .into_response()
}

async fn keys(State(shared): State<Arc<Shared>>) -> Response {
    let behaviour = shared.behaviour().await;
    let mut keys: Vec<Value> = shared.lock().keys.iter().map(|key| key.public()).collect();
    match behaviour {
        Behaviour::Down => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Behaviour::Redirect => {
            let elsewhere = format!("{}/elsewhere", shared.name());
            return (StatusCode::FOUND, [(header::LOCATION, elsewhere)]).into_response();
        }
        Behaviour::NoKeys => keys.clear(),
        Behaviour::HugeKeys => keys.extend((0..20_000).map(|n| json!({"kty": "oct", "k": "A".repeat(200), "kid": n}))),
        Behaviour::Normal | Behaviour::Silent | Behaviour::WrongIssuer | Behaviour::NotJson => {}
    }
    Json(json!({ "keys": keys })).into_response()
}

/// Client credentials (RFC 6749, section 4.4), with the secret in the body; and codes that were given out.
async fn token(State(shared): State<Arc<Shared>>, body: String) -> Response {
    if shared.behaviour().await == Behaviour::Down {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    if field("grant_type") == "authorization_code" {
        return exchange(&shared, field("code"), field("code_verifier"));
    }
    if field("grant_type") != "client_credentials" {
        return (
            StatusCode::BAD_REQUEST,
            Json(json!({"error": "unsupported_grant_type"})),
        )
            .into_response();
    }
    let state = shared.lock();
    let Some((_, claims)) = state
        .clients
        .get(field("client_id"))
        .filter(|(secret, _)| secret == field("client_secret"))
    else {
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": "invalid_client"}))).into_response();
    };
    let token = signing::token(&state.keys, Map::new(), &claims.payload(&shared.name()), Signing::Rs256);
    Json(json!({"access_token": token, "token_type": "Bearer", "expires_in": claims.lifetime_seconds})).into_response()
}

/// A code is good once, and only with its verifier (RFC 7636, section 4.6).
fn exchange(shared: &Shared, code: &str, verifier: &str) -> Response {
    let mut state = shared.lock();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    let challenge = URL_SAFE_NO_PAD.encode(hash);
    let payload = match state.codes.remove(code) {
        Some((wanted, payload)) if wanted == challenge => payload,
        Some(_) | None => return (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response(),
    };
    let token = signing::token(&state.keys, Map::new(), &payload, Signing::Rs256);
    Json(json!({"access_token": "opaque", "token_type": "Bearer", "id_token": token})).into_response()
}
