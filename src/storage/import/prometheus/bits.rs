//! Bits, most significant first, as Prometheus's chunks are written; and its integers of variable width.
//!
//! Source: Prometheus `tsdb/chunkenc` (`bstream.go`, `varbit.go`), `tsdb/docs/format/chunks.md`.

/// Reads bits. Past the end everything is `None`.
#[derive(Clone, Copy, Debug)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    /// In bits.
    at: usize,
}

impl<'a> Bits<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Bits { bytes, at: 0 }
    }

    pub fn bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// The next `n` ≤ 64 bits as a number.
    pub fn bits(&mut self, n: u32) -> Option<u64> {
        let (mut left, mut value) = (n, 0u64);
        while left > 0 {
            let byte = *self.bytes.get(self.at / 8)?;
            let free = 8 - (self.at % 8) as u32;
            let take = free.min(left);
            let part = u64::from(byte) >> (free - take) & ((1 << take) - 1);
            value = value << take | part;
            self.at += take as usize;
            left -= take;
        }
        Some(value)
    }

    /// The next `n` bits as a number with a sign: the upper half of the range stands for negative ones, all but its
    /// least.
    pub fn signed_bits(&mut self, n: u32) -> Option<i64> {
        let bits = self.bits(n)?;
        if n < 64 && bits > 1 << (n - 1) {
            return Some(bits.wrapping_sub(1 << n) as i64);
        }
        Some(bits as i64)
    }

    /// An unsigned integer, seven bits a byte, as Go's `binary.Uvarint`.
    pub fn uvarint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.bits(8)?;
            value |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A signed one, as Go's `binary.Varint`.
    pub fn varint(&mut self) -> Option<i64> {
        let v = self.uvarint()?;
        Some((v >> 1) as i64 ^ -((v & 1) as i64))
    }

    /// How wide the next varbit integer is: ones before the first zero, at most eight, choose it.
    fn varbit_width(&mut self) -> Option<u32> {
        const WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];
        let mut ones = 0;
        while ones < 8 && self.bit()? {
            ones += 1;
        }
        Some(WIDTHS[ones])
    }

    pub fn varbit_int(&mut self) -> Option<i64> {
        let width = self.varbit_width()?;
        if width == 0 { Some(0) } else { self.signed_bits(width) }
    }

    pub fn varbit_uint(&mut self) -> Option<u64> {
        let width = self.varbit_width()?;
        self.bits(width)
    }
}

/// A float that is written as its difference, by XOR, from the one before.
#[derive(Clone, Copy, Debug, Default)]
pub struct XorFloat {
    pub bits: u64,
    leading: u32,
    trailing: u32,
}

impl XorFloat {
    #[must_use]
    pub fn new(bits: u64) -> Self {
        XorFloat { bits, leading: 0, trailing: 0 }
    }

    pub fn read(&mut self, from: &mut Bits<'_>) -> Option<()> {
        if !from.bit()? {
            return Some(());
        }
        if from.bit()? {
            self.leading = from.bits(5)? as u32;
            let width = match from.bits(6)? as u32 {
                0 => 64,
                n => n,
            };
            self.trailing = 64u32.checked_sub(self.leading + width)?;
        }
        let width = 64 - self.leading - self.trailing;
        self.bits ^= from.bits(width)?.checked_shl(self.trailing)?;
        Some(())
    }

    #[must_use]
    pub fn value(self) -> f64 {
        f64::from_bits(self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_most_significant_first() {
        let mut bits = Bits::new(&[0b1010_0000, 0b1111_0000, 0xff]);
        assert_eq!(bits.bit(), Some(true));
        assert_eq!(bits.bits(9), Some(0b0_1000_0011));
        assert_eq!(bits.signed_bits(2), Some(-1));
        assert_eq!(bits.bits(12), Some(0xff));
        assert_eq!(bits.bit(), None);
    }

    #[test]
    fn varbit_integers() {
        // 0 | 10 011 | 10 101 (-3) | 0
        let mut bits = Bits::new(&[0b0100_1110, 0b1010_0000]);
        assert_eq!(bits.varbit_int(), Some(0));
        assert_eq!(bits.varbit_int(), Some(3));
        assert_eq!(bits.varbit_int(), Some(-3));
        assert_eq!(bits.varbit_uint(), Some(0));
    }
}
