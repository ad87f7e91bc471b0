//! What is wrong with an expression, shown with the offending text underlined.

use std::fmt::Write as _;
use std::ops::Range;

use crate::promql::ParseError;

/// Of a line, so many characters around the offending ones are shown.
const CONTEXT_CHARS: usize = 60;
/// No more than so many marks: the rest of a long part is clear from its beginning.
const MARKS_MAX: usize = 60;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub message: String,
    /// The offending bytes of the expression.
    pub place: Option<Range<usize>>,
    pub hint: Option<String>,
}

impl Fault {
    pub fn new(message: impl Into<String>) -> Self {
        Fault { message: message.into(), place: None, hint: None }
    }

    /// The fault as lines: the message, the place, the line with marks under what is wrong, the hint.
    pub fn shown(&self, query: &str) -> String {
        let mut out = format!("error: {}\n", self.message);
        if let Some(place) = &self.place {
            mark(&mut out, query, place);
        }
        if let Some(hint) = &self.hint {
            _ = writeln!(out, "hint: {hint}");
        }
        out
    }
}

impl From<ParseError> for Fault {
    fn from(e: ParseError) -> Self {
        Fault { message: e.message, place: Some(e.pos), hint: e.hint }
    }
}

fn mark(out: &mut String, query: &str, place: &Range<usize>) {
    let start = boundary(query, place.start);
    let end = boundary(query, place.end.max(start));
    let line_start = query[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = query[start..].find('\n').map_or(query.len(), |at| start + at);
    let number = query[..start].matches('\n').count() + 1;
    let column = query[line_start..start].chars().count() + 1;
    let before: Vec<char> = query[line_start..start].chars().collect();
    let (cut_before, before) = match before.len().checked_sub(CONTEXT_CHARS) {
        Some(cut) if cut > 0 => ("…", &before[cut..]),
        _ => ("", &before[..]),
    };
    let marked: Vec<char> = query[start..end.min(line_end)].chars().collect();
    let after: Vec<char> = query[start..line_end].chars().collect();
    let shown_after = marked.len().min(MARKS_MAX) + CONTEXT_CHARS;
    let cut_after = if after.len() > shown_after { "…" } else { "" };
    let printable = |c: &char| if c.is_control() { ' ' } else { *c };
    let text: String = before.iter().chain(after.iter().take(shown_after)).map(printable).collect();
    let gutter = " ".repeat(number.to_string().len());
    let pad = " ".repeat(cut_before.chars().count() + before.len());
    let marks = "^".repeat(marked.len().clamp(1, MARKS_MAX));
    _ = writeln!(out, "{gutter}--> {number}:{column}");
    _ = writeln!(out, "{gutter} |\n{number} | {cut_before}{text}{cut_after}\n{gutter} | {pad}{marks}");
}

/// The nearest place at or before `at` at which a character begins.
fn boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Reads the place out of Prometheus's text `LINE:COLUMN: parse error: …` (columns count bytes); gives the rest.
pub(super) fn place_in_text<'a>(query: &str, message: &'a str) -> Option<(Range<usize>, &'a str)> {
    let rest = message.strip_prefix("invalid parameter \"query\": ").unwrap_or(message);
    let (line, tail) = rest.split_once(':')?;
    let (column, tail) = tail.split_once(':')?;
    let text = tail.trim_start().strip_prefix("parse error: ")?;
    let (line, column): (usize, usize) = (line.parse().ok()?, column.parse().ok()?);
    let before: usize = query.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    let start = before + column.checked_sub(1)?;
    Some((start..start + 1, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, place: Range<usize>, expected: &str) {
        let fault = Fault { message: "m".into(), place: Some(place), hint: Some("h".into()) };
        assert_eq!(fault.shown(query), format!("error: m\n{expected}hint: h\n"));
    }

    #[test]
    fn the_offending_text_is_underlined() {
        check("sum(rte(x))", 4..7, " --> 1:5\n  |\n1 | sum(rte(x))\n  |     ^^^\n");
        check("a +\n\tbö(c)", 5..8, " --> 2:2\n  |\n2 |  bö(c)\n  |  ^^\n");
        // At the end, past it, and over lines.
        check("a +", 3..3, " --> 1:4\n  |\n1 | a +\n  |    ^\n");
        check("a +", 9..12, " --> 1:4\n  |\n1 | a +\n  |    ^\n");
        check("a[\n5", 1..4, " --> 1:2\n  |\n1 | a[\n  |  ^\n");
        let long = format!("{}rte(x){}", "a+".repeat(100), "+b".repeat(100));
        let shown = Fault { message: "m".into(), place: Some(200..203), hint: None }.shown(&long);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1], " --> 1:201");
        let at = lines[4].find('^').unwrap();
        assert_eq!(lines[3].chars().skip(at).take(3).collect::<String>(), "rte");
        assert!(lines[3].chars().count() < 140, "{}", lines[3]);
    }

    #[test]
    fn the_place_is_found_in_a_text_of_prometheus() {
        assert_eq!(
            place_in_text(
                "a +\nb c",
                "invalid parameter \"query\": 2:3: parse error: unexpected identifier \"c\""
            ),
            Some((6..7, "unexpected identifier \"c\""))
        );
        assert_eq!(place_in_text("a", "query timed out"), None);
    }
}
