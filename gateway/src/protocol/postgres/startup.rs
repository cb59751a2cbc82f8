//! From accept to sign-in: TLS, the hello, who is asking.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>

use super::reply::{self, Severity};
use super::upstream::CancelKey;
use super::wire::{FrameReader, Incoming, write_message};
use crate::refusal::{Cause, Refusal};
use bytes::{BufMut, BytesMut};
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;
use zeroize::Zeroizing;

/// Longest startup packet, as PostgreSQL itself bounds it (MAX_STARTUP_PACKET_LENGTH).
const STARTUP_BYTES_MAX: usize = 10_000;
/// Longest password message: a token with room to spare.
const PASSWORD_BYTES_MAX: usize = 70 << 10;
const SSL_REQUEST: i32 = 80_877_103;
const GSSENC_REQUEST: i32 = 80_877_104;
const CANCEL_REQUEST: i32 = 80_877_102;
/// 3.0
const PROTOCOL: i32 = 3 << 16;
const ALPN: &[u8] = b"postgresql";
/// First byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;
/// A peer whose machine is gone is noticed within about a minute and a half, also while its operation is held.
pub(super) const KEEPALIVE: socket2::TcpKeepalive = socket2::TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);
/// Settings that a client may give in its startup packet, all harmless: how values are written, and bounds.
const SETTINGS: [&str; 10] = [
    "datestyle",
    "timezone",
    "intervalstyle",
    "extra_float_digits",
    "bytea_output",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "jit",
    "geqo",
];

pub type ClientStream = Either<TcpStream, tokio_rustls::server::TlsStream<TcpStream>>;
pub type ClientReader = FrameReader<ReadHalf<ClientStream>>;
pub type ClientWriter = WriteHalf<ClientStream>;

/// What a connection turns out to be.
pub enum Hello {
    /// A client that wants a session. It has not been told anything yet.
    Startup(Box<Startup>),
    /// Somebody asks to cancel what the session of this key runs. Nothing is answered.
    Cancel(CancelKey),
    /// It was refused and told so, or it left.
    Over(Option<Refusal>),
}

/// A client's wish, and its connection.
pub struct Startup {
    pub stream: ClientStream,
    pub user: String,
    /// What clients call the database: the target, or `target/database`.
    pub database: String,
    pub application_name: String,
    /// Settings to pass on, of [`SETTINGS`] only.
    pub settings: Vec<(String, String)>,
}

/// How clients may connect.
pub struct Entry {
    pub tls: TlsAcceptor,
    pub plaintext_on_loopback: bool,
}

/// Reads a connection up to its startup packet. The caller bounds the time.
pub async fn hello(socket: TcpStream, entry: &Entry) -> io::Result<Hello> {
    socket.set_nodelay(true)?;
    socket2::SockRef::from(&socket).set_tcp_keepalive(&KEEPALIVE)?;
    let plaintext = entry.plaintext_on_loopback && both_on_loopback(&socket)?;
    let mut first = [0; 1];
    if socket.peek(&mut first).await? == 0 {
        return Ok(Hello::Over(None));
    }
    let mut stream: ClientStream = Either::Left(socket);
    if first == [TLS_HANDSHAKE] {
        stream = direct_tls(stream, entry).await?;
    }
    // At most one GSSENCRequest and one SSLRequest come before the startup packet.
    for _ in 0..3 {
        let encrypted = matches!(stream, Either::Right(_));
        let Some((code, body)) = packet(&mut stream).await? else {
            return over(
                stream,
                Refusal::new(Cause::Protocol, "countersign: this is not a PostgreSQL startup packet"),
            )
            .await;
        };
        match code {
            SSL_REQUEST if !encrypted && body.is_empty() => stream = negotiated_tls(stream, entry).await?,
            GSSENC_REQUEST if !encrypted && body.is_empty() => stream.write_all(b"N").await?,
            CANCEL_REQUEST => return Ok(cancel(&body)),
            _ if !encrypted && !plaintext => return over(stream, tls_needed()).await,
            _ => return startup(stream, code, &body).await,
        }
    }
    over(
        stream,
        Refusal::new(Cause::Protocol, "countersign: too many requests for encryption"),
    )
    .await
}

fn both_on_loopback(socket: &TcpStream) -> io::Result<bool> {
    let on_loopback = |address: SocketAddr| address.ip().to_canonical().is_loopback();
    Ok(on_loopback(socket.peer_addr()?) && on_loopback(socket.local_addr()?))
}

async fn direct_tls(stream: ClientStream, entry: &Entry) -> io::Result<ClientStream> {
    let Either::Left(socket) = stream else {
        return Ok(stream);
    };
    let tls = entry.tls.accept(socket).await?;
    // Without the name agreed on, another protocol's client could be talked into this one (ALPACA).
    if tls.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "direct TLS without ALPN postgresql",
        ));
    }
    Ok(Either::Right(tls))
}

async fn negotiated_tls(stream: ClientStream, entry: &Entry) -> io::Result<ClientStream> {
    let Either::Left(mut socket) = stream else {
        return Ok(stream);
    };
    socket.write_all(b"S").await?;
    // Nothing was read ahead: what was put behind the request in the clear becomes part of the handshake, which
    // then fails (CVE-2021-3935).
    Ok(Either::Right(entry.tls.accept(socket).await?))
}

/// Reads a packet without a tag: its code, and what follows. None: its length is impossible.
async fn packet(stream: &mut ClientStream) -> io::Result<Option<(i32, Vec<u8>)>> {
    let length = stream.read_i32().await?;
    let Some(length) = usize::try_from(length)
        .ok()
        .filter(|length| (8..=STARTUP_BYTES_MAX).contains(length))
    else {
        return Ok(None);
    };
    let code = stream.read_i32().await?;
    let mut body = vec![0; length - 8];
    stream.read_exact(&mut body).await?;
    Ok(Some((code, body)))
}

fn cancel(body: &[u8]) -> Hello {
    match body.split_first_chunk::<4>() {
        Some((process, secret)) => match <[u8; 4]>::try_from(secret) {
            Ok(secret) => Hello::Cancel(CancelKey {
                process: i32::from_be_bytes(*process),
                secret: i32::from_be_bytes(secret),
            }),
            Err(_) => Hello::Over(None),
        },
        None => Hello::Over(None),
    }
}

async fn startup(mut stream: ClientStream, code: i32, body: &[u8]) -> io::Result<Hello> {
    let (major, minor) = (code >> 16, code & 0xffff);
    if major != 3 {
        let refusal = Refusal::new(
            Cause::Protocol,
            format!("countersign: protocol {major}.{minor} is not spoken here"),
        );
        return over(
            stream,
            refusal.hint("Use a client of PostgreSQL 7.4 or later (protocol 3)."),
        )
        .await;
    }
    let (parameters, unknown_options) = match parameters(body) {
        Ok(parameters) => parameters,
        Err(refusal) => return over(stream, refusal).await,
    };
    if minor > 0 || !unknown_options.is_empty() {
        stream.write_all(&negotiate_version(&unknown_options)).await?;
    }
    match wish(stream, parameters) {
        Ok(startup) => Ok(Hello::Startup(Box::new(startup))),
        Err(refused) => over(refused.0, refused.1).await,
    }
}

pub type Parameters = Vec<(String, String)>;

/// Reads pairs of strings up to an empty name. Protocol options (`_pq_.`) come back apart.
pub fn parameters(body: &[u8]) -> Result<(Parameters, Vec<String>), Refusal> {
    let malformed = || Refusal::new(Cause::Protocol, "countersign: the startup packet is malformed");
    let body = body.strip_suffix(&[0]).ok_or_else(malformed)?;
    let text = std::str::from_utf8(body).map_err(|_| malformed())?;
    if text.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let text = text.strip_suffix('\0').ok_or_else(malformed)?;
    let words: Vec<&str> = text.split('\0').collect();
    let (mut parameters, mut options, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for pair in words.chunks(2) {
        let [name, value] = pair else { return Err(malformed()) };
        let name = name.to_ascii_lowercase();
        if name.is_empty() || !seen.insert(name.clone()) {
            return Err(malformed());
        }
        if name.starts_with("_pq_.") {
            options.push(name);
        } else {
            parameters.push((name, (*value).to_owned()));
        }
    }
    Ok((parameters, options))
}

/// NegotiateProtocolVersion: 3.0 is spoken, and these options are not known. The server sends, and libpq reads, the
/// whole version, where the documentation speaks of the minor one.
fn negotiate_version(unknown: &[String]) -> BytesMut {
    let mut out = BytesMut::new();
    write_message(&mut out, b'v', |out| {
        out.put_i32(PROTOCOL);
        out.put_i32(i32::try_from(unknown.len()).unwrap_or(i32::MAX));
        for option in unknown {
            out.put_slice(option.as_bytes());
            out.put_u8(0);
        }
    });
    out
}

fn wish(stream: ClientStream, parameters: Parameters) -> Result<Startup, Box<(ClientStream, Refusal)>> {
    let mut wish = Startup {
        stream,
        user: String::new(),
        database: String::new(),
        application_name: String::new(),
        settings: Vec::new(),
    };
    for (name, value) in parameters {
        let refusal = match name.as_str() {
            "user" => take(&mut wish.user, value),
            "database" => take(&mut wish.database, value),
            "application_name" => take(&mut wish.application_name, value),
            "client_encoding" if is_utf8(&value) => None,
            "client_encoding" => Some(
                Refusal::new(Cause::Encoding, "countersign: client_encoding must be UTF8")
                    .hint("Set PGCLIENTENCODING=UTF8, or client_encoding=UTF8 in the connection string."),
            ),
            "replication" if matches!(value.as_str(), "false" | "off" | "no" | "0") => None,
            "replication" => Some(Refusal::new(
                Cause::Protocol,
                "countersign: replication connections are not carried",
            )),
            setting if SETTINGS.contains(&setting) => {
                wish.settings.push((name, value));
                None
            }
            "options" if value.trim().is_empty() => None,
            other => Some(
                Refusal::new(
                    Cause::Protocol,
                    format!("countersign: the startup parameter {other:?} is not taken"),
                )
                .detail(format!(
                    "Taken: user, database, application_name, client_encoding, {}.",
                    SETTINGS.join(", ")
                ))
                .hint("Leave it out (PGOPTIONS, options=...) and SET it after connecting, where it is judged."),
            ),
        };
        if let Some(refusal) = refusal {
            return Err(Box::new((wish.stream, refusal)));
        }
    }
    if wish.user.is_empty() || wish.database.is_empty() {
        let refusal = Refusal::new(
            Cause::UnknownTarget,
            "countersign: name a user, and the target as the database",
        )
        .hint("For example: psql -h GATEWAY -U me TARGET, or TARGET/DATABASE.");
        return Err(Box::new((wish.stream, refusal)));
    }
    Ok(wish)
}

fn take(place: &mut String, value: String) -> Option<Refusal> {
    *place = value;
    None
}

fn is_utf8(encoding: &str) -> bool {
    let plain: String = encoding.chars().filter(char::is_ascii_alphanumeric).collect();
    // `auto` is libpq's own word and never sent; an empty value means the server's default, which is asked to be UTF8.
    plain.is_empty() || plain.eq_ignore_ascii_case("utf8") || plain.eq_ignore_ascii_case("unicode")
}

fn tls_needed() -> Refusal {
    Refusal::new(
        Cause::SignIn,
        "countersign: TLS is needed here: the password is a token",
    )
    .hint("Connect with sslmode=verify-full and sslrootcert=..., or at least sslmode=require.")
}

async fn over(mut stream: ClientStream, refusal: Refusal) -> io::Result<Hello> {
    tell(&mut stream, &refusal).await?;
    Ok(Hello::Over(Some(refusal)))
}

/// Tells a client why its connection ends.
pub async fn tell(stream: &mut (impl AsyncWriteExt + Unpin), refusal: &Refusal) -> io::Result<()> {
    let mut out = BytesMut::new();
    reply::error(&mut out, Severity::Fatal, refusal);
    stream.write_all(&out).await?;
    stream.flush().await?;
    stream.shutdown().await
}

/// Asks for the password, which is a token. Only an authentication request is sent: a notice before
/// AuthenticationOk breaks libpq and pgjdbc.
pub async fn password(
    reader: &mut ClientReader,
    writer: &mut ClientWriter,
) -> io::Result<Result<Zeroizing<String>, Refusal>> {
    let mut out = BytesMut::new();
    write_message(&mut out, b'R', |out| out.put_i32(3));
    writer.write_all(&out).await?;
    writer.flush().await?;
    reader.limit(PASSWORD_BYTES_MAX);
    let missing = || {
        Refusal::new(Cause::SignIn, "countersign: no token was given as the password")
            .hint("Give the token of your identity provider as the password, for example in PGPASSWORD.")
    };
    let frame = match reader.next().await? {
        Incoming::Frame(frame) if frame.tag() == b'p' => frame,
        Incoming::Frame(_) => return Ok(Err(missing())),
        Incoming::Malformed(malformed) => {
            return Ok(Err(Refusal::new(Cause::Protocol, format!("countersign: {malformed}"))));
        }
        Incoming::End => return Err(io::ErrorKind::UnexpectedEof.into()),
    };
    let body = frame.body();
    let token = body
        .strip_suffix(&[0])
        .and_then(|token| std::str::from_utf8(token).ok());
    Ok(match token {
        Some(token) if !token.is_empty() && !token.contains('\0') => Ok(Zeroizing::new(token.to_owned())),
        _ => Err(missing()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &[u8], expected: Result<&[(&str, &str)], ()>) {
        let read = parameters(body).map(|(parameters, _)| parameters).map_err(drop);
        let expected = expected.map(|pairs| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect());
        assert_eq!(read, expected, "{}", String::from_utf8_lossy(body));
    }

    #[test]
    fn startup_parameters_come_in_pairs_that_end_with_an_empty_name() {
        check(
            b"user\0me\0database\0shop\0\0",
            Ok(&[("user", "me"), ("database", "shop")]),
        );
        check(b"user\0me\0database\0\0\0", Ok(&[("user", "me"), ("database", "")]));
        check(b"\0", Ok(&[]));
        check(b"user\0me\0database\0\0", Err(()));
        check(b"user\0me\0", Err(()));
        check(b"user\0me", Err(()));
        check(b"", Err(()));
        check(b"user\0me\0USER\0you\0\0", Err(()));
        check(b"user\0m\xff\0\0", Err(()));
    }
}
