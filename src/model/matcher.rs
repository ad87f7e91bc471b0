//! Label matchers.

use std::fmt;

use super::{GoRegex, RegexError, is_legacy_label_name};

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

impl MatchOp {
    /// The operator as PromQL writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// One condition on a label. A label that is missing has the empty value.
#[derive(Clone, Debug)]
pub struct Matcher {
    pub op: MatchOp,
    pub name: String,
    pub value: String,
    /// Set for the two regex operators, fully anchored.
    regex: Option<GoRegex>,
}

impl Matcher {
    /// # Errors
    /// When `value` is no valid RE2 pattern and `op` needs one.
    pub fn new(op: MatchOp, name: impl Into<String>, value: impl Into<String>) -> Result<Self, RegexError> {
        let value = value.into();
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(GoRegex::anchored(&value)?),
        };
        Ok(Matcher { op, name: name.into(), value, regex })
    }

    /// `name="value"`.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Matcher { op: MatchOp::Equal, name: name.into(), value: value.into(), regex: None }
    }

    /// Whether a label with this value (empty if it is missing) satisfies the matcher.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        self.matches_until(value, &|| false)
    }

    /// As [`Matcher::matches`]. Once `stop` says so the answer comes soon, and means nothing.
    #[must_use]
    pub fn matches_until(&self, value: &str, stop: &dyn Fn() -> bool) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => value == self.value,
            (MatchOp::NotEqual, _) => value != self.value,
            (MatchOp::Regex, Some(r)) => r.is_match_until(value, stop),
            (MatchOp::NotRegex, Some(r)) => !r.is_match_until(value, stop),
            (MatchOp::Regex | MatchOp::NotRegex, None) => {
                unreachable!("a regex matcher is built with its regex")
            }
        }
    }

    /// The compiled pattern of a regex matcher.
    #[must_use]
    pub fn regex(&self) -> Option<&GoRegex> {
        self.regex.as_ref()
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.op == other.op && self.name == other.name && self.value == other.value
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_legacy_label_name(&self.name) {
            write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
        } else {
            write!(f, "{:?}{}{:?}", self.name, self.op.as_str(), self.value)
        }
    }
}
