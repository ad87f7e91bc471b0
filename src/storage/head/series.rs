//! One series in memory: the open chunk, the full chunks, and what few series have: histograms, start times.

use std::sync::Arc;

use super::late::{OutOfOrder, same_but_for_hint};
use super::sealed::{ChunkScratch, Sealed, Sealer};
use crate::model::{FloatHistogram, Timestamp};
use crate::storage::api::{SampleValue, Samples};
use crate::storage::chunk::histograms::{self, HistogramEncoder, same_bits};
use crate::storage::chunk::open::OpenChunk;
use crate::storage::chunk::starts::Starts;

/// A full chunk of histograms.
#[derive(Clone, Debug)]
pub struct HistogramChunk {
    pub first: Timestamp,
    pub last: Timestamp,
    pub count: u16,
    pub bytes: Arc<[u8]>,
}

#[derive(Clone, Debug, Default)]
struct Histograms {
    open: HistogramEncoder,
    /// The newest, to tell a repeated sample from a conflicting one.
    newest: Option<Arc<FloatHistogram>>,
    sealed: Vec<HistogramChunk>,
    sealed_bytes: usize,
}

impl HistogramChunk {
    fn heap_bytes(&self) -> usize {
        size_of::<HistogramChunk>() + 2 * size_of::<usize>() + self.bytes.len()
    }
}

/// What most series have nothing of.
#[derive(Clone, Debug)]
struct Rare {
    /// The time of the newest histogram that was ever appended.
    last_histogram: Timestamp,
    histograms: Histograms,
    starts: Starts,
    /// Samples out of order of the time that the head answers for.
    behind: OutOfOrder,
    /// Samples of the time that the blocks answer for; those that are being put into them; see `maintain`.
    late: OutOfOrder,
    moving: OutOfOrder,
}

impl Default for Rare {
    fn default() -> Self {
        Rare {
            last_histogram: Timestamp::MIN,
            histograms: Histograms::default(),
            starts: Starts::default(),
            behind: OutOfOrder::default(),
            late: OutOfOrder::default(),
            moving: OutOfOrder::default(),
        }
    }
}

/// Why a sample is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is there already, bit for bit.
    Repeated,
    Duplicate,
    OutOfOrder,
}

/// Full chunks that were replaced: chunks and their memory before and after.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Replaced {
    pub dropped: (u64, u64),
    pub made: (u64, u64),
    /// Samples in those that were made.
    pub samples: u64,
}

/// One series.
#[derive(Debug, Default)]
pub struct HeadSeries {
    floats: OpenChunk,
    /// Shared with readers; copied only if one holds it while it changes.
    sealed: Option<Arc<Sealed>>,
    rare: Option<Box<Rare>>,
}

/// Flags of a series, in its open chunk, where there is room for them.
const LOGGED: u8 = 1;
const IDLE: u8 = 2;

/// A million series take so much each: a line of the cache.
const _: () = assert!(size_of::<HeadSeries>() == 64);

impl HeadSeries {
    /// Whether the WAL has the labels of this series.
    #[inline]
    #[must_use]
    pub fn is_logged(&self) -> bool {
        self.floats.flags & LOGGED != 0
    }

    /// Whether it was empty when idle series were last looked for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.floats.flags & IDLE != 0
    }

    #[inline]
    pub fn set_logged(&mut self, logged: bool) {
        self.set_flag(LOGGED, logged);
    }

    #[inline]
    pub fn set_idle(&mut self, idle: bool) {
        self.set_flag(IDLE, idle);
    }

    #[inline]
    fn set_flag(&mut self, flag: u8, set: bool) {
        let flags = self.floats.flags & !flag;
        self.floats.flags = if set { flags | flag } else { flags };
    }

    /// The time of the newest sample that was ever appended.
    #[inline]
    #[must_use]
    pub fn last_ts(&self) -> Timestamp {
        match &self.rare {
            None => self.floats.last_ts(),
            Some(rare) => self.floats.last_ts().max(rare.last_histogram),
        }
    }

    /// Whether the newest sample leaves room for this one. Both answers stay true however many later samples come;
    /// only an `Ok` may be overtaken.
    ///
    /// # Errors
    /// Why there is no room.
    #[inline]
    pub fn check(&self, ts: Timestamp, bits: u64) -> Result<(), Refusal> {
        let last = self.last_ts();
        if ts > last {
            return Ok(());
        }
        if ts < last {
            return Err(Refusal::OutOfOrder);
        }
        let same = self.floats.last_ts() == ts && self.floats.last_bits() == bits;
        Err(if same { Refusal::Repeated } else { Refusal::Duplicate })
    }

    /// As [`HeadSeries::check`], for a histogram.
    ///
    /// # Errors
    /// Why there is no room.
    pub fn check_histogram(&self, ts: Timestamp, h: &FloatHistogram) -> Result<(), Refusal> {
        let last = self.last_ts();
        if ts > last {
            return Ok(());
        }
        if ts < last {
            return Err(Refusal::OutOfOrder);
        }
        let newest = self.rare.as_ref().filter(|r| r.last_histogram == ts);
        let same = newest.and_then(|r| r.histograms.newest.as_ref()).is_some_and(|n| same_bits(n, h));
        Err(if same { Refusal::Repeated } else { Refusal::Duplicate })
    }

    /// Appends a sample; a `start` time of 0 means none. A chunk that is full, or that began before `window_start`, is
    /// encoded first; then the second result is the memory that full chunks take more.
    #[inline]
    pub fn append(
        &mut self,
        ts: Timestamp,
        bits: u64,
        start: Timestamp,
        window_start: Timestamp,
        sealer: &mut Sealer,
    ) -> (Result<(), Refusal>, Option<usize>) {
        if let Err(refusal) = self.check(ts, bits) {
            return (Err(refusal), None);
        }
        let before = !self.floats.is_empty() && self.floats.first_ts() < window_start;
        let sealed = if before || !self.floats.has_room(ts) {
            sealer.seal(&mut self.floats, &mut self.sealed)
        } else {
            None
        };
        self.floats.append(ts, bits);
        self.set_idle(false);
        if start != 0 || self.rare.is_some() {
            self.note_start(ts, start);
        }
        (Ok(()), sealed)
    }

    /// Notes the start time of the sample that was appended last.
    #[cold]
    fn note_start(&mut self, ts: Timestamp, start: Timestamp) {
        self.rare.get_or_insert_default().starts.push(ts, start);
    }

    /// Appends a histogram; returns how many bytes histograms take more.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn append_histogram(
        &mut self,
        ts: Timestamp,
        h: &Arc<FloatHistogram>,
        start: Timestamp,
        window_start: Timestamp,
    ) -> Result<i64, Refusal> {
        self.check_histogram(ts, h)?;
        let rare = self.rare.get_or_insert_default();
        rare.last_histogram = ts;
        rare.starts.push(ts, start);
        let histograms = &mut rare.histograms;
        let before = histograms.heap_bytes();
        histograms.newest = Some(Arc::clone(h));
        let open = &mut histograms.open;
        if open.is_full() || (!open.is_empty() && open.first_ts() < window_start) {
            let chunk = HistogramChunk {
                first: open.first_ts(),
                last: open.last_ts(),
                count: open.len() as u16,
                bytes: open.finish().into(),
            };
            histograms.sealed_bytes += chunk.heap_bytes();
            histograms.sealed.push(chunk);
        }
        open.append(ts, Arc::clone(h));
        let grown = histograms.heap_bytes() as i64 - before as i64;
        self.set_idle(false);
        Ok(grown)
    }

    /// Whether a sample out of order has room: nothing in memory has its time.
    ///
    /// # Errors
    /// What is there: the same sample, or another.
    pub fn check_out_of_order(&self, ts: Timestamp, value: &SampleValue) -> Result<(), Refusal> {
        let (part, mut held) = (self.snapshot(), Samples::default());
        part.read(ts, ts, &mut held, &mut ChunkScratch::default());
        part.read_late(ts, ts, (0, 0), &mut held);
        let same = match value {
            _ if held.is_empty() => return Ok(()),
            SampleValue::Float(v) => held.vs.first().is_some_and(|held| held.to_bits() == v.to_bits()),
            SampleValue::Histogram(h) => held.hists.first().is_some_and(|held| same_but_for_hint(held, h)),
        };
        Err(if same { Refusal::Repeated } else { Refusal::Duplicate })
    }

    /// Adds a sample out of order, of the head's time or (before `min_valid`) of that of the blocks.
    ///
    /// # Errors
    /// When there is one of its time.
    pub fn append_out_of_order(
        &mut self,
        ts: Timestamp,
        start: Timestamp,
        value: &SampleValue,
        min_valid: Timestamp,
    ) -> Result<(), Refusal> {
        self.check_out_of_order(ts, value)?;
        self.set_idle(false);
        let rare = self.rare.get_or_insert_default();
        if ts < min_valid { rare.late.insert(ts, start, value) } else { rare.behind.insert(ts, start, value) }
    }

    /// What is to be put into blocks: held until [`HeadSeries::moved`].
    pub fn move_late(&mut self) -> Option<OutOfOrder> {
        let rare = self.rare.as_mut()?;
        let late = std::mem::take(&mut rare.late);
        if rare.moving.is_empty() {
            rare.moving = late;
        } else {
            // An attempt before this one failed.
            rare.moving.absorb(&late);
        }
        (!rare.moving.is_empty()).then(|| rare.moving.clone())
    }

    /// The blocks have what was to be moved.
    pub fn moved(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.moving = OutOfOrder::default();
        }
    }

    /// Drops those of `from..=to` that wait for their blocks.
    pub fn drop_late(&mut self, from: Timestamp, to: Timestamp) {
        if let Some(rare) = &mut self.rare {
            rare.late.take_out(from, to);
            rare.moving.take_out(from, to);
        }
    }

    /// How many samples out of order it holds.
    #[must_use]
    pub fn out_of_order(&self) -> usize {
        self.rare.as_ref().map_or(0, |r| r.behind.len() + r.late.len() + r.moving.len())
    }

    /// Whether it holds samples of the time that blocks answer for.
    #[must_use]
    pub fn has_late(&self) -> bool {
        self.rare.as_ref().is_some_and(|r| !r.late.is_empty() || !r.moving.is_empty())
    }

    /// Whether there may be samples in `from..=to`.
    #[must_use]
    pub fn overlaps(&self, from: Timestamp, to: Timestamp) -> bool {
        self.is_to_seal(from, to)
            || self.rare.as_ref().is_some_and(|r| r.late.overlaps(from, to) || r.moving.overlaps(from, to))
    }

    /// Whether there may be samples in `from..=to`, not counting those of the time that blocks answer for.
    #[must_use]
    pub fn is_to_seal(&self, from: Timestamp, to: Timestamp) -> bool {
        // The open chunk lies in the series itself, so it is looked at before the others.
        let open = !self.floats.is_empty() && self.floats.first_ts() <= to;
        let in_order = self.last_ts() >= from && (open || self.first_in_order().is_some_and(|t| t <= to));
        in_order || self.rare.as_ref().is_some_and(|r| r.behind.overlaps(from, to))
    }

    /// The time of the oldest sample that is held.
    #[must_use]
    pub fn first_ts(&self) -> Option<Timestamp> {
        let rare = self.rare.iter().flat_map(|r| [&r.behind, &r.late, &r.moving]);
        self.first_in_order().into_iter().chain(rare.filter_map(|o| o.bounds().map(|b| b.0))).min()
    }

    fn first_in_order(&self) -> Option<Timestamp> {
        let sealed = self.sealed.as_ref().map(|s| s.first_ts());
        let open = (!self.floats.is_empty()).then(|| self.floats.first_ts());
        let histograms = self.rare.as_ref().map(|r| &r.histograms).and_then(|h| {
            let open = (!h.open.is_empty()).then(|| h.open.first_ts());
            h.sealed.first().map(|c| c.first).or(open)
        });
        [sealed.or(open), histograms].into_iter().flatten().min()
    }

    /// What readers of `from..=to` see from now on, however the series goes on; nothing if there are no samples. Who
    /// asks for the `newest` sample at or before `to` gets that alone if it is at hand.
    #[must_use]
    pub fn part(&self, from: Timestamp, to: Timestamp, newest: bool) -> HeadPart {
        if !self.overlaps(from, to) {
            return HeadPart::Nothing;
        }
        let open = !self.floats.is_empty();
        if newest && open && self.rare.is_none() && self.floats.last_ts() <= to {
            return HeadPart::Newest(self.floats.last_ts(), self.floats.last_bits());
        }
        let before_open = !open || self.floats.first_ts() > from;
        let sealed = if before_open { self.sealed.clone() } else { None };
        let floats = if open && self.floats.first_ts() <= to && self.floats.last_ts() >= from {
            self.floats.clone()
        } else {
            OpenChunk::default()
        };
        let rare = self.rare.as_ref().map(|r| Box::new(r.snapshot()));
        HeadPart::Chunks(SeriesPart { sealed, open: floats, rare })
    }

    /// All samples, as readers see them from now on, however the series goes on.
    #[must_use]
    pub fn snapshot(&self) -> SeriesPart {
        SeriesPart {
            sealed: self.sealed.clone(),
            open: self.floats.clone(),
            rare: self.rare.as_ref().map(|r| Box::new(r.snapshot())),
        }
    }

    /// Drops the chunks that end before `before`; returns how many and their bytes.
    pub fn drop_before(&mut self, before: Timestamp) -> (u64, u64) {
        let dropped = Sealed::drop_before(&mut self.sealed, before);
        if !self.floats.is_empty() && self.floats.last_ts() < before {
            self.floats.clear();
            self.floats.shrink();
        }
        if let Some(rare) = &mut self.rare {
            rare.starts.drop_before(before);
            rare.behind.drop_before(before);
            let h = &mut rare.histograms;
            h.sealed.retain(|c| c.last >= before);
            h.sealed_bytes = h.sealed.iter().map(HistogramChunk::heap_bytes).sum();
            if !h.open.is_empty() && h.open.last_ts() < before {
                h.open = HistogramEncoder::default();
            }
        }
        dropped
    }

    /// The full chunks, if some may be unreadable.
    pub(super) fn maybe_damaged(&self) -> Option<Arc<Sealed>> {
        self.sealed.as_ref().filter(|s| s.may_be_damaged()).map(Arc::clone)
    }

    /// Puts chunks with these samples, ascending in time, in the place of the full chunks, if they are still `before`; samples that
    /// the open chunk has are left out. `None` if there are others by now.
    pub(super) fn replace_full_chunks(
        &mut self,
        before: &Arc<Sealed>,
        samples: &[(Timestamp, f64)],
        sealer: &mut Sealer,
    ) -> Option<Replaced> {
        if !self.sealed.as_ref().is_some_and(|s| Arc::ptr_eq(s, before)) {
            return None;
        }
        let mut done = Replaced {
            dropped: Sealed::drop_before(&mut self.sealed, Timestamp::MAX),
            ..Replaced::default()
        };
        let end = if self.floats.is_empty() { Timestamp::MAX } else { self.floats.first_ts() };
        let samples = &samples[..samples.partition_point(|(t, _)| *t < end)];
        let mut count = |bytes: Option<usize>| {
            if let Some(bytes) = bytes {
                done.made.0 += 1;
                done.made.1 += bytes as u64;
            }
        };
        let (mut open, mut window) = (OpenChunk::default(), None);
        for (t, v) in samples {
            // All samples of a chunk are of one window.
            let window_of_t = Some(sealer.window_start(*t));
            if window != window_of_t || !open.has_room(*t) {
                count(sealer.seal(&mut open, &mut self.sealed));
                window = window_of_t;
            }
            open.append(*t, v.to_bits());
        }
        count(sealer.seal(&mut open, &mut self.sealed));
        done.samples = samples.len() as u64;
        Some(done)
    }

    /// Whether it holds no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sealed.is_none() && self.floats.is_empty() && self.rare.as_ref().is_none_or(|r| r.is_empty())
    }

    /// How many samples it holds.
    #[must_use]
    pub fn samples(&self) -> u64 {
        let sealed = self.sealed.as_ref().map_or(0, |s| s.samples());
        let histograms = self.rare.as_ref().map_or(0, |r| r.samples());
        sealed + self.floats.len() as u64 + histograms
    }

    /// Bytes on the heap of the open chunk.
    #[must_use]
    pub fn open_bytes(&self) -> usize {
        self.floats.heap_bytes() + self.rare.as_ref().map_or(0, |r| r.heap_bytes())
    }

    /// Bytes of its histograms on the heap.
    #[must_use]
    pub fn histogram_bytes(&self) -> usize {
        self.rare.as_ref().map_or(0, |r| {
            let late = [&r.behind, &r.late, &r.moving].map(|o| o.histogram_bytes());
            r.histograms.heap_bytes() + late.iter().sum::<usize>()
        })
    }

    /// Bytes of full chunks of histograms that end before `before`.
    #[must_use]
    pub fn histogram_bytes_before(&self, before: Timestamp) -> usize {
        let sealed = self.rare.iter().flat_map(|r| &r.histograms.sealed);
        sealed.take_while(|c| c.last < before).map(HistogramChunk::heap_bytes).sum()
    }
}

impl Histograms {
    fn heap_bytes(&self) -> usize {
        self.sealed_bytes + self.open.heap_bytes() + self.newest.as_deref().map_or(0, histograms::heap_bytes)
    }

    fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.open.is_empty()
    }

    fn samples(&self) -> u64 {
        self.sealed.iter().map(|c| u64::from(c.count)).sum::<u64>() + self.open.len() as u64
    }
}

impl Rare {
    fn is_empty(&self) -> bool {
        let out_of_order = [&self.behind, &self.late, &self.moving];
        self.histograms.is_empty() && out_of_order.iter().all(|o| o.is_empty())
    }

    fn samples(&self) -> u64 {
        let out_of_order = self.behind.len() + self.late.len() + self.moving.len();
        self.histograms.samples() + out_of_order as u64
    }

    fn heap_bytes(&self) -> usize {
        let out_of_order = [&self.behind, &self.late, &self.moving].map(|o| o.heap_bytes());
        size_of::<Rare>() + self.starts.heap_bytes() + out_of_order.iter().sum::<usize>()
    }

    fn snapshot(&self) -> RarePart {
        let open = &self.histograms.open;
        let mut chunks = self.histograms.sealed.clone();
        if !open.is_empty() {
            chunks.push(HistogramChunk {
                first: open.first_ts(),
                last: open.last_ts(),
                count: open.len() as u16,
                bytes: open.bytes().into(),
            });
        }
        RarePart {
            histograms: chunks.into_boxed_slice(),
            starts: self.starts.clone(),
            behind: self.behind.clone(),
            late: self.late.clone(),
            moving: self.moving.clone(),
        }
    }
}

/// What a selection keeps of a series in the head.
#[derive(Clone, Debug)]
pub enum HeadPart {
    Nothing,
    /// Time and bits of the newest sample, a float, for whoever asks for no other.
    Newest(Timestamp, u64),
    Chunks(SeriesPart),
}

impl HeadPart {
    /// About the bytes that it has of its own on the heap: what was being written at the moment.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match self {
            HeadPart::Nothing | HeadPart::Newest(..) => 0,
            HeadPart::Chunks(part) => {
                let rare = |r: &RarePart| {
                    let histograms = r.histograms.iter().map(|c| size_of::<HistogramChunk>() + c.bytes.len());
                    let late = r.behind.heap_bytes() + r.late.heap_bytes() + r.moving.heap_bytes();
                    size_of::<RarePart>() + histograms.sum::<usize>() + r.starts.heap_bytes() + late
                };
                part.open.heap_bytes() + part.rare.as_deref().map_or(0, rare)
            }
        }
    }
}

/// The samples that a series had at one moment.
#[derive(Clone, Debug)]
pub struct SeriesPart {
    sealed: Option<Arc<Sealed>>,
    open: OpenChunk,
    rare: Option<Box<RarePart>>,
}

#[derive(Clone, Debug)]
struct RarePart {
    histograms: Box<[HistogramChunk]>,
    starts: Starts,
    behind: OutOfOrder,
    late: OutOfOrder,
    moving: OutOfOrder,
}

/// Samples that are read at once where there are more than this: those of so many milliseconds, and histograms that take so
/// many bytes as they are held, of which decoded ones take up to some eight times as many.
const MANY_SAMPLES: u64 = 1 << 16;
const PART_MS: Timestamp = 1 << 18;
const PART_BYTES: usize = 1 << 20;
/// But no more parts than this.
const PARTS_MAX: Timestamp = 4096;

impl SeriesPart {
    /// The times, ascending, between `from` and `to` at which parts begin that are read one after the other, so that a
    /// series with very many samples is not in memory decoded as a whole. None for most series, and for those with start
    /// times.
    #[must_use]
    pub fn cuts(&self, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
        let mut cuts = Vec::new();
        if self.rare.as_ref().is_some_and(|r| !r.starts.is_empty()) {
            return cuts;
        }
        let sealed = self.sealed.as_ref().map_or(0, |s| s.samples());
        if let Some(list) = self.sealed.as_ref().filter(|_| sealed > MANY_SAMPLES) {
            let last = if self.open.is_empty() { to } else { self.open.last_ts().min(to) };
            let first = list.first_ts().max(from);
            let step = PART_MS.max(last.saturating_sub(first) / PARTS_MAX);
            let next = |at: &Timestamp| at.checked_add(step).filter(|at| *at <= last);
            cuts.extend(std::iter::successors(next(&first), next));
        }
        let mut bytes = 0;
        for chunk in self.rare.iter().flat_map(|r| &r.histograms) {
            bytes += chunk.bytes.len();
            if bytes > PART_BYTES && chunk.last >= from && chunk.last < to {
                cuts.push(chunk.last + 1);
                bytes = 0;
            }
        }
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }

    /// Appends the samples in `from..=to` to the columns, as far as they can be read; returns whether that is all.
    pub fn read(
        &self,
        from: Timestamp,
        to: Timestamp,
        out: &mut Samples,
        scratch: &mut ChunkScratch,
    ) -> bool {
        let begin = (out.ts.len(), out.hist_ts.len());
        let whole = self.sealed.as_ref().is_none_or(|s| s.read(from, to, out, scratch));
        self.open.read(from, to, &mut out.ts, &mut out.vs);
        match &self.rare {
            None => out.pad_starts(),
            Some(rare) => rare.read(from, to, begin, out),
        }
        whole
    }
}

impl SeriesPart {
    /// Merges the samples in `from..=to` of the time that blocks answer for into what the columns have after `begin`.
    pub fn read_late(&self, from: Timestamp, to: Timestamp, begin: (usize, usize), out: &mut Samples) {
        if let Some(rare) = &self.rare {
            rare.moving.merge(from, to, begin, out);
            rare.late.merge(from, to, begin, out);
        }
    }
}

impl RarePart {
    /// Appends the histograms in `from..=to`, and the start times of what the columns have after `begin`.
    fn read(&self, from: Timestamp, to: Timestamp, begin: (usize, usize), out: &mut Samples) {
        for chunk in &self.histograms {
            if chunk.last < from || chunk.first > to {
                continue;
            }
            let n = usize::from(chunk.count);
            let read = histograms::decode(&chunk.bytes, n, from, to, &mut out.hist_ts, &mut out.hists);
            debug_assert!(read.is_some(), "a histogram chunk reads what it wrote");
        }
        out.extend_starts(&self.starts, begin);
        self.behind.merge(from, to, begin, out);
    }
}
