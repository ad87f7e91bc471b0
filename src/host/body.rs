//! Writes families in the text format 0.0.4.

use std::fmt::Write as _;

use crate::model::MetricType;

/// A body under construction: `family`, then its samples.
#[derive(Debug, Default)]
pub struct Body {
    text: String,
    name: String,
}

impl Body {
    /// Begins a family; its samples follow. `help` is one line.
    pub fn family(&mut self, name: &str, metric_type: MetricType, help: &str) -> &mut Self {
        debug_assert!(!help.contains(['\n', '\\']), "a help text is one plain line");
        let kind = if metric_type == MetricType::Unknown { "untyped" } else { metric_type.as_str() };
        name.clone_into(&mut self.name);
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self
    }

    pub fn gauge(&mut self, name: &str, help: &str) -> &mut Self {
        self.family(name, MetricType::Gauge, help)
    }

    pub fn counter(&mut self, name: &str, help: &str) -> &mut Self {
        self.family(name, MetricType::Counter, help)
    }

    pub fn untyped(&mut self, name: &str, help: &str) -> &mut Self {
        self.family(name, MetricType::Unknown, help)
    }

    /// One sample of the family begun last.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        self.text.push_str(&self.name);
        for (i, (name, value)) in labels.iter().enumerate() {
            self.text.push(if i == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {}", Number(value));
        self
    }

    /// Drops what was written after `mark`.
    pub fn rewind(&mut self, mark: usize) {
        self.text.truncate(mark);
    }

    /// How much has been written.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.text.len()
    }

    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

/// A value as the text format writes it.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_nan() {
            f.write_str("NaN")
        } else if self.0.is_infinite() {
            f.write_str(if self.0 > 0.0 { "+Inf" } else { "-Inf" })
        } else {
            write!(f, "{}", self.0)
        }
    }
}
