//! Numbers and strings.

use super::ParseError;
use super::expr::Parser;
use crate::model::parse_duration_ms;
use crate::promql::ast::Pos;
use crate::promql::lexer::{Kind, Token};
use crate::promql::quote::{quoted, quoted_bytes, unquoted};

impl Parser<'_> {
    /// The value of a number token, or of a duration token in seconds.
    pub(super) fn number_value(&self, token: &Token) -> Result<f64, ParseError> {
        let text = self.text_of(token);
        if token.kind == Kind::Duration {
            return Ok(self.duration_ms(token)? as f64 / 1000.0);
        }
        number(text).map_err(|why| {
            let message =
                format!("error parsing number: strconv.ParseFloat: parsing {}: {why}", quoted(text));
            self.error(token.pos.clone(), message)
        })
    }

    /// The milliseconds of a duration token.
    pub(super) fn duration_ms(&self, token: &Token) -> Result<i64, ParseError> {
        parse_duration_ms(self.text_of(token)).map_err(|e| self.error(token.pos.clone(), e.to_string()))
    }

    /// The text of a string token. Bytes that are no UTF-8, as `\xff` makes them, become U+FFFD, which is also what
    /// Prometheus shows of them in its answers.
    pub(super) fn string_value(&self, token: &Token) -> String {
        String::from_utf8(unquoted(self.text_of(token)))
            .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }

    /// The text of a string token that is a pattern or a name, which must be UTF-8.
    pub(super) fn utf8_value(&self, token: &Token, problem: &str) -> Result<String, ParseError> {
        String::from_utf8(unquoted(self.text_of(token))).map_err(|e| {
            let message = format!("{problem}{}", quoted_bytes(e.as_bytes()));
            self.error(token.pos.clone(), message)
        })
    }

    /// As [`Parser::string_value`], for what will be a label name.
    pub(super) fn label_name_value(&self, token: &Token) -> Result<String, ParseError> {
        let bytes = unquoted(self.text_of(token));
        self.label_name(bytes, token.pos.clone(), "invalid label name for grouping: ")
    }

    pub(super) fn label_name(&self, bytes: Vec<u8>, pos: Pos, problem: &str) -> Result<String, ParseError> {
        match String::from_utf8(bytes) {
            Ok(name) if !name.is_empty() => Ok(name),
            Ok(_) => Err(self.error(pos, format!("{problem}\"\""))),
            Err(e) => Err(self.error(pos, format!("{problem}{}", quoted_bytes(e.as_bytes())))),
        }
    }
}

/// Reads a number as Go's `strconv.ParseInt` with base 0 does, and if that fails as `strconv.ParseFloat`: `0x1F`,
/// `0755` (octal), `1_000`, `1e3`, `Inf`, `NaN` in any case.
fn number(text: &str) -> Result<f64, &'static str> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None if lower.len() > 1 && lower.starts_with('0') => (&lower[1..], 8),
        None => (lower.as_str(), 10),
    };
    // An underscore stands between digits, or between the prefix and a digit.
    let underscores_ok = !digits.ends_with('_') && (radix != 10 || !digits.starts_with('_'));
    if underscores_ok && let Ok(n) = i64::from_str_radix(&digits.replace('_', ""), radix) {
        return Ok(n as f64);
    }
    match lower.as_str() {
        "inf" => return Ok(f64::INFINITY),
        "nan" => return Ok(f64::NAN),
        _ => {}
    }
    // Underscores in decimal fractions pass upstream too: the lexer sees to it that digits are around each.
    match lower.replace('_', "").parse::<f64>() {
        Ok(v) if v.is_infinite() => Err("value out of range"),
        Ok(v) if radix != 16 => Ok(v),
        _ => Err("invalid syntax"),
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn reads_numbers_as_go_does() {
        for (text, value) in [
            ("0", 0.0),
            ("0x1F", 31.0),
            ("0X_ff", 255.0),
            ("010", 8.0),
            ("08", 8.0),
            ("1_000_000", 1e6),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e-3", 1e-3),
            ("iNf", f64::INFINITY),
            ("99999999999999999999", 1e20),
            ("1_000.5", 1000.5),
        ] {
            assert_eq!(number(text), Ok(value), "{text}");
        }
        assert!(number("NaN").unwrap().is_nan());
        for text in ["0x", "1e999", "0xffffffffffffffffff"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
