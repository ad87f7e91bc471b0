//! `streamgate check`: says what is wrong with files, without starting.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::say::say;
use crate::config::{Config, LoadOptions, folder_of};
use crate::promql::Features;
use crate::scrape::ScrapeFeatures;
use crate::yaml::{Problems, Source};
use crate::{alerts, rules};

/// Checks configuration files and, unless `syntax_only`, the files that they name.
pub(super) fn config(files: &[PathBuf], syntax_only: bool, features: Features) -> ExitCode {
    // What is scraped first is no matter of right and wrong.
    let options = LoadOptions { features, scrape: ScrapeFeatures::default(), rule_files: !syntax_only };
    each(files, |path| {
        let config = Config::load(path, options)?;
        if !syntax_only {
            check_target_files(&config)?;
        }
        let (jobs, rules) = (config.jobs.len(), config.rule_files.len());
        Ok(format!("a valid configuration: {}, {}", count(jobs, "scrape job"), count(rules, "rule file")))
    })
}

/// Reads the target files that are there; one that is not may come later.
fn check_target_files(config: &Config) -> Result<(), Problems> {
    let mut problems = Problems::default();
    let files = config.jobs.iter().flat_map(|job| &job.file_sd).flat_map(|sd| &sd.files);
    for path in files.flat_map(|f| crate::scrape::matching_files(f)).filter(|p| p.exists()) {
        if let Err(found) = crate::scrape::read_groups(&path) {
            problems.extend(found);
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Checks rule files.
pub(super) fn rules(files: &[PathBuf], features: Features) -> ExitCode {
    each(files, |path| {
        let file = rules::file::load(&read(path)?, features)?;
        let n = file.groups.iter().map(|g| g.rules.len()).sum();
        Ok(format!("a valid rule file: {} in {}", count(n, "rule"), count(file.groups.len(), "group")))
    })
}

/// Checks files in Alertmanager's format.
pub(super) fn alertmanager(files: &[PathBuf]) -> ExitCode {
    each(files, |path| {
        let config = alerts::config::load(&read(path)?, folder_of(path))?;
        Ok(format!("a valid Alertmanager file: {}", count(config.receivers.len(), "receiver")))
    })
}

fn read(path: &Path) -> Result<Source, Problems> {
    Source::read(path).map_err(|problem| Problems { list: vec![problem] })
}

/// Prints a line for each good file and every problem of the others.
fn each(files: &[PathBuf], check: impl Fn(&Path) -> Result<String, Problems>) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for path in files {
        match check(path) {
            Ok(summary) => say(format_args!("SUCCESS: {} is {summary}", path.display())),
            Err(problems) => {
                eprintln!("{problems}");
                eprintln!("FAILED: {} has {}", path.display(), count(problems.list.len(), "problem"));
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
