//! Durations as Prometheus writes them: `1h30m`, `15s`, `250ms`, `0`.

/// Why a text is no duration.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DurationError {
    #[error("empty duration string")]
    Empty,
    #[error("not a valid duration string: {0:?}")]
    Invalid(String),
    #[error("unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit { unit: String, text: String },
    #[error("duration out of range")]
    OutOfRange,
}

/// Units from large to small, as they must be ordered in a duration, with their milliseconds.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Milliseconds of a duration such as `1h30m`. Every part needs a unit, units come from large to small, each once;
/// `0` alone is fine. Source: prometheus/common, `model/time.go`.
///
/// # Errors
/// When the text is no duration or does not fit.
pub fn parse_duration_ms(text: &str) -> Result<i64, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text == "0" {
        return Ok(0);
    }
    let invalid = || DurationError::Invalid(text.to_owned());
    let (mut rest, mut total, mut next_unit) = (text, 0i64, 0usize);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        // All up to the next digit is the unit, as upstream.
        let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        if number.is_empty() || unit.is_empty() {
            return Err(invalid());
        }
        let at = UNITS
            .iter()
            .position(|(u, _)| *u == unit)
            .ok_or_else(|| DurationError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() })?;
        if at < next_unit {
            return Err(invalid());
        }
        let unit_ms = UNITS[at].1;
        next_unit = at + 1;
        let n: i64 = number.parse().map_err(|_| DurationError::OutOfRange)?;
        total =
            n.checked_mul(unit_ms).and_then(|ms| total.checked_add(ms)).ok_or(DurationError::OutOfRange)?;
        rest = tail;
    }
    // Go holds a duration as nanoseconds in 64 bits; what does not fit there is refused here too.
    if total > i64::MAX / 1_000_000 { Err(DurationError::OutOfRange) } else { Ok(total) }
}

/// The shortest text of a duration as Prometheus prints it: `90_000` is `1m30s`, `0` is `0s`.
/// Weeks and years are used only when nothing remains.
#[must_use]
pub fn format_duration_ms(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    let mut rest = ms.unsigned_abs();
    if ms < 0 {
        out.push('-');
    }
    for (unit, unit_ms) in UNITS {
        let unit_ms = unit_ms.unsigned_abs();
        let exact_only = matches!(unit, "y" | "w");
        if rest >= unit_ms && (!exact_only || rest.is_multiple_of(unit_ms)) {
            out.push_str(&format!("{}{unit}", rest / unit_ms));
            rest %= unit_ms;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_prometheus_reads() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("1d2h30m", 95_400_000),
            ("250ms", 250),
            ("1w", 604_800_000),
            ("1y", 31_536_000_000),
        ] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        for text in ["", "1", "1s1m", "s", "1.5s", "-1s", "1m1m", "1 s", "1S", "1ms5"] {
            assert!(parse_duration_ms(text).is_err(), "{text}");
        }
        assert_eq!(
            parse_duration_ms("1.5h").unwrap_err().to_string(),
            "unknown unit \".\" in duration \"1.5h\""
        );
        assert_eq!(parse_duration_ms("999999y"), Err(DurationError::OutOfRange));
    }

    #[test]
    fn prints_what_it_reads() {
        for (ms, text) in [
            (0, "0s"),
            (90_000, "1m30s"),
            (86_400_000, "1d"),
            (604_800_000, "1w"),
            (694_800_000, "8d1h"),
            (1, "1ms"),
        ] {
            assert_eq!(format_duration_ms(ms), text);
        }
    }
}
