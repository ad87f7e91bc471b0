//! With no configuration: this machine and the server itself are watched, and nothing else is read.

use crate::util::{Server, until};

#[test]
#[cfg(target_os = "linux")]
fn without_configuration_the_machine_is_watched() {
    // A prometheus.yml that lies in the folder is not read.
    let server = Server::start(&[], &[("prometheus.yml", "this is no configuration\n")]);
    until(10, || server.value("count(count by (__name__) ({__name__=~\"node_.+\"}))").filter(|n| *n >= 50.0))
        .expect("at least fifty host families are stored");
    let host = server.query("node_load1");
    assert_eq!(host[0]["metric"]["job"], "node");
    assert!(host[0]["metric"]["instance"].is_string(), "{host:?}");
    until(10, || server.value("sum(up) == bool count(up)").filter(|v| *v == 1.0))
        .expect("every target is up");
    until(10, || (!server.query("streamgate_storage_samples_appended_total").is_empty()).then_some(()))
        .expect("its own metrics are stored");

    let text = server.get("/metrics").body;
    assert!(text.lines().any(|l| l.starts_with("node_load1 ")), "neither job nor instance on /metrics");
    assert!(text.contains("# TYPE node_load1 gauge"));
    let mut series: Vec<&str> =
        text.lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit_once(' ').unwrap().0).collect();
    let all = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), all, "each series stands there once");

    let rules = server.get("/api/v1/rules").json();
    let groups = rules["data"]["groups"].as_array().unwrap();
    let rules: Vec<_> = groups.iter().flat_map(|g| g["rules"].as_array().unwrap()).collect();
    assert!(rules.len() >= 10, "{} shipped rules", rules.len());
    until(15, || {
        let rules = server.get("/api/v1/rules").json();
        let groups = rules["data"]["groups"].as_array()?.clone();
        groups.iter().flat_map(|g| g["rules"].as_array().unwrap()).all(|r| r["health"] == "ok").then_some(())
    })
    .expect("every shipped rule is healthy");

    let page = server.get("/");
    assert_eq!(page.status, 200);
    assert!(page.head.to_lowercase().contains("text/html") && page.body.contains("<html"), "{}", page.head);
    assert!(server.path("data").is_dir());
}

#[test]
fn what_a_restart_keeps() {
    let mut server = Server::start(&[], &[]);
    let write =
        |s: &Server| s.send("PUT", "/metrics/job/batch/shard/a", &[], b"# TYPE done counter\ndone 7\n");
    assert_eq!(write(&server).status, 200);
    until(10, || server.value("done{job=\"batch\"}").filter(|v| *v == 7.0))
        .expect("what was pushed is stored");
    server.kill();
    server.start_again();
    assert_eq!(
        server.value("done{job=\"batch\",shard=\"a\"}"),
        Some(7.0),
        "an acknowledged sample is there at once"
    );
    assert!(server.get("/metrics").body.contains("done{"), "the pushed group is there");
    let history = server.query("count_over_time(up[5m])");
    assert!(!history.is_empty(), "samples from before the kill can be queried");
    assert_eq!(server.stop(), Some(0), "it stops cleanly on SIGTERM");
}
