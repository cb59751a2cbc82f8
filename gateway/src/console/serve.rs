//! Accepts connections for the API, within bounds that a slow or silent client cannot stretch.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Bounds on connections.
#[derive(Clone, Debug)]
pub struct ServeLimits {
    /// Open connections; more wait in the listen queue.
    pub connections_max: usize,
    /// For the TLS handshake.
    pub handshake_max: Duration,
    /// For the head of each request, and between requests.
    pub head_max: Duration,
    /// A connection ends after so long, whatever it does.
    pub connection_max: Duration,
    /// How long a stop waits for requests in progress.
    pub drain_max: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections_max: 512,
            handshake_max: Duration::from_secs(10),
            head_max: Duration::from_secs(10),
            connection_max: Duration::from_secs(300),
            drain_max: Duration::from_secs(10),
        }
    }
}

/// Longest head of a request in bytes: tokens with many groups are long.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 64;
/// After a failed accept (no file descriptors left) the next try waits so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then finishes the requests in progress.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: ServeLimits,
    shutdown: CancellationToken,
) {
    let tasks = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    // Both arms may be dropped midway: no connection is lost, it stays in the listen queue.
    while let Some((slot, stream)) = tokio::select! {
        () = shutdown.cancelled() => None,
        next = next_connection(&listener, &slots) => next,
    } {
        let (tls, router, limits, shutdown) = (tls.clone(), router.clone(), limits.clone(), shutdown.clone());
        tasks.spawn(async move {
            let _slot = slot;
            connection(stream, tls, router, limits, shutdown).await;
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(limits.drain_max, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "API connections did not end in time");
    }
}

type Slot = tokio::sync::OwnedSemaphorePermit;

async fn next_connection(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<(Slot, TcpStream)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some((slot, stream)),
            Err(error) => {
                tracing::warn!(%error, "the API could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: ServeLimits,
    shutdown: CancellationToken,
) {
    let Some(tls) = tls else {
        return requests(stream, router, &limits, shutdown).await;
    };
    match tokio::time::timeout(limits.handshake_max, tls.accept(stream)).await {
        Ok(Ok(stream)) => requests(stream, router, &limits, shutdown).await,
        Ok(Err(error)) => tracing::debug!(%error, "an API client failed the TLS handshake"),
        Err(_) => tracing::debug!("an API client did not finish the TLS handshake"),
    }
}

async fn requests<S>(stream: S, router: Router, limits: &ServeLimits, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_max)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::time::timeout(limits.connection_max, async {
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        }
    });
    match ended.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an API connection ended early"),
        Err(_) => tracing::debug!("an API connection was open for too long"),
    }
}
