//! What was last said of each metric family.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::IngestLimits;
use crate::model::{Metadata, MetricType};
use crate::storage::Storage;

/// What one source says of a family; what it does not say stays as it was.
#[derive(Clone, Debug, Default)]
pub(super) struct FamilyNote {
    pub metric_type: Option<MetricType>,
    pub help: Option<String>,
    pub unit: Option<String>,
}

impl From<Metadata> for FamilyNote {
    fn from(m: Metadata) -> Self {
        FamilyNote { metric_type: Some(m.metric_type), help: Some(m.help), unit: Some(m.unit) }
    }
}

/// The families known, so that the storage hears of a change only.
#[derive(Debug, Default)]
pub(super) struct Families {
    known: Mutex<HashMap<String, Metadata>>,
}

impl Families {
    /// Starts from what the storage knows.
    pub fn load(storage: &Storage) -> Self {
        Families { known: Mutex::new(storage.reader().metadata().into_iter().collect()) }
    }

    /// Merges notes into what is known and tells the storage what changed. Families past the limit are ignored.
    pub fn note(
        &self,
        storage: &Storage,
        limits: &IngestLimits,
        notes: impl IntoIterator<Item = (String, FamilyNote)>,
    ) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (family, note) in notes {
            if family.is_empty() || family.len() > limits.label_value_bytes_max {
                continue;
            }
            let old = known.get(&family);
            if old.is_none() && known.len() >= limits.families_max {
                continue;
            }
            let mut new = old.cloned().unwrap_or_default();
            if let Some(metric_type) = note.metric_type {
                new.metric_type = metric_type;
            }
            if let Some(help) = note.help {
                new.help = cut(help, limits.help_bytes_max);
            }
            if let Some(unit) = note.unit {
                new.unit = cut(unit, limits.label_name_bytes_max);
            }
            if old != Some(&new) {
                storage.set_metadata(&family, new.clone());
                known.insert(family, new);
            }
        }
    }
}

/// At most `bytes` bytes, cut before a character.
fn cut(mut text: String, bytes: usize) -> String {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
