//! Prometheus's own test scripts, and real rule files, from a folder beside the repository: `$STREAMGATE_SHARED`, by
//! default `../shared`. Without it these tests skip, and say so.

#![allow(clippy::unwrap_used)] // A test stops at what it cannot read.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use streamgate::promql::testscript::{self, Summary};

/// How many cases of the scripts passed when this was last raised. It only ever goes up.
const FLOOR: usize = 1328;

/// The same for [`testscript::run_thoroughly`].
const THOROUGH_FLOOR: usize = 1328;

/// The folder of that name in the shared folder, if it is there.
fn shared(name: &str) -> Option<PathBuf> {
    let base =
        std::env::var_os("STREAMGATE_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let folder = base.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    // Printing macros are silent in a test that passes.
    let said = format!("\nSKIPPED: {} is not there; set STREAMGATE_SHARED to its parent\n", folder.display());
    std::io::stderr().write_all(said.as_bytes()).unwrap();
    None
}

fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

type Runner = fn(&str, &str, &mut dyn Write) -> std::io::Result<Summary>;

/// Runs all scripts and says what failed.
fn score(runner: Runner) -> Option<Summary> {
    let (mut all, mut report) = (Summary::default(), Vec::new());
    for path in files(&shared("promqltest")?, &["test"]) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let summary = runner(&name, &text, &mut report).unwrap();
        println!("{name}: {} passed, {} failed", summary.passed, summary.failed);
        all += summary;
    }
    println!("{}{} passed, {} failed", String::from_utf8_lossy(&report), all.passed, all.failed);
    Some(all)
}

#[test]
fn prometheus_scripts_pass() {
    let Some(all) = score(testscript::run) else { return };
    assert!(all.passed >= FLOOR, "{} cases pass, of {FLOOR} that did", all.passed);
}

#[test]
fn prometheus_scripts_pass_in_other_words() {
    let Some(all) = score(testscript::run_thoroughly) else { return };
    assert!(all.passed >= THOROUGH_FLOOR, "{} cases pass, of {THOROUGH_FLOOR} that did", all.passed);
}

/// Scripts of our own: what ours had wrong, or Prometheus's leave out.
#[test]
fn own_scripts_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let (mut all, mut report) = (Summary::default(), Vec::new());
    for path in files(&folder, &["test"]) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        all += testscript::run_thoroughly(&name, &fs::read_to_string(&path).unwrap(), &mut report).unwrap();
    }
    assert!(all.failed == 0 && all.passed > 0, "{}", String::from_utf8_lossy(&report));
}

#[test]
fn real_rules_parse() {
    let Some(folder) = shared("rules-real") else { return };
    let (mut parsed, mut failed) = (0, Vec::new());
    for path in files(&folder, &["yml", "yaml"]) {
        for expr in expressions(&fs::read_to_string(&path).unwrap()) {
            match streamgate::promql::parse(&expr) {
                Ok(tree) => {
                    parsed += 1;
                    let printed = tree.to_string();
                    let again =
                        streamgate::promql::parse(&printed).unwrap_or_else(|e| panic!("{printed}: {e}"));
                    assert_eq!(again.to_string(), printed);
                    let pretty = tree.pretty();
                    let again =
                        streamgate::promql::parse(&pretty).unwrap_or_else(|e| panic!("{pretty}: {e}"));
                    assert_eq!(again.to_string(), printed);
                }
                Err(e) => failed.push(format!("{}: {expr}: {e}", path.display())),
            }
        }
    }
    println!("{parsed} parsed, {} not:\n{}", failed.len(), failed.join("\n"));
    // Rules for VictoriaMetrics' anomaly detection are written in its own dialect.
    failed.retain(|f| !f.contains("vmanomaly"));
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(parsed > 1000, "only {parsed} expressions were found");
}

/// The values of all keys `expr` of a YAML document.
fn expressions(yaml: &str) -> Vec<String> {
    fn collect(value: &serde_json::Value, out: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        serde_json::Value::String(s) if key == "expr" => out.push(s.clone()),
                        serde_json::Value::Number(n) if key == "expr" => out.push(n.to_string()),
                        other => collect(other, out),
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|i| collect(i, out)),
            _ => {}
        }
    }
    let mut out = Vec::new();
    // Files that are no plain YAML (templates) have no rules to take from.
    if let Ok(value) = serde_saphyr::from_str::<serde_json::Value>(yaml) {
        collect(&value, &mut out);
    }
    out
}
