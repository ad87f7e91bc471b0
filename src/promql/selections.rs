//! Selections that several queries of one time need, such as the rules of a group at a tick.
//!
//! Which selectors these are is told once, by the expressions; what they select is kept from the first query that asks to
//! the last, on the account of all queries. What a query writes in between has to be told with [`Selections::forget`].

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::FixedState;

use super::Charge;
use super::ast::{Expr, selectors};
use crate::model::{METRIC_NAME, Matcher};
use crate::storage::{Need, Selection};

/// The selections of the selectors that occur more than once in some expressions. Those who share it must read the same
/// data, but for what they are told of.
#[derive(Debug, Default)]
pub struct Selections {
    /// By [`fingerprint`].
    repeated: HashMap<u64, Vec<Vec<Matcher>>>,
    kept: Mutex<Vec<Kept>>,
    reused: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    matchers: Vec<Matcher>,
    selected: Selected,
    charge: Charge,
}

/// What was selected, and for which times (ms).
#[derive(Debug)]
pub(super) struct Selected {
    pub range: (i64, i64),
    pub need: Need,
    pub selection: Arc<Selection>,
}

impl Selected {
    /// Whether it has all that is asked for.
    pub fn serves(&self, range: (i64, i64), need: Need) -> bool {
        let wide = self.range.0 <= range.0 && self.range.1 >= range.1 && self.need == Need::Window;
        wide || (self.range == range && self.need == need)
    }
}

fn fingerprint(matchers: &[Matcher]) -> u64 {
    let hasher = FixedState::with_seed(0);
    let one = |m: &Matcher| hasher.hash_one((m.op, m.name.as_str(), m.value.as_str()));
    matchers.iter().fold(matchers.len() as u64, |all, m| all.rotate_left(7) ^ one(m))
}

impl Selections {
    /// For these expressions; nothing is selected yet.
    pub fn of<'e>(expressions: impl IntoIterator<Item = &'e Expr>) -> Self {
        let mut once: HashMap<u64, Vec<&[Matcher]>> = HashMap::new();
        let mut repeated: HashMap<u64, Vec<Vec<Matcher>>> = HashMap::new();
        for matchers in expressions.into_iter().flat_map(selectors).map(|s| &s.matchers[..]) {
            let hash = fingerprint(matchers);
            let seen = once.entry(hash).or_default();
            if !seen.contains(&matchers) {
                seen.push(matchers);
                continue;
            }
            let known = repeated.entry(hash).or_default();
            if !known.iter().any(|k| k == matchers) {
                known.push(matchers.to_vec());
            }
        }
        Selections { repeated, ..Selections::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another query may ask for the same.
    pub(super) fn is_repeated(&self, matchers: &[Matcher]) -> bool {
        let same = |known: &Vec<Vec<Matcher>>| known.iter().any(|k| k == matchers);
        !self.repeated.is_empty() && self.repeated.get(&fingerprint(matchers)).is_some_and(same)
    }

    /// What was selected before, if it has all that is asked for.
    pub(super) fn find(&self, matchers: &[Matcher], range: (i64, i64), need: Need) -> Option<Arc<Selection>> {
        let kept = self.kept();
        let found = kept.iter().find(|k| k.selected.serves(range, need) && k.matchers == matchers)?;
        self.reused.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(&found.selected.selection))
    }

    /// Keeps a selection, on `charge`, unless what is kept then has more than `bytes_max`.
    pub(super) fn keep(&self, matchers: &[Matcher], selected: Selected, charge: Charge, bytes_max: u64) {
        let mut kept = self.kept();
        if kept.iter().map(|k| k.charge.bytes()).sum::<u64>() + charge.bytes() <= bytes_max {
            kept.push(Kept { matchers: matchers.to_vec(), selected, charge });
        }
    }

    /// Drops the selections that may have series of this metric: there is more of it now.
    pub fn forget(&self, metric: &str) {
        self.kept().retain(|k| {
            let names = k.matchers.iter().filter(|m| m.name == METRIC_NAME);
            !names.into_iter().all(|m| m.matches(metric))
        });
    }

    /// Drops all selections.
    pub fn forget_all(&self) {
        self.kept().clear();
    }

    /// How many selections were saved so far.
    #[must_use]
    pub fn reused(&self) -> u64 {
        self.reused.load(Ordering::Relaxed)
    }
}
