//! A column of floats: the cheapest of a few plans, named by the first byte.
//!
//! ```text
//! CONSTANT  the bits, byte-swapped, as a varint
//! DECIMAL   scale: u8, exceptions, ints      each value is an integer under one of three inverses
//! BITS      ints                             the 64-bit patterns
//!
//! exceptions = count: varint, then each: gap to the one before: varint, bits: u64
//! ```
//! `scale`: bits 0-4 are the exponent `e`; bits 5-6 the inverse: 0 is `i / 10^e`, 1 is `i * 10^-e`, 2 is
//! `i / 1000 / 1000`. Exporters really compute all three: a Go program that multiplies milliseconds by 0.001 prints
//! 41.928000000000004, which no division gives. Bit 7: every integer fits in 51 bits.

use super::CHUNK_SAMPLES_MAX;
use super::ints;
use crate::storage::coding::{Cursor, put_varint};

const CONSTANT: u8 = 0;
const DECIMAL: u8 = 1;
const BITS: u8 = 2;

const SMALL: u8 = 0x80;
/// Past this an `f64` no longer holds every integer.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// Adding and subtracting this rounds a float of less than 51 bits to the nearest integer, and shows the integer in
/// its low mantissa bits: 1.5 * 2^52.
const ROUND: f64 = 6_755_399_441_055_744.0;
const SMALL_MAX: i64 = 1 << 51;
/// How many values decide whether a scale is worth a try on the whole column.
const PROBES: usize = 16;

pub(super) const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];
pub(super) const INVERSES: [f64; 18] = [
    1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15,
    1e-16, 1e-17,
];

/// How an integer becomes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scale {
    exponent: u8,
    inverse: u8,
}

impl Scale {
    /// From the plainest on.
    fn all() -> impl Iterator<Item = Scale> {
        let plain = (0..=17u8).flat_map(|e| {
            let modes = if e == 0 { 1 } else { 2 };
            (0..modes).map(move |inverse| Scale { exponent: e, inverse })
        });
        plain.chain([Scale { exponent: 6, inverse: 2 }])
    }

    /// The integer that gives exactly `v`.
    #[inline]
    fn integer(self, v: f64) -> Option<i64> {
        let scaled = v * POWERS[usize::from(self.exponent)];
        if scaled.is_nan() || scaled.abs() >= EXACT_MAX {
            return None;
        }
        let i =
            if scaled.abs() < SMALL_MAX as f64 { (scaled + ROUND) - ROUND } else { scaled.round() } as i64;
        (self.value(i).to_bits() == v.to_bits()).then_some(i)
    }

    #[inline]
    fn value(self, i: i64) -> f64 {
        match self.inverse {
            0 => i as f64 / POWERS[usize::from(self.exponent)],
            1 => i as f64 * INVERSES[usize::from(self.exponent)],
            _ => i as f64 / 1000.0 / 1000.0,
        }
    }
}

/// Whether all values have the same bits.
#[must_use]
pub fn constant(values: &[f64]) -> Option<f64> {
    let first = values.first()?;
    values.iter().all(|v| v.to_bits() == first.to_bits()).then_some(*first)
}

/// Appends the column to `out`. Its length is not stored.
pub fn encode(values: &[f64], out: &mut Vec<u8>) {
    let Some(first) = values.first() else { return };
    if constant(values).is_some() {
        out.push(CONSTANT);
        put_varint(out, first.to_bits().swap_bytes());
        return;
    }
    // An exception costs about ten bytes; more than a few of them, and another plan wins.
    let exceptions_max = values.len() / 8 + 1;
    let mut integers = Vec::with_capacity(values.len());
    let mut exceptions = Vec::new();
    for scale in Scale::all().filter(|s| is_promising(values, *s)) {
        integers.clear();
        exceptions.clear();
        let mut last = 0;
        let mut small = true;
        for (at, v) in values.iter().enumerate() {
            if let Some(i) = scale.integer(*v) {
                if integers.is_empty() || exceptions.len() == at {
                    // What stood in for leading exceptions is as good as the first real value.
                    integers.iter_mut().for_each(|x| *x = i);
                }
                last = i;
                small &= i.abs() < SMALL_MAX;
            } else {
                exceptions.push(at);
                if exceptions.len() > exceptions_max {
                    break;
                }
            }
            integers.push(last);
        }
        if exceptions.len() > exceptions_max {
            continue;
        }
        out.push(DECIMAL);
        out.push(scale.exponent | scale.inverse << 5 | if small { SMALL } else { 0 });
        put_varint(out, exceptions.len() as u64);
        let mut before = 0;
        for at in &exceptions {
            put_varint(out, (at - before) as u64);
            out.extend_from_slice(&values[*at].to_bits().to_le_bytes());
            before = *at;
        }
        ints::encode(&integers, out);
        return;
    }
    out.push(BITS);
    integers.clear();
    integers.extend(values.iter().map(|v| v.to_bits() as i64));
    ints::encode(&integers, out);
}

/// Whether nearly all of a few values spread over the column are integers under `scale`.
fn is_promising(values: &[f64], scale: Scale) -> bool {
    let step = values.len().div_ceil(PROBES);
    let (mut probed, mut failed) = (0, 0);
    for v in values.iter().step_by(step) {
        // Special values are exceptions under every scale.
        if v.is_finite() && !(*v == 0.0 && v.is_sign_negative()) {
            probed += 1;
            failed += usize::from(scale.integer(*v).is_none());
        }
    }
    probed > 0 && failed <= probed / 8
}

/// Appends the `n` values of an encoded column to `out`; `scratch` is only memory to work in.
#[must_use]
pub fn decode(bytes: &[u8], n: usize, out: &mut Vec<f64>, scratch: &mut Vec<i64>) -> Option<()> {
    if n == 0 {
        return Some(());
    }
    if n > CHUNK_SAMPLES_MAX {
        return None;
    }
    let mut cursor = Cursor::new(bytes);
    let start = out.len();
    scratch.clear();
    match cursor.u8()? {
        CONSTANT => out.resize(start + n, f64::from_bits(cursor.varint()?.swap_bytes())),
        BITS => {
            ints::decode(&mut cursor, n, scratch)?;
            out.extend(scratch.iter().map(|b| f64::from_bits(*b as u64)));
        }
        DECIMAL => {
            let flags = cursor.u8()?;
            let scale = Scale { exponent: flags & 31, inverse: (flags >> 5) & 3 };
            if scale.exponent > 17 || scale.inverse > 2 {
                return None;
            }
            let count = cursor.count()?;
            let mut patches = cursor;
            for _ in 0..count {
                cursor.varint()?;
                cursor.take(8)?;
            }
            ints::decode(&mut cursor, n, scratch)?;
            scale_all(scratch, scale, flags & SMALL != 0, out);
            let mut at = start;
            for _ in 0..count {
                at = at.checked_add(usize::try_from(patches.varint()?).ok()?)?;
                *out.get_mut(at)? = f64::from_bits(patches.u64()?);
            }
        }
        _ => return None,
    }
    Some(())
}

/// Integers to values. For small integers the conversion is an addition, so that the loop runs on vectors: x86-64
/// has no vector conversion from 64-bit integers before AVX-512.
fn scale_all(integers: &[i64], scale: Scale, small: bool, out: &mut Vec<f64>) {
    let magic = ROUND.to_bits() as i64;
    let float = |i: i64| f64::from_bits(magic.wrapping_add(i) as u64) - ROUND;
    let power = POWERS[usize::from(scale.exponent)];
    let inverse = INVERSES[usize::from(scale.exponent)];
    match (small, scale.inverse, scale.exponent) {
        (true, 0, 0) => out.extend(integers.iter().map(|i| float(*i))),
        (true, 0, _) => out.extend(integers.iter().map(|i| float(*i) / power)),
        (true, 1, _) => out.extend(integers.iter().map(|i| float(*i) * inverse)),
        (true, _, _) => out.extend(integers.iter().map(|i| float(*i) / 1000.0 / 1000.0)),
        (false, _, _) => out.extend(integers.iter().map(|i| scale.value(*i))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stale_marker;
    use proptest::prelude::*;

    fn round_trip(values: &[f64]) -> usize {
        let mut bytes = Vec::new();
        encode(values, &mut bytes);
        let mut back = vec![1.0];
        assert_eq!(decode(&bytes, values.len(), &mut back, &mut Vec::new()), Some(()));
        let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back[1..]), bits(values));
        bytes.len()
    }

    #[test]
    fn typical_columns_are_small() {
        let check = |what: &str, values: Vec<f64>, at_most: usize| {
            let size = round_trip(&values);
            assert!(size <= at_most, "{what}: {size} bytes, expected at most {at_most}");
        };
        check("one", vec![1.0; 480], 4);
        check("huge constant", vec![1.844_674_407_370_955_2e19; 480], 11);
        check("counter", (0..480).map(|i| f64::from(i * 10)).collect(), 16);
        check("two decimals", (0..480).map(|i| f64::from(i * 37 % 1000) / 100.0).collect(), 660);
        check("milliseconds", (0..480).map(|i| f64::from(41_000 + i * 13) * 0.001).collect(), 20);
        check("microseconds", (0..480).map(|i| f64::from(i * 13) / 1000.0 / 1000.0).collect(), 20);
        let mut stale: Vec<f64> = (0..480).map(f64::from).collect();
        stale[479] = stale_marker();
        stale[3] = -0.0;
        stale[7] = f64::INFINITY;
        check("specials", stale, 90);
        check("leading specials", vec![f64::NAN, f64::NAN, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0], 40);
    }

    proptest! {
        #[test]
        fn any_column_comes_back(values in prop_oneof![
            proptest::collection::vec(any::<u64>().prop_map(f64::from_bits), 1..200),
            proptest::collection::vec(any::<f64>(), 1..200),
            proptest::collection::vec(prop_oneof![
                30 => (-100_000i64..100_000).prop_map(|i| i as f64 / 100.0),
                1 => Just(f64::NAN), 1 => Just(-0.0), 1 => Just(stale_marker()), 1 => Just(1e300),
            ], 1..600),
            proptest::collection::vec((-1i64 << 53..1 << 53).prop_map(|i| i as f64), 1..200),
        ]) {
            round_trip(&values);
        }

        #[test]
        fn garbage_is_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), n in 0usize..600) {
            let mut out = Vec::new();
            let _ = decode(&bytes, n, &mut out, &mut Vec::new());
        }
    }
}
