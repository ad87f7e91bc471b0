//! What was deleted stays deleted, whatever happens; what came later is there; a snapshot is what was there.

use std::collections::BTreeMap;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Samples of some series, all at one time.
    Commit(u8, i64),
    Delete {
        id: usize,
        metric: bool,
        from: i64,
        len: i64,
    },
    Clean,
    SealAll,
    Maintain,
    Reopen,
    Snapshot,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (any::<u8>(), 1i64..300).prop_map(|(series, dt)| Step::Commit(series, dt)),
        3 => (0usize..8, any::<bool>(), -500i64..6000, 0i64..3000)
            .prop_map(|(id, metric, from, len)| Step::Delete { id, metric, from, len }),
        1 => (0usize..8).prop_map(|id| Step::Delete { id, metric: true, from: i64::MIN, len: -1 }),
        1 => Just(Step::Clean),
        1 => Just(Step::SealAll),
        3 => Just(Step::Maintain),
        1 => Just(Step::Reopen),
        1 => Just(Step::Snapshot),
    ]
}

type Model = BTreeMap<Labels, BTreeMap<Timestamp, u64>>;

fn check(storage: &Storage, model: &Model, what: &str) {
    let found = query(storage, &[], ALWAYS.0, ALWAYS.1);
    let found: Model = bits(found)
        .into_iter()
        .map(|(l, floats, hists, _)| {
            assert!(hists.is_empty());
            (l, floats.into_iter().collect())
        })
        .collect();
    let want: Model =
        model.iter().filter(|(_, s)| !s.is_empty()).map(|(l, s)| (l.clone(), s.clone())).collect();
    assert_eq!(found, want, "{what}");
    // What is gone as a whole is not listed.
    let listed = storage.reader().select(&[], ALWAYS.0, ALWAYS.1);
    for series in &listed {
        let mut samples = Samples::default();
        series.read(ALWAYS.0, ALWAYS.1, &mut samples);
        assert_eq!(samples.ts.len(), model.get(series.labels()).map_or(0, BTreeMap::len), "{what}");
    }
}

fn check_steps(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions {
        window_ms: 1000,
        retention_ms: 1 << 50,
        wal_segment_bytes: 2000,
        ..options(dir.path())
    };
    let mut storage = Storage::open(o.clone()).unwrap();
    let (mut model, mut newest, mut now) = (Model::new(), 0i64, 0i64);
    for (n, step) in steps.into_iter().enumerate() {
        let what = format!("after step {n}, {step:?}");
        match step {
            Step::Commit(series, dt) => {
                newest += dt;
                let mut a = storage.appender();
                for i in (0..8).filter(|i| series & 1 << i != 0) {
                    let s = a.series(&labels(i)).unwrap();
                    a.append(s, newest, newest as f64 / 3.0).unwrap();
                    model.entry(labels(i)).or_default().insert(newest, (newest as f64 / 3.0).to_bits());
                }
                a.commit().unwrap();
            }
            Step::Delete { id, metric, from, len } => {
                let to = if len < 0 { i64::MAX } else { from + len };
                let matcher = if metric {
                    Matcher::equal("__name__", format!("m{}", id % 3))
                } else {
                    Matcher::equal("id", id.to_string())
                };
                storage.delete_series(&[vec![matcher.clone()]], from, to).unwrap();
                for (labels, samples) in &mut model {
                    if labels.get(&matcher.name).is_some_and(|v| v == matcher.value) {
                        samples.retain(|t, _| *t < from || *t > to);
                    }
                }
            }
            Step::Clean => {
                storage.clean_tombstones().unwrap();
                assert_eq!(storage.clean_tombstones().unwrap(), Cleaned::default());
            }
            Step::SealAll => storage.seal_all().unwrap(),
            Step::Maintain => {
                now += 200;
                assert_eq!(storage.maintain(now.min(newest)).failure, None);
            }
            Step::Reopen => {
                drop(storage);
                storage = Storage::open(o.clone()).unwrap();
            }
            Step::Snapshot => {
                let path = storage.snapshot(&format!("s{n}"), false).unwrap();
                let copy = Storage::open(StorageOptions { dir: Some(path), ..o.clone() }).unwrap();
                check(&copy, &model, "the snapshot");
            }
        }
        check(&storage, &model, &what);
    }
    drop(storage);
    check(&Storage::open(o).unwrap(), &model, "at the end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn deletions_last(steps in proptest::collection::vec(any_step(), 1..50)) {
        check_steps(steps);
    }
}

#[test]
fn a_deletion_that_is_damaged_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(options(dir.path())).unwrap();
    scrape(&storage, 0..3, 1000, 1.0);
    let all = [vec![Matcher::equal("id", "1")]];
    let done = storage.delete_series(&all, ALWAYS.0, ALWAYS.1).unwrap();
    assert_eq!(done, SeriesDeleted { head_series: 1, block_series: 0 });
    assert_eq!(query(&storage, &[], ALWAYS.0, ALWAYS.1).len(), 2);
    drop(storage);
    let file = dir.path().join("tombstones");
    let mut bytes = fs::read(&file).unwrap();
    bytes[12] ^= 1;
    fs::write(&file, bytes).unwrap();
    let storage = Storage::open(options(dir.path())).unwrap();
    assert_eq!(query(&storage, &[], ALWAYS.0, ALWAYS.1).len(), 3);
    assert!(!file.exists() && dir.path().join("quarantine/tombstones").exists());
}

#[test]
fn a_snapshot_has_metadata_and_nothing_that_came_later() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(options(dir.path())).unwrap();
    let metadata = Metadata { metric_type: MetricType::Gauge, help: "h".into(), unit: String::new() };
    storage.set_metadata("m1", metadata.clone());
    for t in 0..300 {
        scrape(&storage, 0..20, t * 15_000, t as f64);
    }
    let before = query(&storage, &[], ALWAYS.0, ALWAYS.1);
    let with_head = storage.snapshot("a", false).unwrap();
    let without = storage.snapshot("b", true).unwrap();
    assert!(storage.snapshot("a", false).unwrap_err().to_string().contains("there already"));
    // Late samples are as welcome as before.
    assert_eq!(scrape(&storage, 20..21, 5_000, 1.0).samples, 1);
    let open =
        |dir: PathBuf| Storage::open(StorageOptions { dir: Some(dir), ..StorageOptions::default() }).unwrap();
    let copy = open(with_head);
    assert_eq!(query(&copy, &[], ALWAYS.0, ALWAYS.1), before);
    assert_eq!(copy.reader().metadata_of("m1"), Some(metadata.clone()));
    assert_eq!(scrape(&copy, 0..20, 300 * 15_000, 1.0).samples, 20);
    let copy = open(without);
    assert_eq!(query(&copy, &[], ALWAYS.0, ALWAYS.1), []);
    assert_eq!(copy.reader().metadata_of("m1"), Some(metadata));
    // What a crash leaves is removed.
    fs::create_dir_all(dir.path().join("snapshots/c.tmp/blocks")).unwrap();
    drop(storage);
    let _storage = Storage::open(options(dir.path())).unwrap();
    let mut left: Vec<_> =
        fs::read_dir(dir.path().join("snapshots")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["a", "b"]);
}

#[test]
fn in_memory_samples_can_be_deleted_too() {
    let storage = Storage::open(StorageOptions::default()).unwrap();
    scrape(&storage, 0..3, 1000, 1.0);
    storage.delete_series(&[vec![Matcher::equal("__name__", "m1")]], 0, 5000).unwrap();
    assert_eq!(query(&storage, &[], ALWAYS.0, ALWAYS.1).len(), 2);
    scrape(&storage, 0..3, 2000, 1.0);
    let found = query(&storage, &[], ALWAYS.0, ALWAYS.1);
    assert_eq!(found.iter().map(|f| f.1.ts.len()).collect::<Vec<_>>(), [2, 1, 2]);
    assert!(storage.snapshot("a", false).is_err());
}

#[test]
fn a_late_sample_is_seen_at_once_where_all_newer_ones_were_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { window_ms: HOUR, out_of_order_window_ms: 100 * HOUR, ..options(dir.path()) };
    let storage = Storage::open(o).unwrap();
    put(&storage, HOUR, 1.0);
    storage.seal_all().unwrap();
    // The first sample that the block does not answer for.
    put(&storage, HOUR + 1, 6.0);
    storage.delete_series(&[vec![]], HOUR + 1, 7 * HOUR).unwrap();
    put(&storage, HOUR - 5, 2.0);
    let times = |storage: &Storage| query(storage, &[], ALWAYS.0, ALWAYS.1).remove(0).1.ts;
    assert_eq!(times(&storage), [HOUR - 5, HOUR]);
    storage.maintain(7 * HOUR);
    assert_eq!(times(&storage), [HOUR - 5, HOUR]);
}

#[test]
fn what_is_deleted_stays_away_when_the_newest_block_falls_off() {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { window_ms: 1000, ..options(dir.path()) };
    // As for its size; time never takes the newest.
    let remove_before = |storage: &Storage, oldest| {
        let mut done = Maintained::default();
        storage.db().remove_oldest(oldest, 0, &mut done);
        done
    };
    let storage = Storage::open(o.clone()).unwrap();
    scrape(&storage, 0..1, 800, 1.0);
    // One batch, so one segment of the WAL: it stays when the window of its first sample is sealed.
    let mut a = storage.appender();
    for (i, ts) in [(2, 836), (0, 1000)] {
        let series = a.series(&labels(i)).unwrap();
        a.append(series, ts, 2.0).unwrap();
    }
    a.commit().unwrap();
    scrape(&storage, 0..1, 1500, 1.0);
    storage.maintain(1500);
    assert_eq!(storage.maintain(1700).blocks_sealed, 1);
    let done = storage.delete_series(&[vec![Matcher::equal("id", "2")]], ALWAYS.0, ALWAYS.1).unwrap();
    assert_eq!(done, SeriesDeleted { head_series: 0, block_series: 1 });
    // The head's window has ended, but not long enough ago to be sealed.
    scrape(&storage, 0..1, 2855, 1.0);
    let times = |storage: &Storage| -> Vec<_> {
        let found = query(storage, &[], ALWAYS.0, ALWAYS.1);
        found.into_iter().map(|(labels, s)| (labels, s.ts)).collect()
    };
    // Whether that window is quiet is not known after a restart.
    drop(storage);
    let storage = Storage::open(o.clone()).unwrap();
    let done = remove_before(&storage, 900);
    assert_eq!((done.blocks_sealed, done.blocks_removed, done.failure), (0, 1, None));
    let expected = [(labels(0), vec![1000, 1500, 2855])];
    assert_eq!(times(&storage), expected);
    drop(storage);
    let storage = Storage::open(o.clone()).unwrap();
    assert_eq!(times(&storage), expected, "what fell off is back");
    // What tells until when all is sealed goes once a newer block does.
    assert_eq!(remove_before(&storage, 900), Maintained::default());
    storage.seal_all().unwrap();
    assert_eq!(times(&storage), expected);
    remove_before(&storage, 1100);
    let left: Vec<u64> = storage.block_stats().iter().map(|b| b.samples).collect();
    assert_eq!(left.iter().filter(|n| **n == 0).count(), 0, "{left:?}");
    assert_eq!(storage.verify(), Vec::<PathBuf>::new());
}

/// A process that is killed anywhere while windows are sealed and late samples come to their blocks.
#[test]
fn what_is_deleted_of_late_samples_stays_away_after_a_kill() {
    use crate::storage::disk::sim::{Fault, Kind, SimDisk};

    for in_head in [true, false] {
        let mut at = 0;
        loop {
            let disk = SimDisk::default();
            let o = StorageOptions {
                dir: Some("/data".into()),
                window_ms: 1000,
                retention_ms: 1 << 50,
                out_of_order_window_ms: 10_000,
                // Any two frames are in two segments.
                wal_segment_bytes: 1,
                ..StorageOptions::default()
            };
            let open = |disk: &SimDisk| {
                Storage::open_on(Arc::new(disk.clone()), o.clone(), StorageMetrics::default()).unwrap()
            };
            let storage = open(&disk);
            put(&storage, 500, 1.0);
            put(&storage, 900, 1.0);
            if !in_head {
                storage.seal_all().unwrap();
            }
            put(&storage, 1500, 1.0);
            assert_eq!(put(&storage, 700, 7.0).samples_out_of_order, 1);
            storage.delete_series(&[vec![]], 700, 700).unwrap();
            disk.fail(Fault { at: disk.operations() + at, times: 1, kind: Kind::Kill });
            let _killed = storage.seal_all();
            let was_killed = disk.is_gone();
            drop(storage);
            disk.restart();
            for _ in 0..2 {
                let storage = open(&disk);
                let times = |storage: &Storage| query(storage, &[], ALWAYS.0, ALWAYS.1).remove(0).1.ts;
                assert_eq!(times(&storage), [500, 900, 1500], "in the head: {in_head}, killed at {at}");
                storage.seal_all().unwrap();
                assert_eq!(times(&storage), [500, 900, 1500], "in the head: {in_head}, killed at {at}");
            }
            if !was_killed {
                assert!(at > 5, "the kills were in the middle of it: {at}");
                break;
            }
            at += 1;
        }
    }
}
