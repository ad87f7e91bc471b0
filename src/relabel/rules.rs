//! Compiled rules and what they do.

use super::md5::md5;
use crate::model::{GoRegex, LabelsBuilder};

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    #[default]
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

impl Action {
    pub const ALL: [Action; 11] = [
        Action::Replace,
        Action::Keep,
        Action::Drop,
        Action::KeepEqual,
        Action::DropEqual,
        Action::HashMod,
        Action::LabelMap,
        Action::LabelDrop,
        Action::LabelKeep,
        Action::Lowercase,
        Action::Uppercase,
    ];

    /// The name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Replace => "replace",
            Action::Keep => "keep",
            Action::Drop => "drop",
            Action::KeepEqual => "keepequal",
            Action::DropEqual => "dropequal",
            Action::HashMod => "hashmod",
            Action::LabelMap => "labelmap",
            Action::LabelDrop => "labeldrop",
            Action::LabelKeep => "labelkeep",
            Action::Lowercase => "lowercase",
            Action::Uppercase => "uppercase",
        }
    }
}

/// One checked rule.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) action: Action,
    pub(super) source_labels: Vec<String>,
    pub(super) separator: String,
    pub(super) regex: GoRegex,
    pub(super) modulus: u64,
    pub(super) target_label: String,
    pub(super) replacement: String,
}

/// Rules in their order; by default none, which keeps every label set as it is.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub(super) list: Vec<Rule>,
}

impl Rules {
    /// Applies the rules; false means that the label set is dropped, and then its content means nothing.
    #[must_use]
    pub fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        self.list.iter().all(|rule| rule.apply(labels))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }
}

impl Rule {
    fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        match self.action {
            Action::Keep => return self.regex.is_match(&self.source(labels)),
            Action::Drop => return !self.regex.is_match(&self.source(labels)),
            Action::KeepEqual => return labels.get(&self.target_label) == self.source(labels),
            Action::DropEqual => return labels.get(&self.target_label) != self.source(labels),
            Action::Replace => self.replace(labels),
            Action::HashMod => {
                let digest = md5(self.source(labels).as_bytes());
                let half = u64::from_be_bytes(digest[8..].try_into().expect("a digest has 16 bytes"));
                labels.set(&self.target_label, itoa::Buffer::new().format(half % self.modulus));
            }
            Action::Lowercase => {
                let value = map_case(&self.source(labels), char::to_lowercase);
                labels.set(&self.target_label, &value);
            }
            Action::Uppercase => {
                let value = map_case(&self.source(labels), char::to_uppercase);
                labels.set(&self.target_label, &value);
            }
            Action::LabelMap => {
                let matching = labels.iter().filter(|(n, _)| self.regex.is_match(n));
                let mapped: Vec<(String, String)> = matching
                    .map(|(n, v)| (self.regex.replace_all(n, &self.replacement), v.to_owned()))
                    .collect();
                for (name, value) in mapped {
                    labels.set(&name, &value);
                }
            }
            Action::LabelDrop => labels.retain(|name, _| !self.regex.is_match(name)),
            Action::LabelKeep => labels.retain(|name, _| self.regex.is_match(name)),
        }
        true
    }

    fn replace(&self, labels: &mut LabelsBuilder) {
        let source = self.source(labels);
        let Some(target) = self.regex.expand(&source, &self.target_label) else { return };
        if target.is_empty() {
            return;
        }
        if let Some(value) = self.regex.expand(&source, &self.replacement) {
            labels.set(&target, &value);
        }
    }

    /// The values of the source labels, joined; a missing label is empty.
    fn source(&self, labels: &LabelsBuilder) -> String {
        let mut out = String::new();
        for (i, name) in self.source_labels.iter().enumerate() {
            if i > 0 {
                out.push_str(&self.separator);
            }
            out.push_str(labels.get(name));
        }
        out
    }
}

/// Maps one character to one, as Go does: a mapping to several (as of sharp s) leaves the character.
fn map_case<I: Iterator<Item = char>>(text: &str, map: impl Fn(char) -> I) -> String {
    let one = |c: char| {
        let mut mapped = map(c);
        match (mapped.next(), mapped.next()) {
            (Some(m), None) => m,
            // The one lower case mapping to several is of capital I with a dot, which Go maps to plain i.
            _ if c == '\u{130}' => 'i',
            _ => c,
        }
    };
    text.chars().map(one).collect()
}
