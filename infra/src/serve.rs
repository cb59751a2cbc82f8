//! Accepts connections of an HTTP service, within bounds that a slow or silent client cannot stretch.

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

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

/// Who is at the other end of the connection: a client, or what stands before the service. The unspecified address where
/// a request came by no connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<Self>().copied();
        Ok(peer.unwrap_or(Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED))))
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
    let Ok(peer) = stream.peer_addr().map(|peer| Peer(peer.ip())) else {
        // It is gone already.
        return;
    };
    let Some(tls) = tls else {
        return requests(stream, peer, router, &limits, shutdown).await;
    };
    match tokio::time::timeout(limits.handshake_max, tls.accept(stream)).await {
        Ok(Ok(stream)) => requests(stream, peer, router, &limits, shutdown).await,
        Ok(Err(error)) => tracing::debug!(%error, "an API client failed the TLS handshake"),
        Err(_) => tracing::debug!("an API client did not finish the TLS handshake"),
    }
}

async fn requests<S>(stream: S, peer: Peer, router: Router, limits: &ServeLimits, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = router.map_request(move |mut request: axum::http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        request
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_max)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    const SOON: Duration = Duration::from_secs(20);

    async fn served(limits: ServeLimits, router: Router) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, None, router, limits, stop.clone()));
        (address, stop, task)
    }

    fn hello() -> Router {
        Router::new().route("/", get(async || "hello"))
    }

    /// All that the server sends until it hangs up. A reset is a way to hang up, too.
    async fn until_hung_up(stream: &mut (impl AsyncRead + Unpin)) -> String {
        let mut bytes = Vec::new();
        let ended = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await;
        drop(ended.expect("the server hangs up"));
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn a_client_that_never_ends_its_header_is_dropped() {
        let limits = ServeLimits {
            head_max: Duration::from_millis(200),
            ..ServeLimits::default()
        };
        let (address, _stop, _task) = served(limits, hello()).await;
        for opening in ["", "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(opening.as_bytes()).await.unwrap();
            let said = until_hung_up(&mut stream).await;
            assert!(!said.contains("hello"), "{said}");
        }
    }

    #[tokio::test]
    async fn a_client_that_drips_its_header_is_dropped_all_the_same() {
        let limits = ServeLimits {
            head_max: Duration::from_millis(300),
            ..ServeLimits::default()
        };
        let (address, _stop, _task) = served(limits, hello()).await;
        let (mut reading, mut writing) = TcpStream::connect(address).await.unwrap().into_split();
        let drip = tokio::spawn(async move {
            let mut pause = tokio::time::interval(Duration::from_millis(20));
            while writing.write_all(b"X").await.is_ok() {
                pause.tick().await;
            }
        });
        assert!(!until_hung_up(&mut reading).await.contains("hello"));
        drip.await.unwrap();
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_is_refused() {
        let (address, _stop, _task) = served(ServeLimits::default(), hello()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let long = "x".repeat(2 * HEAD_BYTES_MAX);
        drop(
            stream
                .write_all(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {long}\r\n\r\n").as_bytes())
                .await,
        );
        assert!(!until_hung_up(&mut stream).await.contains("hello"));
    }

    #[tokio::test]
    async fn a_connection_ends_after_its_time_whatever_it_does() {
        let limits = ServeLimits {
            connection_max: Duration::from_millis(200),
            ..ServeLimits::default()
        };
        let router = Router::new().route("/", get(std::future::pending::<()>));
        let (address, _stop, _task) = served(limits, router).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert_eq!(until_hung_up(&mut stream).await, "");
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_for_a_place() {
        let limits = ServeLimits {
            connections_max: 1,
            ..ServeLimits::default()
        };
        let (address, _stop, _task) = served(limits, hello()).await;
        let first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        second.write_all(request).await.unwrap();
        let mut byte = [0; 1];
        let early = tokio::time::timeout(Duration::from_millis(300), second.read(&mut byte)).await;
        assert!(
            early.is_err(),
            "the second is answered while the first has the only place"
        );
        drop(first);
        assert!(until_hung_up(&mut second).await.contains("200 OK"));
    }

    #[tokio::test]
    async fn a_stop_finishes_the_request_in_progress_and_hangs_up_on_the_idle() {
        let (begun, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (tell, wait) = (begun.clone(), go_on.clone());
        let slow = async move || {
            tell.add_permits(1);
            drop(wait.acquire().await);
            "done"
        };
        let (address, stop, task) = served(ServeLimits::default(), Router::new().route("/", get(slow))).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        let mut busy = TcpStream::connect(address).await.unwrap();
        busy.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        begun.acquire().await.unwrap().forget();
        stop.cancel();
        assert_eq!(until_hung_up(&mut idle).await, "");
        go_on.add_permits(1);
        assert!(until_hung_up(&mut busy).await.ends_with("done"));
        tokio::time::timeout(SOON, task).await.expect("it stops").unwrap();
    }
}
