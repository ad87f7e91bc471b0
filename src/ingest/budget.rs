//! Memory of the requests that are at work, bounded over all of them.
//!
//! Each request has limits of its own; but a few bytes can stand for many parts, and hundreds of connections may send at
//! once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes are charged in steps, so that a part costs a comparison.
const STEP: usize = 256 << 10;

/// What all requests together may take.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: usize,
    used: AtomicUsize,
}

/// There is no room. The request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the requests that are at work take all of the {limit} bytes that they may; send it again later, or in smaller parts"
)]
pub struct BudgetFull {
    pub limit: usize,
}

impl MemoryBudget {
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(MemoryBudget { limit, used: AtomicUsize::new(0) })
    }

    /// The charge of one request, nothing yet.
    #[must_use]
    pub fn charge(self: &Arc<Self>) -> Charge {
        Charge { budget: Arc::clone(self), bytes: 0 }
    }

    /// Bytes that are charged.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// What one request takes; given back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl Charge {
    /// From now on the request takes so many bytes, if that is more than before.
    ///
    /// # Errors
    /// When all requests together would take more than they may.
    #[inline]
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), BudgetFull> {
        if bytes <= self.bytes { Ok(()) } else { self.grow(bytes) }
    }

    #[cold]
    fn grow(&mut self, bytes: usize) -> Result<(), BudgetFull> {
        let limit = self.budget.limit;
        let more = (bytes - self.bytes).checked_next_multiple_of(STEP).ok_or(BudgetFull { limit })?;
        let room = |used: usize| used.checked_add(more).filter(|all| *all <= limit);
        self.budget
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .map_err(|_| BudgetFull { limit })?;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_is_bounded_over_all_and_comes_back() {
        let budget = MemoryBudget::new(4 * STEP);
        let (mut a, mut b) = (budget.charge(), budget.charge());
        a.grow_to(1).unwrap();
        a.grow_to(STEP).unwrap();
        assert_eq!(budget.used(), STEP);
        b.grow_to(3 * STEP).unwrap();
        assert_eq!(a.grow_to(STEP + 1), Err(BudgetFull { limit: 4 * STEP }));
        assert_eq!(b.grow_to(usize::MAX), Err(BudgetFull { limit: 4 * STEP }));
        drop(b);
        a.grow_to(4 * STEP).unwrap();
        drop(a);
        assert_eq!(budget.used(), 0);
    }
}
