//! The full chunks of a series: a list that begins with the newest and lies in the pages.
//!
//! ```text
//! chunk   place of the chunk before: u64, 0 if there is none
//!         samples: varint, first time: signed
//!         interval * 2: varint, or 1 and the times (`chunk/ints`) if intervals differ
//!         values (`chunk/floats`)
//!         or, in place of both: 3, and the samples as the open chunk had them (`chunk/open`)
//! ```
//! So a chunk takes no memory of its own, however many a series has.

use std::sync::Arc;

use super::pages::{PageStore, Pages};
use crate::model::Timestamp;
use crate::storage::api::Samples;
use crate::storage::chunk::open::{OpenChunk, read_written, trim};
use crate::storage::chunk::{floats, ints};
use crate::storage::coding::{Cursor, put_signed, put_varint};

/// Encodes open chunks that are full. Each shard has one.
#[derive(Debug, Default)]
pub struct Sealer {
    store: Arc<PageStore>,
    /// The pages that were written to last, and the start of their window.
    pages: Option<(Timestamp, Arc<Pages>)>,
    /// Whether chunks are put away as they are: they take half as much again then, and a third of a replay's time less.
    pub as_they_are: bool,
    ts: Vec<Timestamp>,
    vs: Vec<f64>,
    bytes: Vec<u8>,
}

impl Sealer {
    /// With the pages where full chunks go.
    #[must_use]
    pub fn new(store: Arc<PageStore>) -> Self {
        Sealer { store, ..Sealer::default() }
    }

    pub(super) fn window_start(&self, ts: Timestamp) -> Timestamp {
        self.store.window_start(ts)
    }

    /// Lets go of pages that may be over.
    pub fn forget_pages(&mut self) {
        self.pages = None;
    }

    /// The pages of the window of a time.
    fn pages(&mut self, ts: Timestamp) -> Arc<Pages> {
        let window_start = self.window_start(ts);
        match &self.pages {
            Some((start, pages)) if *start == window_start => Arc::clone(pages),
            _ => {
                let pages = self.store.window(window_start);
                self.pages = Some((window_start, Arc::clone(&pages)));
                pages
            }
        }
    }

    /// Moves the samples of an open chunk to the list. Returns how much memory the list takes more, `None` if there
    /// was no sample.
    pub(super) fn seal(&mut self, open: &mut OpenChunk, list: &mut Option<Arc<Sealed>>) -> Option<usize> {
        if open.is_empty() {
            return None;
        }
        let (n, first) = (open.len(), open.first_ts());
        let pages = self.pages(first);
        let same_pages = list.as_mut().filter(|l| Arc::ptr_eq(&l.pages, &pages) && l.has_room(n));
        let same_pages = same_pages.map(Arc::make_mut);
        let bytes = &mut self.bytes;
        bytes.clear();
        bytes.extend_from_slice(&same_pages.as_ref().map_or(0, |l| l.newest).to_le_bytes());
        put_varint(bytes, n as u64);
        put_signed(bytes, first);
        if self.as_they_are && open.is_written() {
            put_varint(bytes, OPEN);
            open.put(bytes);
            open.clear();
        } else {
            let (ts, vs) = (&mut self.ts, &mut self.vs);
            ts.clear();
            vs.clear();
            open.read(Timestamp::MIN, Timestamp::MAX, ts, vs);
            open.clear();
            if floats::constant(vs).is_some() {
                // The next chunk is likely to stand still as well.
                open.shrink();
            }
            match regular(ts) {
                Some(interval) => put_varint(bytes, u64::from(interval) << 1),
                None => {
                    put_varint(bytes, IRREGULAR);
                    ints::encode(ts, bytes);
                }
            }
            floats::encode(vs, bytes);
        }
        let newest = self.store.push(&pages, bytes) << 16 | bytes.len() as u64;
        let samples = n as u16;
        if let Some(list) = same_pages {
            list.newest = newest;
            list.chunks += 1;
            list.samples += samples;
            return Some(0);
        }
        let first = pages.offset(first);
        let older = list.take();
        *list = Some(Arc::new(Sealed { pages, newest, older, first, chunks: 1, samples }));
        Some(SEALED_BYTES)
    }
}

/// What stands in the place of the interval if intervals differ.
const IRREGULAR: u64 = 1;
/// The same for what is as it was in the open chunk.
const OPEN: u64 = 3;

/// The interval, if all are the same.
fn regular(ts: &[Timestamp]) -> Option<u32> {
    let interval = match ts {
        [_] => 0,
        [a, b, ..] => b.checked_sub(*a)?,
        [] => return None,
    };
    let regular = ts.windows(2).all(|t| t[1].wrapping_sub(t[0]) == interval);
    regular.then(|| u32::try_from(interval).ok()).flatten()
}

const SEALED_BYTES: usize = size_of::<Sealed>() + 2 * size_of::<usize>();

/// The full chunks of a series in one window, and those of the windows before. A window with very many samples has
/// several of these. There are millions, so its fields are as narrow as they may be.
#[derive(Clone, Debug)]
pub struct Sealed {
    pages: Arc<Pages>,
    /// Where the newest is, and in the low 16 bits how many bytes it has.
    newest: u64,
    older: Option<Arc<Sealed>>,
    /// No sample is older than this much after the window's start.
    first: u32,
    chunks: u16,
    samples: u16,
}

const _: () = assert!(size_of::<Sealed>() == 32);

/// Memory to work in while reading.
#[derive(Debug, Default)]
pub struct ChunkScratch {
    ints: Vec<i64>,
    /// Chunks, newest first, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Sealed {
    /// Whether another chunk of `n` samples can be counted.
    fn has_room(&self, n: usize) -> bool {
        usize::from(self.samples) + n <= usize::from(u16::MAX)
    }

    fn first(&self) -> Timestamp {
        self.pages.start.saturating_add(i64::from(self.first))
    }

    fn windows(&self) -> impl Iterator<Item = &Sealed> {
        std::iter::successors(Some(self), |s| s.older.as_deref())
    }

    /// The time of the oldest sample.
    #[must_use]
    pub fn first_ts(&self) -> Timestamp {
        self.windows().last().map_or(Timestamp::MAX, Sealed::first)
    }

    /// How many samples there are.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.windows().map(|s| u64::from(s.samples)).sum()
    }

    /// Appends the samples in `from..=to` to the columns, as far as they can be read; returns whether that is all.
    pub fn read(
        &self,
        from: Timestamp,
        to: Timestamp,
        out: &mut Samples,
        scratch: &mut ChunkScratch,
    ) -> bool {
        scratch.bytes.clear();
        scratch.ends.clear();
        let mut whole = true;
        for window in self.windows() {
            if window.pages.end <= from {
                break;
            }
            if window.first() <= to {
                whole &= window.collect(from, to, scratch).is_some();
            }
        }
        let ChunkScratch { ints, bytes, ends } = scratch;
        for i in (0..ends.len()).rev() {
            let start = if i == 0 { 0 } else { ends[i - 1] };
            let begin = out.ts.len();
            if decode(&bytes[start..ends[i]], from, to, out, ints).is_none() {
                out.ts.truncate(begin);
                out.vs.truncate(begin);
                self.pages.set_damaged(true);
                whole = false;
            }
        }
        whole
    }

    /// Whether some chunks of the list may be unreadable: some in the same pages are.
    pub(super) fn may_be_damaged(&self) -> bool {
        self.windows().any(|s| s.pages.is_damaged())
    }

    /// Gets the chunks that may have samples in `from..=to`; `None` if one cannot be read, and then none before it: they
    /// are found through those after them.
    fn collect(&self, from: Timestamp, to: Timestamp, scratch: &mut ChunkScratch) -> Option<()> {
        let mut place = self.newest;
        for _ in 0..self.chunks {
            let start = scratch.bytes.len();
            let header = self.get(place, &mut scratch.bytes)?;
            if header.first > to {
                scratch.bytes.truncate(start);
            } else {
                scratch.ends.push(scratch.bytes.len());
            }
            if header.first <= from {
                break;
            }
            place = header.before;
        }
        Some(())
    }

    /// Appends the bytes of one chunk; `None`, and nothing, if they cannot be read.
    fn get(&self, place: u64, bytes: &mut Vec<u8>) -> Option<Header> {
        let start = bytes.len();
        self.pages.read(place >> 16, place as usize & 0xffff, bytes)?;
        let header = Header::of(&bytes[start..]).map(|(header, _)| header);
        if header.is_none() {
            bytes.truncate(start);
            self.pages.set_damaged(true);
        }
        header
    }

    /// Drops the chunks that end before `before` from a list; returns how many, and the memory that they took.
    pub fn drop_before(list: &mut Option<Arc<Sealed>>, before: Timestamp) -> (u64, u64) {
        let Some(newest) = list else { return (0, 0) };
        if newest.pages.end <= before {
            let (chunks, windows) =
                newest.windows().fold((0, 0), |(c, n), s| (c + u64::from(s.chunks), n + 1));
            *list = None;
            return (chunks, windows * SEALED_BYTES as u64);
        }
        if newest.first_ts() >= before {
            return (0, 0);
        }
        let newest = Arc::make_mut(newest);
        let (mut chunks, mut bytes) = Sealed::drop_before(&mut newest.older, before);
        if newest.first() < before {
            let had = newest.chunks;
            if newest.count_from(before).is_none() {
                // They stay until they are healed.
                newest.pages.set_damaged(true);
            }
            chunks += u64::from(had - newest.chunks);
            if newest.chunks == 0 {
                // What is older is gone as well.
                *list = None;
                bytes += SEALED_BYTES as u64;
            }
        }
        (chunks, bytes)
    }

    /// Leaves out the chunks that end before `before`. Their bytes stay where they are.
    fn count_from(&mut self, before: Timestamp) -> Option<()> {
        let (mut bytes, mut ts, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let (mut chunks, mut samples, mut first) = (0, 0, u32::MAX);
        let mut place = self.newest;
        for _ in 0..self.chunks {
            bytes.clear();
            ts.clear();
            values.clear();
            self.pages.read(place >> 16, place as usize & 0xffff, &mut bytes)?;
            let (header, mut cursor) = Header::of(&bytes)?;
            header.times(&mut cursor, &mut ts, &mut values)?;
            if ts.last().is_none_or(|t| *t < before) {
                break;
            }
            chunks += 1;
            samples += ts.len() as u16;
            first = self.pages.offset(header.first);
            place = header.before;
        }
        (self.chunks, self.samples, self.first) = (chunks, samples, first);
        Some(())
    }
}

/// What stands in front of a chunk's values.
struct Header {
    before: u64,
    count: usize,
    first: Timestamp,
    /// Twice the interval, [`IRREGULAR`] or [`OPEN`].
    interval: u64,
}

impl Header {
    #[inline]
    fn of(bytes: &[u8]) -> Option<(Header, Cursor<'_>)> {
        let mut cursor = Cursor::new(bytes);
        let before = cursor.u64()?;
        let count = usize::try_from(cursor.varint()?).ok()?;
        let first = cursor.signed()?;
        let interval = cursor.varint()?;
        Some((Header { before, count, first, interval }, cursor))
    }

    /// Appends the times; the cursor stands at the values then, unless they are appended to `values` with the times.
    fn times(&self, cursor: &mut Cursor<'_>, out: &mut Vec<Timestamp>, values: &mut Vec<f64>) -> Option<()> {
        match self.interval {
            OPEN => {
                let bytes = cursor.take(cursor.len())?;
                read_written(bytes, self.first, (Timestamp::MIN, Timestamp::MAX), out, values)
            }
            IRREGULAR => ints::decode(cursor, self.count, out),
            interval => {
                let interval = (interval >> 1) as i64;
                out.extend((0..self.count as i64).map(|i| self.first + i * interval));
                Some(())
            }
        }
    }
}

/// Appends the samples of a chunk in `from..=to` to the columns.
fn decode(
    bytes: &[u8],
    from: Timestamp,
    to: Timestamp,
    out: &mut Samples,
    ints: &mut Vec<i64>,
) -> Option<()> {
    let (header, mut cursor) = Header::of(bytes)?;
    if header.interval == OPEN {
        let bytes = cursor.take(cursor.len())?;
        return read_written(bytes, header.first, (from, to), &mut out.ts, &mut out.vs);
    }
    let at = out.ts.len();
    header.times(&mut cursor, &mut out.ts, &mut out.vs)?;
    if out.ts.last().is_none_or(|last| *last < from) {
        out.ts.truncate(at);
        return Some(());
    }
    let values = cursor.take(cursor.len())?;
    floats::decode(values, header.count, &mut out.vs, ints)?;
    trim(at, from, to, &mut out.ts, &mut out.vs);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn samples_come_back(
            steps in proptest::collection::vec((prop_oneof![9 => Just(10i64), 1 => 1i64..500], 0u8..4), 1..400),
            chunk in 1usize..60, from in 0i64..5000, length in 0i64..5000, cut in 0i64..5000, on_disk: bool,
            as_they_are: [bool; 3],
        ) {
            let dir = tempfile::tempdir().unwrap();
            let disk: Arc<dyn crate::storage::disk::Disk> = Arc::new(crate::storage::disk::RealDisk);
            let store = Arc::new(PageStore::new(on_disk.then(|| (&disk, dir.path())), 1000, 0));
            let mut sealer = Sealer::new(Arc::clone(&store));
            let (mut list, mut open, mut t) = (None, OpenChunk::default(), 0);
            let mut want = Vec::new();
            for (step, v) in steps {
                t += step;
                // A chunk has one window, as the head sees to.
                let ends = open.len() >= chunk || !open.is_empty() && open.first_ts() / 1000 != t / 1000;
                if ends {
                    sealer.as_they_are = as_they_are[want.len() % 3];
                    let _bytes = sealer.seal(&mut open, &mut list);
                    if t % 3 > 0 {
                        store.make_room();
                    }
                }
                open.append(t, f64::from(v).to_bits());
                want.push((t, f64::from(v)));
            }
            let _bytes = sealer.seal(&mut open, &mut list);
            let shared = list.clone();
            let read = |list: &Option<Arc<Sealed>>, from, to| {
                let mut out = Samples::default();
                if let Some(list) = list {
                    assert!(list.read(from, to, &mut out, &mut ChunkScratch::default()));
                }
                out.ts.iter().copied().zip(out.vs.iter().copied()).collect::<Vec<_>>()
            };
            let part = |from, to| want.iter().copied().filter(|s| s.0 >= from && s.0 <= to).collect::<Vec<_>>();
            prop_assert_eq!(read(&list, from, from + length), part(from, from + length));
            prop_assert_eq!(list.as_ref().unwrap().samples(), want.len() as u64);
            let _dropped = Sealed::drop_before(&mut list, cut);
            prop_assert_eq!(read(&list, cut, i64::MAX), part(cut, i64::MAX));
            prop_assert_eq!(list.is_none(), t < cut);
            // What a reader holds does not change.
            prop_assert_eq!(read(&shared, i64::MIN, i64::MAX), want);
        }
    }
}
