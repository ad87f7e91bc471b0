//! A disk that fails while a WAL that does not fit into the memory limit is replayed in parts.

use super::*;

const MINUTE: i64 = 60_000;

fn options(limit: u64) -> StorageOptions {
    StorageOptions {
        dir: Some(DIR.into()),
        wal_segment_bytes: 4 << 10,
        memory_bytes_max: limit,
        fsync: FsyncPolicy::Always,
        out_of_order_window_ms: 10 * MINUTE,
        ..StorageOptions::default()
    }
}

fn open(disk: &SimDisk, limit: u64) -> Result<(Storage, StorageMetrics), StorageError> {
    let metrics = StorageMetrics::default();
    let storage = Storage::open_on(Arc::new(disk.clone()), options(limit), metrics.clone())?;
    Ok((storage, metrics))
}

/// Half an hour of series that come and go, with late samples and one that goes on.
fn half_an_hour(storage: &Storage) -> Written {
    let mut written = Written::new();
    for minute in 0..30 {
        let mut a = storage.appender();
        for i in (minute * 8..minute * 8 + 8).chain([999]) {
            let series = a.series(&labels(i)).unwrap();
            let late = (minute > 5 && i == 999).then_some(minute * MINUTE - 3 * MINUTE + 1);
            for ts in [Some(minute * MINUTE), late].into_iter().flatten() {
                let value = (ts + i) as f64 / 8.0;
                a.append(series, ts, value).unwrap();
                written.insert((i, ts), value.to_bits());
            }
        }
        assert_eq!(a.commit().unwrap().refused(), 0);
    }
    written
}

fn check(storage: &Storage, written: &Written, what: &str) {
    let (held, partial) = held(storage);
    assert!(!partial && held == *written, "{what}: {} of {} samples", held.len(), written.len());
}

/// With the fault at every operation of a start.
fn start_everywhere(kind: Kind, times: u64) {
    const LIMIT: u64 = 150 << 10;
    let (mut at, mut blocks_most) = (0, 0);
    loop {
        let disk = SimDisk::default();
        let (storage, _) = open(&disk, 0).unwrap();
        let written = half_an_hour(&storage);
        drop(storage);
        let before = disk.operations();
        disk.fail(Fault { at: before + at, times, kind });
        let what = format!("{kind:?} at operation {at} of a start");
        let first = open(&disk, LIMIT);
        let was_met = disk.faults() > 0;
        if let (Ok((storage, metrics)), false) = (&first, disk.is_gone()) {
            check(storage, &written, &what);
            assert_eq!((metrics.damaged.get(), metrics.lost_samples.get()), (0, 0), "{what}");
            blocks_most = blocks_most.max(storage.stats().blocks);
        }
        drop(first);
        if disk.is_gone() {
            disk.restart();
        }
        let (storage, metrics) = open(&disk, LIMIT).unwrap();
        check(&storage, &written, &what);
        assert_eq!((metrics.damaged.get(), metrics.lost_samples.get()), (0, 0), "{what}");
        if !was_met {
            break;
        }
        at += 1;
    }
    assert!(at > 30 && blocks_most > 1, "{at} operations, {blocks_most} blocks");
}

#[test]
fn a_kill_between_the_parts_of_a_replay_loses_nothing() {
    start_everywhere(Kind::Kill, 1);
}

#[test]
fn a_loss_of_power_between_the_parts_of_a_replay_loses_nothing() {
    start_everywhere(Kind::PowerLoss, 1);
}

#[test]
fn a_full_disk_between_the_parts_of_a_replay_loses_nothing() {
    start_everywhere(Kind::NoSpace, 4);
}
