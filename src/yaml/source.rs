//! The text of a YAML file and the places in it.

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Location, Spanned};

use super::scalar::offset_in_text;
use super::{Problem, Problems, nearest};

/// The largest configuration or rule file that is read. Real ones are far below a megabyte.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Nodes of one document, aliases expanded: an alias bomb ends here.
const NODES_MAX: usize = 2_000_000;
/// How often a structural fault is cut out to look for the next one.
const FAULTS_MAX: usize = 20;

/// A place in a YAML file: line and column from 1, column in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    pub line: usize,
    pub column: usize,
}

/// Where a value stands (where it is used, if it is an alias).
pub fn mark<T>(value: &Spanned<T>) -> Mark {
    mark_of(value.referenced)
}

fn mark_of(location: Location) -> Mark {
    Mark { line: location.line() as usize, column: location.column() as usize }
}

/// Keys that exist upstream and not here. The table belongs to the struct that has the field `among` (take one that no
/// other struct of the file has).
#[derive(Clone, Copy, Debug)]
pub struct Upstream {
    pub among: &'static str,
    pub keys: &'static [&'static str],
}

/// A YAML file: its name for messages, and its text.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub text: String,
}

impl Source {
    /// # Errors
    /// When the file cannot be read, is too large or is not UTF-8.
    pub fn read(path: &std::path::Path) -> Result<Self, Problem> {
        let name = path.display().to_string();
        let problem =
            |message: String| Problem { file: name.clone(), line: 0, column: 0, message, hint: None };
        let unreadable = |e: std::io::Error| problem(format!("cannot be read: {e}"));
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > FILE_BYTES_MAX {
            return Err(problem(format!("has {size} bytes, more than the {FILE_BYTES_MAX} that are read")));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        // A byte order mark would become part of the first key.
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        Ok(Source { name, text })
    }

    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Source { name: name.into(), text: text.into() }
    }

    /// Decodes the first document; an empty one gives `T::default()`.
    ///
    /// # Errors
    /// As [`Source::parse_known`].
    pub fn parse<T: DeserializeOwned + Default>(&self) -> Result<T, Problems> {
        self.parse_known(&[])
    }

    /// Decodes the first document; an empty one gives `T::default()`. A key that a table of `upstream` names is refused
    /// as "not supported yet", any other unknown key as unknown, with the nearest known one as a hint.
    ///
    /// # Errors
    /// The places where the text does not fit `T` (unknown key, duplicate key, wrong type), or the first where it is no
    /// YAML. After a fault its key is left out and the rest is read on, as far as that can be done.
    pub fn parse_known<T: DeserializeOwned + Default>(&self, upstream: &[Upstream]) -> Result<T, Problems> {
        let mut text = std::borrow::Cow::Borrowed(first_document(&self.text));
        let mut problems = Problems::default();
        loop {
            let error = match decode::<T>(&text) {
                Ok(value) if problems.is_empty() => return Ok(value.unwrap_or_default()),
                Ok(_) => return Err(problems),
                Err(error) => error,
            };
            let problem = self.structural_problem(&error, upstream);
            let mark = Mark { line: problem.line, column: problem.column };
            let follows = match (&error, problems.list.last()) {
                (_, None) => true,
                // What was cut out may have held an anchor, or all that its mapping had.
                (Error::UnknownAnchor { .. } | Error::Unexpected { .. }, Some(_)) => false,
                (_, Some(last)) => Mark { line: last.line, column: last.column } < mark,
            };
            if !follows {
                return Err(problems);
            }
            problems.push(problem);
            match without_entry(&text, mark) {
                Some(rest) if problems.list.len() < FAULTS_MAX => text = rest.into(),
                _ => return Err(problems),
            }
        }
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

    /// A problem of the whole value.
    pub fn problem_at<T>(&self, value: &Spanned<T>, message: impl Into<String>) -> Problem {
        self.problem(mark(value), message)
    }

    /// A problem inside a scalar: `offset` is the byte offset into its decoded `value`. Follows block, folded and
    /// quoted styles back to the text; falls back to the beginning of the scalar.
    pub fn problem_in(&self, value: &Spanned<String>, offset: usize, message: impl Into<String>) -> Problem {
        self.problem(self.mark_in(value, offset), message)
    }

    /// The place of the byte `offset` of a decoded scalar; that of the scalar itself when it cannot be told.
    #[must_use]
    pub fn mark_in(&self, value: &Spanned<String>, offset: usize) -> Mark {
        // The text of an alias stands where its anchor is.
        for location in [value.referenced, value.defined] {
            let Some(start) = location.span().byte_offset().map(|b| b as usize) else { continue };
            let Some(raw) = self.text.get(start..) else { continue };
            if raw.starts_with('*') {
                continue;
            }
            if let Some(inside) = offset_in_text(raw, &value.value, offset) {
                return self.mark_at(start + inside);
            }
        }
        mark(value)
    }

    /// The place of a byte of the text.
    fn mark_at(&self, byte: usize) -> Mark {
        let before = &self.text[..byte];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Mark {
            line: before.bytes().filter(|b| *b == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    fn structural_problem(&self, error: &Error, upstream: &[Upstream]) -> Problem {
        let error = match error {
            Error::AliasError { error, .. } => error,
            other => other,
        };
        let place = error.location().map(mark_of).unwrap_or_default();
        let mut hint = None;
        let message = match error {
            Error::SerdeUnknownField { field, expected, .. } => {
                let tables = upstream.iter().filter(|u| expected.contains(&u.among));
                if tables.flat_map(|u| u.keys).any(|k| k == field) {
                    format!("`{field}` is not supported yet")
                } else {
                    hint = nearest(field, expected.iter().copied())
                        .map(|near| format!("did you mean `{near}`?"));
                    format!("unknown field `{field}`")
                }
            }
            Error::SerdeUnknownVariant { variant, expected, .. } => {
                hint =
                    nearest(variant, expected.iter().copied()).map(|near| format!("did you mean `{near}`?"));
                format!("`{variant}` is none of {}", expected.join(", "))
            }
            Error::SerdeMissingField { field, .. } => format!("`{field}` is missing"),
            Error::DuplicateMappingKey { key: Some(key), .. } => format!("key `{key}` is already set"),
            Error::DuplicateMappingKey { key: None, .. } => "this key is already set".to_owned(),
            Error::SerdeInvalidType { unexpected, expected, .. }
            | Error::SerdeInvalidValue { unexpected, expected, .. } => {
                format!("expected {expected}, found {unexpected}")
            }
            Error::Unexpected { expected, .. } => {
                if *expected == "string scalar" && self.line(place.line).contains("{{") {
                    hint = Some("a value that begins with `{{` needs quotes".to_owned());
                }
                format!("expected {}", shape(expected))
            }
            Error::InvalidScalar { ty, .. } => format!("expected {}", shape(ty)),
            Error::Budget { breach, .. } => format!("is too large or too deeply nested: {breach:?}"),
            other => plain_text(other),
        };
        Problem { file: self.name.clone(), line: place.line, column: place.column, message, hint }
    }

    fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number.saturating_sub(1)).unwrap_or("")
    }
}

/// What the file should hold, in words for whoever writes it, from the parser's name for it.
fn shape(expected: &str) -> String {
    match expected {
        "sequence start" => "a list".to_owned(),
        "mapping start" => "a mapping".to_owned(),
        "string scalar" => "a string".to_owned(),
        "boolean" | "bool" => "true or false".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number, not negative".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" | "float" | "floating point" => "a number".to_owned(),
        other => format!("a {other}"),
    }
}

/// The parser's own words without the place that they end with.
fn plain_text(error: &Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    let without_place = match (text.strip_prefix("line "), text.find(": ")) {
        (Some(_), Some(at)) => &text[at + 2..],
        _ => text,
    };
    without_place.split(" at line ").next().unwrap_or(without_place).to_owned()
}

fn decode<T: DeserializeOwned>(text: &str) -> Result<Option<T>, Error> {
    let only_comments = text.lines().all(|l| {
        let l = l.trim_start();
        l.is_empty() || l.starts_with('#') || l.trim_end() == "---"
    });
    if only_comments {
        return Ok(None);
    }
    let mut options = serde_saphyr::options! {
        with_snippet: false,
        legacy_octal_numbers: true,
    };
    options.budget = serde_saphyr::budget! { max_nodes: NODES_MAX, max_events: 3 * NODES_MAX };
    serde_saphyr::from_str_with_options(text, options)
}

/// The text up to the marker that ends its first document.
fn first_document(text: &str) -> &str {
    let (mut at, mut begun) = (0, false);
    for line in text.split_inclusive('\n') {
        let marker = |m: &str| {
            line.strip_prefix(m).is_some_and(|rest| rest.trim_start().len() < rest.len() || rest.is_empty())
        };
        if marker("...") || (marker("---") && begun) {
            return &text[..at];
        }
        let content = line.trim_start();
        begun |= marker("---") || !(content.is_empty() || content.starts_with('#') || line.starts_with('%'));
        at += line.len();
    }
    text
}

/// The text with the entry of a block mapping that begins at `mark`, or whose value does, blanked out. `None` if no
/// such entry stands there (within flow style, say).
fn without_entry(text: &str, mark: Mark) -> Option<String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let line = *lines.get(mark.line.checked_sub(1)?)?;
    let key_column = key_column(line)?;
    let value_column = line.chars().skip(key_column).position(|c| c == ':').map(|at| key_column + at);
    let after =
        |c: usize| line.chars().skip(c + 1).take(mark.column.saturating_sub(c + 2)).all(char::is_whitespace);
    if mark.column != key_column + 1 && !value_column.is_some_and(after) {
        return None;
    }
    let mut out: String = lines[..mark.line - 1].concat();
    out.extend(line.chars().take(key_column));
    out.extend(line.chars().skip(key_column).map(blank));
    let mut inside = true;
    for next in &lines[mark.line..] {
        let indent = next.chars().take_while(|c| *c == ' ').count();
        let empty = next.trim().is_empty();
        // A sequence may stand at the indentation of its key.
        let item = indent == key_column
            && next.trim_start().starts_with("- ")
            && !line.trim_start().starts_with("- ");
        inside &= empty || indent > key_column || item;
        if inside { out.extend(next.chars().map(blank)) } else { out.push_str(next) }
    }
    Some(out)
}

fn blank(c: char) -> char {
    if c == '\n' { c } else { ' ' }
}

/// Where the first key of a line begins, in characters from 0: behind indentation and `- `.
fn key_column(line: &str) -> Option<usize> {
    let mut column = 0;
    let mut rest = line;
    loop {
        let spaces = rest.len() - rest.trim_start_matches(' ').len();
        column += spaces;
        rest = &rest[spaces..];
        match rest.strip_prefix("- ") {
            Some(item) => {
                rest = item;
                column += 2;
            }
            None => break,
        }
    }
    let name = rest.split(':').next().filter(|name| name.len() < rest.len())?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    (!name.is_empty() && name.bytes().all(plain)).then_some(column)
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
