//! Time and the staleness marker.

/// Milliseconds since the Unix epoch; negative before it.
pub type Timestamp = i64;

/// The bit pattern of the staleness marker: the NaN that says "this series ends here".
///
/// Source: Prometheus, `model/value/value.go`.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The staleness marker as a sample value.
#[must_use]
pub fn stale_marker() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether `value` is the staleness marker, and not just any NaN.
#[inline]
#[must_use]
pub fn is_stale_marker(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}
