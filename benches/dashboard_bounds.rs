//! How fast the dashboard is, as its user meets it: the real binary without configuration, on this machine.
//!
//! Measured: a recorded metric until it can be read (bound 1 s), a crossing until its alert is raised (5 s at the
//! default tick), a report (30 s), the status (100 ms). Prints the median and the worst of some runs beside the
//! bound, and ends with 1 if one is missed.
//!
//! `cargo bench --bench dashboard_bounds`
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]
#![allow(dead_code, reason = "the server of the tests can do more than is measured here")]

#[path = "../tests/it/util.rs"]
mod util;

use std::time::{Duration, Instant};

use serde_json::json;
use util::{Server, until};

const RUNS: u32 = 7;

fn main() {
    // `cargo test --benches` and `cargo bench --no-run` only want to know that it compiles.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let server = Server::start(&[], &[]);
    let mut met = true;
    met &= report(
        "recorded metric until readable",
        Duration::from_secs(1),
        (0..RUNS).map(|n| recorded(&server, n)),
    );
    met &= report(
        "crossing until the alert is raised",
        Duration::from_secs(5),
        (0..RUNS).map(|n| raised(&server, n)),
    );
    met &= report(
        "report",
        Duration::from_secs(30),
        (0..RUNS).map(|_| timed(|| server.post("/api/v1/dashboard/reports", &json!({"period": "30d"})))),
    );
    met &= report(
        "dashboard status",
        Duration::from_millis(100),
        (0..RUNS).map(|_| timed(|| server.get("/api/v1/dashboard/status"))),
    );
    if !met {
        std::process::exit(1);
    }
}

fn timed(call: impl FnOnce() -> util::Answer) -> Duration {
    let start = Instant::now();
    let answer = call();
    assert_eq!(answer.status, 200, "{}", answer.body);
    start.elapsed()
}

fn recorded(server: &Server, n: u32) -> Duration {
    let name = format!("bench_metric_{n}");
    let start = Instant::now();
    let answer = server.post("/api/v1/dashboard/metrics", &json!({"name": name, "value": n, "unit": "runs"}));
    assert_eq!(answer.status, 200, "{}", answer.body);
    until(10, || server.get("/api/v1/dashboard/metrics").body.contains(&name).then_some(()))
        .expect("it can be read");
    start.elapsed()
}

fn raised(server: &Server, n: u32) -> Duration {
    // Spread over the tick, so that the worst phase is among the runs.
    std::thread::park_timeout(Duration::from_millis(u64::from(n) * 430));
    let app = format!("run-{n}");
    let start = Instant::now();
    server.post(
        "/api/v1/dashboard/metrics",
        &json!({"name": "api_latency_ms", "value": 250, "unit": "ms", "labels": {"app": app}}),
    );
    until(20, || server.get("/api/v1/dashboard/alerts").body.contains(&app).then_some(()))
        .expect("the alert is raised");
    start.elapsed()
}

fn report(what: &str, bound: Duration, runs: impl Iterator<Item = Duration>) -> bool {
    let mut runs: Vec<Duration> = runs.collect();
    runs.sort();
    let (median, worst) = (runs[runs.len() / 2], runs[runs.len() - 1]);
    println!("{what}: median {median:?}, worst {worst:?}, bound {bound:?}");
    worst < bound
}
