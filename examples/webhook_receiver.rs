//! A webhook receiver that prints what it is told: `cargo run --example webhook_receiver [ADDRESS]`.
//!
//! It listens on 127.0.0.1:5001 by default, takes Alertmanager's webhook format (version "4") on any path, prints one
//! line per alert, and answers 200, so that the notification leaves the outbox. A `kill -TERM` ends it.

use std::io::Write as _;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Json};
use axum::http::{HeaderMap, Uri};
use serde_json::Value;

/// More than any notification should need.
const BODY_BYTES_MAX: usize = 8 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:5001".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let app = Router::new().fallback(receive).layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    axum::serve(listener, app).await?;
    Ok(())
}

async fn receive(uri: Uri, headers: HeaderMap, Json(message): Json<Value>) {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let key = headers.get("idempotency-key").and_then(|v| v.to_str().ok()).unwrap_or("-");
    let mut out = std::io::stdout().lock();
    for alert in message["alerts"].as_array().into_iter().flatten() {
        let status = text(&alert["status"]);
        let name = text(&alert["labels"]["alertname"]);
        let summary = text(&alert["annotations"]["summary"]);
        // A closed standard output is no reason to refuse the notification.
        let _ = writeln!(out, "{uri} {status} {name}: {summary} {} (key {key})", alert["labels"]);
    }
    let _ = out.flush();
}
