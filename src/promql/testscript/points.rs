//! The notation of samples: `1 2+3x4 _ stale {{schema:1 count:2 buckets:[2]}}`.

use std::sync::Arc;

use crate::model::{
    CounterResetHint, FloatHistogram, Labels, METRIC_NAME, MatchOp, Span, parse_duration_ms, stale_marker,
};
use crate::promql::parser::parse_selector;

/// How many points one line may stand for.
const MAX_POINTS: usize = 1_000_000;

/// A sample of the notation.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Point {
    /// `_`
    None,
    Float(f64),
    Histogram {
        value: Arc<FloatHistogram>,
        /// Whether the notation states the counter reset hint.
        hint: bool,
    },
}

/// A line of data: labels, and what follows them.
pub(super) struct SeriesLine<'a> {
    pub(super) labels: Labels,
    /// The line gives start times (`series@st …`).
    pub(super) start_times: bool,
    pub(super) points: &'a str,
}

/// Cuts a line into its series and the rest.
pub(super) fn series(line: &str) -> Result<SeriesLine<'_>, String> {
    let name_len = line.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':')).count();
    let end =
        if line[name_len..].starts_with('{') { name_len + braces(&line[name_len..])? } else { name_len };
    let (selector, rest) = line.split_at(end);
    if selector.is_empty() {
        return Err(format!("expected a series, got {line:?}"));
    }
    let matchers = parse_selector(selector).map_err(|e| e.to_string())?;
    if let Some(m) = matchers.iter().find(|m| m.op != MatchOp::Equal) {
        return Err(format!("a series needs \"=\" for its label {:?}", m.name));
    }
    // A name within the braces gives way to the one in front of them, as with any label that comes twice.
    let labels = Labels::from_pairs(matchers.iter().map(|m| (m.name.as_str(), m.value.as_str())));
    let (start_times, points) = rest.strip_prefix("@st").map_or((false, rest), |r| (true, r));
    if !points.is_empty() && !points.starts_with([' ', '\t']) {
        return Err(format!("expected a blank behind the series {selector}"));
    }
    Ok(SeriesLine { labels, start_times, points: points.trim() })
}

/// How long the text in braces at the start is.
fn braces(text: &str) -> Result<usize, String> {
    let (mut quote, mut escaped) = (None, false);
    for (i, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some('"' | '\''), '\\') => escaped = true,
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '}') => return Ok(i + 1),
            (None, _) => {}
        }
    }
    Err("missing closing } of the series".to_owned())
}

/// The points of a line.
pub(super) fn points(text: &str) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (item, tail) = if rest.starts_with("{{") { histogram_item(rest)? } else { plain_item(rest)? };
        if points.len() + item.len() > MAX_POINTS {
            return Err(format!("more than {MAX_POINTS} points on a line"));
        }
        points.extend(item);
        if !tail.is_empty() && !tail.starts_with([' ', '\t']) {
            return Err(format!("expected a blank in front of {tail:?}"));
        }
        rest = tail.trim_start();
    }
    Ok(points)
}

type Item<'a> = (Vec<Point>, &'a str);

/// `_`, `_x5`, `stale`, `1`, `1x5`, `1+2x5`.
fn plain_item(text: &str) -> Result<Item<'_>, String> {
    let (word, tail) = text.split_at(text.find([' ', '\t']).unwrap_or(text.len()));
    let bad = || {
        let times = word.rsplit_once('x').map_or("", |(_, times)| times);
        if !times.is_empty() && times.bytes().all(|b| b.is_ascii_digit()) && repetition_of(times).is_none() {
            return format!("more than {MAX_POINTS} points on a line");
        }
        format!("expected a sample, got {word:?}")
    };
    if let Some(rest) = word.strip_prefix('_') {
        let times = if rest.is_empty() { 1 } else { repetition(rest).ok_or_else(bad)? };
        return Ok((vec![Point::None; times], tail));
    }
    let (first, rest) = match word.strip_prefix("stale") {
        Some(rest) => (stale_marker(), rest),
        None => number_prefix(word).ok_or_else(bad)?,
    };
    if rest.is_empty() {
        return Ok((vec![Point::Float(first)], tail));
    }
    let (step, rest) = if rest.starts_with('x') {
        (None, rest)
    } else {
        number_prefix(rest).map(|(n, r)| (Some(n), r)).ok_or_else(bad)?
    };
    let times = repetition(rest).ok_or_else(bad)?;
    let mut value = first;
    let mut item = vec![Point::Float(first)];
    for _ in 0..times {
        // Without a step the bits stay as they are, those of a staleness marker too.
        value = step.map_or(value, |s| value + s);
        item.push(Point::Float(value));
    }
    Ok((item, tail))
}

/// The number behind an `x`.
fn repetition(text: &str) -> Option<usize> {
    repetition_of(text.strip_prefix('x')?)
}

fn repetition_of(digits: &str) -> Option<usize> {
    digits.parse().ok().filter(|n| *n <= MAX_POINTS)
}

/// A whole text that is one number.
pub(super) fn number(text: &str) -> Option<f64> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (-1.0, unsigned),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some(hex) = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        return i64::from_str_radix(hex, 16).ok().map(|n| sign * n as f64);
    }
    number_prefix(text).and_then(|(n, rest)| rest.is_empty().then_some(n))
}

/// A signed number at the start of a text.
fn number_prefix(text: &str) -> Option<(f64, &str)> {
    let unsigned = text.trim_start_matches(['+', '-']);
    let sign = text.len() - unsigned.len();
    if sign > 1 {
        return None;
    }
    let word = unsigned.get(..3).map(str::to_ascii_lowercase);
    let len = match word.as_deref() {
        Some("inf" | "nan") => 3,
        _ => {
            let b = unsigned.as_bytes();
            // An underscore may stand between two digits.
            let is_digit = |i: usize| b.get(i).is_some_and(u8::is_ascii_digit);
            let belongs = |i: usize| {
                is_digit(i) || (b.get(i) == Some(&b'_') && i > 0 && is_digit(i - 1) && is_digit(i + 1))
            };
            let digits = |from: usize| (from..b.len()).take_while(|i| belongs(*i)).count();
            let mut end = digits(0);
            if b.get(end) == Some(&b'.') {
                end += 1 + digits(end + 1);
            }
            if matches!(b.get(end), Some(b'e' | b'E')) {
                let signed = usize::from(matches!(b.get(end + 1), Some(b'+' | b'-')));
                let exponent = digits((end + 1 + signed).min(b.len()));
                if exponent > 0 {
                    end += 1 + signed + exponent;
                }
            }
            end
        }
    };
    let (number, rest) = text.split_at(sign + len);
    number.replace('_', "").parse().ok().map(|n: f64| (n, rest))
}

/// `{{…}}`, `{{…}}x5`, `{{…}}+{{…}}x5`.
fn histogram_item(text: &str) -> Result<Item<'_>, String> {
    let (first, hint, rest) = histogram(text)?;
    let subtract = rest.starts_with("-{{");
    // Where one grows by another, it is that other which may state the hint, as upstream.
    let (step, hint, rest) = if subtract || rest.starts_with("+{{") {
        let (step, hint, rest) = histogram(&rest[1..])?;
        (Some(step), hint, rest)
    } else {
        (None, hint, rest)
    };
    let (repeat, tail) = rest.split_at(rest.find([' ', '\t']).unwrap_or(rest.len()));
    let bad = || format!("expected a repetition, got {repeat:?}");
    let times = match (repeat, &step) {
        ("", None) => 0,
        _ => repetition(repeat).ok_or_else(bad)?,
    };
    let mut value = Arc::new(first);
    let mut item = vec![Point::Histogram { value: value.clone(), hint }];
    for _ in 0..times {
        if let Some(step) = &step {
            if value.schema > step.schema {
                return Err(format!(
                    "a histogram of schema {} cannot grow by one of schema {}",
                    value.schema, step.schema
                ));
            }
            let mut next = (*value).clone();
            let combined = if subtract { next.subtract(step) } else { next.add(step) };
            combined.map_err(|_| "the two histograms do not go together".to_owned())?;
            value = Arc::new(next);
        }
        item.push(Point::Histogram { value: value.clone(), hint });
    }
    Ok((item, tail))
}

/// One histogram at the start of a text, and whether it states its hint.
fn histogram(text: &str) -> Result<(FloatHistogram, bool, &str), String> {
    let end = text.find("}}").ok_or("missing closing }} of a histogram")?;
    let (inner, rest) = (&text[2..end], &text[end + 2..]);
    let mut h = FloatHistogram::default();
    let (mut offset, mut negative_offset, mut hint) = (0, 0, false);
    let mut left = inner.trim();
    while !left.is_empty() {
        let (key, tail) = left.split_once(':').ok_or_else(|| format!("expected key:value, got {left:?}"))?;
        let len = match tail.strip_prefix('[') {
            Some(list) => 2 + list.find(']').ok_or_else(|| format!("missing closing ] of {key}"))?,
            None => tail.find([' ', '\t']).unwrap_or(tail.len()),
        };
        let (value, tail) = tail.split_at(len);
        let float = || number(value).ok_or_else(|| format!("expected a number for {key}, got {value:?}"));
        let int =
            || value.parse::<i32>().map_err(|_| format!("expected an integer for {key}, got {value:?}"));
        let list = || {
            let inner = value.strip_prefix('[').and_then(|v| v.strip_suffix(']')).unwrap_or("");
            let numbers: Option<Vec<f64>> = inner.split_whitespace().map(number).collect();
            numbers.ok_or_else(|| format!("expected numbers for {key}, got {value:?}"))
        };
        match key {
            "schema" => {
                h.schema = int()?;
                if !matches!(h.schema, -53 | -4..=8) {
                    return Err(format!("a schema is -4 to 8, or -53 for custom buckets, not {}", h.schema));
                }
            }
            "sum" => h.sum = float()?,
            "count" => h.count = float()?,
            "z_bucket" => h.zero_count = float()?,
            "z_bucket_w" => h.zero_threshold = float()?,
            "buckets" => h.positive_buckets = list()?,
            "n_buckets" => h.negative_buckets = list()?,
            "offset" => offset = int()?,
            "n_offset" => negative_offset = int()?,
            "custom_values" => h.custom_values = list()?,
            "counter_reset_hint" => {
                hint = true;
                h.counter_reset_hint = match value {
                    "unknown" => CounterResetHint::Unknown,
                    "reset" => CounterResetHint::Reset,
                    "not_reset" => CounterResetHint::NotReset,
                    "gauge" => CounterResetHint::Gauge,
                    _ => return Err(format!("unknown counter reset hint {value:?}")),
                };
            }
            _ => return Err(format!("unknown key {key:?} in a histogram")),
        }
        left = tail.trim_start();
    }
    h.positive_spans = spans(offset, h.positive_buckets.len());
    h.negative_spans = spans(negative_offset, h.negative_buckets.len());
    Ok((h, hint, rest))
}

fn spans(offset: i32, buckets: usize) -> Vec<Span> {
    match u32::try_from(buckets) {
        Ok(0) | Err(_) => Vec::new(),
        Ok(length) => vec![Span { offset, length }],
    }
}

/// The positions of a line of start times, each in ms relative to its sample: `_`, `_x5`, `-1m`, `-1mx5`, `-1m+1sx5`, and
/// `*`, `*x5` for the one before once more.
pub(super) fn start_times(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut positions: Vec<Option<i64>> = Vec::new();
    for word in text.split_whitespace() {
        let bad = || format!("expected a start time, got {word:?}");
        let (item, times) = match word.rsplit_once('x') {
            Some((item, times)) => {
                (item, times.parse::<usize>().ok().filter(|n| *n < MAX_POINTS).ok_or_else(bad)?)
            }
            None => (word, 0),
        };
        if positions.len() + times >= MAX_POINTS {
            return Err(format!("more than {MAX_POINTS} points on a line"));
        }
        if item == "_" {
            let n = if word == "_" { 1 } else { times };
            positions.resize(positions.len() + n, None);
            continue;
        }
        let before = || positions.iter().rev().find_map(|p| *p).unwrap_or(0);
        let again = (item == "*").then(|| (before(), ""));
        let (mut offset, rest) = again.or_else(|| signed_duration(item)).ok_or_else(bad)?;
        let step = match signed_duration(rest) {
            Some((step, "")) => step,
            None if rest.is_empty() => 0,
            _ => return Err(bad()),
        };
        positions.push(Some(offset));
        for _ in 0..times {
            offset += step;
            positions.push(Some(offset));
        }
    }
    Ok(positions)
}

/// A duration in ms with a sign or none, at the start of a text; a bare 0 is one too.
fn signed_duration(text: &str) -> Option<(i64, &str)> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let end = unsigned.find(['-', '+']).unwrap_or(unsigned.len());
    let (word, rest) = unsigned.split_at(end);
    let ms = if word == "0" { 0 } else { parse_duration_ms(word).ok()? };
    Some((if text.starts_with('-') { -ms } else { ms }, rest))
}

/// The name of a metric among labels, and the labels without it.
pub(super) fn renamed(labels: &Labels, name: &str) -> Labels {
    labels.with(METRIC_NAME, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(text: &str) -> Vec<f64> {
        let value = |p: Point| match p {
            Point::Float(v) => v,
            Point::None => -999.0,
            Point::Histogram { .. } => panic!("a histogram in {text}"),
        };
        points(text).unwrap().into_iter().map(value).collect()
    }

    #[test]
    fn reads_floats() {
        for (text, expected) in [
            ("1 2.5 -3 +4", vec![1.0, 2.5, -3.0, 4.0]),
            ("1x2", vec![1.0; 3]),
            ("0+10x3", vec![0.0, 10.0, 20.0, 30.0]),
            ("5-1x2 _ 7", vec![5.0, 4.0, 3.0, -999.0, 7.0]),
            ("_x3 1", vec![-999.0, -999.0, -999.0, 1.0]),
            ("-1e-3+2e1x1", vec![-0.001, 19.999]),
            ("0x5", vec![0.0; 6]),
            ("Inf -Inf", vec![f64::INFINITY, f64::NEG_INFINITY]),
        ] {
            assert_eq!(floats(text), expected, "{text}");
        }
        assert!(
            points("stalex1")
                .unwrap()
                .iter()
                .all(|p| matches!(p, Point::Float(v) if v.to_bits() == stale_marker().to_bits()))
        );
        for bad in
            ["a", "1y", "1x", "1+x3", "_y", "{{", "{{}}y", "{{foo:1}}", "{{count:a}}", "1x99999999999", "--1"]
        {
            assert!(points(bad).is_err(), "{bad}");
        }
        for many in ["1x1000000000", "1+1x99999999999999999999", "_x1000001", "stalex1000001"] {
            assert_eq!(points(many), Err("more than 1000000 points on a line".to_owned()), "{many}");
        }
        let error = points("{{schema:99}}").unwrap_err();
        assert_eq!(error, "a schema is -4 to 8, or -53 for custom buckets, not 99");
    }

    #[test]
    fn reads_histograms() {
        let all = points("{{schema:1 sum:-0.3 count:3 z_bucket:1 buckets:[1 2] offset:-2}} {{}}x1 {{count:1}}+{{count:2}}x2").unwrap();
        let counts: Vec<f64> = all
            .iter()
            .map(|p| if let Point::Histogram { value, .. } = p { value.count } else { panic!("{p:?}") })
            .collect();
        assert_eq!(counts, [3.0, 0.0, 0.0, 1.0, 3.0, 5.0]);
        let Point::Histogram { value, hint } = &all[0] else { panic!() };
        assert_eq!(value.positive_spans, [Span { offset: -2, length: 2 }]);
        assert_eq!((value.positive_buckets.as_slice(), value.schema, value.sum), (&[1.0, 2.0][..], 1, -0.3));
        assert!(!hint);
    }

    #[test]
    fn reads_series() {
        for (line, labels, rest) in [
            ("up{a=\"}\"} 1 2", "up{a=\"}\"}", "1 2"),
            ("{\"a.b\", c='d'} 1", "{\"a.b\", c=\"d\"}", "1"),
            ("{} 5", "{}", "5"),
            ("a:b\t_", "a:b", "_"),
            ("sum{by=`\\`}", "sum{by=\"\\\\\"}", ""),
        ] {
            let found = series(line).unwrap();
            assert_eq!((found.labels.to_string().as_str(), found.points), (labels, rest), "{line}");
        }
        assert!(series("up@st -1m").unwrap().start_times);
        for bad in ["", "{a", "up{a!=\"b\"} 1", "up{}1", "-5"] {
            assert!(series(bad).is_err(), "{bad}");
        }
    }
}
