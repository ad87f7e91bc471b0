use super::*;
use crate::model::{CounterResetHint, FloatHistogram, Labels, Metadata, MetricType, Span};
use proptest::prelude::*;
use prost::Message;

/// The messages as prost derives them: the oracle.
mod oracle {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        pub timeseries: Vec<TimeSeries>,
        #[prost(message, repeated, tag = "3")]
        pub metadata: Vec<MetricMetadata>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub exemplars: Vec<Exemplar>,
        #[prost(message, repeated, tag = "4")]
        pub histograms: Vec<Histogram>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Label {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub value: String,
    }
    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub struct Sample {
        #[prost(double, tag = "1")]
        pub value: f64,
        #[prost(int64, tag = "2")]
        pub timestamp: i64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Exemplar {
        #[prost(message, repeated, tag = "1")]
        pub labels: Vec<Label>,
        #[prost(double, tag = "2")]
        pub value: f64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct MetricMetadata {
        #[prost(int32, tag = "1")]
        pub metric_type: i32,
        #[prost(string, tag = "2")]
        pub family: String,
        #[prost(string, tag = "4")]
        pub help: String,
        #[prost(string, tag = "5")]
        pub unit: String,
    }
    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub struct BucketSpan {
        #[prost(sint32, tag = "1")]
        pub offset: i32,
        #[prost(uint32, tag = "2")]
        pub length: u32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Histogram {
        #[prost(uint64, tag = "1")]
        pub count_int: u64,
        #[prost(double, tag = "3")]
        pub sum: f64,
        #[prost(sint32, tag = "4")]
        pub schema: i32,
        #[prost(double, tag = "5")]
        pub zero_threshold: f64,
        #[prost(uint64, tag = "6")]
        pub zero_count_int: u64,
        #[prost(message, repeated, tag = "11")]
        pub positive_spans: Vec<BucketSpan>,
        #[prost(sint64, repeated, tag = "12")]
        pub positive_deltas: Vec<i64>,
        #[prost(int32, tag = "14")]
        pub reset_hint: i32,
        #[prost(int64, tag = "15")]
        pub timestamp: i64,
    }
}

/// A series as the walk sees it: labels, floats by bits.
type Seen = (Vec<(String, String)>, Vec<(i64, u64)>);

fn walk(message: &[u8]) -> Result<(Vec<Seen>, usize), WireError> {
    let mut request = WriteRequest::new(message);
    let (mut out, mut families) = (Vec::new(), 0);
    while let Some(item) = request.next()? {
        match item {
            Item::Metadata(_) => families += 1,
            Item::Series(series) => {
                let pairs: Result<Vec<_>, _> =
                    series.label_pairs().map(|p| p.map(|(n, v)| (n.to_owned(), v.to_owned()))).collect();
                let mut values = series.values();
                let mut floats = Vec::new();
                while let Some(value) = values.next()? {
                    match value {
                        Value::Float { ts, value } => floats.push((ts, value.to_bits())),
                        Value::Histogram(_) => drop(value.histogram()?),
                        Value::Exemplar(_) => drop(value.exemplar()?),
                    }
                }
                out.push((pairs?, floats));
            }
        }
    }
    Ok((out, families))
}

fn request() -> impl Strategy<Value = oracle::WriteRequest> {
    let label = (".{0,4}", ".{0,200}").prop_map(|(name, value)| oracle::Label { name, value });
    let sample =
        (any::<f64>(), any::<i64>()).prop_map(|(value, timestamp)| oracle::Sample { value, timestamp });
    let exemplar = any::<f64>().prop_map(|value| oracle::Exemplar { labels: Vec::new(), value });
    let series = (
        proptest::collection::vec(label, 0..5),
        proptest::collection::vec(sample, 0..4),
        proptest::collection::vec(exemplar, 0..2),
    )
        .prop_map(|(labels, samples, exemplars)| oracle::TimeSeries {
            labels,
            samples,
            exemplars,
            histograms: Vec::new(),
        });
    let metadata = (0i32..9, ".{0,5}").prop_map(|(metric_type, family)| oracle::MetricMetadata {
        metric_type,
        family,
        ..Default::default()
    });
    (proptest::collection::vec(series, 0..5), proptest::collection::vec(metadata, 0..3))
        .prop_map(|(timeseries, metadata)| oracle::WriteRequest { timeseries, metadata })
}

#[test]
fn bytes_that_are_no_fields_are_refused() {
    let next = |message: &[u8]| WriteRequest::new(message).next().err();
    assert_eq!(next(&[0; 100]), Some(WireError::FieldZero));
    assert_eq!(next(&[0x0a, 0x7f]), Some(WireError::Truncated));
    assert_eq!(next(&[0x17]), Some(WireError::WireType(7)));
}

proptest! {
    #[test]
    fn the_walk_sees_what_prost_sees(request in request()) {
        let (seen, families) = walk(&request.encode_to_vec()).unwrap();
        let expected: Vec<Seen> = request.timeseries.iter().map(|s| (
            s.labels.iter().map(|l| (l.name.clone(), l.value.clone())).collect(),
            // A field that equals zero is not sent, so minus zero arrives as zero.
            s.samples.iter().map(|x| (x.timestamp, if x.value == 0.0 { 0 } else { x.value.to_bits() })).collect(),
        )).collect();
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(families, request.metadata.len());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        drop(walk(&bytes));
        for encoding in [Encoding::Snappy, Encoding::Zstd] {
            drop(decompress(encoding, &bytes, 1000, &mut Vec::new()));
        }
    }

    #[test]
    fn a_broken_request_does_not_make_it_panic(request in request(), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = request.encode_to_vec();
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = with }
        drop(walk(&bytes));
    }

    #[test]
    fn what_we_write_prost_reads(pairs in proptest::collection::btree_map("[a-z]{1,3}", ".{1,9}", 0..4), floats in proptest::collection::vec((any::<i64>(), -1e9f64..1e9), 0..4)) {
        let labels = Labels::from_pairs(&pairs);
        let mut encoder = Encoder::new();
        encoder.series(&labels, &floats, &[]);
        encoder.metadata("f", &Metadata { metric_type: MetricType::Gauge, help: "h".into(), unit: String::new() });
        let back = oracle::WriteRequest::decode(encoder.finish().as_slice()).unwrap();
        let got: Vec<_> = back.timeseries[0].labels.iter().map(|l| (l.name.clone(), l.value.clone())).collect();
        prop_assert_eq!(got, pairs.into_iter().collect::<Vec<_>>());
        let got: Vec<_> = back.timeseries[0].samples.iter().map(|s| (s.timestamp, s.value)).collect();
        prop_assert_eq!(got, floats);
        prop_assert_eq!((back.metadata[0].metric_type, back.metadata[0].help.as_str()), (2, "h"));
    }
}

fn first_histogram(message: &[u8]) -> Result<(i64, FloatHistogram), WireError> {
    let Ok(Some(Item::Series(series))) = WriteRequest::new(message).next() else { panic!("no series") };
    let value = series.values().next()?.unwrap();
    Ok(value.histogram()?.unwrap())
}

#[test]
fn integer_histograms_become_counts() {
    let histogram = oracle::Histogram {
        count_int: 12,
        sum: 18.4,
        schema: 1,
        zero_threshold: 0.001,
        zero_count_int: 2,
        positive_spans: vec![
            oracle::BucketSpan { offset: -2, length: 2 },
            oracle::BucketSpan { offset: 1, length: 2 },
        ],
        positive_deltas: vec![1, 2, -2, 4],
        reset_hint: 3,
        timestamp: 77,
    };
    let series = oracle::TimeSeries { histograms: vec![histogram.clone()], ..Default::default() };
    let request = oracle::WriteRequest { timeseries: vec![series.clone()], metadata: vec![] };
    let (ts, h) = first_histogram(&request.encode_to_vec()).unwrap();
    assert_eq!((ts, h.count, h.schema, h.zero_count), (77, 12.0, 1, 2.0));
    assert_eq!(h.counter_reset_hint, CounterResetHint::Gauge);
    assert_eq!(h.positive_spans, [Span { offset: -2, length: 2 }, Span { offset: 1, length: 2 }]);
    assert_eq!(h.positive_buckets, [1.0, 3.0, 1.0, 5.0]);

    let mut encoder = Encoder::new();
    encoder.series(&Labels::empty(), &[], &[(77, &h)]);
    assert_eq!(first_histogram(&encoder.finish()), Ok((77, h)));

    let decoded = |histogram: oracle::Histogram| {
        let series = oracle::TimeSeries { histograms: vec![histogram], ..Default::default() };
        first_histogram(&oracle::WriteRequest { timeseries: vec![series], metadata: vec![] }.encode_to_vec())
    };
    // Finer than any: bucket 31 of schema 12 lies in bucket 2 of schema 8.
    let fine = oracle::Histogram {
        schema: 12,
        positive_spans: vec![oracle::BucketSpan { offset: 31, length: 4 }],
        ..histogram.clone()
    };
    let (_, fine) = decoded(fine).unwrap();
    assert_eq!((fine.schema, fine.positive_spans), (8, vec![Span { offset: 2, length: 2 }]));
    assert_eq!(fine.positive_buckets, [4.0, 6.0]);
    // An observation of NaN is counted, and in no bucket.
    assert!(decoded(oracle::Histogram { count_int: 13, sum: f64::NAN, ..histogram.clone() }).is_ok());

    for broken in [
        oracle::Histogram { schema: 53, ..histogram.clone() },
        oracle::Histogram { schema: -5, ..histogram.clone() },
        oracle::Histogram { count_int: 11, ..histogram.clone() },
        oracle::Histogram { count_int: 13, ..histogram.clone() },
        oracle::Histogram { count_int: 11, sum: f64::NAN, ..histogram.clone() },
        oracle::Histogram { positive_deltas: vec![1, 2, 3], ..histogram.clone() },
        oracle::Histogram { positive_deltas: vec![1, -2, 3, 4], ..histogram },
    ] {
        assert!(matches!(decoded(broken), Err(WireError::Histogram(_))));
    }
}

#[test]
fn a_body_is_measured_before_it_is_decompressed() {
    let message = vec![7u8; 10_000];
    let mut out = Vec::new();
    let snappy = compress_snappy(&message);
    let zstd = zstd::bulk::compress(&message, 1).unwrap();
    for (encoding, body) in [(Encoding::Snappy, &snappy), (Encoding::Zstd, &zstd)] {
        decompress(encoding, body, 10_000, &mut out).unwrap();
        assert_eq!(out, message);
        assert_eq!(
            decompress(encoding, body, 9_999, &mut out),
            Err(DecompressError::TooLarge { limit: 9_999 })
        );
        let cut = &body[..body.len() - 3];
        assert!(matches!(decompress(encoding, cut, 10_000, &mut out), Err(DecompressError::Corrupt { .. })));
    }
    // A few bytes that state 4 GB are refused without reserving them.
    let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
    assert_eq!(
        decompress(Encoding::Snappy, &bomb, 1000, &mut out),
        Err(DecompressError::TooLarge { limit: 1000 })
    );
}
