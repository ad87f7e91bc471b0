//! As the day's work, for what is done now and then: late samples, deletions, cleaning, snapshots, imports, retention.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use crate::model::Matcher;
use crate::storage::disk::Disk as _;

const RETENTION_MS: i64 = 100_000;

struct Work {
    world: World,
    kind: Kind,
    what: String,
    /// Deleted, and acknowledged so.
    gone: BTreeSet<(i64, Timestamp)>,
    /// Snapshots that were acknowledged, and what was held then.
    snapshots: Vec<(PathBuf, Written)>,
    failed: usize,
}

impl Work {
    fn new(kind: Kind, fsync: FsyncPolicy, full_chunk_bytes_max: u64, what: String) -> Work {
        let mut world = World::new(fsync, full_chunk_bytes_max);
        world.options.out_of_order_window_ms = 1 << 40;
        world.options.retention_ms = RETENTION_MS;
        Work { world, kind, what, gone: BTreeSet::new(), snapshots: Vec::new(), failed: 0 }
    }

    fn check(&mut self) {
        self.world.check(self.kind, &self.what);
        let held = self.world.held(self.kind);
        let back: Vec<_> = self.gone.iter().filter(|key| held.contains_key(key)).collect();
        // A damaged block brings nothing back; the list of deletions, or a mark in the WAL, may.
        let aside = self.world.disk.list(Path::new("/data/quarantine")).unwrap_or_default();
        let no_block = |path: &Path| path.extension().is_none_or(|e| e != "block");
        let told = self.kind == Kind::BitFlip && aside.iter().any(|entry| no_block(&entry.path));
        assert!(back.is_empty() || told, "{}: deleted and there again: {back:?}", self.what);
    }

    /// Does something until it is acknowledged.
    fn step(&mut self, what: &str, mut attempt: impl FnMut(&mut Work) -> Result<(), String>) {
        for _ in 0..20 {
            let done = attempt(self);
            let gone = self.world.disk.is_gone();
            if gone {
                self.world.recover(self.kind, &self.what);
                self.check();
            }
            match done {
                Ok(()) if !gone => return,
                Ok(()) => {}
                Err(_) => self.failed += 1,
            }
        }
        let last = attempt(self);
        panic!("{}: {what} never works again: {last:?}", self.what);
    }

    fn send(&mut self, batch: i64, series: std::ops::RangeInclusive<i64>, ts: Timestamp) {
        self.step("a batch", |work| {
            let done = work.world.send(batch, series.clone(), ts);
            done.then_some(()).ok_or_else(|| "refused".to_owned())
        });
    }

    fn rounds(&mut self, rounds: std::ops::Range<i64>) {
        for round in rounds {
            self.send(round, (round - LIFE).max(0)..=round, round * 150);
            if round % 3 == 2 {
                self.world.maintain(round);
                if self.world.disk.is_gone() {
                    self.world.recover(self.kind, &self.what);
                }
            }
        }
    }

    fn delete(&mut self, id: i64, from: Timestamp, to: Timestamp) {
        self.step("a deletion", |work| {
            let meant = |key: &(i64, Timestamp)| key.0 == id && (from..=to).contains(&key.1);
            // Until it is acknowledged they may be there or not.
            work.world.acknowledged.retain(|key, _| !meant(key));
            work.world.durable.retain(|key, _| !meant(key));
            let selector = vec![Matcher::equal("id", id.to_string())];
            work.world.storage().delete_series(&[selector], from, to).map_err(|e| e.to_string())?;
            work.gone.extend(work.world.attempted.keys().copied().filter(meant));
            Ok(())
        });
    }

    fn clean(&mut self) {
        self.step("cleaning", |work| {
            work.world.storage().clean_tombstones().map(drop).map_err(|e| e.to_string())
        });
    }

    fn open_copy(&self, path: &Path) -> Written {
        let options =
            StorageOptions { dir: Some(path.to_owned()), read_only: true, ..self.world.options.clone() };
        let metrics = StorageMetrics::default();
        let copy = Storage::open_on(Arc::new(self.world.disk.clone()), options, metrics.clone()).unwrap();
        let (held, partial) = held(&copy);
        assert!(!partial && metrics.damaged.get() == 0, "{}: the copy is damaged", self.what);
        held
    }

    fn snapshot(&mut self) {
        let mut n = 10 * self.snapshots.len();
        self.step("a snapshot", |work| {
            // After a kill one of that name may be there.
            n += 1;
            let held = work.world.held(work.kind);
            let path = work.world.storage().snapshot(&n.to_string(), false).map_err(|e| e.to_string())?;
            assert_eq!(work.open_copy(&path), held, "{}: the copy is another", work.what);
            work.snapshots.push((path, held));
            Ok(())
        });
    }

    fn import(&mut self) {
        let samples: Vec<(i64, Timestamp)> =
            (0..26).flat_map(|k| [100, 101].map(|id| (id, k * 230 - 2500 + id))).collect();
        self.step("an import", |work| {
            let options = ImportOptions {
                latest: Timestamp::MAX,
                kept_from: Timestamp::MIN,
                block_ms: WINDOW_MS,
                buffer_samples: 9,
            };
            let mut importer = work.world.storage().importer(options).map_err(|e| e.to_string())?;
            for (id, ts) in &samples {
                let value = (ts * 7 + id) as f64 / 8.0;
                let sample = SampleRef { ts: *ts, start: 0, value: ValueRef::Float(value) };
                work.world.attempted.insert((*id, *ts), value.to_bits());
                importer.push(&labels(*id), sample).map_err(|e| e.to_string())?;
            }
            importer.finish(|_, _| {}).map_err(|e| e.to_string())?;
            for key in &samples {
                let value = work.world.attempted[key];
                work.world.acknowledged.insert(*key, (value, -1));
                work.world.durable.insert(*key, value);
            }
            Ok(())
        });
    }

    /// Lets what is older than `oldest` fall off: that counts from the newest block.
    fn retain(&mut self, oldest: Timestamp) {
        self.send(1003, 30..=30, oldest + RETENTION_MS);
        self.step("a seal", |work| work.world.storage().seal_all().map_err(|e| e.to_string()));
        self.world.acknowledged.retain(|key, _| key.1 >= oldest);
        self.world.durable.retain(|key, _| key.1 >= oldest);
        self.step("retention", |work| {
            let done = work.world.storage().maintain(oldest + RETENTION_MS);
            done.failure.map_or(Ok(()), Err)
        });
        let held = self.world.held(self.kind);
        let first = held.keys().map(|k| k.1).min();
        assert!(first >= Some(oldest - WINDOW_MS), "{}: {first:?} is past retention", self.what);
    }

    fn run(&mut self) {
        self.world.open();
        self.rounds(0..14);
        self.send(1000, 5..=9, 607);
        self.check();
        self.delete(6, 0, 1000);
        self.check();
        self.rounds(14..17);
        self.send(1001, 7..=8, 911);
        self.delete(8, 300, 911);
        self.clean();
        self.check();
        self.snapshot();
        self.import();
        self.check();
        self.rounds(25..29);
        self.send(1002, 20..=22, 3300);
        self.snapshot();
        self.retain(1200);
        self.check();
        self.world.disk.restart();
        self.world.storage = None;
        self.world.open();
        self.check();
        for (path, held) in std::mem::take(&mut self.snapshots) {
            assert_eq!(self.open_copy(&path), held, "{}: the copy has changed", self.what);
        }
        let leftovers = self.world.disk.list(&Path::new(DIR).join("snapshots")).unwrap();
        assert!(leftovers.iter().all(|e| e.path.extension().is_none()), "{}: {leftovers:?}", self.what);
        assert!(!self.world.disk.exists(&Path::new(DIR).join("import")), "{}: runs are left", self.what);
        self.world.storage = None;
        if self.kind != Kind::BitFlip {
            let mut problems = Vec::new();
            let problem = |p: &verify::Problem| problems.push(p.to_string());
            verify::verify_on(&self.world.disk, Path::new(DIR), problem, |_, _| {}).unwrap();
            assert_eq!(problems, Vec::<String>::new(), "{}", self.what);
        }
    }
}

fn fail_everywhere(kind: Kind, times: u64, fsync: FsyncPolicy) {
    for full_chunk_bytes_max in [IN_MEMORY, IN_FILE] {
        let mut smooth = Work::new(kind, fsync, full_chunk_bytes_max, "no fault".to_owned());
        smooth.run();
        assert_eq!(smooth.failed, 0);
        let operations = smooth.world.disk.operations();
        let (mut failed, mut scratch_faults) = (0, 0);
        for at in 0..operations {
            let what = format!(
                "{kind:?} x {times} at operation {at} of {operations}, {fsync:?}, {full_chunk_bytes_max} bytes of chunks"
            );
            let mut work = Work::new(kind, fsync, full_chunk_bytes_max, what);
            work.world.disk.fail(Fault { at, times, kind });
            work.run();
            failed += work.failed;
            scratch_faults += usize::from(work.world.disk.scratch_faults() > 0);
        }
        assert_eq!(failed > 0, kind != Kind::BadSector, "whether a fault was ever noticed");
        assert_eq!(scratch_faults > 2, full_chunk_bytes_max == IN_FILE, "{scratch_faults}");
    }
}

#[test]
fn short_writes_lose_nothing() {
    fail_everywhere(Kind::ShortWrite, 1, FsyncPolicy::Never);
}

#[test]
fn a_full_disk_loses_nothing() {
    fail_everywhere(Kind::NoSpace, 5, FsyncPolicy::Always);
}

#[test]
fn errors_of_the_disk_lose_nothing() {
    fail_everywhere(Kind::Io, 1, FsyncPolicy::Never);
    fail_everywhere(Kind::Io, 3, FsyncPolicy::Always);
}

#[test]
fn flipped_bits_cost_what_they_held() {
    fail_everywhere(Kind::BitFlip, 1, FsyncPolicy::Never);
}

#[test]
fn bad_sectors_of_the_scratch_file_cost_nothing() {
    fail_everywhere(Kind::BadSector, 1, FsyncPolicy::Never);
}

#[test]
fn kills_lose_nothing() {
    fail_everywhere(Kind::Kill, 1, FsyncPolicy::Never);
}

#[test]
fn a_loss_of_power_takes_nothing_that_was_synced() {
    for kind in [Kind::PowerLoss, Kind::PowerLossTorn] {
        fail_everywhere(kind, 1, FsyncPolicy::Always);
    }
}
