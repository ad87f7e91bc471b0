use super::oracle::{self, body};
use super::*;
use crate::model::{CounterResetHint, FloatHistogram, Span};
use proptest::prelude::*;
use prost::Message as _;

fn labels(pairs: &[(String, String)]) -> Vec<oracle::Label> {
    pairs.iter().map(|(name, value)| oracle::Label { name: name.clone(), value: value.clone() }).collect()
}

proptest! {
    /// What prost writes is walked over as it was.
    #[test]
    fn counters_are_read_as_they_were_written(
        name in ".{1,8}",
        help in ".{0,8}",
        metrics in proptest::collection::vec(
            (proptest::collection::vec((".{0,5}", ".{0,5}"), 0..3), any::<i64>(), -1e9..1e9f64, 0i64..1 << 40, 0i32..999), 0..4),
    ) {
        let metric = metrics.iter().map(|(pairs, ts, value, seconds, ms)| oracle::Metric {
            label: labels(pairs),
            timestamp_ms: *ts,
            counter: Some(oracle::Counter {
                value: *value,
                created: Some(oracle::Time { seconds: *seconds, nanos: ms * 1_000_000 }),
                ..Default::default()
            }),
            ..Default::default()
        }).collect();
        let family = oracle::MetricFamily { name: name.clone(), help: help.clone(), metric, ..Default::default() };
        let body = body(&[family.clone(), family]);
        let mut families = MetricFamilies::new(&body);
        for _ in 0..2 {
            let mut family = families.next().unwrap().unwrap();
            prop_assert_eq!((family.name, family.help, family.unit), (name.as_str(), help.as_str(), ""));
            prop_assert_eq!(family.family_type, FamilyType::Counter);
            for (pairs, ts, value, seconds, ms) in &metrics {
                let metric = family.next_metric().unwrap().unwrap();
                let read: Vec<(String, String)> = metric.label_pairs()
                    .map(|p| p.map(|(n, v)| (n.to_owned(), v.to_owned()))).collect::<Result<_, _>>().unwrap();
                prop_assert_eq!(&read, pairs);
                prop_assert_eq!(metric.ts.unwrap_or(0), *ts);
                let number = metric.number(FamilyType::Counter).unwrap();
                prop_assert_eq!((number.value, number.start), (*value, seconds * 1000 + i64::from(*ms)));
            }
            prop_assert!(family.next_metric().unwrap().is_none());
        }
        prop_assert!(families.next().unwrap().is_none());
    }

    /// What the writer writes is read as it was, but for empty buckets.
    #[test]
    fn native_histograms_survive_a_round_trip(
        (schema, zero_threshold, zero_count, sum) in (-4i32..=8, 0.0..1.0f64, 0.0..9.0f64, -1e9..1e9f64),
        positive in proptest::collection::vec(0.5..1e9f64, 0..6),
        negative in proptest::collection::vec(0.5..1e9f64, 0..6),
        (from, gap) in (-1000i32..1000, 1i32..50),
        gauge in any::<bool>(),
    ) {
        let spans = |n: usize| match n {
            0 => vec![],
            1 => vec![Span { offset: from, length: 1 }],
            n => vec![Span { offset: from, length: 1 }, Span { offset: gap, length: n as u32 - 1 }],
        };
        let hint = if gauge { CounterResetHint::Gauge } else { CounterResetHint::Unknown };
        let h = FloatHistogram {
            counter_reset_hint: hint,
            schema, zero_threshold, zero_count, sum,
            count: zero_count + positive.iter().sum::<f64>() + negative.iter().sum::<f64>() + 1.0,
            positive_spans: spans(positive.len()),
            negative_spans: spans(negative.len()),
            positive_buckets: positive,
            negative_buckets: negative,
            custom_values: vec![],
        };
        let of = if gauge { FamilyType::GaugeHistogram } else { FamilyType::Histogram };
        let mut writer = Writer::new();
        writer.begin_family("other", FamilyType::Untyped);
        writer.untyped([("x", "1")], 5, 1.5);
        writer.begin_family("h", of);
        writer.histogram([("a", "b"), ("instance", "")], -7, &h);
        let body = writer.finish();
        let mut families = MetricFamilies::new(&body);
        let mut other = families.next().unwrap().unwrap();
        let metric = other.next_metric().unwrap().unwrap();
        prop_assert_eq!((metric.ts, metric.number(FamilyType::Untyped).unwrap().value), (Some(5), 1.5));
        let mut family = families.next().unwrap().unwrap();
        prop_assert_eq!((family.name, family.family_type), ("h", of));
        let metric = family.next_metric().unwrap().unwrap();
        let pairs: Vec<_> = metric.label_pairs().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(pairs, vec![("a", "b"), ("instance", "")]);
        prop_assert_eq!(metric.ts, Some(-7));
        let read = metric.histogram().unwrap();
        prop_assert!(read.is_native);
        prop_assert_eq!(read.native(of).unwrap(), h);
    }
}

#[test]
fn integer_histograms_and_their_classic_buckets_are_read() {
    let histogram = oracle::Histogram {
        count: 7,
        sum: 9.5,
        bucket: vec![
            oracle::Bucket { cumulative_count: 3, upper_bound: 1.0 },
            oracle::Bucket { cumulative_count: 7, upper_bound: f64::INFINITY },
        ],
        schema: 1,
        zero_threshold: 0.001,
        zero_count: 1,
        positive_span: vec![
            oracle::BucketSpan { offset: -1, length: 2 },
            oracle::BucketSpan { offset: 3, length: 1 },
        ],
        positive_delta: vec![1, 2, -1],
        ..Default::default()
    };
    let metric = vec![oracle::Metric { histogram: Some(histogram), ..Default::default() }];
    let body =
        body(&[oracle::MetricFamily { name: "h".into(), metric_type: 4, metric, ..Default::default() }]);
    let mut family = MetricFamilies::new(&body).next().unwrap().unwrap();
    let h = family.next_metric().unwrap().unwrap().histogram().unwrap();
    assert_eq!((h.count, h.sum, h.is_native), (7.0, 9.5, true));
    let buckets: Vec<_> = h.buckets.iter().map(|b| (b.upper_bound, b.cumulative_count)).collect();
    assert_eq!(buckets, [(1.0, 3.0), (f64::INFINITY, 7.0)]);
    let native = h.native(FamilyType::Histogram).unwrap();
    assert_eq!((native.positive_buckets, native.count, native.zero_count), (vec![1.0, 3.0, 2.0], 7.0, 1.0));
}

#[test]
fn custom_bounds_become_classic_buckets() {
    let h = FloatHistogram {
        schema: -53,
        count: 6.0,
        sum: 4.0,
        positive_spans: vec![Span { offset: 0, length: 1 }, Span { offset: 1, length: 2 }],
        positive_buckets: vec![1.0, 2.0, 3.0],
        custom_values: vec![1.0, 2.0, 5.0],
        ..FloatHistogram::default()
    };
    let mut writer = Writer::new();
    writer.begin_family("h", FamilyType::Histogram);
    writer.histogram([], 1, &h);
    let body = writer.finish();
    let mut family = MetricFamilies::new(&body).next().unwrap().unwrap();
    let read = family.next_metric().unwrap().unwrap().histogram().unwrap();
    assert!(!read.is_native);
    assert_eq!((read.count, read.sum), (6.0, 4.0));
    let buckets: Vec<_> = read.buckets.iter().map(|b| (b.upper_bound, b.cumulative_count)).collect();
    assert_eq!(buckets, [(1.0, 1.0), (2.0, 1.0), (5.0, 3.0)]);
}

#[test]
fn labels_may_be_scattered() {
    let label = |n: &str| oracle::Label { name: n.into(), value: "v".into() };
    let first = oracle::Metric { label: vec![label("a")], timestamp_ms: 5, ..Default::default() };
    let rest = oracle::Metric { label: vec![label("b")], ..Default::default() };
    let metric = [first.encode_to_vec(), rest.encode_to_vec()].concat();
    let mut message = oracle::MetricFamily { name: "m".into(), ..Default::default() }.encode_to_vec();
    crate::exposition::wire::push_bytes(&mut message, 4, &metric);
    let mut body = vec![message.len() as u8];
    body.extend(message);
    let mut family = MetricFamilies::new(&body).next().unwrap().unwrap();
    let metric = family.next_metric().unwrap().unwrap();
    let pairs: Vec<_> = metric.label_pairs().collect::<Result<_, _>>().unwrap();
    assert_eq!(pairs, [("a", "v"), ("b", "v")]);
}

#[test]
fn errors_name_the_place() {
    let good = oracle::MetricFamily { name: "m".into(), ..Default::default() };
    let family = |f: oracle::MetricFamily| body(&[good.clone(), f]);
    for (body, expected) in [
        (
            family(oracle::MetricFamily::default()),
            "byte 4 of the protobuf body: the metric family has no name",
        ),
        (
            family(oracle::MetricFamily { metric_type: 9, ..good.clone() }),
            "byte 4 of the protobuf body (metric family \"m\"): unknown metric type 9",
        ),
        (
            family(oracle::MetricFamily { unit: "bytes".into(), ..good.clone() }),
            "byte 4 of the protobuf body (metric family \"m\"): unit \"bytes\" not a suffix of the metric's name",
        ),
        (vec![5, 1], "byte 0 of the protobuf body: the message ends within a field"),
    ] {
        let mut families = MetricFamilies::new(&body);
        let error = loop {
            match families.next() {
                Ok(family) => assert!(family.is_some(), "{expected}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.to_string(), expected);
    }
    let fine = oracle::MetricFamily { name: "m_bytes_total".into(), unit: "bytes".into(), ..good };
    assert!(MetricFamilies::new(&body(&[fine])).next().is_ok());
}

#[test]
fn an_empty_histogram_stays_a_native_one() {
    let h = FloatHistogram {
        schema: 3,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![0.0, 0.0],
        ..FloatHistogram::default()
    };
    let mut writer = Writer::new();
    writer.begin_family("h", FamilyType::Histogram);
    writer.histogram([], 1, &h);
    let body = writer.finish();
    let mut family = MetricFamilies::new(&body).next().unwrap().unwrap();
    let read = family.next_metric().unwrap().unwrap().histogram().unwrap();
    assert!(read.is_native);
    let empty = FloatHistogram { positive_spans: vec![], positive_buckets: vec![], ..h };
    assert_eq!(read.native(FamilyType::Histogram).unwrap(), empty);
}
