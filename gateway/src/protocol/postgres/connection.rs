//! One accepted connection, from its first byte to its last.

use super::session::{self, Cancel, Parts, SessionLimits};
use super::startup::{self, ClientReader, ClientStream, ClientWriter, Entry, Hello, Startup};
use super::upstream::{self, Address, CancelKey, Login, Upstream};
use super::web::{self, NoPerson};
use super::wire::{FrameReader, write_message};
use crate::app::{App, KnownTarget};
use crate::journal::SessionJournal;
use crate::record::{Anchor, Recorder};
use crate::refusal::{Cause, Chain as Sources, Refusal};
use crate::vault::{Access, UpstreamTls};
use bytes::{BufMut, Bytes, BytesMut};
use chrono::Utc;
use countersign_infra::domain::access_request::{Client, Protocol};
use countersign_infra::domain::audit::{Chain, Happening};
use countersign_infra::domain::id::{Digest, SessionId};
use countersign_infra::domain::identity::{Person, SignedIn};
use countersign_infra::domain::session::SessionHeader;
use countersign_infra::domain::ticket::{ConnectAnswer, ConnectWeb};
use countersign_infra::identity::oidc::TokenError;
use countersign_infra::policy::TargetFacts;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// PostgreSQL's own bound of `application_name`.
const APPLICATION_NAME_BYTES_MAX: usize = 63;

/// The cancel keys that clients of this gateway hold: random, and never the server's own.
#[derive(Default)]
pub struct Cancels {
    sessions: Mutex<HashMap<CancelKey, Arc<Cancel>>>,
}

/// Takes a key off the list when dropped.
struct CancelGuard<'a> {
    cancels: &'a Cancels,
    key: CancelKey,
}

impl Cancels {
    fn register(&self, cancel: Arc<Cancel>) -> Result<CancelGuard<'_>, Refusal> {
        loop {
            let mut random = [0; 8];
            aws_lc_rs::rand::fill(&mut random).map_err(|error| Refusal::unready("the random source", &error))?;
            let random = u64::from_be_bytes(random);
            let process = ((random >> 32) as i32) & i32::MAX;
            let key = CancelKey {
                process,
                secret: random as i32,
            };
            let mut sessions = self.sessions();
            // libpq takes a process of 0 for none.
            if process != 0 && !sessions.contains_key(&key) {
                sessions.insert(key, cancel);
                return Ok(CancelGuard { cancels: self, key });
            }
        }
    }

    /// Withdraws what the key's session holds, or else asks its server to cancel.
    async fn cancel(&self, key: CancelKey) {
        let Some(cancel) = self.sessions().get(&key).cloned() else {
            return;
        };
        if cancel.withdraw() {
            return;
        }
        if let Err(error) = upstream::cancel(&cancel.address, cancel.upstream).await {
            tracing::warn!(target_name = cancel.address.target, error = %Sources(&error), "a cancel request did not reach the server");
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<CancelKey, Arc<Cancel>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CancelGuard<'_> {
    fn drop(&mut self) {
        self.cancels.sessions().remove(&self.key);
    }
}

/// Serves one connection. Everything up to the session is bounded by `limits.handshake_seconds_max`, but for the wait of
/// a person who signs in by a browser, which has a bound of its own.
pub async fn serve(app: Arc<App>, entry: Arc<Entry>, socket: TcpStream, address: SocketAddr) {
    match open(&app, &entry, socket, address).await {
        Ok(Opened::Session(ready)) => run(&app, *ready).await,
        Ok(Opened::Cancel(key)) => app.cancels.cancel(key).await,
        Ok(Opened::Over) => {}
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            tracing::info!(client = %address, "a connection took too long to sign in");
        }
        Err(error) => tracing::info!(client = %address, %error, "a connection ended before sign-in"),
    }
}

/// Bounds a step of the way to a session.
async fn by<T>(deadline: Instant, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| Err(io::ErrorKind::TimedOut.into());
    tokio::time::timeout_at(deadline, step).await.unwrap_or_else(late)
}

/// Tells a client that there is no room for it. Bounded by the caller.
pub async fn turn_away(app: &App, entry: &Entry, socket: TcpStream) -> io::Result<()> {
    match startup::hello(socket, entry).await? {
        Hello::Startup(startup) => no_room(startup.stream).await,
        Hello::Cancel(key) => {
            app.cancels.cancel(key).await;
            Ok(())
        }
        Hello::Over(_) => Ok(()),
    }
}

async fn no_room(mut stream: ClientStream) -> io::Result<()> {
    let refusal = Refusal::new(Cause::TooMany, "countersign: too many connections are open")
        .hint("Try again later; the operator can raise limits.connections_max.");
    startup::tell(&mut stream, &refusal).await
}

enum Opened {
    Session(Box<Ready>),
    Cancel(CancelKey),
    Over,
}

/// A session that can begin.
struct Ready {
    header: SessionHeader,
    target: TargetFacts,
    address: Address,
    upstream: Upstream,
    reader: ClientReader,
    writer: ClientWriter,
    told: Told,
}

/// What the client knows of its sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// AuthenticationOk was sent.
    Authenticated,
}

async fn open(app: &App, entry: &Entry, socket: TcpStream, address: SocketAddr) -> io::Result<Opened> {
    let wait = Duration::from_secs(app.config.limits.handshake_seconds_max);
    let deadline = Instant::now() + wait;
    let startup = match by(deadline, startup::hello(socket, entry)).await? {
        Hello::Startup(startup) => *startup,
        Hello::Cancel(key) => return Ok(Opened::Cancel(key)),
        Hello::Over(refusal) => {
            if let Some(refusal) = refusal {
                tracing::info!(client = %address, why = %refusal, "a connection was refused");
            }
            return Ok(Opened::Over);
        }
    };
    let Startup {
        stream,
        user,
        database,
        application_name,
        settings,
    } = startup;
    let (mut reader, mut writer) = split(stream, app.config.limits.message_bytes_max);
    let client = Client {
        address: address.to_string(),
        application: application_name,
    };
    let wish = Wish {
        client: &client,
        user: &user,
        database: &database,
        settings: &settings,
    };
    let token = match by(deadline, startup::password(&mut reader, &mut writer)).await? {
        Ok(token) => token,
        Err(refusal) => return refuse(writer, &client, None, refusal).await,
    };
    reader.limit(app.config.limits.message_bytes_max);
    let (signed_in, told, deadline) = if token.as_str() == web::PASSWORD {
        let signed_in = sign_in_by_browser(app, &wish, address, (&mut reader, &mut writer)).await?;
        (signed_in, Told::Authenticated, Instant::now() + wait)
    } else {
        let verified = by(deadline, async { Ok(verify(app, token.as_str()).await) }).await?;
        (verified, Told::Nothing, deadline)
    };
    let person = match signed_in {
        Ok(signed_in) => signed_in.person,
        Err(refusal) => return refuse(writer, &client, None, refusal).await,
    };
    match by(deadline, async { Ok(reach(app, &person, wish).await) }).await? {
        Ok((header, target, address, upstream)) => Ok(Opened::Session(Box::new(Ready {
            header,
            target,
            address,
            upstream,
            reader,
            writer,
            told,
        }))),
        Err(refusal) => {
            journal_refusal(app, Some(&person), &client, &refusal).await;
            refuse(writer, &client, Some(&person), refusal).await
        }
    }
}

fn split(stream: ClientStream, message_bytes_max: usize) -> (ClientReader, ClientWriter) {
    let (reader, writer) = tokio::io::split(stream);
    (FrameReader::new(reader, message_bytes_max), writer)
}

async fn verify(app: &App, token: &str) -> Result<SignedIn, Refusal> {
    let verified = app.verifier.verify(token, Utc::now()).await;
    verified
        .inspect(|signed_in| app.directory.saw(signed_in))
        .map_err(|error| match error {
            TokenError::Refused(why) => Refusal::new(Cause::SignIn, format!("countersign: {why}"))
                .hint("The password is the token of your identity provider: sign in there again and use the new one."),
            TokenError::Unavailable { ref issuer, .. } => {
                tracing::error!(error = %Sources(&error), "a token could not be checked");
                Refusal::new(
                    Cause::Unready,
                    format!("countersign: the identity provider {issuer} is not available"),
                )
                .hint("Nothing is wrong with your token. Try again in a moment.")
            }
        })
}

/// Waits for the person to sign in by a browser. Each end in a no is on record, also that of a client that left.
async fn sign_in_by_browser(
    app: &App,
    wish: &Wish<'_>,
    address: SocketAddr,
    client: (&mut ClientReader, &mut ClientWriter),
) -> io::Result<Result<SignedIn, Refusal>> {
    let (target, database) = match named(app, wish.database) {
        Ok((name, _, database)) => (name, database),
        Err(refusal) => return Ok(Err(refusal)),
    };
    let waiting = ConnectWeb {
        target: target.to_owned(),
        database: database.to_owned(),
        user: wish.user.to_owned(),
        client: wish.client.clone(),
        code: Digest::ZERO,
        tries: 0,
        answer: ConnectAnswer::None,
    };
    match app.web.sign_in(waiting, address, client, &app.sessions_stop).await {
        Ok(signed_in) => Ok(Ok(signed_in)),
        Err(NoPerson::TurnedAway(refusal)) => Ok(Err(refusal)),
        Err(NoPerson::Refused(refusal)) => {
            journal_refusal(app, None, wish.client, &refusal).await;
            Ok(Err(refusal))
        }
        Err(NoPerson::Gone(error)) => {
            let left = Refusal::new(
                Cause::Withdrawn,
                "the client left before anybody signed in by a browser",
            );
            journal_refusal(app, None, wish.client, &left).await;
            Err(error)
        }
    }
}

async fn refuse(
    mut writer: ClientWriter,
    client: &Client,
    person: Option<&Person>,
    refusal: Refusal,
) -> io::Result<Opened> {
    let person = person.map(|person| person.name.as_str()).unwrap_or_default();
    tracing::warn!(client = client.address, person, why = %refusal, "sign-in refused");
    startup::tell(&mut writer, &refusal).await?;
    Ok(Opened::Over)
}

/// Puts the refusal on record, as a journal of one event.
async fn journal_refusal(app: &App, person: Option<&Person>, client: &Client, refusal: &Refusal) {
    let id = SessionId(uuid::Uuid::now_v7());
    let chain = Chain::new(id, app.config.gateway.name.clone(), person, None);
    let happening = Happening::SignInRefused {
        why: refusal.message.clone(),
        client: client.address.clone(),
    };
    if let Err(error) = SessionJournal::new(app.journal.clone(), chain)
        .append(vec![happening])
        .await
    {
        tracing::error!(%error, "a refused sign-in could not be journaled");
    }
}

/// What a client asks for.
struct Wish<'a> {
    client: &'a Client,
    user: &'a str,
    database: &'a str,
    settings: &'a [(String, String)],
}

/// Dials the target for a person who has signed in.
async fn reach(
    app: &App,
    person: &Person,
    wish: Wish<'_>,
) -> Result<(SessionHeader, TargetFacts, Address, Upstream), Refusal> {
    let (name, target, database) = named(app, wish.database)?;
    let access = app
        .vault
        .access(name)
        .await
        .map_err(|error| Refusal::unready("the target's credential", &error))?;
    let address = address_of(name, &access);
    let login = Login {
        user: &access.credential.user,
        password: &access.credential.password,
        database,
        application_name: &application_name(person, wish.client, wish.user),
        settings: wish.settings,
    };
    let upstream = upstream::dial(&address, &login)
        .await
        .map_err(|error| error.refusal(name))?;
    let id = SessionId(uuid::Uuid::now_v7());
    let header = SessionHeader {
        id,
        gateway: app.config.gateway.name.clone(),
        number: app.sessions.number(id),
        protocol: Protocol::Postgres,
        person: person.clone(),
        client: wish.client.clone(),
        target: name.to_owned(),
        database: database.to_owned(),
        role: access.credential.user.clone(),
        opened: Utc::now(),
    };
    Ok((header, target.facts.clone(), address, upstream))
}

/// The target that a client names as its database, and the database there.
fn named<'a>(app: &'a App, wanted: &'a str) -> Result<(&'a str, &'a KnownTarget, &'a str), Refusal> {
    let (name, database) = match wanted.split_once('/') {
        Some((name, database)) => (name, Some(database)),
        None => (wanted, None),
    };
    let Some(target) = app.targets.get(name) else {
        return Err(unknown_target(app, name));
    };
    match database.unwrap_or(&target.database) {
        "" => Err(unknown_target(app, wanted)),
        database => Ok((name, target, database)),
    }
}

fn unknown_target(app: &App, name: &str) -> Refusal {
    let known: Vec<&str> = app.targets.keys().map(String::as_str).collect();
    Refusal::new(
        Cause::UnknownTarget,
        format!("countersign: there is no target called {name:?}"),
    )
    .hint(format!("Name one as the database: {}.", known.join(", ")))
}

fn address_of(name: &str, access: &Access) -> Address {
    let tls = match &access.tls {
        UpstreamTls::VerifyFull { config, server_name } => Some((config.clone(), server_name.clone())),
        UpstreamTls::PlaintextOnLoopback => None,
    };
    Address {
        target: name.to_owned(),
        host: access.host.clone(),
        port: access.port,
        tls,
    }
}

/// Names the person to the target's own logs: `countersign: alice (psql)`.
fn application_name(person: &Person, client: &Client, user: &str) -> String {
    let name = format!(
        "countersign: {} ({})",
        person.name,
        if client.application.is_empty() {
            user
        } else {
            &client.application
        }
    );
    let mut plain: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect();
    plain.truncate(APPLICATION_NAME_BYTES_MAX);
    plain
}

async fn run(app: &Arc<App>, ready: Ready) {
    let Ready {
        header,
        target,
        address,
        upstream,
        reader,
        mut writer,
        told,
    } = ready;
    let cancel = Arc::new(Cancel::new(address, upstream.cancel_key));
    let (key, journal, recorder) = match begin(app, &header, cancel.clone()).await {
        Ok(begun) => begun,
        Err(refusal) => {
            app.sessions.give_up(header.number);
            drop(startup::tell(&mut writer, &refusal).await);
            return;
        }
    };
    tracing::info!(
        session = %header.id,
        person = header.person.name,
        target_name = header.target,
        client = header.client.address,
        "session opened"
    );
    let stop = app.sessions_stop.child_token();
    let greeting = greeting(&upstream, key.key, told);
    let limits = &app.config.limits;
    let parts = Parts {
        guard: app.sessions.register(&header, stop.clone()),
        header,
        target,
        gate: app.gate.clone(),
        analyst: app.analyst.clone(),
        journal,
        recorder,
        stop,
        cancel,
        limits: SessionLimits {
            message_bytes_max: limits.message_bytes_max,
            hold_in_transaction_seconds_max: limits.hold_in_transaction_seconds_max,
            idle_max: (limits.idle_seconds_max > 0).then(|| Duration::from_secs(limits.idle_seconds_max)),
        },
        masked_columns: app.config.mask.columns.clone().into(),
    };
    session::run(parts, (reader, writer), upstream, greeting).await;
    drop(key);
}

/// Puts the session on record before its first statement.
async fn begin<'a>(
    app: &'a App,
    header: &SessionHeader,
    cancel: Arc<Cancel>,
) -> Result<(CancelGuard<'a>, SessionJournal, Recorder), Refusal> {
    let key = app.cancels.register(cancel)?;
    let chain = Chain::new(
        header.id,
        header.gateway.clone(),
        Some(&header.person),
        Some(header.target.clone()),
    );
    let journal = SessionJournal::new(app.journal.clone(), chain);
    let opened = Happening::SessionOpened { header: header.clone() };
    journal.append(vec![opened]).await.map_err(|error| error.refusal())?;
    match app.spool.open_session(header) {
        Ok(recorder) => Ok((key, journal, recorder)),
        Err(error) => {
            let closed = Happening::SessionClosed {
                why: format!("not recorded: {error}"),
                chunks: Anchor::START.chunks,
                last: Anchor::START.last,
            };
            if let Err(error) = journal.append(vec![closed]).await {
                tracing::error!(session = %header.id, %error, "the end of the session could not be journaled");
            }
            Err(Refusal::unready("the recording", &error))
        }
    }
}

/// AuthenticationOk unless it was sent, what the server reported of itself, a cancel key of our own, ReadyForQuery.
fn greeting(upstream: &Upstream, key: CancelKey, told: Told) -> Bytes {
    let mut out = BytesMut::new();
    match told {
        Told::Nothing => write_message(&mut out, b'R', |out| out.put_i32(0)),
        Told::Authenticated => {}
    }
    for (name, value) in &upstream.parameters {
        write_message(&mut out, b'S', |out| {
            for text in [name, value] {
                out.put_slice(text.as_bytes());
                out.put_u8(0);
            }
        });
    }
    write_message(&mut out, b'K', |out| {
        out.put_i32(key.process);
        out.put_i32(key.secret);
    });
    super::reply::ready(&mut out, b'I');
    out.freeze()
}
