//! The configuration file as a whole.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Export;
use super::export::ExportSection;
use super::global::{self, GlobalSection};
use super::storage::{self, StorageSection, StorageSettings};
use crate::model::Labels;
use crate::promql::Features;
use crate::reports::Indicator;
use crate::reports::config::{IndicatorSection, ReportsSection, Schedule, resolve_indicators};
use crate::rules::{self, file::RuleFile};
use crate::scrape::config::RawScrapeConfig;
use crate::scrape::{ScrapeDefaults, ScrapeFeatures, ScrapeJob};
use crate::yaml::{Problems, Source, Spanned, Upstream, mark, null_is_default};

/// Files that one pattern of `rule_files` or `scrape_config_files` may stand for.
const FILES_MAX: usize = 10_000;
/// Rules are evaluated this often without a file: an alert is raised less than 5 s after its crossing.
const TICK_WITHOUT_FILE_MS: i64 = 3_000;

/// Keys of the file that exist upstream and not here.
const UPSTREAM_KEYS: Upstream = Upstream {
    among: "rule_files",
    keys: &["runtime", "alerting", "tracing", "remote_write", "remote_read", "otlp"],
};

/// The file as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(default, deserialize_with = "null_is_default")]
    global: GlobalSection,
    #[serde(default, deserialize_with = "null_is_default")]
    rule_files: Vec<Spanned<String>>,
    #[serde(default, deserialize_with = "null_is_default")]
    scrape_config_files: Vec<Spanned<String>>,
    #[serde(default, deserialize_with = "null_is_default")]
    scrape_configs: Vec<Spanned<RawScrapeConfig>>,
    #[serde(default, deserialize_with = "null_is_default")]
    host_metrics: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    shipped_rules: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    export: ExportSection,
    #[serde(default, deserialize_with = "null_is_default")]
    storage: StorageSection,
    indicators: Option<Vec<Spanned<IndicatorSection>>>,
    #[serde(default, deserialize_with = "null_is_default")]
    reports: ReportsSection,
}

/// A file of `scrape_config_files`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScrapeConfigs {
    #[serde(default, deserialize_with = "null_is_default")]
    scrape_configs: Vec<Spanned<RawScrapeConfig>>,
}

/// How a configuration is read.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    pub features: Features,
    pub scrape: ScrapeFeatures,
    /// Whether rule files are read too.
    pub rule_files: bool,
}

/// A checked configuration. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct Config {
    pub evaluation_interval_ms: i64,
    pub external_labels: Labels,
    pub jobs: Vec<ScrapeJob>,
    /// The files that `rule_files` stands for, in order, each once; none if they were not to be read.
    pub rule_files: Vec<RuleFile>,
    pub host_metrics: bool,
    pub shipped_rules: bool,
    pub export: Export,
    pub storage: StorageSettings,
    /// None: the section is absent, and the shipped ones hold.
    pub indicators: Option<Vec<Indicator>>,
    pub reports: Schedule,
}

impl Config {
    /// What holds without any file: this machine and the server itself are watched, by the shipped rules.
    #[must_use]
    pub fn without_file() -> Self {
        let raw = RawConfig { host_metrics: true, shipped_rules: true, ..RawConfig::default() };
        let source = Source::new("no file", "");
        let mut problems = Problems::default();
        let options = LoadOptions {
            features: Features::default(),
            scrape: ScrapeFeatures::default(),
            rule_files: true,
        };
        let config = raw.resolve(&source, Path::new("."), options, &mut problems);
        Config { evaluation_interval_ms: TICK_WITHOUT_FILE_MS, ..config }
    }

    /// Reads and checks a file and those that it names.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn load(path: &Path, options: LoadOptions) -> Result<Self, Problems> {
        let source = Source::read(path).map_err(|p| Problems { list: vec![p] })?;
        Self::parse(&source, folder_of(path), options)
    }

    /// Checks a configuration that stands in `folder`.
    ///
    /// # Errors
    /// Everything that is wrong with it or a file that it names.
    pub fn parse(source: &Source, folder: &Path, options: LoadOptions) -> Result<Self, Problems> {
        let raw: RawConfig = source.parse_known(&upstream_keys())?;
        let mut problems = Problems::default();
        let config = raw.resolve(source, folder, options, &mut problems);
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }
}

/// The folder from which relative paths in a file count; empty for the present one, so that a path joined to it stays
/// as it is written: `rules.yml`, as Prometheus names it, and not `./rules.yml`.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    let parent = path.parent().unwrap_or(Path::new(""));
    if parent == Path::new(".") { Path::new("") } else { parent }
}

fn upstream_keys() -> Vec<Upstream> {
    let mut keys = vec![UPSTREAM_KEYS, global::UPSTREAM_KEYS];
    keys.extend(storage::UPSTREAM_KEYS);
    keys.extend(crate::scrape::config::UPSTREAM_KEYS);
    keys.extend(crate::http::UPSTREAM_KEYS);
    keys
}

impl RawConfig {
    fn resolve(
        &self,
        source: &Source,
        folder: &Path,
        options: LoadOptions,
        problems: &mut Problems,
    ) -> Config {
        let global = self.global.resolve(options.scrape, source, problems);
        let mut rule_files = Vec::new();
        for path in named_files(&self.rule_files, "rule", options.rule_files, folder, source, problems) {
            if options.rule_files {
                let read = Source::read(&path).map_err(|p| Problems { list: vec![p] });
                match read.and_then(|source| rules::file::load(&source, options.features)) {
                    Ok(file) => rule_files.push(file),
                    Err(found) => problems.extend(found),
                }
            }
        }
        let mut jobs = Jobs { defaults: &global.scrape, found: Vec::new(), first: HashMap::new() };
        jobs.add(&self.scrape_configs, source, folder, problems);
        for path in named_files(&self.scrape_config_files, "scrape config", true, folder, source, problems) {
            match Source::read(&path) {
                Ok(source) => match source.parse_known::<RawScrapeConfigs>(&upstream_keys()) {
                    Ok(raw) => {
                        jobs.add(&raw.scrape_configs, &source, folder_of(&path), problems);
                    }
                    Err(found) => problems.extend(found),
                },
                Err(problem) => problems.push(problem),
            }
        }
        let indicators = self
            .indicators
            .as_ref()
            .map(|sections| resolve_indicators(sections, options.features, source, problems));
        Config {
            evaluation_interval_ms: global.evaluation_interval_ms,
            external_labels: global.external_labels,
            jobs: jobs.found,
            rule_files,
            host_metrics: self.host_metrics,
            shipped_rules: self.shipped_rules,
            export: self.export.resolve(source, problems),
            storage: self.storage.resolve(source, problems),
            indicators,
            reports: self.reports.resolve(source, problems),
        }
    }
}

/// Jobs of all files; a name is taken once.
struct Jobs<'a> {
    defaults: &'a ScrapeDefaults,
    found: Vec<ScrapeJob>,
    /// The file that has a name first.
    first: HashMap<String, String>,
}

impl Jobs<'_> {
    fn add(
        &mut self,
        list: &[Spanned<RawScrapeConfig>],
        source: &Source,
        folder: &Path,
        problems: &mut Problems,
    ) {
        for raw in list {
            let job = raw.value.resolve(mark(raw), self.defaults, source, folder, problems);
            let name = raw.value.job_name.as_ref().filter(|n| !n.value.is_empty());
            if let Some(name) = name
                && let Some(file) = self.first.insert(name.value.clone(), source.name.clone())
            {
                let whence =
                    if file == source.name { String::new() } else { format!(", first found in {file}") };
                let message = format!("found multiple scrape configs with job name {:?}{whence}", name.value);
                problems.push(source.problem_at(name, message));
            }
            self.found.push(job);
        }
    }
}

/// The files that a list of paths and patterns stands for, each once, in order. A pattern may stand for none.
fn named_files(
    list: &[Spanned<String>],
    kind: &str,
    must_exist: bool,
    folder: &Path,
    source: &Source,
    problems: &mut Problems,
) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in list {
        // Only the last segment may hold a star, as in Prometheus.
        let beyond_star = entry.value.split_once('*').is_some_and(|(_, rest)| rest.contains('/'));
        if beyond_star || entry.value.is_empty() {
            problems.push(source.problem_at(entry, format!("invalid {kind} file path {:?}", entry.value)));
            continue;
        }
        let found = crate::scrape::matching_files(&folder.join(&entry.value));
        if found.len() > FILES_MAX {
            let message = format!("{:?} stands for more than {FILES_MAX} files", entry.value);
            problems.push(source.problem_at(entry, message));
            continue;
        }
        for path in found {
            if path.is_dir() {
                problems.push(source.problem_at(entry, format!("{} is a folder", path.display())));
            } else if must_exist && !path.exists() {
                let message = format!("{:?} does not point to an existing file", entry.value);
                problems.push(source.problem_at(entry, message));
            } else if !files.contains(&path) {
                files.push(path);
            }
        }
    }
    files
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
