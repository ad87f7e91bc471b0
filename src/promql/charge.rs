//! The account of the memory that queries hold together, and what stands on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes on the account of all queries, for as long as this lives: those of a result that waits for a slow client, and of
/// what a rule group keeps from one rule to the next.
#[derive(Debug, Default)]
pub struct Charge {
    account: Option<Arc<AtomicU64>>,
    bytes: u64,
}

impl Charge {
    /// For bytes that stand on the account already.
    pub(super) fn of(account: &Arc<AtomicU64>, bytes: u64) -> Self {
        Charge { account: Some(Arc::clone(account)), bytes }
    }

    /// So many bytes more; returns what stands on the account now.
    pub(super) fn raise(&mut self, bytes: u64) -> u64 {
        let Some(account) = &self.account else { return 0 };
        self.bytes += bytes;
        account.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// So many bytes of it are freed; no more than there are.
    pub fn lower(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        if let Some(account) = &self.account {
            account.fetch_sub(bytes, Ordering::Relaxed);
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
        let account = Arc::new(AtomicU64::new(60));
        let stands = || account.load(Ordering::Relaxed);
        let mut first = Charge::of(&account, 50);
        first.lower(20);
        assert_eq!((stands(), first.bytes()), (40, 30));
        first.lower(1000);
        drop(first);
        assert_eq!(stands(), 10);
        drop(Charge::default());
    }
}
