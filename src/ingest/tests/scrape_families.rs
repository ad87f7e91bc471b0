//! Scrapes in which the family matters: protobuf, start times, type and unit as labels, converted histograms.

use super::*;
use crate::exposition::PROTOBUF_CONTENT_TYPE;
use crate::exposition::protobuf::oracle::{
    Bucket, BucketSpan, Counter, Exemplar, Histogram, Label, Metric, MetricFamily, Pair, Summary, Time, body,
};

const TEXT: &str = "text/plain; version=0.0.4";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0";

/// Scrapes these bodies 10 s apart into one target.
fn scrape_all(
    ingest: &Ingest,
    options: &ScrapeOptions,
    content_type: &str,
    bodies: &[impl AsRef<[u8]>],
) -> Vec<Result<(usize, usize), String>> {
    let mut cache = ScrapeCache::default();
    let scrape = |(i, body): (usize, _)| {
        let ts = T0 + 10_000 * i as i64;
        let body: &[u8] = AsRef::<[u8]>::as_ref(body);
        let stats = ingest.scrape(&mut cache, options, body, Some(content_type), ts, 0.5);
        stats.map(|s| (s.scraped, s.series_added)).map_err(|e| e.to_string())
    };
    bodies.iter().enumerate().map(scrape).collect()
}

fn expect(ingest: &Ingest, name: &str, expected: &[(&str, &str)]) {
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(s, v)| ((*s).to_owned(), (*v).to_owned())).collect();
    assert_eq!(stored_whole(ingest, name), expected);
}

fn time(seconds: i64) -> Option<Time> {
    Some(Time { seconds: T0 / 1000 + seconds, nanos: 0 })
}

fn label(name: &str, value: &str) -> Label {
    Label { name: name.into(), value: value.into() }
}

/// A histogram of both kinds with `n` observations in each of two buckets.
fn histogram(n: u64, created: Option<Time>) -> Histogram {
    Histogram {
        count: 2 * n,
        sum: 3.0,
        bucket: vec![
            Bucket { cumulative_count: n, upper_bound: 1.0 },
            Bucket { cumulative_count: 2 * n, upper_bound: 2.0 },
        ],
        positive_span: vec![BucketSpan { offset: 0, length: 2 }],
        positive_delta: vec![n as i64, 0],
        created,
        ..Default::default()
    }
}

fn families(n: u64) -> Vec<u8> {
    let counter = |value, created| Some(Counter { value, created, exemplar: None });
    let metric = |label: Vec<Label>| Metric { label, ..Default::default() };
    body(&[
        MetricFamily {
            name: "c_total".into(),
            help: "Help.".into(),
            metric: vec![
                Metric { counter: counter(n as f64, time(-5)), ..metric(vec![label("x", "1")]) },
                Metric { counter: counter(2.0, None), ..metric(vec![label("x", "2")]) },
            ],
            ..Default::default()
        },
        MetricFamily {
            name: "s".into(),
            metric_type: 2,
            metric: vec![Metric {
                summary: Some(Summary {
                    count: 4,
                    sum: 5.0,
                    quantile: vec![Pair { a: 0.5, b: 1.25 }],
                    created: None,
                }),
                ..metric(vec![])
            }],
            ..Default::default()
        },
        MetricFamily {
            name: "h".into(),
            metric_type: 4,
            metric: vec![Metric { histogram: Some(histogram(n, time(-5))), ..metric(vec![]) }],
            ..Default::default()
        },
    ])
}

fn with(histograms: HistogramOptions) -> ScrapeOptions {
    ScrapeOptions { histograms, ..ScrapeOptions::default() }
}

const NATIVE: HistogramOptions = HistogramOptions {
    native: true,
    classic_always: false,
    classic_converted: false,
    bucket_limit: 0,
    schema_max: SCHEMA_MAX,
};

const FLOATS: &[(&str, &str)] = &[
    (r#"c_total{x="1"}"#, "0=1 10=2 20=3"),
    (r#"c_total{x="2"}"#, "0=2 10=2 20=2"),
    ("s_count", "0=4 10=4 20=4"),
    ("s_sum", "0=5 10=5 20=5"),
    (r#"s{quantile="0.5"}"#, "0=1.25 10=1.25 20=1.25"),
];
const CLASSIC: &[(&str, &str)] = &[
    (r#"h_bucket{le="+Inf"}"#, "0=2 10=4 20=6"),
    (r#"h_bucket{le="1.0"}"#, "0=1 10=2 20=3"),
    (r#"h_bucket{le="2.0"}"#, "0=2 10=4 20=6"),
    ("h_count", "0=2 10=4 20=6"),
    ("h_sum", "0=3 10=3 20=3"),
];
const EXPONENTIAL: &str = "0={count:2, sum:3, (0.5,1]:1, (1,2]:1} 10={count:4, sum:3, (0.5,1]:2, (1,2]:2} \
                           20={count:6, sum:3, (0.5,1]:3, (1,2]:3}";
const CONVERTED: &str = "0={count:2, sum:3, [-Inf,1]:1, (1,2]:1} 10={count:4, sum:3, [-Inf,1]:2, (1,2]:2} \
                         20={count:6, sum:3, [-Inf,1]:3, (1,2]:3}";

#[test]
fn protobuf_becomes_the_series_that_text_has_or_native_histograms() {
    let converted = HistogramOptions { native: false, classic_converted: true, ..NATIVE };
    let both = HistogramOptions { classic_converted: true, classic_always: true, ..NATIVE };
    type Case<'a> = (HistogramOptions, &'a [(&'a str, &'a str)], Option<&'a str>);
    let cases: [Case<'_>; 5] = [
        (HistogramOptions::default(), CLASSIC, None),
        (NATIVE, &[], Some(EXPONENTIAL)),
        (HistogramOptions { classic_always: true, ..NATIVE }, CLASSIC, Some(EXPONENTIAL)),
        (converted, &[], Some(CONVERTED)),
        (both, CLASSIC, Some(EXPONENTIAL)),
    ];
    for (options, classic, native) in cases {
        let ingest = ingest();
        let bodies: Vec<Vec<u8>> = (1..=3).map(families).collect();
        let count = FLOATS.len() + classic.len() + usize::from(native.is_some());
        let got = scrape_all(&ingest, &with(options), PROTOBUF_CONTENT_TYPE, &bodies);
        assert_eq!(got, [Ok((count, count)), Ok((count, 0)), Ok((count, 0))], "{options:?}");
        let native: Vec<(&str, &str)> = native.into_iter().map(|h| ("h", h)).collect();
        expect(&ingest, "c_total|s|s_.*|h.*", &[FLOATS, classic, &native].concat());
        let known: BTreeMap<_, _> = ingest.storage().reader().metadata().into_iter().collect();
        assert_eq!(known["c_total"].help, "Help.");
        assert_eq!(known["h"].metric_type, crate::model::MetricType::Histogram);
    }
}

#[test]
fn a_native_histogram_that_goes_away_is_stale() {
    let ingest = ingest();
    let bodies = [families(1), body(&[]), families(2)];
    let got = scrape_all(&ingest, &with(NATIVE), PROTOBUF_CONTENT_TYPE, &bodies);
    assert_eq!(got, [Ok((6, 6)), Ok((0, 0)), Ok((6, 6))]);
    let h = |n: u64| format!("{{count:{}, sum:3, (0.5,1]:{n}, (1,2]:{n}}}", 2 * n);
    expect(&ingest, "h", &[("h", &format!("0={} 10=stale 20={}", h(1), h(2)))]);
}

#[test]
fn resolution_is_lowered_to_the_limits() {
    let fine = |schema, n: u32| {
        let h = Histogram {
            count: u64::from(n),
            schema,
            positive_span: vec![BucketSpan { offset: 1, length: n }],
            positive_delta: (0..n).map(|i| i64::from(i == 0)).collect(),
            ..Default::default()
        };
        let metric = vec![Metric { histogram: Some(h), ..Default::default() }];
        body(&[MetricFamily { name: "h".into(), metric_type: 4, metric, ..Default::default() }])
    };
    let schema = |options: HistogramOptions, body: Vec<u8>| {
        let ingest = ingest();
        scrape_all(&ingest, &with(options), PROTOBUF_CONTENT_TYPE, &[body]).remove(0)?;
        let series = ingest.storage().reader().select(&[Matcher::equal("__name__", "h")], T0, T0);
        let mut samples = Samples::default();
        series[0].read(T0, T0, &mut samples);
        let h = &samples.hists[0];
        Ok::<_, String>((h.schema, h.positive_buckets.len()))
    };
    assert_eq!(schema(NATIVE, fine(5, 64)), Ok((5, 64)));
    assert_eq!(schema(HistogramOptions { schema_max: 2, ..NATIVE }, fine(5, 64)), Ok((2, 8)));
    assert_eq!(schema(HistogramOptions { bucket_limit: 20, ..NATIVE }, fine(5, 64)), Ok((3, 16)));
    let refused = schema(HistogramOptions { bucket_limit: 1, ..NATIVE }, fine(-4, 2)).unwrap_err();
    assert!(refused.starts_with("histogram bucket limit exceeded"), "{refused}");
    let broken = {
        let mut h = histogram(1, None);
        h.positive_delta.push(1);
        let metric = vec![Metric { histogram: Some(h), ..Default::default() }];
        body(&[MetricFamily { name: "h".into(), metric_type: 4, metric, ..Default::default() }])
    };
    let refused = schema(NATIVE, broken).unwrap_err();
    assert!(
        refused.starts_with("byte 0 of the protobuf body (metric family \"h\"): invalid native"),
        "{refused}"
    );
}

#[test]
fn start_times_of_protobuf_are_stored_or_become_zeros() {
    let bodies: Vec<Vec<u8>> = (1..=2).map(families).collect();
    let stored = ingest_that(IngestFeatures { st_storage: true, ..IngestFeatures::default() });
    scrape_all(&stored, &with(NATIVE), PROTOBUF_CONTENT_TYPE, &bodies);
    let h = |n: u64| format!("{{count:{}, sum:3, (0.5,1]:{n}, (1,2]:{n}}}", 2 * n);
    expect(&stored, "c_total", &[(r#"c_total{x="1"}"#, "0=1@-5 10=2@-5"), (r#"c_total{x="2"}"#, "0=2 10=2")]);
    expect(&stored, "h", &[("h", &format!("0={}@-5 10={}@-5", h(1), h(2)))]);
    let zeros = ingest_that(IngestFeatures { zero_ingestion: true, ..IngestFeatures::default() });
    scrape_all(&zeros, &with(NATIVE), PROTOBUF_CONTENT_TYPE, &bodies);
    expect(&zeros, "c_total", &[(r#"c_total{x="1"}"#, "-5=0 0=1 10=2"), (r#"c_total{x="2"}"#, "0=2 10=2")]);
    expect(&zeros, "h", &[("h", &format!("-5={{count:0, sum:0}} 0={} 10={}", h(1), h(2)))]);
}

#[test]
fn exemplars_of_protobuf_are_kept() {
    let ingest = ingest_that(IngestFeatures::default());
    let exemplar = |value, timestamp| Exemplar { label: vec![label("trace_id", "t")], value, timestamp };
    let counter = Counter { value: 1.0, exemplar: Some(exemplar(0.5, None)), created: None };
    let h = Histogram {
        exemplars: vec![exemplar(1.5, time(2)), exemplar(0.5, None), exemplar(0.75, time(1))],
        ..histogram(1, None)
    };
    let body = body(&[
        MetricFamily {
            name: "c_total".into(),
            metric: vec![Metric { counter: Some(counter), ..Default::default() }],
            ..Default::default()
        },
        MetricFamily {
            name: "h".into(),
            metric_type: 4,
            metric: vec![Metric { histogram: Some(h), ..Default::default() }],
            ..Default::default()
        },
    ]);
    scrape_all(&ingest, &with(NATIVE), PROTOBUF_CONTENT_TYPE, &[body]);
    let of = |name: &str| {
        let selector = vec![Matcher::equal("__name__", name)];
        let found = ingest.storage().reader().exemplars(&[selector], T0, T0 + 60_000);
        found.into_iter().flat_map(|(_, e)| e).map(|e| (e.ts - T0, e.value)).collect::<Vec<_>>()
    };
    assert_eq!(of("c_total"), [(0, 0.5)]);
    assert_eq!(of("h"), [(1000, 0.75), (2000, 1.5)]);
}

const CREATED: &str = "# TYPE c counter\nc_total{x=\"1\"} 3\nc_created{x=\"1\"} 1699999995\nc_total{x=\"2\"} 4\n\
    # TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 3.5\nh_created 1699999994.5\n\
    # TYPE g gauge\ng_created 7\n# EOF\n";

#[test]
fn created_lines_are_start_times_with_a_feature_and_series_without() {
    let plain = ingest();
    assert_eq!(scrape_all(&plain, &ScrapeOptions::default(), OPENMETRICS, &[CREATED]), [Ok((9, 9))]);
    expect(
        &plain,
        "c.*",
        &[
            (r#"c_created{x="1"}"#, "0=1699999995"),
            (r#"c_total{x="1"}"#, "0=3"),
            (r#"c_total{x="2"}"#, "0=4"),
        ],
    );
    let stored = ingest_that(IngestFeatures { st_storage: true, ..IngestFeatures::default() });
    let got = scrape_all(&stored, &ScrapeOptions::default(), OPENMETRICS, &[CREATED, CREATED]);
    assert_eq!(got, [Ok((7, 7)), Ok((7, 0))]);
    expect(
        &stored,
        "[cgh]_.*",
        &[
            (r#"c_total{x="1"}"#, "0=3@-5 10=3@-5"),
            (r#"c_total{x="2"}"#, "0=4 10=4"),
            ("g_created", "0=7 10=7"),
            (r#"h_bucket{le="+Inf"}"#, "0=2@-5.5 10=2@-5.5"),
            (r#"h_bucket{le="1.0"}"#, "0=1@-5.5 10=1@-5.5"),
            ("h_count", "0=2@-5.5 10=2@-5.5"),
            ("h_sum", "0=3.5@-5.5 10=3.5@-5.5"),
        ],
    );
    let zeros = ingest_that(IngestFeatures { zero_ingestion: true, ..IngestFeatures::default() });
    scrape_all(&zeros, &ScrapeOptions::default(), OPENMETRICS, &[CREATED, CREATED]);
    expect(&zeros, "c.*", &[(r#"c_total{x="1"}"#, "-5=0 0=3 10=3"), (r#"c_total{x="2"}"#, "0=4 10=4")]);
    // Text has no such samples: there the name means nothing.
    let text = "# TYPE c counter\nc_total 3\nc_created 5\n";
    let stored = ingest_that(IngestFeatures { st_storage: true, ..IngestFeatures::default() });
    assert_eq!(scrape_all(&stored, &ScrapeOptions::default(), TEXT, &[text]), [Ok((2, 2))]);
}

#[test]
fn classic_histograms_of_text_are_converted() {
    let text = |n: u64| {
        format!(
            "# HELP h Help.\n# TYPE h histogram\nh_bucket{{le=\"1\"}} {n}\nh_bucket{{le=\"2\"}} {0}\nh_bucket{{le=\"+Inf\"}} {0}\n\
             h_sum 3\nh_count {0}\nh_bucket{{le=\"1\",x=\"y\"}} 1\nh_bucket{{le=\"+Inf\",x=\"y\"}} 0\nh_sum{{x=\"y\"}} 3\nh_count{{x=\"y\"}} 1\n\
             # TYPE other counter\nother_count 5\nother_bucket{{le=\"1\"}} 5\n",
            2 * n
        )
    };
    let converted = HistogramOptions { classic_converted: true, ..HistogramOptions::default() };
    let ingest = ingest();
    let bodies: Vec<String> = (1..=3).map(text).collect();
    let got = scrape_all(&ingest, &with(converted), TEXT, &bodies);
    assert_eq!(got, [Ok((3, 3)), Ok((3, 0)), Ok((3, 0))], "what contradicts itself becomes nothing");
    expect(
        &ingest,
        "h.*|other.*",
        &[("h", CONVERTED), (r#"other_bucket{le="1"}"#, "0=5 10=5 20=5"), ("other_count", "0=5 10=5 20=5")],
    );
    let ingest = self::ingest();
    let got =
        scrape_all(&ingest, &with(HistogramOptions { classic_always: true, ..converted }), TEXT, &bodies);
    assert_eq!(got[0], Ok((12, 12)));
    expect(
        &ingest,
        "h|h_count",
        &[("h", CONVERTED), ("h_count", "0=2 10=4 20=6"), (r#"h_count{x="y"}"#, "0=1 10=1 20=1")],
    );
}

#[test]
fn type_and_unit_of_each_family_become_labels() {
    let features = IngestFeatures { type_and_unit_labels: true, ..IngestFeatures::default() };
    let body = "# TYPE c_bytes counter\n# UNIT c_bytes bytes\nc_bytes_total{__type__=\"mine\"} 3\n\
        # TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_count 1\nstray{__unit__=\"mine\"} 5\n# TYPE u unknown\nu 1\n# EOF\n";
    let ingest = ingest_that(features);
    let got = scrape_all(&ingest, &ScrapeOptions::default(), OPENMETRICS, &[body, body]);
    assert_eq!(got, [Ok((5, 5)), Ok((5, 0))]);
    expect(
        &ingest,
        "c_.*|h_.*|u|stray",
        &[
            (r#"c_bytes_total{__type__="counter", __unit__="bytes"}"#, "0=3 10=3"),
            (r#"h_bucket{__type__="histogram", le="1.0"}"#, "0=1 10=1"),
            (r#"h_count{__type__="histogram"}"#, "0=1 10=1"),
            (r#"stray{__unit__="mine"}"#, "0=5 10=5"),
            ("u", "0=1 10=1"),
        ],
    );
    // The type changes: it is another series, and the one before has ended.
    let ingest = ingest_that(features);
    scrape_all(
        &ingest,
        &ScrapeOptions::default(),
        TEXT,
        &["# TYPE a gauge\na 1\n", "# TYPE a counter\na 1\n"],
    );
    expect(&ingest, "a", &[(r#"a{__type__="gauge"}"#, "0=1 10=stale"), (r#"a{__type__="counter"}"#, "10=1")]);
    let ingest = ingest_that(features);
    scrape_all(&ingest, &with(NATIVE), PROTOBUF_CONTENT_TYPE, &[families(1)]);
    expect(
        &ingest,
        "h|c_total",
        &[
            (r#"c_total{__type__="counter", x="1"}"#, "0=1"),
            (r#"c_total{__type__="counter", x="2"}"#, "0=2"),
            (r#"h{__type__="histogram"}"#, "0={count:2, sum:3, (0.5,1]:1, (1,2]:1}"),
        ],
    );
}

#[test]
fn a_target_may_change_its_format() {
    let ingest = ingest();
    let mut cache = ScrapeCache::default();
    let options = ScrapeOptions::default();
    let counter = Counter { value: 2.0, ..Default::default() };
    let metric = vec![Metric { counter: Some(counter), ..Default::default() }];
    let protobuf = body(&[MetricFamily { name: "a".into(), metric, ..Default::default() }]);
    let bodies: [(&[u8], &str); 3] = [(b"a 1\n", TEXT), (&protobuf, PROTOBUF_CONTENT_TYPE), (b"a 3\n", TEXT)];
    for (i, (body, content_type)) in bodies.into_iter().enumerate() {
        ingest.scrape(&mut cache, &options, body, Some(content_type), T0 + 10_000 * i as i64, 0.5).unwrap();
    }
    expect(&ingest, "a", &[("a", "0=1 10=2 20=3")]);
}
