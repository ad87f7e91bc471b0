use super::*;
use crate::exposition::remote_write::{Encoder, Encoding, compress_snappy};
use crate::model::{FloatHistogram, Labels, Metadata, MetricType, Span, stale_marker};

fn labels(name: &str, x: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("x", x)])
}

fn send(ingest: &Ingest, encoder: Encoder) -> Result<RemoteWriteStats, IngestError> {
    ingest.remote_write(&compress_snappy(&encoder.finish()), Encoding::Snappy, RemoteWriteVersion::V1)
}

#[test]
fn a_sender_that_repeats_itself_is_understood_from_memory() {
    let ingest = ingest();
    for round in 0..3 {
        let mut encoder = Encoder::new();
        for x in ["1", "2", "3"] {
            encoder.series(&labels("a", x), &[(T0 + round * 1000, round as f64)], &[]);
        }
        let stats = send(&ingest, encoder).unwrap();
        assert_eq!(stats, RemoteWriteStats { samples: 3, series: 3, ..RemoteWriteStats::default() });
    }
    let expected = "0=0 1=1 2=2";
    check(&ingest, "a", &[(r#"a{x="1"}"#, expected), (r#"a{x="2"}"#, expected), (r#"a{x="3"}"#, expected)]);
    let metrics = &ingest.inner.metrics;
    assert_eq!((metrics.series_cache_misses.get(), metrics.series_cache_hits.get()), (3, 6));
}

#[test]
fn bad_series_are_refused_and_the_rest_is_taken() {
    let limits =
        IngestLimits { label_value_bytes_max: 10, labels_per_series_max: 3, ..IngestLimits::default() };
    let ingest = ingest_with(limits);
    let bad: [(&[(&str, &str)], &str); 6] = [
        (&[("x", "1")], "the series has no metric name"),
        (&[("__name__", ""), ("x", "1")], "the series has no metric name"),
        (&[("__name__", "a"), ("", "1")], "a label has an empty name"),
        (&[("__name__", "a"), ("x", "1"), ("x", "2")], "label name \"x\" is not unique"),
        (
            &[("__name__", "a"), ("x", "12345678901")],
            "the value of label \"x\" of \"a\" has 11 bytes, more than the limit of 10",
        ),
        (
            &[("__name__", "a"), ("x", "1"), ("y", "2"), ("z", "3")],
            "the series \"a\" has 4 labels, more than the limit of 3",
        ),
    ];
    for (i, (pairs, expected)) in bad.iter().enumerate() {
        let at = T0 + 1000 * i as i64;
        let mut encoder = Encoder::new();
        encoder.pairs(pairs.iter().copied(), &[(at, 1.0)], &[]);
        encoder.series(&labels("good", "1"), &[(at, 2.0)], &[]);
        let Err(IngestError::Partial { rejected: 1, reason, stats }) = send(&ingest, encoder) else {
            panic!("{pairs:?}")
        };
        assert_eq!((reason.as_str(), stats.samples), (*expected, 1));
    }
    check(&ingest, ".*", &[(r#"good{x="1"}"#, "0=2 1=2 2=2 3=2 4=2 5=2")]);
}

#[test]
fn labels_in_any_order_are_one_series() {
    let ingest = ingest();
    let mut encoder = Encoder::new();
    encoder.pairs([("x", "1"), ("__name__", "a"), ("empty", "")], &[(T0, 1.0)], &[]);
    encoder.pairs([("__name__", "a"), ("x", "1")], &[(T0 + 1000, 2.0), (T0 + 2000, stale_marker())], &[]);
    send(&ingest, encoder).unwrap();
    check(&ingest, "a", &[(r#"a{x="1"}"#, "0=1 1=2 2=stale")]);
}

#[test]
fn histograms_and_metadata_are_kept() {
    let ingest = ingest();
    let h = FloatHistogram {
        count: 3.0,
        sum: 5.0,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![1.0, 2.0],
        ..FloatHistogram::default()
    };
    let mut encoder = Encoder::new();
    encoder.series(&labels("h", "1"), &[], &[(T0, &h)]);
    let metadata = Metadata { metric_type: MetricType::Histogram, help: "Help.".into(), unit: String::new() };
    encoder.metadata("h", &metadata);
    let stats = send(&ingest, encoder).unwrap();
    assert_eq!(stats, RemoteWriteStats { histograms: 1, series: 1, ..RemoteWriteStats::default() });
    let series = ingest.storage().reader().select(&[Matcher::equal("__name__", "h")], T0, T0);
    let mut samples = Samples::default();
    series[0].read(T0, T0, &mut samples);
    assert_eq!(*samples.hists[0], h);
    assert_eq!(ingest.storage().reader().metadata(), [("h".to_owned(), metadata)]);
}

#[test]
fn what_is_no_request_is_refused_whole() {
    let ingest = ingest_with(IngestLimits { write_bytes_max: 1000, ..IngestLimits::default() });
    let refuse =
        |body: &[u8]| ingest.remote_write(body, Encoding::Snappy, RemoteWriteVersion::V1).unwrap_err();
    assert!(matches!(refuse(b"nonsense"), IngestError::Decompress(_)));
    assert!(matches!(refuse(&compress_snappy(&[0; 1001])), IngestError::Decompress(_)));
    let mut encoder = Encoder::new();
    encoder.series(&labels("a", "1"), &[(T0, 1.0)], &[]);
    let mut message = encoder.finish();
    message.extend([0x0a, 0x7f]);
    assert!(matches!(refuse(&compress_snappy(&message)), IngestError::Wire(_)));
    check(&ingest, ".*", &[]);
}

#[test]
fn samples_without_room_are_refused_with_the_reason() {
    let ingest = ingest();
    let request = |floats: &[(Timestamp, f64)]| {
        let mut encoder = Encoder::new();
        encoder.series(&labels("a", "1"), floats, &[]);
        encoder.series(&labels("b", "1"), &[floats[0]], &[]);
        encoder
    };
    send(&ingest, request(&[(T0 + 1000, 1.0)])).unwrap();
    // The same request again changes nothing and is no error.
    send(&ingest, request(&[(T0 + 1000, 1.0)])).unwrap();
    let Err(IngestError::Partial { rejected: 1, reason, stats }) =
        send(&ingest, request(&[(T0 + 2000, 2.0), (T0 + 2000, 3.0)]))
    else {
        panic!("the second value of one time is refused")
    };
    assert_eq!((reason.as_str(), stats.samples), ("duplicate sample for timestamp", 2));
    check(&ingest, "[ab]", &[(r#"a{x="1"}"#, "1=1 2=2"), (r#"b{x="1"}"#, "1=1 2=2")]);
}

#[test]
fn what_few_bytes_stand_for_is_bounded_over_all_requests() {
    let ingest = ingest_with(IngestLimits { requests_bytes_max: 8 << 20, ..IngestLimits::default() });
    let send = |message: &[u8]| {
        ingest.remote_write(&compress_snappy(message), Encoding::Snappy, RemoteWriteVersion::V1).unwrap_err()
    };
    // Series without labels take nothing.
    let unnamed = send(&[0x0a, 0].repeat(1 << 20));
    assert!(matches!(unnamed, IngestError::Partial { rejected: 1_048_576, .. }), "{unnamed}");
    // One empty label each, an empty histogram, an empty exemplar: all of them more than they look.
    for part in [&[0x0a, 2, 0x0a, 0][..], &[0x0a, 4, 0x0a, 0, 0x22, 0], &[0x0a, 4, 0x0a, 0, 0x1a, 0]] {
        let error = send(&part.repeat(500_000));
        assert!(matches!(error, IngestError::Busy(_)), "{error}");
    }
    assert_eq!(ingest.budget().used(), 0);
}
