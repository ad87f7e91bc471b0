//! Bytes as the WAL, the chunks and the blocks write them: little endian, variable-length integers, CRC-32C.
//!
//! Reading never panics and never trusts a length: what runs past the end is `None`.

/// CRC-32C (Castagnoli), as all our files use it.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Appends `v`, seven bits a byte, least first, bit 7 meaning "more follow": 1 to 10 bytes.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Appends a signed integer, small magnitudes short.
#[inline]
pub fn put_signed(out: &mut Vec<u8>, v: i64) {
    put_varint(out, zigzag(v));
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// 0, -1, 1, -2, 2 … become 0, 1, 2, 3, 4 …
#[inline]
#[must_use]
pub fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

#[inline]
#[must_use]
pub fn unzigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

/// The four bytes at `at` as an integer.
#[inline]
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The eight bytes at `at` as an integer.
#[inline]
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Reads what the functions above wrote.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    #[inline]
    pub fn varint(&mut self) -> Option<u64> {
        let (mut v, mut shift) = (0u64, 0u32);
        for (i, b) in self.rest.iter().enumerate().take(10) {
            v |= u64::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                self.rest = &self.rest[i + 1..];
                return Some(v);
            }
            shift += 7;
        }
        None
    }

    #[inline]
    pub fn signed(&mut self) -> Option<i64> {
        self.varint().map(unzigzag)
    }

    /// A varint that counts things of which each takes at least one byte of what follows.
    pub fn count(&mut self) -> Option<usize> {
        let n = usize::try_from(self.varint()?).ok()?;
        (n <= self.rest.len()).then_some(n)
    }

    #[inline]
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    /// Bytes with their length in front.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let n = self.count()?;
        self.take(n)
    }

    /// Text with its length in front.
    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub fn u64(&mut self) -> Option<u64> {
        let b = self.take(8)?;
        Some(u64::from_le_bytes(b.try_into().ok()?))
    }

    /// An integer of `n` ≤ 8 bytes, little endian.
    #[inline]
    pub fn uint(&mut self, n: usize) -> Option<u64> {
        if let Some(word) = self.rest.first_chunk::<8>() {
            // The bytes past the integer are masked away; no loop over single bytes.
            let word = u64::from_le_bytes(*word);
            self.rest = &self.rest[n.min(8)..];
            return Some(if n >= 8 { word } else { word & ((1u64 << (8 * n)) - 1) });
        }
        let b = self.take(n)?;
        let mut word = [0u8; 8];
        word.get_mut(..n)?.copy_from_slice(b);
        Some(u64::from_le_bytes(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_come_back(v: u64, s: i64, n in 1usize..=8) {
            let mut out = Vec::new();
            put_varint(&mut out, v);
            put_signed(&mut out, s);
            out.extend_from_slice(&v.to_le_bytes()[..n]);
            let mut c = Cursor::new(&out);
            prop_assert_eq!(c.varint(), Some(v));
            prop_assert_eq!(c.signed(), Some(s));
            let mask = if n == 8 { u64::MAX } else { (1 << (8 * n)) - 1 };
            prop_assert_eq!(c.uint(n), Some(v & mask));
            prop_assert!(c.is_empty());
        }
    }

    #[test]
    fn a_cut_off_integer_is_none() {
        assert_eq!(Cursor::new(&[0x80]).varint(), None);
        assert_eq!(Cursor::new(&[0xff; 11]).varint(), None);
        assert_eq!(Cursor::new(&[5, 1]).bytes(), None);
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        // The check value of CRC-32C.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
