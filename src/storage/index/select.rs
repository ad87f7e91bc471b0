//! Matchers over postings.
//!
//! A label that is missing has the empty value, so a matcher that accepts the empty value cannot be answered by
//! postings alone. Matchers that refuse it are intersected; of the others the pairs that they refuse are subtracted.
//!
//! A pattern that is a set of literals is looked up. Any other is tried, by what is least: the values of the few series
//! that the other matchers have left; or those of the series that came since it was asked last (see `cache`); or all
//! values of the label, in a block only those with the pattern's prefix. Trying is cheap: beginnings, ends and contained
//! texts are compared without an engine.

use std::borrow::Cow;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::cache::{Answer, Question, SelectCache, Version};
use crate::model::{MatchOp, Matcher};

/// So many values are tried between two looks at whether to stop: a part of a millisecond's worth, …
const VALUES_BETWEEN_CHECKS: usize = 1024;
/// … if each takes no more than so many steps of matching.
const STEPS_PER_VALUE: usize = 64;
/// To find the value that a series has takes as long as to try so many that lie side by side.
const SERIES_COST: u64 = 8;
/// To try fewer values is no more work than to look for a remembered answer and to combine it.
const REMEMBERED_VALUES_MIN: usize = if cfg!(test) { 2 } else { 64 };

/// An index that can be asked for postings.
pub trait Lookup {
    /// Tells the indexes that share a cache apart.
    fn number(&self) -> u64;

    /// How far it has come.
    fn version(&self) -> Version {
        Version::default()
    }

    /// The series that it was given after the first `added`; `None` if that is too long ago. Some may be gone.
    fn added_since(&self, _added: u64) -> Option<RoaringBitmap> {
        Some(RoaringBitmap::new())
    }

    /// All series.
    fn all(&self) -> Cow<'_, RoaringBitmap>;

    /// The series with the pair; empty if there is none.
    fn pair(&self, name: &str, value: &str) -> Cow<'_, RoaringBitmap>;

    /// How many values [`Lookup::union_values`] tries.
    fn values_to_try(&self, name: &str, prefix: &str) -> usize;

    /// Adds the series that have the label `name` with a value that `wanted` accepts to `into`. Values that do not
    /// begin with `prefix` need not be tried.
    fn union_values(
        &self,
        name: &str,
        prefix: &str,
        wanted: &mut dyn FnMut(&str) -> bool,
        into: &mut RoaringBitmap,
    );

    /// Calls `f` with those of the series that have the label `name`: the series, the number of its pair, the value.
    fn values_of(&self, name: &str, series: &RoaringBitmap, f: &mut dyn FnMut(u32, u32, &str));
}

/// What a selection may use besides the index.
#[derive(Clone, Copy)]
pub struct Selecting<'a> {
    pub cache: Option<&'a SelectCache>,
    /// Once it says so, values are no longer tried, and what is selected means nothing.
    pub stop: &'a dyn Fn() -> bool,
}

impl Default for Selecting<'_> {
    fn default() -> Self {
        Selecting { cache: None, stop: &|| false }
    }
}

/// The ids of the series that all `matchers` select. No matchers select every series.
pub fn select<L: Lookup + ?Sized>(index: &L, matchers: &[Matcher]) -> RoaringBitmap {
    select_with(index, matchers, Selecting::default())
}

/// As [`select`].
pub fn select_with<L: Lookup + ?Sized>(
    index: &L,
    matchers: &[Matcher],
    with: Selecting<'_>,
) -> RoaringBitmap {
    let mut selected: Option<RoaringBitmap> = None;
    let (mut positive, negative): (Vec<&Matcher>, Vec<&Matcher>) =
        matchers.iter().partition(|m| !m.matches(""));
    // Look-ups are cheap and narrow, so they go first, and an empty result ends it all.
    positive.sort_by_key(|m| match m.op {
        MatchOp::Equal => 0,
        _ if m.regex().is_some_and(|r| r.literals().is_some()) => 1,
        _ => 2,
    });
    for m in positive {
        let found = with_values(index, m, true, selected.as_ref(), with);
        let narrowed = match selected.take() {
            None => found.into_owned(),
            Some(mut s) => {
                s &= found.bitmap();
                s
            }
        };
        if narrowed.is_empty() {
            return narrowed;
        }
        selected = Some(narrowed);
    }
    let mut selected = selected.unwrap_or_else(|| index.all().into_owned());
    for m in negative {
        if selected.is_empty() {
            break;
        }
        selected -= with_values(index, m, false, Some(&selected), with).bitmap();
    }
    selected
}

/// Series that were found.
enum Found<'a> {
    Here(Cow<'a, RoaringBitmap>),
    Remembered(Arc<RoaringBitmap>),
}

impl Found<'_> {
    fn bitmap(&self) -> &RoaringBitmap {
        match self {
            Found::Here(series) => series,
            Found::Remembered(series) => series,
        }
    }

    fn into_owned(self) -> RoaringBitmap {
        match self {
            Found::Here(series) => series.into_owned(),
            Found::Remembered(series) => Arc::unwrap_or_clone(series),
        }
    }
}

/// The series that have the matcher's label, with a value that it accepts (or refuses, if not `accepted`). Others than
/// those in `among` need not be found.
fn with_values<'a, L: Lookup + ?Sized>(
    index: &'a L,
    m: &Matcher,
    accepted: bool,
    among: Option<&RoaringBitmap>,
    with: Selecting<'_>,
) -> Found<'a> {
    // Whether the values in question are those that the operator's right side describes.
    let described = accepted == matches!(m.op, MatchOp::Equal | MatchOp::Regex);
    let (mut prefix, mut literals) = ("", None);
    match m.regex() {
        None if described => return Found::Here(index.pair(&m.name, &m.value)),
        Some(regex) if described => (prefix, literals) = (regex.prefix(), regex.literals()),
        Some(regex) if regex.is_match_all() || regex.is_match_non_empty() => {
            return Found::Here(Cow::default());
        }
        // Only the empty text is compared so: with any other, values that are not described are not asked for.
        _ => {}
    }
    let to_try = literals.map_or_else(|| index.values_to_try(&m.name, prefix), <[String]>::len);
    let question = Question { index: index.number(), name: &m.name, pattern: &m.value, matching: described };
    let cache = with.cache.filter(|_| to_try >= REMEMBERED_VALUES_MIN);
    let remembered = cache.and_then(|c| c.get(question));
    let version = index.version();
    if let (Some(cache), Some(answer)) = (cache, &remembered)
        && answer.version == version
    {
        cache.count(true);
        return Found::Remembered(Arc::clone(&answer.series));
    }
    let mut trial = Trial { m, accepted, stop: with.stop, tried: 0, stopped: false };
    let mut series = RoaringBitmap::new();
    if let Some(among) = among.filter(|s| s.len().saturating_mul(SERIES_COST) < to_try as u64) {
        trial.add_accepted(index, among, &mut series);
        return Found::Here(Cow::Owned(series));
    }
    let added = remembered.as_ref().and_then(|a| index.added_since(a.version.added));
    match (remembered, added, literals) {
        (Some(answer), Some(added), _) if added.len() <= to_try as u64 => {
            cache.inspect(|c| c.count(true));
            series = Arc::unwrap_or_clone(answer.series);
            // An id may be used again, by a series with another value.
            series -= &added;
            if answer.version.removed != version.removed {
                series &= index.all().as_ref();
            }
            trial.add_accepted(index, &added, &mut series);
        }
        (_, _, Some(literals)) => {
            cache.inspect(|c| c.count(false));
            for value in literals.iter().filter(|v| !v.is_empty()) {
                series |= index.pair(&m.name, value).as_ref();
            }
        }
        _ => {
            cache.inspect(|c| c.count(false));
            index.union_values(&m.name, prefix, &mut |v| trial.accepts(v), &mut series);
        }
    }
    match cache.filter(|_| !trial.stopped) {
        None => Found::Here(Cow::Owned(series)),
        Some(cache) => {
            let series = Arc::new(series);
            cache.put(question, Answer { series: Arc::clone(&series), version });
            Found::Remembered(series)
        }
    }
}

/// A matcher that is tried on values.
struct Trial<'a> {
    m: &'a Matcher,
    accepted: bool,
    stop: &'a dyn Fn() -> bool,
    /// Values since the last look at whether to stop; one that takes long counts as many.
    tried: usize,
    stopped: bool,
}

impl Trial<'_> {
    fn accepts(&mut self, value: &str) -> bool {
        if self.stopped {
            return false;
        }
        let accepted = self.m.matches_until(value, self.stop) == self.accepted;
        self.tried += 1 + self.m.regex().map_or(0, |r| r.match_steps(value.len()) / STEPS_PER_VALUE);
        // Behind the match: one that was stopped is not to be remembered.
        if self.tried >= VALUES_BETWEEN_CHECKS {
            self.tried = 0;
            self.stopped = (self.stop)();
        }
        !self.stopped && accepted
    }

    /// Adds those of the series in `among` whose value is accepted.
    fn add_accepted<L: Lookup + ?Sized>(
        &mut self,
        index: &L,
        among: &RoaringBitmap,
        into: &mut RoaringBitmap,
    ) {
        // Neighbours often have the same value.
        let mut last = None;
        index.values_of(&self.m.name, among, &mut |series, pair, value| {
            let accepted = match last {
                Some((p, accepted)) if p == pair => accepted,
                _ => self.accepts(value),
            };
            last = Some((pair, accepted));
            if accepted {
                into.insert(series);
            }
        });
    }
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
