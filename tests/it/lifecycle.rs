//! Start, reload, stop.

use crate::util::{Server, Target, until};

fn config(port: u16, more: &str) -> String {
    format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nscrape_configs:\n- job_name: app\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n{more}"
    )
}

#[test]
fn a_reload_takes_effect_whole_or_not_at_all() {
    let target = Target::new("x 1\n");
    let server = Server::start(
        &["--config.file=c.yml", "--web.enable-lifecycle"],
        &[("c.yml", &config(target.port, ""))],
    );
    until(10, || server.value("x").filter(|v| *v == 1.0)).expect("scraped");
    std::fs::write(server.path("r.yml"), "groups:\n- name: g\n  rules:\n  - {record: y, expr: x * 2}\n")
        .unwrap();
    std::fs::write(server.path("c.yml"), config(target.port, "rule_files: [r.yml]\n")).unwrap();
    assert_eq!(server.send("POST", "/-/reload", &[], b"").status, 200);
    until(10, || server.value("y").filter(|v| *v == 2.0)).expect("the new rule runs");

    std::fs::write(server.path("r.yml"), "groups:\n- name: g\n  rules:\n  - {record: z, expr: x *}\n")
        .unwrap();
    let refused = server.send("POST", "/-/reload", &[], b"");
    assert_eq!(refused.status, 500, "{}", refused.body);
    assert!(refused.body.contains("r.yml:4:"), "it says where: {}", refused.body);
    assert_eq!(
        server.get("/api/v1/rules").body.matches("\"name\":\"y\"").count(),
        1,
        "the old rule is still there"
    );

    std::fs::write(server.path("r.yml"), "groups:\n- name: g\n  rules:\n  - {record: z, expr: x * 3}\n")
        .unwrap();
    server.signal("HUP");
    until(10, || server.value("z").filter(|v| *v == 3.0)).expect("SIGHUP reloads too");
    until(10, || server.value("y").is_none().then_some(())).expect("a series whose rule is gone is stale");
}

#[test]
fn without_the_flag_nothing_is_reloaded_by_http() {
    let server = Server::start(&[], &[]);
    assert_eq!(server.send("POST", "/-/reload", &[], b"").status, 403);
    assert_eq!(server.get("/-/healthy").status, 200);
}

#[test]
fn with_a_file_what_the_file_says_runs_and_no_more() {
    let target = Target::new("x 1\n");
    let server = Server::start(&["--config.file=c.yml"], &[("c.yml", &config(target.port, ""))]);
    until(10, || server.value("x").filter(|v| *v == 1.0)).expect("scraped");
    assert_eq!(server.query("{job=\"node\"}"), Vec::<serde_json::Value>::new());
    assert_eq!(server.get("/api/v1/rules").json()["data"]["groups"].as_array().unwrap().len(), 0);
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let server = Server::start(&["--storage.tsdb.path=d"], &[]);
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_streamgate"))
        .args(["--storage.tsdb.path=d", "--web.listen-address=127.0.0.1:0"])
        .current_dir(server.dir.path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(!String::from_utf8_lossy(&second.stderr).trim().is_empty());
}

#[test]
fn an_unknown_flag_is_refused_with_the_nearest_name() {
    let run =
        |arg: &str| std::process::Command::new(env!("CARGO_BIN_EXE_streamgate")).arg(arg).output().unwrap();
    let output = run("--storage.tsdb.pth=x");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--storage.tsdb.path"), "{output:?}");
}

#[test]
fn a_broken_configuration_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("c.yml"), "scrape_configs:\n- job_name: a\n  scrape_intervall: 5s\n")
        .unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_streamgate"))
        .args(["--config.file=c.yml", "--web.listen-address=127.0.0.1:0"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("c.yml:3:3") && text.contains("scrape_interval"), "{text}");
}
