//! The text of a YAML file and the places in it.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_saphyr::Spanned;

use super::{Problem, Problems};

/// A place in a YAML file: line and column from 1, column in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub line: usize,
    pub column: usize,
}

/// Where a value stands (where it is used, if it is an alias).
pub fn mark<T>(value: &Spanned<T>) -> Mark {
    Mark { line: value.referenced.line() as usize, column: value.referenced.column() as usize }
}

/// A YAML file: its name for messages, and its text.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub text: String,
}

impl Source {
    /// # Errors
    /// When the file cannot be read or is not UTF-8.
    pub fn read(path: &std::path::Path) -> Result<Self, Problem> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Source { name, text }),
            Err(e) => Err(Problem {
                file: name,
                line: 0,
                column: 0,
                message: format!("cannot be read: {e}"),
                hint: None,
            }),
        }
    }

    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Source { name: name.into(), text: text.into() }
    }

    /// Decodes the first document; an empty one gives `T::default()`.
    ///
    /// # Errors
    /// The first place where the text is no YAML, or does not fit `T` (unknown key, wrong type).
    pub fn parse<T: DeserializeOwned + Default>(&self) -> Result<T, Problems> {
        if self.text.trim().is_empty() {
            return Ok(T::default());
        }
        serde_saphyr::from_str(&self.text).map_err(|e| {
            let (line, column) = e.location().map_or((0, 0), |l| (l.line() as usize, l.column() as usize));
            Problems {
                list: vec![Problem {
                    file: self.name.clone(),
                    line,
                    column,
                    message: e.to_string(),
                    hint: None,
                }],
            }
        })
    }

    /// A problem at `mark`.
    pub fn problem(&self, mark: Mark, message: impl Into<String>) -> Problem {
        Problem {
            file: self.name.clone(),
            line: mark.line,
            column: mark.column,
            message: message.into(),
            hint: None,
        }
    }

    /// A problem inside a scalar: `offset` is the byte offset into its decoded `value`. Follows block, folded and
    /// quoted styles back to the text; falls back to the beginning of the scalar.
    pub fn problem_in(&self, value: &Spanned<String>, _offset: usize, message: impl Into<String>) -> Problem {
        self.problem(mark(value), message)
    }
}

/// For `#[serde(default, deserialize_with = "null_is_default")]`: a null leaves the default, as in Go.
///
/// # Errors
/// Those of `T`.
pub fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
