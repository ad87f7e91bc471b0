use super::*;
use crate::exposition::{BodyFormat, Format};
use crate::model::{Labels, MetricType};
use proptest::prelude::*;

const TEXT: Option<&str> = Some("text/plain; version=0.0.4");

fn options() -> ScrapeOptions {
    let target_labels = Labels::from_pairs([("job", "j"), ("instance", "i")]);
    ScrapeOptions { target_labels, ..ScrapeOptions::default() }
}

fn relabel(yaml: &str) -> Arc<crate::relabel::Rules> {
    Arc::new(crate::relabel::from_yaml(yaml))
}

/// Scrapes these bodies 10 s apart; an error is given as its text.
fn scrape_all(ingest: &Ingest, options: &ScrapeOptions, bodies: &[&str]) -> Vec<Result<ScrapeStats, String>> {
    let mut cache = ScrapeCache::default();
    let scrape = |(i, body): (usize, &&str)| {
        let ts = T0 + 10_000 * i as i64;
        ingest.scrape(&mut cache, options, body.as_bytes(), TEXT, ts, 0.5).map_err(|e| e.to_string())
    };
    bodies.iter().enumerate().map(scrape).collect()
}

fn stats(scraped: usize, post_relabel: usize, series_added: usize, rejected: usize) -> ScrapeStats {
    ScrapeStats { scraped, post_relabel, series_added, rejected }
}

#[test]
fn a_scrape_is_stored_with_the_series_about_it() {
    let ingest = ingest();
    let body = "# HELP a Words.\n# TYPE a counter\na{x=\"1\"} 1\na{x=\"2\",job=\"own\"} 2\n";
    let got = scrape_all(&ingest, &options(), &[body, body]);
    assert_eq!(got, [Ok(stats(2, 2, 2, 0)), Ok(stats(2, 2, 0, 0))]);
    check(
        &ingest,
        ".*",
        &[
            (r#"a{instance="i", job="j", x="1"}"#, "0=1 10=1"),
            (r#"a{exported_job="own", instance="i", job="j", x="2"}"#, "0=2 10=2"),
            (r#"up{instance="i", job="j"}"#, "0=1 10=1"),
            (r#"scrape_duration_seconds{instance="i", job="j"}"#, "0=0.5 10=0.5"),
            (r#"scrape_samples_scraped{instance="i", job="j"}"#, "0=2 10=2"),
            (r#"scrape_samples_post_metric_relabeling{instance="i", job="j"}"#, "0=2 10=2"),
            (r#"scrape_series_added{instance="i", job="j"}"#, "0=2 10=0"),
        ],
    );
    let metadata = ingest.storage().reader().metadata();
    assert_eq!(metadata.len(), 1);
    assert_eq!(
        (metadata[0].0.as_str(), metadata[0].1.metric_type, metadata[0].1.help.as_str()),
        ("a", MetricType::Counter, "Words.")
    );
}

#[test]
fn what_goes_away_is_marked_stale_once() {
    let ingest = ingest();
    let bodies = ["a 1\nb 2\nc 3\n", "c 4\na 5\n", "a 6\nc 7\nb 8\n"];
    let got = scrape_all(&ingest, &options(), &bodies);
    assert_eq!(got, [Ok(stats(3, 3, 3, 0)), Ok(stats(2, 2, 0, 0)), Ok(stats(3, 3, 1, 0))]);
    check(
        &ingest,
        "[abc]",
        &[
            (r#"a{instance="i", job="j"}"#, "0=1 10=5 20=6"),
            (r#"b{instance="i", job="j"}"#, "0=2 10=stale 20=8"),
            (r#"c{instance="i", job="j"}"#, "0=3 10=4 20=7"),
        ],
    );
}

#[test]
fn a_bad_body_marks_everything_stale_and_says_where() {
    let ingest = ingest();
    let got = scrape_all(&ingest, &options(), &["a 1\n", "a 2\nb x\n", "a{b=\"1\",b=\"2\"} 1\n", "a 3\n"]);
    assert_eq!(got[1], Err("line 2 (byte 6): invalid metric value \"x\"".to_owned()));
    assert_eq!(got[2], Err("line 1 (byte 0): label name \"b\" is not unique".to_owned()));
    assert_eq!(got[3], Ok(stats(1, 1, 0, 0)));
    check(
        &ingest,
        "a|b|up",
        &[
            (r#"a{instance="i", job="j"}"#, "0=1 10=stale 30=3"),
            (r#"up{instance="i", job="j"}"#, "0=1 10=0 20=0 30=1"),
        ],
    );
}

#[test]
fn the_first_of_two_values_stands() {
    let ingest = ingest();
    let got = scrape_all(&ingest, &options(), &["a 1\na 2\nb 3\n", "a 4\na 5\nb 6\n"]);
    assert_eq!(got, [Ok(stats(3, 3, 3, 1)), Ok(stats(3, 3, 0, 1))]);
    check(
        &ingest,
        "[ab]",
        &[(r#"a{instance="i", job="j"}"#, "0=1 10=4"), (r#"b{instance="i", job="j"}"#, "0=3 10=6")],
    );
}

#[test]
fn failed_scrapes_and_targets_that_end_leave_markers() {
    let ingest = ingest();
    let (mut cache, options) = (ScrapeCache::default(), options());
    ingest.scrape(&mut cache, &options, b"a 1\n", TEXT, T0, 0.5).unwrap();
    ingest.scrape_failed(&mut cache, &options, T0 + 1000, 0.1).unwrap();
    ingest.scrape_failed(&mut cache, &options, T0 + 2000, 0.1).unwrap();
    ingest.scrape(&mut cache, &options, b"a 2\n", TEXT, T0 + 3000, 0.5).unwrap();
    ingest.end_of_target(&mut cache, &options, T0 + 4000).unwrap();
    check(
        &ingest,
        "a|up",
        &[
            (r#"a{instance="i", job="j"}"#, "0=1 1=stale 3=2 4=stale"),
            (r#"up{instance="i", job="j"}"#, "0=1 1=0 2=0 3=1 4=stale"),
        ],
    );
}

#[test]
fn timestamps_are_honored_and_then_not_tracked() {
    let ingest = ingest();
    let body = format!("a 1 {}\n", T0 - 5000);
    scrape_all(&ingest, &options(), &[&body, "b 1\n"]);
    check(&ingest, "a", &[(r#"a{instance="i", job="j"}"#, "-5=1")]);

    let ingest = super::ingest();
    let ignoring = ScrapeOptions { honor_timestamps: false, ..options() };
    scrape_all(&ingest, &ignoring, &[&body, "b 1\n"]);
    check(&ingest, "a", &[(r#"a{instance="i", job="j"}"#, "0=1 10=stale")]);
}

#[test]
fn honored_labels_win_even_when_they_are_empty() {
    let ingest = ingest();
    let honoring = ScrapeOptions { honor_labels: true, ..options() };
    scrape_all(&ingest, &honoring, &["a{job=\"own\",instance=\"\"} 1\nb 2\n"]);
    check(&ingest, "[ab]", &[(r#"a{job="own"}"#, "0=1"), (r#"b{instance="i", job="j"}"#, "0=2")]);
}

#[test]
fn relabelling_drops_and_renames_and_survives_in_the_cache() {
    let ingest = ingest();
    let rules = relabel(
        "rules:\n- {source_labels: [__name__], regex: 'go_.*', action: drop}\n- {source_labels: [x], target_label: y}\n- {regex: x, action: labeldrop}\n",
    );
    let options = ScrapeOptions { metric_relabel: rules, ..options() };
    let got = scrape_all(&ingest, &options, &["go_a 1\nb{x=\"1\"} 2\n", "go_a 1\nb{x=\"1\"} 3\n"]);
    assert_eq!(got, [Ok(stats(2, 1, 1, 0)), Ok(stats(2, 1, 0, 0))]);
    check(&ingest, "go_a|b", &[(r#"b{instance="i", job="j", y="1"}"#, "0=2 10=3")]);
}

#[test]
fn new_settings_resolve_every_line_anew() {
    let ingest = ingest();
    let mut cache = ScrapeCache::default();
    let first = options();
    ingest.scrape(&mut cache, &first, b"a 1\nb 1\n", TEXT, T0, 0.5).unwrap();
    let rules = relabel("rules: [{source_labels: [__name__], regex: a, target_label: new, replacement: x}]");
    let second = ScrapeOptions { metric_relabel: rules, ..options() };
    ingest.scrape(&mut cache, &second, b"a 2\nb 2\n", TEXT, T0 + 1000, 0.5).unwrap();
    check(
        &ingest,
        "[ab]|up",
        &[
            (r#"a{instance="i", job="j"}"#, "0=1 1=stale"),
            (r#"a{instance="i", job="j", new="x"}"#, "1=2"),
            (r#"b{instance="i", job="j"}"#, "0=1 1=2"),
            (r#"up{instance="i", job="j"}"#, "0=1 1=1"),
        ],
    );
}

#[test]
fn limits_fail_the_scrape_with_their_number() {
    let few = ScrapeOptions { sample_limit: 2, ..options() };
    let got = scrape_all(&ingest(), &few, &["a 1\nb 1\nc 1\n", "a 1\nb 1\n"]);
    assert_eq!(got[0], Err("sample limit exceeded: the scrape has more than 2 samples".to_owned()));
    assert!(got[1].is_ok());
    for (limited, expected) in [
        (ScrapeOptions { label_limit: 3, ..options() }, "has 4 labels, more than the limit of 3"),
        (ScrapeOptions { label_name_length_limit: 8, ..options() }, "has 9 bytes, more than the limit of 8"),
        (ScrapeOptions { label_value_length_limit: 3, ..options() }, "has 5 bytes, more than the limit of 3"),
    ] {
        let got = scrape_all(&ingest(), &limited, &["a{long_name=\"value\"} 1\n"]);
        assert!(got[0].as_ref().unwrap_err().contains(expected), "{got:?}");
    }
}

#[test]
fn bucket_bounds_are_stored_in_one_form() {
    let ingest = ingest();
    let body = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\n# TYPE g gauge\ng{le=\"1\"} 1\n# TYPE s summary\ns{quantile=\"1\"} 2\n";
    scrape_all(&ingest, &ScrapeOptions::default(), &[body, body]);
    check(
        &ingest,
        "h_bucket|g|s",
        &[
            (r#"h_bucket{le="1.0"}"#, "0=1 10=1"),
            (r#"h_bucket{le="+Inf"}"#, "0=1 10=1"),
            (r#"g{le="1"}"#, "0=1 10=1"),
            (r#"s{quantile="1.0"}"#, "0=2 10=2"),
        ],
    );
}

#[test]
fn an_unknown_content_type_needs_a_fallback() {
    let ingest = ingest();
    let mut cache = ScrapeCache::default();
    let refused = ingest.scrape(&mut cache, &options(), b"a 1\n", Some("text/html"), T0, 0.5);
    assert!(refused.unwrap_err().to_string().contains("text/html"));
    let falling = ScrapeOptions { fallback_format: Some(BodyFormat::Text(Format::Text)), ..options() };
    assert!(ingest.scrape(&mut cache, &falling, b"a 1\n", None, T0 + 1000, 0.5).is_ok());
    check(&ingest, "up", &[(r#"up{instance="i", job="j"}"#, "0=0 1=1")]);
}

proptest! {
    /// A cache never changes what is stored: scraping with one is scraping with none, but for staleness.
    #[test]
    fn the_cache_changes_nothing(
        bodies in proptest::collection::vec(proptest::collection::vec((0usize..12, 0u32..3), 0..14), 1..5)
    ) {
        let texts: Vec<String> = bodies.iter().map(|lines| {
            let mut seen = std::collections::HashSet::new();
            let lines = lines.iter().filter(|(s, _)| seen.insert(*s));
            lines.map(|(s, v)| match s {
                9 => "# TYPE x histogram\n".to_owned(),
                10 => "# TYPE y gauge\n".to_owned(),
                11 => "# a comment\n".to_owned(),
                s => format!("m{{s=\"{s}\",le=\"{s}\"}} {}\n", ["1", "NaN", "2.5"][*v as usize]),
            }).collect()
        }).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let cached = ingest();
        scrape_all(&cached, &options(), &texts);
        let plain = ingest();
        for (i, body) in texts.iter().enumerate() {
            plain.scrape(&mut ScrapeCache::default(), &options(), body.as_bytes(), TEXT, T0 + 10_000 * i as i64, 0.5).unwrap();
        }
        let without_markers = |ingest: &Ingest| -> BTreeMap<String, Vec<String>> {
            stored(ingest, "m").into_iter()
                .map(|(s, v)| (s, v.split(' ').filter(|v| !v.ends_with("stale")).map(str::to_owned).collect())).collect()
        };
        prop_assert_eq!(without_markers(&cached), without_markers(&plain));
        // A series has a marker exactly where a scrape lacks it and the one before had it.
        for (series, values) in stored(&cached, "m") {
            let times: Vec<(i64, bool)> = values.split(' ').map(|v| {
                let (t, v) = v.split_once('=').unwrap();
                (t.parse().unwrap(), v == "stale")
            }).collect();
            let present: Vec<i64> = times.iter().filter(|t| !t.1).map(|t| t.0).collect();
            let expected: Vec<i64> = present.iter().map(|t| t + 10)
                .filter(|t| !present.contains(t) && *t < 10 * texts.len() as i64).collect();
            let markers: Vec<i64> = times.iter().filter(|t| t.1).map(|t| t.0).collect();
            prop_assert_eq!(markers, expected, "{}", series);
        }
    }
}

/// Texts of families are bounded together: what comes past that is not kept, and what is kept may get shorter and change.
#[test]
fn what_is_said_of_families_is_bounded_in_bytes() {
    let ingest = ingest_with(IngestLimits { families_bytes_max: 2000, ..IngestLimits::default() });
    let body = |help: usize| {
        let family = |i: usize| format!("# HELP m{i} {}\nm{i} 1\n", "h".repeat(help));
        (0..10).map(family).collect::<String>()
    };
    let kept = || {
        let kept = ingest.storage().reader().metadata();
        let helps = kept.iter().filter(|(_, m)| !m.help.is_empty()).count();
        let bytes: usize = kept.iter().map(|(name, m)| name.len() + m.help.len()).sum();
        (helps, bytes)
    };
    scrape_all(&ingest, &options(), &[&body(300)]);
    let (helps, bytes) = kept();
    assert!(helps == 4 && bytes <= 2000, "{helps} {bytes}");
    scrape_all(&ingest, &options(), &[&body(20)]);
    assert_eq!(kept().0, 10, "there is room for all of them now");
    assert_eq!(ingest.storage().reader().select(&[Matcher::equal("__name__", "m9")], T0, T0).len(), 1);
}

#[test]
fn limits_follow_the_memory() {
    let all = IngestLimits::default();
    let of = |bytes| {
        let l = IngestLimits::for_memory(bytes);
        (l.requests_bytes_max, l.series_cache_max, l.families_bytes_max)
    };
    assert_eq!(of(0), (all.requests_bytes_max, all.series_cache_max, all.families_bytes_max));
    assert_eq!(of(64 << 30), of(0));
    assert_eq!(of(512 << 20), (256 << 20, 1 << 20, 32 << 20));
    assert_eq!(of(8 << 20), (160 << 20, 16 << 10, 512 << 10));
}
