//! Floats as Go's strconv writes them, and Go's number literals.

/// Formats `v` with a verb of Go's `strconv.FormatFloat` (`e`, `E`, `f`, `g`, `G`); without a precision the shortest
/// digits that read back. `g` takes the exponent form when the exponent is below -4 or at least the precision, where the shortest form
/// counts as precision 6 (the 21 that one meets elsewhere is the rule of Go's JSON).
pub(super) fn format(v: f64, verb: char, precision: Option<usize>) -> String {
    if v.is_nan() {
        return "NaN".to_owned();
    }
    if v.is_infinite() {
        return if v > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    match (verb, precision) {
        ('f' | 'F', Some(p)) => format!("{v:.p$}"),
        ('f' | 'F', None) => format!("{v}"),
        ('e' | 'E', p) => exponent_form(v, p, verb),
        (_, p) => general_form(v, p, if verb == 'G' { 'E' } else { 'e' }),
    }
}

/// Sign, digits without trailing zeros (at least one) and decimal exponent of the first digit.
fn digits(v: f64, significant: Option<usize>) -> (bool, String, i32) {
    let text = match significant {
        Some(n) => format!("{v:.*e}", n.max(1) - 1),
        None => format!("{v:e}"),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let negative = mantissa.starts_with('-');
    let mut digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    while digits.len() > 1 && digits.ends_with('0') {
        digits.pop();
    }
    (negative, digits, exponent.parse().unwrap_or(0))
}

fn exponent_form(v: f64, precision: Option<usize>, e: char) -> String {
    let text = match precision {
        Some(p) => format!("{v:.p$e}"),
        None => format!("{v:e}"),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    with_exponent(mantissa, exponent, e)
}

fn with_exponent(mantissa: &str, exponent: i32, e: char) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}{e}{sign}{:02}", exponent.abs())
}

fn general_form(v: f64, precision: Option<usize>, e: char) -> String {
    let (negative, digits, exponent) = digits(v, precision.map(|p| p.max(1)));
    let count = digits.len() as i32;
    let point = exponent + 1;
    let threshold = match precision.map(|p| p.max(1) as i32) {
        Some(p) if p > count && count >= point => count,
        Some(p) => p,
        None => 6,
    };
    let sign = if negative { "-" } else { "" };
    if v == 0.0 {
        return format!("{sign}0");
    }
    if exponent < -4 || exponent >= threshold {
        let mantissa = if digits.len() > 1 {
            format!("{sign}{}.{}", &digits[..1], &digits[1..])
        } else {
            format!("{sign}{digits}")
        };
        return with_exponent(&mantissa, exponent, e);
    }
    if point <= 0 {
        return format!("{sign}0.{}{digits}", "0".repeat(point.unsigned_abs() as usize));
    }
    let point = point as usize;
    if digits.len() <= point {
        format!("{sign}{digits}{}", "0".repeat(point - digits.len()))
    } else {
        format!("{sign}{}.{}", &digits[..point], &digits[point..])
    }
}

/// A number literal: an integer, a float, or what Go would say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Literal {
    Int(i64),
    Float(f64),
}

/// Reads a number literal of a template: decimal, `0x`, `0o`, `0b`, leading-zero octal, underscores, floats and hex floats.
pub(super) fn parse_literal(text: &str) -> Result<Literal, String> {
    let illegal = || format!("illegal number syntax: {text:?}");
    let (negative, body) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let clean: String = body.chars().filter(|c| *c != '_').collect();
    let lower = clean.to_ascii_lowercase();
    let prefixed = |p: &str, radix: u32| lower.strip_prefix(p).map(|rest| (rest.to_owned(), radix));
    let hex_float = lower.starts_with("0x") && lower.contains(['p', '.']);
    let float_form = !lower.starts_with("0x") && lower.contains(['.', 'e']);
    if hex_float {
        let v = parse_hex_float(&lower).ok_or_else(illegal)?;
        return Ok(Literal::Float(if negative { -v } else { v }));
    }
    if float_form {
        let v: f64 = lower.parse().map_err(|_| illegal())?;
        if v.is_infinite() {
            return Err(illegal());
        }
        return Ok(Literal::Float(if negative { -v } else { v }));
    }
    let (digits, radix) = prefixed("0x", 16)
        .or_else(|| prefixed("0o", 8))
        .or_else(|| prefixed("0b", 2))
        .or_else(|| (lower.len() > 1).then(|| prefixed("0", 8)).flatten())
        .unwrap_or((lower.clone(), 10));
    match i128::from_str_radix(&digits, radix) {
        Ok(v) => {
            let v = if negative { -v } else { v };
            i64::try_from(v).map(Literal::Int).map_err(|_| format!("integer overflow: {text:?}"))
        }
        Err(_) if digits.bytes().all(|b| b.is_ascii_digit()) && radix == 10 => {
            Err(format!("integer overflow: {text:?}"))
        }
        Err(_) => Err(illegal()),
    }
}

fn parse_hex_float(lower: &str) -> Option<f64> {
    let (mantissa, exponent) = lower.strip_prefix("0x")?.split_once('p')?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut v = 0.0f64;
    for c in whole.chars().chain(fraction.chars()) {
        v = v * 16.0 + f64::from(c.to_digit(16)?);
    }
    Some(v * 2f64.powi(exponent.checked_sub(4 * fraction.len() as i32)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_go_writes_them() {
        for (v, verb, precision, expected) in [
            (1e6, 'g', None, "1e+06"),
            (123_456.0, 'g', None, "123456"),
            (100_000.0, 'g', None, "100000"),
            (1_234_567.0, 'g', None, "1.234567e+06"),
            (0.0001, 'g', None, "0.0001"),
            (0.00001, 'g', None, "1e-05"),
            (-6.25, 'g', None, "-6.25"),
            (1e21, 'g', None, "1e+21"),
            (0.0, 'g', None, "0"),
            (-0.0, 'g', None, "-0"),
            (100_000.0, 'g', Some(4), "1e+05"),
            (1234.0, 'g', Some(4), "1234"),
            (1.234_567, 'g', Some(4), "1.235"),
            (12_345.678, 'e', Some(2), "1.23e+04"),
            (2.345_67, 'f', Some(2), "2.35"),
            (0.5, 'f', Some(0), "0"),
            (1e7, 'G', None, "1E+07"),
            (f64::NAN, 'g', None, "NaN"),
            (f64::NEG_INFINITY, 'f', Some(1), "-Inf"),
        ] {
            assert_eq!(format(v, verb, precision), expected);
        }
    }

    #[test]
    fn literals_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("5", Literal::Int(5)),
            ("-0x1F", Literal::Int(-31)),
            ("017", Literal::Int(15)),
            ("0b101", Literal::Int(5)),
            ("1_000", Literal::Int(1000)),
            ("1e3", Literal::Float(1000.0)),
            (".5", Literal::Float(0.5)),
            ("0x1p-2", Literal::Float(0.25)),
        ] {
            assert_eq!(parse_literal(text), Ok(expected), "{text}");
        }
        assert_eq!(
            parse_literal("99999999999999999999"),
            Err("integer overflow: \"99999999999999999999\"".into())
        );
        assert!(parse_literal("0xg").is_err());
    }
}
