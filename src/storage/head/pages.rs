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
//! What was pushed is followed by its checksum, which is compared when it comes back from the file. Where that fails the
//! window is noted as damaged, and its chunks are taken from the WAL again; see `heal`.
//!
//! **Invariant**: pushing does no I/O, for it is done under a shard's lock. Who has pushed calls
//! [`PageStore::make_room`] when he has let go of it; that writes without any lock that somebody who pushes or reads waits for.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, TryLockError, Weak};

use crate::model::Timestamp;
use crate::storage::coding::{crc32c, u32_at};
use crate::storage::disk::{Disk, ScratchFile};

const PAGE_BYTES: usize = 256 << 10;
/// Bytes of the checksum that follows what was pushed.
const CHECKSUM: usize = 4;

/// So many written pages are kept for their memory. What a thread gives back that another has taken from the allocator is long
/// in coming to use again, and then it was cleared by the system in between.
const SPARE_PAGES: usize = 8;

/// Empty, with room for a page each.
type Spare = Arc<Mutex<Vec<Vec<u8>>>>;

/// The disk and the directory of the files.
type Place = (Arc<dyn Disk>, PathBuf);

/// The pages of all windows of the head.
#[derive(Debug, Default)]
pub struct PageStore {
    place: Option<Place>,
    window_ms: i64,
    memory_bytes_max: u64,
    windows: Mutex<BTreeMap<Timestamp, Weak<Pages>>>,
    in_memory: Arc<AtomicU64>,
    spare: Spare,
    /// A page was begun since room was last made.
    begun: AtomicBool,
    /// Held by the one that writes.
    writing: Mutex<()>,
}

impl PageStore {
    /// Pages beyond `memory_bytes_max` go to a file in the directory; all stay in memory if there is none.
    #[must_use]
    pub fn new(place: Option<(&Arc<dyn Disk>, &Path)>, window_ms: i64, memory_bytes_max: u64) -> Self {
        let place = place.map(|(disk, dir)| (Arc::clone(disk), dir.to_owned()));
        PageStore { place, window_ms, memory_bytes_max, ..PageStore::default() }
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
            told: AtomicBool::new(false),
            written: AtomicU64::new(0),
            pages: RwLock::default(),
            in_memory: Arc::clone(&self.in_memory),
            spare: Arc::clone(&self.spare),
            damaged: AtomicBool::new(false),
        });
        windows.insert(start, Arc::downgrade(&pages));
        pages
    }

    /// The pages of all windows, the oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Pages>> {
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.values().filter_map(Weak::upgrade).collect()
    }

    /// Puts bytes into pages of this store; see [`Pages::push`].
    pub(super) fn push(&self, pages: &Pages, bytes: &[u8]) -> u64 {
        let (at, page_begun) = pages.push(bytes);
        if page_begun {
            self.begun.store(true, Ordering::Relaxed);
        }
        at
    }

    /// Writes pages to the file until there are no more in memory than may be. Windows before the newest are over,
    /// mostly, and seldom read. The caller holds no lock of a shard.
    pub(super) fn make_room(&self) {
        if !self.begun.load(Ordering::Relaxed) || self.memory_bytes() <= self.memory_bytes_max {
            return;
        }
        let _writing = match self.writing.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Somebody is at it. A disk that is slower than those who push holds them up at some point.
            Err(TryLockError::WouldBlock) if self.memory_bytes() / 2 <= self.memory_bytes_max => return,
            Err(TryLockError::WouldBlock) => self.writing.lock().unwrap_or_else(PoisonError::into_inner),
        };
        // Should writing fail, the next page tries again.
        self.begun.store(false, Ordering::Relaxed);
        let keep = (self.memory_bytes_max / PAGE_BYTES as u64) as usize;
        let mut windows = self.all().into_iter().peekable();
        while let Some(pages) = windows.next() {
            if self.memory_bytes() <= self.memory_bytes_max {
                return;
            }
            pages.write_out(if windows.peek().is_some() { 0 } else { keep });
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
    /// Once there is one.
    file: OnceLock<Box<dyn ScratchFile>>,
    /// The log has that none can be made.
    told: AtomicBool,
    /// So many pages, the first ones, are in the file.
    written: AtomicU64,
    pages: RwLock<InMemory>,
    in_memory: Arc<AtomicU64>,
    spare: Spare,
    /// Something did not come back as it was pushed.
    damaged: AtomicBool,
}

#[derive(Debug, Default)]
struct InMemory {
    /// The number of `pages[0]`.
    first: usize,
    /// One that is being written has a second owner, and does not change.
    pages: VecDeque<Arc<Vec<u8>>>,
}

impl Pages {
    /// How long after the window's start a time is, or less where that is very long.
    pub(super) fn offset(&self, ts: Timestamp) -> u32 {
        ts.saturating_sub(self.start).clamp(0, i64::from(u32::MAX)) as u32
    }

    /// Whether something did not come back as it was pushed.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    pub(super) fn set_damaged(&self, damaged: bool) {
        self.damaged.store(damaged, Ordering::Relaxed);
    }

    /// Puts bytes, at most a page of them with their checksum, in and returns where they are, and whether that is a new page.
    fn push(&self, bytes: &[u8]) -> (u64, bool) {
        let mut inner = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        let InMemory { first, pages } = &mut *inner;
        let has_room = |page: &mut Vec<u8>| page.len() + bytes.len() + CHECKSUM <= PAGE_BYTES;
        let begun = !pages.back_mut().and_then(Arc::get_mut).is_some_and(has_room);
        if begun {
            let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
            pages.push_back(Arc::new(spare.unwrap_or_else(|| Vec::with_capacity(PAGE_BYTES))));
            self.in_memory.fetch_add(PAGE_BYTES as u64, Ordering::Relaxed);
        }
        let number = *first + pages.len() - 1;
        let Some(page) = pages.back_mut().and_then(Arc::get_mut) else { return (0, begun) };
        let at = (number * PAGE_BYTES + page.len()) as u64;
        page.extend_from_slice(bytes);
        page.extend_from_slice(&crc32c(bytes).to_le_bytes());
        (at, begun)
    }

    /// Appends the bytes at a place that [`Pages::push`] returned to `out`; `None`, and nothing, if the file cannot be
    /// read, or has other bytes there than were written.
    #[must_use]
    pub fn read(&self, at: u64, len: usize, out: &mut Vec<u8>) -> Option<()> {
        let start = out.len();
        let read = self.read_checked(at, len, out);
        if read.is_none() {
            out.truncate(start);
            self.set_damaged(true);
        }
        read
    }

    fn read_checked(&self, at: u64, len: usize, out: &mut Vec<u8>) -> Option<()> {
        let (number, offset) = ((at / PAGE_BYTES as u64), (at % PAGE_BYTES as u64) as usize);
        if number >= self.written.load(Ordering::Acquire) {
            let inner = self.pages.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(page) = (number as usize).checked_sub(inner.first).and_then(|i| inner.pages.get(i)) {
                out.extend_from_slice(page.get(offset..offset.checked_add(len)?)?);
                return Some(());
            }
            // It was written between the two looks.
        }
        let file = self.file.get()?;
        let start = out.len();
        out.resize(start + len + CHECKSUM, 0);
        file.read_at(&mut out[start..], at).ok()?;
        let checksum = u32_at(out, start + len)?;
        out.truncate(start + len);
        (checksum == crc32c(&out[start..])).then_some(())
    }

    /// Writes all pages but the last `keep` to the file, each without the lock. One caller at a time.
    fn write_out(&self, keep: usize) {
        loop {
            let (number, page) = {
                let inner = self.pages.read().unwrap_or_else(PoisonError::into_inner);
                match inner.pages.front() {
                    Some(page) if inner.pages.len() > keep => (inner.first, Arc::clone(page)),
                    _ => return,
                }
            };
            let Some(file) = self.file() else { return };
            // A page that is not full leaves a hole in the file. What is pushed meanwhile begins another.
            if file.write_at(&page, (number * PAGE_BYTES) as u64).is_err() {
                // No room: it stays in memory.
                return;
            }
            {
                let mut inner = self.pages.write().unwrap_or_else(PoisonError::into_inner);
                inner.first += 1;
                let _written = inner.pages.pop_front();
                self.written.store(inner.first as u64, Ordering::Release);
                self.in_memory.fetch_sub(PAGE_BYTES as u64, Ordering::Relaxed);
            }
            if let Ok(page) = Arc::try_unwrap(page) {
                self.keep_spare(page);
            }
        }
    }

    /// Keeps the memory of a page for the next one.
    fn keep_spare(&self, mut page: Vec<u8>) {
        page.clear();
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_PAGES {
            spare.push(page);
        }
    }

    /// The file, made if there is none yet.
    fn file(&self) -> Option<&dyn ScratchFile> {
        if self.file.get().is_none() {
            let (disk, dir) = self.place.as_ref()?;
            match disk.scratch(dir) {
                Ok(file) => {
                    let _only_one_writes = self.file.set(file);
                }
                Err(error) if self.told.swap(true, Ordering::Relaxed) => {
                    tracing::debug!(%error, "Still no file can be made for full chunks of the head");
                }
                Err(error) => {
                    tracing::warn!(dir = %dir.display(), %error, "Full chunks of the head stay in memory: no file can be made for them");
                }
            }
        }
        self.file.get().map(|file| &**file)
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

    const MEMORY_BYTES: u64 = 16 << 20;
    const PAGES_IN_MEMORY: usize = MEMORY_BYTES as usize / PAGE_BYTES;

    fn fill(store: &PageStore, pages: &Pages, from: usize, n: usize) -> Vec<u64> {
        let push = |i: usize| {
            let at = store.push(pages, &[i as u8; 1000][..1 + i % 1000]);
            store.make_room();
            at
        };
        (from..from + n).map(push).collect()
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
        for place in [None, Some((&disk, dir.path()))] {
            let store = PageStore::new(place, 1, MEMORY_BYTES);
            let is_bounded = || assert_eq!(store.memory_bytes() <= MEMORY_BYTES, store.place.is_some());
            let pages = store.window(5);
            let n = (PAGES_IN_MEMORY + 3) * PAGE_BYTES / 500;
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
        let store = PageStore::new(Some((&disk, dir.path())), 1, MEMORY_BYTES);
        let windows: Vec<_> = (0..10).map(|i| store.window(i)).collect();
        let places: Vec<_> = windows.iter().map(|pages| fill(&store, pages, 0, 1000)).collect();
        assert!(windows.iter().all(|pages| pages.file.get().is_none()));
        windows.iter().zip(&places).for_each(|(pages, places)| check(pages, places));
    }

    #[test]
    fn pages_stay_in_memory_until_they_can_be_written() {
        let sim = SimDisk::default();
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let store = PageStore::new(Some((&disk, Path::new("/data"))), 1, 0);
        let pages = store.window(0);
        // No file can be made for the first two pages; the third time it cannot be written.
        sim.fail(Fault { at: 0, times: 2, kind: Kind::Io });
        let mut places = fill(&store, &pages, 0, 1000);
        assert_eq!(store.memory_bytes(), 2 * PAGE_BYTES as u64);
        sim.fail(Fault { at: 3, times: 1, kind: Kind::ShortWrite });
        places.extend(fill(&store, &pages, 1000, 500));
        assert_eq!(store.memory_bytes(), 3 * PAGE_BYTES as u64);
        check(&pages, &places);
        places.extend(fill(&store, &pages, 1500, 500));
        assert_eq!(store.memory_bytes(), 0);
        check(&pages, &places);
    }

    #[test]
    fn what_comes_back_otherwise_than_it_was_written_is_not_given() {
        let sim = SimDisk::default();
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let store = PageStore::new(Some((&disk, Path::new("/data"))), 1, MEMORY_BYTES);
        let pages = store.window(0);
        let places = fill(&store, &pages, 0, 50);
        // Operation 0 makes the file, 1 writes the page.
        sim.fail(Fault { at: 1, times: 1, kind: Kind::BitFlip });
        pages.write_out(0);
        assert_eq!(store.memory_bytes(), 0);
        let read = |i: usize| pages.read(places[i], 1 + i, &mut Vec::new());
        assert!(!pages.is_damaged());
        let whole = (0..50).filter(|i| read(*i).is_some()).count();
        assert_eq!((whole, pages.is_damaged()), (49, true));
    }

    #[test]
    fn pushing_writes_nothing() {
        let sim = SimDisk::default();
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let store = PageStore::new(Some((&disk, Path::new("/data"))), 1, 0);
        let pages = store.window(0);
        let places: Vec<u64> =
            (0..2000).map(|i| store.push(&pages, &[i as u8; 1000][..1 + i % 1000])).collect();
        assert_eq!(sim.operations(), 0);
        store.make_room();
        assert_eq!((store.memory_bytes(), sim.operations()), (0, 5), "a file and four pages");
        store.make_room();
        assert_eq!(sim.operations(), 5, "nothing is left to do");
        check(&pages, &places);
    }

    #[test]
    fn bytes_are_pushed_and_read_while_pages_are_written() {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::default());
        let store = PageStore::new(Some((&disk, Path::new("/data"))), 1, 0);
        let pages = store.window(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for some in 0..20 {
                        let places = fill(&store, &pages, 0, 100 + some);
                        check(&pages, &places);
                    }
                });
            }
        });
        store.make_room();
        check(&pages, &fill(&store, &pages, 0, 100));
    }
}
