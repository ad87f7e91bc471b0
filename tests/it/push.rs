//! Pushed groups, remote write, federation and what a target's going away leaves.

use crate::util::{Server, Target, encode, until};

#[test]
fn a_pushed_group_stays_until_it_is_deleted() {
    let server = Server::start(&[], &[]);
    let put = |body: &str| server.send("PUT", "/metrics/job/batch/instance/one", &[], body.as_bytes());
    assert_eq!(put("# TYPE last gauge\nlast 1\n# TYPE other gauge\nother 5\n").status, 200);
    until(10, || server.value("last{job=\"batch\",instance=\"one\"}").filter(|v| *v == 1.0)).expect("stored");
    assert_eq!(
        server.send("POST", "/metrics/job/batch/instance/one", &[], b"# TYPE last gauge\nlast 2\n").status,
        200
    );
    until(10, || server.value("last").filter(|v| *v == 2.0)).expect("POST replaces the metrics of that name");
    assert_eq!(server.value("other"), Some(5.0), "and leaves the others");
    assert_eq!(put("last 3\n").status, 200);
    until(15, || server.value("other").is_none().then_some(())).expect("PUT replaces the whole group");
    assert_eq!(put("last{a=\"} 3\n").status, 400);
    assert_eq!(put("last 3 1700000000000\n").status, 400, "a timestamp is refused, as by the Pushgateway");
    until(5, || server.value("last").filter(|v| *v == 3.0)).expect("what was refused changed nothing");
    assert!(server.get("/metrics").body.contains("last{instance=\"one\",job=\"batch\"} 3"));
    assert_eq!(server.send("DELETE", "/metrics/job/batch/instance/one", &[], b"").status, 202);
    until(15, || server.value("last").is_none().then_some(())).expect("deleted");
    assert!(!server.get("/metrics").body.contains("last{"));
}

#[test]
fn a_series_that_goes_away_is_stale_and_a_target_that_fails_is_down() {
    let target = Target::new("a 1\nb 2\n");
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: app\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        target.port
    );
    let server = Server::start(&["--config.file=c.yml"], &[("c.yml", &config)]);
    until(10, || server.value("b").filter(|v| *v == 2.0)).expect("scraped");
    assert_eq!(server.value("scrape_samples_scraped"), Some(2.0));
    target.set("a 1\n");
    until(10, || server.value("b").is_none().then_some(())).expect("stale at once, not after the lookback");
    let federated = server.get(&format!("/federate?match[]={}", encode("{job=\"app\"}"))).body;
    assert!(
        federated.lines().any(|l| l.starts_with("a{") && l.split(' ').count() == 3),
        "with a timestamp: {federated}"
    );
    assert!(!federated.contains("\nb{"), "{federated}");
    target.set("a 1\na{ 2\n");
    until(10, || server.value("up").filter(|v| *v == 0.0))
        .expect("a body that does not parse is a failed scrape");
    // The sample can be read a moment before the target's own page has it.
    let down = || {
        let targets = server.get("/api/v1/targets").json();
        let last = &targets["data"]["activeTargets"][0];
        (last["health"] == "down").then(|| last["lastError"].as_str().unwrap_or_default().to_owned())
    };
    assert!(!until(5, down).expect("the target is down").is_empty());
    until(5, || server.value("a").is_none().then_some(())).expect("its series are stale");
    target.set("a 4\n");
    until(10, || server.value("a").filter(|v| *v == 4.0)).expect("and back");
}
