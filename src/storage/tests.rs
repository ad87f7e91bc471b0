//! The storage as a whole: against its slow twin, over restarts, damage and retention.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

mod damage;
mod deletions;
mod ends;
mod hostile;
mod old_version;
mod parts;
mod read_only;

use super::twin::{Twin, Value};
use super::*;
use crate::model::{
    CounterResetHint, FloatHistogram, Labels, MatchOp, Matcher, Metadata, MetricType, Span, Timestamp,
    stale_marker,
};

const ALWAYS: (Timestamp, Timestamp) = (Timestamp::MIN, Timestamp::MAX);
const HOUR: i64 = 3_600_000;

fn options(dir: &Path) -> StorageOptions {
    StorageOptions { dir: Some(dir.to_owned()), ..StorageOptions::default() }
}

fn labels(i: usize) -> Labels {
    let name = format!("m{}", i % 3);
    Labels::from_pairs([
        ("__name__", name.as_str()),
        ("id", &i.to_string()),
        ("odd", if i % 2 == 1 { "yes" } else { "" }),
    ])
}

fn histogram(i: i64) -> Arc<FloatHistogram> {
    Arc::new(FloatHistogram {
        schema: (i % 3) as i32,
        count: i as f64,
        sum: i as f64 / 3.0,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![1.0, i as f64],
        ..FloatHistogram::default()
    })
}

/// The selected series with samples, ascending by labels.
fn query(storage: &Storage, matchers: &[Matcher], from: Timestamp, to: Timestamp) -> Vec<(Labels, Samples)> {
    let mut found: Vec<(Labels, Samples)> = storage
        .reader()
        .select(matchers, from, to)
        .iter()
        .map(|s| {
            let mut samples = Samples::default();
            s.read(from, to, &mut samples);
            (s.labels().clone(), samples)
        })
        .filter(|(_, s)| !s.is_empty())
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

type Bits = (Labels, Vec<(Timestamp, u64)>, Vec<(Timestamp, Arc<FloatHistogram>)>, [Vec<Timestamp>; 2]);

/// With values as bits, so that NaN is equal to itself.
fn bits(found: Vec<(Labels, Samples)>) -> Vec<Bits> {
    let zip = |s: Samples| {
        assert_eq!((s.ts.len(), s.hist_ts.len()), (s.vs.len(), s.hists.len()));
        assert!(s.ts.is_sorted_by(|a, b| a < b) && s.hist_ts.is_sorted_by(|a, b| a < b));
        for (starts, n) in [(&s.starts, s.ts.len()), (&s.hist_starts, s.hist_ts.len())] {
            assert!(starts.is_empty() || starts.len() == n);
        }
        // No start times is the same as none of any sample.
        let starts = [s.starts, s.hist_starts];
        let starts = starts.map(|all| if all.iter().all(|start| *start == 0) { Vec::new() } else { all });
        let floats = s.ts.into_iter().zip(s.vs.into_iter().map(f64::to_bits)).collect();
        (floats, s.hist_ts.into_iter().zip(s.hists).collect(), starts)
    };
    found
        .into_iter()
        .map(|(l, s)| {
            let (floats, histograms, starts) = zip(s);
            (l, floats, histograms, starts)
        })
        .collect()
}

/// Writes one sample per series at `ts`.
fn scrape(storage: &Storage, series: std::ops::Range<usize>, ts: Timestamp, value: f64) -> CommitStats {
    let mut a = storage.appender();
    for i in series {
        let s = a.series(&labels(i)).unwrap();
        let _counted = a.append(s, ts, value);
    }
    a.commit().unwrap()
}

#[derive(Clone, Debug)]
enum Op {
    Commit(Vec<(usize, i64, u8)>),
    DropBatch,
    Reopen,
    SealAll,
    Maintain,
    Query { matcher: (usize, usize, usize), from: i64, length: i64 },
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => proptest::collection::vec((0usize..8, -60i64..400, any::<u8>()), 1..20).prop_map(Op::Commit),
        1 => Just(Op::DropBatch),
        1 => Just(Op::Reopen),
        1 => Just(Op::SealAll),
        3 => Just(Op::Maintain),
        3 => ((0usize..4, 0usize..3, 0usize..5), -100i64..6000, 0i64..3000)
            .prop_map(|(matcher, from, length)| Op::Query { matcher, from, length }),
    ]
}

fn any_op_out_of_order() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => proptest::collection::vec((0usize..8, -4000i64..400, any::<u8>()), 1..20).prop_map(Op::Commit),
        7 => any_op(),
    ]
}

fn value(seed: u8, ts: Timestamp) -> Value {
    Value::Float(match seed % 8 {
        0 => 1.0,
        1 => ts as f64,
        2 => ts as f64 / 100.0,
        3 => f64::from(seed) * 0.001,
        4 => stale_marker(),
        5 => -0.0,
        6 => return Value::Histogram(histogram(ts.abs() % 50)),
        _ => (ts as f64).sqrt(),
    })
}

/// None, one for long, one before each sample, anything.
fn start(seed: u8, ts: Timestamp) -> Timestamp {
    match seed / 32 {
        4 => 77,
        5 => ts - 10,
        6 => ts * 3 - i64::from(seed),
        7 => i64::MIN,
        _ => 0,
    }
}

fn check_twin(ops: Vec<Op>, durable: bool, late_ms: i64) {
    let dir = tempfile::tempdir().unwrap();
    // Windows of a second, so that a few hundred samples turn the ring several times.
    let options = StorageOptions {
        dir: durable.then(|| dir.path().to_owned()),
        window_ms: 1000,
        retention_ms: 1 << 50,
        wal_segment_bytes: 2000,
        out_of_order_window_ms: late_ms,
        full_chunk_bytes_max: 0,
        ..StorageOptions::default()
    };
    let mut storage = Storage::open(options.clone()).unwrap();
    let mut twin = Twin::default();
    let (mut now, mut newest) = (0, 0);
    let all: [Matcher; 0] = [];
    for op in ops {
        match op {
            Op::Commit(samples) => {
                let mut a = storage.appender();
                let mut want = CommitStats::default();
                let min_valid = storage.min_valid_ts();
                let late_from =
                    (late_ms > 0).then(|| storage.stats().max_ts.map_or(i64::MIN, |newest| newest - late_ms));
                let (mut vague, mut held) = (0, 0);
                let mut sorted = Vec::new();
                for (i, dt, seed) in samples {
                    let ts: i64 = newest + dt;
                    sorted.push((i, ts, value(seed, ts), start(seed, ts)));
                }
                // Within a batch floats go first, and those with a start time last.
                sorted.sort_by_key(|s| (s.3 != 0, s.3 == 0 && matches!(s.2, Value::Histogram(_))));
                let mut latest = newest;
                for (i, ts, v, start) in sorted {
                    let series = a.series(&labels(i)).unwrap();
                    let sample = match &v {
                        Value::Float(v) => SampleValue::Float(*v),
                        Value::Histogram(h) => SampleValue::Histogram(Arc::clone(h)),
                    };
                    let taken = a.append_with_start(series, ts, start, sample);
                    assert!(matches!(taken, Ok(()) | Err(AppendError::TooOld)));
                    if ts < min_valid && late_from.is_some_and(|f| ts >= f) && twin.has(&labels(i), ts) {
                        // What a block has of that time is not looked at: it stays.
                        vague += 1;
                        continue;
                    }
                    held += u64::from(twin.has(&labels(i), ts));
                    match twin.append(&labels(i), ts, start, v, min_valid, late_from) {
                        None => want.repeated += 1,
                        Some(Ok(())) => {
                            want.samples += 1;
                            latest = latest.max(ts);
                        }
                        Some(Err(AppendError::OutOfOrder)) => want.out_of_order += 1,
                        Some(Err(AppendError::DuplicateTimestamp)) => want.duplicates += 1,
                        Some(Err(_)) => want.too_old += 1,
                    }
                }
                newest = latest;
                let got = a.commit().unwrap();
                // Whether a sample without room counts against the newest before the batch or within it is free. So
                // is then whether one that is there already is called too old.
                let no_room = |s: &CommitStats| s.repeated + s.out_of_order + s.duplicates + s.too_old;
                assert!((want.too_old.saturating_sub(held)..=want.too_old).contains(&got.too_old));
                assert_eq!(got.samples + no_room(&got), want.samples + no_room(&want) + vague);
                assert!((want.samples..=want.samples + vague).contains(&got.samples), "{got:?} {want:?}");
            }
            Op::DropBatch => {
                let mut a = storage.appender();
                let s = a.series(&labels(0)).unwrap();
                let _either = a.append(s, newest + 1, 77.0);
            }
            Op::Reopen => {
                if durable {
                    drop(storage);
                    storage = Storage::open(options.clone()).unwrap();
                }
            }
            Op::SealAll => storage.seal_all().unwrap(),
            Op::Maintain => {
                now += 200;
                let done = storage.maintain(now.min(newest));
                assert_eq!((done.failure, done.blocks_set_aside), (None, 0));
            }
            Op::Query { matcher: (op, name, value), from, length } => {
                let op = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex][op];
                let value = ["m1", "", "3|5", ".+", "yes"][value];
                let m = [Matcher::new(op, ["__name__", "id", "odd"][name], value).unwrap()];
                assert_eq!(
                    bits(query(&storage, &m, from, from + length)),
                    bits(twin.query(&m, from, from + length))
                );
            }
        }
    }
    assert_eq!(bits(query(&storage, &all, ALWAYS.0, ALWAYS.1)), bits(twin.query(&all, ALWAYS.0, ALWAYS.1)));
    assert_eq!(storage.verify(), Vec::<PathBuf>::new());
    if durable {
        drop(storage);
        let storage = Storage::open(options).unwrap();
        assert_eq!(
            bits(query(&storage, &all, ALWAYS.0, ALWAYS.1)),
            bits(twin.query(&all, ALWAYS.0, ALWAYS.1))
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn on_disk_it_is_its_twin(ops in proptest::collection::vec(any_op(), 1..60)) {
        check_twin(ops, true, 0);
    }

    #[test]
    fn on_disk_out_of_order_it_is_its_twin(
        ops in proptest::collection::vec(any_op_out_of_order(), 1..60),
        late_ms in prop_oneof![Just(300i64), Just(2500), Just(1 << 40)],
    ) {
        check_twin(ops, true, late_ms);
    }

    #[test]
    fn in_memory_out_of_order_it_is_its_twin(ops in proptest::collection::vec(any_op_out_of_order(), 1..60)) {
        check_twin(ops, false, 2500);
    }

    #[test]
    fn in_memory_it_is_its_twin(ops in proptest::collection::vec(any_op(), 1..60)) {
        check_twin(ops, false, 0);
    }
}

#[test]
fn what_was_acknowledged_survives() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(options(dir.path())).unwrap();
    for t in 0..500 {
        scrape(&storage, 0..50, t * 15_000, t as f64);
    }
    let metadata =
        Metadata { metric_type: MetricType::Counter, help: "What it\ncounts".into(), unit: "bytes".into() };
    storage.set_metadata("m1", metadata.clone());
    let before = query(&storage, &[], ALWAYS.0, ALWAYS.1);
    assert_eq!(before.len(), 50);
    assert_eq!(before[0].1.ts.len(), 500);
    // As a kill leaves it: nothing is closed, no lock is let go in order.
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    let other = Storage::open(options(copy.path())).unwrap();
    assert_eq!(query(&other, &[], ALWAYS.0, ALWAYS.1), before);
    assert_eq!(other.reader().metadata(), [("m1".to_owned(), metadata.clone())]);
    // Twice, and over a seal with its checkpoint.
    other.seal_all().unwrap();
    scrape(&other, 0..50, 500 * 15_000, 1.0);
    drop(other);
    let other = Storage::open(options(copy.path())).unwrap();
    assert_eq!(query(&other, &[], ALWAYS.0, 499 * 15_000), before);
    assert_eq!(query(&other, &[], 500 * 15_000, ALWAYS.1).len(), 50);
    assert_eq!(other.reader().metadata_of("m1"), Some(metadata));
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target)
        } else {
            let _bytes = fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == extension))
        .collect();
    found.sort();
    found
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(options(dir.path())).unwrap();
    let error = Storage::open(options(dir.path())).unwrap_err().to_string();
    assert!(error.contains("another process has it open"), "{error}");
    drop(storage);
    Storage::open(options(dir.path())).unwrap();
}

#[test]
fn a_cut_wal_loses_only_what_was_cut() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(options(dir.path())).unwrap();
    for t in 0..20 {
        scrape(&storage, 0..3, t * 1000, t as f64);
    }
    drop(storage);
    let wal = files(&dir.path().join("wal"), "wal").remove(0);
    let whole = fs::read(&wal).unwrap();
    let mut seen = 0;
    for cut in (0..=whole.len()).step_by(7) {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), copy.path());
        fs::write(copy.path().join("wal").join(wal.file_name().unwrap()), &whole[..cut]).unwrap();
        let storage = Storage::open(options(copy.path())).unwrap();
        let found = query(&storage, &[], ALWAYS.0, ALWAYS.1);
        let n = found.first().map_or(0, |s| s.1.ts.len());
        // All series of a batch, or none.
        assert!(found.iter().all(|s| s.1.ts.len() == n), "torn batch at {cut}");
        assert!(n >= seen);
        seen = n;
        // And it goes on.
        assert_eq!(scrape(&storage, 0..3, 100_000, 1.0).samples, 3);
    }
    assert!(seen >= 19);
}

/// Fills a ring of windows of an hour with `hours` of samples each minute, with maintenance every ten minutes.
fn fill(storage: &Storage, series: usize, hours: i64) {
    for minute in 0..hours * 60 {
        let ts = minute * 60_000;
        scrape(storage, 0..series, ts, (minute as f64).sin());
        if minute % 10 == 0 {
            assert_eq!(storage.maintain(ts).failure, None);
        }
    }
}

#[test]
fn what_is_past_retention_time_falls_off() {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { window_ms: HOUR, retention_ms: 4 * HOUR, ..options(dir.path()) };
    let storage = Storage::open(o.clone()).unwrap();
    fill(&storage, 20, 12);
    let check = |storage: &Storage| {
        let stats = storage.stats();
        assert!((3..=5).contains(&stats.blocks), "{stats:?}");
        assert!(stats.head_samples <= 20 * 60 * 2, "{stats:?}");
        assert!(stats.wal_bytes < 100_000, "{stats:?}");
        let found = query(storage, &[], ALWAYS.0, ALWAYS.1);
        assert_eq!(found.len(), 20);
        let ts = &found[0].1.ts;
        assert!(ts[0] >= 6 * HOUR && ts[0] <= 8 * HOUR, "{}", ts[0]);
        // No gap up to the newest.
        assert!(ts.windows(2).all(|w| w[1] - w[0] == 60_000));
        assert_eq!(*ts.last().unwrap(), 12 * HOUR - 60_000);
    };
    check(&storage);
    drop(storage);
    check(&Storage::open(o).unwrap());
}

/// As in Prometheus, time counts from the newest block.
#[test]
fn a_clock_that_jumps_past_retention_removes_nothing() {
    const YEAR: i64 = 365 * 24 * HOUR;
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { window_ms: HOUR, retention_ms: 24 * HOUR, ..options(dir.path()) };
    let storage = Storage::open(o.clone()).unwrap();
    fill(&storage, 20, 12);
    let before = storage.stats();
    assert!(before.blocks >= 10);
    let oldest = |storage: &Storage| query(storage, &[], ALWAYS.0, ALWAYS.1)[0].1.ts[0];
    // The clock is wrong for some minutes, and samples come with its time.
    for minute in 0..10 {
        let now = YEAR + minute * 60_000;
        let done = storage.maintain(now);
        assert_eq!((done.blocks_removed, done.failure), (0, None));
        assert_eq!(scrape(&storage, 30..31, now, 1.0).samples, 1);
    }
    assert_eq!(oldest(&storage), 0);
    // It is set right: what others send is taken.
    for minute in 0..10 {
        let now = 13 * HOUR + minute * 60_000;
        assert_eq!(scrape(&storage, 0..20, now, 2.0).refused(), 0);
        assert_eq!(storage.maintain(now).blocks_removed, 0);
    }
    assert_eq!(oldest(&storage), 0);
    drop(storage);
    // Nor does a start after a long time.
    let storage = Storage::open(o).unwrap();
    assert_eq!(storage.maintain(YEAR).blocks_removed, 0);
    assert_eq!(oldest(&storage), 0);
}

#[test]
fn what_is_past_retention_size_falls_off() {
    let dir = tempfile::tempdir().unwrap();
    let bound = 300_000;
    let o = StorageOptions { window_ms: HOUR, retention_bytes: Some(bound), ..options(dir.path()) };
    let storage = Storage::open(o.clone()).unwrap();
    fill(&storage, 50, 12);
    let check = |storage: &Storage| {
        let stats = storage.stats();
        // Maintenance is every ten minutes of samples, which come on top.
        assert!(stats.wal_bytes + stats.block_bytes < bound + bound / 4, "{stats:?}");
        assert!(stats.blocks > 1);
        let found = query(storage, &[], ALWAYS.0, ALWAYS.1);
        assert_eq!(found.len(), 50);
        let ts = &found[0].1.ts;
        assert!(ts[0] > 0);
        assert!(ts.windows(2).all(|w| w[1] - w[0] == 60_000));
        assert_eq!(*ts.last().unwrap(), 12 * HOUR - 60_000);
    };
    check(&storage);
    drop(storage);
    check(&Storage::open(o).unwrap());
}

#[test]
fn series_that_left_the_ring_leave_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { window_ms: HOUR, retention_ms: 2 * HOUR, ..options(dir.path()) };
    let storage = Storage::open(o).unwrap();
    let mut a = storage.appender();
    let first = a.series(&labels(0)).unwrap();
    drop(a);
    // A hundred new series every hour, and one that stays.
    for minute in 0..10 * 60 {
        let ts = minute * 60_000;
        let generation = (minute / 60) as usize;
        scrape(&storage, 0..1, ts, 1.0);
        scrape(&storage, 100 * (generation + 1)..100 * (generation + 2), ts, 1.0);
        storage.maintain(ts);
    }
    let stats = storage.stats();
    assert!(stats.series <= 201, "{stats:?}");
    assert!(stats.label_pairs <= 201 + 5, "{stats:?}");
    let mut a = storage.appender();
    assert_eq!(a.series(&labels(0)).unwrap(), first);
    assert_eq!(a.append(SeriesRef(first.0 + (1 << 32)), 1, 1.0), Err(AppendError::UnknownSeries));
    let gone = SeriesRef(first.0 + 5);
    assert_eq!(a.append(gone, 10 * HOUR, 1.0), Err(AppendError::UnknownSeries));
}

#[test]
fn a_reference_goes_stale_with_its_series() {
    let storage =
        Storage::open(StorageOptions { retention_ms: HOUR, window_ms: HOUR, ..StorageOptions::default() })
            .unwrap();
    let mut a = storage.appender();
    let s = a.series(&labels(1)).unwrap();
    a.append(s, 0, 1.0).unwrap();
    a.commit().unwrap();
    for t in [0, 3 * HOUR, 3 * HOUR + 1] {
        storage.maintain(t);
    }
    assert_eq!(storage.stats().series, 0);
    let mut a = storage.appender();
    assert_eq!(a.append(s, 3 * HOUR, 1.0), Err(AppendError::UnknownSeries));
    let again = a.series(&labels(1)).unwrap();
    assert_ne!(again, s);
    a.append(again, 3 * HOUR, 1.0).unwrap();
    assert_eq!(a.commit().unwrap().samples, 1);
}

#[test]
fn no_scrape_is_seen_torn() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(options(dir.path())).unwrap();
    // Many shards.
    let series: Vec<SeriesRef> = {
        let mut a = storage.appender();
        (0..5000).map(|i| a.series(&labels(i)).unwrap()).step_by(100).collect()
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for t in 0..400 {
                let mut a = storage.appender();
                series.iter().for_each(|s| a.append(*s, t, t as f64).unwrap());
                a.commit().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut seen = 0;
        while !done.load(Ordering::Relaxed) {
            let found = query(&storage, &[], ALWAYS.0, ALWAYS.1);
            if let Some(n) = found.first().map(|s| s.1.ts.len()) {
                assert!(found.len() == series.len() && found.iter().all(|s| s.1.ts.len() == n));
                assert!(n >= seen);
                seen = n;
            }
        }
    });
    assert_eq!(query(&storage, &[], ALWAYS.0, ALWAYS.1)[0].1.ts.len(), 400);
}

#[test]
fn writers_and_a_turning_ring_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { window_ms: 1000, wal_segment_bytes: 20_000, ..options(dir.path()) };
    let storage = Storage::open(o.clone()).unwrap();
    let taken: u64 = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|w| {
                let storage = &storage;
                scope.spawn(move || {
                    (0..400)
                        .map(|t| scrape(storage, w * 30..w * 30 + 30, t * 20, t as f64).samples)
                        .sum::<u64>()
                })
            })
            .collect();
        for t in 0..60 {
            storage.maintain(t * 150);
            let _ = query(&storage, &[], ALWAYS.0, ALWAYS.1);
        }
        writers.into_iter().map(|w| w.join().unwrap()).sum()
    });
    let count = |storage: &Storage| -> u64 {
        query(storage, &[], ALWAYS.0, ALWAYS.1).iter().map(|s| s.1.ts.len() as u64).sum()
    };
    assert_eq!(count(&storage), taken);
    drop(storage);
    assert_eq!(count(&Storage::open(o).unwrap()), taken);
}

#[test]
fn limits_refuse_clearly() {
    let storage = Storage::open(StorageOptions { series_max: 2, ..StorageOptions::default() }).unwrap();
    storage.maintain(1_000_000);
    let mut a = storage.appender();
    let s = a.series(&labels(0)).unwrap();
    a.series(&labels(1)).unwrap();
    assert_eq!(a.series(&labels(2)), Err(AppendError::TooManySeries(SeriesLimit::Number(2))));
    assert_eq!(a.append(s, 1_000_000 + 600_001, 1.0), Err(AppendError::TooFarAhead));
    assert_eq!(a.append(s, 1_000_000 - 16 * 86_400_000, 1.0), Err(AppendError::TooOld));
    a.append(s, 1_000_000, 1.0).unwrap();
    let stats = a.commit().unwrap();
    assert_eq!((stats.samples, stats.too_far_ahead, stats.too_old, stats.series_created), (1, 1, 1, 2));
    assert_eq!(stats.first_refused, Some((s, 1_600_001, AppendError::TooFarAhead)));
}

#[test]
fn texts_of_labels_are_bounded() {
    let o = StorageOptions { memory_bytes_max: 100_000, ..StorageOptions::default() };
    let storage = Storage::open(o).unwrap();
    let mut a = storage.appender();
    let long = "v".repeat(10_000);
    let made = (0..1000)
        .map(|i| a.series(&Labels::from_pairs([("__name__", "m"), ("x", &*format!("{i}{long}"))])))
        .take_while(|s| *s != Err(AppendError::TooManySeries(SeriesLimit::Memory(100_000))))
        .count();
    // Each is held once, and twice more while it is sealed.
    assert!((3..=4).contains(&made), "{made}");
    // What is known is still taken.
    let known = Labels::from_pairs([("__name__", "m"), ("x", &*format!("0{long}"))]);
    let series = a.series(&known).unwrap();
    a.append(series, 1000, 1.0).unwrap();
    assert_eq!(a.commit().unwrap().samples, 1);
}

#[test]
fn labels_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(options(dir.path())).unwrap();
    scrape(&storage, 0..6, 1000, 1.0);
    let check = |storage: &Storage| {
        let r = storage.reader();
        assert_eq!(r.label_names(&[], ALWAYS.0, ALWAYS.1), ["__name__", "id", "odd"]);
        assert_eq!(r.label_values("__name__", &[], 0, 2000), ["m0", "m1", "m2"]);
        let odd = [Matcher::equal("odd", "yes")];
        assert_eq!(r.label_values("id", &odd, ALWAYS.0, ALWAYS.1), ["1", "3", "5"]);
        assert_eq!(r.label_names(&[Matcher::equal("id", "0")], 0, 2000), ["__name__", "id"]);
        assert_eq!(r.label_values("id", &odd, 2000, 3000), Vec::<String>::new());
        assert_eq!(r.select(&[], ALWAYS.0, ALWAYS.1).len(), 6);
        // Whoever has gone is given nothing.
        let gone = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        assert!(r.until(&gone).select(&[], ALWAYS.0, ALWAYS.1).is_empty());
    };
    check(&storage);
    storage.seal_all().unwrap();
    assert_eq!(storage.stats().blocks, 1);
    check(&storage);
    let top = storage.cardinality(2);
    assert_eq!(top.series_by_metric, [("m0".to_owned(), 2), ("m1".to_owned(), 2)]);
    assert_eq!(top.values_by_label[0], ("id".to_owned(), 6));
}

/// A batch of one float of series 1; what became of it.
fn put(storage: &Storage, ts: Timestamp, value: f64) -> CommitStats {
    let mut a = storage.appender();
    let s = a.series(&labels(1)).unwrap();
    let _counted = a.append(s, ts, value);
    a.commit().unwrap()
}

#[test]
fn samples_out_of_order_are_taken_within_the_window_only() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(StorageOptions { window_ms: HOUR, ..options(dir.path()) }).unwrap();
    put(&storage, 10 * HOUR, 1.0);
    assert_eq!(put(&storage, 9 * HOUR, 2.0).out_of_order, 1);
    storage.set_out_of_order_window(2 * HOUR);
    assert_eq!(put(&storage, 9 * HOUR, 2.0).samples_out_of_order, 1);
    assert_eq!(put(&storage, 9 * HOUR, 2.0).repeated, 1);
    assert_eq!(put(&storage, 9 * HOUR, 3.0).duplicates, 1);
    assert_eq!(put(&storage, 8 * HOUR, 3.0).samples, 1);
    assert_eq!(put(&storage, 8 * HOUR - 1, 3.0).too_old, 1);
    // In one batch, too.
    let mut a = storage.appender();
    let s = a.series(&labels(1)).unwrap();
    for (ts, v) in [(12, 5.0), (11, 4.0), (11, 4.5), (9, 2.0)] {
        a.append(s, ts * HOUR, v).unwrap();
    }
    let stats = a.commit().unwrap();
    assert_eq!((stats.samples, stats.samples_out_of_order, stats.duplicates, stats.repeated), (2, 1, 1, 1));
    let expected = ([8, 9, 10, 11, 12].map(|t| t * HOUR).to_vec(), vec![3.0, 2.0, 1.0, 4.0, 5.0]);
    let check = |storage: &Storage| {
        let found = query(storage, &[], ALWAYS.0, ALWAYS.1).remove(0).1;
        assert_eq!((found.ts, found.vs), expected);
    };
    check(&storage);
    // A window that is closed since then does not lose what was taken, over a restart and over a seal.
    storage.set_out_of_order_window(0);
    drop(storage);
    let storage = Storage::open(StorageOptions { window_ms: HOUR, ..options(dir.path()) }).unwrap();
    check(&storage);
    storage.seal_all().unwrap();
    check(&storage);
}

#[test]
fn a_late_sample_comes_to_its_block() {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { window_ms: HOUR, out_of_order_window_ms: 100 * HOUR, ..options(dir.path()) };
    let storage = Storage::open(o.clone()).unwrap();
    // No sample between the hours 2 and 5: no block answers for them.
    for t in [0, 1, 5, 6] {
        put(&storage, t * HOUR, t as f64);
    }
    storage.seal_all().unwrap();
    assert_eq!(storage.stats().blocks, 4);
    for t in [3, 1] {
        assert_eq!(put(&storage, t * HOUR + 1, 100.0).samples_out_of_order, 1);
    }
    let expected = [0, HOUR, HOUR + 1, 3 * HOUR + 1, 5 * HOUR, 6 * HOUR].to_vec();
    let check = |storage: &Storage| {
        assert_eq!(query(storage, &[], ALWAYS.0, ALWAYS.1).remove(0).1.ts, expected);
        let part = query(storage, &[], HOUR + 1, 3 * HOUR + 1).remove(0).1;
        assert_eq!((part.ts, part.vs), (vec![HOUR + 1, 3 * HOUR + 1], vec![100.0, 100.0]));
    };
    check(&storage);
    drop(storage);
    let storage = Storage::open(o.clone()).unwrap();
    check(&storage);
    // The next seal writes one block anew and one more.
    put(&storage, 20 * HOUR, 1.0);
    storage.seal_all().unwrap();
    let ranges: Vec<String> = files(&dir.path().join("blocks"), "block")
        .iter()
        .map(|p| p.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(ranges.len(), 6, "{ranges:?}");
    let until = |storage: &Storage| query(storage, &[], ALWAYS.0, 19 * HOUR).remove(0).1.ts;
    assert_eq!(until(&storage), expected);
    drop(storage);
    // Without a WAL the blocks have it all.
    fs::remove_dir_all(dir.path().join("wal")).unwrap();
    let storage = Storage::open(o).unwrap();
    assert_eq!(until(&storage), expected);
    assert_eq!(storage.verify(), Vec::<PathBuf>::new());
}

#[test]
fn late_samples_that_conflict_with_their_block_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { window_ms: HOUR, out_of_order_window_ms: 100 * HOUR, ..options(dir.path()) };
    let metrics = StorageMetrics::default();

    let storage = Storage::open_with(o, metrics.clone()).unwrap();
    let put_histogram = |id: usize, ts, h: Arc<FloatHistogram>| {
        let mut a = storage.appender();
        let series = a.series(&labels(id)).unwrap();
        let _counted = a.append_histogram(series, ts, h);
        a.commit().unwrap()
    };
    put(&storage, 1, 1.0);
    put(&storage, 2, 2.0);
    put(&storage, 3, 3.0);
    put_histogram(2, 1, histogram(4));
    put_histogram(2, 2, histogram(5));
    put(&storage, HOUR, 6.0);
    storage.seal_all().unwrap();
    storage.delete_series(&[vec![]], 3, 3).unwrap();
    // The same once more, another value, the place of what is deleted, and a free one.
    for (ts, value) in [(1, 1.0), (2, 9.0), (3, 9.0), (4, 9.0)] {
        assert_eq!(put(&storage, ts, value).samples_out_of_order, 1);
    }
    // Of histograms the same, but for the hint, and another; and one in the place of a float.
    let hinted = FloatHistogram { counter_reset_hint: CounterResetHint::Gauge, ..(*histogram(4)).clone() };
    put_histogram(2, 1, Arc::new(hinted));
    put_histogram(2, 2, histogram(6));
    put_histogram(1, HOUR, histogram(7));
    let before = metrics.duplicate_samples.get();
    storage.seal_all().unwrap();
    assert_eq!(metrics.duplicate_samples.get() - before, 3);
    let found = query(&storage, &[Matcher::equal("id", "1")], ALWAYS.0, ALWAYS.1).remove(0).1;
    assert_eq!((found.ts, found.vs), (vec![1, 2, 3, 4, HOUR], vec![1.0, 2.0, 9.0, 9.0, 6.0]));
    // They are counted once.
    storage.seal_all().unwrap();
    assert_eq!(metrics.duplicate_samples.get() - before, 3);
}

#[test]
fn a_late_sample_does_not_outlive_the_block_that_keeps_it_out() {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions {
        window_ms: HOUR,
        retention_ms: HOUR + HOUR / 2,
        out_of_order_window_ms: 100 * HOUR,
        ..options(dir.path())
    };
    let storage = Storage::open(o.clone()).unwrap();
    put(&storage, 1, 1.0);
    storage.seal_all().unwrap();
    put(&storage, 2 * HOUR, 2.0);
    storage.seal_all().unwrap();
    put(&storage, 9 * HOUR, 3.0);
    assert_eq!(put(&storage, 1, 9.0).samples_out_of_order, 1);
    drop(storage);
    let storage = Storage::open(o).unwrap();
    let all = || query(&storage, &[], ALWAYS.0, ALWAYS.1).remove(0).1;
    assert_eq!(all().vs, [1.0, 2.0, 3.0]);
    storage.maintain(11 * HOUR);
    assert_eq!((all().ts, all().vs), (vec![2 * HOUR, 9 * HOUR], vec![2.0, 3.0]));
}

#[test]
fn a_late_sample_that_was_deleted_stays_away() {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { window_ms: HOUR, out_of_order_window_ms: 100 * HOUR, ..options(dir.path()) };
    let storage = Storage::open(o.clone()).unwrap();
    put(&storage, HOUR, 1.0);
    put(&storage, 5 * HOUR, 5.0);
    storage.seal_all().unwrap();
    put(&storage, 6 * HOUR, 6.0);
    put(&storage, HOUR + 1, 2.0);
    put(&storage, 5 * HOUR + 1, 2.0);
    storage.delete_series(&[vec![]], HOUR + 1, HOUR + 1).unwrap();
    let times = |storage: &Storage| query(storage, &[], ALWAYS.0, ALWAYS.1).remove(0).1.ts;
    let expected = [HOUR, 5 * HOUR, 5 * HOUR + 1, 6 * HOUR];
    assert_eq!(times(&storage), expected);
    drop(storage);
    let storage = Storage::open(o.clone()).unwrap();
    assert_eq!(times(&storage), expected);
    let snapshot = storage.snapshot("copy", false).unwrap();
    storage.clean_tombstones().unwrap();
    drop(storage);
    let storage = Storage::open(o.clone()).unwrap();
    assert_eq!(times(&storage), expected);
    // It may come again.
    assert_eq!(put(&storage, HOUR + 1, 9.0).samples, 1);
    assert_eq!(times(&storage).len(), 5);
    let copy = Storage::open(StorageOptions { dir: Some(snapshot), ..o }).unwrap();
    assert_eq!(times(&copy), expected);
}
