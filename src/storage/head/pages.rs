//! Where the bytes of full chunks lie: in pages, the newest in memory, older ones in a file.
//!
//! ```text
//! page 0 | page 1 | … | page n-1      in the file, once there are more than stay in memory
//! page n | … | the page that fills    in memory
//! ```
//! All windows together have so much in memory; what does not fit goes to the file, the oldest window's pages first.
//! Every window has pages of its own, which are freed whole with the last of its chunks: nothing is freed one by one and
//! nothing is left between. The file has no name, so it goes with the process. Nothing of it is needed after a
//! restart, for the WAL holds the same samples; so it is not synced, and when it cannot be written, pages stay in memory.
//! What was pushed is followed by its checksum, which is compared when it comes back from the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use crate::model::Timestamp;
use crate::storage::coding::{crc32c, u32_at};
use crate::storage::disk::{Disk, ScratchFile};

const PAGE_BYTES: usize = 256 << 10;
/// So many pages stay in memory, to be read without a system call: 32 MiB, or this part of what the head may take.
const PAGES_IN_MEMORY: usize = 128;
const MEMORY_PART: u64 = 8;
/// Bytes of the checksum that follows what was pushed.
const CHECKSUM: usize = 4;

/// The disk and the directory of the files.
type Place = (Arc<dyn Disk>, PathBuf);

/// The pages of all windows of the head.
#[derive(Debug, Default)]
pub struct PageStore {
    place: Option<Place>,
    window_ms: i64,
    windows: Mutex<BTreeMap<Timestamp, Weak<Pages>>>,
    /// So many pages stay in memory.
    pages_max: usize,
    in_memory: Arc<AtomicU64>,
}

impl PageStore {
    /// Pages beyond those that stay in memory go to a file in `dir`; all stay if there is none. The head may take
    /// `memory_bytes_max` (0: any number).
    #[must_use]
    pub fn new(place: Option<(&Arc<dyn Disk>, &Path)>, window_ms: i64, memory_bytes_max: u64) -> Self {
        let place = place.map(|(disk, dir)| (Arc::clone(disk), dir.to_owned()));
        let pages_max = match memory_bytes_max {
            0 => PAGES_IN_MEMORY,
            max => ((max / MEMORY_PART) as usize / PAGE_BYTES).clamp(1, PAGES_IN_MEMORY),
        };
        PageStore { place, window_ms, pages_max, ..PageStore::default() }
    }

    /// Whether more pages are in memory than stay there.
    fn is_full(&self) -> bool {
        self.memory_bytes() > (self.pages_max * PAGE_BYTES) as u64
    }

    pub(super) fn window_start(&self, ts: Timestamp) -> Timestamp {
        let window_ms = self.window_ms.max(1);
        ts.div_euclid(window_ms).saturating_mul(window_ms)
    }

    /// The pages of a window.
    pub(super) fn window(&self, start: Timestamp) -> Arc<Pages> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pages) = windows.get(&start).and_then(Weak::upgrade) {
            return pages;
        }
        windows.retain(|_, pages| pages.strong_count() > 0);
        let pages = Arc::new(Pages {
            start,
            end: start.saturating_add(self.window_ms.max(1)),
            place: self.place.clone(),
            file: OnceLock::new(),
            written: AtomicU64::new(0),
            pages: RwLock::default(),
            in_memory: Arc::clone(&self.in_memory),
        });
        windows.insert(start, Arc::downgrade(&pages));
        pages
    }

    /// Puts bytes into pages of this store; see [`Pages::push`].
    pub(super) fn push(&self, pages: &Pages, bytes: &[u8]) -> u64 {
        let (at, page_begun) = pages.push(bytes);
        if page_begun && self.is_full() {
            self.make_room();
        }
        at
    }

    /// Writes pages to the file until there are no more in memory than may be. Windows before the newest are over,
    /// mostly, and seldom read.
    fn make_room(&self) {
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut windows = windows.values().filter_map(Weak::upgrade).peekable();
        while let Some(pages) = windows.next() {
            if !self.is_full() {
                return;
            }
            pages.write_out(if windows.peek().is_some() { 0 } else { self.pages_max });
        }
    }

    /// Bytes of the pages that are in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.in_memory.load(Ordering::Relaxed)
    }
}

/// The pages of one window.
#[derive(Debug)]
pub struct Pages {
    /// The window: all samples are in `start..end`.
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    place: Option<Place>,
    /// `None` if there is no directory, or no file could be made.
    file: OnceLock<Option<Box<dyn ScratchFile>>>,
    /// So many pages, the first ones, are in the file.
    written: AtomicU64,
    pages: RwLock<InMemory>,
    in_memory: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct InMemory {
    /// The number of `pages[0]`.
    first: usize,
    pages: std::collections::VecDeque<Vec<u8>>,
}

impl Pages {
    /// How long after the window's start a time is, or less where that is very long.
    pub(super) fn offset(&self, ts: Timestamp) -> u32 {
        ts.saturating_sub(self.start).clamp(0, i64::from(u32::MAX)) as u32
    }

    /// Puts bytes, at most a page of them with their checksum, in and returns where they are, and whether that is a new page.
    fn push(&self, bytes: &[u8]) -> (u64, bool) {
        let mut inner = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        let begun = inner.pages.back().is_none_or(|p| p.len() + bytes.len() + CHECKSUM > PAGE_BYTES);
        if begun {
            inner.pages.push_back(Vec::with_capacity(PAGE_BYTES));
            self.in_memory.fetch_add(PAGE_BYTES as u64, Ordering::Relaxed);
        }
        let number = inner.first + inner.pages.len() - 1;
        let Some(page) = inner.pages.back_mut() else { return (0, begun) };
        let at = (number * PAGE_BYTES + page.len()) as u64;
        page.extend_from_slice(bytes);
        page.extend_from_slice(&crc32c(bytes).to_le_bytes());
        (at, begun)
    }

    /// Appends the bytes at a place that [`Pages::push`] returned to `out`; `None` if the file cannot be read,
    /// or has other bytes there than were written.
    #[must_use]
    pub fn read(&self, at: u64, len: usize, out: &mut Vec<u8>) -> Option<()> {
        let (number, offset) = ((at / PAGE_BYTES as u64), (at % PAGE_BYTES as u64) as usize);
        if number >= self.written.load(Ordering::Acquire) {
            let inner = self.pages.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(page) = (number as usize).checked_sub(inner.first).and_then(|i| inner.pages.get(i)) {
                out.extend_from_slice(page.get(offset..offset.checked_add(len)?)?);
                return Some(());
            }
            // It was written between the two looks.
        }
        let file = self.file.get()?.as_ref()?;
        let start = out.len();
        out.resize(start + len + CHECKSUM, 0);
        file.read_at(&mut out[start..], at).ok()?;
        let checksum = u32_at(out, start + len)?;
        out.truncate(start + len);
        (checksum == crc32c(&out[start..])).then_some(())
    }

    /// Writes all pages but the last `keep` to the file.
    fn write_out(&self, keep: usize) {
        let mut inner = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        self.write_first(&mut inner, keep);
    }

    fn write_first(&self, inner: &mut InMemory, keep: usize) {
        if inner.pages.len() <= keep {
            return;
        }
        let Some(file) = self.file.get_or_init(|| self.make_file()) else { return };
        while inner.pages.len() > keep {
            let Some(page) = inner.pages.front_mut() else { return };
            // Full length, so that what is pushed after it to a page of its own has its place.
            page.resize(PAGE_BYTES, 0);
            if file.write_at(page, (inner.first * PAGE_BYTES) as u64).is_err() {
                // No room: it stays in memory, and the next page tries again.
                return;
            }
            inner.first += 1;
            inner.pages.pop_front();
            self.written.store(inner.first as u64, Ordering::Release);
            self.in_memory.fetch_sub(PAGE_BYTES as u64, Ordering::Relaxed);
        }
    }

    fn make_file(&self) -> Option<Box<dyn ScratchFile>> {
        let (disk, dir) = self.place.as_ref()?;
        let made = disk.scratch(dir);
        made.inspect_err(|error| {
            tracing::warn!(dir = %dir.display(), %error, "Full chunks of the head stay in memory: no file can be made for them");
        })
        .ok()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let inner = self.pages.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.in_memory.fetch_sub((inner.pages.len() * PAGE_BYTES) as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::RealDisk;
    use crate::storage::disk::sim::{Fault, Kind, SimDisk};

    fn fill(store: &PageStore, pages: &Pages, from: usize, n: usize) -> Vec<u64> {
        (from..from + n).map(|i| store.push(pages, &[i as u8; 1000][..1 + i % 1000])).collect()
    }

    fn check(pages: &Pages, places: &[u64]) {
        for (i, at) in places.iter().enumerate() {
            let mut out = vec![9];
            pages.read(*at, 1 + i % 1000, &mut out).unwrap();
            assert_eq!(out[1..], [i as u8; 1000][..1 + i % 1000]);
        }
    }

    #[test]
    fn bytes_come_back_from_memory_and_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let on_disk = |memory_bytes_max| PageStore::new(Some((&disk, dir.path())), 1, memory_bytes_max);
        for store in [PageStore::new(None, 1, 0), on_disk(0), on_disk(64 << 20)] {
            let is_bounded = || assert_eq!(!store.is_full(), store.place.is_some());
            let pages = store.window(5);
            let n = (store.pages_max + 3) * PAGE_BYTES / 500;
            let mut places = fill(&store, &pages, 0, n);
            check(&pages, &places);
            is_bounded();
            let is_written = || pages.pages.read().unwrap().pages.is_empty();
            assert!(!is_written());
            // A later window pushes all of it out; what still comes for the earlier one has its place.
            let later = store.window(6);
            let later_places = fill(&store, &later, 0, n);
            is_bounded();
            assert_eq!(is_written(), store.place.is_some());
            places.extend(fill(&store, &pages, n, 500));
            check(&pages, &places);
            check(&later, &later_places);
            assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "the file has no name");
            drop((pages, later));
            assert_eq!(store.memory_bytes(), 0);
        }
    }

    #[test]
    fn a_window_that_fits_stays_in_memory_after_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let store = PageStore::new(Some((&disk, dir.path())), 1, 0);
        let windows: Vec<_> = (0..10).map(|i| store.window(i)).collect();
        let places: Vec<_> = windows.iter().map(|pages| fill(&store, pages, 0, 1000)).collect();
        assert!(windows.iter().all(|pages| pages.file.get().is_none()));
        windows.iter().zip(&places).for_each(|(pages, places)| check(pages, places));
    }

    #[test]
    fn without_a_file_pages_stay_in_memory() {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let store = PageStore::new(Some((&disk, Path::new("/nonexistent/directory"))), 1, 0);
        let pages = store.window(0);
        let places = fill(&store, &pages, 0, 2000);
        pages.write_out(0);
        check(&pages, &places);
    }

    #[test]
    fn what_comes_back_otherwise_than_it_was_written_is_not_given() {
        let sim = SimDisk::default();
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let store = PageStore::new(Some((&disk, Path::new("/data"))), 1, 0);
        let pages = store.window(0);
        let places = fill(&store, &pages, 0, 50);
        // Operation 0 makes the file, 1 writes the page.
        sim.fail(Fault { at: 1, times: 1, kind: Kind::BitFlip });
        pages.write_out(0);
        assert_eq!(store.memory_bytes(), 0);
        let read = |i: usize| pages.read(places[i], 1 + i, &mut Vec::new());
        let whole = (0..50).filter(|i| read(*i).is_some()).count();
        assert_eq!(whole, 49);
    }
}
