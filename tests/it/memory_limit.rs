//! At the limit on memory new series are refused and the rest goes on; what has ended makes room.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::util::{Answer, Server, WRITE_HEADERS, WriteBody, until};

const KNOWN: u64 = 100;
const MINUTE_MS: i64 = 60_000;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn write(server: &Server, body: &WriteBody) -> Answer {
    server.send("POST", "/api/v1/write", &WRITE_HEADERS, &body.snappy())
}

/// One sample of each series that is known from the beginning.
fn known(body: &mut WriteBody, ts: i64, value: f64) {
    (0..KNOWN).for_each(|i| body.add("known", i, ts, value));
}

fn new(name: &str, count: u64, ts: i64) -> WriteBody {
    let mut body = WriteBody::default();
    (0..count).for_each(|i| body.add(name, i, ts, 1.0));
    body
}

/// How many the answer to a request says that it refused.
fn refused(answer: &Answer) -> u64 {
    assert_eq!(answer.status, 400, "{}", answer.body);
    for part in [
        "of the samples or series were refused, the first because: too many series: the limit of 8MB on the memory for series is \
         reached (--storage.memory-limit) for ",
        "(hint: raise it, or look in /api/v1/status/tsdb for the label whose values keep changing; series that are known are taken)",
    ] {
        assert!(answer.body.contains(part), "{}", answer.body);
    }
    answer.body.split(' ').next().unwrap().parse().unwrap()
}

fn start() -> Server {
    let config = "global: {evaluation_interval: 1s}\nrule_files: [r.yml]\n";
    let rules = "groups:\n- name: g\n  rules:\n  - {record: known_sum, expr: sum(known)}\n  \
                 - {alert: Known, expr: sum(known) == 300}\n";
    let args = ["--config.file=c.yml", "--storage.memory-limit=8MB"];
    Server::start(&args, &[("c.yml", config), ("r.yml", rules)])
}

#[test]
fn new_series_are_refused_at_the_limit_and_taken_again_when_others_have_ended() {
    let server = start();
    let begin = now_ms();
    let mut body = WriteBody::default();
    known(&mut body, begin, 1.0);
    assert_eq!(write(&server, &body).status, 204);
    until(20, || (server.value("known_sum") == Some(100.0)).then_some(())).expect("the rule has its series");

    // One request with both: those that are known are taken, and as many new ones as there is room for. They ended an hour
    // ago.
    const NEW: u64 = 10_000;
    let ended = begin - 60 * MINUTE_MS;
    let mut body = new("ended", NEW, ended);
    known(&mut body, begin + 1, 2.0);
    let first = refused(&write(&server, &body));
    assert!((1000..NEW - 1000).contains(&first), "{first}");
    assert_eq!(server.value("sum(known)"), Some(200.0));
    let taken = format!("count(last_over_time(ended[1m] @ {:.3}))", ended as f64 / 1e3);
    assert_eq!(server.value(&taken), Some((NEW - first) as f64), "as many as it said");
    let metrics = server.get("/metrics").body;
    let counted = format!("streamgate_storage_series_refused_total {first}\n");
    assert!(metrics.contains(&counted), "{metrics}");
    until(20, || (server.value("known_sum") == Some(200.0)).then_some(())).expect("rules go on");

    // What has ended is sealed early and leaves the memory, and new series are taken again.
    let fresh = new("fresh", 10, now_ms());
    until(60, || (write(&server, &fresh).status == 204).then_some(())).expect("there is room again");
    assert_eq!(server.value("count(fresh)"), Some(10.0));
    assert_eq!(server.value(&taken), Some((NEW - first) as f64), "and nothing is lost");
    assert_eq!(server.value("sum(known)"), Some(200.0));
    let log = server.log();
    assert_eq!(log.matches("New series are refused, those that are known go on").count(), 1, "{log}");
    assert!(log.contains("raise --storage.memory-limit"), "{log}");
}

#[test]
fn series_that_go_on_keep_their_place() {
    let mut server = start();
    let begin = now_ms();
    let mut body = WriteBody::default();
    known(&mut body, begin, 1.0);
    assert_eq!(write(&server, &body).status, 204);
    until(20, || (server.value("known_sum") == Some(100.0)).then_some(())).expect("the rule has its series");

    // Ahead of the clock, as a sender with a wrong one: they have not ended however long this takes, nor does their time
    // make that of others late.
    let ahead = begin + 9 * MINUTE_MS;
    assert!(refused(&write(&server, &new("ahead", 10_000, ahead))) > 1000);
    for (round, value) in [(1, 2.0), (2, 3.0)] {
        assert_eq!(refused(&write(&server, &new("more", 50, begin))), 50);
        let mut body = WriteBody::default();
        known(&mut body, begin + round, value);
        assert_eq!(write(&server, &body).status, 204, "what is known is taken");
        let sum = value * KNOWN as f64;
        assert_eq!(server.value("sum(known)"), Some(sum));
        until(20, || (server.value("known_sum") == Some(sum)).then_some(())).expect("rules go on");
    }
    until(20, || server.get("/api/v1/alerts").body.contains("\"firing\"").then_some(()))
        .expect("an alert fires though there is no room for its series");
    assert_eq!(server.value("count(more)"), None);

    // A restart neither loses series nor makes room.
    server.kill();
    server.start_again();
    assert_eq!(server.value("sum(known)"), Some(300.0));
    assert_eq!(refused(&write(&server, &new("more", 50, begin))), 50);
}
