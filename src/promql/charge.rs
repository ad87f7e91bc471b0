//! The account of the memory that queries hold together, and what stands on it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::kept::{Kept, Tally};

/// Bytes that all queries hold. Decoded samples that are kept for another use are among them, and give way before
/// anything is refused.
#[derive(Debug, Default)]
pub(super) struct Account {
    bytes: AtomicU64,
    kept: Mutex<Vec<Weak<Kept>>>,
}

impl Account {
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// So many bytes more; returns what stands on it now.
    pub fn add(&self, bytes: u64) -> u64 {
        self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// So many bytes more, unless more than `most` stood on it then: whether they were added.
    pub fn add_below(&self, bytes: u64, most: u64) -> bool {
        add_below(&self.bytes, bytes, most)
    }

    /// So many bytes less, of those that were added.
    pub fn subtract(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether more stands on it than that, also when all that is kept has given way.
    pub fn is_over(&self, limit: u64) -> bool {
        self.bytes() > limit && {
            self.give_up(None);
            self.bytes() > limit
        }
    }

    /// These are to give way if need be.
    pub fn register(&self, kept: &Arc<Kept>) {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|k| k.strong_count() > 0);
        all.push(Arc::downgrade(kept));
    }

    /// Frees the samples that one keeps, or all do.
    pub fn give_up(&self, whose: Option<&Arc<Tally>>) {
        let all: Vec<Arc<Kept>> = {
            let all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        all.iter().filter(|k| whose.is_none_or(|t| k.is_of(t))).for_each(|k| k.give_up());
    }
}

/// Raises a count, unless it would be more than `most` then: whether it was raised.
pub(super) fn add_below(count: &AtomicU64, by: u64, most: u64) -> bool {
    let raised = |now: u64| now.checked_add(by).filter(|sum| *sum <= most);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised).is_ok()
}

/// Bytes on the account of all queries, for as long as this lives: those of a result that waits for a slow client, and of
/// what a rule group keeps from one rule to the next.
#[derive(Debug, Default)]
pub struct Charge {
    account: Option<Arc<Account>>,
    bytes: u64,
}

impl Charge {
    /// For bytes that stand on the account already.
    pub(super) fn of(account: &Arc<Account>, bytes: u64) -> Self {
        Charge { account: Some(Arc::clone(account)), bytes }
    }

    /// So many bytes more.
    pub(super) fn raise(&mut self, bytes: u64) {
        if let Some(account) = &self.account {
            self.bytes += bytes;
            account.add(bytes);
        }
    }

    /// So many bytes of it are freed; no more than there are.
    pub fn lower(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        if let Some(account) = &self.account {
            account.subtract(bytes);
        }
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.lower(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_on_the_account_comes_off_it() {
        let account = Arc::new(Account::default());
        account.add(60);
        let mut first = Charge::of(&account, 50);
        first.lower(20);
        assert_eq!((account.bytes(), first.bytes()), (40, 30));
        first.lower(1000);
        drop(first);
        assert_eq!(account.bytes(), 10);
        drop(Charge::default());
    }
}
