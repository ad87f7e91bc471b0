//! Work on the columns of a series: samples one by one in the order of their times, taken out, and merged.

use std::ops::Range;
use std::sync::Arc;

use super::api::Samples;
use crate::model::{FloatHistogram, Timestamp};

/// One sample of the columns.
#[derive(Clone, Copy, Debug)]
pub struct SampleRef<'a> {
    pub ts: Timestamp,
    /// When it began to count; 0 if that is not stated.
    pub start: Timestamp,
    pub value: ValueRef<'a>,
}

#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    Float(f64),
    Histogram(&'a Arc<FloatHistogram>),
}

impl ValueRef<'_> {
    /// Whether both are the same, bit for bit.
    fn same(self, other: ValueRef<'_>) -> bool {
        match (self, other) {
            (ValueRef::Float(a), ValueRef::Float(b)) => a.to_bits() == b.to_bits(),
            (ValueRef::Histogram(a), ValueRef::Histogram(b)) => super::chunk::histograms::same_bits(a, b),
            _ => false,
        }
    }
}

/// How many samples were not taken over because their time was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collisions {
    /// The very same sample was there already.
    pub repeated: u64,
    /// Another value was there, and stays.
    pub conflicting: u64,
}

impl Collisions {
    /// Counts those of `other` as well.
    pub fn add(&mut self, other: Collisions) {
        self.repeated += other.repeated;
        self.conflicting += other.conflicting;
    }
}

impl Samples {
    /// How many samples there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ts.len() + self.hist_ts.len()
    }

    /// The times of the first and the last sample.
    #[must_use]
    pub fn time_range(&self) -> Option<(Timestamp, Timestamp)> {
        let first = [self.ts.first(), self.hist_ts.first()].into_iter().flatten().min()?;
        let last = [self.ts.last(), self.hist_ts.last()].into_iter().flatten().max()?;
        Some((*first, *last))
    }

    /// All samples, ascending in time.
    pub fn in_order(&self) -> impl Iterator<Item = SampleRef<'_>> {
        let (mut f, mut h) = (0, 0);
        std::iter::from_fn(move || {
            let float_is_next = match (self.ts.get(f), self.hist_ts.get(h)) {
                (Some(a), Some(b)) => a <= b,
                (float, _) => float.is_some(),
            };
            if float_is_next {
                let start = self.starts.get(f).copied().unwrap_or(0);
                f += 1;
                return Some(SampleRef { ts: self.ts[f - 1], start, value: ValueRef::Float(self.vs[f - 1]) });
            }
            let ts = *self.hist_ts.get(h)?;
            let start = self.hist_starts.get(h).copied().unwrap_or(0);
            h += 1;
            Some(SampleRef { ts, start, value: ValueRef::Histogram(&self.hists[h - 1]) })
        })
    }

    /// Adds a sample that is later than all.
    pub fn push(&mut self, sample: SampleRef<'_>) {
        let (starts, n) = match sample.value {
            ValueRef::Float(v) => {
                self.ts.push(sample.ts);
                self.vs.push(v);
                (&mut self.starts, self.ts.len())
            }
            ValueRef::Histogram(h) => {
                self.hist_ts.push(sample.ts);
                self.hists.push(Arc::clone(h));
                (&mut self.hist_starts, self.hist_ts.len())
            }
        };
        if sample.start != 0 || !starts.is_empty() {
            starts.resize(n - 1, 0);
            starts.push(sample.start);
        }
    }

    /// Keeps so many floats and histograms from the front.
    pub fn truncate(&mut self, (floats, histograms): (usize, usize)) {
        self.ts.truncate(floats);
        self.vs.truncate(floats);
        self.starts.truncate(floats);
        self.hist_ts.truncate(histograms);
        self.hists.truncate(histograms);
        self.hist_starts.truncate(histograms);
    }

    /// Takes out the samples with a time in `from..=to` among those that stand after `begin` (numbers of floats and
    /// histograms before them).
    pub fn take_out(&mut self, from: Timestamp, to: Timestamp, begin: (usize, usize)) {
        let range = |ts: &[Timestamp], begin: usize| {
            let first = begin + ts[begin..].partition_point(|t| *t < from);
            first..first + ts[first..].partition_point(|t| *t <= to)
        };
        let (floats, histograms) = (range(&self.ts, begin.0), range(&self.hist_ts, begin.1));
        let cut = |column: &mut Vec<Timestamp>, range: &Range<usize>| {
            if !column.is_empty() {
                column.drain(range.clone());
            }
        };
        cut(&mut self.starts, &floats);
        cut(&mut self.hist_starts, &histograms);
        self.ts.drain(floats.clone());
        self.vs.drain(floats);
        self.hist_ts.drain(histograms.clone());
        self.hists.drain(histograms);
    }

    /// Adds the samples of `more` whose times are free.
    pub fn merge(&mut self, more: &mut Samples, collisions: &mut Collisions) {
        let (Some(mine), Some(others)) = (self.time_range(), more.time_range()) else {
            if self.is_empty() {
                std::mem::swap(self, more);
            }
            return;
        };
        if mine.1 < others.0 {
            more.in_order().for_each(|s| self.push(s));
            return;
        }
        let held = std::mem::take(self);
        let (mut a, mut b) = (held.in_order().peekable(), more.in_order().peekable());
        loop {
            let order = match (a.peek(), b.peek()) {
                (Some(x), Some(y)) => x.ts.cmp(&y.ts),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => break,
            };
            match order {
                std::cmp::Ordering::Less => a.next().into_iter().for_each(|s| self.push(s)),
                std::cmp::Ordering::Greater => b.next().into_iter().for_each(|s| self.push(s)),
                std::cmp::Ordering::Equal => {
                    if let (Some(x), Some(y)) = (a.peek(), b.next()) {
                        let same = x.value.same(y.value);
                        *if same { &mut collisions.repeated } else { &mut collisions.conflicting } += 1;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Model = BTreeMap<Timestamp, (Timestamp, Option<f64>)>;

    fn columns(all: &Model) -> Samples {
        let histogram = Arc::new(FloatHistogram::default());
        let mut samples = Samples::default();
        for (ts, (start, v)) in all {
            let value = v.map_or(ValueRef::Histogram(&histogram), ValueRef::Float);
            samples.push(SampleRef { ts: *ts, start: *start, value });
        }
        samples
    }

    fn model(samples: &Samples) -> Model {
        let value = |v| if let ValueRef::Float(f) = v { Some(f) } else { None };
        samples.in_order().map(|s| (s.ts, (s.start, value(s.value)))).collect()
    }

    fn any_samples() -> impl Strategy<Value = Model> {
        proptest::collection::btree_map(
            -30i64..30,
            (prop_oneof![4 => Just(0i64), 1 => 1i64..9], proptest::option::of((0u8..3).prop_map(f64::from))),
            0..30,
        )
    }

    proptest! {
        #[test]
        fn columns_are_a_map_by_time(a in any_samples(), b in any_samples(), from in -35i64..35, len in 0i64..20) {
            let mut samples = columns(&a);
            prop_assert_eq!(&model(&samples), &a);
            let mut collisions = Collisions::default();
            samples.merge(&mut columns(&b), &mut collisions);
            let mut want = b.clone();
            want.extend(a.clone());
            prop_assert_eq!(&model(&samples), &want);
            prop_assert_eq!(samples.len(), want.len());
            let taken = b.iter().filter(|(t, _)| a.contains_key(t));
            let repeated = taken.clone().filter(|(t, v)| a[t].1 == v.1).count() as u64;
            prop_assert_eq!((collisions.repeated, collisions.repeated + collisions.conflicting), (repeated, taken.count() as u64));
            samples.take_out(from, from + len, (0, 0));
            want.retain(|t, _| !(from..=from + len).contains(t));
            prop_assert_eq!(model(&samples), want);
        }
    }
}
