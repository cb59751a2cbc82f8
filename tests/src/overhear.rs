//! Listens to what a gateway sends to its server: the gateway speaks in the clear to it, and it speaks TLS on.

use crate::connect::Tls;
use crate::postgres::{HOST, Postgres};
use anyhow::{Context, Result, bail};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_util::sync::{CancellationToken, DropGuard};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Everything that went towards the server, over all connections. Ends when it is dropped.
pub struct Overhear {
    port: u16,
    heard: Arc<Mutex<Vec<Passed>>>,
    _stop: DropGuard,
}

/// What went over one connection.
#[derive(Default)]
struct Passed {
    bytes: Vec<u8>,
    /// How many bytes there were when, each time that some came.
    arrivals: Vec<(usize, Instant)>,
}

/// A message as it went to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub tag: char,
    pub body: String,
}

impl Overhear {
    /// Listens on a free port and passes connections on to the server.
    pub async fn before(server: &Postgres) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let (tls, server_port) = (Tls::trusting(server.ca_pem())?, server.port());
        let (all, stopped) = (Arc::clone(&heard), stop.clone());
        tokio::spawn(stopped.clone().run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                let pass = pass(client, server_port, tls.clone(), Arc::clone(&all));
                tokio::spawn(
                    stopped
                        .clone()
                        .run_until_cancelled_owned(async move { drop(pass.await) }),
                );
            }
        }));
        Ok(Self {
            port,
            heard,
            _stop: stop.drop_guard(),
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether a text went to the server, in whatever message.
    pub fn heard(&self, text: &str) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard
            .iter()
            .any(|passed| passed.bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    }

    /// When the last byte of a text's first appearance came here on its way to the server.
    pub fn heard_at(&self, text: &str) -> Option<Instant> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().find_map(|passed| {
            let mut places = passed.bytes.windows(text.len());
            let end = places.position(|window| window == text.as_bytes())? + text.len();
            let arrival = passed.arrivals.iter().find(|(bytes, _)| *bytes >= end)?;
            Some(arrival.1)
        })
    }

    /// The messages of the newest connection that opened a session.
    pub fn newest(&self) -> Vec<Heard> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard
            .iter()
            .rev()
            .map(|passed| messages(&passed.bytes))
            .find(|messages| !messages.is_empty())
            .unwrap_or_default()
    }
}

/// Splits what a client sent: a startup packet without a tag, and then messages.
fn messages(bytes: &[u8]) -> Vec<Heard> {
    let mut rest = after_length(bytes, 0).unwrap_or_default();
    let mut messages = Vec::new();
    while let (Some(tag), Some(after)) = (rest.first(), after_length(rest, 1)) {
        let body = rest.get(5..rest.len() - after.len()).unwrap_or_default();
        messages.push(Heard {
            tag: char::from(*tag),
            body: String::from_utf8_lossy(body).into_owned(),
        });
        rest = after;
    }
    messages
}

/// What follows a length that stands at `at` and counts itself.
fn after_length(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    bytes.get(at + u32::from_be_bytes(length) as usize..)
}

async fn pass(client: TcpStream, server_port: u16, mut tls: Tls, all: Arc<Mutex<Vec<Passed>>>) -> Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server_port)).await?;
    server.write_all(&SSL_REQUEST).await?;
    if server.read_u8().await? != b'S' {
        bail!("the server speaks no TLS");
    }
    let connect = <Tls as MakeTlsConnect<TcpStream>>::make_tls_connect(&mut tls, HOST)?;
    let server = connect.connect(server).await.context("no TLS with the server")?;
    let number = {
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Passed::default());
        all.len() - 1
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let up = async {
        let mut bytes = vec![0; 65536];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            let bytes = bytes.get(..count).unwrap_or_default();
            if let Some(heard) = all.lock().unwrap_or_else(PoisonError::into_inner).get_mut(number) {
                heard.bytes.extend_from_slice(bytes);
                heard.arrivals.push((heard.bytes.len(), Instant::now()));
            }
            if to_server.write_all(bytes).await.is_err() || to_server.flush().await.is_err() {
                break;
            }
        }
        drop(to_server.shutdown().await);
    };
    let down = async {
        drop(tokio::io::copy(&mut from_server, &mut to_client).await);
        drop(to_client.shutdown().await);
    };
    tokio::join!(up, down);
    Ok(())
}
