//! Floats as the exposition formats write them, which is as Go does.

/// What Prometheus stores for any NaN that is no staleness marker.
const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// 10^0 ..= 10^22, all exact in a double.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// The value of a token; `None` if it is no number. As Go's `ParseFloat` before 1.13: no hexadecimal, no
/// underscores, `Inf` and `NaN` in any case, what overflows is refused. Every NaN gives the same bits.
#[must_use]
pub fn parse_float(token: &[u8]) -> Option<f64> {
    if let Some((value, len)) = decimal_prefix(token)
        && len == token.len()
    {
        return Some(value);
    }
    let (sign, digits) = match token {
        [b'-' | b'+', rest @ ..] => (token[0], rest),
        _ => (0, token),
    };
    if digits.eq_ignore_ascii_case(b"nan") {
        return (sign == 0).then(|| f64::from_bits(NORMAL_NAN_BITS));
    }
    if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") {
        return Some(if sign == b'-' { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    let value: f64 = std::str::from_utf8(token).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// The decimal number at the beginning of `bytes` and its length, where few digits make it cheap and exact: the
/// mantissa and the power of ten are both exact doubles, so one operation rounds once (Clinger's fast path). `None`
/// says nothing: the general way has to decide.
#[inline]
pub(super) fn decimal_prefix(bytes: &[u8]) -> Option<(f64, usize)> {
    let negative = bytes.first() == Some(&b'-');
    let mut at = usize::from(negative);
    let mut mantissa = 0u64;
    let begin = at;
    while let Some(d) = bytes.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
        mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(d));
        at += 1;
    }
    let mut digits = at - begin;
    let mut exponent = 0i32;
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        let begin = at;
        while let Some(d) = bytes.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(d));
            at += 1;
        }
        digits += at - begin;
        exponent = -((at - begin).min(100) as i32);
    }
    // 19 digits never overflow the mantissa.
    if digits == 0 || digits > 19 || mantissa > 1 << 53 {
        return None;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        let minus = match bytes.get(at) {
            Some(b'-') => true,
            Some(b'+') => false,
            _ => {
                at -= 1;
                false
            }
        };
        at += 1;
        let begin = at;
        let mut e = 0i32;
        while let Some(d) = bytes.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
            e = (e * 10 + i32::from(d)).min(10_000);
            at += 1;
        }
        if at == begin {
            return None;
        }
        exponent += if minus { -e } else { e };
    }
    let mut value = mantissa as f64;
    value = match exponent {
        0 => value,
        1..=22 => value * POWERS[exponent as usize],
        -22..=-1 => value / POWERS[exponent.unsigned_abs() as usize],
        _ => return None,
    };
    Some((if negative { -value } else { value }, at))
}

/// Appends `value` as Go's `%g` writes it, shortest: `0.5`, `1e+06`, `+Inf`, `NaN`.
pub fn format_float(out: &mut String, value: f64) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    if value == 0.0 {
        return out.push_str(if value.is_sign_negative() { "-0" } else { "0" });
    }
    if value.fract() == 0.0 && value.abs() < 1e6 {
        return out.push_str(itoa::Buffer::new().format(value as i64));
    }
    if value < 0.0 {
        out.push('-');
    }
    let (digits, exponent) = shortest(value.abs());
    let digits = digits.as_str();
    // Go's choice for the shortest form: the exponent is written below 1e-4 and from 1e+06.
    if !(-4..6).contains(&exponent) {
        out.push_str(&digits[..1]);
        if digits.len() > 1 {
            out.push('.');
            out.push_str(&digits[1..]);
        }
        out.push('e');
        out.push(if exponent < 0 { '-' } else { '+' });
        let e = exponent.unsigned_abs();
        if e < 10 {
            out.push('0');
        }
        out.push_str(itoa::Buffer::new().format(e));
    } else if exponent < 0 {
        out.push_str("0.");
        for _ in 0..(-exponent - 1) {
            out.push('0');
        }
        out.push_str(digits);
    } else {
        let whole = exponent as usize + 1;
        if digits.len() <= whole {
            out.push_str(digits);
            for _ in digits.len()..whole {
                out.push('0');
            }
        } else {
            out.push_str(&digits[..whole]);
            out.push('.');
            out.push_str(&digits[whole..]);
        }
    }
}

/// As [`format_float`], but never without a point or an exponent: `1` is `1.0`. So OpenMetrics writes floats, and so
/// the values of `le` and `quantile` are stored.
pub fn format_openmetrics_float(out: &mut String, value: f64) {
    let begin = out.len();
    format_float(out, value);
    if value.is_finite() && !out[begin..].contains(['.', 'e']) {
        out.push_str(".0");
    }
}

/// The shortest digits of a positive finite value, without point, and the decimal exponent of the first digit.
fn shortest(value: f64) -> (String, i32) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    let (mantissa, e) = text.split_once('e').unwrap_or((text, "0"));
    let e: i32 = e.parse().expect("zmij writes a decimal exponent");
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let leading = all.len() - all.trim_start_matches('0').len();
    let exponent = e + whole.len() as i32 - 1 - leading as i32;
    (all.trim_matches('0').to_owned(), exponent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, expected) in [
            ("1", 1.0),
            ("-0", -0.0),
            ("08", 8.0),
            (".3", 0.3),
            ("5.", 5.0),
            ("+3", 3.0),
            ("1e3", 1e3),
            ("1E-7", 1e-7),
            ("0.1", 0.1),
            ("9007199254740993", 9_007_199_254_740_992.0),
            ("123456789012345678901234567890", 1.234_567_890_123_456_8e29),
            ("5e-324", 5e-324),
            ("1e-400", 0.0),
            ("+Inf", f64::INFINITY),
            ("-inf", f64::NEG_INFINITY),
            ("Infinity", f64::INFINITY),
            ("1.7976931348623157e308", f64::MAX),
        ] {
            let got = parse_float(text.as_bytes()).unwrap();
            assert_eq!(got.to_bits(), expected.to_bits(), "{text}");
        }
        assert_eq!(parse_float(b"nan").unwrap().to_bits(), NORMAL_NAN_BITS);
        for text in [
            "", "-", "+", ".", "1e", "1e+", "0x1", "0x1p-2", "1_0", "1,5", "1 ", " 1", "1e400", "-nan",
            "++1", "e5", "in", "0b1",
        ] {
            assert_eq!(parse_float(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn writes_what_go_writes() {
        for (value, plain, openmetrics) in [
            (0.0, "0", "0.0"),
            (-0.0, "-0", "-0.0"),
            (1.0, "1", "1.0"),
            (0.5, "0.5", "0.5"),
            (100_000.0, "100000", "100000.0"),
            (1e6, "1e+06", "1e+06"),
            (1_234_567.0, "1.234567e+06", "1.234567e+06"),
            (123_456.789, "123456.789", "123456.789"),
            (0.0001, "0.0001", "0.0001"),
            (0.00001, "1e-05", "1e-05"),
            (-2.5e-7, "-2.5e-07", "-2.5e-07"),
            (1e21, "1e+21", "1e+21"),
            (5e-324, "5e-324", "5e-324"),
            (f64::MAX, "1.7976931348623157e+308", "1.7976931348623157e+308"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (f64::NAN, "NaN", "NaN"),
        ] {
            let (mut a, mut b) = (String::new(), String::new());
            format_float(&mut a, value);
            format_openmetrics_float(&mut b, value);
            assert_eq!((a.as_str(), b.as_str()), (plain, openmetrics));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            let mut text = String::new();
            format_float(&mut text, value);
            prop_assert_eq!(parse_float(text.as_bytes()).unwrap().to_bits(), bits);
        }

        #[test]
        fn the_fast_path_agrees_with_the_standard_library(text in "-?[0-9]{1,20}(\\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?") {
            let expected: f64 = text.parse().unwrap();
            prop_assert_eq!(parse_float(text.as_bytes()), expected.is_finite().then_some(expected));
        }
    }
}
