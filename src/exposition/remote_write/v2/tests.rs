use super::oracle;
use super::*;
use crate::exposition::remote_write::LabelPairs;
use crate::model::Span;
use proptest::prelude::*;
use prost::Message;

fn walk(message: &[u8]) -> Result<oracle::Request, WireError> {
    let mut symbols = Symbols::default();
    symbols.read(message)?;
    let mut out = oracle::Request::default();
    for i in 0..symbols.at.len() {
        out.symbols.push(symbols.text(message, i as u32)?.to_owned());
    }
    let (mut request, mut refs) = (Request::new(message), Vec::new());
    while let Some(mut series) = request.next(&mut refs)? {
        let mut one = oracle::TimeSeries { labels_refs: refs.clone(), ..Default::default() };
        let m = series.metadata()?;
        one.metadata = Some(oracle::Metadata {
            metric_type: (m.metric_type as i32 + 1) % 8,
            help_ref: m.help_ref,
            unit_ref: m.unit_ref,
        });
        while let Some(item) = series.next_item()? {
            match item {
                SeriesItem::Float { ts, start, value } => {
                    one.samples.push(oracle::Sample { value, timestamp: ts, start_timestamp: start });
                }
                SeriesItem::Histogram(message) => {
                    let (timestamp, start_timestamp, value) = series.histogram(message)?;
                    one.histograms.push(oracle::Histogram {
                        count_int: value.count as u64,
                        positive_spans: spans(&value.positive_spans),
                        // All are of one bucket.
                        positive_deltas: value.positive_buckets.iter().map(|b| *b as i64).collect(),
                        sum: value.sum,
                        timestamp,
                        start_timestamp,
                        ..Default::default()
                    });
                }
                SeriesItem::Exemplar(message) => {
                    let (labels_refs, value, timestamp) = exemplar(message)?;
                    one.exemplars.push(oracle::Exemplar { labels_refs, value, timestamp });
                }
            }
        }
        out.timeseries.push(one);
    }
    Ok(out)
}

fn spans(spans: &[Span]) -> Vec<oracle::BucketSpan> {
    spans.iter().map(|s| oracle::BucketSpan { offset: s.offset, length: s.length }).collect()
}

fn a_series() -> impl Strategy<Value = oracle::TimeSeries> {
    let times = (any::<i64>(), 1i64..i64::MAX);
    let sample = (-1e9..1e9f64, times.clone()).prop_map(|(value, (timestamp, start_timestamp))| {
        oracle::Sample { value, timestamp, start_timestamp }
    });
    let histogram =
        (0u64..1 << 40, -1e9..1e9f64, times).prop_map(|(count_int, sum, (timestamp, start_timestamp))| {
            oracle::Histogram {
                count_int,
                positive_spans: vec![oracle::BucketSpan { offset: 0, length: 1 }],
                positive_deltas: vec![count_int as i64],
                sum,
                timestamp,
                start_timestamp,
                ..Default::default()
            }
        });
    let refs = proptest::collection::vec(0u32..300, 0..4)
        .prop_map(|refs| refs.iter().flat_map(|r| [*r, r + 1]).collect::<Vec<u32>>());
    let exemplar = (refs.clone(), -1e9..1e9f64, any::<i64>())
        .prop_map(|(labels_refs, value, timestamp)| oracle::Exemplar { labels_refs, value, timestamp });
    let many = 0..4usize;
    (
        refs,
        proptest::collection::vec(sample, many.clone()),
        proptest::collection::vec(histogram, many.clone()),
        proptest::collection::vec(exemplar, many),
        (any::<(u16, u16)>(), 0i32..8),
    )
        .prop_map(
            |(labels_refs, samples, histograms, exemplars, ((help_ref, unit_ref), metric_type))| {
                oracle::TimeSeries {
                    labels_refs,
                    samples,
                    histograms,
                    exemplars,
                    metadata: Some(oracle::Metadata {
                        metric_type,
                        help_ref: help_ref.into(),
                        unit_ref: unit_ref.into(),
                    }),
                    created_timestamp: 0,
                }
            },
        )
}

proptest! {
    /// What prost writes is walked over as it was.
    #[test]
    fn a_request_is_read_as_it_was_written(
        symbols in proptest::collection::vec(".{0,6}", 0..6),
        timeseries in proptest::collection::vec(a_series(), 0..4),
    ) {
        let request = oracle::Request { symbols, timeseries };
        prop_assert_eq!(walk(&request.encode_to_vec()).unwrap(), request);
    }

    /// A label is written with the length that it has.
    #[test]
    fn a_label_is_read_as_it_was_pushed(name in ".{0,200}", value in ".{0,200}") {
        let mut out = Vec::new();
        push_label(&mut out, name.as_bytes(), value.as_bytes());
        push_label(&mut out, b"next", b"");
        let pairs: Vec<_> = LabelPairs::new(&out).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(pairs, vec![(name.as_str(), value.as_str()), ("next", "")]);
    }
}

#[test]
fn the_start_of_a_series_is_that_of_its_samples_unless_they_say_other() {
    let message = oracle::Request {
        symbols: vec![],
        timeseries: vec![oracle::TimeSeries {
            samples: vec![
                oracle::Sample { value: 1.0, timestamp: 10, start_timestamp: 0 },
                oracle::Sample { value: 1.0, timestamp: 20, start_timestamp: 7 },
            ],
            histograms: vec![oracle::Histogram { timestamp: 30, ..Default::default() }],
            created_timestamp: 5,
            ..Default::default()
        }],
    }
    .encode_to_vec();
    let read = walk(&message).unwrap();
    let starts: Vec<i64> = read.timeseries[0].samples.iter().map(|s| s.start_timestamp).collect();
    assert_eq!((starts, read.timeseries[0].histograms[0].start_timestamp), (vec![5, 7], 5));
}

#[test]
fn what_refers_to_nothing_is_refused() {
    let mut symbols = Symbols::default();
    let message =
        oracle::Request { symbols: vec![String::new(), "a".into()], timeseries: vec![] }.encode_to_vec();
    symbols.read(&message).unwrap();
    assert_eq!(symbols.text(&message, 1), Ok("a"));
    assert_eq!(symbols.text(&message, 2), Err(WireError::Symbol { reference: 2, count: 2 }));
    let odd = oracle::Request {
        timeseries: vec![oracle::TimeSeries { labels_refs: vec![1], ..Default::default() }],
        ..Default::default()
    };
    assert_eq!(walk(&odd.encode_to_vec()), Err(WireError::OddReferences));
    let many = oracle::Request {
        timeseries: vec![oracle::TimeSeries { labels_refs: vec![0; REFS_MAX + 2], ..Default::default() }],
        ..Default::default()
    };
    assert!(matches!(walk(&many.encode_to_vec()), Err(WireError::TooMany { .. })));
}
