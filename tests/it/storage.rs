//! Work on data directories: imports, dumps, snapshots, deletions, damage.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::util::{Server, encode};

fn streamgate(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_streamgate")).args(args).current_dir(folder).output().unwrap()
}

/// What a run that must succeed printed, on standard output and standard error.
fn done(folder: &Path, args: &[&str]) -> (String, String) {
    let output = streamgate(folder, args);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{args:?}: {out}{err}");
    (out, err)
}

/// What a run that must fail printed on standard error.
fn refused(folder: &Path, args: &[&str]) -> String {
    let output = streamgate(folder, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/prometheus-tsdb");
const KEEP: &str = "--storage.tsdb.retention.time=100y";

/// Whether both are the same, numbers within what the order of a sum may change.
fn close(a: &Value, b: &Value) -> bool {
    let number = |s: &str| s.parse::<f64>().ok();
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|other| close(v, other)))
        }
        (Value::String(a), Value::String(b)) => match (number(a), number(b)) {
            (Some(x), Some(y)) => (x - y).abs() <= 1e-12 * x.abs().max(y.abs()) || a == b,
            _ => a == b,
        },
        _ => a == b,
    }
}

/// Compares the answers of a server over imported samples with Prometheus's over the originals.
fn check_against_prometheus(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let source = format!("{GOLDEN}/{name}");
    let (out, err) = done(dir.path(), &["storage", "import", "d", &source, KEEP]);
    assert!(out.contains("new blocks"), "{out}");
    assert!(err.contains("were deleted there"), "{err}");
    assert!(done(dir.path(), &["storage", "verify", "d"]).0.contains("no problem"));
    let mut server = Server::start(&[KEEP, "--config.file=c.yml"], &[("c.yml", "global: {}\n")]);
    server.stop();
    std::fs::remove_dir_all(server.path("data")).unwrap();
    std::fs::rename(dir.path().join("d"), server.path("data")).unwrap();
    server.start_again();
    let golden: Value =
        serde_json::from_slice(&std::fs::read(format!("{GOLDEN}/{name}.json")).unwrap()).unwrap();
    for (query, want) in golden.as_object().unwrap() {
        let answer = server.get(&format!("/api/v1/query?time=1795551632&query={}", encode(query)));
        let mut found = answer.json()["data"]["result"].as_array().unwrap().clone();
        let by_metric = |v: &Value| v["metric"].to_string();
        found.sort_by_key(by_metric);
        let mut want = want.as_array().unwrap().clone();
        want.sort_by_key(by_metric);
        assert!(
            close(&Value::Array(found.clone()), &Value::Array(want.clone())),
            "{name}: {query}\n{found:?}\n{want:?}"
        );
    }
    // Once more changes nothing.
    server.stop();
    let (out, _) = done(&server.path(""), &["storage", "import", "data", &source, KEEP]);
    assert!(out.contains("were there already") && out.contains("0 new blocks"), "{out}");
}

#[test]
fn a_block_of_prometheus_comes_along() {
    check_against_prometheus("block");
}

#[test]
fn the_wal_of_prometheus_comes_along() {
    check_against_prometheus("data");
}

#[test]
fn a_dump_can_be_imported() {
    let dir = tempfile::tempdir().unwrap();
    let text = "# HELP c What it counts\n# TYPE c counter\nc_total{x=\"a\"} 1.0 1700000000\nc_total{x=\"a\"} 2.0 1700000015.500\n\
                c_total{x=\"b\\n\\\"\"} 1e+100 1700000000\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 3.0 1800\nh_sum -0.5 1800\n# EOF\n";
    std::fs::write(dir.path().join("in.om"), text).unwrap();
    let (out, err) = done(dir.path(), &["storage", "import", "d", "in.om"]);
    assert!(out.contains("d: 5 samples from 1970-01-01T00:30:00Z to 2023-11-14T22:13:35Z"), "{out}");
    assert!(
        err.contains("5 samples are older than what a server with --storage.tsdb.retention.time=15d keeps"),
        "{err}"
    );
    let (dump, _) = done(dir.path(), &["storage", "dump", "d"]);
    assert_eq!(dump, text);
    let (part, _) = done(
        dir.path(),
        &[
            "storage",
            "dump",
            "d",
            "--match",
            "c_total{x=\"a\"}",
            "--start=1700000001",
            "--end",
            "2023-11-14T22:14:00Z",
        ],
    );
    assert_eq!(part.lines().nth(2), Some("c_total{x=\"a\"} 2.0 1700000015.500"), "{part}");
    assert_eq!(part.lines().count(), 4);

    // Through a pipe, into what is there: the same again, another value, and something new.
    let mut child = Command::new(env!("CARGO_BIN_EXE_streamgate"))
        .args(["storage", "import", "d", "-"])
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let more = "c_total{x=\"a\"} 1 1700000000\nc_total{x=\"a\"} 9 1700000015.5\nc_total{x=\"a\"} 3 1700000030\n# EOF\n";
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), more.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("1 samples were there already") && out.contains("1 new blocks, 1 merged"), "{out}");
    assert!(err.contains("1 samples have another value than what was there, which stays"), "{err}");
    let (dump, _) = done(dir.path(), &["storage", "dump", "d", "--match=c_total{x='a'}"]);
    assert!(dump.contains("c_total{x=\"a\"} 1.0 1700000000\nc_total{x=\"a\"} 2.0 1700000015.500\nc_total{x=\"a\"} 3.0 1700000030\n"), "{dump}");

    // Our own directory, into another.
    done(dir.path(), &["storage", "import", "e", "d"]);
    assert_eq!(done(dir.path(), &["storage", "dump", "e"]).0, done(dir.path(), &["storage", "dump", "d"]).0);
}

#[test]
fn a_dump_of_json_lines_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    done(dir.path(), &["storage", "import", "d", &format!("{GOLDEN}/block"), KEEP]);
    let text = "# TYPE c counter\nc_total 1.0 1700000000 # {trace_id=\"a\"} 0.5 1700000000.250\n# EOF\n";
    std::fs::write(dir.path().join("in.om"), text).unwrap();
    let (out, _) = done(dir.path(), &["storage", "import", "d", "in.om", KEEP]);
    assert!(out.contains("d: 1 exemplars"), "{out}");
    let dump = |d: &str| done(dir.path(), &["storage", "dump", d, "--format=jsonl"]).0;
    let text = dump("d");
    assert!(text.contains("\"histograms\":[[") && text.contains("\"exemplars\":[{"), "{text}");
    std::fs::write(dir.path().join("all.jsonl"), &text).unwrap();
    done(dir.path(), &["storage", "import", "e", "all.jsonl", KEEP]);
    assert_eq!(dump("e"), text);
    std::fs::write(dir.path().join("cut.jsonl"), &text[..text.len() / 2]).unwrap();
    assert!(refused(dir.path(), &["storage", "import", "f", "cut.jsonl", KEEP]).contains("line "));
}

#[test]
fn bad_input_is_placed_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for (text, said) in [
        ("a 1 1\nb{ 1 1\n# EOF\n", "in.om: line 2: "),
        ("a 1 1\nb 1\n# EOF\n", "in.om: line 2: the sample has no timestamp"),
        ("a 1 1\n", "in.om: line 2: it does not end with # EOF"),
        ("a 1 1\n# EOF\na 1 2\n", "in.om: line 2: unexpected data after # EOF"),
        ("a{x=\"1\",x=\"2\"} 1 1\n# EOF\n", "in.om: line 1: a label comes twice"),
        ("", "it does not end with # EOF"),
    ] {
        std::fs::write(dir.path().join("in.om"), text).unwrap();
        let err = refused(dir.path(), &["storage", "import", "d", "in.om"]);
        assert!(err.contains(said), "{text:?}: {err}");
        assert_eq!(done(dir.path(), &["storage", "dump", "d"]).0, "# EOF\n");
    }
    let err = refused(dir.path(), &["storage", "import", "d", "missing"]);
    assert!(err.contains("missing: No such file"), "{err}");
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    let err = refused(dir.path(), &["storage", "import", "d", "empty"]);
    assert!(err.contains("neither a block nor a data directory of Prometheus"), "{err}");
    for command in [&["dump", "nowhere"][..], &["inspect", "empty"], &["verify", "empty"]] {
        let err = refused(dir.path(), &[&["storage"], command].concat());
        assert!(err.contains("no such directory") || err.contains("neither blocks nor a WAL"), "{err}");
    }
}

#[test]
fn damage_is_found_and_placed() {
    let dir = tempfile::tempdir().unwrap();
    done(dir.path(), &["storage", "import", "d", &format!("{GOLDEN}/block"), KEEP]);
    let blocks = dir.path().join("d/blocks");
    let block = std::fs::read_dir(blocks).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&block).unwrap();
    for (at, said) in [
        (100, "at byte 16: the checksum of a page"),
        (whole.len() - 300, "the checksum of its index is wrong"),
        (whole.len() - 4, "its end is damaged or cut off"),
    ] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&block, &bytes).unwrap();
        let output = streamgate(dir.path(), &["storage", "verify", "d"]);
        let out = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(out.contains(said) && out.contains(block.file_name().unwrap().to_str().unwrap()), "{out}");
        assert!(out.ends_with("1 problem\n"), "{out}");
    }
    std::fs::write(&block, &whole).unwrap();
    std::fs::write(dir.path().join("d/tombstones"), "nonsense").unwrap();
    let out = streamgate(dir.path(), &["storage", "verify", "d"]).stdout;
    assert!(String::from_utf8(out).unwrap().contains("tombstones: its checksum is wrong"));
}

#[test]
fn a_server_makes_snapshots_and_deletes() {
    let config = "global: {scrape_interval: 1s}\n";
    let mut server = Server::start(&["--web.enable-admin-api", "--config.file=c.yml"], &[("c.yml", config)]);
    let push = |value: u8| {
        let body = format!("m{{x=\"1\"}} {value}\nm{{x=\"2\"}} {value}\n");
        assert_eq!(server.send("PUT", "/metrics/job/j", &[], body.as_bytes()).status, 200);
    };
    push(1);
    // The group goes, so that it is not written again; its samples stay.
    assert_eq!(server.send("DELETE", "/metrics/job/j", &[], b"").status, 202);
    // In use: no command but reading a snapshot.
    for command in [&["inspect", "data"][..], &["verify", "data"], &["dump", "data"]] {
        let err = refused(&server.path(""), &[&["storage"], command].concat());
        assert!(err.contains("a server has it open") && err.contains("snapshot"), "{err}");
    }
    std::fs::write(server.path("in.om"), "a 1 1\n# EOF\n").unwrap();
    assert!(
        refused(&server.path(""), &["storage", "import", "data", "in.om"])
            .contains("another process has it open")
    );
    let snapshot = |server: &Server| {
        let answer = server.send("POST", "/api/v1/admin/tsdb/snapshot", &[], b"");
        assert_eq!(answer.status, 200, "{}", answer.body);
        format!("data/snapshots/{}", answer.json()["data"]["name"].as_str().unwrap())
    };
    let before = snapshot(&server);
    let deleted = server.send("POST", "/api/v1/admin/tsdb/delete_series?match[]=m%7Bx=%221%22%7D", &[], b"");
    assert_eq!((deleted.status, deleted.body.as_str()), (204, ""));
    assert_eq!(server.query("last_over_time(m[1h])").len(), 1);
    let after = snapshot(&server);
    // What is deleted stays so over a kill, a seal and cleaning.
    server.kill();
    server.start_again();
    assert_eq!(server.query("last_over_time(m[1h])").len(), 1);
    assert_eq!(server.send("PUT", "/api/v1/admin/tsdb/clean_tombstones", &[], b"").status, 204);
    assert_eq!(server.query("last_over_time(m[1h])").len(), 1);
    let folder = server.path("");
    let series = |dir: &str| {
        let (dump, _) = done(&folder, &["storage", "dump", dir, "--match=m"]);
        dump.lines()
            .filter(|l| l.starts_with("m{"))
            .map(|l| l.split(' ').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(series(&before).len(), 2);
    assert_eq!(series(&after), ["m{job=\"j\",x=\"2\"}"]);
    let (out, _) = done(&folder, &["storage", "inspect", &before]);
    assert!(out.contains("Blocks (1)") && out.contains("job=j"), "{out}");
    // And the series may come back.
    assert_eq!(server.send("PUT", "/metrics/job/j", &[], b"m{x=\"1\"} 5\n").status, 200);
    assert_eq!(server.query("last_over_time(m{x='1'}[1h])").len(), 1);
    server.stop();
    assert!(done(&folder, &["storage", "verify", "data"]).0.contains("no problem"));
    // The copy is a data directory.
    std::fs::remove_dir_all(server.path("data").join("wal")).unwrap();
    std::fs::rename(server.path(&before), server.path("copy")).unwrap();
    std::fs::remove_dir_all(server.path("data")).unwrap();
    std::fs::rename(server.path("copy"), server.path("data")).unwrap();
    server.start_again();
    assert_eq!(server.query("last_over_time(m[1h])").len(), 2);
}
