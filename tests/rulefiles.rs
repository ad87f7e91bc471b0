//! Rule files of the world, and promtool's verdict on each: what promtool accepts is accepted, what it refuses is
//! refused. The collections live outside of the repository, in `$STREAMGATE_SHARED` (by default `../shared`); without
//! them the test says that it skips.
#![allow(clippy::unwrap_used, reason = "it fails by panicking")]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use streamgate::promql::Features;
use streamgate::rules::{file, unittest};
use streamgate::yaml::{Problems, Source};

fn shared() -> PathBuf {
    std::env::var_os("STREAMGATE_SHARED").map_or_else(|| "../shared".into(), PathBuf::from)
}

/// The cases of a manifest; `None` when the collection is not there.
fn cases(folder: &Path) -> Option<Vec<serde_json::Value>> {
    let Ok(text) = std::fs::read_to_string(folder.join("manifest.json")) else {
        // Printing macros are silent in a test that passes.
        let said = format!("\nSKIPPED: {} is not there (set STREAMGATE_SHARED)\n", folder.display());
        std::io::stderr().write_all(said.as_bytes()).unwrap();
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

fn check(folder: &Path, file: &str) -> Result<usize, Problems> {
    let source = Source::read(&folder.join(file)).map_err(|p| Problems { list: vec![p] })?;
    let file = file::load(&source, Features::default())?;
    Ok(file.groups.iter().map(|g| g.rules.len()).sum())
}

#[test]
fn real_rule_files_load_whole() {
    let folder = shared().join("rules-real");
    let Some(cases) = cases(&folder) else { return };
    let (mut right, mut total, mut rules) = (0, 0, 0);
    for case in &cases {
        let name = case["file"].as_str().unwrap();
        let valid = case["promtool_2_42"] == "valid";
        total += 1;
        match check(&folder, name) {
            Ok(count) if valid => {
                rules += count;
                right += 1;
                assert_eq!(Some(count as u64), case["rules"].as_u64(), "{name}");
            }
            Err(_) if !valid => right += 1,
            Ok(_) => println!("{name}: accepted; promtool: {}", case["reason"]),
            Err(problems) => println!("{name}: refused, promtool accepts it: {problems}"),
        }
    }
    println!("rule files as promtool judges them: {right} of {total}, {rules} rules");
    assert!(right * 100 >= total * 98, "{right} of {total}");
}

#[test]
fn rule_cases_of_promtool() {
    let folder = shared().join("promtool");
    let Some(cases) = cases(&folder) else { return };
    let (mut right, mut total) = (0, 0);
    for case in cases.iter().filter(|c| c["kind"] == "rules") {
        let name = case["file"].as_str().unwrap();
        let verdict = case.get("expected_3x").unwrap_or(&case["promtool_2_42"]);
        total += 1;
        match check(&folder, name) {
            Ok(_) if verdict == "valid" => right += 1,
            Err(problems) if verdict == "invalid" => {
                // Every problem has its place.
                let placed = problems.list.iter().all(|p| p.line > 0 && p.column > 0);
                assert!(placed, "{name}: {problems}");
                right += 1;
            }
            Ok(_) => println!("{name}: accepted; promtool: {}", case["reason"]),
            Err(problems) => println!("{name}: refused, promtool accepts it: {problems}"),
        }
    }
    println!("promtool's rule cases: {right} of {total}");
    assert!(right * 100 >= total * 98, "{right} of {total}");
}

#[test]
fn rule_unit_tests_of_promtool() {
    let folder = shared().join("promtool");
    let Some(cases) = cases(&folder) else { return };
    let (mut right, mut total) = (0, 0);
    for case in cases.iter().filter(|c| c["kind"] == "unit test") {
        let name = case["file"].as_str().unwrap();
        let verdict = case.get("expected_3x").unwrap_or(&case["promtool_2_42"]).as_str().unwrap();
        total += 1;
        let outcomes = unittest::run(&folder.join(name), Features::default());
        let failures: Vec<String> = match outcomes {
            Ok(outcomes) => outcomes.into_iter().flat_map(|o| o.failures).collect(),
            Err(problems) => vec![problems.to_string()],
        };
        if failures.is_empty() == (verdict == "tests pass") {
            right += 1;
        } else {
            println!("{name}: {verdict}, but here: {}", failures.join("\n"));
        }
    }
    println!("promtool's rule unit tests: {right} of {total}");
    // promtool fails to expand externalURL and pathPrefix, which one case takes for right.
    assert!(right + 1 >= total, "{right} of {total}");
}
