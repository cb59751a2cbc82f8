//! A tap on a connection: passes bytes on and counts them.

use anyhow::Result;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Stands before a server on the loopback interface. Ends when it is dropped, and its connections with it.
pub struct Tap {
    port: u16,
    sent: Arc<AtomicU64>,
    stop: DropGuard,
}

impl Tap {
    /// Listens on a free port and passes connections on to `server_port`.
    pub async fn before(server_port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let sent = Arc::new(AtomicU64::new(0));
        let stop = CancellationToken::new();
        let (counter, stopped) = (Arc::clone(&sent), stop.clone());
        tokio::spawn(stopped.clone().run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                let pass = pass(client, server_port, Arc::clone(&counter));
                tokio::spawn(stopped.clone().run_until_cancelled_owned(pass));
            }
        }));
        Ok(Self {
            port,
            sent,
            stop: stop.drop_guard(),
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many bytes went towards the server so far, over all connections.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Cuts all connections and takes no more.
    pub fn cut(self) {
        drop(self.stop);
    }
}

async fn pass(client: TcpStream, server_port: u16, sent: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server_port)).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut bytes = vec![0; 65536];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            sent.fetch_add(count as u64, Ordering::SeqCst);
            if to_server
                .write_all(bytes.get(..count).unwrap_or_default())
                .await
                .is_err()
            {
                return;
            }
        }
        let _ = to_server.shutdown().await;
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::join!(up, down);
}
