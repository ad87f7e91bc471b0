use serde::Deserialize;

use super::super::{Pairs, null_is_default};
use super::*;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Top {
    #[serde(default, deserialize_with = "null_is_default")]
    jobs: Vec<Job>,
    #[serde(default, deserialize_with = "null_is_default")]
    #[allow(dead_code, reason = "read by serde only")]
    on: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    job_name: Option<Spanned<String>>,
    interval: Option<Spanned<String>>,
    limit: Option<Spanned<u64>>,
    #[serde(default, deserialize_with = "null_is_default")]
    labels: Pairs<Option<Spanned<String>>>,
}

const UPSTREAM: &[Upstream] = &[Upstream { among: "job_name", keys: &["dns_sd_configs"] }];

/// The problems of a text, one a line.
fn problems(text: &str) -> String {
    match Source::new("f", text).parse_known::<Top>(UPSTREAM) {
        Ok(_) => String::new(),
        Err(p) => p.to_string(),
    }
}

fn parse(text: &str) -> Top {
    Source::new("f", text).parse_known::<Top>(UPSTREAM).unwrap()
}

#[test]
fn nothing_is_the_default() {
    for text in [
        "",
        "  \n",
        "# only words\n",
        "---\n",
        "---\n# words\n",
        "null\n",
        "{}",
        "jobs:\n",
        "jobs: ~\non: yes\n",
    ] {
        assert_eq!(problems(text), "", "{text:?}");
        assert!(parse(text).jobs.is_empty());
    }
}

#[test]
fn only_the_first_document_counts() {
    for text in [
        "jobs: [{job_name: a}]\n---\nother: 1\n",
        "---\njobs: [{job_name: a}]\n--- \nother: {\n",
        "# words\njobs:\n- job_name: a\n...\nother\n",
    ] {
        assert_eq!(parse(text).jobs.len(), 1, "{text:?}");
    }
}

#[test]
fn an_unknown_key_is_named_placed_and_corrected() {
    assert_eq!(
        problems("jobs:\n- job_name: a\n  intervall: 5s\n"),
        "f:3:3: unknown field `intervall`\n  hint: did you mean `interval`?"
    );
    assert_eq!(problems("jobs:\n- zzz: a\n"), "f:2:3: unknown field `zzz`");
}

#[test]
fn a_key_of_upstream_is_refused_by_name() {
    assert_eq!(
        problems("jobs:\n- job_name: a\n  dns_sd_configs:\n  - names: [a]\n"),
        "f:3:3: `dns_sd_configs` is not supported yet"
    );
}

#[test]
fn faults_of_structure_are_all_told() {
    let text = "foo: 1\njobs:\n- job_name: a\n  dns_sd_configs:\n  - names: [a]\n    x: 1\n  limit: many\n\
                - intervall: |\n    a\n    b\n  job_name: b\n  job_name: c\n";
    let told = problems(text);
    let places: Vec<&str> = told.lines().filter(|l| l.starts_with("f:")).map(|l| &l[..6]).collect();
    assert_eq!(places, ["f:1:1:", "f:4:3:", "f:7:10", "f:8:3:", "f:12:3"], "{told}");
}

#[test]
fn wrong_types_and_broken_yaml_have_a_place() {
    for (text, place) in [
        ("jobs: 5\n", "f:1:7:"),
        ("jobs:\n- job_name: [a]\n", "f:2:13:"),
        ("jobs:\n- limit: x\n", "f:2:10:"),
        ("jobs:\n- {job_name: a\n", "f:2:3:"),
        ("jobs:\n\t- a\n", "f:2:2:"),
        ("jobs:\n- job_name: *a\n", "f:2:13:"),
        ("jobs:\n- job_name: {{ x }}\n", "f:2:13:"),
    ] {
        let told = problems(text);
        assert!(told.starts_with(place), "{text:?}: {told}");
    }
}

#[test]
fn scalars_are_read_as_go_reads_them() {
    let top = parse("jobs:\n- {job_name: 5, limit: 010, interval: true, labels: {b: 1, a: null}}\n");
    let job = &top.jobs[0];
    assert_eq!(job.job_name.as_ref().unwrap().value, "5");
    assert_eq!(job.interval.as_ref().unwrap().value, "true");
    assert_eq!(job.limit.as_ref().unwrap().value, 8);
    let keys: Vec<_> =
        job.labels.iter().map(|(k, v)| (k.value.as_str(), mark(k).column, v.is_some())).collect();
    assert_eq!(keys, [("b", 54, true), ("a", 60, false)]);
}

#[test]
fn anchors_and_merge_keys_work() {
    let top = parse("jobs:\n- &a {job_name: a, interval: 5s}\n- <<: *a\n  job_name: b\n");
    assert_eq!(top.jobs[1].interval.as_ref().unwrap().value, "5s");
}

#[test]
fn bombs_are_refused() {
    let mut bomb = "on: no\nx0: &x0 [a,a,a,a,a,a,a,a,a,a]\n".to_owned();
    for i in 1..12 {
        let items = vec![format!("*x{}", i - 1); 10].join(",");
        bomb.push_str(&format!("x{i}: &x{i} [{items}]\n"));
    }
    bomb.push_str("jobs: *x11\n");
    assert_ne!(problems(&bomb), "");
    assert_ne!(problems(&format!("jobs: {}", "[".repeat(20_000))), "");
}

#[test]
fn places_inside_scalars() {
    for (text, place) in [
        ("jobs:\n- job_name: a FAULT\n", (2, 15)),
        ("jobs:\n- job_name: 'a ''b'' FAULT'\n", (2, 22)),
        ("jobs:\n- job_name: \"a \\\"b\\\" FAULT\"\n", (2, 22)),
        ("jobs:\n- job_name: |\n    a ==\n      é FAULT\n", (4, 9)),
        ("jobs:\n- job_name: |2-\n\n\n     a\n    FAULT\n", (6, 5)),
        ("jobs:\n- job_name: >-\n    a\n    b\n\n    FAULT\n", (6, 5)),
        ("jobs:\n- job_name: a\n    b\n    FAULT\n", (4, 5)),
        ("jobs:\n- interval: &x a FAULT\n  job_name: *x\n", (2, 18)),
        ("jobs:\n- job_name: !!str a FAULT\n", (2, 21)),
    ] {
        let source = Source::new("f", text);
        let top: Top = source.parse().unwrap();
        let name = top.jobs[0].job_name.as_ref().unwrap();
        let at = name.value.find("FAULT").unwrap();
        let mark = source.mark_in(name, at);
        assert_eq!((mark.line, mark.column), place, "{text:?}");
    }
}

proptest::proptest! {
    /// Whatever stands in a file, it is read or refused with a place inside it.
    #[test]
    fn nothing_panics(text in "(jobs:|- job_name:|  limit:| x:|[a-c:\\-\\[\\]{}'\"|>&*#!%?, \n\té]){0,24}") {
        let source = Source::new("f", text.clone());
        if let Err(problems) = source.parse_known::<Top>(UPSTREAM) {
            let lines = text.lines().count().max(1);
            for p in problems.list {
                proptest::prop_assert!(p.line <= lines + 1, "{text:?}: {p}");
            }
        }
    }
}

#[test]
fn wrong_types_are_told_in_words() {
    for (text, expected) in [
        ("on: perhaps\n", "f:1:5: expected true or false"),
        ("jobs:\n- limit: -1\n", "f:2:10: expected a whole number, not negative"),
        ("jobs: x\n", "f:1:7: expected a list"),
        ("jobs:\n- labels: [x]\n", "f:2:11: expected a mapping"),
        ("jobs:\n- job_name: [x]\n", "f:2:13: expected a string"),
        ("[]\n", "f:1:1: expected a mapping"),
    ] {
        assert_eq!(problems(text).trim_end(), expected, "{text:?}");
    }
}
