//! The routing tree: which routes an alert takes, and by which labels each groups.
//!
//! Source: alertmanager, `dispatch/route.go`.

use std::sync::Arc;

use super::config::EscalationPolicy;
use crate::model::{Labels, MatchOp, Matcher};

/// The labels that make a group of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// `...`: every label, so each alert is a group of its own.
    All,
    /// Sorted.
    Labels(Vec<String>),
}

/// One node of the tree with everything that it inherits filled in.
#[derive(Clone, Debug)]
pub struct Route {
    /// `{}/{a="b"}`: the matchers of the way from the root.
    pub key: String,
    pub matchers: Vec<Matcher>,
    pub receiver: String,
    pub group_by: GroupBy,
    pub group_wait_ms: i64,
    /// Above 0.
    pub group_interval_ms: i64,
    pub repeat_interval_ms: i64,
    /// Siblings behind this route are tried also when it matches.
    pub goes_on: bool,
    pub policy: Option<Arc<EscalationPolicy>>,
    /// Positions in [`Routes`].
    pub children: Vec<usize>,
}

impl Route {
    /// The labels that name the alert's group.
    #[must_use]
    pub fn group_labels(&self, labels: &Labels) -> Labels {
        match &self.group_by {
            GroupBy::All => labels.clone(),
            GroupBy::Labels(names) => labels.keep(names),
        }
    }

    /// Names a group of this route, over restarts too: `{}/{a="b"}:{alertname="x"}`.
    #[must_use]
    pub fn group_key(&self, group_labels: &Labels) -> String {
        let mut key = self.key.clone();
        key.push_str(":{");
        for (i, (name, value)) in group_labels.iter().enumerate() {
            if i > 0 {
                key.push_str(", ");
            }
            if crate::model::is_legacy_label_name(name) {
                key.push_str(name);
            } else {
                push_go_quoted(&mut key, name);
            }
            key.push('=');
            push_go_quoted(&mut key, value);
        }
        key.push('}');
        key
    }

    fn matches(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
    }
}

/// The tree, parents before children; the root is first.
#[derive(Clone, Debug)]
pub struct Routes {
    pub list: Vec<Route>,
}

impl Routes {
    /// The routes that an alert takes, at least one: the deepest that match, each level going on to further
    /// siblings only where a route says so.
    #[must_use]
    pub fn of(&self, labels: &Labels) -> Vec<usize> {
        let mut found = Vec::new();
        self.descend(0, labels, &mut found);
        found
    }

    fn descend(&self, at: usize, labels: &Labels, found: &mut Vec<usize>) -> bool {
        let route = &self.list[at];
        if !route.matches(labels) {
            return false;
        }
        let before = found.len();
        for child in &route.children {
            if self.descend(*child, labels, found) && !self.list[*child].goes_on {
                break;
            }
        }
        if found.len() == before {
            found.push(at);
        }
        true
    }
}

/// Sorts matchers as upstream does before it makes a route's key of them.
pub fn sort_matchers(matchers: &mut [Matcher]) {
    let rank = |op: MatchOp| match op {
        MatchOp::Equal => 0,
        MatchOp::NotEqual => 1,
        MatchOp::Regex => 2,
        MatchOp::NotRegex => 3,
    };
    matchers.sort_by(|a, b| (&a.name, &a.value, rank(a.op)).cmp(&(&b.name, &b.value, rank(b.op))));
}

/// A route's own part of its key: `{a="b",c=~"d"}`.
#[must_use]
pub fn matchers_key(matchers: &[Matcher]) -> String {
    let mut key = String::from("{");
    for (i, matcher) in matchers.iter().enumerate() {
        if i > 0 {
            key.push(',');
        }
        let reserved = |c: char| c.is_whitespace() || "{}!=~,\\\"'`".contains(c);
        if matcher.name.contains(reserved) {
            push_go_quoted(&mut key, &matcher.name);
            key.push_str(matcher.op.as_str());
            push_go_quoted(&mut key, &matcher.value);
        } else {
            key.push_str(&matcher.name);
            key.push_str(matcher.op.as_str());
            let value = matcher.value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
            key.push('"');
            key.push_str(&value);
            key.push('"');
        }
    }
    key.push('}');
    key
}

/// A text as Go's `%q` writes it.
fn push_go_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() || (c.is_whitespace() && c != ' ') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
