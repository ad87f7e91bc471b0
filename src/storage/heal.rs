//! Full chunks of the head that cannot be read are taken from the WAL once more.
//!
//! Full chunks lie in a scratch file (`head/pages`), which may be damaged as any file, or fail. The WAL has the same
//! samples until a block has them. So whoever meets such a chunk (a query, a seal, a snapshot) notes its window; then
//! the full chunks of the series concerned are made anew, from what is readable of them and from the WAL, and the seal
//! or the snapshot goes on. A query gives what is readable, with a warning, until maintenance comes by. What the WAL
//! has lost as well is lost: it is counted, and holds up nothing. If the WAL cannot be read, nothing is given up: the
//! window is not sealed, and its segments stay, until it can.

use std::collections::HashMap;
use std::io;

use super::api::{SampleValue, SeriesRef};
use super::db::{Db, read};
use super::head::DamagedChunks;
use super::open::wal_dir;
use super::wal::frame::{self, Section};
use super::wal::log::{SEGMENT, file_path, numbered_files};
use super::wal::replay::scan;
use crate::model::Timestamp;

/// The samples of so many are taken from the WAL in one pass over it: 128 MiB, up to twice that while lists grow.
const SAMPLES_AT_ONCE: u64 = 8 << 20;

/// What the WAL has of one series.
#[derive(Debug)]
struct Logged {
    last: Timestamp,
    floats: Vec<(Timestamp, f64)>,
}

impl Logged {
    /// Takes what the head took: a sample that is newer than all before. A histogram is none of the full chunks' business,
    /// but it is a sample.
    fn take(&mut self, ts: Timestamp, float: Option<f64>) {
        if ts > self.last {
            self.last = ts;
            self.floats.extend(float.map(|v| (ts, v)));
        }
    }
}

type LoggedSeries = HashMap<SeriesRef, Logged, foldhash::fast::RandomState>;

impl Db {
    /// Does what reads full chunks of the head; if some cannot be read, it is done once more when these are healed. The
    /// caller holds the maintenance.
    ///
    /// # Errors
    /// Those of `read`, and those of [`Db::heal`].
    pub fn with_healed_chunks<T>(&self, read: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match read() {
            Err(_) if self.head.is_damaged() => {
                self.heal()?;
                read()
            }
            done => done,
        }
    }

    /// Makes full chunks that cannot be read anew. The caller holds the maintenance, so that neither a segment of the WAL
    /// nor a chunk goes meanwhile.
    ///
    /// # Errors
    /// When the WAL cannot be read; the next call tries again.
    pub fn heal(&self) -> io::Result<()> {
        if !self.head.is_damaged() {
            return Ok(());
        }
        let live = read(&self.index).labels.live().clone();
        let mut damaged = self.head.damaged(live);
        let mut healed = Healed::default();
        let done = self.heal_all(&mut damaged, &mut healed);
        healed.report(self);
        if done? {
            self.head.forget_damage();
        }
        Ok(())
    }

    /// Returns whether all are healed: series whose list has grown meanwhile are left for the next time.
    fn heal_all(&self, damaged: &mut Vec<DamagedChunks>, healed: &mut Healed) -> io::Result<bool> {
        let from = self.ring().sealed_until;
        let mut all = true;
        while !damaged.is_empty() {
            let (mut some, mut samples) = (Vec::new(), 0);
            while let Some(next) =
                damaged.pop_if(|d| samples == 0 || samples + d.samples() <= SAMPLES_AT_ONCE)
            {
                samples += next.samples();
                some.push(next);
            }
            let (mut logged, whole) = self.read_logged(from, &some)?;
            for series in &some {
                let logged = logged.remove(&series.series).map_or_else(Vec::new, |l| l.floats);
                let Some(chunks) = self.head.heal(series, logged) else {
                    all = false;
                    continue;
                };
                healed.series += 1;
                healed.unreadable += chunks.unreadable;
                // Of a list that reaches back into the blocks, what they have is missing and not lost.
                if !whole || series.first_ts() >= from {
                    healed.lost += chunks.missing;
                }
            }
        }
        Ok(all)
    }

    /// What the WAL has of some series from a time on, and whether no piece of it is damaged.
    fn read_logged(&self, from: Timestamp, series: &[DamagedChunks]) -> io::Result<(LoggedSeries, bool)> {
        let none = || Logged { last: Timestamp::MIN, floats: Vec::new() };
        let mut logged: LoggedSeries = series.iter().map(|d| (d.series, none())).collect();
        let mut whole = true;
        let mut take = |series: SeriesRef, ts: Timestamp, float: Option<f64>| {
            if ts >= from
                && let Some(logged) = logged.get_mut(&series)
            {
                logged.take(ts, float);
            }
        };
        let Some(wal_dir) = self.dir.as_ref().map(|dir| wal_dir(&dir.path)) else {
            return Ok((logged, whole));
        };
        let mut bytes = Vec::new();
        let segments = numbered_files(&*self.disk, &wal_dir, SEGMENT)?;
        for (i, (number, _)) in segments.iter().enumerate() {
            self.disk.read_into(&file_path(&wal_dir, *number, SEGMENT), &mut bytes)?;
            let found = scan(&bytes);
            // The last one may be being written: what full chunks have is before its end.
            let is_last = i + 1 == segments.len();
            whole &= found.damaged.is_empty() && found.torn.is_none_or(|torn| is_last && torn.is_write);
            for section in found.payloads.iter().flat_map(|p| frame::sections(&bytes[p.clone()])) {
                let read = match section {
                    Section::Floats(bytes) => frame::each_float(bytes, |series, ts, bits| {
                        take(series, ts, Some(f64::from_bits(bits)))
                    }),
                    Section::Histograms(bytes) => {
                        frame::each_histogram(bytes, |series, ts, _| take(series, ts, None))
                    }
                    Section::Samples(bytes) => frame::each_sample(bytes, |sample| match sample.value {
                        // They lie beside the full chunks.
                        _ if sample.out_of_order => {}
                        SampleValue::Float(v) => take(sample.series, sample.ts, Some(v)),
                        SampleValue::Histogram(_) => take(sample.series, sample.ts, None),
                    }),
                    _ => Some(()),
                };
                whole &= read.is_some();
            }
        }
        Ok((logged, whole))
    }
}

/// What was done.
#[derive(Debug, Default)]
struct Healed {
    series: u64,
    unreadable: u64,
    lost: u64,
}

impl Healed {
    fn report(self, db: &Db) {
        let Healed { series, unreadable, lost } = self;
        if series == 0 {
            return;
        }
        db.metrics.damaged.inc_by(series);
        db.metrics.lost_samples.inc_by(lost);
        tracing::error!(
            series,
            samples = unreadable,
            lost_samples = lost,
            "Full chunks of the head could not be read from their file: they are left there, and their samples were taken from the WAL"
        );
    }
}
