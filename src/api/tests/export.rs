//! `/metrics`, `/federate`, and pushing.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, header};
use prost::Message as _;

use super::support::*;
use crate::api::LiveConfig;
use crate::exposition::protobuf::{FamilyType, MetricFamilies};
use crate::exposition::remote_write::v2::oracle::{Sample, Table, TimeSeries};
use crate::exposition::remote_write::{Encoder, compress_snappy, v2};
use crate::model::{FloatHistogram, Labels, Matcher, MetricType, Span, stale_marker};
use crate::promql::parse_selector;

fn live() -> LiveConfig {
    LiveConfig { host: Some(vec![Matcher::equal("job", "node")]), ..LiveConfig::default() }
}

/// The lines of `/metrics` that are neither our own nor say when a group was pushed.
async fn foreign(server: &TestServer) -> Vec<String> {
    let text = server.get("/metrics").await.text();
    let own = |line: &str| ["streamgate_", "push_", "process_"].iter().any(|p| line.contains(p));
    text.lines().filter(|l| !own(l)).map(str::to_owned).collect()
}

#[tokio::test]
async fn metrics_show_what_was_collected_pushed_and_computed() {
    let server = TestServer::new().await;
    server.live.send_replace(Arc::new(live()));
    server.describe("node_cpu_seconds_total", MetricType::Counter, "Seconds of CPU");
    server.store(
        &[("__name__", "node_cpu_seconds_total"), ("cpu", "0"), ("instance", "h"), ("job", "node")],
        &[1.0, 2.0],
    );
    server.store(&[("__name__", "node_gone"), ("instance", "h"), ("job", "node")], &[1.0, stale_marker()]);
    server.store(&[("__name__", "scraped"), ("job", "x")], &[5.0]);
    let rules = "groups:\n- name: g\n  rules:\n  - {record: 'job:up:sum', expr: vector(3), labels: {job: x}}\n  - {alert: Down, expr: vector(1)}\n";
    server.run_rules(rules).await;
    let put = Request::put("/metrics/job/batch")
        .body(Body::from("# TYPE done counter\n# HELP done Work\ndone 7\n"))
        .unwrap();
    assert_eq!(server.send(put).await.status, 200);
    assert_eq!(
        foreign(&server).await,
        [
            "# TYPE ALERTS untyped",
            "ALERTS{alertname=\"Down\",alertstate=\"firing\"} 1",
            "# HELP done Work",
            "# TYPE done counter",
            "done{job=\"batch\"} 7",
            "# TYPE job:up:sum untyped",
            "job:up:sum{job=\"x\"} 3",
            "# HELP node_cpu_seconds_total Seconds of CPU",
            "# TYPE node_cpu_seconds_total counter",
            "node_cpu_seconds_total{cpu=\"0\"} 2",
        ]
    );
}

#[tokio::test]
async fn export_selectors_add_and_remove() {
    let server = TestServer::new().await;
    server.store(&[("__name__", "a"), ("job", "x")], &[1.0]);
    server.store(&[("__name__", "b"), ("job", "x")], &[2.0]);
    server.store(&[("__name__", "c"), ("instance", "h"), ("job", "node")], &[3.0]);
    let selectors = |texts: &[&str]| texts.iter().map(|t| parse_selector(t).unwrap()).collect();
    server.live.send_replace(Arc::new(LiveConfig {
        export_match: selectors(&["{job=\"x\"}", "{__name__=~\"a|b\"}"]),
        export_drop: selectors(&["b", "c"]),
        ..live()
    }));
    assert_eq!(foreign(&server).await, ["# TYPE a untyped", "a{job=\"x\"} 1"]);
}

#[tokio::test]
async fn a_scrape_of_oneself_gets_own_families_only() {
    let server = TestServer::with(Setup { instance: "itself".to_owned(), ..Setup::default() }).await;
    server.live.send_replace(Arc::new(live()));
    server.store(&[("__name__", "node_x"), ("job", "node")], &[1.0]);
    let ask = async |instance: &str| {
        let get = Request::get("/metrics").header(crate::scrape::INSTANCE_HEADER, instance);
        server.send(get.body(Body::empty()).unwrap()).await.text()
    };
    assert!(ask("another").await.contains("node_x 1\n"));
    let own = ask("itself").await;
    assert!(!own.contains("node_x") && own.contains("streamgate_") && own.contains("process_"), "{own}");
}

#[tokio::test]
async fn a_stored_copy_of_our_own_metrics_joins_its_family() {
    let server = TestServer::new().await;
    server.get("/-/healthy").await;
    server.describe("streamgate_http_requests_total", MetricType::Counter, "Theirs");
    server.store(
        &[("__name__", "streamgate_http_requests_total"), ("code", "200"), ("instance", "other")],
        &[9.0],
    );
    let export_match = vec![vec![Matcher::equal("instance", "other")]];
    server.live.send_replace(Arc::new(LiveConfig { export_match, ..LiveConfig::default() }));
    let text = server.get("/metrics").await.text();
    assert_eq!(text.matches("# TYPE streamgate_http_requests_total counter\n").count(), 1, "{text}");
    assert!(text.contains("streamgate_http_requests_total{code=\"200\",instance=\"other\"} 9\n"), "{text}");
    assert!(
        text.contains("streamgate_http_requests_total{code=\"200\",handler=\"/-/healthy\"} 1\n"),
        "{text}"
    );
}

#[tokio::test]
async fn the_page_is_bounded_and_says_so() {
    let limits = crate::api::ApiLimits { export_series_max: 2, ..Default::default() };
    let server = TestServer::with(Setup { limits, ..Setup::default() }).await;
    server.live.send_replace(Arc::new(live()));
    for cpu in ["0", "1", "2", "3"] {
        server.store(&[("__name__", "node_x"), ("cpu", cpu), ("job", "node")], &[1.0]);
    }
    assert_eq!(foreign(&server).await.len(), 3);
    let text = server.get("/metrics").await.text();
    assert!(text.contains("streamgate_export_series_dropped_total 2\n"), "{text}");
}

#[tokio::test]
async fn the_format_follows_accept() {
    let server = TestServer::new().await;
    for (accept, content_type, end) in [
        ("", "text/plain; version=0.0.4", "\n"),
        ("text/plain;version=1.0.0;escaping=allow-utf-8", "text/plain; version=1.0.0", "\n"),
        (
            "application/openmetrics-text;version=1.0.0",
            "application/openmetrics-text; version=1.0.0",
            "# EOF\n",
        ),
    ] {
        let request = Request::get("/metrics").header(header::ACCEPT, accept).body(Body::empty()).unwrap();
        let answer = server.send(request).await;
        let found = answer.headers[header::CONTENT_TYPE].to_str().unwrap();
        assert!(found.starts_with(content_type), "{found}");
        assert!(answer.text().ends_with(end));
    }
}

#[tokio::test]
async fn federation_gives_newest_samples_with_their_times() {
    let server = TestServer::new().await;
    server.store(&[("__name__", "up"), ("instance", "i"), ("job", "x")], &[1.0, 0.0]);
    server.store(&[("__name__", "job:up:sum"), ("job", "x")], &[3.5]);
    server.store(&[("__name__", "gone"), ("job", "x")], &[1.0, stale_marker()]);
    let external_labels = Labels::from_pairs([("job", "ignored"), ("region", "eu")]);
    server.live.send_replace(Arc::new(LiveConfig { external_labels, ..LiveConfig::default() }));
    assert_eq!(
        server.get("/federate?match[]=%7Bjob%3D%22x%22%7D&match[]=up").await.text(),
        "# TYPE job:up:sum untyped\njob:up:sum{job=\"x\",region=\"eu\",instance=\"\"} 3.5 1700000000000\n\
         # TYPE up untyped\nup{instance=\"i\",job=\"x\",region=\"eu\"} 0 1700000000000\n"
    );
    assert_eq!(server.get("/federate").await.text(), "");
    let refused = server.get("/federate?match[]=sum(up)").await;
    assert_eq!((refused.status.as_u16(), refused.text().contains("match[]")), (400, true));
}

#[tokio::test]
async fn groups_are_pushed_as_to_the_pushgateway() {
    let server = TestServer::new().await;
    let send = async |method: &str, path: &str, body: &'static str| {
        server
            .send(Request::builder().method(method).uri(path).body(Body::from(body)).unwrap())
            .await
            .status
            .as_u16()
    };
    assert_eq!(send("POST", "/metrics/job/j/instance/i", "a 1\n").await, 200);
    assert_eq!(send("PUT", "/metrics/job@base64/L2E", "a 1\n").await, 200);
    assert_eq!(send("DELETE", "/metrics/job/j", "").await, 202);
    assert_eq!(send("PUT", "/metrics/job/j", "a b c\n").await, 400);
    assert_eq!(send("PUT", "/metrics/job/j/odd", "a 1\n").await, 400);
    assert_eq!(send("PUT", "/metrics/instance/i", "a 1\n").await, 404);
    assert_eq!(send("GET", "/metrics/job/j", "").await, 405);
}

#[tokio::test]
async fn remote_write_is_stored_or_refused_with_the_reason() {
    let server = TestServer::new().await;
    let send = async |content_type: &str, encoding: &str, body: Vec<u8>| {
        let request = Request::post("/api/v1/write").header(header::CONTENT_TYPE, content_type);
        let request = request.header(header::CONTENT_ENCODING, encoding).body(Body::from(body)).unwrap();
        server.send(request).await
    };
    let message = |value: f64| {
        let mut encoder = Encoder::new();
        encoder.series(&Labels::from_pairs([("__name__", "sent"), ("job", "x")]), &[(NOW, value)], &[]);
        encoder.finish()
    };
    let protobuf = "application/x-protobuf";
    assert_eq!(send(protobuf, "snappy", compress_snappy(&message(4.0))).await.status, 204);
    assert_eq!(server.get("/api/v1/query?query=sent").await.data()["result"][0]["value"][1], "4");
    let zstd = zstd::bulk::compress(&message(4.0), 1).unwrap();
    assert_eq!(send(protobuf, "zstd", zstd).await.status, 204);
    for (content_type, encoding, status) in [
        ("application/x-protobuf;proto=io.prometheus.write.v3.Request", "snappy", 415),
        (protobuf, "gzip", 415),
        ("text/plain", "snappy", 415),
    ] {
        assert_eq!(send(content_type, encoding, compress_snappy(&message(4.0))).await.status, status);
    }
    let mut twice = Encoder::new();
    twice.pairs([("__name__", "sent"), ("job", "x"), ("job", "y")], &[(NOW, 1.0)], &[]);
    for (body, text) in [
        (b"no snappy".to_vec(), "snappy"),
        (compress_snappy(b"\x0a\xff\xff"), "remote write message"),
        (compress_snappy(&twice.finish()), "were refused, the first because"),
    ] {
        let refused = send(protobuf, "snappy", body).await;
        assert_eq!(refused.status, 400);
        assert!(refused.text().contains(text), "{}", refused.text());
    }
}

#[tokio::test]
async fn remote_write_2_says_how_much_was_written() {
    let server = TestServer::new().await;
    let send = async |pairs: &[&[(&str, &str)]]| {
        let mut table = Table::default();
        let sample = Sample { value: 4.0, timestamp: NOW, start_timestamp: 0 };
        let series = |p: &&[(&str, &str)]| TimeSeries {
            labels_refs: table.pairs(p),
            samples: vec![sample],
            ..Default::default()
        };
        let timeseries = pairs.iter().map(series).collect();
        let message = v2::oracle::Request { symbols: table.symbols, timeseries }.encode_to_vec();
        let request = Request::post("/api/v1/write")
            .header(header::CONTENT_TYPE, "application/x-protobuf;proto=io.prometheus.write.v2.Request");
        let answer = server.send(request.body(Body::from(compress_snappy(&message))).unwrap()).await;
        let written = |kind: &str| {
            let name = format!("x-prometheus-remote-write-{kind}-written");
            answer.headers.get(name).map(|v| v.to_str().unwrap().to_owned())
        };
        let written = ["samples", "histograms", "exemplars"].map(|kind| written(kind).unwrap_or_default());
        (answer.status.as_u16(), written.join(" "))
    };
    assert_eq!(send(&[&[("__name__", "sent")], &[("__name__", "more")]]).await, (204, "2 0 0".to_owned()));
    assert_eq!(server.get("/api/v1/query?query=sent").await.data()["result"][0]["value"][1], "4");
    assert_eq!(send(&[&[("__name__", "other")], &[("x", "nameless")]]).await, (400, "1 0 0".to_owned()));
    let request = Request::post("/api/v1/write")
        .header(header::CONTENT_TYPE, "application/x-protobuf;proto=io.prometheus.write.v2.Request");
    let refused = server.send(request.body(Body::from("no snappy")).unwrap()).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.headers["x-prometheus-remote-write-samples-written"], "0");
}

#[tokio::test]
async fn federation_shows_native_histograms_by_protobuf() {
    let server = TestServer::new().await;
    server.store(&[("__name__", "h"), ("job", "x")], &[1.0]);
    let native = FloatHistogram {
        count: 3.0,
        sum: 4.5,
        schema: 1,
        positive_spans: vec![Span { offset: -1, length: 2 }],
        positive_buckets: vec![1.0, 2.0],
        ..FloatHistogram::default()
    };
    let storage = &server.storage;
    let mut app = storage.appender();
    let series = app.series(&Labels::from_pairs([("__name__", "h"), ("job", "y")])).unwrap();
    app.append_histogram(series, NOW - 1000, Arc::new(native.clone())).unwrap();
    app.commit().unwrap();
    let path = "/federate?match[]=h";
    assert!(!server.get(path).await.text().contains("job=\"y\""));
    let request = Request::get(path).header(header::ACCEPT, crate::exposition::PROTOBUF_CONTENT_TYPE);
    let answer = server.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.headers[header::CONTENT_TYPE], crate::exposition::PROTOBUF_CONTENT_TYPE);
    let mut families = MetricFamilies::new(&answer.body);
    let mut floats = families.next().unwrap().unwrap();
    assert_eq!((floats.name, floats.family_type), ("h", FamilyType::Untyped));
    assert_eq!(floats.next_metric().unwrap().unwrap().number(FamilyType::Untyped).unwrap().value, 1.0);
    let mut histograms = families.next().unwrap().unwrap();
    assert_eq!((histograms.name, histograms.family_type), ("h", FamilyType::Histogram));
    let metric = histograms.next_metric().unwrap().unwrap();
    let pairs: Vec<_> = metric.label_pairs().collect::<Result<_, _>>().unwrap();
    assert_eq!(pairs, [("job", "y"), ("instance", "")]);
    assert_eq!(metric.ts, Some(NOW - 1000));
    assert_eq!(metric.histogram().unwrap().native(FamilyType::Histogram).unwrap(), native);
}
