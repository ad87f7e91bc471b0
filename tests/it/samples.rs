//! What a sample may be: late, with an exemplar, with a start time; over a restart.

use std::time::{SystemTime, UNIX_EPOCH};

use streamgate::exposition::remote_write::{Encoder, compress_snappy};
use streamgate::model::Labels;

use crate::util::{Answer, Server, Target, encode, until};

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn write(server: &Server, name: &str, samples: &[(i64, f64)]) -> Answer {
    let mut encoder = Encoder::new();
    encoder.series(&Labels::from_pairs([("__name__", name)]), samples, &[]);
    let headers = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    server.send("POST", "/api/v1/write", &headers, &compress_snappy(&encoder.finish()))
}

#[test]
fn late_samples_are_taken_within_the_window_and_survive_a_kill() {
    let config = "storage: {tsdb: {out_of_order_time_window: 30m}}\n";
    let mut server =
        Server::start(&["--config.file=c.yml", "--web.enable-remote-write-receiver"], &[("c.yml", config)]);
    let now = now_ms();
    let minute = 60_000;
    assert_eq!(write(&server, "late", &[(now, 3.0)]).status, 204);
    assert_eq!(write(&server, "late", &[(now - 20 * minute, 1.0), (now - 10 * minute, 2.0)]).status, 204);
    assert_eq!(write(&server, "late", &[(now - 10 * minute, 2.0)]).status, 204, "the same once more");
    for (ts, value, reason) in
        [(now - 10 * minute, 5.0, "duplicate sample for timestamp"), (now - 40 * minute, 0.0, "too old")]
    {
        let refused = write(&server, "late", &[(ts, value)]);
        assert_eq!(refused.status, 400, "{}", refused.body);
        assert!(refused.body.contains(reason), "{}", refused.body);
    }
    let values = |server: &Server| {
        let found = server.query("late[1h]");
        let values = found[0]["values"].as_array().unwrap();
        values.iter().map(|v| v[1].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(values(&server), ["1", "2", "3"]);
    server.kill();
    server.start_again();
    assert_eq!(values(&server), ["1", "2", "3"]);
}

#[test]
fn exemplars_are_kept_over_a_kill() {
    let target = Target::new(
        "# TYPE hits counter\nhits_total{code=\"200\"} 6 # {trace_id=\"abc\"} 0.5 1600096945.479\n# EOF\n",
    );
    let config = format!(
        "global: {{scrape_interval: 1s}}\nstorage: {{exemplars: {{max_exemplars: 10}}}}\nscrape_configs:\n- job_name: app\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        target.port
    );
    let args = ["--config.file=c.yml", "--enable-feature=exemplar-storage"];
    let mut server = Server::start(&args, &[("c.yml", &config)]);
    let ask = |server: &Server, query: &str| {
        let query = encode(query);
        let path = format!("/api/v1/query_exemplars?query={query}&start=1600000000&end=1700000000");
        server.get(&path).json()["data"].clone()
    };
    let found = until(10, || Some(ask(&server, "rate(hits_total[5m])")).filter(|d| d[0].is_object()))
        .expect("scraped");
    let instance = format!("127.0.0.1:{}", target.port);
    let expected = serde_json::json!([{
        "seriesLabels": {"__name__": "hits_total", "code": "200", "instance": instance, "job": "app"},
        "exemplars": [{"labels": {"trace_id": "abc"}, "value": "0.5", "timestamp": 1_600_096_945.479}],
    }]);
    assert_eq!(found, expected);
    // By remote write, to another series; one that is older than the newest of its series is left out.
    let mut encoder = Encoder::new();
    let labels = Labels::from_pairs([("__name__", "pushed_total")]);
    encoder.series(&labels, &[(now_ms(), 1.0)], &[]);
    let own = Labels::from_pairs([("trace_id", "x")]);
    encoder.exemplars(&labels, &[(&own, 1.0, 1_650_000_001_000), (&own, 2.0, 1_650_000_000_000)]);
    let headers = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    let sent = server.send("POST", "/api/v1/write", &headers, &compress_snappy(&encoder.finish()));
    assert_eq!(sent.status, 204, "{}", sent.body);
    let pushed = ask(&server, "pushed_total");
    assert_eq!(pushed[0]["exemplars"].as_array().unwrap().len(), 1, "{pushed}");
    server.kill();
    server.start_again();
    assert_eq!(ask(&server, "hits_total"), expected);
    assert_eq!(ask(&server, "pushed_total"), pushed);
    assert_eq!(ask(&server, "hits_total{code=\"500\"}"), serde_json::json!([]));
}
