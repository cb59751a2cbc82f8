//! The connection to the real server: dialled once a session, with credentials that the client never sees, and the
//! only way anything leaves for it.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else a server says at sign-in is an error"
)]

use super::wire::Frame;
use crate::gate::Permit;
use crate::refusal::{Cause, Chain, Refusal};
use bytes::BytesMut;
use countersign_infra::domain::id::Digest;
use countersign_infra::domain::secret::Secret;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::{backend, frontend};
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

/// From the first packet to the server's first ReadyForQuery.
const DIAL_WAIT_MAX: Duration = Duration::from_secs(10);
/// What the server may send before it is ready: parameters and notices.
const GREETING_BYTES_MAX: usize = 256 << 10;
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

pub type UpstreamStream = Either<TcpStream, tokio_rustls::client::TlsStream<TcpStream>>;

/// Where the server is and how its certificate is checked.
#[derive(Clone)]
pub struct Address {
    pub target: String,
    pub host: String,
    pub port: u16,
    /// None: no TLS, for a server on the loopback interface only.
    pub tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
}

/// As whom, and with which settings, the server is asked for a session.
pub struct Login<'a> {
    pub user: &'a str,
    pub password: &'a Secret,
    pub database: &'a str,
    pub application_name: &'a str,
    pub settings: &'a [(String, String)],
}

/// A connection that is ready for its first statement.
pub struct Upstream {
    pub stream: UpstreamStream,
    /// What the server reported of itself (`server_version`, ...), in order.
    pub parameters: Vec<(String, String)>,
    pub cancel_key: CancelKey,
    /// What arrived after ReadyForQuery already.
    pub rest: BytesMut,
}

/// What cancels the running statement of one server process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CancelKey {
    pub process: i32,
    pub secret: i32,
}

/// Why no session could be had. Only what the user can act on is worded for the client.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("no connection")]
    Unreachable(#[source] io::Error),
    #[error("the server does not speak TLS, and this target asks for it")]
    NoTls,
    #[error("the server's certificate or TLS handshake failed")]
    Tls(#[source] io::Error),
    #[error("no answer within {} seconds", DIAL_WAIT_MAX.as_secs())]
    TimedOut,
    #[error("the server asked for authentication of a kind that is not used here: {0}")]
    Authentication(&'static str),
    #[error("the server said {code}: {message}")]
    Server { code: String, message: String },
    #[error("the server broke the protocol")]
    Protocol(#[source] io::Error),
}

impl DialError {
    /// Words it for the client; the whole goes to the log.
    pub fn refusal(&self, target: &str) -> Refusal {
        tracing::warn!(target_name = target, error = %Chain(self), "the target's server could not be reached");
        let (why, hint) = match self {
            Self::Unreachable(error) => (
                format!("no connection ({})", error.kind()),
                "Is the server up? Tell the operator of the gateway.",
            ),
            Self::NoTls => (
                "it does not speak TLS".to_owned(),
                "The operator of the gateway must set up TLS there.",
            ),
            Self::Tls(_) => (
                "its TLS certificate is not the one expected".to_owned(),
                "Nothing was sent to it. Tell the operator of the gateway: the server's certificate must match.",
            ),
            Self::TimedOut => (
                self.to_string(),
                "Try again; if it stays so, tell the operator of the gateway.",
            ),
            Self::Authentication(_) | Self::Protocol(_) => (
                "it did not let the gateway sign in".to_owned(),
                "Tell the operator of the gateway.",
            ),
            Self::Server { code, message } if matches!(code.as_str(), "3D000" | "53300" | "57P03" | "57P01") => {
                (message.clone(), "This is the server's own answer.")
            }
            Self::Server { code, .. } => (
                format!("it did not let the gateway sign in ({code})"),
                "Tell the operator of the gateway.",
            ),
        };
        Refusal::new(
            Cause::Upstream,
            format!("countersign: target {target} is not available: {why}"),
        )
        .hint(hint)
    }
}

/// Opens a session at the server. Bounded by ten seconds in all. Not cancel safe in the sense that a dropped call
/// leaves a half-open session to the server, which ends it when the socket closes.
pub async fn dial(address: &Address, login: &Login<'_>) -> Result<Upstream, DialError> {
    tokio::time::timeout(DIAL_WAIT_MAX, open(address, login))
        .await
        .map_err(|_| DialError::TimedOut)?
}

async fn open(address: &Address, login: &Login<'_>) -> Result<Upstream, DialError> {
    let mut stream = connect(address).await?;
    let mut hello = BytesMut::new();
    let fixed = [
        ("user", login.user),
        ("database", login.database),
        ("application_name", login.application_name),
        ("client_encoding", "UTF8"),
    ];
    let settings = login
        .settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    frontend::startup_message(fixed.into_iter().chain(settings), &mut hello).map_err(DialError::Protocol)?;
    stream.write_all(&hello).await.map_err(DialError::Unreachable)?;
    Greeting {
        stream,
        buffer: BytesMut::new(),
        parameters: Vec::new(),
        cancel_key: None,
    }
    .run(login)
    .await
}

async fn connect(address: &Address) -> Result<UpstreamStream, DialError> {
    let socket = TcpStream::connect((address.host.as_str(), address.port))
        .await
        .map_err(DialError::Unreachable)?;
    socket.set_nodelay(true).map_err(DialError::Unreachable)?;
    socket2::SockRef::from(&socket)
        .set_tcp_keepalive(&super::startup::KEEPALIVE)
        .map_err(DialError::Unreachable)?;
    let Some((config, name)) = &address.tls else {
        let loopback = socket.peer_addr().map_err(DialError::Unreachable)?.ip().is_loopback();
        return if loopback {
            Ok(Either::Left(socket))
        } else {
            Err(DialError::NoTls)
        };
    };
    start_tls(socket, config.clone(), name.clone()).await
}

async fn start_tls(
    mut socket: TcpStream,
    config: Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
) -> Result<UpstreamStream, DialError> {
    socket.write_all(&SSL_REQUEST).await.map_err(DialError::Unreachable)?;
    // One byte is read and no more: what a stranger puts behind it must not pass for the server's own words.
    match socket.read_u8().await.map_err(DialError::Unreachable)? {
        b'S' => {}
        _ => return Err(DialError::NoTls),
    }
    let tls = TlsConnector::from(config)
        .connect(name, socket)
        .await
        .map_err(DialError::Tls)?;
    Ok(Either::Right(tls))
}

struct Greeting {
    stream: UpstreamStream,
    buffer: BytesMut,
    parameters: Vec<(String, String)>,
    cancel_key: Option<CancelKey>,
}

impl Greeting {
    async fn run(mut self, login: &Login<'_>) -> Result<Upstream, DialError> {
        self.authenticate(login).await?;
        loop {
            match self.message().await? {
                backend::Message::ParameterStatus(status) => {
                    let name = status.name().map_err(DialError::Protocol)?.to_owned();
                    let value = status.value().map_err(DialError::Protocol)?.to_owned();
                    self.parameters.push((name, value));
                }
                backend::Message::BackendKeyData(key) => {
                    self.cancel_key = Some(CancelKey {
                        process: key.process_id(),
                        secret: key.secret_key(),
                    });
                }
                backend::Message::NoticeResponse(_) => {}
                backend::Message::ReadyForQuery(_) => return self.ready(),
                backend::Message::ErrorResponse(body) => return Err(server_error(&body)),
                _ => return Err(unexpected()),
            }
        }
    }

    fn ready(self) -> Result<Upstream, DialError> {
        let cancel_key = self.cancel_key.ok_or_else(unexpected)?;
        Ok(Upstream {
            stream: self.stream,
            parameters: self.parameters,
            cancel_key,
            rest: self.buffer,
        })
    }

    async fn authenticate(&mut self, login: &Login<'_>) -> Result<(), DialError> {
        let encrypted = matches!(self.stream, Either::Right(_));
        let password = login.password.reveal().as_bytes();
        match self.message().await? {
            backend::Message::AuthenticationOk => return Ok(()),
            backend::Message::AuthenticationSasl(body) => return self.scram(body, password).await,
            backend::Message::AuthenticationCleartextPassword if encrypted => self.password(password).await?,
            backend::Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(login.user.as_bytes(), password, body.salt());
                self.password(hash.as_bytes()).await?;
            }
            backend::Message::ErrorResponse(body) => return Err(server_error(&body)),
            backend::Message::AuthenticationCleartextPassword => {
                return Err(DialError::Authentication("a password in clear without TLS"));
            }
            _ => return Err(DialError::Authentication("neither SCRAM-SHA-256 nor a password")),
        }
        self.accepted().await
    }

    async fn scram(&mut self, body: backend::AuthenticationSaslBody, password: &[u8]) -> Result<(), DialError> {
        use fallible_iterator::FallibleIterator;
        let mut mechanisms = body.mechanisms();
        let mut offered = false;
        while let Some(mechanism) = mechanisms.next().map_err(DialError::Protocol)? {
            offered |= mechanism == sasl::SCRAM_SHA_256;
        }
        if !offered {
            return Err(DialError::Authentication("SASL without SCRAM-SHA-256"));
        }
        let mut scram = sasl::ScramSha256::new(password, sasl::ChannelBinding::unsupported());
        let mut out = BytesMut::new();
        frontend::sasl_initial_response(sasl::SCRAM_SHA_256, scram.message(), &mut out).map_err(DialError::Protocol)?;
        self.send(&out).await?;
        match self.message().await? {
            backend::Message::AuthenticationSaslContinue(body) => {
                scram.update(body.data()).map_err(DialError::Protocol)?;
            }
            backend::Message::ErrorResponse(body) => return Err(server_error(&body)),
            _ => return Err(unexpected()),
        }
        out.clear();
        frontend::sasl_response(scram.message(), &mut out).map_err(DialError::Protocol)?;
        self.send(&out).await?;
        match self.message().await? {
            backend::Message::AuthenticationSaslFinal(body) => {
                scram.finish(body.data()).map_err(DialError::Protocol)?;
            }
            backend::Message::ErrorResponse(body) => return Err(server_error(&body)),
            _ => return Err(unexpected()),
        }
        self.accepted().await
    }

    async fn accepted(&mut self) -> Result<(), DialError> {
        match self.message().await? {
            backend::Message::AuthenticationOk => Ok(()),
            backend::Message::ErrorResponse(body) => Err(server_error(&body)),
            _ => Err(unexpected()),
        }
    }

    async fn password(&mut self, password: &[u8]) -> Result<(), DialError> {
        let mut out = BytesMut::new();
        frontend::password_message(password, &mut out).map_err(DialError::Protocol)?;
        self.send(&out).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), DialError> {
        self.stream.write_all(bytes).await.map_err(DialError::Unreachable)?;
        self.stream.flush().await.map_err(DialError::Unreachable)
    }

    async fn message(&mut self) -> Result<backend::Message, DialError> {
        loop {
            if let Some(message) = backend::Message::parse(&mut self.buffer).map_err(DialError::Protocol)? {
                return Ok(message);
            }
            if self.buffer.len() > GREETING_BYTES_MAX {
                return Err(unexpected());
            }
            self.buffer.reserve(4 << 10);
            if self
                .stream
                .read_buf(&mut self.buffer)
                .await
                .map_err(DialError::Unreachable)?
                == 0
            {
                return Err(DialError::Unreachable(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

fn unexpected() -> DialError {
    DialError::Protocol(io::Error::new(io::ErrorKind::InvalidData, "an unexpected message"))
}

fn server_error(body: &backend::ErrorResponseBody) -> DialError {
    use fallible_iterator::FallibleIterator;
    let (mut code, mut message) = (String::new(), String::new());
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        let value = || String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = value(),
            b'M' => message = value(),
            _ => {}
        }
    }
    DialError::Server { code, message }
}

/// Asks the server to cancel what the process of `key` runs. The server never answers this.
pub async fn cancel(address: &Address, key: CancelKey) -> Result<(), DialError> {
    let send = async {
        let mut stream = connect(address).await?;
        let mut out = BytesMut::new();
        frontend::cancel_request(key.process, key.secret, &mut out);
        stream.write_all(&out).await.map_err(DialError::Unreachable)?;
        stream.shutdown().await.map_err(DialError::Unreachable)?;
        // The server closes when it has taken the request.
        drop(stream.read(&mut [0; 1]).await);
        Ok(())
    };
    tokio::time::timeout(DIAL_WAIT_MAX, send)
        .await
        .map_err(|_| DialError::TimedOut)?
}

/// The writing half. What a person asked for passes only against a [`Permit`].
pub struct Sender {
    stream: WriteHalf<UpstreamStream>,
}

/// The frames are not those that were admitted: nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error("the operation is not the one that was admitted")]
    NotWhatWasAdmitted,
    #[error("the server's connection is lost")]
    Lost(#[from] io::Error),
}

impl Sender {
    pub fn new(stream: WriteHalf<UpstreamStream>) -> Self {
        Self { stream }
    }

    /// Sends what was admitted; the permit is spent. `digest` is computed anew over `frames` by the caller's
    /// operation. Not cancel safe: a dropped call may have sent a part.
    pub async fn forward(&mut self, permit: Permit, digest: Digest, frames: &[Frame]) -> Result<(), ForwardError> {
        if !permit.spend(digest) {
            return Err(ForwardError::NotWhatWasAdmitted);
        }
        self.write(frames).await?;
        Ok(())
    }

    /// Sends messages that run nothing by themselves: Parse, Describe, Close, Sync, Flush, COPY data of an admitted
    /// COPY, Terminate, and the gateway's own.
    pub async fn pass(&mut self, frames: &[Frame]) -> io::Result<()> {
        debug_assert!(frames.iter().all(|frame| !matches!(frame.tag(), b'Q' | b'B' | b'F')));
        self.write(frames).await
    }

    /// Sends the gateway's own messages, which carry fixed texts only.
    pub async fn own(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    async fn write(&mut self, frames: &[Frame]) -> io::Result<()> {
        match frames {
            [frame] => self.stream.write_all(frame.bytes()).await?,
            frames => {
                let mut all = BytesMut::with_capacity(frames.iter().map(|frame| frame.bytes().len()).sum());
                frames.iter().for_each(|frame| all.extend_from_slice(frame.bytes()));
                self.stream.write_all(&all).await?;
            }
        }
        self.stream.flush().await
    }
}
