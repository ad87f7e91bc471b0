//! JSON as Prometheus writes it: the envelope, sample values, timestamps, label sets, native histograms. Answers
//! are written by hand into one buffer, for a range query can give millions of points.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;

use super::held::Whole;
use crate::model::{FloatHistogram, Labels, Timestamp};
use crate::promql::Annotations;

/// Bodies above this size are handed to the connection in pieces, so that compressing one does not hold a worker
/// for long.
pub const PIECE_BYTES: usize = 64 * 1024;

/// `"text"` with what JSON demands escaped.
pub fn write_str(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let special = |b: u8| b < 0x20 || b == b'"' || b == b'\\';
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    // Nearly every text is plain: looked at without a branch for each byte.
    if !bytes.iter().fold(false, |any, b| any | special(*b)) {
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    let mut plain_from = 0;
    for (i, b) in bytes.iter().enumerate() {
        if !special(*b) {
            continue;
        }
        out.extend_from_slice(&bytes[plain_from..i]);
        plain_from = i + 1;
        match b {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(b >> 4)]);
                out.push(HEX[usize::from(b & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[plain_from..]);
    out.push(b'"');
}

/// Room for any time and any value, with what stands around them.
const LINE_BYTES: usize = 64;

/// One point's text, made aside: the answer then grows by it at once, with a copy of fixed size.
struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Line {
    fn new() -> Self {
        Line { bytes: [0; LINE_BYTES], len: 0 }
    }

    #[inline]
    fn push(&mut self, text: &[u8]) {
        self.bytes[self.len..self.len + text.len()].copy_from_slice(text);
        self.len += text.len();
    }

    /// See [`write_timestamp`].
    #[inline]
    fn timestamp(&mut self, ts: Timestamp) {
        if ts < 0 {
            self.push(b"-");
        }
        let magnitude = ts.unsigned_abs();
        self.push(itoa::Buffer::new().format(magnitude / 1000).as_bytes());
        let ms = magnitude % 1000;
        if ms != 0 {
            let digit = |d: u64| b'0' + (d % 10) as u8;
            self.push(&[b'.', digit(ms / 100), digit(ms / 10), digit(ms)]);
        }
    }

    /// See [`write_float`].
    #[inline]
    fn float(&mut self, value: f64) {
        let magnitude = value.abs();
        if magnitude < 9_007_199_254_740_992.0 && value.fract() == 0.0 {
            if value == 0.0 && value.is_sign_negative() {
                self.push(b"-");
            }
            #[allow(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
            let whole = value as i64;
            self.push(itoa::Buffer::new().format(whole).as_bytes());
        } else if (1e-4..1e15).contains(&magnitude) {
            // Within these magnitudes there is no exponent; and there is a fraction, so it does not end in `.0`.
            self.push(zmij::Buffer::new().format_finite(value).as_bytes());
        } else {
            self.rare_float(value);
        }
    }

    #[cold]
    fn rare_float(&mut self, value: f64) {
        if value.is_nan() {
            self.push(b"NaN");
        } else if value.is_infinite() {
            self.push(if value > 0.0 { b"+Inf" } else { b"-Inf" });
        } else if (1e-6..1e21).contains(&value.abs()) {
            self.push(value.to_string().as_bytes());
        } else {
            self.push(exponent_form(value).as_bytes());
        }
    }

    #[inline]
    fn append_to(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.len;
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }
}

/// A value as Go's `strconv.FormatFloat(v, 'f', -1, 64)` writes it, except that magnitudes below 1e-6 and from 1e21
/// get an exponent. Source: Prometheus, `util/jsonutil`.
pub fn write_float(out: &mut Vec<u8>, value: f64) {
    let mut line = Line::new();
    line.float(value);
    line.append_to(out);
}

/// A value as Go's `strconv.FormatFloat(v, 'f', -1, 64)` writes it, never with an exponent: so Prometheus shows
/// scalars.
#[must_use]
pub fn plain_form(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    value.to_string()
}

/// A value as Go's `strconv.FormatFloat(v, 'e', -1, 64)` writes it: `1e+00`.
#[must_use]
pub fn exponent_form(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// Milliseconds as seconds: `1234`, `1234.500`.
pub fn write_timestamp(out: &mut Vec<u8>, ts: Timestamp) {
    let mut line = Line::new();
    line.timestamp(ts);
    line.append_to(out);
}

/// `[TIME,"VALUE"]`
#[inline]
pub fn write_point(out: &mut Vec<u8>, ts: Timestamp, value: f64) {
    let mut line = Line::new();
    line.push(b"[");
    line.timestamp(ts);
    line.push(b",\"");
    line.float(value);
    line.push(b"\"]");
    line.append_to(out);
}

/// A label set as an object.
pub fn write_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_str(out, name);
        out.push(b':');
        write_str(out, value);
    }
    out.push(b'}');
}

/// `[TIME,{"count":"…","sum":"…","buckets":[[BOUNDARIES,"LOW","HIGH","COUNT"],…]}]`; empty buckets are left out.
/// BOUNDARIES says which bounds belong to the bucket: 0 the upper, 1 the lower, 2 none, 3 both.
pub fn write_histogram_point(out: &mut Vec<u8>, ts: Timestamp, histogram: &FloatHistogram) {
    out.push(b'[');
    write_timestamp(out, ts);
    out.extend_from_slice(b",{\"count\":\"");
    write_float(out, histogram.count);
    out.extend_from_slice(b"\",\"sum\":\"");
    write_float(out, histogram.sum);
    out.push(b'"');
    let mut first = true;
    for bucket in histogram.all_buckets().into_iter().filter(|b| b.count != 0.0) {
        out.extend_from_slice(if first { b",\"buckets\":[[" as &[u8] } else { b",[" });
        first = false;
        out.push(match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => b'0',
            (true, false) => b'1',
            (false, false) => b'2',
            (true, true) => b'3',
        });
        for number in [bucket.lower, bucket.upper, bucket.count] {
            out.extend_from_slice(b",\"");
            write_float(out, number);
            out.push(b'"');
        }
        out.push(b']');
    }
    if !first {
        out.push(b']');
    }
    out.extend_from_slice(b"}]");
}

/// The beginning of a successful answer; what follows is the data.
#[must_use]
pub fn begin() -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(br#"{"status":"success","data":"#);
    out
}

/// How many warnings, and how many infos, an answer shows: each step of a query can have one of its own.
const ANNOTATIONS_MAX: usize = 10;

/// `,"warnings":[…],"infos":[…]`, each if there are any: at most [`ANNOTATIONS_MAX`], and how many more there are in
/// Prometheus's words.
pub fn write_annotations(out: &mut Vec<u8>, annotations: &Annotations) {
    let lists = [("warnings", "warning", &annotations.warnings), ("infos", "info", &annotations.infos)];
    for (name, kind, list) in lists {
        if list.is_empty() {
            continue;
        }
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":[");
        for (i, text) in list.iter().take(ANNOTATIONS_MAX).enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_str(out, text);
        }
        if let Some(more @ 1..) = list.len().checked_sub(ANNOTATIONS_MAX) {
            out.push(b',');
            write_str(out, &format!("{more} more {kind} annotations omitted"));
        }
        out.push(b']');
    }
}

/// The end of a successful answer.
#[must_use]
pub fn finish(mut out: Vec<u8>, annotations: &Annotations) -> Response {
    write_annotations(&mut out, annotations);
    out.push(b'}');
    response(StatusCode::OK, out)
}

/// A successful answer with `data` as serde writes it. NaN and infinities become null.
#[must_use]
pub fn success<T: Serialize>(data: &T) -> Response {
    success_with(data, &Annotations::default())
}

/// A successful answer with warnings.
#[must_use]
pub fn success_with<T: Serialize>(data: &T, annotations: &Annotations) -> Response {
    use axum::response::IntoResponse as _;
    let mut out = begin();
    match serde_json::to_writer(&mut out, data) {
        Ok(()) => finish(out, annotations),
        Err(e) => super::ApiError::internal("writing the answer", e).into_response(),
    }
}

/// The warnings that a list was cut at the `limit` that the client gave, and that something could not be read.
#[must_use]
pub fn truncated(is_truncated: bool, partial: Option<&str>) -> Annotations {
    let truncated = is_truncated.then_some("results truncated due to limit");
    let warnings = truncated.into_iter().chain(partial).map(str::to_owned).collect();
    Annotations { warnings, infos: Vec::new() }
}

/// A JSON body.
#[must_use]
pub fn response(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(in_pieces(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A body that reaches the connection piece by piece if it is large.
pub fn in_pieces(body: Vec<u8>) -> Body {
    if body.len() <= PIECE_BYTES {
        return Body::from(body);
    }
    Body::new(Whole(Bytes::from(body)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Span;

    fn float(v: f64) -> String {
        let mut out = Vec::new();
        write_float(&mut out, v);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ten_annotations_of_each_kind_are_shown() {
        let texts = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
        let written = |warnings: usize, infos: usize| {
            let mut out = Vec::new();
            write_annotations(&mut out, &Annotations { warnings: texts(warnings), infos: texts(infos) });
            String::from_utf8(out).unwrap()
        };
        let ten = r#"["0","1","2","3","4","5","6","7","8","9""#;
        assert_eq!(written(0, 1), r#","infos":["0"]"#);
        assert_eq!(written(10, 0), format!(r#","warnings":{ten}]"#));
        assert_eq!(
            written(11, 30),
            format!(
                r#","warnings":{ten},"1 more warning annotations omitted"],"infos":{ten},"20 more info annotations omitted"]"#
            )
        );
    }

    #[test]
    fn floats_read_as_go_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-3.0, "-3"),
            (1e6, "1000000"),
            (1.5, "1.5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.234e22, "1.234e+22"),
            (0.000_001, "0.000001"),
            (0.000_012_5, "0.0000125"),
            (1e-7, "1e-07"),
            (-2.5e-9, "-2.5e-09"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (1.234_567_890_123_456_8e18, "1234567890123456800"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(float(value), text);
        }
        assert_eq!(exponent_form(1.0), "1e+00");
        assert_eq!(exponent_form(0.015), "1.5e-02");
        assert_eq!(exponent_form(1e100), "1e+100");
        assert_eq!(
            [1e-7, 1e21, -0.0, f64::NAN].map(plain_form),
            ["0.0000001", "1000000000000000000000", "-0", "NaN"]
        );
    }

    #[test]
    fn timestamps_have_three_decimals_or_none() {
        for (ts, text) in [(0, "0"), (1_500, "1.500"), (1_000, "1"), (1_007, "1.007"), (-1_250, "-1.250")] {
            let mut out = Vec::new();
            write_timestamp(&mut out, ts);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn histograms_show_their_filled_buckets() {
        let histogram = FloatHistogram {
            schema: 0,
            zero_threshold: 0.001,
            zero_count: 1.0,
            count: 6.0,
            sum: 7.5,
            positive_spans: vec![Span { offset: 0, length: 3 }],
            positive_buckets: vec![2.0, 0.0, 1.0],
            negative_spans: vec![Span { offset: 1, length: 1 }],
            negative_buckets: vec![2.0],
            ..FloatHistogram::default()
        };
        let mut out = Vec::new();
        write_histogram_point(&mut out, 1_000, &histogram);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"[1,{"count":"6","sum":"7.5","buckets":[[1,"-2","-1","2"],[3,"-0.001","0.001","1"],[0,"0.5","1","2"],[0,"2","4","1"]]}]"#
        );
    }

    proptest! {
        #[test]
        fn any_string_and_float_survives(text in ".*", value in proptest::num::f64::NORMAL) {
            let mut out = Vec::new();
            write_str(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            prop_assert_eq!(float(value).parse::<f64>().unwrap().to_bits(), value.to_bits());
        }
    }
}
