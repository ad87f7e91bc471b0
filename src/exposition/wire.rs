//! The protobuf wire format: keys, varints, lengths.

/// A message that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the message ends within a field")]
    Truncated,
    #[error("a varint has more than 64 bits")]
    Varint,
    #[error("a field has the number 0")]
    FieldZero,
    #[error("unknown wire type {0}")]
    WireType(u8),
    #[error("field {field} of {message} has the wrong wire type")]
    FieldType { message: &'static str, field: u64 },
    #[error("{0} is not valid UTF-8")]
    Utf8(&'static str),
    #[error("labels after the samples of their series")]
    ScatteredLabels,
    #[error("invalid native histogram: {0}")]
    Histogram(String),
    #[error("there is no symbol {reference}: the request has {count}")]
    Symbol { reference: u32, count: usize },
    #[error("label references do not come in pairs")]
    OddReferences,
    #[error("more than {limit} {what}")]
    TooMany { what: &'static str, limit: usize },
    #[error("the labels of the request have more than {limit} bytes, each series for itself")]
    LabelBytes { limit: usize },
}

/// Wire types.
pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const BYTES: u8 = 2;
pub(super) const FIXED32: u8 = 5;

/// Reads a message front to back. Every length is checked against what is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    pub rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    /// Field number and wire type.
    #[inline]
    pub fn key(&mut self) -> Result<(u64, u8), WireError> {
        let key = self.varint()?;
        if key < 1 << 3 {
            return Err(WireError::FieldZero);
        }
        Ok((key >> 3, (key & 7) as u8))
    }

    #[inline]
    pub fn varint(&mut self) -> Result<u64, WireError> {
        match self.rest {
            [b, rest @ ..] if *b < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*b))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for (i, b) in self.rest.iter().take(10).enumerate() {
            if i == 9 && *b > 1 {
                return Err(WireError::Varint);
            }
            value |= u64::from(b & 0x7f) << (7 * i);
            if *b < 0x80 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { WireError::Truncated } else { WireError::Varint })
    }

    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let len = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
        self.take(len)
    }

    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub fn double(&mut self) -> Result<f64, WireError> {
        let (bytes, rest) = self.rest.split_first_chunk::<8>().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(f64::from_bits(u64::from_le_bytes(*bytes)))
    }

    pub fn skip(&mut self, wire_type: u8) -> Result<(), WireError> {
        match wire_type {
            VARINT => self.varint().map(drop),
            FIXED64 => self.take(8).map(drop),
            BYTES => self.bytes().map(drop),
            FIXED32 => self.take(4).map(drop),
            other => Err(WireError::WireType(other)),
        }
    }
}

/// ZigZag: small numbers of either sign are short.
pub(super) fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// The inverse of [`zigzag`] for 32 bits.
pub(super) fn zagzig(value: i32) -> u64 {
    let value = i64::from(value);
    ((value << 1) ^ (value >> 63)) as u64
}

pub(super) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn push_key(out: &mut Vec<u8>, field: u64, wire_type: u8) {
    push_varint(out, field << 3 | u64::from(wire_type));
}

pub(super) fn push_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    push_key(out, field, BYTES);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
