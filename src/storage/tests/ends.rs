//! The storage beside a slow model through everything that ends: processes (kills), the power, what is past
//! retention. Snapshots and copies have to hold what the model does.
//!
//! The disk is one in memory, which forgets with the power what was not synced. After a kill exactly what was
//! acknowledged is there, and of a batch at which it happened all or nothing. After a loss of power the same holds for
//! some moment since the last promise of the policy; what blocks answer for may be newer than that moment.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::storage::disk::sim::{Fault, Kind, SimDisk};

const DIR: &str = "/data";
const WINDOW_MS: i64 = 1000;
const SERIES: usize = 6;

/// Whether it is a histogram, and its bits or those of its sum.
type Held = BTreeMap<(usize, Timestamp), (bool, u64)>;

#[derive(Clone, Debug, Default)]
struct Model {
    held: Held,
    /// The time of the newest sample that each series was ever given.
    last: BTreeMap<usize, Timestamp>,
}

impl Model {
    fn append(
        &mut self,
        i: usize,
        ts: Timestamp,
        value: (bool, u64),
        min_valid: Timestamp,
        late_from: Timestamp,
    ) {
        let last = self.last.get(&i).copied().unwrap_or(Timestamp::MIN);
        if (ts < min_valid || ts < last) && ts < late_from {
            return;
        }
        self.held.entry((i, ts)).or_insert(value);
        self.last.insert(i, last.max(ts));
    }

    /// As of those keys that are not in `free`, which may be there or not.
    fn is_held(&self, held: &Held, free: &Held, from: Timestamp) -> bool {
        let counts = |key: &(usize, Timestamp)| key.1 >= from && !free.contains_key(key);
        let mine = self.held.iter().filter(|(k, _)| counts(k));
        mine.eq(held.iter().filter(|(k, _)| counts(k)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Retention {
    Long,
    Time(i64),
    Bytes(u64),
}

#[derive(Clone, Debug)]
enum Step {
    /// Series, times relative to the newest, and seeds of values.
    Commit(Vec<(usize, i64, u8)>),
    Maintain,
    Relieve,
    SealAll,
    Reopen,
    Delete {
        id: usize,
        back: i64,
        len: i64,
    },
    Snapshot,
    Copy,
    /// Between two operations.
    End(Kind),
    /// In the middle of an operation on the disk, so many from now.
    EndIn(u64, Kind),
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![2 => Just(Kind::Kill), 1 => Just(Kind::PowerLoss), 1 => Just(Kind::PowerLossTorn)]
}

fn any_step() -> impl Strategy<Value = Step> {
    let sample = (0..SERIES, prop_oneof![4 => 1i64..250, 1 => -1800i64..1], any::<u8>());
    prop_oneof![
        14 => proptest::collection::vec(sample, 1..12).prop_map(Step::Commit),
        4 => Just(Step::Maintain),
        2 => Just(Step::Relieve),
        1 => Just(Step::SealAll),
        1 => Just(Step::Reopen),
        1 => (0..SERIES, 0i64..4000, 0i64..1500).prop_map(|(id, back, len)| Step::Delete { id, back, len }),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Copy),
        1 => any_kind().prop_map(Step::End),
        3 => (0u64..14, any_kind()).prop_map(|(n, kind)| Step::EndIn(n, kind)),
    ]
}

fn any_retention() -> impl Strategy<Value = Retention> {
    prop_oneof![
        Just(Retention::Long),
        Just(Retention::Time(2500)),
        (6000u64..30_000).prop_map(Retention::Bytes),
    ]
}

fn any_policy() -> impl Strategy<Value = FsyncPolicy> {
    prop_oneof![Just(FsyncPolicy::Always), Just(FsyncPolicy::Interval), Just(FsyncPolicy::Never)]
}

/// What a storage holds, all of which can be read.
fn held(storage: &Storage) -> Held {
    let reader = storage.reader();
    let mut all = Held::new();
    for series in reader.select(&[], ALWAYS.0, ALWAYS.1).iter() {
        let mut samples = Samples::default();
        series.read(ALWAYS.0, ALWAYS.1, &mut samples);
        let id: usize = series.labels().get("id").unwrap().parse().unwrap();
        assert_eq!(series.labels(), &labels(id));
        assert!(samples.ts.is_sorted_by(|a, b| a < b) && samples.hist_ts.is_sorted_by(|a, b| a < b));
        all.extend(samples.ts.iter().zip(&samples.vs).map(|(t, v)| ((id, *t), (false, v.to_bits()))));
        all.extend(
            samples.hist_ts.iter().zip(&samples.hists).map(|(t, h)| ((id, *t), (true, h.sum.to_bits()))),
        );
    }
    assert!(!reader.is_partial());
    all
}

struct Run {
    disk: SimDisk,
    options: StorageOptions,
    metrics: StorageMetrics,
    retention: Retention,
    storage: Option<Storage>,
    model: Model,
    /// What the model was since the last moment that a loss of power must not undo, oldest first; the last is `model`.
    since_safe: Vec<Model>,
    /// What fell off: a loss of power may bring it back.
    fallen: Held,
    deleted: BTreeSet<(usize, Timestamp)>,
    /// What deletions asked for up to the newest sample of then: what comes late there may be meant as well.
    asked: Vec<(usize, Timestamp, Timestamp)>,
    snapshots: Vec<(PathBuf, Held)>,
    newest: Timestamp,
    oldest: Timestamp,
    kind: Option<Kind>,
}

impl Run {
    fn new(fsync: FsyncPolicy, retention: Retention, late_ms: i64) -> Run {
        let mut options = StorageOptions {
            dir: Some(DIR.into()),
            window_ms: WINDOW_MS,
            retention_ms: 1 << 50,
            wal_segment_bytes: 1500,
            out_of_order_window_ms: late_ms,
            fsync,
            ..StorageOptions::default()
        };
        match retention {
            Retention::Long => {}
            Retention::Time(ms) => options.retention_ms = ms,
            Retention::Bytes(bytes) => options.retention_bytes = Some(bytes),
        }
        let mut run = Run {
            disk: SimDisk::default(),
            options,
            metrics: StorageMetrics::default(),
            retention,
            storage: None,
            model: Model::default(),
            since_safe: vec![Model::default()],
            fallen: Held::new(),
            deleted: BTreeSet::new(),
            asked: Vec::new(),
            snapshots: Vec::new(),
            newest: 0,
            oldest: Timestamp::MIN,
            kind: None,
        };
        assert!(run.open());
        run
    }

    fn storage(&self) -> &Storage {
        self.storage.as_ref().unwrap()
    }

    /// Whether it opens, which it does unless the process ends meanwhile.
    fn open(&mut self) -> bool {
        self.storage = None;
        self.oldest = Timestamp::MIN;
        match Storage::open_on(Arc::new(self.disk.clone()), self.options.clone(), self.metrics.clone()) {
            Ok(storage) => self.storage = Some(storage),
            Err(error) => assert!(self.disk.is_gone(), "{error}"),
        }
        self.storage.is_some()
    }

    fn is_safe_now(&mut self) {
        self.since_safe = vec![self.model.clone()];
    }

    /// After the end of a process or of the power, with what the model would be had the step at work been done.
    fn recover(&mut self, had: Option<Model>) {
        let kind = self.kind.take().unwrap();
        self.storage = None;
        // Late samples past retention do not come to blocks any more.
        let all = self.model.held.iter().chain(had.iter().flat_map(|m| &m.held));
        self.fallen.extend(all.filter(|(k, _)| k.1 < self.oldest).map(|(k, v)| (*k, *v)));
        self.disk.restart();
        assert!(self.open());
        assert_eq!((self.metrics.lost_samples.get(), self.storage().verify()), (0, Vec::new()));
        let held = held(self.storage());
        for key in &self.deleted {
            let may_be = had.is_some() && self.model.held.contains_key(key);
            assert!(may_be || !held.contains_key(key), "deleted and there again: {key:?}");
        }
        let mut may_be = match kind {
            Kind::Kill => vec![self.model.clone()],
            _ => self.since_safe.clone(),
        };
        may_be.extend(had);
        // Blocks may have more than the moment had to which the WAL was put on the disk.
        let sealed_until = match kind {
            Kind::Kill => Timestamp::MIN,
            _ => self.storage().min_valid_ts(),
        };
        let found = may_be.iter().rev().find(|m| m.is_held(&held, &self.fallen, sealed_until));
        let Some(found) = found else {
            panic!("{kind:?}: {held:?} is none of {may_be:?}");
        };
        let last = found.last.clone();
        let safe = &self.since_safe[0].held;
        for (key, value) in &held {
            let known = may_be.iter().any(|m| m.held.get(key) == Some(value));
            assert!(known || self.fallen.get(key) == Some(value), "nobody wrote {key:?}");
        }
        let lost = |key: &&(usize, Timestamp)| !held.contains_key(key) && !self.fallen.contains_key(key);
        // A deletion at work may have been done.
        let gone = safe.keys().filter(lost).find(|key| !self.deleted.contains(key));
        assert_eq!(gone, None, "{kind:?} took what was safe");
        self.deleted.retain(|key| !held.contains_key(key));
        self.fallen.retain(|key, _| !held.contains_key(key));
        self.model = Model { held, last };
        // Whoever opens puts on the disk what is there.
        self.is_safe_now();
        self.maintain(false);
    }

    /// Whether the end came in the step that was just made.
    fn ended(&mut self, had: Option<Model>) -> bool {
        let ended = self.disk.is_gone();
        if ended {
            self.recover(had);
        }
        ended
    }

    fn commit(&mut self, mut samples: Vec<(usize, i64, u8)>) {
        // A sample that is older than one of its series before it in the batch is logged in a frame of its own: then the
        // batch is not all or nothing when the process ends between the two. It was not acknowledged.
        samples.sort_by_key(|sample| sample.1);
        let storage = self.storage().clone();
        let late_ms = self.options.out_of_order_window_ms;
        let newest = storage.stats().max_ts;
        let late_from = if late_ms > 0 {
            newest.map_or(Timestamp::MIN, |newest| newest - late_ms).max(self.oldest)
        } else {
            Timestamp::MAX
        };
        let mut after = self.model.clone();
        let mut latest = self.newest;
        let mut a = storage.appender();
        // Where all blocks may fall off, nothing is left that tells what a series had; only what may be late is taken anyway.
        let by_size = matches!(self.retention, Retention::Bytes(_));
        let mut seen = BTreeSet::new();
        for (i, dt, seed) in samples {
            let ts = self.newest + dt;
            if by_size && (dt <= 0 && ts < late_from || late_ms == 0 && !seen.insert(i)) {
                continue;
            }
            let asked = self.asked.iter().any(|(id, from, to)| *id == i && (*from..=*to).contains(&ts));
            if asked || self.fallen.contains_key(&(i, ts)) {
                continue;
            }
            let value = f64::from(seed) / 7.0 + (ts * 3 + i as i64) as f64;
            let series = a.series(&labels(i)).unwrap();
            let is_histogram = i % 3 == 2;
            let _counted = if is_histogram {
                let h = FloatHistogram { count: value, sum: value, ..FloatHistogram::default() };
                a.append_histogram(series, ts, Arc::new(h))
            } else {
                a.append(series, ts, value)
            };
            after.append(i, ts, (is_histogram, value.to_bits()), storage.min_valid_ts(), late_from);
            latest = latest.max(ts);
        }
        let done = a.commit();
        drop(storage);
        self.newest = latest;
        if done.is_ok() {
            self.model = after.clone();
            self.since_safe.push(after.clone());
            if self.options.fsync == FsyncPolicy::Always {
                self.is_safe_now();
            }
        } else {
            assert!(self.disk.is_gone(), "{done:?}");
        }
        self.ended(Some(after));
    }

    fn maintain(&mut self, relieve: bool) {
        let failure = if relieve {
            self.storage().relieve(self.newest);
            None
        } else {
            self.storage().maintain(self.newest).failure
        };
        // Time counts from the newest block, and what is older than what fell off for its size is past retention as well.
        let by_time = match self.retention {
            Retention::Long => Timestamp::MIN,
            _ => self.storage().db().oldest.load(Ordering::Relaxed),
        };
        self.oldest = self.oldest.max(by_time);
        if self.disk.is_gone() {
            // What fell off meanwhile is not known: whatever may have. By size that may be all.
            let end = if matches!(self.retention, Retention::Bytes(_)) { Timestamp::MAX } else { by_time };
            let may_have = self.model.held.iter().filter(|(k, _)| k.1 < end);
            self.fallen.extend(may_have.map(|(k, v)| (*k, *v)));
            self.recover(None);
            return;
        }
        assert_eq!(failure, None);
        let held = held(self.storage());
        let fell: Held =
            self.model.held.iter().filter(|(k, _)| !held.contains_key(k)).map(|(k, v)| (*k, *v)).collect();
        let after = self.storage().stats();
        let blocks = self.storage().block_stats();
        match self.retention {
            Retention::Long => assert!(fell.is_empty(), "{fell:?}"),
            Retention::Time(_) => {
                assert!(fell.keys().all(|k| k.1 < by_time), "{fell:?}");
                assert!(by_time <= self.newest - self.options.retention_ms);
                assert!(relieve || blocks.iter().all(|b| b.samples == 0 || b.ts.1 >= by_time), "{blocks:?}");
            }
            Retention::Bytes(bound) => {
                assert!(
                    relieve
                        || blocks.iter().all(|b| b.samples == 0)
                        || after.wal_bytes + after.block_bytes <= bound,
                    "{after:?}"
                );
                let last = fell.keys().map(|k| k.1).max();
                assert!(
                    last < held.keys().map(|k| k.1).min().or(Some(Timestamp::MAX)),
                    "only the oldest fall off"
                );
            }
        }
        self.note_fallen(fell);
        if self.options.fsync == FsyncPolicy::Interval {
            self.is_safe_now();
        }
    }

    /// Late samples past retention do not come to blocks any more.
    fn note_late_fallen(&mut self) {
        let held = held(self.storage());
        let is_gone = |k: &(usize, Timestamp)| k.1 < self.oldest && !held.contains_key(k);
        let fell = self.model.held.iter().filter(|(k, _)| is_gone(k)).map(|(k, v)| (*k, *v)).collect();
        self.note_fallen(fell);
    }

    fn note_fallen(&mut self, fell: Held) {
        self.model.held.retain(|key, _| !fell.contains_key(key));
        self.fallen.extend(fell);
    }

    fn delete(&mut self, id: usize, from: Timestamp, to: Timestamp) {
        let meant = |key: &(usize, Timestamp)| key.0 == id && (from..=to).contains(&key.1);
        let mut after = self.model.clone();
        after.held.retain(|key, _| !meant(key));
        self.asked.push((id, from, to.min(self.newest)));
        let selector = vec![Matcher::equal("id", id.to_string())];
        let done = self.storage().delete_series(&[selector], from, to);
        self.deleted.extend(self.model.held.keys().filter(|k| meant(k)));
        if done.is_ok() {
            self.model = after.clone();
            self.note_late_fallen();
            self.is_safe_now();
        } else {
            assert!(self.disk.is_gone(), "{done:?}");
        }
        self.ended(Some(after));
    }

    /// Opens a copy of the directory, or a snapshot in it, to look at it and to go on with it. What is `free` may be
    /// there or not.
    fn check_copy(&self, dir: &Path, want: &Held, free: &Held) {
        let mut want = Model { held: want.clone(), ..Model::default() };
        let check = |storage: &Storage, want: &Model| {
            let held = held(storage);
            assert!(want.is_held(&held, free, Timestamp::MIN), "{held:?} is not {want:?}");
        };
        let copy = self.disk.copy();
        let (options, metrics) = (self.options.clone(), StorageMetrics::default());
        let options = StorageOptions { dir: Some(dir.to_owned()), retention_ms: 1 << 50, ..options };
        let read_only = StorageOptions { read_only: true, ..options.clone() };
        let storage = Storage::open_on(Arc::new(copy.clone()), read_only, metrics.clone()).unwrap();
        check(&storage, &want);
        drop(storage);
        assert_eq!(copy.operations(), 0, "nothing was written");
        let storage = Storage::open_on(Arc::new(copy.clone()), options.clone(), metrics.clone()).unwrap();
        check(&storage, &want);
        let ts = self.newest + 5000;
        assert_eq!(scrape(&storage, 0..1, ts, 1.0).samples, 1);
        storage.seal_all().unwrap();
        drop(storage);
        let storage = Storage::open_on(Arc::new(copy), options, metrics.clone()).unwrap();
        want.held.insert((0, ts), (false, 1f64.to_bits()));
        check(&storage, &want);
        assert_eq!(metrics.damaged.get(), 0);
    }

    fn snapshot(&mut self) {
        let name = format!("s{}", self.disk.operations());
        match self.storage().snapshot(&name, false) {
            Ok(path) => {
                self.note_late_fallen();
                self.check_copy(&path, &self.model.held, &Held::new());
                self.snapshots.push((path, self.model.held.clone()));
            }
            Err(error) => assert!(self.disk.is_gone(), "{error}"),
        }
        self.ended(None);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Commit(samples) => self.commit(samples),
            Step::Maintain => self.maintain(false),
            Step::Relieve => self.maintain(true),
            Step::SealAll => {
                let done = self.storage().seal_all();
                if done.is_ok() {
                    // All is in blocks.
                    self.note_late_fallen();
                    self.is_safe_now();
                } else {
                    assert!(self.disk.is_gone(), "{done:?}");
                }
                self.ended(None);
            }
            Step::Reopen => {
                let opened = self.open();
                if opened && !self.disk.is_gone() {
                    // With no block of its time left, the WAL may still have what fell off: until maintenance.
                    let held = held(self.storage());
                    assert!(
                        self.model.is_held(&held, &self.fallen, Timestamp::MIN),
                        "{held:?} {:?}",
                        self.model
                    );
                    self.fallen.retain(|key, _| !held.contains_key(key));
                    self.model.held = held;
                    self.is_safe_now();
                }
                if !self.ended(None) {
                    self.maintain(false);
                }
            }
            Step::Delete { id, back, len } => self.delete(id, self.newest - back, self.newest - back + len),
            Step::Snapshot => self.snapshot(),
            Step::Copy => self.check_copy(Path::new(DIR), &self.model.held, &self.fallen),
            Step::End(kind) => {
                self.kind = Some(kind);
                self.disk.end(kind);
                self.recover(None);
            }
            Step::EndIn(n, kind) => {
                self.kind = Some(kind);
                self.disk.fail(Fault { at: self.disk.operations() + n, times: 1, kind });
            }
        }
        assert_eq!(held(self.storage()), self.model.held);
    }

    fn finish(mut self) {
        self.disk.restart();
        self.open();
        assert!(self.model.is_held(&held(self.storage()), &self.fallen, Timestamp::MIN));
        for (path, want) in &self.snapshots {
            self.check_copy(path, want, &Held::new());
        }
        assert_eq!((self.metrics.lost_samples.get(), self.storage().verify()), (0, Vec::new()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn whatever_ends_what_was_promised_is_there(
        steps in proptest::collection::vec(any_step(), 1..60),
        fsync in any_policy(),
        retention in any_retention(),
        late_ms in prop_oneof![Just(0i64), Just(1500)],
    ) {
        let mut run = Run::new(fsync, retention, late_ms);
        steps.into_iter().for_each(|step| run.step(step));
        run.finish();
    }
}
