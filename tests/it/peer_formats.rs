//! What only the newer formats carry, between the real Prometheus and us: native histograms by protobuf and by remote
//! write 2.0, metadata of series, and federation both ways.
//!
//! `$STREAMGATE_PROMETHEUS` names a folder with the binary `prometheus`; without it the test skips, and says so.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::util::{Server, call, encode, until};

struct Prometheus {
    child: Child,
    port: u16,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn ask(port: u16, expr: &str, ts: &str) -> Vec<Value> {
    let path = format!("/api/v1/query?query={}&time={ts}", encode(expr));
    let answer = call(port, "GET", &path, &[], b"");
    if answer.status != 200 {
        return Vec::new();
    }
    let mut all = answer.json()["data"]["result"].as_array().cloned().unwrap_or_default();
    all.sort_by_key(|r| r["metric"].to_string());
    all
}

/// The series with their values, without the labels that tell who has stored them; bounds of buckets are calculated, and
/// the last digit of one may differ.
fn comparable(all: &[Value]) -> Vec<String> {
    let mut all: Vec<String> = all
        .iter()
        .map(|r| {
            let mut metric = r["metric"].clone();
            metric.as_object_mut().unwrap().remove("job");
            let h = &r["histogram"][1];
            let number = |v: &Value| v.as_str().and_then(|t| t.parse::<f64>().ok()).unwrap_or(f64::NAN);
            let buckets: Vec<String> = h["buckets"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|b| format!("{:.12e} {:.12e} {}", number(&b[1]), number(&b[2]), b[3]))
                .collect();
            format!("{metric} {} {} {:?} {}", h["count"], h["sum"], buckets, r["value"][1])
        })
        .collect();
    all.sort();
    all
}

#[test]
fn native_histograms_pass_between_prometheus_and_us() {
    let Some(bin) = std::env::var_os("STREAMGATE_PROMETHEUS").map(PathBuf::from) else {
        // Printing macros are silent in a test that passes.
        std::io::stderr()
            .write_all(b"\nSKIPPED: set STREAMGATE_PROMETHEUS to a folder with prometheus\n")
            .unwrap();
        return;
    };
    let port = free_port();
    let ours = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: own\n  scrape_native_histograms: true\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n\
         - job_name: back\n  honor_labels: true\n  scrape_native_histograms: true\n  metrics_path: /federate\n  params: {{'match[]': ['prometheus_http_request_duration_seconds{{job=\"self\"}}']}}\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    );
    let features = "--enable-feature=st-storage,exemplar-storage";
    let server = Server::start(&["--config.file=c.yml", features], &[("c.yml", &ours)]);
    let theirs = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: self\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n\
         - job_name: federated\n  honor_labels: true\n  scrape_protocols: [PrometheusProto]\n  metrics_path: /federate\n  params: {{'match[]': ['{{job=\"own\"}}']}}\n  static_configs: [{{targets: ['127.0.0.1:{0}']}}]\n\
         remote_write:\n- url: http://127.0.0.1:{0}/api/v1/write\n  protobuf_message: io.prometheus.write.v2.Request\n  send_native_histograms: true\n  queue_config: {{batch_send_deadline: 1s}}\n\
         \x20 write_relabel_configs: [{{source_labels: [job], regex: self, action: keep}}]\n",
        server.port
    );
    std::fs::write(server.path("prometheus.yml"), theirs).unwrap();
    let child = Command::new(bin.join("prometheus"))
        .arg(format!("--config.file={}", server.path("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", server.path("prometheus").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--enable-feature=native-histograms,metadata-wal-records")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let prometheus = Prometheus { child, port };
    let now = |offset: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        (now.as_secs() - offset).to_string()
    };
    let name = "prometheus_http_request_duration_seconds";

    // By remote write 2.0: what Prometheus has stored, once the queue has sent it.
    let self_ = format!("{name}{{job=\"self\",handler=\"/metrics\"}}");
    let same = until(60, || {
        let ts = now(5);
        let (a, b) = (ask(prometheus.port, &self_, &ts), ask(server.port, &self_, &ts));
        (!a.is_empty() && !b.is_empty()).then(|| (comparable(&a), comparable(&b)))
    });
    let (theirs, ours) = same.expect("histograms are sent");
    assert_eq!(theirs, ours);
    let counters = "{__name__=~\"prometheus_.*_total\",job=\"self\"}";
    let ts = now(5);
    let (a, b) = (ask(prometheus.port, counters, &ts), ask(server.port, counters, &ts));
    assert!(a.len() > 50, "{}", a.len());
    assert_eq!(comparable(&a), comparable(&b));
    let metadata = server.get("/api/v1/metadata?metric=prometheus_http_requests_total").json();
    assert_eq!(metadata["data"]["prometheus_http_requests_total"][0]["type"], "counter", "{metadata}");

    // By protobuf: the same series as Prometheus makes of its own metrics.
    let names = |port: u16, job: &str| {
        let expr = format!("count by (__name__) ({{job=\"{job}\",__name__!~\"scrape_.*|up\"}})");
        ask(port, &expr, &now(1))
            .iter()
            .map(|r| format!("{} {}", r["metric"], r["value"][1]))
            .collect::<Vec<_>>()
    };
    until(30, || {
        let (a, b) = (names(prometheus.port, "self"), names(server.port, "own"));
        (a.len() > 100 && a == b).then_some(())
    })
    .unwrap_or_else(|| panic!("{:#?}\n{:#?}", names(prometheus.port, "self"), names(server.port, "own")));
    let started = server.value("count(process_start_time_seconds{job=\"own\"})");
    assert_eq!(started, Some(1.0));

    // Federation: what they have of ours, and we of theirs.
    for (port, expr) in [
        (prometheus.port, format!("histogram_count({name}{{job=\"own\",handler=\"/metrics\"}}) > 0")),
        (server.port, format!("histogram_count({name}{{job=\"self\",handler=\"/metrics\"}}) > 0")),
    ] {
        until(30, || (!ask(port, &expr, &now(1)).is_empty()).then_some(()))
            .unwrap_or_else(|| panic!("{expr}"));
    }
    let targets = server.get("/api/v1/targets").json();
    for target in targets["data"]["activeTargets"].as_array().unwrap() {
        assert_eq!(target["health"], "up", "{target}");
    }
}
