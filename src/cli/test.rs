//! `streamgate test promql`: runs Prometheus's test scripts.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::promql::testscript::{self, Summary};

/// Runs the scripts, one after the other: a line for each case that fails, then the sum. What cannot be read counts as
/// one that failed.
pub(super) fn promql(given: &[PathBuf], thorough: bool) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match scripts(given, thorough, &mut out).and_then(|summary| out.flush().map(|()| summary)) {
        Ok(summary) if summary.failed == 0 => ExitCode::SUCCESS,
        // Whoever read the lines may have gone, which is no fault to report.
        Ok(_) | Err(_) => ExitCode::FAILURE,
    }
}

fn scripts(given: &[PathBuf], thorough: bool, out: &mut dyn io::Write) -> io::Result<Summary> {
    let run = if thorough { testscript::run_thoroughly } else { testscript::run };
    let mut all = Summary::default();
    for path in given {
        let files = match files(path) {
            Ok(files) if files.is_empty() => Err(format!("{}: no *.test file in it", path.display())),
            Ok(files) => Ok(files),
            Err(e) => Err(format!("{}: {e}", path.display())),
        };
        let files = match files {
            Ok(files) => files,
            Err(why) => {
                all.failed += 1;
                writeln!(out, "{why}")?;
                continue;
            }
        };
        for file in files {
            match std::fs::read_to_string(&file) {
                Ok(text) => all += run(&file.display().to_string(), &text, out)?,
                Err(e) => {
                    all.failed += 1;
                    writeln!(out, "{}: {e}", file.display())?;
                }
            }
        }
    }
    writeln!(out, "{} passed, {} failed", all.passed, all.failed)?;
    Ok(all)
}

/// The file itself, or the scripts of a folder, by name.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "test") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
