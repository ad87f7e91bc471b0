//! Series that come and go all day: what left the ring has left the memory.

use std::sync::Arc;

use super::db::{lock, read};
use super::*;
use crate::model::{FloatHistogram, Labels, MatchOp, Matcher, Span};

const ACTIVE: usize = 200;
const MINUTE_MS: i64 = 60_000;

fn labels(i: usize) -> Labels {
    let pod = format!("pod-{i}");
    Labels::from_pairs([("__name__", "requests_total"), ("job", "app"), ("pod", &pod)])
}

/// Ten percent of the series are replaced every five minutes, for a day.
#[test]
fn a_day_of_churn_leaves_in_memory_what_the_ring_holds() {
    let dir = tempfile::tempdir().unwrap();
    let options = StorageOptions { dir: Some(dir.path().to_owned()), ..StorageOptions::default() };
    let window_min = (options.window_ms / MINUTE_MS) as usize;
    let storage = Storage::open(options).unwrap();
    let (mut first, mut most) = (0, StorageStats::default());
    let mut most_before_noon = StorageStats::default();
    for minute in 0..24 * 60 {
        if minute % 5 == 0 {
            first += ACTIVE / 10;
        }
        let now = minute as i64 * MINUTE_MS;
        let mut a = storage.appender();
        for i in first..first + ACTIVE {
            let series = a.series(&labels(i)).unwrap();
            a.append(series, now, (minute * i) as f64).unwrap();
        }
        assert_eq!(a.commit().unwrap().refused(), 0);
        storage.maintain(now);
        if minute % 30 == 29 {
            let stats = storage.stats();
            most.series = most.series.max(stats.series);
            most.label_pairs = most.label_pairs.max(stats.label_pairs);
            most.memory_bytes = most.memory_bytes.max(stats.memory_bytes);
            most.wal_bytes = most.wal_bytes.max(stats.wal_bytes);
            if minute < 12 * 60 {
                most_before_noon = most;
            }
        }
    }
    // The head has a window, an eighth of one more until it is sealed, and a little until the empty ones are found.
    let held_min = window_min + window_min / 8 + 5;
    let held = (ACTIVE + held_min / 5 * ACTIVE / 10) as u64;
    assert!(first as u64 > 5 * held, "{first} series came and went, {held} are held at once");
    assert!(most.series <= held, "{} series, {held} in the ring's head", most.series);
    assert!(most.label_pairs <= held + 2, "{} pairs", most.label_pairs);
    assert_eq!(most.series, most_before_noon.series, "the afternoon is as the morning");
    assert!(most.memory_bytes <= most_before_noon.memory_bytes * 102 / 100, "{most:?} {most_before_noon:?}");
    assert!(most.wal_bytes <= most_before_noon.wal_bytes * 105 / 100, "{most:?} {most_before_noon:?}");
}

/// Past the bound of memory new series are refused, and those that are there go on.
#[test]
fn the_bound_of_memory_holds_and_refuses_new_series() {
    let dir = tempfile::tempdir().unwrap();
    let bound = 1_000_000;
    let options = StorageOptions {
        dir: Some(dir.path().to_owned()),
        memory_bytes_max: bound,
        ..StorageOptions::default()
    };
    let storage = Storage::open(options).unwrap();
    let mut refused = 0;
    for minute in 0..400 {
        let now = minute * MINUTE_MS;
        let mut a = storage.appender();
        let mut n = 0;
        for i in 0..2000 {
            match a.series(&labels(i)) {
                Ok(series) => {
                    a.append(series, now, (minute as f64).sqrt() * i as f64).unwrap();
                    n += 1;
                }
                Err(error) => {
                    assert_eq!(error, AppendError::TooManySeries(SeriesLimit::Memory(bound)));
                    refused += 1;
                }
            }
        }
        assert_eq!(a.commit().unwrap().samples, n);
        storage.maintain(now);
        let stats = storage.stats();
        assert!(stats.memory_bytes <= bound * 3 / 2, "{stats:?}");
        assert!(stats.series > 400, "{stats:?}");
    }
    let stats = storage.stats();
    assert!(refused > 0 && stats.blocks > 2, "{stats:?}");
    assert_eq!(stats.memory_limit_bytes, bound);
}

/// The disk never holds more than retention allows, counting the WAL and the block that is being written.
#[test]
fn retention_by_size_is_never_exceeded() {
    let dir = tempfile::tempdir().unwrap();
    let bound = 2 << 20;
    let options = StorageOptions {
        dir: Some(dir.path().to_owned()),
        retention_bytes: Some(bound),
        ahead_max_ms: None,
        ..StorageOptions::default()
    };
    let storage = Storage::open(options).unwrap();
    let mut removed = 0;
    for tick in 0..3000_i64 {
        let mut a = storage.appender();
        for i in 0..300 {
            let series = a.series(&labels(i)).unwrap();
            a.append(series, tick * 15_000, (tick as f64 * 1.7 + i as f64).sin()).unwrap();
        }
        a.commit().unwrap();
        storage.relieve(tick * 15_000);
        removed += usize::from(storage.stats().min_ts > Some(0));
        let used: u64 = ["wal", "blocks"]
            .iter()
            .flat_map(|part| std::fs::read_dir(dir.path().join(part)).unwrap())
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(used <= bound, "{used} bytes at tick {tick}");
    }
    assert!(removed > 0, "the oldest fell off");
}

/// Nothing that was kept of series stays when they have left the ring: labels and their names, postings, what patterns
/// selected, what the WAL names, files.
#[test]
fn what_leaves_the_ring_leaves_all_that_was_kept_of_it() {
    const GO_ON: usize = 10;
    let dir = tempfile::tempdir().unwrap();
    let options = StorageOptions {
        dir: Some(dir.path().to_owned()),
        retention_ms: 5 * 60 * MINUTE_MS,
        ..StorageOptions::default()
    };
    let storage = Storage::open(options.clone()).unwrap();
    let own = |i: usize| {
        Labels::from_pairs([
            ("__name__".to_owned(), format!("metric_{i}")),
            (format!("label_{i}"), "1".to_owned()),
            ("pod".to_owned(), format!("pod-{i}")),
        ])
    };
    let ask = |now: i64| {
        let matcher = Matcher::new(MatchOp::Regex, "pod", "pod-.*1.*").unwrap();
        storage.reader().label_values("pod", &[matcher], 0, now).len()
    };
    for minute in 0..9 * 60 {
        let now = minute as i64 * MINUTE_MS;
        let mut a = storage.appender();
        for i in 0..if minute < 30 { 1000 } else { GO_ON } {
            let series = a.series(&own(i)).unwrap();
            a.append(series, now, (minute + i) as f64).unwrap();
        }
        assert_eq!(a.commit().unwrap().refused(), 0);
        storage.maintain(now);
        let index = read(&storage.db().index);
        let held = (index.labels.len(), index.labels.pair_count(), index.labels.names().count());
        drop(index);
        match minute {
            29 => assert_eq!((held, ask(now)), ((1000, 3000, 1002), 271)),
            // The block has them all, the head those that go on.
            150 => {
                assert_eq!(held, (10, 30, 12));
                assert_eq!((ask(now), storage.db().selects.len()), (271, 2), "of the head and of the block");
            }
            _ => {}
        }
    }
    let check = |storage: &Storage| {
        let index = read(&storage.db().index);
        let labels = &index.labels;
        let held = (labels.len(), labels.entries(), labels.pair_count(), labels.names().count());
        assert_eq!(held, (GO_ON as u64, 3 * GO_ON as u64, 3 * GO_ON, GO_ON + 2));
        assert_eq!(labels.live().len(), GO_ON as u64);
        // Each pair of a series is its own, and has no posting besides.
        let mut memory = HeadMemory::default();
        labels.add_memory(&mut memory);
        assert!(memory.postings <= 3 * GO_ON as u64 * 64, "{memory:?}");
        assert!(lock(&storage.db().unlogged).is_empty());
    };
    check(&storage);
    // What is left is about the head alone, and one series of it matches.
    assert_eq!(storage.db().selects.len(), 1);
    assert!(storage.db().selects.bytes() < 300, "{}", storage.db().selects.bytes());
    let list = |part: &str| {
        let entries = std::fs::read_dir(dir.path().join(part)).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(list(""), ["blocks", "lock", "wal"]);
    assert_eq!(list("blocks").len() as u64, storage.stats().blocks);
    assert_eq!(storage.stats().blocks, 3, "{:?}", list("blocks"));
    // Two segments, and a checkpoint with its copy.
    assert!(list("wal").len() <= 4, "{:?}", list("wal"));
    // The WAL names no other series.
    drop(storage);
    check(&Storage::open(options).unwrap());
}

/// Series of batches whose samples are all refused do not stay, nor do the labels that the WAL would have got.
#[test]
fn series_without_a_sample_leave_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let options = StorageOptions {
        dir: Some(dir.path().to_owned()),
        memory_bytes_max: 1_000_000,
        ..StorageOptions::default()
    };
    let storage = Storage::open(options).unwrap();
    let begin = 30 * 24 * 60 * MINUTE_MS;
    storage.maintain(begin);
    let long = "v".repeat(10_000);
    let mut a = storage.appender();
    let mut made = 0;
    for i in 0..1000 {
        let labels = Labels::from_pairs([("__name__", "m"), ("i", &*i.to_string()), ("long", &*long)]);
        if let Ok(series) = a.series(&labels) {
            assert_eq!(a.append(series, 0, 1.0), Err(AppendError::TooOld));
            made += 1;
        }
    }
    assert_eq!(a.commit().unwrap().too_old, made);
    // Their labels are held as they came, each with the long one.
    assert!((50..100).contains(&made), "{made}");
    assert_eq!(storage.stats().series, made);
    for step in 0..4 {
        storage.maintain(begin + step * 15_000);
    }
    assert_eq!(
        (storage.stats().series, storage.stats().label_pairs, storage.stats().memory_bytes),
        (0, 0, 0)
    );
}

/// Native histograms are refused before they take the memory, and taken again when older ones are in a block; floats go
/// on.
#[test]
fn native_histograms_are_bounded_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let bound = 4_000_000;
    let options = StorageOptions {
        dir: Some(dir.path().to_owned()),
        memory_bytes_max: bound,
        ..StorageOptions::default()
    };
    let storage = Storage::open(options.clone()).unwrap();
    let histogram = |seed: u64| {
        let bucket = |i: u64| (seed * 1000 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 34;
        Arc::new(FloatHistogram {
            positive_spans: vec![Span { offset: 0, length: 500 }],
            positive_buckets: (0..500).map(|i| bucket(i) as f64).collect(),
            ..FloatHistogram::default()
        })
    };
    // A scrape is taken without its histograms.
    let partly = |second: i64| {
        let mut a = storage.appender();
        let series = a.series(&labels(0)).unwrap();
        a.append_histogram(series, second * 1000 + 1, histogram(second as u64)).unwrap();
        let marker = FloatHistogram { sum: crate::model::stale_marker(), ..FloatHistogram::default() };
        a.append_histogram(series, second * 1000 + 2, Arc::new(marker)).unwrap();
        let series = a.series(&labels(101)).unwrap();
        a.append(series, second * 1000, 1.0).unwrap();
        a.leave_out_histograms();
        a.commit().unwrap()
    };
    let send = |second: i64| {
        let (mut a, mut floats) = (storage.appender(), storage.appender());
        for i in 0..10 {
            let series = a.series(&labels(i)).unwrap();
            a.append_histogram(series, second * 1000, histogram(second as u64 * 10 + i as u64)).unwrap();
        }
        let series = floats.series(&labels(100)).unwrap();
        floats.append(series, second * 1000, 1.0).unwrap();
        assert_eq!(floats.commit().unwrap().samples, 1);
        a.commit().map(|stats| stats.samples)
    };
    let (mut taken, mut refused, mut most) = (0, 0, 0);
    for second in 0..1500 {
        match send(second) {
            Ok(n) => taken += n,
            Err(StorageError::TooManyHistograms { memory_bytes_max }) if memory_bytes_max == bound => {
                if refused == 0 {
                    let stats = partly(second);
                    assert_eq!((stats.samples, stats.histograms_refused, stats.refused()), (2, 1, 1));
                    let why = stats.first_refused.map(|(_, ts, why)| (ts, why));
                    assert_eq!(why, Some((second * 1000 + 1, AppendError::TooManyHistograms)));
                }
                refused += 1
            }
            Err(error) => panic!("{error}"),
        }
        most = most.max(storage.stats().memory_bytes);
        // Not at each second: nobody makes room at first.
        if second > 200 {
            storage.relieve(second * 1000);
        }
    }
    // Three minutes of them do not fit, so some are refused even while room is made.
    assert!(most <= bound * 5 / 8, "{most}");
    assert!(refused > 100 && taken > 3000, "{taken} taken, {refused} refused");
    let m = &storage.db().metrics;
    assert_eq!((m.histogram_batches_refused.get(), m.histograms_refused.get()), (refused, 1));
    assert!(storage.stats().blocks > 3);
    let counted = storage.db().head.histogram_bytes();
    storage.db().update_gauges();
    assert!(counted.abs_diff(storage.db().head.histogram_bytes()) < 20_000, "{counted}");
    drop(storage);
    let storage = Storage::open(options).unwrap();
    let mut samples = Samples::default();
    storage.reader().select(&[], 0, 1_500_000).iter().for_each(|s| s.read(0, 1_500_000, &mut samples));
    assert_eq!(
        (samples.hist_ts.len() as u64, samples.ts.len()),
        (taken + 1, 1501),
        "nothing that was taken is lost"
    );
}

/// A series with very many samples is sealed, and copied by a snapshot, in parts: never decoded as a whole, and with nothing
/// lost or in another place.
#[test]
fn a_series_with_very_many_samples_is_sealed_in_parts() {
    const SAMPLES: i64 = 200_000;
    let dir = tempfile::tempdir().unwrap();
    let options = StorageOptions { dir: Some(dir.path().to_owned()), ..StorageOptions::default() };
    let storage = Storage::open(options.clone()).unwrap();
    let histogram = |seed: u64| {
        let bucket = |i: u64| (seed * 1000 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 34;
        Arc::new(FloatHistogram {
            positive_spans: vec![Span { offset: 0, length: 500 }],
            positive_buckets: (0..500).map(|i| bucket(i) as f64).collect(),
            ..FloatHistogram::default()
        })
    };
    let mut refs = Vec::new();
    for begin in (0..SAMPLES).step_by(10_000) {
        let mut a = storage.appender();
        refs = [0, 1].map(|i| a.series(&labels(i)).unwrap()).to_vec();
        for i in begin..begin + 10_000 {
            a.append(refs[0], i * 10, (i as f64).sqrt()).unwrap();
        }
        // Histograms with floats between them.
        let end = (begin + 10_000) / 200;
        for i in begin / 200..end {
            a.append_histogram(refs[1], i * 2000, histogram(i as u64)).unwrap();
        }
        assert_eq!(a.commit().unwrap().refused(), 0);
        let mut a = storage.appender();
        a.append(refs[1], end * 2000 - 1000, begin as f64).unwrap();
        assert_eq!(a.commit().unwrap().refused(), 0);
    }
    let all = |storage: &Storage| {
        storage.reader().select(&[], 0, i64::MAX).iter().fold(Vec::new(), |mut all, s| {
            let mut samples = Samples::default();
            s.read(0, i64::MAX, &mut samples);
            all.push((s.labels().clone(), samples));
            all
        })
    };
    let deleted = Matcher::equal("pod", "pod-0");
    storage.delete_series(&[vec![deleted]], 500_000, 600_000).unwrap();
    let before = all(&storage);
    let counts: Vec<_> = before.iter().map(|(_, s)| (s.ts.len(), s.hist_ts.len())).collect();
    assert_eq!(counts, [(SAMPLES as usize - 10_001, 0), (20, 1000)]);
    for series in &refs {
        let id = head::id_of(*series);
        let part = storage.db().head.lock_one(id).get(id).unwrap().snapshot();
        let cuts = part.cuts(0, i64::MAX);
        assert!((1..100).contains(&cuts.len()) && cuts.is_sorted(), "{cuts:?}");
    }
    let copy = storage.snapshot("copy", false).unwrap();
    let copy = Storage::open(StorageOptions { dir: Some(copy), ..options }).unwrap();
    assert_eq!(copy.stats().head_samples, 0);
    assert!(all(&copy) == before, "the snapshot has the same samples");
    storage.seal_all().unwrap();
    assert_eq!((storage.stats().blocks, storage.stats().head_samples), (1, 0));
    assert!(all(&storage) == before, "the block has the same samples");
    assert!(storage.verify().is_empty());
}
