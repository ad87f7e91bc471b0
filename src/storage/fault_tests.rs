//! A disk that fails, at every operation of a day's work once: nothing that was acknowledged is lost.
//!
//! The day is lived twice: with the head's full chunks in memory, and with all of them in their file, whose writes then fail
//! like any other.

mod operations;
mod parts;
mod scratch;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::disk::sim::{Fault, Kind, SimDisk};
use super::*;
use crate::model::{FloatHistogram, Labels, Timestamp};

const DIR: &str = "/data";
const WINDOW_MS: i64 = 1000;
const ROUNDS: i64 = 36;
/// Series live for so many rounds.
const LIFE: i64 = 9;

/// Bits by the number of the series and the time.
type Written = BTreeMap<(i64, Timestamp), u64>;

fn labels(i: i64) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("id", &i.to_string()), ("filling", &"x".repeat(20))])
}

/// A storage on a disk that may fail, and what it said yes to.
struct World {
    disk: SimDisk,
    options: StorageOptions,
    metrics: StorageMetrics,
    storage: Option<Storage>,
    /// What was acknowledged, by the batch in which it was.
    acknowledged: BTreeMap<(i64, Timestamp), (u64, i64)>,
    /// Of these, what a loss of power must not take.
    durable: Written,
    /// All that was ever sent.
    attempted: Written,
    /// The batch that was written to the WAL when the fault came.
    hit: Option<i64>,
    refused: usize,
    /// The time of the last maintenance.
    now: Timestamp,
}

/// Where the head's full chunks are, as [`StorageOptions::full_chunk_bytes_max`].
const IN_MEMORY: u64 = u64::MAX;
const IN_FILE: u64 = 0;

impl World {
    fn new(fsync: FsyncPolicy, full_chunk_bytes_max: u64) -> World {
        let options = StorageOptions {
            dir: Some(DIR.into()),
            window_ms: WINDOW_MS,
            retention_ms: 1 << 50,
            wal_segment_bytes: 1500,
            full_chunk_bytes_max,
            fsync,
            ..StorageOptions::default()
        };
        World {
            disk: SimDisk::default(),
            options,
            metrics: StorageMetrics::default(),
            storage: None,
            acknowledged: BTreeMap::new(),
            durable: BTreeMap::new(),
            attempted: BTreeMap::new(),
            hit: None,
            refused: 0,
            now: 0,
        }
    }

    /// Opens the storage, which may fail as long as the fault lasts; the disk is restarted if it is gone.
    fn open(&mut self) {
        for _ in 0..100 {
            match Storage::open_on(Arc::new(self.disk.clone()), self.options.clone(), self.metrics.clone()) {
                Ok(storage) => {
                    self.storage = Some(storage);
                    return;
                }
                Err(_) if self.disk.is_gone() => self.disk.restart(),
                Err(_) => {}
            }
        }
        panic!("it does not start any more");
    }

    fn storage(&self) -> &Storage {
        self.storage.as_ref().unwrap()
    }

    /// One batch; returns whether it was acknowledged.
    fn commit(&mut self, round: i64) -> bool {
        let ts = round * 150;
        self.send(round, (round - LIFE).max(0)..=round, ts)
    }

    /// A sample of each of these series at a time; returns whether it was acknowledged.
    fn send(&mut self, round: i64, series: impl IntoIterator<Item = i64>, ts: Timestamp) -> bool {
        let wal_faults = |disk: &SimDisk| disk.faults() - disk.scratch_faults();
        let before = wal_faults(&self.disk);
        let storage = self.storage().clone();
        let mut a = storage.appender();
        let mut batch = Written::new();
        for i in series {
            let series = a.series(&labels(i)).unwrap();
            let value = (ts * 7 + i) as f64 / 8.0;
            if i % 4 == 3 {
                let h = FloatHistogram { count: value, sum: value, ..FloatHistogram::default() };
                a.append_histogram(series, ts, Arc::new(h)).unwrap();
            } else {
                a.append(series, ts, value).unwrap();
            }
            batch.insert((i, ts), value.to_bits());
        }
        self.attempted.extend(&batch);
        let done = a.commit();
        if wal_faults(&self.disk) > before {
            self.hit = Some(round);
        }
        match done {
            Ok(stats) => {
                assert_eq!((stats.samples + stats.repeated) as usize, batch.len(), "{stats:?}");
                if self.options.fsync == FsyncPolicy::Always {
                    self.durable.extend(&batch);
                }
                self.acknowledged.extend(batch.into_iter().map(|(k, v)| (k, (v, round))));
                true
            }
            Err(_) => {
                self.refused += 1;
                false
            }
        }
    }

    /// What is held. A scratch file that is damaged makes reading partial until maintenance comes by; where the next sector is
    /// bad as well, until it comes once more.
    fn held(&mut self, kind: Kind) -> Written {
        let (mut all, mut partial) = held(self.storage());
        for _ in 0..10 {
            if !partial {
                return all;
            }
            assert!(matches!(kind, Kind::BitFlip | Kind::BadSector), "{kind:?}");
            assert_eq!(self.storage().maintain(self.now).failure, None);
            assert!(self.metrics.damaged.get() > 0, "healed without a word");
            let rest = std::mem::take(&mut all);
            (all, partial) = held(self.storage());
            assert!(partial || all.len() > rest.len() && rest.keys().all(|key| all.contains_key(key)));
        }
        panic!("it is never healed");
    }

    /// All that must be there is there, and nothing that was never written.
    fn check(&mut self, kind: Kind, what: &str) {
        let held = self.held(kind);
        for (key, value) in &held {
            assert_eq!(self.attempted.get(key), Some(value), "{what}: never written: {key:?}");
        }
        for (key, (value, batch)) in &self.acknowledged {
            match held.get(key) {
                Some(found) => assert_eq!(found, value, "{what}: another value at {key:?}"),
                None => {
                    let flipped = kind == Kind::BitFlip && self.hit == Some(*batch);
                    assert!(flipped, "{what}: lost {key:?} of batch {batch}");
                    assert!(self.metrics.damaged.get() > 0, "{what}: lost without a word");
                }
            }
        }
    }

    /// After the end of the process or of the machine: opens again, and forgets what was not promised.
    fn recover(&mut self, kind: Kind, what: &str) {
        self.storage = None;
        self.disk.restart();
        self.open();
        if matches!(kind, Kind::PowerLoss | Kind::PowerLossTorn) {
            let held = self.held(kind);
            let durable = &self.durable;
            self.acknowledged.retain(|key, _| held.contains_key(key) || durable.contains_key(key));
        }
        self.check(kind, what);
    }

    /// Maintenance, as it is called every few seconds.
    fn maintain(&mut self, round: i64) {
        self.now = round * 150;
        let done = self.storage().maintain(self.now);
        let synced = self.options.fsync == FsyncPolicy::Interval && done.failure.is_none();
        if synced && !self.disk.is_gone() {
            // Nothing was acknowledged meanwhile.
            self.durable.extend(self.acknowledged.iter().map(|(k, v)| (*k, v.0)));
        }
    }

    /// The day's work. A fault may come at any time; at the end everything works again.
    fn run(&mut self, kind: Kind, what: &str) {
        self.open();
        for round in 0..ROUNDS {
            // A sender that is refused sends again, until the fault has passed.
            for attempt in 0.. {
                let done = self.commit(round);
                if self.disk.is_gone() {
                    self.recover(kind, what);
                } else if done {
                    break;
                }
                assert!(attempt < 20, "{what}: it goes on refusing");
            }
            if round % 3 == 2 {
                self.maintain(round);
            }
            if round == ROUNDS / 2 {
                self.storage = None;
                self.open();
            }
            if self.disk.is_gone() {
                self.recover(kind, what);
            }
            if round % 6 == 5 {
                self.check(kind, what);
            }
        }
        self.disk.restart();
        self.check(kind, what);
        self.maintain(ROUNDS + 10);
        let done = self.storage().maintain((ROUNDS + 20) * 150);
        assert_eq!(done.failure, None, "{what}");
        self.check(kind, what);
        self.storage = None;
        self.open();
        self.check(kind, what);
        assert!(!self.storage().reader().select(&[], 0, Timestamp::MAX).is_empty());
    }
}

/// What a storage holds, and whether that is not all.
fn held(storage: &Storage) -> (Written, bool) {
    let reader = storage.reader();
    let mut held = Written::new();
    for series in reader.select(&[], Timestamp::MIN, Timestamp::MAX).iter() {
        let mut samples = Samples::default();
        series.read(Timestamp::MIN, Timestamp::MAX, &mut samples);
        let floats = samples.ts.iter().copied().zip(samples.vs.iter().map(|v| v.to_bits()));
        let histograms = samples.hist_ts.iter().copied().zip(samples.hists.iter().map(|h| h.sum.to_bits()));
        let id: i64 = series.labels().get("id").unwrap().parse().unwrap();
        assert_eq!(series.labels(), &labels(id));
        held.extend(floats.chain(histograms).map(|(ts, v)| ((id, ts), v)));
    }
    (held, reader.is_partial())
}

/// Runs the day once for each of its operations, with the fault there.
fn fail_everywhere(kind: Kind, times: u64, fsync: FsyncPolicy) {
    let is_silent = matches!(kind, Kind::BitFlip | Kind::BadSector);
    for full_chunk_bytes_max in [IN_MEMORY, IN_FILE] {
        let mut smooth = World::new(fsync, full_chunk_bytes_max);
        smooth.run(kind, "no fault");
        let operations = smooth.disk.operations();
        assert_eq!(smooth.refused, 0);
        assert!(smooth.storage().stats().blocks >= 3, "windows were sealed: {:?}", smooth.storage().stats());
        assert!(operations > 150, "{operations}");
        let (mut refused, mut scratch_faults, mut healed) = (0, 0, 0);
        for at in 0..operations {
            let mut world = World::new(fsync, full_chunk_bytes_max);
            world.disk.fail(Fault { at, times, kind });
            world.run(kind, &format!("{kind:?} x {times} at operation {at} of {operations}, {fsync:?}, {full_chunk_bytes_max} bytes of chunks"));
            refused += world.refused;
            if world.disk.scratch_faults() > 0 {
                scratch_faults += 1;
                healed += usize::from(is_silent && world.metrics.damaged.get() > 0);
                assert!(!is_silent || world.metrics.lost_samples.get() == 0, "the WAL is whole");
            }
        }
        assert!(is_silent || refused > 0, "no fault was ever noticed");
        assert_eq!(scratch_faults > 4, full_chunk_bytes_max == IN_FILE, "{scratch_faults}");
        assert_eq!(healed > 4, is_silent && full_chunk_bytes_max == IN_FILE, "{healed} of {scratch_faults}");
    }
}

#[test]
fn short_writes_lose_nothing() {
    fail_everywhere(Kind::ShortWrite, 1, FsyncPolicy::Never);
    fail_everywhere(Kind::ShortWrite, 3, FsyncPolicy::Always);
}

#[test]
fn a_full_disk_loses_nothing() {
    fail_everywhere(Kind::NoSpace, 1, FsyncPolicy::Interval);
    fail_everywhere(Kind::NoSpace, 7, FsyncPolicy::Always);
}

#[test]
fn errors_of_the_disk_lose_nothing() {
    fail_everywhere(Kind::Io, 1, FsyncPolicy::Always);
    fail_everywhere(Kind::Io, 4, FsyncPolicy::Never);
}

#[test]
fn flipped_bits_cost_what_they_held() {
    fail_everywhere(Kind::BitFlip, 1, FsyncPolicy::Never);
}

#[test]
fn bad_sectors_of_the_scratch_file_cost_nothing() {
    fail_everywhere(Kind::BadSector, 1, FsyncPolicy::Never);
    fail_everywhere(Kind::BadSector, 5, FsyncPolicy::Never);
}

#[test]
fn kills_lose_nothing() {
    fail_everywhere(Kind::Kill, 1, FsyncPolicy::Never);
}

#[test]
fn a_loss_of_power_takes_nothing_that_was_synced() {
    for kind in [Kind::PowerLoss, Kind::PowerLossTorn] {
        fail_everywhere(kind, 1, FsyncPolicy::Always);
        fail_everywhere(kind, 1, FsyncPolicy::Interval);
    }
}

#[test]
fn a_loss_of_power_without_syncs_starts_again() {
    fail_everywhere(Kind::PowerLossTorn, 1, FsyncPolicy::Never);
}

#[test]
fn a_full_disk_refuses_reads_on_and_takes_again() {
    let mut world = World::new(FsyncPolicy::Never, IN_MEMORY);
    world.open();
    assert!((0..10).all(|round| world.commit(round)));
    let used: usize = 6000;
    world.disk.bound(Some(used as u64));
    let round = (10..200).find(|round| !world.commit(*round)).expect("the disk is bounded");
    let reason = world.storage().refusing().expect("it is full");
    assert!(reason.contains("the disk is full"), "{reason}");
    assert_eq!(world.metrics.refusing.get(), 1);
    world.check(Kind::NoSpace, "full");
    // It starts with a disk on which not one byte has room.
    world.storage = None;
    world.disk.bound(Some(1));
    world.storage = Some(
        Storage::open_on(Arc::new(world.disk.clone()), world.options.clone(), world.metrics.clone()).unwrap(),
    );
    assert!(!world.commit(round));
    world.check(Kind::NoSpace, "full at the start");
    world.disk.bound(None);
    world.maintain(round);
    assert_eq!(world.storage().refusing(), None);
    assert!(world.commit(round));
    world.check(Kind::NoSpace, "room again");
}

#[test]
fn a_newer_version_is_refused_and_nothing_is_changed() {
    for name in ["wal", "checkpoint", "block", "tombstones"] {
        let mut world = World::new(FsyncPolicy::Never, IN_MEMORY);
        world.run(Kind::Io, "no fault");
        world.storage().delete_series(&[vec![]], 0, i64::MAX).unwrap();
        world.storage = None;
        let dir = match name {
            "block" => Path::new(DIR).join("blocks"),
            "tombstones" => DIR.into(),
            _ => Path::new(DIR).join("wal"),
        };
        let path = world.disk.files(&dir).into_iter().find(|p| p.to_str().unwrap().ends_with(name)).unwrap();
        world.disk.damage(&path, |bytes| bytes[7] = 0x7f);
        let before = world.disk.operations();
        let refused =
            Storage::open_on(Arc::new(world.disk.clone()), world.options.clone(), StorageMetrics::default());
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("format version 127") && text.contains(path.to_str().unwrap()), "{text}");
        assert_eq!(world.disk.operations(), before, "nothing was written");
    }
}
