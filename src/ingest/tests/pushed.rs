use super::*;
use crate::exposition::{Format, Writer};
use crate::model::Labels;
use crate::state::{Op, Row, SqliteStore, Store, Table};

fn pushed(ingest: &Ingest) -> (Pushed, Arc<dyn Store>) {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    (Pushed::new(ingest.clone(), Arc::clone(&store)).unwrap(), store)
}

fn group(path: &str) -> Labels {
    group_labels(path).unwrap()
}

fn page(pushed: &Pushed) -> String {
    let mut writer = Writer::new(Format::Text);
    writer.families(&pushed.families());
    writer.finish()
}

fn put(pushed: &Pushed, path: &str, body: &str, replace_all: bool, at: i64) -> Result<(), String> {
    let now = T0 + at * 1000;
    pushed.put(&group(path), body.as_bytes(), replace_all, None, now).map_err(|e| e.to_string())
}

#[test]
fn groups_are_replaced_merged_sampled_and_deleted() {
    let ingest = ingest();
    let (pushed, _store) = pushed(&ingest);
    put(&pushed, "job/j/instance/i", "# TYPE a counter\na{x=\"1\"} 1\nb{job=\"other\"} 2\n", true, 0)
        .unwrap();
    pushed.sample_all(T0 + 10_000).unwrap();
    put(&pushed, "job/j/instance/i", "# TYPE a counter\na{x=\"2\"} 3\n", false, 20).unwrap();
    check(
        &ingest,
        "[ab]",
        &[
            (r#"a{instance="i", job="j", x="1"}"#, "0=1 10=1 20=stale"),
            (r#"a{instance="i", job="j", x="2"}"#, "20=3"),
            (r#"b{instance="i", job="j"}"#, "0=2 10=2 20=2"),
        ],
    );
    put(&pushed, "job/j/instance/i", "c 4\n", true, 30).unwrap();
    assert!(pushed.delete(&group("job/j/instance/i"), T0 + 30_000).unwrap());
    assert!(!pushed.delete(&group("job/j/instance/i"), T0 + 40_000).unwrap());
    pushed.sample_all(T0 + 50_000).unwrap();
    check(
        &ingest,
        "[bc]|push_time_seconds",
        &[
            (r#"b{instance="i", job="j"}"#, "0=2 10=2 20=2 30=stale"),
            (r#"c{instance="i", job="j"}"#, "30=4 30.001=stale"),
            (
                r#"push_time_seconds{instance="i", job="j"}"#,
                "0=1700000000 10=1700000000 20=1700000020 30=1700000030 30.001=stale",
            ),
        ],
    );
    assert_eq!(page(&pushed), "");
}

#[test]
fn the_page_has_each_family_once_with_type_and_help() {
    let ingest = ingest();
    let (pushed, _store) = pushed(&ingest);
    put(&pushed, "job/a", "# HELP m Help.\n# TYPE m gauge\nm 1\n", true, 0).unwrap();
    put(&pushed, "job/b", "# TYPE m gauge\nm 2\n", true, 1).unwrap();
    let metric = JsonMetric {
        name: "memory_usage_mb".into(),
        value: 412.5,
        unit: "mb".into(),
        labels: Labels::from_pairs([("host", "h")]),
        timestamp: None,
    };
    pushed.record(&[metric], T0).unwrap();
    assert_eq!(
        page(&pushed),
        "# HELP m Help.\n# TYPE m gauge\nm{job=\"a\"} 1\nm{job=\"b\"} 2\n\
         # TYPE memory_usage_mb gauge\nmemory_usage_mb{host=\"h\"} 412.5\n\
         # HELP push_failure_time_seconds Last Unix time when changing this group in the Pushgateway failed.\n\
         # TYPE push_failure_time_seconds gauge\npush_failure_time_seconds{job=\"a\"} 0\npush_failure_time_seconds{job=\"b\"} 0\n\
         # HELP push_time_seconds Last Unix time when changing this group in the Pushgateway succeeded.\n\
         # TYPE push_time_seconds gauge\npush_time_seconds{job=\"a\"} 1.7e+09\npush_time_seconds{job=\"b\"} 1.700000001e+09\n"
    );
}

#[test]
fn a_bad_push_leaves_the_group_as_it_was() {
    let ingest =
        ingest_with(IngestLimits { push_bytes_max: 200, pushed_groups_max: 2, ..IngestLimits::default() });
    let (pushed, _store) = pushed(&ingest);
    put(&pushed, "job/a", "# TYPE m gauge\nm{x=\"1\"} 1\n", true, 0).unwrap();
    put(&pushed, "job/b", "n 1\n", true, 0).unwrap();
    for (path, body, expected) in [
        ("job/a", "m 1 1000\n", "pushed metrics must not have timestamps"),
        ("job/a", "m x\n", "invalid metric value"),
        ("job/a", "m{job=\"1\"} 1\nm{job=\"2\"} 1\n", "was pushed twice"),
        ("job/a", "m 1\nm 1\n", "the series occurs twice"),
        ("job/b", "# TYPE m counter\nm 1\n", "\"m\" is a counter here and a gauge in group {job=\"a\"}"),
        ("job/c", "m 1\n", "the number of pushed groups would exceed the limit of 2"),
        ("job/a", &"x".repeat(201), "the body has 201 bytes, more than the 200 that are taken"),
    ] {
        let error = put(&pushed, path, body, true, 5).unwrap_err();
        assert!(error.contains(expected), "{body}: {error}");
    }
    let groups = pushed.groups();
    assert_eq!(groups.len(), 2);
    assert_eq!(groups[0].push_time, Some(T0));
    assert_eq!(groups[0].push_failure_time, Some(T0 + 5000));
    assert!(page(&pushed).contains("m{job=\"a\",x=\"1\"} 1\n"));
    assert!(!page(&pushed).contains("m{job=\"b\"}"));
}

#[test]
fn what_is_pushed_survives_a_restart() {
    let ingest = ingest();
    let (first, store) = pushed(&ingest);
    put(
        &first,
        "job/a/path@base64/L3Zhcg",
        "# HELP m Help.\n# TYPE m gauge\nm{x=\"1\"} NaN\nm +Inf\n",
        true,
        0,
    )
    .unwrap();
    put(&first, "job/gone", "m 1\n", true, 0).unwrap_err();
    put(&first, "job/gone", "o 1\n", true, 0).unwrap();
    first.delete(&group("job/gone"), T0).unwrap();
    let metric = |value, timestamp| JsonMetric {
        name: "r".into(),
        value,
        unit: "percent".into(),
        labels: Labels::empty(),
        timestamp,
    };
    first.record(&[metric(1.0, Some(T0 - 1000)), metric(2.0, None)], T0).unwrap();
    let junk = Row { key: "group:{}".into(), ts: 0, body: b"junk".to_vec() };
    store.commit(vec![Op::Put { table: Table::Pushed, row: junk }]).unwrap();
    let expected = page(&first);
    drop(first);
    let again = Pushed::new(ingest.clone(), store).unwrap();
    assert_eq!(page(&again), expected);
    assert_eq!(again.recorded()[0].value, 2.0);
    again.sample_all(T0 + 60_000).unwrap();
    check(&ingest, "r", &[("r", "-1=1 0=2 60=2")]);
}

#[test]
fn recorded_metrics_are_checked_and_ordered() {
    let ingest = ingest();
    let (pushed, _store) = pushed(&ingest);
    let metric = |name: &str, value, timestamp| JsonMetric {
        name: name.into(),
        value,
        unit: String::new(),
        labels: Labels::empty(),
        timestamp,
    };
    // Two values of one moment come out one after the other.
    pushed.record(&[metric("m", 1.0, None), metric("m", 2.0, None)], T0).unwrap();
    pushed.sample_all(T0 + 1000).unwrap();
    pushed.record(&[metric("m", 3.0, None)], T0 + 1000).unwrap();
    check(&ingest, "m", &[("m", "0=1 0.001=2 1=2 1.001=3")]);
    // A value of before the last sample still shows.
    pushed.record(&[metric("late", 1.0, Some(T0 + 1000))], T0 + 1000).unwrap();
    pushed.sample_all(T0 + 9000).unwrap();
    pushed.record(&[metric("late", 2.0, Some(T0 + 5000))], T0 + 9000).unwrap();
    check(&ingest, "late", &[("late", "1=1 9=1 9.001=2")]);
    for (bad, expected) in [
        (metric("", 1.0, None), "the series has no metric name"),
        (metric("m", 1.0, Some(T0)), "has a newer value already"),
        (metric("m", 1.0, Some(T0 + 3_600_000)), "is more than 600 s in the future"),
    ] {
        let error = pushed.record(&[metric("other", 1.0, None), bad], T0 + 2000).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(pushed.recorded().len(), 2);
}
