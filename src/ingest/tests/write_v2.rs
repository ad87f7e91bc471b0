use super::*;
use crate::exposition::remote_write::v2::oracle::{
    BucketSpan, Exemplar, Histogram, Metadata, Request, Sample, Table, TimeSeries,
};
use crate::exposition::remote_write::{Encoder, Encoding, compress_snappy};
use crate::model::{Labels, MetricType};
use prost::Message;

fn send(ingest: &Ingest, table: Table, timeseries: Vec<TimeSeries>) -> Result<RemoteWriteStats, IngestError> {
    let message = Request { symbols: table.symbols, timeseries }.encode_to_vec();
    ingest.remote_write(&compress_snappy(&message), Encoding::Snappy, RemoteWriteVersion::V2)
}

fn sample(seconds: i64, value: f64) -> Sample {
    Sample { value, timestamp: T0 + seconds * 1000, start_timestamp: 0 }
}

/// Two observations: one at most 1, one at most 2.
fn histogram(seconds: i64) -> Histogram {
    Histogram {
        count_int: 2,
        sum: 3.0,
        positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
        positive_deltas: vec![1, 0],
        timestamp: T0 + seconds * 1000,
        ..Default::default()
    }
}

const HISTOGRAM: &str = "{count:2, sum:3, (0.5,1]:1, (1,2]:1}";

fn whole(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(s, v)| ((*s).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn everything_of_a_series_is_taken() {
    let ingest = ingest_that(IngestFeatures::default());
    for round in 0..3i64 {
        // Other strings each time: a series is known by what they say and not by where they stand.
        let mut table = Table::default();
        for i in 0..round {
            table.of(&format!("unused {i}"));
        }
        let metadata = Metadata { metric_type: 1, help_ref: table.of("Help."), unit_ref: table.of("bytes") };
        let trace = table.pairs(&[("trace_id", "abc")]);
        let series = vec![
            TimeSeries {
                labels_refs: table.pairs(&[("__name__", "c_bytes_total"), ("x", "1")]),
                samples: vec![sample(round * 10, round as f64)],
                exemplars: vec![Exemplar { labels_refs: trace, value: 0.5, timestamp: T0 + round * 10_000 }],
                metadata: Some(metadata),
                created_timestamp: T0 - 1000,
                ..Default::default()
            },
            TimeSeries {
                labels_refs: table.pairs(&[("__name__", "h")]),
                histograms: vec![histogram(round * 10)],
                metadata: Some(Metadata { metric_type: 3, help_ref: 0, unit_ref: 0 }),
                ..Default::default()
            },
            TimeSeries {
                labels_refs: table.pairs(&[("__name__", "classic_bucket"), ("le", "+Inf")]),
                samples: vec![sample(round * 10, 1.0)],
                metadata: Some(Metadata { metric_type: 3, help_ref: 0, unit_ref: 0 }),
                ..Default::default()
            },
        ];
        let stats = send(&ingest, table, series).unwrap();
        assert_eq!(stats, RemoteWriteStats { samples: 2, histograms: 1, exemplars: 1, series: 3 });
    }
    let h = |s: i64| format!("{s}={HISTOGRAM}");
    let expected = whole(&[
        (r#"c_bytes_total{x="1"}"#, "0=0 10=1 20=2"),
        (r#"classic_bucket{le="+Inf"}"#, "0=1 10=1 20=1"),
        ("h", &format!("{} {} {}", h(0), h(10), h(20))),
    ]);
    assert_eq!(stored_whole(&ingest, ".*"), expected, "without a feature start times are left out");
    let metrics = &ingest.inner.metrics;
    assert_eq!((metrics.series_cache_misses.get(), metrics.series_cache_hits.get()), (3, 6));
    let known: BTreeMap<_, _> = ingest.storage().reader().metadata().into_iter().collect();
    assert_eq!(known.keys().collect::<Vec<_>>(), ["c_bytes_total", "classic", "h"]);
    let counter = &known["c_bytes_total"];
    assert_eq!((counter.metric_type, counter.help.as_str()), (MetricType::Counter, "Help."));
    assert_eq!(counter.unit, "bytes");
    let selector = vec![Matcher::equal("__name__", "c_bytes_total")];
    let exemplars = ingest.storage().reader().exemplars(&[selector], T0, T0 + 60_000);
    assert_eq!(exemplars[0].1.len(), 3);
}

#[test]
fn both_versions_know_one_series() {
    let ingest = ingest();
    let mut encoder = Encoder::new();
    encoder.series(&Labels::from_pairs([("__name__", "a"), ("x", "1")]), &[(T0, 1.0)], &[]);
    ingest
        .remote_write(&compress_snappy(&encoder.finish()), Encoding::Snappy, RemoteWriteVersion::V1)
        .unwrap();
    let mut table = Table::default();
    let labels_refs = table.pairs(&[("__name__", "a"), ("x", "1")]);
    send(
        &ingest,
        table,
        vec![TimeSeries { labels_refs, samples: vec![sample(1, 2.0)], ..Default::default() }],
    )
    .unwrap();
    check(&ingest, "a", &[(r#"a{x="1"}"#, "0=1 1=2")]);
    assert_eq!(ingest.inner.metrics.series_cache_hits.get(), 1);
}

#[test]
fn start_times_are_stored_with_st_storage() {
    let ingest = ingest_that(IngestFeatures { st_storage: true, ..IngestFeatures::default() });
    let mut table = Table::default();
    let stated = |seconds, start: i64| Sample { start_timestamp: T0 + start * 1000, ..sample(seconds, 1.0) };
    let series = vec![
        TimeSeries {
            labels_refs: table.pairs(&[("__name__", "a")]),
            samples: vec![sample(1, 0.0), stated(2, 1), stated(3, 9)],
            created_timestamp: T0 - 5000,
            ..Default::default()
        },
        TimeSeries {
            labels_refs: table.pairs(&[("__name__", "h")]),
            histograms: vec![Histogram { start_timestamp: T0 - 2000, ..histogram(1) }],
            ..Default::default()
        },
    ];
    let stats = send(&ingest, table, series).unwrap();
    assert_eq!((stats.samples, stats.histograms), (3, 1));
    let expected = whole(&[
        // A start after the sample is none.
        ("a", "1=0@-5 2=1@1 3=1"),
        ("h", &format!("1={HISTOGRAM}@-2")),
    ]);
    assert_eq!(stored_whole(&ingest, ".*"), expected);
}

#[test]
fn zeros_are_put_where_series_begin() {
    let ingest = ingest_that(IngestFeatures { zero_ingestion: true, ..IngestFeatures::default() });
    for (seconds, start) in [(10, -5), (20, -5), (30, 25), (40, 25)] {
        let mut table = Table::default();
        let series = |name, table: &mut Table| TimeSeries {
            labels_refs: table.pairs(&[("__name__", name)]),
            created_timestamp: T0 + start * 1000,
            ..Default::default()
        };
        let a = TimeSeries { samples: vec![sample(seconds, 7.0)], ..series("a", &mut table) };
        let h = TimeSeries { histograms: vec![histogram(seconds)], ..series("h", &mut table) };
        let same = TimeSeries { samples: vec![sample(seconds + 1, 8.0)], ..series("a", &mut table) };
        let stats = send(&ingest, table, vec![a, h, same]).unwrap();
        assert_eq!((stats.samples, stats.histograms), (2, 1));
    }
    let h = |s: i64| format!("{s}={HISTOGRAM}");
    let empty = "{count:0, sum:0}";
    let expected = whole(&[
        ("a", "-5=0 10=7 11=8 20=7 21=8 25=0 30=7 31=8 40=7 41=8"),
        ("h", &format!("-5={empty} {} {} 25={empty} {} {}", h(10), h(20), h(30), h(40))),
    ]);
    assert_eq!(stored_whole(&ingest, ".*"), expected);
}

#[test]
fn a_zero_that_has_no_room_is_no_refusal() {
    let storage =
        Storage::open(StorageOptions { out_of_order_window_ms: 600_000, ..StorageOptions::default() });
    let features = IngestFeatures { zero_ingestion: true, ..IngestFeatures::default() };
    let ingest = Ingest::with_features(storage.unwrap(), IngestLimits::default(), features, Arc::default());
    for (seconds, start) in [(10, 0), (20, 5), (30, 10), (40, 40)] {
        let mut table = Table::default();
        let series = TimeSeries {
            labels_refs: table.pairs(&[("__name__", "a")]),
            samples: vec![sample(seconds, 1.0)],
            created_timestamp: T0 + start * 1000,
            ..Default::default()
        };
        assert_eq!(send(&ingest, table, vec![series]).unwrap().samples, 1);
    }
    check(&ingest, "a", &[("a", "0=0 10=1 20=1 30=1 40=1")]);
}

#[test]
fn type_and_unit_become_labels() {
    let ingest = ingest_that(IngestFeatures { type_and_unit_labels: true, ..IngestFeatures::default() });
    let mut table = Table::default();
    let unit_ref = table.of("seconds");
    let mut series = |name, metric_type, unit_ref| TimeSeries {
        labels_refs: table.pairs(&[("__name__", name), ("__type__", "mine"), ("__unit__", "mine")]),
        samples: vec![sample(0, 1.0)],
        metadata: Some(Metadata { metric_type, help_ref: 0, unit_ref }),
        ..Default::default()
    };
    let all = vec![series("both", 2, unit_ref), series("one", 1, 0), series("none", 0, 0)];
    send(&ingest, table, all).unwrap();
    let expected = whole(&[
        (r#"both{__type__="gauge", __unit__="seconds"}"#, "0=1"),
        (r#"one{__type__="counter", __unit__="mine"}"#, "0=1"),
        (r#"none{__type__="mine", __unit__="mine"}"#, "0=1"),
    ]);
    assert_eq!(stored(&ingest, ".*"), expected);
}

#[test]
fn a_request_is_refused_in_part_or_whole() {
    let limits = IngestLimits { write_bytes_max: 10_000, ..IngestLimits::default() };
    let ingest = ingest_with(limits);
    let mut table = Table::default();
    let good = table.pairs(&[("__name__", "good")]);
    let nameless = table.pairs(&[("x", "1")]);
    let series =
        |labels_refs| TimeSeries { labels_refs, samples: vec![sample(0, 1.0)], ..Default::default() };
    let Err(IngestError::Partial { rejected: 1, stats, .. }) =
        send(&ingest, table, vec![series(good), series(nameless)])
    else {
        panic!("a series without a name is refused")
    };
    assert_eq!(stats.samples, 1);
    let refs = |refs: &[u32]| send(&ingest, Table::default(), vec![series(refs.to_vec())]).unwrap_err();
    assert!(matches!(refs(&[0, 7]), IngestError::Wire(_)), "no such symbol");
    assert!(matches!(refs(&[0]), IngestError::Wire(_)), "half a pair");
    // Short references to long text.
    let mut table = Table::default();
    let long = table.of(&"x".repeat(1000));
    let all = vec![series([0, long].repeat(20))];
    assert!(matches!(send(&ingest, table, all).unwrap_err(), IngestError::Wire(_)));
    check(&ingest, ".*", &[("good", "0=1")]);
}

#[test]
fn exemplars_that_come_too_late_are_told_of() {
    let ingest = ingest_that(IngestFeatures::default());
    let mut table = Table::default();
    let exemplar =
        |seconds: i64| Exemplar { timestamp: T0 + seconds * 1000, value: 1.0, labels_refs: vec![] };
    let series = TimeSeries {
        labels_refs: table.pairs(&[("__name__", "a")]),
        samples: vec![sample(10, 1.0)],
        exemplars: vec![exemplar(10)],
        ..Default::default()
    };
    let mut late = series.clone();
    (late.samples, late.exemplars) = (vec![sample(20, 1.0)], vec![exemplar(10), exemplar(5)]);
    let symbols = table.symbols.clone();
    send(&ingest, table, vec![series]).unwrap();
    let message = Request { symbols, timeseries: vec![late] }.encode_to_vec();
    let sent = ingest.remote_write(&compress_snappy(&message), Encoding::Snappy, RemoteWriteVersion::V2);
    let Err(IngestError::Partial { rejected: 1, reason, stats }) = sent else { panic!("{sent:?}") };
    assert_eq!((reason.as_str(), stats.samples, stats.exemplars), ("out of order exemplar for a", 1, 0));
}
