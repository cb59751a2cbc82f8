//! The way from the command line to a gateway's API.

use super::signed_in;
use crate::console::{EventList, Problem};
use bytes::{Bytes, BytesMut};
use countersign_infra::domain::audit::Event;
use countersign_infra::domain::id::SessionId;
use countersign_infra::domain::secret::Secret;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use url::{Host, Url};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Longest answer that is taken: a page of events with long statements, or a whole operation.
const ANSWER_BYTES_MAX: usize = 96 << 20;

/// How a command finds its gateway and signs in.
#[derive(Clone, Debug, clap::Args)]
pub struct ConnectArgs {
    /// The gateway's address, like https://countersign.example.com:8443.
    #[arg(long, env = "COUNTERSIGN_URL", value_name = "URL")]
    pub url: Option<Url>,
    /// A file that holds the token; else COUNTERSIGN_TOKEN holds it, else `countersign login` has kept one.
    #[arg(long, env = "COUNTERSIGN_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// PEM of further roots to trust for the gateway's TLS.
    #[arg(long, env = "COUNTERSIGN_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// Why a command got no answer, or not the wanted one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0}")]
    Usage(String),
    #[error("the gateway at {url} does not answer: {why}")]
    Unreachable { url: Url, why: String },
    /// The gateway answered, but cannot do it now.
    #[error("the gateway cannot do it now: {0}")]
    Unavailable(String),
    #[error("the identity provider {url} cannot be used: {why}")]
    Issuer { url: Url, why: String },
    #[error("not signed in: {0}")]
    NotSignedIn(String),
    #[error("not allowed: {0}")]
    NotAllowed(String),
    /// The answer is no.
    #[error("{}", .0.detail)]
    No(Box<Problem>),
    /// What the gateway keeps was changed or lost.
    #[error("{0}")]
    Damaged(String),
    /// What answers there is no gateway of this version.
    #[error("the answer of {url} is not understood: {why}")]
    Strange { url: Url, why: String },
}

impl ClientError {
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::No(_) | Self::Damaged(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable { .. } | Self::Unavailable(_) | Self::Issuer { .. } | Self::Strange { .. } => 3,
            Self::NotSignedIn(_) | Self::NotAllowed(_) => 4,
        })
    }
}

/// The way to a gateway, before anybody is signed in.
pub struct Reach {
    pub url: Url,
    pub http: reqwest::Client,
    /// Further roots to trust, as PEM.
    pub ca_pem: Option<Vec<u8>>,
}

impl ConnectArgs {
    /// Makes a client that sends a token: the one given, else what `countersign login` kept, refreshed where it ends
    /// soon. The gateway is not asked yet.
    pub async fn connect(&self) -> Result<GatewayClient, ClientError> {
        let reach = self.reach()?;
        let token = match self.given_token()? {
            Some(token) => token,
            None => signed_in::token(&reach).await?,
        };
        Ok(GatewayClient::new(&reach, Some(token)))
    }

    /// Finds the gateway, and sets up TLS.
    pub fn reach(&self) -> Result<Reach, ClientError> {
        let usage = |text: &str| ClientError::Usage(text.to_owned());
        let url = self.url.clone();
        let url = url.ok_or_else(|| usage("which gateway? set COUNTERSIGN_URL or give --url"))?;
        may_carry_a_token(&url)?;
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIME_MAX)
            .timeout(ANSWER_TIME_MAX);
        for root in self.roots()? {
            builder = builder.add_root_certificate(root);
        }
        let http = builder
            .build()
            .map_err(|error| ClientError::Usage(format!("TLS cannot be set up: {}", chain(&error))))?;
        let ca_pem = self.ca.as_deref().map(read).transpose()?.map(String::into_bytes);
        Ok(Reach { url, http, ca_pem })
    }

    /// The token from the file if one is named, else from the environment if it is there.
    fn given_token(&self) -> Result<Option<Secret>, ClientError> {
        let text = match &self.token_file {
            Some(path) => read(path)?,
            None => std::env::var("COUNTERSIGN_TOKEN").unwrap_or_default(),
        };
        let token = text.trim();
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ClientError::Usage(
                "the token holds characters that no token has".to_owned(),
            ));
        }
        match (token.is_empty(), &self.token_file) {
            (false, _) => Ok(Some(Secret::new(token.to_owned()))),
            (true, None) => Ok(None),
            (true, Some(path)) => Err(ClientError::NotSignedIn(format!("{} is empty", path.display()))),
        }
    }

    fn roots(&self) -> Result<Vec<reqwest::Certificate>, ClientError> {
        let Some(path) = &self.ca else {
            return Ok(Vec::new());
        };
        let bad = |why: String| ClientError::Usage(format!("{} is no PEM of certificates: {why}", path.display()));
        let pem = read(path)?;
        let roots = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(|error| bad(chain(&error)))?;
        match roots.is_empty() {
            true => Err(bad("it holds none".to_owned())),
            false => Ok(roots),
        }
    }
}

fn read(path: &Path) -> Result<String, ClientError> {
    let failed = |error| ClientError::Usage(format!("{} cannot be read: {error}", path.display()));
    std::fs::read_to_string(path).map_err(failed)
}

/// A token travels over TLS, or stays on this machine.
fn may_carry_a_token(url: &Url) -> Result<(), ClientError> {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        "http" => Err(ClientError::Usage(format!(
            "{url} would carry the token in the clear: use https"
        ))),
        other => Err(ClientError::Usage(format!(
            "{other} is not a scheme of a gateway's address: use https"
        ))),
    }
}

/// A gateway's API, as one caller.
pub struct GatewayClient {
    http: reqwest::Client,
    url: Url,
    /// None for what is served without one.
    token: Option<Secret>,
}

impl GatewayClient {
    pub fn new(reach: &Reach, token: Option<Secret>) -> Self {
        Self {
            http: reach.http.clone(),
            url: reach.url.clone(),
            token,
        }
    }

    pub(super) fn token(&self) -> Option<&Secret> {
        self.token.as_ref()
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Reads a JSON answer. `path` starts with a slash; its parts are already in their encoded form.
    pub async fn read<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, ClientError> {
        let request = self.request(Method::GET, path)?.query(query);
        self.parse(&self.send(request).await?)
    }

    /// Sends a JSON body and reads a JSON answer.
    pub async fn send_json<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let request = self.request(Method::POST, path)?.json(body);
        self.parse(&self.send(request).await?)
    }

    /// Sends a request without a body, whose answer says nothing.
    pub async fn send_empty(&self, path: &str) -> Result<(), ClientError> {
        let request = self.request(Method::POST, path)?;
        self.send(request).await.map(drop)
    }

    /// Reads all events of one session, in order.
    pub async fn events(&self, session: SessionId) -> Result<Vec<Event>, ClientError> {
        let path = format!("/api/v1/sessions/{session}/events");
        let mut events = Vec::new();
        let mut from = Some(0);
        while let Some(start) = from {
            let page: EventList = self.read(&path, &[("from", start.to_string())]).await?;
            events.extend(page.events);
            // A page that does not go on would be asked for for ever.
            from = page.next.filter(|next| *next > start);
        }
        Ok(events)
    }

    /// Reads an answer as it is.
    pub(super) async fn fetch(&self, path: &str) -> Result<Bytes, ClientError> {
        self.send(self.request(Method::GET, path)?).await
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, ClientError> {
        let base = self.url.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}{path}")).map_err(|error| ClientError::Usage(error.to_string()))?;
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Bytes, ClientError> {
        let unreachable = |error: reqwest::Error| ClientError::Unreachable {
            url: self.url.clone(),
            why: chain(&error.without_url()),
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let body = self.body(response).await?;
        match status.is_success() {
            true => Ok(body),
            false => Err(self.refused(status, &body)),
        }
    }

    async fn body(&self, mut response: Response) -> Result<Bytes, ClientError> {
        let mut body = BytesMut::new();
        let broken = |error: reqwest::Error| self.strange(chain(&error.without_url()));
        while let Some(part) = response.chunk().await.map_err(broken)? {
            if body.len() + part.len() > ANSWER_BYTES_MAX {
                return Err(self.strange(format!("it is longer than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&part);
        }
        Ok(body.freeze())
    }

    fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.strange(error.to_string()))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> ClientError {
        let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
            return self.strange(format!("HTTP status {status}"));
        };
        if problem.is_damage() {
            return ClientError::Damaged(problem.detail);
        }
        match status {
            StatusCode::UNAUTHORIZED => ClientError::NotSignedIn(problem.detail),
            StatusCode::FORBIDDEN => ClientError::NotAllowed(problem.detail),
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => ClientError::No(Box::new(problem)),
            other if other.is_client_error() => ClientError::Usage(problem.detail),
            _ => ClientError::Unavailable(format!("{} (request {})", problem.detail, problem.id)),
        }
    }

    pub(super) fn strange(&self, why: String) -> ClientError {
        let url = self.url.clone();
        ClientError::Strange { url, why }
    }
}

/// An error with its causes: the outermost alone says little ("error sending request").
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if words.last().is_none_or(|last| !last.contains(&text)) {
            words.push(text);
        }
        source = cause.source();
    }
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_travels_in_the_clear() {
        for (url, good) in [
            ("https://gateway.example.com", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://localhost:8080", true),
            ("http://gateway.example.com", false),
            ("http://127.0.0.1.example.com", false),
            ("ftp://127.0.0.1", false),
        ] {
            assert_eq!(may_carry_a_token(&url.parse().unwrap()).is_ok(), good, "{url}");
        }
    }

    #[test]
    fn a_command_without_an_address_says_what_to_set() {
        let args = ConnectArgs {
            url: None,
            token_file: None,
            ca: None,
        };
        let error = args.reach().err().unwrap();
        assert!(error.to_string().contains("set COUNTERSIGN_URL"), "{error}");
    }
}
