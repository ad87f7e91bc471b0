//! A text cut into commands.

use super::points::{self, Point};
use crate::model::{GoRegex, Labels, parse_duration_ms};
use crate::promql::quote::unquoted;

/// A command, and the line that it begins in (from 1).
pub(super) struct Command {
    pub(super) line: usize,
    pub(super) kind: CommandKind,
}

pub(super) enum CommandKind {
    Clear,
    Load { step_ms: i64, classic_too: bool, series: Vec<Loaded> },
    Eval(Box<Eval>),
}

/// A series to load.
pub(super) struct Loaded {
    pub(super) labels: Labels,
    pub(super) points: Vec<Point>,
    /// Start times, each in ms relative to its point; empty, or as many as points.
    pub(super) starts: Vec<Option<i64>>,
}

/// One case: an expression, when it is evaluated, and what is demanded.
pub(super) struct Eval {
    pub(super) expr: String,
    pub(super) start: i64,
    pub(super) end: i64,
    /// 0 for an instant query.
    pub(super) step_ms: i64,
    pub(super) fail: Option<Text>,
    pub(super) ordered: bool,
    pub(super) warn: Demand,
    pub(super) info: Demand,
    pub(super) expected: Expected,
    /// An instant query that gives a matrix has its points at these times: start, end, step.
    pub(super) range_vector: Option<(i64, i64, i64)>,
}

/// What is demanded of annotations of one kind.
#[derive(Default)]
pub(super) struct Demand {
    pub(super) none: bool,
    pub(super) some: bool,
    pub(super) texts: Vec<Text>,
}

/// What a message must be.
pub(super) enum Text {
    Any,
    Exactly(String),
    Matching(GoRegex),
}

impl Text {
    pub(super) fn accepts(&self, message: &str) -> bool {
        match self {
            Text::Any => true,
            Text::Exactly(text) => text == message.trim(),
            Text::Matching(regex) => regex.is_match(message),
        }
    }
}

pub(super) enum Expected {
    Series(Vec<(Labels, Vec<Point>)>),
    Scalar(f64),
    String(String),
}

/// What is wrong with a script.
pub(super) struct ScriptError {
    pub(super) line: usize,
    pub(super) message: String,
}

/// Cuts a script into its commands; what comes before a fault is given with it.
pub(super) fn parse(text: &str) -> (Vec<Command>, Option<ScriptError>) {
    let lines: Vec<&str> =
        text.lines().map(str::trim).map(|l| if l.starts_with('#') { "" } else { l }).collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        if lines[at].is_empty() {
            at += 1;
            continue;
        }
        let start = at;
        at += 1;
        let word = lines[start].split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        let block_end = lines[at..].iter().position(|l| l.is_empty()).map_or(lines.len(), |n| at + n);
        let numbered = |range: std::ops::Range<usize>| range.map(|i| (i + 1, lines[i]));
        let parsed = if word == "clear" {
            Ok((CommandKind::Clear, at))
        } else if word.starts_with("load") {
            load(lines[start], &mut numbered(at..block_end)).map(|c| (c, block_end))
        } else if word.starts_with("eval") {
            let mut used = at;
            let lines_of_block = numbered(at..block_end).inspect(|(line, _)| used = *line);
            eval(lines[start], lines_of_block).map(|c| (c, used))
        } else {
            Err((start + 1, format!("unknown command {word:?}")))
        };
        match parsed {
            Ok((kind, next)) => {
                commands.push(Command { line: start + 1, kind });
                at = next;
            }
            Err((line, message)) => {
                let line = if line == 0 { start + 1 } else { line };
                return (commands, Some(ScriptError { line, message }));
            }
        }
    }
    (commands, None)
}

/// A fault with its line; 0 means the first line of the command.
type Fault = (usize, String);

/// A duration, or a number of seconds, in milliseconds.
fn time(text: &str) -> Result<i64, String> {
    let (sign, unsigned) = text.strip_prefix('-').map_or((1, text), |t| (-1, t));
    if let Ok(ms) = parse_duration_ms(unsigned) {
        return Ok(sign * ms);
    }
    match points::number(text) {
        Some(seconds) if seconds.is_finite() => Ok((seconds * 1000.0).round() as i64),
        _ => Err(format!("expected a time, got {text:?}")),
    }
}

/// A step.
fn above_zero(text: &str) -> Result<i64, String> {
    match time(text)? {
        ms if ms > 0 => Ok(ms),
        _ => Err(format!("the step must be above zero, got {text}")),
    }
}

fn load(header: &str, lines: &mut dyn Iterator<Item = (usize, &str)>) -> Result<CommandKind, Fault> {
    let mut words = header.split_whitespace();
    let classic_too = match words.next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "load" => false,
        "load_with_nhcb" => true,
        other => return Err((0, format!("unknown command {other:?}"))),
    };
    let (Some(step), None) = (words.next(), words.next()) else {
        return Err((0, "load takes a step".to_owned()));
    };
    let step_ms = above_zero(step).map_err(|e| (0, e))?;
    let mut series = Vec::new();
    let mut start_times: Option<(Labels, Vec<Option<i64>>)> = None;
    // Those of series that have none of their own, over and over again.
    let mut default_starts: Vec<Option<i64>> = Vec::new();
    for (line, text) in lines {
        let at = |message: String| (line, message);
        if let Some(rest) = text.strip_prefix("@st").filter(|rest| rest.starts_with([' ', '\t'])) {
            default_starts = points::start_times(rest).map_err(at)?;
            continue;
        }
        let found = points::series(text).map_err(at)?;
        if found.start_times {
            start_times = Some((found.labels, points::start_times(found.points).map_err(at)?));
            continue;
        }
        let points = points::points(found.points).map_err(at)?;
        let starts = match start_times.take() {
            Some((labels, starts)) if labels != found.labels || starts.len() != points.len() => {
                return Err(at(format!("the start times of {labels} do not fit the line below")));
            }
            Some((_, starts)) => starts,
            None => default_starts.iter().copied().cycle().take(points.len()).collect(),
        };
        series.push(Loaded { labels: found.labels, points, starts });
    }
    Ok(CommandKind::Load { step_ms, classic_too, series })
}

/// Takes only the lines that belong to the case.
fn eval<'a>(header: &str, lines: impl Iterator<Item = (usize, &'a str)>) -> Result<CommandKind, Fault> {
    let mut eval = eval_header(header).map_err(|e| (0, e))?;
    let mut series = Vec::new();
    for (line, text) in lines {
        let at = |message: String| (line, message);
        if text.starts_with("expect ") {
            expect(&mut eval, text).map_err(at)?;
        } else if let Some(rest) = text.strip_prefix("expected_fail_message ") {
            eval.fail = Some(Text::Exactly(rest.trim().to_owned()));
        } else if let Some(rest) = text.strip_prefix("expected_fail_regexp ") {
            eval.fail = Some(matching(rest).map_err(at)?);
        } else if let Some(value) = points::number(text) {
            eval.expected = Expected::Scalar(value);
            return Ok(CommandKind::Eval(Box::new(eval)));
        } else {
            let found = points::series(text).map_err(at)?;
            // Of a series that comes twice the last line holds.
            series.retain(|(labels, _)| *labels != found.labels);
            series.push((found.labels, points::points(found.points).map_err(at)?));
        }
    }
    if !series.is_empty() {
        eval.expected = Expected::Series(series);
    }
    Ok(CommandKind::Eval(Box::new(eval)))
}

fn eval_header(header: &str) -> Result<Eval, String> {
    let mut rest = header;
    let mut word = || {
        rest = rest.trim_start();
        let (word, tail) = rest.split_at(rest.find([' ', '\t']).unwrap_or(rest.len()));
        rest = tail;
        word
    };
    let command = word().to_ascii_lowercase();
    let kind = word();
    let expect = |wanted: &str, found: &str| {
        if found == wanted { Ok(()) } else { Err(format!("expected {wanted:?}, got {found:?}")) }
    };
    let (start, end, step_ms) = match kind {
        "instant" => {
            expect("at", word())?;
            let at = time(word())?;
            (at, at, 0)
        }
        "range" => {
            expect("from", word())?;
            let from = time(word())?;
            expect("to", word())?;
            let to = time(word())?;
            expect("step", word())?;
            (from, to, above_zero(word())?)
        }
        other => return Err(format!("expected \"instant\" or \"range\", got {other:?}")),
    };
    let mut eval = Eval {
        expr: rest.trim().to_owned(),
        start,
        end,
        step_ms,
        fail: None,
        ordered: false,
        warn: Demand::default(),
        info: Demand::default(),
        expected: Expected::Series(Vec::new()),
        range_vector: None,
    };
    match command.as_str() {
        "eval" => {}
        "eval_fail" => eval.fail = Some(Text::Any),
        "eval_ordered" => eval.ordered = true,
        "eval_warn" => eval.warn.some = true,
        "eval_info" => eval.info.some = true,
        other => return Err(format!("unknown command {other:?}")),
    }
    Ok(eval)
}

/// A line that begins with `expect`.
fn expect(eval: &mut Eval, line: &str) -> Result<(), String> {
    let rest = line["expect".len()..].trim();
    let (kind, rest) = rest.split_once([' ', '\t']).map_or((rest, ""), |(k, r)| (k, r.trim()));
    match kind {
        "fail" => eval.fail = Some(text(rest)?),
        "ordered" => eval.ordered = true,
        "no_warn" => eval.warn.none = true,
        "no_info" => eval.info.none = true,
        "warn" => demand(&mut eval.warn, rest)?,
        "info" => demand(&mut eval.info, rest)?,
        "string" => {
            let quoted = rest.len() >= 2 && rest.starts_with(['"', '\'', '`']) && rest.ends_with(&rest[..1]);
            let value = if quoted { String::from_utf8(unquoted(rest)).ok() } else { None };
            eval.expected = Expected::String(value.ok_or_else(|| format!("expected a string, got {rest}"))?);
        }
        "range" => {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let ["vector", "from", from, "to", to, "step", step] = words.as_slice() else {
                return Err(format!("expected \"range vector from … to … step …\", got {rest:?}"));
            };
            eval.range_vector = Some((time(from)?, time(to)?, time(step)?));
        }
        other => return Err(format!("unknown demand {other:?}")),
    }
    Ok(())
}

fn demand(demand: &mut Demand, rest: &str) -> Result<(), String> {
    match text(rest)? {
        Text::Any => demand.some = true,
        text => demand.texts.push(text),
    }
    Ok(())
}

fn text(rest: &str) -> Result<Text, String> {
    if rest.is_empty() {
        return Ok(Text::Any);
    }
    match rest.split_once(':') {
        Some(("msg", text)) => Ok(Text::Exactly(text.trim().to_owned())),
        Some(("regex", pattern)) => matching(pattern),
        _ => Err(format!("expected \"msg:\" or \"regex:\", got {rest:?}")),
    }
}

fn matching(pattern: &str) -> Result<Text, String> {
    GoRegex::unanchored(pattern.trim()).map(Text::Matching).map_err(|e| e.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_a_fault_of_its_line() {
        for (script, line, message) in [
            ("clear\nload 0s\n  a 1", 2, "the step must be above zero, got 0s"),
            ("load -5s\n  a 1", 1, "the step must be above zero, got -5s"),
            ("eval range from 0 to 1m step 0 1\n  {} 1", 1, "the step must be above zero, got 0"),
            ("load 5s\n  a {{schema:99}}", 2, "a schema is -4 to 8, or -53 for custom buckets, not 99"),
        ] {
            let Some(error) = parse(script).1 else { panic!("{script} passes") };
            assert_eq!((error.line, error.message.as_str()), (line, message), "{script}");
        }
    }
}
