//! Answers as a table, as CSV, as JSON.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde_json::Value;

use super::asked::Answer;
use crate::model::{Labels, METRIC_NAME};

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A line for each point, in columns.
    #[value(alias = "promql")]
    Table,
    /// `resultType` and `result` as the API gives them.
    Json,
    /// A column for each label, then timestamp and value.
    Csv,
}

/// Prints an answer.
///
/// # Errors
/// When `out` cannot be written to.
pub(super) fn answer(answer: &Answer, format: Format, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Json => writeln!(out, "{}", answer.data),
        Format::Table => table(&answer.data, out),
        Format::Csv => csv(&answer.data, out),
    }
}

/// One point of a series.
struct Point<'a> {
    labels: &'a Value,
    time: &'a Value,
    value: String,
}

/// Every point, series by series.
fn points(data: &Value) -> Vec<Point<'_>> {
    const NONE: &Value = &Value::Null;
    let result = &data["result"];
    if matches!(data["resultType"].as_str(), Some("scalar" | "string")) {
        return vec![Point { labels: NONE, time: &result[0], value: text(&result[1]) }];
    }
    let mut points = Vec::new();
    for series in result.as_array().map_or(&[][..], Vec::as_slice) {
        let labels = &series["metric"];
        let single = |name: &str| series.get(name).into_iter();
        let many = |name: &str| series.get(name).and_then(Value::as_array).into_iter().flatten();
        let all = single("value").chain(single("histogram")).chain(many("values")).chain(many("histograms"));
        points.extend(all.map(|p| Point { labels, time: &p[0], value: text(&p[1]) }));
    }
    points
}

/// A value, or a histogram as Prometheus writes one: `{count:3, sum:4, (1,2]:3}`.
fn text(value: &Value) -> String {
    let Value::Object(histogram) = value else { return plain(value) };
    let part = |name: &str| histogram.get(name).map(plain).unwrap_or_default();
    let mut out = format!("{{count:{}, sum:{}", part("count"), part("sum"));
    for bucket in histogram.get("buckets").and_then(Value::as_array).into_iter().flatten() {
        let (open, close) = match bucket[0].as_u64() {
            Some(0) => ('(', ']'),
            Some(1) => ('[', ')'),
            Some(2) => ('(', ')'),
            _ => ('[', ']'),
        };
        let [low, high, count] = [&bucket[1], &bucket[2], &bucket[3]].map(plain);
        out.push_str(&format!(", {open}{low},{high}{close}:{count}"));
    }
    out.push('}');
    out
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn labels(metric: &Value) -> Labels {
    let pairs = metric.as_object().into_iter().flatten();
    Labels::from_pairs(pairs.map(|(n, v)| (n.as_str(), v.as_str().unwrap_or(""))))
}

fn time(seconds: &Value) -> String {
    crate::api::rfc3339_seconds(seconds.as_f64().unwrap_or(0.0))
}

/// No column is padded to more characters than this.
const WIDTH_MAX: usize = 100;

fn table(data: &Value, out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<[String; 3]> = points(data)
        .into_iter()
        .map(|p| {
            let series = if p.labels.is_null() {
                data["resultType"].as_str().unwrap_or("").to_owned()
            } else {
                labels(p.labels).to_string()
            };
            [series, time(p.time), p.value]
        })
        .collect();
    let head = ["SERIES", "TIME", "VALUE"];
    // What is longer than most moves only its own row's columns.
    let lengths = |i: usize| rows.iter().map(move |r| r[i].chars().count()).filter(|n| *n <= WIDTH_MAX);
    let width = |i: usize| lengths(i).max().unwrap_or(0).max(head[i].len());
    let (first, second) = (width(0), width(1));
    if !rows.is_empty() {
        writeln!(out, "{:<first$}  {:<second$}  {}", head[0], head[1], head[2])?;
    }
    for [series, time, value] in &rows {
        writeln!(out, "{series:<first$}  {time:<second$}  {value}")?;
    }
    Ok(())
}

fn csv(data: &Value, out: &mut dyn Write) -> io::Result<()> {
    let points = points(data);
    let names: BTreeSet<&str> =
        points.iter().filter_map(|p| p.labels.as_object()).flatten().map(|(n, _)| n.as_str()).collect();
    // The metric name first, then the others by name.
    let (name, others): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|n| *n == METRIC_NAME);
    let names: Vec<&str> = name.into_iter().chain(others).collect();
    for column in &names {
        write!(out, "{},", field(column))?;
    }
    out.write_all(b"timestamp,value\n")?;
    for p in points {
        for column in &names {
            write!(out, "{},", field(p.labels[*column].as_str().unwrap_or("")))?;
        }
        writeln!(out, "{},{}", time(p.time), field(&p.value))?;
    }
    Ok(())
}

/// A field by RFC 4180.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(data: Value, format: Format, expected: &str) {
        let given = Answer { data, warnings: Vec::new(), infos: Vec::new() };
        let mut out = Vec::new();
        answer(&given, format, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_long_series_does_not_pad_the_others() {
        let long = "x".repeat(200);
        let vector = json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "up"}, "value": [0, "1"]},
            {"metric": {"__name__": long}, "value": [0, "2"]},
        ]});
        let expected = format!(
            "SERIES  TIME                  VALUE\nup      1970-01-01T00:00:00Z  1\n{long}  1970-01-01T00:00:00Z  2\n"
        );
        check(vector, Format::Table, &expected);
    }

    #[test]
    fn every_kind_of_answer_is_shown() {
        let vector = json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "up", "job": "a,b"}, "value": [1.5, "1"]},
            {"metric": {"le": "\""}, "histogram": [2, {"count": "3", "sum": "4", "buckets": [[0, "1", "2", "3"]]}]},
        ]});
        check(
            vector.clone(),
            Format::Table,
            "SERIES         TIME                      VALUE\n\
             up{job=\"a,b\"}  1970-01-01T00:00:01.500Z  1\n\
             {le=\"\\\"\"}      1970-01-01T00:00:02Z      {count:3, sum:4, (1,2]:3}\n",
        );
        check(
            vector,
            Format::Csv,
            "__name__,job,le,timestamp,value\n\
             up,\"a,b\",,1970-01-01T00:00:01.500Z,1\n\
             ,,\"\"\"\",1970-01-01T00:00:02Z,\"{count:3, sum:4, (1,2]:3}\"\n",
        );
        let matrix =
            json!({"resultType": "matrix", "result": [{"metric": {}, "values": [[1, "2"], [2, "3"]]}]});
        check(
            matrix.clone(),
            Format::Json,
            "{\"result\":[{\"metric\":{},\"values\":[[1,\"2\"],[2,\"3\"]]}],\"resultType\":\"matrix\"}\n",
        );
        check(matrix, Format::Csv, "timestamp,value\n1970-01-01T00:00:01Z,2\n1970-01-01T00:00:02Z,3\n");
        check(
            json!({"resultType": "scalar", "result": [1, "2"]}),
            Format::Csv,
            "timestamp,value\n1970-01-01T00:00:01Z,2\n",
        );
        check(json!({"resultType": "vector", "result": []}), Format::Table, "");
    }
}
