//! The accept loop, over real sockets.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::api::{ApiMetrics, ServeLimits, serve};
use crate::telemetry;

struct Running {
    address: std::net::SocketAddr,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    metrics: ApiMetrics,
}

async fn start(router: Router, limits: ServeLimits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = ApiMetrics::register(&mut telemetry::new_registry());
    let (stop, stopped) = watch::channel(false);
    // The sender may go: the last router stays.
    let router = watch::channel(router).1;
    let task = tokio::spawn(serve(vec![listener], router, limits, metrics.clone(), stopped));
    Running { address, stop, task, metrics }
}

async fn ask(address: std::net::SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn requests_that_run_end_before_the_server_does() {
    let (entered, mut on_enter) = tokio::sync::mpsc::channel(1);
    let (release, released) = watch::channel(false);
    let router = Router::new().route(
        "/",
        get(move || {
            let (entered, mut released) = (entered.clone(), released.clone());
            async move {
                entered.send(()).await.unwrap();
                released.wait_for(|r| *r).await.unwrap();
                "done"
            }
        }),
    );
    let server = start(router, ServeLimits::default()).await;
    let answer = tokio::spawn(ask(server.address));
    on_enter.recv().await.unwrap();
    assert_eq!(server.metrics.connections.get(), 1);
    server.stop.send(true).unwrap();
    release.send(true).unwrap();
    assert!(answer.await.unwrap().ends_with("done"));
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_slow_header_ends_the_connection_and_frees_its_slot() {
    let limits = ServeLimits {
        max_connections: 1,
        header_timeout: Duration::from_millis(100),
        ..ServeLimits::default()
    };
    let server = start(Router::new().route("/", get(|| async { "fine" })), limits).await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    // The only slot is taken until the slow client has been given up.
    assert!(ask(server.address).await.ends_with("fine"));
    let mut rest = Vec::new();
    assert_eq!(slow.read_to_end(&mut rest).await.unwrap_or(0), 0);
    assert_eq!(server.metrics.connections_timed_out.get(), 1);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off() {
    let big = || async { vec![b'x'; 64 * 1024 * 1024] };
    let limits = ServeLimits { write_timeout: Duration::from_millis(100), ..ServeLimits::default() };
    let server = start(Router::new().route("/", get(big)), limits).await;
    let mut deaf = TcpStream::connect(server.address).await.unwrap();
    deaf.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    while server.metrics.connections_timed_out.get() == 0 {
        tokio::task::yield_now().await;
    }
}

/// Time stands still but when nothing can go on: then it jumps to when the server gives up.
#[tokio::test(start_paused = true)]
async fn an_answer_stands_on_the_account_until_its_reader_is_given_up() {
    let server = super::support::TestServer::new().await;
    // More than the buffers of both sockets hold.
    let long = "x".repeat(16 * 1024);
    for i in 0..2_000 {
        server.store(&[("__name__", "m"), ("long", &format!("{i}{long}"))], &[1.0]);
    }
    for path in ["/api/v1/series?match[]=m", "/api/v1/label/long/values", "/federate?match[]=m"] {
        let running = start(server.app.clone(), ServeLimits::default()).await;
        let mut deaf = TcpStream::connect(running.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        deaf.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 100];
        deaf.read_exact(&mut first).await.unwrap();
        assert!(first.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&first));
        assert!(server.engine.held_bytes() > 30_000_000, "{path}: {}", server.engine.held_bytes());
        let begun = tokio::time::Instant::now();
        while server.engine.held_bytes() > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let took = begun.elapsed();
        assert!((50..=130).contains(&took.as_secs()), "{path}: {took:?}");
    }
}

#[tokio::test]
async fn who_writes_a_huge_body_first_still_reads_why_it_is_refused() {
    let server = start(super::support::TestServer::new().await.app, ServeLimits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let bytes = 100 * 1024 * 1024;
    let header = format!("PUT /metrics/job/big HTTP/1.1\r\nHost: x\r\nContent-Length: {bytes}\r\n\r\n");
    stream.write_all(header.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'#'; bytes]).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
}

#[tokio::test]
async fn raw_quotes_and_brackets_in_a_url_are_taken() {
    let echo = |uri: axum::http::Uri| async move { uri.query().unwrap_or("").to_owned() };
    let server = start(Router::new().route("/q", get(echo)), ServeLimits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // Two requests of one connection, the first longer than any buffer guesses.
    let long = "\"".repeat(5_000);
    let first = format!("GET /q?a={long} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(first.as_bytes()).await.unwrap();
    stream
        .write_all(b"GET /q?up{a=\"b\"}<1>0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.contains(&format!("a={}", "%22".repeat(5_000))), "{}", text.len());
    assert!(text.ends_with("up{a=%22b%22}%3C1%3E0"), "{}", &text[text.len() - 100..]);
    server.stop.send(true).unwrap();
    server.task.await.unwrap();
}
