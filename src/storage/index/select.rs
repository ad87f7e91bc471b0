//! Matchers over postings.
//!
//! A label that is missing has the empty value, so a matcher that accepts the empty value cannot be answered by
//! postings alone. Matchers that refuse it are intersected; of the others the pairs that they refuse are subtracted.

use std::borrow::Cow;

use roaring::RoaringBitmap;

use crate::model::{MatchOp, Matcher};

/// So many values are tried between two looks at whether to stop: at most some milliseconds' worth.
const VALUES_BETWEEN_CHECKS: usize = 1024;

/// An index that can be asked for postings.
pub trait Lookup {
    /// All series.
    fn all(&self) -> RoaringBitmap;

    /// The series with the pair; empty if there is none.
    fn pair(&self, name: &str, value: &str) -> Cow<'_, RoaringBitmap>;

    /// Adds the series that have the label `name` with a value that `wanted` accepts to `into`. Values that do not
    /// begin with `prefix` need not be tried.
    fn union_values(
        &self,
        name: &str,
        prefix: &str,
        wanted: &mut dyn FnMut(&str) -> bool,
        into: &mut RoaringBitmap,
    );
}

/// The ids of the series that all `matchers` select. No matchers select every series.
pub fn select<L: Lookup + ?Sized>(index: &L, matchers: &[Matcher]) -> RoaringBitmap {
    select_unless(index, matchers, &|| false)
}

/// As [`select`]; once `stop` says so, values are no longer tried, and what is selected means nothing.
pub fn select_unless<L: Lookup + ?Sized>(
    index: &L,
    matchers: &[Matcher],
    stop: &dyn Fn() -> bool,
) -> RoaringBitmap {
    let mut selected: Option<RoaringBitmap> = None;
    let (positive, negative): (Vec<&Matcher>, Vec<&Matcher>) = matchers.iter().partition(|m| !m.matches(""));
    // Look-ups of one pair are cheap and narrow, so they go first, and an empty result ends it all.
    let (equal, other): (Vec<&Matcher>, Vec<&Matcher>) =
        positive.into_iter().partition(|m| m.op == MatchOp::Equal);
    for m in equal.into_iter().chain(other) {
        let found = with_values(index, m, true, stop);
        let narrowed = match selected.take() {
            None => found.into_owned(),
            Some(mut s) => {
                s &= found.as_ref();
                s
            }
        };
        if narrowed.is_empty() {
            return narrowed;
        }
        selected = Some(narrowed);
    }
    let mut selected = selected.unwrap_or_else(|| index.all());
    for m in negative {
        if selected.is_empty() {
            break;
        }
        selected -= with_values(index, m, false, stop).as_ref();
    }
    selected
}

/// The series that have the matcher's label, with a value that it accepts (or refuses, if not `accepted`).
fn with_values<'a, L: Lookup + ?Sized>(
    index: &'a L,
    m: &Matcher,
    accepted: bool,
    stop: &dyn Fn() -> bool,
) -> Cow<'a, RoaringBitmap> {
    // Whether the values in question are those that the operator's right side describes.
    let described = accepted == matches!(m.op, MatchOp::Equal | MatchOp::Regex);
    if described {
        match m.op {
            MatchOp::Equal | MatchOp::NotEqual => return index.pair(&m.name, &m.value),
            MatchOp::Regex | MatchOp::NotRegex => {
                if let Some(literals) = m.regex().and_then(|r| r.literals()) {
                    let mut union = RoaringBitmap::new();
                    for value in literals.iter().filter(|v| !v.is_empty()) {
                        union |= index.pair(&m.name, value).as_ref();
                    }
                    return Cow::Owned(union);
                }
            }
        }
    }
    let prefix = if described { m.regex().map_or("", |r| r.prefix()) } else { "" };
    let mut union = RoaringBitmap::new();
    let (mut tried, mut stopped) = (0usize, false);
    let mut wanted = |v: &str| {
        tried += 1;
        stopped = stopped || (tried.is_multiple_of(VALUES_BETWEEN_CHECKS) && stop());
        !stopped && m.matches(v) == accepted
    };
    index.union_values(&m.name, prefix, &mut wanted, &mut union);
    Cow::Owned(union)
}
