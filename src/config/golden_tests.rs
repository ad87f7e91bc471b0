//! Prometheus's own configuration fixtures: the good ones load or are refused only for what is not supported yet, the
//! bad ones are refused.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{Config, LoadOptions};
use crate::promql::Features;
use crate::yaml::Problems;

fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("STREAMGATE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let cases = folder.join("promtool");
    if cases.join("manifest.json").exists() {
        return Some(cases);
    }
    // Printing macros are silent in a test that passes.
    let said = format!("\nSKIPPED: no configuration fixtures in {}\n", cases.display());
    std::io::stderr().write_all(said.as_bytes()).unwrap();
    None
}

/// Whether every problem is that something is not supported yet.
fn only_unsupported(problems: &Problems) -> bool {
    problems.list.iter().all(|p| p.message.contains("not supported yet"))
}

#[test]
fn fixtures_of_prometheus_are_judged_as_prometheus_does() {
    let Some(folder) = shared() else { return };
    let manifest = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let cases = manifest.as_array().expect("the manifest lists cases");
    let (mut loaded, mut unsupported, mut refused, mut wrong) = (0, Vec::new(), 0, Vec::new());
    for case in cases.iter().filter(|c| c["kind"] == "config") {
        let file = case["file"].as_str().expect("a case names its file");
        // Of a feature younger than promtool 2.42 that release says nothing; these fixtures are good ones.
        let newer = case["newer"].is_array();
        let good = match case["expected_3x"].as_str() {
            Some(verdict) => verdict == "valid",
            None => newer || case["promtool_2_42"] == "valid",
        };
        let options = LoadOptions {
            features: Features::all(),
            scrape: crate::scrape::ScrapeFeatures::default(),
            rule_files: false,
        };
        match (Config::load(&folder.join(file), options), good) {
            (Ok(_), true) => loaded += 1,
            (Err(problems), true) if only_unsupported(&problems) => unsupported.push(format!("{problems}")),
            (Err(problems), true) => wrong.push(format!("{file}: good, but: {problems}")),
            (Err(_), false) => refused += 1,
            (Ok(_), false) => wrong.push(format!("{file}: bad, but it loads: {}", case["reason"])),
        }
    }
    println!(
        "{loaded} good ones load, {} are refused for what is not supported yet, {refused} bad ones are refused",
        unsupported.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(loaded > 0 && refused > 0);
}
