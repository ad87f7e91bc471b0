//! The section `export`: what `/metrics` re-exports beside what it does by itself.

use serde::Deserialize;

use crate::model::Matcher;
use crate::promql::parse_selector;
use crate::yaml::{Problems, Source, Spanned, null_is_default};

/// `export` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportSection {
    /// Selectors of series to add.
    #[serde(rename = "match", default, deserialize_with = "null_is_default")]
    pub add: Vec<Spanned<String>>,
    /// Selectors of series to leave out.
    #[serde(default, deserialize_with = "null_is_default")]
    pub drop: Vec<Spanned<String>>,
}

/// Selectors, each a list of matchers that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    pub add: Vec<Vec<Matcher>>,
    pub drop: Vec<Vec<Matcher>>,
}

impl ExportSection {
    pub fn resolve(&self, source: &Source, problems: &mut Problems) -> Export {
        let mut selectors = |list: &[Spanned<String>]| {
            let mut out = Vec::new();
            for text in list {
                match parse_selector(&text.value) {
                    Ok(matchers) => out.push(matchers),
                    Err(e) => problems.push(source.problem_in(text, e.pos.start, e.message)),
                }
            }
            out
        };
        Export { add: selectors(&self.add), drop: selectors(&self.drop) }
    }
}
