//! A function as AWS Lambda runs it, under the runtime emulator of `cargo lambda`: sandboxes that take one event at a time
//! and stand still from their asking for the next one until it comes, and a front that makes events of HTTP requests.
//!
//! Lambda's side of an invocation ends with the program's request for the next event.
//! <https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-invoke>

use crate::harness::program;
use crate::ports::free_port;
use crate::process::{Process, Program};
use crate::wait::eventually;
use anyhow::{Context, Result, ensure};
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use reqwest::Client;
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

const START_LIMIT: Duration = Duration::from_secs(30);
/// What the function's timeout would be set to.
const TIMEOUT: Duration = Duration::from_secs(60);
const DEADLINE: HeaderName = HeaderName::from_static("lambda-runtime-deadline-ms");

/// What a function is made of.
pub struct FunctionOptions {
    pub config: PathBuf,
    pub environment: Vec<(String, OsString)>,
    /// Takes what the sandboxes print, appended.
    pub log: PathBuf,
    /// Where the front listens.
    pub port: u16,
    /// How many events are worked on at once.
    pub sandboxes: usize,
}

/// A running function. Everything ends when it is dropped.
pub struct Function {
    sandboxes: Vec<Sandbox>,
    url: String,
    client: Client,
    _emulator: Process,
    _stop: DropGuard,
}

/// One running program, and what stands between it and the emulator.
pub struct Sandbox {
    api: Arc<RuntimeApi>,
}

struct RuntimeApi {
    emulator: String,
    client: Client,
    process: Mutex<Option<Process>>,
    /// How often it asked for an event, and how many it got.
    asked: AtomicU64,
    got: AtomicU64,
}

impl Function {
    /// Starts the emulator, the sandboxes and the front; returns once all sandboxes stand still.
    pub async fn start(options: FunctionOptions) -> Result<Self> {
        let port = free_port()?;
        let url = format!("http://127.0.0.1:{port}");
        let emulator = emulate(port)?;
        eventually("the emulator listens", START_LIMIT, async || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()
        })
        .await
        .with_context(|| emulator.log())?;
        let client = Client::builder().no_proxy().build()?;
        let stop = CancellationToken::new();
        let mut sandboxes = Vec::new();
        for _ in 0..options.sandboxes {
            sandboxes.push(Sandbox::start(&url, &client, &options, &stop).await?);
        }
        let front = axum::Router::new()
            .fallback(front)
            .with_state((url.clone(), client.clone()));
        serve(
            TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?,
            front,
            &stop,
        );
        let function = Self {
            sandboxes,
            url,
            client,
            _emulator: emulator,
            _stop: stop.drop_guard(),
        };
        let stand_still = eventually("the sandboxes ask for an event", START_LIMIT, async || {
            let all = function.sandboxes.iter().all(|sandbox| sandbox.stands_still());
            all.then_some(())
        });
        stand_still.await.with_context(|| {
            let log = std::fs::read_to_string(&options.log).unwrap_or_default();
            format!("the sandboxes did not start: {log}")
        })?;
        Ok(function)
    }

    /// Hands an event to whichever sandbox is free, and gives what it answered.
    pub async fn invoke(&self, event: &Value) -> Result<Value> {
        invoke(&self.url, &self.client, event).await
    }

    pub fn sandboxes(&self) -> &[Sandbox] {
        &self.sandboxes
    }

    /// Waits until no event is worked on, and nothing of one that was answered.
    pub async fn stands_still(&self) -> Result<()> {
        eventually("the function stands still", TIMEOUT, async || {
            let all = self.sandboxes.iter().all(Sandbox::stands_still);
            all.then_some(())
        })
        .await
    }
}

impl Sandbox {
    async fn start(url: &str, client: &Client, options: &FunctionOptions, stop: &CancellationToken) -> Result<Self> {
        let api = Arc::new(RuntimeApi {
            emulator: format!("{url}/.rt/2018-06-01/runtime"),
            client: client.clone(),
            process: Mutex::new(None),
            asked: AtomicU64::new(0),
            got: AtomicU64::new(0),
        });
        let router = axum::Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{end}", post(answered))
            .with_state(api.clone());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let mut environment = options.environment.clone();
        environment.extend(
            [
                ("AWS_LAMBDA_RUNTIME_API", listener.local_addr()?.to_string()),
                ("AWS_LAMBDA_FUNCTION_NAME", "_".to_owned()),
                ("AWS_LAMBDA_FUNCTION_VERSION", "1".to_owned()),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value.into())),
        );
        environment.push(("COUNTERSIGN_CONFIG".to_owned(), options.config.clone().into_os_string()));
        serve(listener, router, stop);
        *api.process() = Some(Process::start(&Program {
            path: program("bootstrap")?,
            environment,
            directory: options.config.parent().map(PathBuf::from),
            log: options.log.clone(),
            // What stands still hears of nothing else.
            stop_signal: "KILL",
            ..Program::default()
        })?);
        Ok(Self { api })
    }

    /// Whether it asked for an event and got none since.
    pub fn stands_still(&self) -> bool {
        self.api.asked.load(Ordering::SeqCst) > self.api.got.load(Ordering::SeqCst)
    }

    pub fn pid(&self) -> Option<u32> {
        self.api.process().as_ref().map(Process::pid)
    }

    /// How many events it got.
    pub fn events(&self) -> u64 {
        self.api.got.load(Ordering::SeqCst)
    }

    /// Ends it as Lambda does between two events: without a word.
    pub fn end(&self) -> Result<()> {
        let mut process = self.api.process();
        process.as_mut().context("it has not started")?.kill9()
    }
}

impl RuntimeApi {
    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: &str) -> Result<()> {
        self.process().as_ref().context("it has not started")?.signal(signal)
    }

    /// The program stands still until there is an event. The deadline is then a moment, as Lambda's is and the emulator's
    /// is not.
    async fn next(&self) -> Result<Response> {
        self.signal("STOP")?;
        self.asked.fetch_add(1, Ordering::SeqCst);
        let event = self
            .client
            .get(format!("{}/invocation/next", self.emulator))
            .send()
            .await?;
        ensure!(event.status().is_success(), "the emulator answers {}", event.status());
        let mut headers = event.headers().clone();
        headers.remove("content-length");
        let deadline = Utc::now() + TIMEOUT;
        headers.insert(DEADLINE, HeaderValue::from(deadline.timestamp_millis()));
        let body = event.bytes().await?;
        self.got.fetch_add(1, Ordering::SeqCst);
        self.signal("CONT")?;
        Ok((headers, body).into_response())
    }

    async fn answered(&self, path: &str, headers: HeaderMap, body: Bytes) -> Result<Response> {
        let request = self.client.post(format!("{}/invocation/{path}", self.emulator));
        let kept = headers.iter().filter(|(name, _)| name.as_str().starts_with("lambda-"));
        let headers = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        let taken = request.headers(headers).body(body).send().await?;
        Ok((taken.status(), taken.bytes().await?).into_response())
    }
}

async fn next(State(api): State<Arc<RuntimeApi>>) -> Response {
    api.next().await.unwrap_or_else(bad_gateway)
}

async fn answered(
    State(api): State<Arc<RuntimeApi>>,
    Path((id, end)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let taken = api.answered(&format!("{id}/{end}"), headers, body).await;
    taken.unwrap_or_else(bad_gateway)
}

fn bad_gateway(error: anyhow::Error) -> Response {
    (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response()
}

fn emulate(port: u16) -> Result<Process> {
    let cargo_lambda = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers/.venv/bin/cargo-lambda");
    ensure!(
        cargo_lambda.is_file(),
        "there is no {}: `make drivers` installs it",
        cargo_lambda.display()
    );
    // It wants to stand in a package, and builds nothing of it.
    let directory = tempfile::Builder::new().prefix("countersign-lambda-").tempdir()?.keep();
    std::fs::create_dir(directory.join("src"))?;
    std::fs::write(
        directory.join("Cargo.toml"),
        "[package]\nname = \"empty\"\nedition = \"2024\"\n",
    )?;
    std::fs::write(directory.join("src/main.rs"), "fn main() {}\n")?;
    let arguments = ["lambda", "watch", "--only-lambda-apis", "-A", "127.0.0.1", "-P"];
    Process::start(&Program {
        path: cargo_lambda,
        arguments: arguments
            .into_iter()
            .map(OsString::from)
            .chain([port.to_string().into()])
            .collect(),
        directory: Some(directory.clone()),
        log: directory.join("log"),
        stop_signal: "KILL",
        remove: Some(directory),
        ..Program::default()
    })
}

fn serve(listener: TcpListener, router: axum::Router, stop: &CancellationToken) {
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            served = async { axum::serve(listener, router).await } => if let Err(error) = served {
                tracing::error!(%error, "a part of the test function ended");
            },
            () = stop.cancelled() => {}
        }
    });
}

async fn invoke(url: &str, client: &Client, event: &Value) -> Result<Value> {
    let answer = client
        .post(format!("{url}/2015-03-31/functions/_/invocations"))
        .timeout(TIMEOUT)
        .json(event)
        .send()
        .await?;
    let (status, text) = (answer.status(), answer.text().await?);
    ensure!(status.is_success(), "the function failed: {status} {text}");
    serde_json::from_str(&text).with_context(|| format!("the function answered {text:?}"))
}

/// What a function URL does. <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads>
async fn front(
    State((url, client)): State<(String, Client)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let event = event(&method, &uri, &headers, &body);
    let answer = invoke(&url, &client, &event).await;
    answer.and_then(|answer| response(&answer)).unwrap_or_else(bad_gateway)
}

fn event(method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Value {
    let texts = headers
        .iter()
        .filter_map(|(name, value)| Some((name, value.to_str().ok()?)));
    let texts: Map<String, Value> = texts.map(|(name, value)| (name.to_string(), json!(value))).collect();
    let kind = texts.get("content-type").and_then(Value::as_str).unwrap_or_default();
    let plain = std::str::from_utf8(body).ok();
    // Forms are among what is no text to it.
    let plain = plain.filter(|_| kind.starts_with("application/json") || kind.starts_with("text/"));
    let now = Utc::now();
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": uri.path(),
        "rawQueryString": uri.query().unwrap_or_default(),
        "headers": texts,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abcdefghijklmnopqrstuvwxyz012345",
            "domainName": "abcdefghijklmnopqrstuvwxyz012345.lambda-url.eu-central-1.on.aws",
            "domainPrefix": "abcdefghijklmnopqrstuvwxyz012345",
            "http": {
                "method": method.as_str(),
                "path": uri.path(),
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": texts.get("user-agent"),
            },
            "requestId": uuid::Uuid::now_v7().to_string(),
            "routeKey": "$default",
            "stage": "$default",
            "time": now.format("%d/%b/%Y:%H:%M:%S %z").to_string(),
            "timeEpoch": now.timestamp_millis(),
        },
        "body": plain.map_or_else(|| STANDARD.encode(body), str::to_owned),
        "isBase64Encoded": plain.is_none(),
    })
}

fn response(answer: &Value) -> Result<Response> {
    let field = |name: &str| answer.get(name);
    let status = field("statusCode").and_then(Value::as_u64).context("no status")?;
    let mut response = Response::builder().status(u16::try_from(status)?);
    for (name, value) in field("headers").and_then(Value::as_object).into_iter().flatten() {
        response = response.header(name, value.as_str().context("a header is no text")?);
    }
    let body = field("body").and_then(Value::as_str).unwrap_or_default();
    let body = match field("isBase64Encoded").and_then(Value::as_bool) {
        Some(true) => STANDARD.decode(body)?,
        Some(false) | None => body.as_bytes().to_vec(),
    };
    Ok(response.body(Body::from(body))?)
}
