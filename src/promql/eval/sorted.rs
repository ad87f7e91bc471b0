//! Sorting that can be stopped: a million label sets take a second.

use std::cmp::Ordering;

use super::context::Result;

/// So many items are sorted, or merged, between two looks at whether to stop: some milliseconds' worth.
const RUN: usize = 8192;

/// Sorts by `order`, which is total; what is equal keeps its order.
///
/// # Errors
/// That of `check`, which says whether to stop; the items are then in any order, and some may be missing.
pub(super) fn sort_by<T: Copy>(
    items: &mut Vec<T>,
    check: impl Fn() -> Result<()>,
    order: impl Fn(&T, &T) -> Ordering,
) -> Result<()> {
    for run in items.chunks_mut(RUN) {
        check()?;
        run.sort_by(&order);
    }
    let mut merged = Vec::new();
    let mut sorted = RUN;
    while sorted < items.len() {
        merged.clear();
        merged.reserve(items.len());
        for pair in items.chunks(2 * sorted) {
            let (mut a, mut b) = pair.split_at(sorted.min(pair.len()));
            while let ([x, rest_of_a @ ..], [y, rest_of_b @ ..]) = (a, b) {
                if merged.len().is_multiple_of(RUN) {
                    check()?;
                }
                if order(y, x) == Ordering::Less {
                    merged.push(*y);
                    b = rest_of_b;
                } else {
                    merged.push(*x);
                    a = rest_of_a;
                }
            }
            merged.extend_from_slice(a);
            merged.extend_from_slice(b);
        }
        std::mem::swap(items, &mut merged);
        sorted *= 2;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;
    use crate::promql::QueryError;

    proptest! {
        #[test]
        fn it_is_the_stable_sort(len in 0usize..5 * RUN, of in 1u64..1000) {
            // As long as that may be, and made of few values, so that many are equal.
            let mut items: Vec<(u64, usize)> = (0..len).map(|i| ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40, i)).collect();
            items.iter_mut().for_each(|i| i.0 %= of);
            let mut want = items.clone();
            want.sort_by_key(|i| i.0);
            sort_by(&mut items, || Ok(()), |a, b| a.0.cmp(&b.0)).unwrap();
            prop_assert_eq!(items, want);
        }
    }

    #[test]
    fn it_stops_whenever_it_is_told_to() {
        let sort = |checks: usize| {
            let left = Cell::new(checks);
            let check = || match left.get() {
                0 => Err(QueryError::Cancelled),
                n => {
                    left.set(n - 1);
                    Ok(())
                }
            };
            let mut items: Vec<usize> = (0..4 * RUN).rev().collect();
            let done = sort_by(&mut items, check, Ord::cmp);
            assert_eq!(done.is_ok(), items.is_sorted());
            done.map(|()| left.get())
        };
        let needed = 1000 - sort(1000).unwrap();
        assert!(needed >= 8, "four runs, and two rounds of merging them: {needed}");
        assert!((0..needed).all(|checks| sort(checks) == Err(QueryError::Cancelled)));
        assert_eq!(sort(needed), Ok(0));
    }
}
