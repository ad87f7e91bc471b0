use std::sync::Arc;

use super::*;
use crate::model::{CounterResetHint, FloatHistogram, Labels, Matcher};
use crate::promql::uses::{Selected, Use};
use crate::storage::{Need, SampleValue, Storage, StorageOptions};

const SERIES: usize = 150;

/// Series of floats, of histograms, of both; some with start times, some with samples out of order, some with deletions;
/// the older half of the samples in blocks.
fn storage() -> (tempfile::TempDir, Storage) {
    let dir = tempfile::tempdir().unwrap();
    let options = StorageOptions {
        dir: Some(dir.path().to_owned()),
        retention_ms: i64::MAX / 4,
        window_ms: 600_000,
        out_of_order_window_ms: 300_000,
        ..StorageOptions::default()
    };
    let storage = Storage::open(options).unwrap();
    let value = |i: usize, n: usize| match (i % 3, n % 2) {
        (0, _) | (1, 0) => SampleValue::Float((i * n % 17) as f64),
        _ => {
            let h = FloatHistogram {
                count: n as f64,
                sum: i as f64,
                zero_count: n as f64,
                ..FloatHistogram::default()
            };
            SampleValue::Histogram(Arc::new(FloatHistogram {
                counter_reset_hint: CounterResetHint::Gauge,
                ..h
            }))
        }
    };
    for n in 0..120 {
        let mut appender = storage.appender();
        for i in 0..SERIES {
            let labels = Labels::from_pairs([("__name__", "x"), ("i", &i.to_string())]);
            let series = appender.series(&labels).unwrap();
            let ts = n as i64 * 15_000;
            let start = if i % 5 == 0 && n > 40 { 600_000 } else { 0 };
            if i % 7 == 0 && n % 10 == 3 {
                continue;
            }
            appender.append_with_start(series, ts, start, value(i, n)).unwrap();
            if i % 7 == 0 && n % 10 == 5 {
                appender.append_with_start(series, ts - 30_000, 0, value(i, n - 2)).unwrap();
            }
        }
        appender.commit().unwrap();
        if n == 60 {
            storage.seal_all().unwrap();
        }
    }
    storage.delete_series(&[vec![Matcher::equal("i", "11")]], 300_000, 1_500_000).unwrap();
    (dir, storage)
}

fn select(storage: &Storage, range: (i64, i64)) -> Arc<Selection> {
    let matchers = [Matcher::equal("__name__", "x")];
    Arc::new(storage.reader().selection(&matchers, range, Need::Window, &|| false))
}

fn room(bytes_max: u64) -> Room {
    let account = Arc::new(Account::default());
    Room { account, tally: Arc::default(), bytes_max, together_max: u64::MAX }
}

/// Reads all series as two uses of a selection do, and compares them with what storage gives.
fn check(selection: &Arc<Selection>, all: (i64, i64), ranges: [(i64, i64); 2], room: &Room) {
    let what = Use { range: all, need: Need::Window };
    let kept = Kept::new(selection, all, room.clone());
    let mut selected = Selected::new(what, Arc::clone(selection)).keeping(kept, ranges.len());
    for (from, to) in ranges {
        let found = selected.take((from, to));
        let (mut own, mut want) = (Own::default(), Samples::default());
        for i in 0..selection.len() {
            want.clear();
            selection.read(i, from, to, &mut want);
            let got = Samples::from(found.read(i, from, to, &mut own));
            assert_eq!(got, want, "series {i} in {from}..={to}");
        }
    }
}

#[test]
fn kept_samples_are_those_of_storage() {
    let (_dir, storage) = storage();
    let all = (200_000, 1_790_000);
    let selection = select(&storage, all);
    assert_eq!(selection.len(), SERIES);
    assert!(selection.reaches_blocks());
    for ranges in [[all, all], [(300_000, 900_000), all], [(700_001, 700_002), (1_000_000, 1_790_000)]] {
        let room = room(u64::MAX);
        check(&selection, all, ranges, &room);
        assert!(room.tally.reused() > 0 || ranges[1].0 > ranges[0].1, "{ranges:?}");
        // The last use took it along.
        assert_eq!((room.tally.bytes(), room.account.bytes()), (0, 0), "{ranges:?}");
    }
    // With little room some are kept, and the others are decoded again.
    let whole = room(u64::MAX);
    let first = Reuse::new(Kept::new(&selection, all, whole.clone()), true);
    let mut current = CurrentGroup::default();
    (0..SERIES).for_each(|i| assert!(first.read(i, all, &mut current).is_some()));
    let little = room(whole.tally.bytes() / 2);
    check(&selection, all, [all, all], &little);
    let enough = room(u64::MAX);
    check(&selection, all, [all, all], &enough);
    let (some, all) = (little.tally.reused(), enough.tally.reused());
    assert!(some > 0 && some * 3 < all * 2, "{some} of {all}");
}

#[test]
fn what_is_kept_gives_way() {
    let (_dir, storage) = storage();
    let all = (0, 1_790_000);
    let selection = select(&storage, all);
    let room = room(u64::MAX);
    room.account.add(1000);
    let kept = Kept::new(&selection, all, room.clone());
    let first = Reuse::new(Arc::clone(&kept), true);
    let mut current = CurrentGroup::default();
    for i in 0..SERIES {
        first.read(i, all, &mut current).unwrap();
    }
    let bytes = room.tally.bytes();
    assert!(bytes > 16 * 100 * SERIES as u64, "{bytes}");
    assert_eq!(room.account.bytes(), 1000 + bytes);
    // Only for what would be refused otherwise; of whoever it is.
    assert!(!room.account.is_over(1000 + bytes));
    assert_eq!(room.tally.bytes(), bytes);
    room.account.give_up(Some(&Arc::default()));
    assert_eq!(room.tally.bytes(), bytes);
    assert!(!room.account.is_over(1000));
    assert_eq!((room.tally.bytes(), room.account.bytes()), (0, 1000));
    // Whoever reads it goes on; from then on samples are decoded by themselves.
    assert!(first.read(SERIES - 1, all, &mut current).is_some());
    assert!(first.read(0, all, &mut current).is_none());
    assert!(room.account.is_over(999));
    drop((first, kept));
    assert_eq!(room.account.bytes(), 1000);
}

#[test]
fn threads_share_a_group() {
    let (_dir, storage) = storage();
    let all = (0, 1_790_000);
    let selection = select(&storage, all);
    let room = room(u64::MAX);
    let kept = Kept::new(&selection, all, room.clone());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let (reuse, mut current) = (Reuse::new(Arc::clone(&kept), true), CurrentGroup::default());
                (0..SERIES).for_each(|i| assert!(reuse.read(i, all, &mut current).is_some()));
            });
        }
    });
    let samples: u64 = (0..SERIES)
        .map(|i| {
            let mut out = Samples::default();
            selection.read(i, all.0, all.1, &mut out);
            out.len() as u64
        })
        .sum();
    // Of the four one has decoded each group.
    assert_eq!(room.tally.reused(), 3 * samples);
}
