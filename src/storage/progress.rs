//! How far a start is, for those who wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Shared by the opening of a storage, which counts, and whoever shows it. Cloning gives a handle to the same one.
#[derive(Clone, Debug, Default)]
pub struct ReplayProgress {
    /// The numbers of the first and the last segment, and of the one that is read; then whether it is over.
    shared: Arc<[AtomicU64; 4]>,
}

/// What a replay has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayStatus {
    /// The numbers of the first and the last segment of the WAL; 0 if there is none.
    pub min: u64,
    pub max: u64,
    /// The segment that is being read.
    pub current: u64,
    pub state: ReplayState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayState {
    Waiting,
    InProgress,
    Done,
}

impl ReplayProgress {
    pub(super) fn begin(&self, min: u64, max: u64) {
        let [first, last, current, state] = &*self.shared;
        first.store(min, Ordering::Relaxed);
        last.store(max, Ordering::Relaxed);
        current.store(min, Ordering::Relaxed);
        state.store(1, Ordering::Release);
    }

    pub(super) fn reached(&self, segment: u64) {
        self.shared[2].store(segment, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.shared[3].store(2, Ordering::Release);
    }

    #[must_use]
    pub fn status(&self) -> ReplayStatus {
        let [first, last, current, state] = &*self.shared;
        let state = match state.load(Ordering::Acquire) {
            0 => ReplayState::Waiting,
            1 => ReplayState::InProgress,
            _ => ReplayState::Done,
        };
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        ReplayStatus { min: get(first), max: get(last), current: get(current), state }
    }
}
