//! The rule files in the binary; the same files lie in the folder `rules/` of the repository.

use super::file::{self, RuleFile};
use crate::promql::Features;
use crate::yaml::Source;

const FILES: [(&str, &str); 4] = [
    ("shipped:host.yml", include_str!("../../rules/host.yml")),
    ("shipped:recorded.yml", include_str!("../../rules/recorded.yml")),
    ("shipped:streamgate.yml", include_str!("../../rules/streamgate.yml")),
    ("shipped:targets.yml", include_str!("../../rules/targets.yml")),
];

/// The shipped rule files. Their names begin with `shipped:`.
#[must_use]
pub fn shipped_files() -> Vec<RuleFile> {
    let load = |(name, text): &(&str, &str)| {
        file::load(&Source::new(*name, *text), Features::default())
            .expect("shipped rule files are valid: a test loads them")
    };
    FILES.iter().map(load).collect()
}
