//! Where label sets of targets come from: `static_configs` and `file_sd_configs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;

use crate::model::LabelsBuilder;
use crate::yaml::{Pairs, Problems, Source, Spanned, null_is_default};

/// Addresses with the labels that they share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetGroup {
    pub targets: Vec<String>,
    pub labels: Vec<(String, String)>,
}

impl TargetGroup {
    /// The label set of each target, `__address__` among it.
    pub fn label_sets(&self) -> impl Iterator<Item = LabelsBuilder> {
        self.targets.iter().map(|address| {
            let mut labels = LabelsBuilder::new();
            for (name, value) in &self.labels {
                labels.set(name, value);
            }
            labels.set("__address__", address);
            labels
        })
    }
}

/// A target group as a configuration or a target file has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTargetGroup {
    #[serde(default, deserialize_with = "null_is_default")]
    pub targets: Vec<Spanned<String>>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub labels: Pairs<Option<Spanned<String>>>,
}

impl RawTargetGroup {
    pub fn resolve(&self, source: &Source, problems: &mut Problems) -> TargetGroup {
        let mut group = TargetGroup::default();
        for target in &self.targets {
            if let Err(reason) = check_address(&target.value) {
                problems.push(source.problem_at(target, reason));
            }
            group.targets.push(target.value.clone());
        }
        for (name, value) in self.labels.iter() {
            if name.value.is_empty() {
                problems.push(source.problem_at(name, format!("{:?} is not a valid label name", name.value)));
            }
            let value = value.as_ref().map_or(String::new(), |v| v.value.clone());
            group.labels.push((name.value.clone(), value));
        }
        group
    }
}

/// # Errors
/// When the address is a URL or has a path: it must be `host:port`.
pub fn check_address(address: &str) -> Result<(), String> {
    if address.contains('/') { Err(format!("{address:?} is not a valid hostname")) } else { Ok(()) }
}

/// One entry of `file_sd_configs`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSd {
    /// Paths; the last segment may be a pattern.
    pub files: Vec<PathBuf>,
    pub refresh_ms: i64,
}

/// How often target files are looked at, at most; a file is read only if it changed.
pub(super) const FILE_POLL_MS: i64 = 5_000;

/// What was read of target files, to read only those that changed.
#[derive(Debug, Default)]
pub(super) struct FileGroups {
    files: BTreeMap<PathBuf, ReadFile>,
}

#[derive(Debug)]
struct ReadFile {
    stamp: (Option<SystemTime>, u64),
    groups: Vec<TargetGroup>,
}

impl FileGroups {
    /// Looks at the files again. Returns whether anything changed, and what could not be read: such a file keeps the
    /// groups that it had.
    pub fn refresh(&mut self, configs: &[FileSd]) -> (bool, Vec<String>) {
        let (mut changed, mut errors) = (false, Vec::new());
        let mut present = Vec::new();
        for path in configs.iter().flat_map(|c| &c.files).flat_map(|p| matching_files(p)) {
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            let stamp = (meta.modified().ok(), meta.len());
            present.push(path.clone());
            if self.files.get(&path).is_some_and(|f| f.stamp == stamp) {
                continue;
            }
            let groups = match read_groups(&path) {
                Ok(groups) => {
                    changed = true;
                    groups
                }
                Err(e) => {
                    errors.push(e.to_string());
                    self.files.remove(&path).map(|f| f.groups).unwrap_or_default()
                }
            };
            // A broken file is read, and told of, again only when it changes.
            self.files.insert(path, ReadFile { stamp, groups });
        }
        let before = self.files.len();
        self.files.retain(|path, _| present.contains(path));
        (changed || self.files.len() < before, errors)
    }

    /// All groups, each with the file that it is from as `__meta_filepath`.
    pub fn groups(&self) -> Vec<TargetGroup> {
        let mut groups = Vec::new();
        for (path, file) in &self.files {
            for group in &file.groups {
                let mut group = group.clone();
                group.labels.push(("__meta_filepath".to_owned(), path.display().to_string()));
                groups.push(group);
            }
        }
        groups
    }
}

/// The files that a path, whose last segment may be a pattern, stands for.
pub fn matching_files(path: &Path) -> Vec<PathBuf> {
    let text = path.to_string_lossy();
    if !text.contains(['*', '?', '[']) {
        return vec![path.to_owned()];
    }
    let mut found: Vec<PathBuf> =
        glob::glob(&text).map(|paths| paths.flatten().collect()).unwrap_or_default();
    found.sort();
    found
}

/// Reads a target file.
///
/// # Errors
/// When it cannot be read or is no list of target groups.
pub fn read_groups(path: &Path) -> Result<Vec<TargetGroup>, Problems> {
    let one = |problem| Problems { list: vec![problem] };
    let source = Source::read(path).map_err(one)?;
    if path.extension().is_some_and(|e| e == "json") {
        // YAML's parser refuses the tabs that JSON may be indented with.
        let groups: Vec<JsonGroup> = serde_json::from_str(&source.text).map_err(|e| {
            let mark = crate::yaml::Mark { line: e.line(), column: e.column() };
            one(source.problem(mark, e.to_string()))
        })?;
        return Ok(groups
            .into_iter()
            .map(|g| TargetGroup { targets: g.targets, labels: g.labels.into_iter().collect() })
            .collect());
    }
    let raw: Vec<RawTargetGroup> = source.parse()?;
    let mut problems = Problems::default();
    let groups = raw.iter().map(|g| g.resolve(&source, &mut problems)).collect();
    if problems.is_empty() { Ok(groups) } else { Err(problems) }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonGroup {
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_files_are_read_again_when_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let config = [FileSd { files: vec![folder.path().join("*.*")], refresh_ms: 1 }];
        let mut files = FileGroups::default();
        let addresses = |files: &FileGroups| -> Vec<String> {
            files.groups().iter().flat_map(|g| g.targets.clone()).collect()
        };

        write("a.yml", "- targets: [a:1, b:1]\n  labels: {x: y}\n");
        write("b.json", "[\n\t{\"targets\": [\"c:1\"]}\n]");
        assert_eq!(files.refresh(&config), (true, vec![]));
        assert_eq!(addresses(&files), ["a:1", "b:1", "c:1"]);
        let path = folder.path().join("a.yml").display().to_string();
        assert_eq!(files.groups()[0].labels, [("x".into(), "y".into()), ("__meta_filepath".into(), path)]);
        assert_eq!(files.refresh(&config), (false, vec![]));

        write("a.yml", "- targets: [a:1\n");
        let (changed, errors) = files.refresh(&config);
        assert!(!changed && errors.len() == 1, "{errors:?}");
        assert_eq!(addresses(&files), ["a:1", "b:1", "c:1"], "a broken file keeps its targets");

        write("a.yml", "[]");
        std::fs::remove_file(folder.path().join("b.json")).unwrap();
        assert_eq!(files.refresh(&config), (true, vec![]));
        assert!(addresses(&files).is_empty());
    }

    #[test]
    fn broken_target_files_have_a_place() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text, said) in [
            ("a.yml", "- targets: ['http://a:1']\n", ":1:13: \"http://a:1\" is not a valid hostname"),
            ("a.yml", "- target: [a]\n", ":1:3: unknown field `target`"),
            ("a.json", "[{\"targets\": 5}]", ":1:14: invalid type"),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let error = read_groups(&path).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
