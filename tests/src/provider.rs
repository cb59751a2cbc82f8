//! A certified OpenID provider (npm `oidc-provider`), and as much of a browser as signing in there needs.

use crate::harness::GatewayOptions;
use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
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

/// The client of the gateway's pages, and its secret.
pub const PAGES_CLIENT: (&str, &str) = ("pages", "pages-secret");

/// Most redirects of one way: one that signs in, and once more where a page asks for a fresh sign-in, takes 16.
const STEPS_MAX: usize = 24;

/// The running provider. It ends with this value.
pub struct Provider {
    pub url: Url,
    _process: Child,
    /// Kept open: a program whose output nobody takes ends when it next says something.
    output: Lines<BufReader<ChildStdout>>,
}

impl Provider {
    pub async fn start() -> Result<Self> {
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
    pub async fn refreshed(&mut self) -> Result<usize> {
        let quiet = Duration::from_millis(300);
        let mut refreshed = 0;
        while let Ok(line) = tokio::time::timeout(quiet, self.output.next_line()).await {
            refreshed += usize::from(line?.context("the provider ended")? == "refreshed");
        }
        Ok(refreshed)
    }

    /// Options of a gateway whose pages sign people in here.
    pub fn gateway(&self) -> GatewayOptions {
        let (client, secret) = PAGES_CLIENT;
        GatewayOptions {
            more: format!(
                "[[issuer]]\nurl = \"{}\"\naudiences = [\"countersign\"]\nclient_id = \"{client}\"\n\
                 client_secret = \"env:PAGES_SECRET\"\n",
                self.url
            ),
            environment: vec![("PAGES_SECRET".to_owned(), secret.into())],
            ..GatewayOptions::default()
        }
    }

    pub fn path(&self, path: &str) -> Result<Url> {
        Ok(self.url.join(path)?)
    }

    /// An access token by client credentials (RFC 6749, section 4.4; RFC 8707).
    pub async fn access_token(&self, algorithm: &str, resource: &str) -> Result<String> {
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
    pub async fn id_token(&self, algorithm: &str, person: &str) -> Result<String> {
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

/// As much of a browser as signing in needs: cookies, redirects, forms.
#[derive(Clone)]
pub struct Browser {
    client: reqwest::Client,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    pub fn new() -> Result<Self> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            client,
            cookies: BTreeMap::new(),
        })
    }

    /// Follows the redirects, fills the provider's forms, and returns the code with which it sends the browser back.
    pub async fn sign_in(&mut self, start: Url, person: &str) -> Result<String> {
        let code = |url: &Url| {
            let mut pairs = url.query_pairs();
            pairs
                .find(|(name, _)| name == "code")
                .map(|(_, code)| code.into_owned())
        };
        let stop = |url: &Url| code(url).is_some();
        let arrived = self.walk(start, person, stop).await?;
        code(&arrived.url).context("the sign-in ended without a code")
    }

    /// Opens a page, and signs in on the way where that is asked for.
    pub async fn open(&mut self, url: Url, person: &str) -> Result<Page> {
        self.walk(url, person, |_| false).await
    }

    /// Sends a form of a page of the gateway, and follows where it leads.
    pub async fn submit(&mut self, page: &Page, fields: &[(&str, &str)]) -> Result<Page> {
        let csrf = page.csrf().context("the page has no form")?;
        let body = form(&[fields, &[("csrf", csrf.as_str())]].concat());
        let request = self.client.post(page.url.clone()).body(body);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = self.send(request.header("sec-fetch-site", "same-origin")).await?;
        match next(&page.url, &answer)? {
            Some(url) => self.open(url, "").await,
            None => Page::of(page.url.clone(), answer).await,
        }
    }

    /// Follows the redirects and fills the provider's forms, until an address is reached that is not to be asked for, or a
    /// page that is there.
    pub async fn go(&mut self, start: Url, person: &str, end: impl Fn(&Url) -> bool) -> Result<(Url, String)> {
        let page = self.walk(start, person, end).await?;
        ensure!(
            matches!(page.status, 0 | 200..=299),
            "{} answered {}: {}",
            page.url,
            page.status,
            page.text
        );
        Ok((page.url, page.text))
    }

    /// Types the code of another device, and says yes to it (`confirm`) or no (`abort`); returns the last page.
    pub async fn type_code(&mut self, page: &Url, code: &str, choice: &str, person: &str) -> Result<String> {
        let (_, first) = self.go(page.clone(), person, |_| false).await?;
        let body = form(&[("xsrf", field(&first, "xsrf")?), ("user_code", code)]);
        let asks = self.post(page, body).await?.text().await?;
        let body = form(&[("xsrf", field(&asks, "xsrf")?), ("user_code", code), (choice, "yes")]);
        let answer = self.post(page, body).await?;
        match next(page, &answer)? {
            Some(url) => Ok(self.go(url, person, |_| false).await?.1),
            None => Ok(answer.text().await?),
        }
    }

    async fn post(&mut self, url: &Url, body: String) -> Result<reqwest::Response> {
        let request = self.client.post(url.clone()).body(body);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        self.send(request).await
    }

    async fn walk(&mut self, start: Url, person: &str, stop: impl Fn(&Url) -> bool) -> Result<Page> {
        let mut url = start;
        for _ in 0..STEPS_MAX {
            if stop(&url) {
                return Ok(Page::at(url));
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
            match next(&url, &answer)? {
                Some(next) => url = next,
                None => return Page::of(url, answer).await,
            }
        }
        bail!("the way does not end: {url}")
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Result<reqwest::Response> {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = request.header("accept", "text/html");
        let answer = request.header(COOKIE, cookies.join("; ")).send().await?;
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let (name, value) = cookie.to_str()?.split_once('=').context("a cookie")?;
            let value = value.split(';').next().unwrap_or_default();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        Ok(answer)
    }
}

/// A page that a browser arrived at.
pub struct Page {
    pub url: Url,
    pub status: u16,
    pub text: String,
}

impl Page {
    fn at(url: Url) -> Self {
        Self {
            url,
            status: 0,
            text: String::new(),
        }
    }

    async fn of(url: Url, answer: reqwest::Response) -> Result<Self> {
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok(Self { url, status, text })
    }

    fn csrf(&self) -> Option<String> {
        let (_, rest) = self.text.split_once("name=\"csrf\" value=\"")?;
        rest.split('"').next().map(str::to_owned)
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

fn next(from: &Url, answer: &reqwest::Response) -> Result<Option<Url>> {
    let at = answer.headers().get(LOCATION);
    at.map(|at| Ok(from.join(at.to_str()?)?)).transpose()
}

fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}
