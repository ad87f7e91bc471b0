//! Selections that several queries of one time need, such as the rules of a group at a tick.
//!
//! Which selectors these are is told once, by the expressions, and what they read before the queries of each time
//! ([`Engine::foresee`](super::Engine::foresee)). What they select is kept from the first query that asks to the last, on
//! the account of all queries, and samples that several of them read are kept decoded (`kept`). What a query writes in between has to be told with [`Selections::forget`].

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::FixedState;

use super::Charge;
use super::ast::{Expr, selectors};
use super::kept::Tally;
use super::uses::{Asked, Found, Selected, Use, Uses};
use crate::model::{METRIC_NAME, Matcher};

/// The selections of the selectors that occur more than once in some expressions. Those who share it must read the same
/// data, but for what they are told of.
#[derive(Debug, Default)]
pub struct Selections {
    /// By [`fingerprint`].
    repeated: HashMap<u64, Vec<Repeated>>,
    kept: Mutex<Vec<Kept>>,
    tally: Arc<Tally>,
    reused: AtomicU64,
}

#[derive(Debug)]
struct Repeated {
    matchers: Vec<Matcher>,
    /// At the time that was told last.
    uses: Uses,
}

#[derive(Debug)]
struct Kept {
    matchers: Vec<Matcher>,
    selected: Selected,
    charge: Charge,
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
        let mut repeated: HashMap<u64, Vec<Repeated>> = HashMap::new();
        for matchers in expressions.into_iter().flat_map(selectors).map(|s| &s.matchers[..]) {
            let hash = fingerprint(matchers);
            let seen = once.entry(hash).or_default();
            if !seen.contains(&matchers) {
                seen.push(matchers);
                continue;
            }
            let known = repeated.entry(hash).or_default();
            if !known.iter().any(|k| k.matchers == matchers) {
                known.push(Repeated { matchers: matchers.to_vec(), uses: Uses::default() });
            }
        }
        Selections { repeated, ..Selections::default() }
    }

    /// Whether nothing will be shared.
    pub(super) fn is_empty(&self) -> bool {
        self.repeated.is_empty()
    }

    /// Forgets which uses there are.
    pub(super) fn clear_uses(&mut self) {
        self.repeated.values_mut().flatten().for_each(|r| r.uses.clear());
    }

    /// Tells of a use that is to come.
    pub(super) fn add_use(&mut self, matchers: &[Matcher], what: Use) {
        let known = self.repeated.get_mut(&fingerprint(matchers)).into_iter().flatten();
        known.filter(|r| r.matchers == matchers).for_each(|r| r.uses.add(what));
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find_repeated(&self, matchers: &[Matcher]) -> Option<&Repeated> {
        if self.repeated.is_empty() {
            return None;
        }
        self.repeated.get(&fingerprint(matchers))?.iter().find(|r| r.matchers == matchers)
    }

    /// Whether another query, or this one, may ask for the same.
    pub(super) fn is_repeated(&self, matchers: &[Matcher]) -> bool {
        self.find_repeated(matchers).is_some()
    }

    /// What to ask for, for this use and others.
    pub(super) fn asked(&self, matchers: &[Matcher], own: Use) -> Asked {
        self.find_repeated(matchers).map_or(Asked { select: own, keep: None }, |r| r.uses.asked(own))
    }

    /// What was selected before, if it has all that is asked for.
    pub(super) fn find(&self, matchers: &[Matcher], own: Use) -> Option<Found> {
        let mut kept = self.kept();
        let found = kept.iter_mut().find(|k| k.selected.serves(own) && k.matchers == matchers)?;
        self.reused.fetch_add(1, Ordering::Relaxed);
        Some(found.selected.take(own.range))
    }

    /// Keeps a selection, on `charge`, unless what is kept then has more than `bytes_max`; gives it back then.
    pub(super) fn keep(
        &self,
        matchers: &[Matcher],
        selected: Selected,
        charge: Charge,
        bytes_max: u64,
    ) -> Result<(), Selected> {
        let mut kept = self.kept();
        if kept.iter().map(|k| k.charge.bytes()).sum::<u64>() + charge.bytes() > bytes_max {
            return Err(selected);
        }
        kept.push(Kept { matchers: matchers.to_vec(), selected, charge });
        Ok(())
    }

    /// What is kept of samples.
    pub(super) fn tally(&self) -> &Arc<Tally> {
        &self.tally
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

    /// How many samples were not decoded again so far.
    #[must_use]
    pub fn samples_reused(&self) -> u64 {
        self.tally.reused()
    }
}
