//! What is selected equals what a scan of all series selects, whatever came and went since it was asked last.

use std::collections::BTreeMap;

use prometheus_client::metrics::counter::Counter;
use proptest::prelude::*;

use super::super::{HeadIndex, SelectCache};
use super::*;
use crate::model::{Labels, Timestamp};
use crate::storage::{Storage, StorageOptions};

/// Beginnings, ends, middles, engines, literals, and complements of them.
const PATTERNS: [&str; 16] = [
    ".*o",
    "f.*",
    "f.*o",
    ".*oo.*",
    "[fb].?[ao].*",
    "(foo|bar)[0-9]?",
    "foo1|foo2|bar|7",
    "|foo.*",
    ".*",
    ".+",
    "",
    "x.*",
    "foo.+",
    "fo+",
    ".*1",
    "é.*|.*é",
];

fn matcher() -> impl Strategy<Value = Matcher> {
    (0usize..8, 0usize..3, 0usize..PATTERNS.len()).prop_map(|(op, name, pattern)| {
        let name = ["path", "zone", "none"][name];
        match op {
            0 => Matcher::equal(name, ["foo1", "a", ""][pattern % 3]),
            1 => Matcher::new(MatchOp::NotEqual, name, ["foo1", "a", ""][pattern % 3]).unwrap(),
            2..5 => Matcher::new(MatchOp::Regex, name, PATTERNS[pattern]).unwrap(),
            _ => Matcher::new(MatchOp::NotRegex, name, PATTERNS[pattern]).unwrap(),
        }
    })
}

fn labels(i: u32) -> Labels {
    let begin = ["foo", "bar", "fo", "xfoo", "é", ""][i as usize % 6];
    let path = if i.is_multiple_of(7) { begin.to_owned() } else { format!("{begin}{}", i % 30) };
    Labels::from_pairs([
        ("i".to_owned(), i.to_string()),
        ("path".to_owned(), path),
        ("zone".to_owned(), ["a", "b", "foo", ""][i as usize % 4].to_owned()),
    ])
}

fn naive<'a, K: Copy>(series: impl Iterator<Item = (&'a Labels, K)>, matchers: &[Matcher]) -> Vec<K> {
    let selected = |l: &Labels| matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or("")));
    series.filter(|(l, _)| selected(l)).map(|(_, key)| key).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Add { from: u32, count: u32 },
    Remove { from: u32, count: u32 },
    Ask(Vec<Matcher>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0u32..200, 1u32..40).prop_map(|(from, count)| Step::Add { from, count }),
        1 => (0u32..200, 1u32..40).prop_map(|(from, count)| Step::Remove { from, count }),
        4 => proptest::collection::vec(matcher(), 1..4).prop_map(Step::Ask),
    ]
}

proptest! {
    #[test]
    fn what_is_remembered_is_what_a_scan_finds(steps in proptest::collection::vec(step(), 1..40)) {
        let (hits, misses) = (Counter::default(), Counter::default());
        let cache = SelectCache::new(0, hits, misses);
        let mut index = HeadIndex::default();
        // By number: the id under which it is there. Ids that became free are used again, by other series.
        let (mut there, mut free, mut next) = (BTreeMap::<u32, u32>::new(), Vec::new(), 0);
        for step in steps {
            match step {
                Step::Add { from, count } => for i in from..from + count {
                    if there.contains_key(&i) { continue }
                    let id = free.pop().unwrap_or_else(|| { next += 1; next - 1 });
                    index.insert(id, &labels(i));
                    there.insert(i, id);
                },
                Step::Remove { from, count } => for i in from..from + count {
                    if let Some(id) = there.remove(&i) {
                        index.remove(id);
                        free.push(id);
                    }
                },
                Step::Ask(matchers) => {
                    let all: Vec<(Labels, u32)> = there.iter().map(|(i, id)| (labels(*i), *id)).collect();
                    let mut want = naive(all.iter().map(|(l, id)| (l, *id)), &matchers);
                    want.sort_unstable();
                    for cache in [Some(&cache), Some(&cache), None] {
                        let with = Selecting { cache, ..Selecting::default() };
                        let got: Vec<u32> = select_with(&index, &matchers, with).into_iter().collect();
                        prop_assert_eq!(&got, &want, "{:?}", matchers);
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn head_and_blocks_select_what_a_scan_finds(
        first in proptest::collection::btree_set(0u32..200, 1..60),
        second in proptest::collection::btree_set(0u32..200, 1..60),
        asked in proptest::collection::vec(proptest::collection::vec(matcher(), 1..4), 1..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let options = StorageOptions { dir: Some(dir.path().to_owned()), ..StorageOptions::default() };
        let storage = Storage::open(options).unwrap();
        let hour = 3_600_000;
        let add = |series: &mut dyn Iterator<Item = u32>, ts: i64| {
            let mut a = storage.appender();
            for i in series {
                let s = a.series(&labels(i)).unwrap();
                a.append(s, ts, 1.0).unwrap();
            }
            a.commit().unwrap();
        };
        let check = |series: &mut dyn Iterator<Item = u32>| {
            let all: Vec<Labels> = series.map(labels).collect();
            for matchers in &asked {
                let mut want = naive(all.iter().map(|l| (l, l)), matchers);
                want.sort();
                want.dedup();
                let selected = storage.reader().select(matchers, Timestamp::MIN, Timestamp::MAX);
                let mut got: Vec<&Labels> = selected.iter().map(|s| s.labels()).collect();
                got.sort();
                assert_eq!(got, want, "{matchers:?}");
            }
        };
        add(&mut first.iter().copied(), hour);
        check(&mut first.iter().copied());
        storage.seal_all().unwrap();
        check(&mut first.iter().copied());
        add(&mut second.iter().copied(), 9 * hour);
        for _ in 0..2 {
            check(&mut first.iter().chain(&second).copied());
        }
        storage.seal_all().unwrap();
        for _ in 0..2 {
            check(&mut first.iter().chain(&second).copied());
        }
    }
}

#[test]
fn asked_again_only_new_series_are_tried() {
    let (hits, misses) = (Counter::default(), Counter::default());
    let cache = SelectCache::new(0, hits.clone(), misses.clone());
    let with = Selecting { cache: Some(&cache), ..Selecting::default() };
    let mut index = HeadIndex::default();
    (0..100).for_each(|i| index.insert(i, &labels(i)));
    let m = [Matcher::new(MatchOp::Regex, "path", ".*o[0-9]+").unwrap()];
    let ask = |index: &HeadIndex| (select_with(index, &m, with).len(), hits.get(), misses.get());
    let (n, ..) = ask(&index);
    assert_eq!(ask(&index), (n, 1, 1));
    index.insert(100, &Labels::from_pairs([("path", "foo99")]));
    index.insert(101, &Labels::from_pairs([("path", "nothing")]));
    assert_eq!(ask(&index), (n + 1, 2, 1));
    index.remove(100);
    assert_eq!(ask(&index), (n, 3, 1));
    // Few series are left by another matcher: nothing is remembered for them.
    let narrow = [Matcher::equal("i", "8"), Matcher::new(MatchOp::Regex, "path", "fo[0-9]+").unwrap()];
    assert_eq!(select_with(&index, &narrow, with).len(), 1);
    assert_eq!((hits.get(), misses.get()), (3, 1));
    // Asked to stop, it remembers nothing that is half done.
    let stopped = Selecting { stop: &|| true, ..with };
    (200..2000).for_each(|i| index.insert(i, &Labels::from_pairs([("path", &*format!("o{i}"))])));
    let m = [Matcher::new(MatchOp::Regex, "path", "o[0-9]+").unwrap()];
    assert!(select_with(&index, &m, stopped).len() < 1800);
    assert_eq!(select_with(&index, &m, with).len(), 1800);
}
