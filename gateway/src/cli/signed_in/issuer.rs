//! An issuer as the command line asks it: its discovery document, codes, tokens, and the end of a sign-in.

use super::SignIn;
use crate::cli::client::{ClientError, Reach, chain};
use crate::console::SignInEntry;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{TimeDelta, Utc};
use countersign_infra::domain::secret::Secret;
use countersign_infra::identity::oidc::{self, TokenError, Verifier};
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreClaimName, CoreClaimType, CoreClient, CoreClientAuthMethod,
    CoreDeviceAuthorizationResponse, CoreErrorResponseType, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType,
    CoreSubjectIdentifierType, CoreTokenResponse,
};
use openidconnect::{
    AdditionalProviderMetadata, AsyncHttpClient, AuthenticationFlow, AuthorizationCode, ClientId, CsrfToken,
    DeviceAuthorizationUrl, DeviceCodeErrorResponseType, DiscoveryError, EndpointMaybeSet, EndpointNotSet, EndpointSet,
    ErrorResponse, HttpRequest, HttpResponse, IssuerUrl, Nonce, OAuth2TokenResponse, PkceCodeChallenge,
    PkceCodeVerifier, ProviderMetadata, RedirectUrl, RefreshToken, RequestTokenError, Scope, TokenResponse, http,
};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use url::Url;

/// Longest answer of an issuer, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How far the issuer's clock may be off.
const CLOCK_SKEW_SECONDS: u64 = 30;
/// A device code is waited for no longer, whatever the issuer says.
const DEVICE_TIME_MAX: Duration = Duration::from_secs(30 * 60);
const OFFLINE_ACCESS: &str = "offline_access";

/// The endpoints that are no part of OpenID Connect Discovery: RFC 8628, RFC 7009 and RFC 9207.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Endpoints {
    device_authorization_endpoint: Option<DeviceAuthorizationUrl>,
    revocation_endpoint: Option<Url>,
    authorization_response_iss_parameter_supported: Option<bool>,
}

impl AdditionalProviderMetadata for Endpoints {}

type Metadata = ProviderMetadata<
    Endpoints,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

type Client = CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet, EndpointMaybeSet>;

/// An issuer that was discovered, as its public client.
pub struct IssuerClient {
    entry: SignInEntry,
    http: Http,
    client: Client,
    endpoints: Endpoints,
    /// What it calls itself, to the letter.
    name: String,
    offers_offline_access: bool,
    verifier: Verifier,
}

/// A code that was asked for: what the answer must name, and what redeems it.
pub struct AskedCode {
    /// Where the person signs in.
    pub link: Url,
    pub state: CsrfToken,
    /// What the answer's `iss` must be.
    pub issuer: String,
    /// The issuer always names itself in its answers (RFC 9207).
    pub names_issuer: bool,
    nonce: Nonce,
    verifier: PkceCodeVerifier,
    redirect: RedirectUrl,
}

/// What came of a refresh.
pub enum Refreshed {
    Anew(Box<SignIn>),
    /// The issuer takes the refresh token no more.
    Ended(String),
}

impl IssuerClient {
    /// Reads the issuer's discovery document and keys.
    pub async fn discover(entry: SignInEntry, reach: &Reach) -> Result<Self, ClientError> {
        oidc::may_ask(&entry.issuer).map_err(|why| ClientError::Usage(format!("{}: {why}", entry.issuer)))?;
        let http = Http(reach.http.clone());
        let metadata = metadata(&entry.issuer, &http).await?;
        let endpoints = metadata.additional_metadata().clone();
        let (token, strange) = (metadata.token_endpoint().cloned(), |why: &str| {
            strange(&entry.issuer, why)
        });
        let token = token.ok_or_else(|| strange("it has no token endpoint"))?;
        let urls = [
            Some(token.url()),
            Some(metadata.authorization_endpoint().url()),
            endpoints.device_authorization_endpoint.as_ref().map(|url| url.url()),
            endpoints.revocation_endpoint.as_ref(),
        ];
        if let Some(url) = urls.into_iter().flatten().find(|url| !may_go_to(&entry.issuer, url)) {
            return Err(strange(&format!("its endpoint {url} is not https")));
        }
        let trusted = oidc::Issuer {
            algorithms: entry.algorithms.clone(),
            clock_skew_seconds: CLOCK_SKEW_SECONDS,
            ca_pem: reach.ca_pem.clone(),
            ..oidc::Issuer::new(entry.issuer.clone(), vec![entry.client_id.clone()])
        };
        let verifier = Verifier::new(vec![trusted]).map_err(|error| strange(&error.to_string()))?;
        let offers = metadata.scopes_supported();
        Ok(Self {
            name: metadata.issuer().to_string(),
            offers_offline_access: offers.is_some_and(|all| all.iter().any(|scope| scope.as_str() == OFFLINE_ACCESS)),
            client: CoreClient::from_provider_metadata(metadata, ClientId::new(entry.client_id.clone()), None)
                .set_token_uri(token),
            endpoints,
            verifier,
            http,
            entry,
        })
    }

    pub fn url(&self) -> &Url {
        &self.entry.issuer
    }

    /// Whether it can sign people in on another device.
    pub fn knows_devices(&self) -> bool {
        self.endpoints.device_authorization_endpoint.is_some()
    }

    /// Makes the link at which a person signs in, whose answer goes to `redirect`: a code with PKCE (RFC 7636).
    pub fn ask_code(&self, redirect: RedirectUrl) -> AskedCode {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
        let client = self.client.clone().set_redirect_uri(redirect.clone());
        let mut request = client
            .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
            .add_scopes(self.scopes())
            .set_pkce_challenge(challenge);
        if self.offers_offline_access {
            // Without it an issuer must leave out the refresh token (OpenID Connect Core 1.0, section 11).
            request = request.add_prompt(CoreAuthPrompt::Consent);
        }
        let (link, state, nonce) = request.url();
        AskedCode {
            link,
            state,
            issuer: self.name.clone(),
            names_issuer: self.endpoints.authorization_response_iss_parameter_supported == Some(true),
            nonce,
            verifier,
            redirect,
        }
    }

    /// Redeems the code that the issuer answered with.
    pub async fn redeem(&self, code: String, asked: AskedCode) -> Result<SignIn, ClientError> {
        let client = self.client.clone().set_redirect_uri(asked.redirect);
        let request = client
            .exchange_code(AuthorizationCode::new(code))
            .set_pkce_verifier(asked.verifier);
        let answer = request.request_async(&self.http).await;
        let answer = answer.map_err(|error| self.failed("the code is not taken", error))?;
        self.sign_in(&answer, Some(&asked.nonce)).await
    }

    /// Asks for the code that a person types on another device (RFC 8628).
    pub async fn ask_device(&self) -> Result<CoreDeviceAuthorizationResponse, ClientError> {
        let Some(endpoint) = self.endpoints.device_authorization_endpoint.clone() else {
            return Err(ClientError::Usage(format!(
                "{} cannot sign people in on another device: use --browser",
                self.url()
            )));
        };
        let client = self.client.clone().set_device_authorization_url(endpoint);
        let request = client.exchange_device_code().add_scopes(self.scopes());
        let answer = request.request_async(&self.http).await;
        answer.map_err(|error| self.failed("no device code is given", error))
    }

    /// Waits until the person has signed in on the other device, as often asking as the issuer lets.
    pub async fn await_device(&self, asked: &CoreDeviceAuthorizationResponse) -> Result<SignIn, ClientError> {
        let request = self.client.exchange_device_access_token(asked);
        let time_max = asked.expires_in().min(DEVICE_TIME_MAX);
        let answer = request
            .request_async(&self.http, tokio::time::sleep, Some(time_max))
            .await;
        let answer = answer.map_err(|error| match &error {
            RequestTokenError::ServerResponse(said) => match said.error() {
                DeviceCodeErrorResponseType::AccessDenied => {
                    ClientError::NotSignedIn(format!("the sign-in was denied at {}", self.url()))
                }
                DeviceCodeErrorResponseType::ExpiredToken => {
                    ClientError::NotSignedIn("the code has expired: run `countersign login` again".to_owned())
                }
                DeviceCodeErrorResponseType::AuthorizationPending
                | DeviceCodeErrorResponseType::SlowDown
                | DeviceCodeErrorResponseType::Basic(_) => self.failed("the sign-in failed", error),
            },
            RequestTokenError::Request(_) | RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
                self.failed("the sign-in failed", error)
            }
        })?;
        self.sign_in(&answer, None).await
    }

    /// Asks for a new token. It must speak for the same person (OpenID Connect Core 1.0, section 12.2).
    pub async fn refresh(&self, kept: &SignIn, refresh_token: &Secret) -> Result<Refreshed, ClientError> {
        let token = RefreshToken::new(refresh_token.reveal().to_owned());
        let answer = match self
            .client
            .exchange_refresh_token(&token)
            .request_async(&self.http)
            .await
        {
            Ok(answer) => answer,
            Err(RequestTokenError::ServerResponse(said)) if *said.error() == CoreErrorResponseType::InvalidGrant => {
                return Ok(Refreshed::Ended(said.to_string()));
            }
            Err(error) => return Err(self.failed("the sign-in cannot be refreshed", error)),
        };
        if answer.id_token().is_none() {
            return Ok(Refreshed::Ended("the issuer refreshes no ID tokens".to_owned()));
        }
        let fresh = self.sign_in(&answer, None).await?;
        if fresh.subject != kept.subject {
            return Err(self.strange("it refreshed the token of one person with that of another"));
        }
        let refresh_token = fresh.refresh_token.clone().or_else(|| kept.refresh_token.clone());
        Ok(Refreshed::Anew(Box::new(SignIn { refresh_token, ..fresh })))
    }

    /// Tells the issuer that a refresh token is no longer used (RFC 7009). Says whether it takes such words.
    pub async fn revoke(&self, refresh_token: &Secret) -> Result<bool, ClientError> {
        let Some(endpoint) = self.endpoints.revocation_endpoint.clone() else {
            return Ok(false);
        };
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("token", refresh_token.reveal())
            .append_pair("token_type_hint", "refresh_token")
            .append_pair("client_id", &self.entry.client_id)
            .finish();
        // The crate's own request asks for https, also of an issuer on the loopback interface.
        let request = http::Request::post(endpoint.as_str())
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body.into_bytes());
        let request = request.map_err(|error| self.strange(&error.to_string()))?;
        let answer = self.http.call(request).await;
        match answer.map_err(|error| self.unreachable(chain(&error)))?.status() {
            http::StatusCode::OK => Ok(true),
            other => Err(self.strange(&format!("it revokes no token and answers {other}"))),
        }
    }

    fn scopes(&self) -> Vec<Scope> {
        let offline = self.offers_offline_access.then_some(OFFLINE_ACCESS);
        // `openid` is added by the client.
        let wanted = self.entry.scopes.iter().map(String::as_str).chain(offline);
        let mut scopes: Vec<Scope> = Vec::new();
        for scope in wanted.filter(|scope| *scope != "openid") {
            if !scopes.iter().any(|known| known.as_str() == scope) {
                scopes.push(Scope::new(scope.to_owned()));
            }
        }
        scopes
    }

    /// Checks the ID token of an answer, and for a code that it is the one that was asked for.
    async fn sign_in(&self, answer: &CoreTokenResponse, nonce: Option<&Nonce>) -> Result<SignIn, ClientError> {
        let token = answer
            .id_token()
            .ok_or_else(|| self.strange("it gave no ID token"))?
            .to_string();
        let signed_in = self
            .verifier
            .verify(&token, Utc::now())
            .await
            .map_err(|error| match error {
                TokenError::Refused(why) => self.strange(&why),
                TokenError::Unavailable { source, .. } => self.unreachable(chain(source.as_ref())),
            })?;
        if nonce.is_some_and(|nonce| nonce_of(&token).as_deref() != Some(nonce.secret())) {
            return Err(self.strange("its token answers another sign-in (nonce)"));
        }
        let refresh_token = answer.refresh_token().map(|token| Secret::new(token.secret().clone()));
        Ok(SignIn {
            entry: self.entry.clone(),
            subject: signed_in.person.key.subject,
            name: signed_in.person.name,
            ends: signed_in.expires - TimeDelta::seconds(CLOCK_SKEW_SECONDS as i64),
            token: Secret::new(token),
            refresh_token,
        })
    }

    fn failed<T: ErrorResponse>(&self, what: &str, error: RequestTokenError<HttpError, T>) -> ClientError {
        match error {
            RequestTokenError::ServerResponse(said) => {
                ClientError::NotSignedIn(format!("{what} by {}: {said}", self.url()))
            }
            RequestTokenError::Request(error) => self.unreachable(chain(&error)),
            // What it answered may hold a token: only where it is wrong is said.
            RequestTokenError::Parse(error, _) => self.strange(&format!("{what}: {error}")),
            RequestTokenError::Other(why) => self.strange(&format!("{what}: {why}")),
        }
    }

    fn unreachable(&self, why: String) -> ClientError {
        let url = self.url().clone();
        ClientError::Issuer { url, why }
    }

    fn strange(&self, why: &str) -> ClientError {
        strange(self.url(), why)
    }
}

/// An issuer without a path is called with its last slash or without: it must call itself as it was asked.
async fn metadata(issuer: &Url, http: &Http) -> Result<Metadata, ClientError> {
    let bare = issuer.as_str().strip_suffix('/').filter(|_| issuer.path() == "/");
    let mut last = strange(issuer, "it has no name");
    for name in bare.into_iter().chain([issuer.as_str()]) {
        let name = IssuerUrl::new(name.to_owned()).map_err(|error| strange(issuer, &error.to_string()))?;
        last = match Metadata::discover_async(name, http).await {
            Ok(metadata) => return Ok(metadata),
            Err(DiscoveryError::Request(error)) => {
                let url = issuer.clone();
                return Err(ClientError::Issuer {
                    url,
                    why: chain(&error),
                });
            }
            Err(error) => strange(issuer, &chain(&error)),
        };
    }
    Err(last)
}

/// Codes and tokens travel over TLS, or stay on this machine where the issuer does.
fn may_go_to(issuer: &Url, endpoint: &Url) -> bool {
    let stays = |url: &Url| url.scheme() == "http" && oidc::is_loopback(url);
    endpoint.scheme() == "https" || (stays(issuer) && stays(endpoint))
}

fn strange(issuer: &Url, why: &str) -> ClientError {
    ClientError::Issuer {
        url: issuer.clone(),
        why: why.to_owned(),
    }
}

/// The nonce of a token whose signature was checked.
fn nonce_of(token: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    Some(claims.get("nonce")?.as_str()?.to_owned())
}

/// Sends what the `openidconnect` crate asks for. Its own way has no bound on an answer.
struct Http(reqwest::Client);

/// Why an issuer's answer could not be had.
#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error(transparent)]
    Failed(#[from] reqwest::Error),
    #[error(transparent)]
    Malformed(#[from] http::Error),
    #[error("it answered more than {BODY_BYTES_MAX} bytes")]
    TooLong,
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let request = request.try_into().map_err(reqwest::Error::without_url)?;
            let mut answer = self.0.execute(request).await.map_err(reqwest::Error::without_url)?;
            let mut builder = http::Response::builder().status(answer.status());
            if let Some(headers) = builder.headers_mut() {
                *headers = answer.headers().clone();
            }
            let mut body = Vec::new();
            while let Some(part) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
                if body.len() + part.len() > BODY_BYTES_MAX {
                    return Err(HttpError::TooLong);
                }
                body.extend_from_slice(&part);
            }
            Ok(builder.body(body)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_tokens_leave_the_machine_by_tls_only() {
        for (issuer, endpoint, good) in [
            ("https://login.example.com", "https://login.example.com/token", true),
            ("https://login.example.com", "https://oauth2.example.net/token", true),
            ("https://login.example.com", "http://login.example.com/token", false),
            ("https://login.example.com", "http://127.0.0.1:80/token", false),
            ("http://127.0.0.1:80", "http://127.0.0.1:80/token", true),
            ("http://127.0.0.1:80", "http://login.example.com/token", false),
            ("http://127.0.0.1:80", "file:///token", false),
        ] {
            let (issuer, endpoint) = (issuer.parse().unwrap(), endpoint.parse().unwrap());
            assert_eq!(may_go_to(&issuer, &endpoint), good, "{issuer} {endpoint}");
        }
    }

    #[test]
    fn a_nonce_is_read_where_there_is_one() {
        let token = |claims: &str| format!("e30.{}.AAAA", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(nonce_of(&token(r#"{"nonce":"n"}"#)).as_deref(), Some("n"));
        for none in [&token("{}"), &token(r#"{"nonce":7}"#), "", "a.b", "a.!.c"] {
            assert_eq!(nonce_of(none), None, "{none}");
        }
    }
}
