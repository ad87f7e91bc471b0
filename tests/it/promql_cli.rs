//! PromQL on the command line.

use std::process::{Command, Output};

use crate::util::{Server, until};

/// Runs the binary in `folder` to its end.
fn streamgate(folder: &std::path::Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_streamgate")).args(args).current_dir(folder).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn scripts_are_run_and_their_failures_shown() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("good.test", "load 1m\n  up{a=\"b\"} 0+1x5\n\neval instant at 2m up\n  up{a=\"b\"} 2\n");
    write("bad.test", "eval instant at 1m 1 + 1\n  3\n\neval instant at 0 2\n  2\n");
    write("malformed.test", "eval instant at 0 2\n  2\n\nlaod 1m\n");
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    write("folder/one.test", "eval instant at 0 2\n  2\n");

    let run = |args: &[&str]| {
        let output = streamgate(dir.path(), &[&["test", "promql"], args].concat());
        (output.status.code(), stdout(&output))
    };
    assert_eq!(run(&["good.test", "folder"]), (Some(0), "2 passed, 0 failed\n".to_owned()));
    assert_eq!(run(&["--thorough", "good.test"]), (Some(0), "1 passed, 0 failed\n".to_owned()));
    assert_eq!(
        run(&["bad.test", "good.test", "malformed.test"]),
        (
            Some(1),
            "bad.test:1: 1 + 1: expected scalar 3, got 2\n\
             malformed.test:4: the script ends here: unknown command \"laod\"\n\
             3 passed, 2 failed\n"
                .to_owned()
        )
    );
    let (code, out) = run(&["missing.test"]);
    assert_eq!(code, Some(1));
    assert!(out.starts_with("missing.test: ") && out.ends_with("\n0 passed, 1 failed\n"), "{out}");
}

/// A server with three samples of two series, and its folder.
fn server() -> Server {
    let server = Server::start(&[], &[]);
    let write = |job: &str, value: f64| {
        let path = format!("/metrics/job/{job}");
        assert_eq!(server.send("PUT", &path, &[], format!("depth {value}\n").as_bytes()).status, 200);
    };
    write("a", 2.0);
    write("b", 5.5);
    until(10, || (server.query("depth").len() == 2).then_some(())).unwrap();
    server
}

#[test]
fn a_server_and_its_data_directory_are_asked() {
    let mut server = server();
    let url = format!("http://127.0.0.1:{}", server.port);
    // As promtool has it.
    let output = streamgate(server.dir.path(), &["query", "instant", &url, "1 + 1"]);
    assert!(stdout(&output).contains("scalar"), "{output:?}");
    // A server has its directory for itself.
    let output = streamgate(server.dir.path(), &["query", "instant", "--data=data", "depth"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("a server has it open"), "{output:?}");
    for from in [["--server", &url], ["--data", "data"]] {
        if from[0] == "--data" {
            assert_eq!(server.stop(), Some(0));
        }
        let folder = server.dir.path();
        let run = |args: &[&str]| {
            let output = streamgate(folder, &[args, &from].concat());
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(0), "{args:?} {from:?}: {errors}");
            (stdout(&output), errors)
        };
        let (table, _) = run(&["query", "instant", "sum by (job) (depth)"]);
        let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["SERIES", "TIME", "VALUE"]);
        assert_eq!((rows.len(), rows[1][0], rows[1][2]), (3, "{job=\"a\"}", "2"), "{table}");

        let (csv, _) = run(&["query", "instant", "--format=csv", "--time=100", "vector(7)"]);
        assert_eq!(csv, "timestamp,value\n1970-01-01T00:01:40Z,7\n");
        let (json, _) =
            run(&["query", "range", "--format=json", "--start=0", "--end=60", "--step=30s", "time()"]);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&json).unwrap(),
            serde_json::json!({"resultType": "matrix", "result": [{"metric": {}, "values": [[0, "0"], [30, "30"], [60, "60"]]}]})
        );
        let (limited, notes) = run(&["query", "instant", "--limit=1", "--format=csv", "depth"]);
        assert_eq!(limited.lines().count(), 2, "{limited}");
        assert_eq!(notes, "results truncated due to limit\n");

        let (plan, _) = run(&["promql", "explain", "sum(depth) + count_over_time(depth{job=\"a\"}[5m])"]);
        let lines: Vec<&str> = plan.lines().collect();
        assert!(lines[0].starts_with('+'), "{plan}");
        assert!(lines[1].starts_with("├─ sum ") && lines[1].contains("1 series, 1 samples"), "{plan}");
        assert!(
            lines[2].starts_with("│  └─ depth ") && lines[2].contains("2 series selected, 2 samples read"),
            "{plan}"
        );
        assert!(lines[3].starts_with("└─ count_over_time "), "{plan}");
        assert!(lines[4].contains("1 series selected"), "{plan}");

        // What is wrong is underlined, wherever it is found.
        let refused = streamgate(folder, &[&["query", "instant", "sum(rte(depth[5m]))"][..], &from].concat());
        assert_eq!(refused.status.code(), Some(1));
        assert_eq!(
            String::from_utf8_lossy(&refused.stderr),
            "error: unknown function with name \"rte\"\n --> 1:5\n  |\n1 | sum(rte(depth[5m]))\n  |     ^^^\nhint: did you mean \"rate\"?\n"
        );
    }
}

#[test]
fn what_cannot_be_asked_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let errors = |args: &[&str], code: i32| {
        let output = streamgate(dir.path(), args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(output.stdout.is_empty());
        text
    };
    assert!(
        errors(&["query", "instant", "--server=http://127.0.0.1:1", "up"], 1)
            .starts_with("error: http://127.0.0.1:1/: ")
    );
    assert_eq!(errors(&["query", "instant", "--data=nowhere", "up"], 1), "error: nowhere is no directory\n");
    assert!(errors(&["query", "instant"], 2).contains("EXPR"));
    assert!(errors(&["promql", "format", "a + on (x"], 1).contains("^"));
}

#[test]
fn expressions_are_laid_out() {
    let dir = tempfile::tempdir().unwrap();
    let output = streamgate(dir.path(), &["promql", "format", "sum by(job)(rate(x[5m]))+1"]);
    assert_eq!(
        (output.status.code(), stdout(&output)),
        (Some(0), "sum by (job) (rate(x[5m])) + 1\n".to_owned())
    );
}

#[test]
fn a_reader_that_has_gone_is_no_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_streamgate"))
        .arg("--version")
        .stdout(writer)
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    assert!(done.stderr.is_empty(), "{done:?}");
}
