//! The accept loop: how many connections, how slow a client may be, and how it all ends.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Sleep;
use tower::ServiceExt as _;

use super::held::WRITE_TIMEOUT;
use super::metrics::ApiMetrics;
use super::request_line::{Targets, escaped};

/// What a connection may cost.
#[derive(Clone, Debug)]
pub struct ServeLimits {
    /// `--web.max-connections`: more wait in the system's backlog.
    pub max_connections: usize,
    /// A client must send a request's header within this; a connection that is idle for longer is closed.
    pub header_timeout: Duration,
    /// A client must take something of an answer within this.
    pub write_timeout: Duration,
    /// What is still running so long after the stop was asked for is cut off.
    pub stop_timeout: Duration,
    /// Largest header of a request.
    pub header_bytes_max: usize,
}

impl Default for ServeLimits {
    fn default() -> Self {
        ServeLimits {
            max_connections: 512,
            header_timeout: Duration::from_secs(60),
            write_timeout: WRITE_TIMEOUT,
            stop_timeout: Duration::from_secs(10),
            header_bytes_max: 64 * 1024,
        }
    }
}

/// Serves the newest of `router` on all `listeners` until `shutdown` becomes true (or its sender is gone), then lets running
/// requests end within [`ServeLimits::stop_timeout`].
pub async fn serve(
    listeners: Vec<TcpListener>,
    router: watch::Receiver<Router>,
    limits: ServeLimits,
    metrics: ApiMetrics,
    shutdown: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(limits.max_connections.max(1)));
    let loops = listeners.into_iter().map(|listener| {
        let server = Server {
            router: router.clone(),
            limits: limits.clone(),
            metrics: metrics.clone(),
            slots: Arc::clone(&slots),
        };
        server.run(listener, shutdown.clone())
    });
    futures_util::future::join_all(loops).await;
}

struct Server {
    router: watch::Receiver<Router>,
    limits: ServeLimits,
    metrics: ApiMetrics,
    slots: Arc<Semaphore>,
}

impl Server {
    async fn run(self, listener: TcpListener, mut shutdown: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        let builder = self.builder();
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break,
                connection = self.accept(&listener) => {
                    let Some((stream, slot)) = connection else { continue };
                    let router = self.router.clone();
                    let service = TowerToHyperService::new(tower::service_fn(
                        // Each request, so that a connection from the start of the server meets the real one later.
                        move |r: hyper::Request<Incoming>| router.borrow().clone().oneshot(r.map(Body::new)),
                    ));
                    let io = TokioIo::new(Patient::new(stream, self.limits.write_timeout));
                    let connection = builder.serve_connection(io, service).into_owned();
                    let connection = graceful.watch(connection);
                    let metrics = self.metrics.clone();
                    metrics.connections.inc();
                    tasks.spawn(async move {
                        if let Err(error) = connection.await {
                            if is_timeout(error.as_ref()) {
                                metrics.connections_timed_out.inc();
                            }
                            tracing::debug!(%error, "a connection ended early");
                        }
                        metrics.connections.dec();
                        drop(slot);
                    });
                }
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            }
        }
        drop(listener);
        if tokio::time::timeout(self.limits.stop_timeout, graceful.shutdown()).await.is_err() {
            tracing::warn!(
                connections = tasks.len(),
                "connections are cut off: their requests did not end in time"
            );
        }
        tasks.shutdown().await;
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .max_buf_size(self.limits.header_bytes_max);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(self.limits.header_timeout)
            .max_concurrent_streams(100)
            .max_header_list_size(u32::try_from(self.limits.header_bytes_max).unwrap_or(u32::MAX));
        builder
    }

    /// The next connection, once there is room for one; `None` when the system has none to give just now.
    async fn accept(&self, listener: &TcpListener) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are written whole: waiting for more would only add latency.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY cannot be set");
                }
                Some((stream, slot))
            }
            Err(error) => {
                // Out of file descriptors, most likely: that passes, and a tight loop would not help.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
                None
            }
        }
    }
}

fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout)
            || error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::TimedOut)
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// A stream whose writes fail when the other side takes nothing for too long, and that gives requests a form in which hyper
/// takes them.
struct Patient {
    stream: TcpStream,
    targets: Targets,
    /// What escaping made longer than the reader's buffer.
    unread: Vec<u8>,
    timeout: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream, timeout: Duration) -> Self {
        Patient { stream, targets: Targets::default(), unread: Vec::new(), timeout, waiting: None }
    }

    /// `polled` as it is, unless it has been pending for too long.
    fn watch<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let timeout = self.timeout;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly")))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.unread.is_empty() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let mut places = Vec::new();
            this.targets.scan(&buf.filled()[before..], |at| places.push(at));
            if places.is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.unread = escaped(&buf.filled()[before..], &places);
            buf.set_filled(before);
        }
        let n = buf.remaining().min(this.unread.len());
        buf.put_slice(&this.unread[..n]);
        this.unread.drain(..n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
