//! A PostgreSQL client without manners: it sends whatever bytes it is told to, and says what came back.

use crate::harness::Gateway;
use crate::postgres::HOST;
use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For what should come at once, on a slow machine.
const SOON: Duration = Duration::from_secs(30);
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
pub const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// A connection to a gateway.
pub struct Raw {
    stream: Box<dyn Socket>,
    buffer: BytesMut,
    /// The key of its CancelRequest, as the gateway gave it.
    pub key: [u8; 8],
}

/// A message from the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub tag: u8,
    pub body: Bytes,
}

impl Raw {
    /// Signs in as a person, up to the first ReadyForQuery.
    pub async fn connect(gateway: &Gateway, name: &str, target: &str) -> Result<Self> {
        let mut raw = Self::encrypted(gateway).await?;
        raw.send(&startup(0x0003_0000, &[("user", name), ("database", target)]))
            .await?;
        raw.sign_in(gateway, name).await?;
        Ok(raw)
    }

    /// A TCP connection on which nothing was said.
    pub async fn plain(gateway: &Gateway) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.postgres_port())).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(Box::new(stream)))
    }

    /// TLS after an SSLRequest.
    pub async fn encrypted(gateway: &Gateway) -> Result<Self> {
        Self::plain(gateway).await?.negotiate(gateway).await
    }

    /// TLS from the first byte.
    pub async fn direct(gateway: &Gateway, alpn: &[&str]) -> Result<Self> {
        let plain = Self::plain(gateway).await?;
        Ok(Self::over(start_tls(plain.stream, gateway.ca_pem(), alpn).await?))
    }

    /// Asks for TLS on a connection in the clear.
    pub async fn negotiate(mut self, gateway: &Gateway) -> Result<Self> {
        self.send(&SSL_REQUEST).await?;
        let answer = self.byte().await?;
        if answer != b'S' {
            bail!("the gateway answered {:?} to an SSLRequest", char::from(answer));
        }
        Ok(Self::over(start_tls(self.stream, gateway.ca_pem(), &[]).await?))
    }

    fn over(stream: Box<dyn Socket>) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            key: [0; 8],
        }
    }

    /// Gives the token, after a startup packet was sent, and reads up to the first ReadyForQuery.
    pub async fn sign_in(&mut self, gateway: &Gateway, name: &str) -> Result<()> {
        let mut asked = self.reply().await?;
        if asked.tag == b'v' {
            asked = self.reply().await?;
        }
        if asked.tag != b'R' {
            bail!("instead of asking for a password: {asked}");
        }
        let mut token = gateway.token(name).into_bytes();
        token.push(0);
        self.send(&frame(b'p', &token)).await?;
        loop {
            let reply = self.reply().await?;
            match reply.tag {
                b'K' => reply.body.clone().copy_to_slice(&mut self.key),
                b'E' => bail!("{reply}"),
                b'Z' => return Ok(()),
                _ => {}
            }
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Sends several messages in one write.
    pub async fn send_all(&mut self, frames: &[Vec<u8>]) -> Result<()> {
        self.send(&frames.concat()).await
    }

    /// One byte that is not a message (the answer to a request for encryption).
    pub async fn byte(&mut self) -> Result<u8> {
        Ok(timeout(SOON, self.stream.read_u8()).await.context("no answer came")??)
    }

    /// The next message. An error when the connection is over.
    pub async fn reply(&mut self) -> Result<Reply> {
        self.next().await?.context("the gateway closed the connection")
    }

    /// The next message; none when the connection is over.
    pub async fn next(&mut self) -> Result<Option<Reply>> {
        timeout(SOON, self.read()).await.context("no answer came")?
    }

    async fn read(&mut self) -> Result<Option<Reply>> {
        loop {
            if let Some(length) = self.buffer.get(1..5) {
                let length = u32::from_be_bytes(length.try_into()?) as usize;
                if self.buffer.len() > length {
                    let mut message = self.buffer.split_to(length + 1);
                    let tag = message.get_u8();
                    message.advance(4);
                    let body = message.freeze();
                    return Ok(Some(Reply { tag, body }));
                }
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    }

    /// What comes up to the next ReadyForQuery, in words, rows and descriptions left out; `closed` at the end of
    /// the connection.
    pub async fn words(&mut self) -> Result<Vec<String>> {
        let mut words = Vec::new();
        loop {
            let Some(reply) = self.next().await? else {
                words.push("closed".to_owned());
                return Ok(words);
            };
            if !matches!(reply.tag, b'T' | b't' | b'n' | b'D' | b'S' | b'N') {
                words.push(reply.to_string());
            }
            if reply.tag == b'Z' {
                return Ok(words);
            }
        }
    }

    /// Runs a simple query and says what came of it.
    pub async fn query(&mut self, text: &str) -> Result<Vec<String>> {
        self.send(&query(text)).await?;
        self.words().await
    }

    /// The first column of the first row of a simple query.
    pub async fn value(&mut self, text: &str) -> Result<String> {
        self.send(&query(text)).await?;
        let mut value = None;
        loop {
            let reply = self.reply().await?;
            match reply.tag {
                b'D' => value = value.or_else(|| reply.column()),
                b'E' => bail!("{reply}"),
                b'Z' => return value.context("no row came"),
                _ => {}
            }
        }
    }

    /// Reads up to a message of this type.
    pub async fn until(&mut self, tag: u8) -> Result<Reply> {
        loop {
            let reply = self.reply().await?;
            if reply.tag == tag {
                return Ok(reply);
            }
        }
    }
}

/// Sends a CancelRequest with this key, on a connection of its own, and waits until the gateway has closed it.
pub async fn cancel(gateway: &Gateway, key: [u8; 8]) -> Result<()> {
    let mut raw = Raw::encrypted(gateway).await?;
    raw.send(&[&[0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e], key.as_slice()].concat())
        .await?;
    match raw.next().await? {
        None => Ok(()),
        Some(reply) => bail!("a CancelRequest was answered: {reply}"),
    }
}

async fn start_tls(stream: Box<dyn Socket>, ca_pem: &str, alpn: &[&str]) -> Result<Box<dyn Socket>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.context("not a certificate")?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let connecting = connector.connect(ServerName::try_from(HOST)?, stream);
    Ok(Box::new(timeout(SOON, connecting).await.context("no TLS came")??))
}

impl Reply {
    /// A field of an error or a notice.
    pub fn field(&self, code: u8) -> String {
        let found = self
            .body
            .split(|byte| *byte == 0)
            .find(|field| field.first() == Some(&code));
        String::from_utf8_lossy(found.and_then(|field| field.get(1..)).unwrap_or_default()).into_owned()
    }

    fn column(&self) -> Option<String> {
        let mut body = self.body.clone();
        body.advance(2);
        let length = usize::try_from(body.get_i32()).ok()?;
        Some(String::from_utf8_lossy(body.get(..length)?).into_owned())
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            || String::from_utf8_lossy(self.body.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
        match self.tag {
            b'E' | b'N' => write!(f, "{} {} {}", char::from(self.tag), self.field(b'C'), self.field(b'M')),
            b'C' | b'Z' => write!(f, "{} {}", char::from(self.tag), text()),
            tag => write!(f, "{}", char::from(tag)),
        }
    }
}

/// A message of any type.
pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.put_u32(body.len() as u32 + 4);
    bytes.extend_from_slice(body);
    bytes
}

/// A startup packet.
pub fn startup(version: i32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in parameters {
        string(&mut body, name);
        string(&mut body, value);
    }
    body.push(0);
    startup_of(version, &body)
}

/// A startup packet with anything inside.
pub fn startup_of(version: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_u32(body.len() as u32 + 8);
    bytes.put_i32(version);
    bytes.extend_from_slice(body);
    bytes
}

pub fn query(text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, text);
    frame(b'Q', &body)
}

pub fn parse(name: &str, text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, name);
    string(&mut body, text);
    body.put_u16(0);
    frame(b'P', &body)
}

/// Binds text values.
pub fn bind(portal: &str, statement: &str, values: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, portal);
    string(&mut body, statement);
    body.put_u16(0);
    body.put_u16(values.len() as u16);
    for value in values {
        body.put_u32(value.len() as u32);
        body.extend_from_slice(value.as_bytes());
    }
    body.put_u16(0);
    frame(b'B', &body)
}

/// Describes or closes a statement (`S`) or portal (`P`).
pub fn about(tag: u8, kind: u8, name: &str) -> Vec<u8> {
    let mut body = vec![kind];
    string(&mut body, name);
    frame(tag, &body)
}

/// Executes a portal, to its end when `rows` is 0.
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, portal);
    body.put_u32(rows);
    frame(b'E', &body)
}

pub fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

pub fn flush() -> Vec<u8> {
    frame(b'H', b"")
}

/// Parse, Bind and Execute of one text, without a Sync.
pub fn extended(text: &str, values: &[&str]) -> Vec<u8> {
    [parse("", text), bind("", "", values), execute("", 0)].concat()
}

fn string(body: &mut Vec<u8>, text: &str) {
    body.extend_from_slice(text.as_bytes());
    body.push(0);
}
