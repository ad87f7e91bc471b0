//! Samples that came after newer ones of their series: sorted lists beside the series' columns.

use std::sync::Arc;

use super::series::Refusal;
use crate::model::{CounterResetHint, FloatHistogram, Timestamp};
use crate::storage::api::{SampleValue, Samples};
use crate::storage::chunk::histograms::{heap_bytes, same_bits};

/// A value with its time and start time (0: none).
#[derive(Clone, Debug)]
struct Late<T> {
    ts: Timestamp,
    start: Timestamp,
    value: T,
}

/// Samples out of order of one series, ascending in time; a time is there once. Shared with readers; copied only if
/// one holds it while it changes.
#[derive(Clone, Debug, Default)]
pub struct OutOfOrder {
    floats: Arc<Vec<Late<f64>>>,
    histograms: Arc<Vec<Late<Arc<FloatHistogram>>>>,
}

impl OutOfOrder {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    /// Bytes on the heap, without those that histograms share.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.floats.capacity() * size_of::<Late<f64>>()
            + self.histograms.capacity() * size_of::<Late<Arc<FloatHistogram>>>()
    }

    /// Bytes of the histograms on the heap.
    #[must_use]
    pub fn histogram_bytes(&self) -> usize {
        self.histograms.iter().map(|s| heap_bytes(&s.value)).sum()
    }

    /// The times of the first and the last sample.
    #[must_use]
    pub fn bounds(&self) -> Option<(Timestamp, Timestamp)> {
        let floats = self.floats.first().zip(self.floats.last()).map(|(a, b)| (a.ts, b.ts));
        let histograms = self.histograms.first().zip(self.histograms.last()).map(|(a, b)| (a.ts, b.ts));
        match (floats, histograms) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        }
    }

    /// Whether there may be a sample in `from..=to`.
    #[must_use]
    pub fn overlaps(&self, from: Timestamp, to: Timestamp) -> bool {
        self.bounds().is_some_and(|(first, last)| last >= from && first <= to)
    }

    /// Adds a sample.
    ///
    /// # Errors
    /// When there is one of its time.
    pub fn insert(&mut self, ts: Timestamp, start: Timestamp, value: &SampleValue) -> Result<(), Refusal> {
        let float = self.floats.binary_search_by_key(&ts, |s| s.ts);
        let histogram = self.histograms.binary_search_by_key(&ts, |s| s.ts);
        match (value, float, histogram) {
            (SampleValue::Float(v), Err(at), Err(_)) => {
                Arc::make_mut(&mut self.floats).insert(at, Late { ts, start, value: *v });
                Ok(())
            }
            (SampleValue::Histogram(h), Err(_), Err(at)) => {
                Arc::make_mut(&mut self.histograms).insert(at, Late { ts, start, value: Arc::clone(h) });
                Ok(())
            }
            (SampleValue::Float(v), Ok(at), _) if self.floats[at].value.to_bits() == v.to_bits() => {
                Err(Refusal::Repeated)
            }
            (SampleValue::Histogram(h), _, Ok(at)) if same_bits(&self.histograms[at].value, h) => {
                Err(Refusal::Repeated)
            }
            _ => Err(Refusal::Duplicate),
        }
    }

    /// Adds what `other` has; where both have a sample, this one's stays.
    pub fn absorb(&mut self, other: &OutOfOrder) {
        for s in other.floats.iter() {
            let _held = self.insert(s.ts, s.start, &SampleValue::Float(s.value));
        }
        for s in other.histograms.iter() {
            let _held = self.insert(s.ts, s.start, &SampleValue::Histogram(Arc::clone(&s.value)));
        }
    }

    /// Drops what is before `before`.
    pub fn drop_before(&mut self, before: Timestamp) {
        if self.bounds().is_some_and(|(first, _)| first < before) {
            Arc::make_mut(&mut self.floats).retain(|s| s.ts >= before);
            Arc::make_mut(&mut self.histograms).retain(|s| s.ts >= before);
        }
    }

    /// Drops what is in `from..=to`.
    pub fn take_out(&mut self, from: Timestamp, to: Timestamp) {
        if !within(&self.floats, from, to).is_empty() {
            Arc::make_mut(&mut self.floats).retain(|s| s.ts < from || s.ts > to);
        }
        if !within(&self.histograms, from, to).is_empty() {
            Arc::make_mut(&mut self.histograms).retain(|s| s.ts < from || s.ts > to);
        }
    }

    /// The part in `from..=to`.
    #[must_use]
    pub fn part(&self, from: Timestamp, to: Timestamp) -> OutOfOrder {
        OutOfOrder {
            floats: Arc::new(within(&self.floats, from, to).to_vec()),
            histograms: Arc::new(within(&self.histograms, from, to).to_vec()),
        }
    }

    #[must_use]
    pub fn has_histograms(&self) -> bool {
        !self.histograms.is_empty()
    }

    /// Whether one has a start time.
    #[must_use]
    pub fn has_starts(&self) -> bool {
        self.floats.iter().any(|s| s.start != 0) || self.histograms.iter().any(|s| s.start != 0)
    }

    /// How many have another value than the columns have at their time.
    #[must_use]
    pub fn conflicting(&self, held: &Samples) -> u64 {
        let float = |ts| held.ts.binary_search(&ts).ok().map(|at| held.vs[at]);
        let histogram = |ts| held.hist_ts.binary_search(&ts).ok().map(|at| &held.hists[at]);
        let floats = self.floats.iter().filter(|s| match (float(s.ts), histogram(s.ts)) {
            (Some(v), _) => v.to_bits() != s.value.to_bits(),
            (None, other) => other.is_some(),
        });
        let histograms = self.histograms.iter().filter(|s| match (histogram(s.ts), float(s.ts)) {
            (Some(h), _) => !same_but_for_hint(h, &s.value),
            (None, other) => other.is_some(),
        });
        (floats.count() + histograms.count()) as u64
    }

    /// Puts the samples in `from..=to` where they belong among those that the columns have after `begin` (their
    /// lengths then). Where the columns have a sample already, it stays.
    pub fn merge(&self, from: Timestamp, to: Timestamp, begin: (usize, usize), out: &mut Samples) {
        let floats = within(&self.floats, from, to);
        let histograms = within(&self.histograms, from, to);
        if floats.is_empty() && histograms.is_empty() {
            return;
        }
        // Nothing may come twice, be it as the other kind.
        let taken = |ts: &[Timestamp], t: Timestamp| ts.binary_search(&t).is_ok();
        let floats: Vec<&Late<f64>> =
            floats.iter().filter(|s| !taken(&out.hist_ts[begin.1..], s.ts)).collect();
        let histograms: Vec<&Late<Arc<FloatHistogram>>> =
            histograms.iter().filter(|s| !taken(&out.ts[begin.0..], s.ts)).collect();
        merge(&floats, begin.0, &mut out.ts, &mut out.vs, &mut out.starts, |_, _| {});
        // What a histogram knows of the one before holds no longer for one that another came in front of.
        merge(&histograms, begin.1, &mut out.hist_ts, &mut out.hists, &mut out.hist_starts, |all, at| {
            for h in all.iter_mut().skip(at).take(2) {
                if matches!(h.counter_reset_hint, CounterResetHint::Reset | CounterResetHint::NotReset) {
                    Arc::make_mut(h).counter_reset_hint = CounterResetHint::Unknown;
                }
            }
        });
    }
}

/// Whether two histograms are the same; out of order the hint is not kept.
pub fn same_but_for_hint(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    same_bits(a, b) || same_bits(a, &FloatHistogram { counter_reset_hint: a.counter_reset_hint, ..b.clone() })
}

fn within<T>(all: &[Late<T>], from: Timestamp, to: Timestamp) -> &[Late<T>] {
    let first = all.partition_point(|s| s.ts < from);
    let end = all.partition_point(|s| s.ts <= to);
    &all[first.min(end)..end]
}

/// Merges `late` into the columns' part from `begin` on; `inserted` is called with the values and each place at which
/// a late one stands.
fn merge<T: Clone>(
    late: &[&Late<T>],
    begin: usize,
    ts: &mut Vec<Timestamp>,
    values: &mut Vec<T>,
    starts: &mut Vec<Timestamp>,
    inserted: impl Fn(&mut [T], usize),
) {
    if late.is_empty() {
        return;
    }
    let has_starts = !starts.is_empty() || late.iter().any(|s| s.start != 0);
    if has_starts {
        starts.resize(ts.len(), 0);
    }
    let old_ts = ts.split_off(begin);
    let old_values = values.split_off(begin);
    let old_starts = if has_starts { starts.split_off(begin) } else { Vec::new() };
    let mut places = Vec::new();
    let mut late = late.iter().peekable();
    for (i, (t, value)) in old_ts.iter().zip(old_values).enumerate() {
        while let Some(s) = late.next_if(|s| s.ts < *t) {
            places.push(ts.len());
            ts.push(s.ts);
            values.push(s.value.clone());
            if has_starts {
                starts.push(s.start);
            }
        }
        let _held_already = late.next_if(|s| s.ts == *t);
        ts.push(*t);
        values.push(value);
        if has_starts {
            starts.push(old_starts[i]);
        }
    }
    for s in late {
        places.push(ts.len());
        ts.push(s.ts);
        values.push(s.value.clone());
        if has_starts {
            starts.push(s.start);
        }
    }
    for at in places {
        inserted(values, at);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a map into which the columns go first.
        #[test]
        fn late_samples_find_their_place(
            early in proptest::collection::btree_map(0i64..60, (any::<bool>(), 0i64..3, 0u8..9), 0..30),
            late in proptest::collection::vec((0i64..60, any::<bool>(), 0i64..3, 0u8..9), 0..30),
            (from, to) in (0i64..60, 0i64..60),
            begin in 0usize..3,
        ) {
            let histogram = |n: u8| Arc::new(FloatHistogram { count: f64::from(n), ..FloatHistogram::default() });
            let mut out = Samples::default();
            // What stands in the columns already is another series' business.
            (0..begin).for_each(|i| { out.ts.push(1000 + i as i64); out.vs.push(7.0); out.starts.push(5) });
            let mut expected: BTreeMap<i64, (bool, i64, u8)> = BTreeMap::new();
            for (t, (is_float, start, n)) in &early {
                if *t < from || *t > to { continue }
                expected.insert(*t, (*is_float, *start, *n));
                if *is_float {
                    out.ts.push(*t);
                    out.vs.push(f64::from(*n));
                    out.starts.push(*start);
                } else {
                    out.hist_ts.push(*t);
                    out.hists.push(histogram(*n));
                    out.hist_starts.push(*start);
                }
            }
            let mut list = OutOfOrder::default();
            let mut first: BTreeMap<i64, (bool, u8)> = BTreeMap::new();
            for (t, is_float, start, n) in late {
                let value = if is_float { SampleValue::Float(f64::from(n)) } else { SampleValue::Histogram(histogram(n)) };
                let taken = list.insert(t, start, &value);
                match first.get(&t) {
                    None => {
                        prop_assert_eq!(taken, Ok(()));
                        first.insert(t, (is_float, n));
                        if t >= from && t <= to {
                            expected.entry(t).or_insert((is_float, start, n));
                        }
                    }
                    Some(held) => {
                        let same = *held == (is_float, n);
                        prop_assert_eq!(taken, Err(if same { Refusal::Repeated } else { Refusal::Duplicate }));
                    }
                }
            }
            prop_assert_eq!(list.len(), first.len());
            list.merge(from, to, (begin, 0), &mut out);
            let none = |starts: &[i64], i: usize| starts.get(i).copied().unwrap_or(0);
            let mut got = BTreeMap::new();
            for (i, t) in out.ts.iter().enumerate().skip(begin) {
                got.insert(*t, (true, none(&out.starts, i), out.vs[i] as u8));
            }
            for (i, t) in out.hist_ts.iter().enumerate() {
                got.insert(*t, (false, none(&out.hist_starts, i), out.hists[i].count as u8));
            }
            prop_assert!(out.ts[begin..].is_sorted_by(|a, b| a < b) && out.hist_ts.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(got.len(), out.ts.len() - begin + out.hist_ts.len());
            prop_assert_eq!(got, expected);
        }
    }
}
