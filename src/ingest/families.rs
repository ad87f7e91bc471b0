//! What was last said of each metric family.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::IngestLimits;
use crate::model::{Metadata, MetricType};
use crate::storage::Storage;

/// What a family takes beside its texts, about.
pub(super) const FAMILY_BYTES: usize = 160;

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
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    families: HashMap<String, Metadata>,
    /// Of their names and texts.
    bytes: usize,
}

impl Families {
    /// Starts from what the storage knows.
    pub fn load(storage: &Storage) -> Self {
        let families: HashMap<String, Metadata> = storage.reader().metadata().into_iter().collect();
        let bytes = families.iter().map(|(name, m)| bytes_of(name, m)).sum();
        Families { known: Mutex::new(Known { families, bytes }) }
    }

    /// Merges notes into what is known and tells the storage what changed. Families past the limit are ignored.
    pub fn note(
        &self,
        storage: &Storage,
        limits: &IngestLimits,
        notes: impl IntoIterator<Item = (String, FamilyNote)>,
    ) {
        let mut guard = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { families: known, bytes } = &mut *guard;
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
            let more = bytes_of(&family, &new);
            let less = old.map_or(0, |old| bytes_of(&family, old));
            if more > less && *bytes - less + more > limits.families_bytes_max {
                continue;
            }
            if old != Some(&new) {
                *bytes = *bytes - less + more;
                storage.set_metadata(&family, new.clone());
                known.insert(family, new);
            }
        }
    }
}

fn bytes_of(family: &str, m: &Metadata) -> usize {
    FAMILY_BYTES + family.len() + m.help.len() + m.unit.len()
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
