//! What a sample may be: late, with an exemplar, with a start time; over a restart.

use std::time::{SystemTime, UNIX_EPOCH};

use streamgate::exposition::remote_write::{Encoder, compress_snappy};
use streamgate::model::Labels;

use crate::util::{Answer, Server};

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
