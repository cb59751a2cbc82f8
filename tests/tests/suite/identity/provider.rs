//! Tokens of a certified OpenID provider (npm `oidc-provider`), asked for as clients ask.

use super::AUDIENCE;
use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{TimeDelta, Utc};
use countersign_infra::domain::identity::PersonKind;
use countersign_infra::identity::oidc::{self, TokenError, Verifier};
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use url::Url;

const ALGORITHMS: [&str; 5] = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];

/// Most redirects of one sign-in.
const STEPS_MAX: usize = 12;

/// The running provider. It ends with this value.
pub(crate) struct Provider {
    pub(crate) url: Url,
    _process: Child,
    /// Kept open: a program whose output nobody takes ends when it next says something.
    output: Lines<BufReader<ChildStdout>>,
}

impl Provider {
    pub(crate) async fn start() -> Result<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("identity-provider");
        ensure!(
            directory.join("node_modules/oidc-provider").is_dir(),
            "the OpenID provider is not installed: run `make identity-provider`, or `npm ci` in {}",
            directory.display()
        );
        // Brought by the packages where Debian's own is too old for the provider.
        let brought = directory.join("node_modules/.bin/node");
        let node = if brought.exists() {
            brought.as_os_str()
        } else {
            OsStr::new("node")
        };
        let mut process = Command::new(node)
            .arg("provider.mjs")
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("node does not start: run `make test`, which installs it")?;
        let mut lines = BufReader::new(process.stdout.take().context("its output")?).lines();
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
        let url = line
            .context("the provider says nothing")??
            .context("the provider ended at once")?;
        Ok(Self {
            url: url.parse()?,
            _process: process,
            output: lines,
        })
    }

    /// How many tokens were refreshed since this was asked.
    pub(crate) async fn refreshed(&mut self) -> Result<usize> {
        let quiet = Duration::from_millis(300);
        let mut refreshed = 0;
        while let Ok(line) = tokio::time::timeout(quiet, self.output.next_line()).await {
            refreshed += usize::from(line?.context("the provider ended")? == "refreshed");
        }
        Ok(refreshed)
    }

    fn trusted(&self) -> oidc::Issuer {
        let mut issuer = oidc::Issuer::new(self.url.clone(), vec![AUDIENCE.to_owned()]);
        issuer
            .audiences
            .extend(ALGORITHMS.map(|algorithm| format!("web-{algorithm}")));
        issuer.algorithms = ALGORITHMS.map(str::to_owned).to_vec();
        issuer
    }

    fn path(&self, path: &str) -> Result<Url> {
        Ok(self.url.join(path)?)
    }

    /// An access token by client credentials (RFC 6749, section 4.4; RFC 8707).
    async fn access_token(&self, algorithm: &str, resource: &str) -> Result<String> {
        let body = form(&[("grant_type", "client_credentials"), ("resource", resource)]);
        let answer: Value = reqwest::Client::new()
            .post(self.path("/token")?)
            .basic_auth(format!("etl-{algorithm}"), Some("etl-secret"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await?
            .json()
            .await?;
        let token = answer.get("access_token").and_then(Value::as_str);
        Ok(token.with_context(|| format!("no token: {answer}"))?.to_owned())
    }

    /// An ID token by the code flow with PKCE, with a browser's steps.
    async fn id_token(&self, algorithm: &str, person: &str) -> Result<String> {
        let client = format!("web-{algorithm}");
        let verifier = "v".repeat(43);
        let challenge = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
        let mut url = self.path("/auth")?;
        url.query_pairs_mut()
            .append_pair("client_id", &client)
            .append_pair("response_type", "code")
            .append_pair("redirect_uri", "http://127.0.0.1/callback")
            .append_pair("scope", "openid")
            .append_pair("state", "s")
            .append_pair("code_challenge_method", "S256")
            .append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(challenge));
        let code = Browser::new()?.sign_in(url, person).await?;
        let body = form(&[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", "http://127.0.0.1/callback"),
            ("code_verifier", &verifier),
        ]);
        let answer: Value = reqwest::Client::new()
            .post(self.path("/token")?)
            .basic_auth(client, Some("web-secret"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await?
            .json()
            .await?;
        let token = answer.get("id_token").and_then(Value::as_str);
        Ok(token.with_context(|| format!("no token: {answer}"))?.to_owned())
    }
}

/// As much of a browser as signing in needs: cookies, redirects, two forms.
pub(crate) struct Browser {
    client: reqwest::Client,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    pub(crate) fn new() -> Result<Self> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            client,
            cookies: BTreeMap::new(),
        })
    }

    /// Follows the redirects, fills the forms, and returns the code.
    async fn sign_in(&mut self, start: Url, person: &str) -> Result<String> {
        let end = self.go(start, person, |url| url.query_pairs().any(|(name, _)| name == "code"));
        let (url, _) = end.await?;
        let code = url.query_pairs().find(|(name, _)| name == "code");
        Ok(code.context("no code")?.1.into_owned())
    }

    /// Follows the redirects and fills the forms, until an address is reached that is not to be asked for, or a page.
    pub(crate) async fn go(&mut self, start: Url, person: &str, end: impl Fn(&Url) -> bool) -> Result<(Url, String)> {
        let mut url = start;
        for _ in 0..STEPS_MAX {
            if end(&url) {
                return Ok((url, String::new()));
            }
            let request = if url.path().starts_with("/interaction/") {
                let page = self.send(self.client.get(url.clone())).await?.text().await?;
                let prompt = if page.contains("value=\"login\"") {
                    "login"
                } else {
                    "consent"
                };
                let body = form(&[("prompt", prompt), ("login", person), ("password", "any")]);
                let request = self.client.post(url.clone()).body(body);
                request.header("content-type", "application/x-www-form-urlencoded")
            } else {
                self.client.get(url.clone())
            };
            let answer = self.send(request).await?;
            let Some(next) = answer.headers().get(LOCATION) else {
                let (status, page) = (answer.status(), answer.text().await?);
                ensure!(status.is_success(), "{url} answered {status}: {page}");
                return Ok((url, page));
            };
            url = url.join(next.to_str()?)?;
        }
        bail!("the sign-in does not end: {url}")
    }

    /// Types the code of another device, and says yes to it (`confirm`) or no (`abort`); returns the last page.
    pub(crate) async fn type_code(&mut self, page: &Url, code: &str, choice: &str, person: &str) -> Result<String> {
        let (_, first) = self.go(page.clone(), person, |_| false).await?;
        let body = form(&[("xsrf", field(&first, "xsrf")?), ("user_code", code)]);
        let asks = self.post(page, body).await?.text().await?;
        let body = form(&[("xsrf", field(&asks, "xsrf")?), ("user_code", code), (choice, "yes")]);
        let answer = self.post(page, body).await?;
        match answer.headers().get(LOCATION) {
            Some(next) => Ok(self.go(page.join(next.to_str()?)?, person, |_| false).await?.1),
            None => Ok(answer.text().await?),
        }
    }

    async fn post(&mut self, url: &Url, body: String) -> Result<reqwest::Response> {
        let request = self.client.post(url.clone()).body(body);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        self.send(request).await
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Result<reqwest::Response> {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let answer = request.header(COOKIE, cookies.join("; ")).send().await?;
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let (name, value) = cookie.to_str()?.split_once('=').context("a cookie")?;
            let value = value.split(';').next().unwrap_or_default();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        Ok(answer)
    }
}

/// The value of a hidden field.
fn field<'a>(page: &'a str, name: &str) -> Result<&'a str> {
    let start = format!("name=\"{name}\" value=\"");
    let (_, rest) = page
        .split_once(&start)
        .with_context(|| format!("no {name} in {page}"))?;
    Ok(rest.split('"').next().unwrap_or_default())
}

fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

#[tokio::test]
async fn a_certified_providers_tokens_are_accepted_in_every_algorithm() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let provider = Provider::start().await.unwrap();
    let verifier = Verifier::new(vec![provider.trusted()]).unwrap();
    for algorithm in ALGORITHMS {
        let token = provider.id_token(algorithm, "bob").await.unwrap();
        let bob = verifier.verify(&token, Utc::now()).await.unwrap().person;
        assert_eq!(
            (bob.key.subject.as_str(), bob.kind),
            ("bob", PersonKind::Human),
            "{algorithm}"
        );
        assert_eq!(
            (bob.name.as_str(), bob.email.as_deref()),
            ("bob", Some("bob@example.com")),
            "{algorithm}"
        );
        assert_eq!(
            bob.groups.into_iter().collect::<Vec<_>>(),
            ["dba", "engineering"],
            "{algorithm}"
        );

        let token = provider.access_token(algorithm, "urn:countersign").await.unwrap();
        let etl = verifier.verify(&token, Utc::now()).await.unwrap().person;
        assert_eq!(
            (etl.key.subject, etl.kind),
            (format!("etl-{algorithm}"), PersonKind::Machine),
            "{algorithm}"
        );
        assert_eq!(etl.groups.into_iter().collect::<Vec<_>>(), ["batch"], "{algorithm}");
    }
}

#[tokio::test]
async fn a_certified_providers_tokens_for_others_or_of_yesterday_are_refused() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let provider = Provider::start().await.unwrap();
    let mut trusted = provider.trusted();
    trusted.algorithms = vec!["ES256".to_owned()];
    trusted.audiences = vec![AUDIENCE.to_owned()];
    let verifier = Verifier::new(vec![trusted]).unwrap();
    let now = Utc::now();
    let good = provider.access_token("ES256", "urn:countersign").await.unwrap();
    let of_another_algorithm = provider.access_token("RS256", "urn:countersign").await.unwrap();
    let for_another = provider.access_token("ES256", "urn:billing").await.unwrap();
    let of_a_web_page = provider.id_token("ES256", "alice").await.unwrap();
    for (token, when, expected) in [
        (&good, now, ""),
        (&good, now + TimeDelta::days(1), "the token expired at "),
        (&of_another_algorithm, now, "the token is signed with \"RS256\""),
        (&for_another, now, "the token is for audience \"something-else\""),
        (&of_a_web_page, now, "the token is for audience \"web-ES256\""),
        (&"opaque-access-token".to_owned(), now, "this is not a signed token"),
    ] {
        match verifier.verify(token, when).await {
            Ok(_) => assert_eq!(expected, "", "was accepted"),
            Err(TokenError::Refused(why)) => assert!(!expected.is_empty() && why.starts_with(expected), "{why}"),
            Err(error) => panic!("{error:?}"),
        }
    }
}
