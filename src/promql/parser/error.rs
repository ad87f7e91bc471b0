//! What is wrong with a text, and where.

use std::fmt;

use crate::promql::ast::Pos;

/// Why a text is no valid expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The offending bytes of the text.
    pub pos: Pos,
    /// From 1.
    pub line: usize,
    /// From 1, in bytes, as Prometheus counts.
    pub column: usize,
    /// Prometheus's text.
    pub message: String,
    /// What may have been meant: `did you mean "rate"?`
    pub hint: Option<String>,
}

impl ParseError {
    /// An error about the bytes `pos` of `text`.
    pub(crate) fn new(text: &str, pos: Pos, message: impl Into<String>) -> Self {
        let before = &text.as_bytes()[..pos.start.min(text.len())];
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|b| **b != b'\n').count();
        ParseError { pos, line, column, message: message.into(), hint: None }
    }

    pub(crate) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

/// As Prometheus prints it, and the hint behind.
impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pos == (0..0) {
            // Only an empty text has no byte to point at.
            write!(f, "unknown position: parse error: {}", self.message)?;
        } else {
            write!(f, "{}:{}: parse error: {}", self.line, self.column, self.message)?;
        }
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ParseError {}

/// The hint for a word that is none: the nearest of `words`, if it is near.
pub(super) fn nearest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<String> {
    let word = word.to_ascii_lowercase();
    // A third of the letters may be wrong, and at least one.
    let most = (word.chars().count() / 3).max(1);
    let distance = |w: &str| strsim::damerau_levenshtein(w, &word);
    let (distance, best) = words.map(|w| (distance(w), w)).min_by_key(|(d, _)| *d)?;
    (distance <= most).then(|| format!("did you mean \"{best}\"?"))
}
