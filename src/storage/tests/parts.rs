//! A replay that does not fit into the memory limit.

use super::*;
use crate::model::Span;

const MINUTE: i64 = 60_000;

/// One with so many buckets, none like another.
fn wide(n: i64) -> Arc<FloatHistogram> {
    let buckets: Vec<f64> = (0..160).map(|i| ((n * 7919 + i * 104_729) % 1_000_003) as f64 * 0.37).collect();
    Arc::new(FloatHistogram {
        count: buckets.iter().sum(),
        sum: n as f64,
        positive_spans: vec![Span { offset: 0, length: 160 }],
        positive_buckets: buckets,
        ..FloatHistogram::default()
    })
}

fn unlimited(dir: &Path) -> StorageOptions {
    StorageOptions {
        dir: Some(dir.to_owned()),
        wal_segment_bytes: 256 << 10,
        out_of_order_window_ms: 10 * MINUTE,
        full_chunk_bytes_max: 1 << 20,
        ..StorageOptions::default()
    }
}

/// An hour of histograms, of floats, some of which end, of late samples and of a deletion.
fn an_hour(storage: &Storage) {
    for minute in 0..60 {
        let ts = minute * MINUTE;
        let mut a = storage.appender();
        for i in 0..12 {
            let series = a.series(&labels(i)).unwrap();
            a.append_histogram(series, ts, wide(ts + i as i64)).unwrap();
        }
        // Ten new series a minute, each for two.
        for i in (minute.max(1) - 1) * 10..minute * 10 + 10 {
            let series = a.series(&labels(100 + i as usize)).unwrap();
            a.append(series, ts, (ts + i) as f64).unwrap();
        }
        let series = a.series(&labels(50)).unwrap();
        a.append(series, ts, 1.5).unwrap();
        if minute > 10 {
            a.append(series, ts - 5 * MINUTE + 1, 2.5).unwrap();
        }
        let stats = a.commit().unwrap();
        assert_eq!((stats.refused(), stats.samples_out_of_order), (0, u64::from(minute > 10)));
    }
    let deleted = [vec![Matcher::equal("id", "3")]];
    storage.delete_series(&deleted, 10 * MINUTE, 20 * MINUTE).unwrap();
}

fn everything(storage: &Storage) -> Vec<(Labels, Samples)> {
    query(storage, &[], ALWAYS.0, ALWAYS.1)
}

fn assert_same(found: &[(Labels, Samples)], expected: &[(Labels, Samples)]) {
    assert_eq!(found.len(), expected.len());
    for ((labels, found), (of, expected)) in found.iter().zip(expected) {
        assert_eq!((labels, &found.ts, &found.vs), (of, &expected.ts, &expected.vs));
        assert_eq!(found.hist_ts, expected.hist_ts, "{labels:?}");
        assert!(
            found.hists.iter().zip(&expected.hists).all(|(a, b)| a.positive_buckets == b.positive_buckets)
        );
    }
}

#[test]
fn a_wal_larger_than_the_memory_limit_is_replayed_in_parts_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(unlimited(dir.path())).unwrap();
    an_hour(&storage);
    let expected = everything(&storage);
    let before = storage.stats();
    assert!(before.blocks == 0 && before.memory_bytes > 1 << 20, "{before:?}");
    drop(storage);

    let limit = 1 << 20;
    let limited = StorageOptions { memory_bytes_max: limit, ..unlimited(dir.path()) };
    let progress = ReplayProgress::default();
    let storage = Storage::open_watched(limited.clone(), StorageMetrics::default(), &progress).unwrap();
    let after = storage.stats();
    assert!(after.blocks > 1, "several parts: {after:?}");
    assert!(after.memory_bytes < limit, "{after:?}");
    assert!(after.series < before.series / 2, "those that have ended left the memory: {after:?}");
    assert_eq!((after.damaged, progress.status().state), (0, ReplayState::Done));
    assert_same(&everything(&storage), &expected);
    // What was deleted before the start is deleted, and the samples of now are taken.
    assert_eq!(scrape(&storage, 0..1, 61 * MINUTE, 1.0).refused(), 0);
    drop(storage);
    let storage = Storage::open(limited).unwrap();
    assert_eq!(storage.stats().blocks, after.blocks, "it fits now");
    assert!(everything(&storage).iter().map(|s| s.1.len()).sum::<usize>() > 1000);
}

#[test]
fn a_replay_seals_nothing_that_is_newer_than_the_time_of_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(unlimited(dir.path())).unwrap();
    an_hour(&storage);
    drop(storage);
    let now = Some(20 * MINUTE);
    let limited = StorageOptions { memory_bytes_max: 1 << 20, now, ..unlimited(dir.path()) };
    let storage = Storage::open(limited).unwrap();
    let newest = storage.block_stats().iter().map(|b| b.range.1).max().unwrap();
    assert!(newest <= 20 * MINUTE - 150_000, "{newest}");
}

#[test]
fn samples_that_others_of_their_batch_had_overtaken_are_refused_in_each_part() {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { out_of_order_window_ms: 0, ..unlimited(dir.path()) };
    let storage = Storage::open(o.clone()).unwrap();
    for minute in 0..60 {
        let mut a = storage.appender();
        for i in 0..12 {
            let series = a.series(&labels(i)).unwrap();
            a.append_histogram(series, minute * MINUTE, wide(minute + i as i64)).unwrap();
        }
        let ahead = a.series(&labels(200 + minute as usize)).unwrap();
        // The second finds the first before it, wherever a part ends.
        a.append(ahead, (minute + 10) * MINUTE, 1.0).unwrap();
        a.append(ahead, minute * MINUTE + 1, 2.0).unwrap();
        assert_eq!(a.commit().unwrap().out_of_order, 1);
    }
    let expected = everything(&storage);
    drop(storage);
    let storage = Storage::open(StorageOptions { memory_bytes_max: 1 << 20, ..o }).unwrap();
    assert!(storage.stats().blocks > 1);
    assert_same(&everything(&storage), &expected);
}
