//! Series that come and go all day: what left the ring has left the memory.

use super::*;
use crate::model::Labels;

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
                    assert_eq!(error, AppendError::TooManySeries);
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
