//! The answer to a query, written piece by piece as the connection takes it: of a large result there is never more
//! text in memory than a piece, each series is freed once it is written, and a client that goes away ends it all.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;

use super::json::{self, PIECE_BYTES};
use crate::promql::{
    Annotations, Charge, MatrixSeries, PointValue, ProfileNode, QueryResult, QueryStats, StepSamples, Value,
    VectorSample,
};

/// What the parts of answering a query took.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueryTimes {
    /// Waiting for a turn.
    pub queued: Duration,
    pub parsing: Duration,
    pub evaluating: Duration,
}

/// A successful answer. With `times` it carries statistics, and the profile if the result has one.
pub(super) fn response(result: QueryResult, times: Option<QueryTimes>) -> Response {
    let mut pieces = pieces(result, times);
    let first = pieces.next().unwrap_or_default();
    let body = match pieces.next() {
        None => Body::from(first),
        Some(second) => {
            let all = [first, second].into_iter().chain(pieces).map(Ok::<Bytes, Infallible>);
            Body::from_stream(futures_util::stream::iter(all))
        }
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The text of the answer, in pieces of bounded size.
pub fn pieces(result: QueryResult, times: Option<QueryTimes>) -> impl Iterator<Item = Bytes> + Send {
    let QueryResult { value, annotations, stats, samples_per_step, profile, charge } = result;
    Pieces {
        text: json::begin(),
        rest: begun(value),
        charge,
        tail: Some(Tail { annotations, stats, samples_per_step, profile, times }),
    }
}

/// What is still to be written.
struct Pieces {
    /// Written and not yet handed out.
    text: Vec<u8>,
    rest: Rest,
    /// What of the result is still in memory.
    charge: Charge,
    tail: Option<Tail>,
}

enum Rest {
    /// One element, which needs no bracket.
    Single(Value),
    Vector(std::vec::IntoIter<VectorSample>, bool),
    Matrix(std::vec::IntoIter<MatrixSeries>, Option<Current>, bool),
    Done,
}

/// A series of which a part is written.
struct Current {
    series: MatrixSeries,
    floats: usize,
    histograms: usize,
}

struct Tail {
    annotations: Annotations,
    stats: QueryStats,
    samples_per_step: Vec<StepSamples>,
    profile: Vec<ProfileNode>,
    times: Option<QueryTimes>,
}

fn begun(value: Value) -> Rest {
    match value {
        Value::Vector(vector) => Rest::Vector(vector.into_iter(), true),
        Value::Matrix(matrix) => Rest::Matrix(matrix.into_iter(), None, true),
        single => Rest::Single(single),
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        while self.text.len() < PIECE_BYTES {
            if !self.write_some() {
                match self.tail.take() {
                    Some(tail) => tail.write(&mut self.text),
                    None => break,
                }
            }
        }
        if self.text.is_empty() {
            return None;
        }
        let next = if self.tail.is_some() { Vec::with_capacity(PIECE_BYTES + 1024) } else { Vec::new() };
        Some(Bytes::from(std::mem::replace(&mut self.text, next)))
    }
}

impl Pieces {
    /// Writes an element, or a part of a large one; `false` when the last one stands there.
    fn write_some(&mut self) -> bool {
        let out = &mut self.text;
        match &mut self.rest {
            Rest::Done => return false,
            Rest::Single(value) => {
                write_single(out, value);
                self.rest = Rest::Done;
            }
            Rest::Vector(samples, first) => {
                if *first {
                    out.extend_from_slice(b"{\"resultType\":\"vector\",\"result\":[");
                }
                match samples.next() {
                    Some(sample) => {
                        if !std::mem::take(first) {
                            out.push(b',');
                        }
                        write_vector_sample(out, &sample);
                    }
                    None => {
                        out.push(b']');
                        self.rest = Rest::Done;
                    }
                }
            }
            Rest::Matrix(list, current, first) => {
                if let Some(part) = current {
                    if part.write(out) {
                        self.charge.lower(part.series.bytes());
                        *current = None;
                    }
                    return true;
                }
                if *first {
                    out.extend_from_slice(b"{\"resultType\":\"matrix\",\"result\":[");
                }
                match list.next() {
                    Some(series) => {
                        if !std::mem::take(first) {
                            out.push(b',');
                        }
                        out.extend_from_slice(b"{\"metric\":");
                        json::write_labels(out, &series.labels);
                        *current = Some(Current { series, floats: 0, histograms: 0 });
                    }
                    None => {
                        out.push(b']');
                        self.rest = Rest::Done;
                    }
                }
            }
        }
        true
    }
}

impl Current {
    /// Writes on until the piece is full; `true` when the series stands there as a whole.
    fn write(&mut self, out: &mut Vec<u8>) -> bool {
        let MatrixSeries { floats, histograms, .. } = &self.series;
        for (i, (ts, value)) in floats.iter().enumerate().skip(self.floats) {
            out.extend_from_slice(if i == 0 { b",\"values\":[" as &[u8] } else { b"," });
            json::write_point(out, *ts, *value);
            if i + 1 == floats.len() {
                out.push(b']');
            }
            self.floats = i + 1;
            if out.len() >= PIECE_BYTES {
                return false;
            }
        }
        for (i, (ts, histogram)) in histograms.iter().enumerate().skip(self.histograms) {
            out.extend_from_slice(if i == 0 { b",\"histograms\":[" as &[u8] } else { b"," });
            json::write_histogram_point(out, *ts, histogram);
            if i + 1 == histograms.len() {
                out.push(b']');
            }
            self.histograms = i + 1;
            if out.len() >= PIECE_BYTES {
                return false;
            }
        }
        out.push(b'}');
        true
    }
}

fn write_single(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Scalar { ts, value } => {
            out.extend_from_slice(b"{\"resultType\":\"scalar\",\"result\":[");
            json::write_timestamp(out, *ts);
            out.extend_from_slice(b",\"");
            out.extend_from_slice(json::plain_form(*value).as_bytes());
            out.extend_from_slice(b"\"]");
        }
        Value::String { ts, value } => {
            out.extend_from_slice(b"{\"resultType\":\"string\",\"result\":[");
            json::write_timestamp(out, *ts);
            out.push(b',');
            json::write_str(out, value);
            out.push(b']');
        }
        Value::Vector(_) | Value::Matrix(_) => {}
    }
}

fn write_vector_sample(out: &mut Vec<u8>, sample: &VectorSample) {
    out.extend_from_slice(b"{\"metric\":");
    json::write_labels(out, &sample.labels);
    match &sample.value {
        PointValue::Float(value) => {
            out.extend_from_slice(b",\"value\":");
            json::write_point(out, sample.ts, *value);
        }
        PointValue::Histogram(histogram) => {
            out.extend_from_slice(b",\"histogram\":");
            json::write_histogram_point(out, sample.ts, histogram);
        }
    }
    out.push(b'}');
}

impl Tail {
    /// What follows the result, to the end of the answer.
    fn write(&self, out: &mut Vec<u8>) {
        if let Some(times) = &self.times {
            self.write_stats(out, times);
        }
        out.push(b'}');
        json::write_annotations(out, &self.annotations);
        out.push(b'}');
    }

    fn write_steps(&self, out: &mut Vec<u8>, name: &str, samples: impl Fn(&StepSamples) -> u64) {
        for (i, step) in self.samples_per_step.iter().enumerate() {
            let before = if i == 0 { format!("\"{name}\":[[") } else { ",[".to_owned() };
            out.extend_from_slice(before.as_bytes());
            json::write_timestamp(out, step.ts);
            out.extend_from_slice(format!(",{}]", samples(step)).as_bytes());
        }
        if !self.samples_per_step.is_empty() {
            out.extend_from_slice(b"],");
        }
    }

    fn write_stats(&self, out: &mut Vec<u8>, times: &QueryTimes) {
        let (parsing, evaluating) = (times.parsing.as_secs_f64(), times.evaluating.as_secs_f64());
        let queued = times.queued.as_secs_f64();
        let stats = &self.stats;
        let timings = format!(
            ",\"stats\":{{\"timings\":{{\"evalTotalTime\":{},\"resultSortTime\":0,\"queryPreparationTime\":{parsing},\
             \"innerEvalTime\":{evaluating},\"execQueueTime\":{queued},\"execTotalTime\":{}}},\"samples\":{{",
            parsing + evaluating,
            queued + parsing + evaluating,
        );
        out.extend_from_slice(timings.as_bytes());
        self.write_steps(out, "totalQueryableSamplesPerStep", |s| s.total);
        self.write_steps(out, "samplesReadPerStep", |s| s.read);
        let sums = format!(
            "\"totalQueryableSamples\":{},\"samplesRead\":{},\"peakSamples\":{}}},\"series\":{{\"selected\":{}}},\"memory\":{{\"peakBytes\":{}}}",
            stats.total_samples,
            stats.samples_read,
            stats.peak_samples,
            stats.series_selected,
            stats.peak_bytes
        );
        out.extend_from_slice(sums.as_bytes());
        for (i, node) in self.profile.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b",\"plan\":[" as &[u8] } else { b"," });
            write_node(out, node);
        }
        if !self.profile.is_empty() {
            out.push(b']');
        }
        out.push(b'}');
    }
}

fn write_node(out: &mut Vec<u8>, node: &ProfileNode) {
    out.extend_from_slice(format!("{{\"depth\":{},\"operator\":", node.depth).as_bytes());
    json::write_str(out, &node.operator);
    out.extend_from_slice(
        format!(
            ",\"start\":{},\"end\":{},\"evaluations\":{},\"totalSeconds\":{},\"ownSeconds\":{},\"series\":{},\"samples\":{}",
            node.pos.start,
            node.pos.end,
            node.evaluations,
            node.total.as_secs_f64(),
            node.own.as_secs_f64(),
            node.series,
            node.samples
        )
        .as_bytes(),
    );
    if let Some((series, samples)) = node.selected {
        let selected = format!(",\"selectedSeries\":{series},\"readSamples\":{samples}");
        out.extend_from_slice(selected.as_bytes());
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    fn text(value: Value) -> (Vec<usize>, String) {
        let result = QueryResult {
            value,
            annotations: Annotations::default(),
            stats: QueryStats::default(),
            samples_per_step: Vec::new(),
            profile: Vec::new(),
            charge: Charge::default(),
        };
        let (mut sizes, mut all) = (Vec::new(), Vec::new());
        for piece in pieces(result, None) {
            sizes.push(piece.len());
            all.extend_from_slice(&piece);
        }
        (sizes, String::from_utf8(all).unwrap())
    }

    #[test]
    fn a_small_answer_is_one_piece() {
        for (value, expected) in [
            (Value::Vector(Vec::new()), r#"{"resultType":"vector","result":[]}"#),
            (Value::Matrix(Vec::new()), r#"{"resultType":"matrix","result":[]}"#),
            (Value::Scalar { ts: 1500, value: 2.0 }, r#"{"resultType":"scalar","result":[1.500,"2"]}"#),
            (
                Value::Matrix(vec![
                    MatrixSeries { floats: vec![(0, 1.0), (1000, 2.0)], ..MatrixSeries::default() },
                    MatrixSeries { floats: vec![(0, 3.0)], ..MatrixSeries::default() },
                ]),
                r#"{"resultType":"matrix","result":[{"metric":{},"values":[[0,"1"],[1,"2"]]},{"metric":{},"values":[[0,"3"]]}]}"#,
            ),
        ] {
            let (sizes, text) = text(value);
            assert_eq!(text, format!(r#"{{"status":"success","data":{expected}}}"#));
            assert_eq!(sizes.len(), 1);
        }
    }

    #[test]
    fn what_is_written_is_no_longer_charged() {
        use crate::clock::Clock;
        use crate::promql::{Engine, EngineOptions, QueryRequest};
        use crate::storage::{Storage, StorageOptions};
        let storage = Storage::open(StorageOptions::default()).unwrap();
        let mut appender = storage.appender();
        for n in 0..20 {
            let labels = Labels::from_pairs([("__name__", "x"), ("n", n.to_string().as_str())]);
            let series = appender.series(&labels).unwrap();
            appender.append(series, 1_700_000_000_000, f64::from(n)).unwrap();
        }
        appender.commit().unwrap();
        let engine = Engine::new(
            EngineOptions { lookback_ms: 86_400_000, ..EngineOptions::default() },
            Clock::system(),
        );
        let expr = crate::promql::parse("x").unwrap();
        let request = QueryRequest::range(1_700_000_000_000, 1_700_000_000_000 + 9_000_000, 1_000);
        let result = engine.evaluate("x", &expr, &request, &storage.reader()).unwrap();
        let whole = engine.held_bytes();
        assert!(whole >= 20 * 9_000 * 16, "{whole}");
        let mut pieces = pieces(result, None);
        let before = engine.held_bytes();
        let sizes: Vec<(usize, u64)> =
            std::iter::from_fn(|| pieces.next().map(|p| (p.len(), engine.held_bytes()))).collect();
        assert!(sizes.len() > 20 && sizes.windows(2).all(|w| w[0].1 >= w[1].1), "{sizes:?}");
        assert!(before == whole && sizes[sizes.len() / 2].1 < whole * 2 / 3, "{sizes:?}");
        drop(pieces);
        assert_eq!(engine.held_bytes(), 0);
    }

    #[test]
    fn a_large_answer_is_whole_and_its_pieces_are_small() {
        let series = |n: usize| MatrixSeries {
            labels: Labels::from_pairs([("n", n.to_string().as_str())]),
            floats: (0..20_000).map(|i| (i * 1000, i as f64 * 0.37)).collect(),
            ..MatrixSeries::default()
        };
        let (sizes, text) = text(Value::Matrix((0..5).map(series).collect()));
        assert!(sizes.len() > 20 && sizes.iter().all(|s| *s < PIECE_BYTES + 1000), "{sizes:?}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let result = json["data"]["result"].as_array().unwrap();
        assert_eq!(result.len(), 5);
        for (n, series) in result.iter().enumerate() {
            assert_eq!(series["metric"]["n"], n.to_string());
            assert_eq!(series["values"].as_array().unwrap().len(), 20_000);
            assert_eq!(series["values"][19_999][0], 19_999);
        }
    }
}
