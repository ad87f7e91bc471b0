//! Times and durations as requests write them and answers show them.

use chrono::{DateTime, SecondsFormat};

use crate::model::{Timestamp, parse_duration_ms};

/// Times further away than this (some 285,000 years) are refused, so that no sum of times overflows.
pub const FARTHEST_MS: Timestamp = 1 << 53;

/// A Unix time in seconds, or RFC 3339; `None` if it is neither.
#[must_use]
pub fn parse_time(text: &str) -> Option<Timestamp> {
    if let Some(seconds) = number(text) {
        seconds_to_ms(seconds)?;
        // As in Prometheus the fraction is rounded by itself: of the whole, 1795550500.0005 is above .0005.
        let fraction = (seconds.fract() * 1000.0).round() / 1000.0;
        #[allow(clippy::cast_possible_truncation, reason = "below 2^53, and below 2^30")]
        let (whole, nanoseconds) = (seconds.trunc() as i64, (fraction * 1e9) as i64);
        return Some(whole * 1000 + nanoseconds.div_euclid(1_000_000));
    }
    // RFC 3339 itself allows a blank instead of the `T`, small letters and leap seconds; Go does not.
    let strict = text.as_bytes().get(10) == Some(&b'T')
        && !text.ends_with('z')
        && text.as_bytes().get(17..19).is_some_and(|s| s != b"60");
    if !strict {
        return None;
    }
    DateTime::parse_from_rfc3339(text).ok().map(|t| t.timestamp_millis())
}

/// A decimal number; underscores may stand between digits, as in Go.
fn number(text: &str) -> Option<f64> {
    if !text.contains('_') {
        return text.parse().ok();
    }
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_digit);
    let between = |i: usize| digit(i.checked_sub(1)) && digit(Some(i + 1));
    let separate = (0..bytes.len()).all(|i| bytes[i] != b'_' || between(i));
    if separate { text.replace('_', "").parse().ok() } else { None }
}

/// Seconds as milliseconds; `None` for what is no number or too far away.
#[must_use]
pub fn seconds_to_ms(seconds: f64) -> Option<Timestamp> {
    let ms = (seconds * 1000.0).round();
    #[allow(clippy::cast_possible_truncation, reason = "below 2^53")]
    (ms.abs() < FARTHEST_MS as f64).then_some(ms as i64)
}

/// A duration as Prometheus writes it or as seconds, in milliseconds and possibly negative.
///
/// # Errors
/// Prometheus's text.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    if let Some(seconds) = number(text) {
        // A duration below a millisecond still is one.
        let ms = seconds_to_ms(seconds)
            .ok_or_else(|| format!("cannot parse {text:?} to a valid duration. It overflows int64"))?;
        return Ok(if ms == 0 && seconds > 0.0 { 1 } else { ms });
    }
    parse_duration_ms(text).map_err(|_| format!("cannot parse {text:?} to a valid duration"))
}

/// RFC 3339 in UTC, with as many decimals as are needed.
#[must_use]
pub fn rfc3339(ts: Timestamp) -> String {
    DateTime::from_timestamp_millis(ts)
        .map_or_else(zero_time, |t| t.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// As [`rfc3339`], of seconds.
#[must_use]
pub fn rfc3339_seconds(seconds: f64) -> String {
    seconds_to_ms(seconds).map_or_else(zero_time, rfc3339)
}

/// What Go writes for a time that was never set.
#[must_use]
pub fn zero_time() -> String {
    "0001-01-01T00:00:00Z".to_owned()
}

/// The time, or Go's zero time.
#[must_use]
pub fn rfc3339_or_zero(ts: Option<Timestamp>) -> String {
    ts.map_or_else(zero_time, rfc3339)
}

/// For `#[serde(serialize_with)]`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: serde::Serializer>(ts: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&rfc3339(*ts))
}

/// For `#[serde(serialize_with)]` on optional times.
///
/// # Errors
/// Those of the serializer.
pub fn serialize_option<S: serde::Serializer>(ts: &Option<Timestamp>, s: S) -> Result<S::Ok, S::Error> {
    match ts {
        Some(ts) => serialize(ts, s),
        None => s.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_unix_or_rfc3339() {
        for (text, ms) in [
            ("1435781451.781", Some(1_435_781_451_781)),
            ("0", Some(0)),
            ("-1.5", Some(-1_500)),
            ("1e9", Some(1_000_000_000_000)),
            ("2015-06-03T13:21:58.555Z", Some(1_433_337_718_555)),
            ("2015-06-03T14:21:58+01:00", Some(1_433_337_718_000)),
            ("1_000", Some(1_000_000)),
            ("1_0.5", Some(10_500)),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("1_.5", None),
            ("1795550500.0005", Some(1_795_550_500_000)),
            ("1795550500.0015", Some(1_795_550_500_001)),
            ("1795550500.9999", Some(1_795_550_501_000)),
            ("-1.0005", Some(-1_000)),
            ("-0.25", Some(-250)),
            ("2026-11-24 20:00:00Z", None),
            ("2026-11-24t20:00:00Z", None),
            ("2026-11-24T20:00:00z", None),
            ("2026-11-24T20:00:60Z", None),
            ("", None),
            ("yesterday", None),
            ("NaN", None),
            ("Inf", None),
            ("1e300", None),
            ("2015-06-03", None),
        ] {
            assert_eq!(parse_time(text), ms, "{text}");
        }
    }

    #[test]
    fn durations_are_seconds_or_prometheus() {
        assert_eq!(parse_duration("15"), Ok(15_000));
        assert_eq!(parse_duration("0.25"), Ok(250));
        assert_eq!(parse_duration("0.0001"), Ok(1));
        assert_eq!(parse_duration("1m30s"), Ok(90_000));
        assert_eq!(parse_duration("-1"), Ok(-1_000));
        assert!(parse_duration("1 m").is_err());
        assert!(parse_duration("1e30").unwrap_err().contains("overflows"));
    }

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(rfc3339(1_433_337_718_555), "2015-06-03T13:21:58.555Z");
        assert_eq!(rfc3339(1_433_337_718_000), "2015-06-03T13:21:58Z");
        assert_eq!(rfc3339(i64::MAX), "0001-01-01T00:00:00Z");
    }
}
