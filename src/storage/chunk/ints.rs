//! A column of 64-bit integers.
//!
//! ```text
//! first: signed varint
//! divisor: varint             greatest common divisor of all v[i] - first; 0: constant, nothing follows
//! mode: u8                    bits 0-1 the order of differences (0, 1, 2), bit 2 residuals are zigzag
//! [second: signed varint]     order 2: u[1], where u[i] = (v[i] - first) / divisor
//! [base: signed varint]       not zigzag: the smallest difference, subtracted from each
//! blocks of 32 residuals      u (order 0), differences (order 1) or differences of differences (order 2)
//! ```
//! A block is a byte `h`. `h & 0x7f` ≤ 64 is the bit width of its residuals; bit 7 says that a byte with the number
//! of exceptions and a byte with the width in bytes of their high parts follow. Then come the packed low bits, then
//! each exception's position, then each one's high part. `h` from 65 to 127 stands for `h - 64` blocks of nothing but zero.
//! All arithmetic wraps, so any integers come back.

use super::CHUNK_SAMPLES_MAX;
use crate::storage::coding::{Cursor, put_signed, put_varint, unzigzag, zigzag};

const BLOCK: usize = 32;
const ZERO_RUN_MAX: usize = 63;

/// Appends the column to `out`. It may be empty; its length is not stored.
pub fn encode(values: &[i64], out: &mut Vec<u8>) {
    let Some((&first, rest)) = values.split_first() else { return };
    put_signed(out, first);
    let mut divisor = 0u64;
    for v in rest {
        // Once the divisor is 1 it stays 1.
        if divisor == 1 {
            break;
        }
        divisor = gcd(divisor, v.wrapping_sub(first).unsigned_abs());
    }
    put_varint(out, divisor);
    if divisor == 0 {
        return;
    }
    let mut u: Vec<i64> = values.iter().map(|v| v.wrapping_sub(first)).collect();
    if divisor > 1 {
        // A divisor past i64::MAX occurs only with a single distance of i64::MIN.
        for x in &mut u {
            *x = if divisor > i64::MAX as u64 { i64::from(*x != 0) } else { *x / divisor as i64 };
        }
    }
    let plan = Plan::choose(&u);
    out.push(plan.order | u8::from(plan.zigzag) << 2);
    let skip = usize::from(plan.order);
    if plan.order == 2 {
        put_signed(out, u.get(1).copied().unwrap_or(0));
    }
    if !plan.zigzag {
        put_signed(out, plan.base);
    }
    (0..skip).for_each(|_| differences(&mut u));
    let residuals: Vec<u64> = u.iter().map(|d| plan.residual(*d)).collect();
    pack(&residuals, out);
}

/// Appends the `n` integers of an encoded column to `out`.
#[must_use]
pub fn decode(cursor: &mut Cursor<'_>, n: usize, out: &mut Vec<i64>) -> Option<()> {
    if n == 0 {
        return Some(());
    }
    if n > CHUNK_SAMPLES_MAX {
        return None;
    }
    let first = cursor.signed()?;
    let divisor = cursor.varint()? as i64;
    let start = out.len();
    if divisor == 0 {
        out.resize(start + n, first);
        return Some(());
    }
    let mode = cursor.u8()?;
    let (order, zigzagged) = (mode & 3, mode & 4 != 0);
    let second = if order == 2 { cursor.signed()? } else { 0 };
    let base = if zigzagged { 0 } else { cursor.signed()? };
    if mode > 7 || order == 3 {
        return None;
    }
    out.resize(start + n, 0);
    let column = &mut out[start..];
    let skip = usize::from(order);
    if n > skip && unpack(cursor, &mut column[skip..]).is_none() {
        out.truncate(start);
        return None;
    }
    if zigzagged {
        for x in &mut column[skip.min(n)..] {
            *x = unzigzag(*x as u64);
        }
    } else if base != 0 {
        for x in &mut column[skip.min(n)..] {
            *x = x.wrapping_add(base);
        }
    }
    match order {
        0 => {
            for x in column.iter_mut() {
                *x = first.wrapping_add(x.wrapping_mul(divisor));
            }
        }
        1 => {
            let mut value = first;
            column[0] = first;
            for x in &mut column[1..] {
                value = value.wrapping_add(x.wrapping_mul(divisor));
                *x = value;
            }
        }
        _ => {
            column[0] = first;
            let mut delta = second.wrapping_mul(divisor);
            let mut value = first.wrapping_add(delta);
            if n > 1 {
                column[1] = value;
                for x in &mut column[2..] {
                    delta = delta.wrapping_add(x.wrapping_mul(divisor));
                    value = value.wrapping_add(delta);
                    *x = value;
                }
            }
        }
    }
    Some(())
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    if a == 0 {
        return b;
    }
    while b != 0 {
        // The common case: the new distance is a multiple already.
        (a, b) = (b, a % b);
    }
    a
}

/// Replaces a column by the differences of its neighbours, which are one less.
#[inline]
fn differences(u: &mut Vec<i64>) {
    for i in 1..u.len() {
        u[i - 1] = u[i].wrapping_sub(u[i - 1]);
    }
    u.pop();
}

/// How differences become residuals.
#[derive(Clone, Copy, Debug)]
struct Plan {
    order: u8,
    zigzag: bool,
    base: i64,
}

impl Plan {
    /// The plan whose residuals have the fewest bits in sum.
    fn choose(u: &[i64]) -> Plan {
        let mut best = (u64::MAX, Plan { order: 0, zigzag: true, base: 0 });
        let mut d = u.to_vec();
        for order in 0..=2u8 {
            if order > 0 {
                differences(&mut d);
                if d.len() < 2 {
                    break;
                }
            }
            let base = d.iter().copied().min().unwrap_or(0);
            for plan in [Plan { order, zigzag: false, base }, Plan { order, zigzag: true, base: 0 }] {
                let bits: u64 = d.iter().map(|d| u64::from(64 - plan.residual(*d).leading_zeros())).sum();
                if bits < best.0 {
                    best = (bits, plan);
                }
            }
        }
        best.1
    }

    #[inline]
    fn residual(self, d: i64) -> u64 {
        if self.zigzag { zigzag(d) } else { d.wrapping_sub(self.base) as u64 }
    }
}

fn bit_length(v: u64) -> usize {
    64 - v.leading_zeros() as usize
}

fn pack(residuals: &[u64], out: &mut Vec<u8>) {
    let mut zero_blocks = 0;
    for block in residuals.chunks(BLOCK) {
        if block.iter().all(|r| *r == 0) {
            zero_blocks += 1;
            if zero_blocks == ZERO_RUN_MAX {
                out.push((64 + zero_blocks) as u8);
                zero_blocks = 0;
            }
            continue;
        }
        if zero_blocks > 0 {
            out.push((64 + zero_blocks) as u8);
            zero_blocks = 0;
        }
        pack_block(block, out);
    }
    if zero_blocks > 0 {
        out.push((64 + zero_blocks) as u8);
    }
}

fn pack_block(block: &[u64], out: &mut Vec<u8>) {
    // How many residuals have each bit length.
    let mut lengths = [0u8; 65];
    let mut widest = 0;
    for r in block {
        let l = bit_length(*r);
        lengths[l] += 1;
        widest = widest.max(l);
    }
    let packed = |w: usize| (block.len() * w).div_ceil(8);
    let (mut width, mut cost, mut exceptions) = (widest, packed(widest), 0usize);
    let mut above = 0usize;
    for w in (0..widest).rev() {
        above += usize::from(lengths[w + 1]);
        let high = (widest - w).div_ceil(8);
        let c = packed(w) + 2 + above * (1 + high);
        if c < cost {
            (width, cost, exceptions) = (w, c, above);
        }
    }
    let high_bytes = (widest - width).div_ceil(8);
    out.push(width as u8 | if exceptions > 0 { 0x80 } else { 0 });
    if exceptions > 0 {
        out.push(exceptions as u8);
        out.push(high_bytes as u8);
    }
    let mask = if width == 64 { u64::MAX } else { (1u64 << width) - 1 };
    let (mut word, mut filled) = (0u128, 0usize);
    for r in block {
        word |= u128::from(r & mask) << filled;
        filled += width;
        if filled >= 64 {
            out.extend_from_slice(&(word as u64).to_le_bytes());
            word >>= 64;
            filled -= 64;
        }
    }
    out.extend_from_slice(&(word as u64).to_le_bytes()[..filled.div_ceil(8)]);
    if exceptions > 0 {
        let wide = || block.iter().enumerate().filter(|(_, r)| bit_length(**r) > width);
        out.extend(wide().map(|(i, _)| i as u8));
        for (_, r) in wide() {
            out.extend_from_slice(&(r >> width).to_le_bytes()[..high_bytes]);
        }
    }
}

fn unpack(cursor: &mut Cursor<'_>, column: &mut [i64]) -> Option<()> {
    let mut at = 0;
    while at < column.len() {
        let header = cursor.u8()?;
        if (65..0x80).contains(&header) {
            // The column is zero already.
            at += usize::from(header - 64) * BLOCK;
            continue;
        }
        let width = usize::from(header & 0x7f);
        let m = BLOCK.min(column.len() - at);
        let (exceptions, high_bytes) =
            if header & 0x80 == 0 { (0, 0) } else { (usize::from(cursor.u8()?), usize::from(cursor.u8()?)) };
        if width > 64 || exceptions > m || high_bytes > 8 {
            return None;
        }
        let packed = cursor.take((m * width).div_ceil(8))?;
        let target = &mut column[at..at + m];
        if let Ok(target) = <&mut [i64; BLOCK]>::try_from(&mut *target) {
            unpack_full(packed, width, target);
        } else if width > 0 {
            // The last block of a column, as if it were full.
            let mut block = [0; BLOCK];
            unpack_full(packed, width, &mut block);
            target.copy_from_slice(&block[..m]);
        }
        if exceptions > 0 {
            let positions = cursor.take(exceptions)?;
            for p in positions {
                let high = cursor.uint(high_bytes)?;
                let slot = target.get_mut(usize::from(*p))?;
                *slot |= high.checked_shl(width as u32)? as i64;
            }
        }
        at += m;
    }
    Some(())
}

/// Any number of values of any width, one at a time.
fn unpack_some(packed: &[u8], width: usize, target: &mut [i64]) {
    let mask = if width == 64 { u128::from(u64::MAX) } else { (1u128 << width) - 1 };
    let (mut word, mut filled, mut bytes) = (0u128, 0usize, packed.iter());
    for x in target {
        while filled < width {
            word |= u128::from(bytes.next().copied().unwrap_or(0)) << filled;
            filled += 8;
        }
        *x = (word & mask) as i64;
        word >>= width;
        filled -= width;
    }
}

/// A full block. Each width up to 32 has a loop of its own with constant shifts, which the compiler unrolls.
fn unpack_full(packed: &[u8], width: usize, target: &mut [i64; BLOCK]) {
    macro_rules! widths {
        ($($w:literal)*) => {
            match width {
                0 => {}
                $($w => unpack_width::<$w>(packed, target),)*
                _ => unpack_some(packed, width, target),
            }
        };
    }
    widths!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
        33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56);
}

#[inline(never)]
fn unpack_width<const W: usize>(packed: &[u8], target: &mut [i64; BLOCK]) {
    // Eight bytes of slack, so that every value can be read by one unaligned 64-bit load.
    let mut bytes = [0u8; 56 * 4 + 8];
    let n = packed.len().min(W * 4);
    bytes[..n].copy_from_slice(&packed[..n]);
    let mask = (1u64 << W) - 1;
    for (i, x) in target.iter_mut().enumerate() {
        let bit = i * W;
        let mut word = [0u8; 8];
        word.copy_from_slice(&bytes[bit / 8..bit / 8 + 8]);
        *x = ((u64::from_le_bytes(word) >> (bit % 8)) & mask) as i64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(values: &[i64]) -> usize {
        let mut bytes = Vec::new();
        encode(values, &mut bytes);
        let mut cursor = Cursor::new(&bytes);
        let mut back = vec![7];
        assert_eq!(decode(&mut cursor, values.len(), &mut back), Some(()));
        assert_eq!(&back[1..], values);
        assert!(cursor.is_empty(), "{} bytes left", cursor.len());
        bytes.len()
    }

    #[test]
    fn typical_columns_are_small() {
        let check = |values: Vec<i64>, at_most: usize| {
            let size = round_trip(&values);
            assert!(size <= at_most, "{size} bytes, expected at most {at_most}");
        };
        check(vec![], 0);
        check(vec![5; 480], 3);
        // A regular timestamp column.
        check((0..480).map(|i| 1_700_000_000_000 + i * 15_000).collect(), 12);
        // Multiples of 4096 that go up and down.
        check((0..480).map(|i| 4096 * (1000 + (i * 7919) % 64)).collect(), 480 + 40);
        // A counter with a reset in the middle.
        check((0..480).map(|i| if i < 200 { i * 3 } else { (i - 200) * 3 }).collect(), 40);
        // A counter that seldom moves.
        check((0..480).map(|i| i64::from(i > 100) + i64::from(i > 300)).collect(), 80);
    }

    #[test]
    fn extremes_come_back() {
        for values in [
            vec![i64::MIN, i64::MAX, 0, -1, i64::MIN],
            vec![0, i64::MIN],
            vec![i64::MIN, 0],
            vec![i64::MAX, i64::MIN],
            vec![3],
            vec![3, 4],
        ] {
            round_trip(&values);
        }
    }

    proptest! {
        #[test]
        fn any_column_comes_back(values in prop_oneof![
            proptest::collection::vec(any::<i64>(), 0..200),
            proptest::collection::vec(-1000i64..1000, 0..700),
            (any::<i64>(), proptest::collection::vec((0i64..5, 0u32..40), 0..500)).prop_map(|(start, steps)| {
                steps.iter().scan(start, |v, (d, s)| { *v = v.wrapping_add(if *s == 0 { d << 30 } else { *d }); Some(*v) }).collect()
            }),
        ]) {
            round_trip(&values);
        }

        #[test]
        fn garbage_is_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), n in 0usize..600) {
            let mut out = Vec::new();
            let _ = decode(&mut Cursor::new(&bytes), n, &mut out);
            prop_assert!(out.len() <= n);
        }
    }
}
