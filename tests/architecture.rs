//! Holds the direction of dependencies between modules, and that docs/ARCHITECTURE.md names what exists.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Module to the modules that it may use, from the table in docs/ARCHITECTURE.md.
type Table = BTreeMap<String, BTreeSet<String>>;

/// What `+` in the table stands for.
const PLUS: [&str; 4] = ["model", "yaml", "clock", "telemetry"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The rows between the two marks: `module | used modules`, where `+` is [`PLUS`] and `everything` is all.
fn table() -> Table {
    let text = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let block = text.split("<!-- modules -->").nth(1).expect("the table stands between two marks");
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    for line in block.lines().filter(|l| l.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let uses = cells[2]
            .split(' ')
            .filter(|w| !w.is_empty() && *w != "-")
            .map(|w| w.trim_matches('`').to_owned());
        rows.push((cells[0].trim_matches('`').to_owned(), uses.collect()));
    }
    let all: BTreeSet<String> = rows.iter().map(|(m, _)| m.clone()).collect();
    let expand = |uses: Vec<String>| -> BTreeSet<String> {
        uses.into_iter()
            .flat_map(|u| match u.as_str() {
                "+" => PLUS.map(str::to_owned).to_vec(),
                "everything" => all.iter().cloned().collect(),
                _ => vec![u],
            })
            .collect()
    };
    rows.into_iter().map(|(module, uses)| (module, expand(uses))).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Modules of the crate that a source names as `crate::x`, also within `use crate::{x::…, y::…}`.
fn used(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // Tests may reach wherever they like.
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: String =
        source.lines().filter(|l| !l.trim_start().starts_with("//")).map(|l| format!("{l}\n")).collect();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if let Some(list) = rest.strip_prefix('{') {
            let (mut depth, mut start) = (0usize, 0usize);
            for (i, c) in list.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => {
                        names.insert(word(list[start..i].trim_start()));
                        break;
                    }
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        names.insert(word(list[start..i].trim_start()));
                        start = i + 1;
                    }
                    _ => {}
                }
            }
        } else {
            names.insert(word(rest));
        }
    }
    names.remove("");
    names
}

/// Every import that the table does not allow, as `FILE uses MODULE`.
fn violations(table: &Table, files: &[(String, String)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, source) in files {
        let module = path.split('/').next().unwrap().trim_end_matches(".rs");
        let Some(allowed) = table.get(module) else {
            wrong.push(format!("src/{path}: the module {module} is missing in docs/ARCHITECTURE.md"));
            continue;
        };
        for name in used(source) {
            if table.contains_key(&name) && name != module && !allowed.contains(&name) {
                wrong.push(format!("src/{path} uses {name}, which {module} may not"));
            }
        }
    }
    wrong
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let mut paths = Vec::new();
    sources(&root().join("src"), &mut paths);
    let files: Vec<(String, String)> = paths
        .iter()
        .map(|p| {
            (
                p.strip_prefix(root().join("src")).unwrap().display().to_string(),
                fs::read_to_string(p).unwrap(),
            )
        })
        .filter(|(p, _)| p != "lib.rs" && p != "main.rs" && !p.contains("tests"))
        .collect();
    let wrong = violations(&table(), &files);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_import_that_runs_backwards_is_found() {
    let file = |source: &str| [("model/labels.rs".to_owned(), source.to_owned())];
    assert_eq!(violations(&table(), &file("use crate::storage::Reader;")).len(), 1);
    assert_eq!(
        violations(&table(), &file("use crate::{clock::Clock, storage::{Reader, Storage}};")).len(),
        2
    );
    assert_eq!(
        violations(&table(), &file("use crate::model::Labels;\n// crate::storage is above us\n")),
        [""; 0]
    );
}

#[test]
fn paths_in_the_documentation_exist() {
    let mut gone = Vec::new();
    for document in ["docs/ARCHITECTURE.md", "README.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for quoted in text.split('`').skip(1).step_by(2) {
            let is_path = ["src/", "docs/", "tests/", "benches/", "rules/", "examples/", ".ci/", "fuzz/"]
                .iter()
                .any(|p| quoted.starts_with(p));
            let plain = quoted.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if is_path && plain && !root().join(quoted).exists() {
                gone.push(format!("{document} names {quoted}"));
            }
        }
    }
    assert!(gone.is_empty(), "{}", gone.join("\n"));
}
