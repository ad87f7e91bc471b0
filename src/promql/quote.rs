//! Strings in quotes, as Go writes and reads them.

use std::fmt::Write as _;

/// `text` in double quotes with Go's escapes (`strconv.Quote`).
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if is_printable(c) => out.push(c),
            // Writing to a string cannot fail.
            c if u32::from(c) < 0x80 => _ = write!(out, "\\x{:02x}", u32::from(c)),
            c if u32::from(c) < 0x1_0000 => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => _ = write!(out, "\\U{:08x}", u32::from(c)),
        }
    }
    out.push('"');
    out
}

/// As [`quoted`], for bytes of which some are no UTF-8.
#[must_use]
pub fn quoted_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let valid = quoted(chunk.valid());
        out.push_str(&valid[1..valid.len() - 1]);
        for b in chunk.invalid() {
            _ = write!(out, "\\x{b:02x}");
        }
    }
    out.push('"');
    out
}

/// Near to Go's `unicode.IsPrint`: no control, format, private-use or unassigned character, and of the spaces only
/// the common one. Rust's own notion of what has to be escaped decides, apart from the marks that it escapes only at
/// the beginning of a string.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_control();
    }
    if c.is_whitespace() || c == '\u{ad}' {
        return false;
    }
    // Escaping behind a letter leaves combining marks alone.
    let mut two = String::from("a");
    two.push(c);
    two.escape_debug().nth(1) == Some(c)
}

/// The text of a literal with its quotes: `"…"`, `'…'` or `` `…` ``. The lexer has checked the escapes. The bytes need
/// not be UTF-8, for `\xff` is a legal escape.
#[must_use]
pub fn unquoted(literal: &str) -> Vec<u8> {
    let Some(quote) = literal.chars().next() else { return Vec::new() };
    let inner = literal.get(1..literal.len().saturating_sub(1)).unwrap_or_default();
    if quote == '`' {
        // A carriage return does not belong to a raw string.
        return inner.bytes().filter(|b| *b != b'\r').collect();
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let Some(c) = escape.chars().next() else { break };
        let digits = |from: usize, len: usize, base: u32| {
            let value = u32::from_str_radix(escape.get(from..from + len).unwrap_or("0"), base).unwrap_or(0);
            (value, from + len)
        };
        let len = match c {
            '0'..='7' => {
                let (value, len) = digits(0, 3, 8);
                out.push(value as u8);
                len
            }
            'x' => {
                let (value, len) = digits(1, 2, 16);
                out.push(value as u8);
                len
            }
            'u' | 'U' => {
                let (value, len) = digits(1, if c == 'u' { 4 } else { 8 }, 16);
                let c = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                len
            }
            _ => {
                out.push(match c {
                    'a' => 0x07,
                    'b' => 0x08,
                    'f' => 0x0c,
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    'v' => 0x0b,
                    // The backslash and the quote stand for themselves.
                    other => other as u8,
                });
                1
            }
        };
        rest = escape.get(len..).unwrap_or_default();
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        for (text, expected) in [
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\n\t\r\x07\0\x7f", r#""\n\t\r\a\x00\x7f""#),
            ("äöü 世界 🙂", "\"äöü 世界 🙂\""),
            ("\u{a0}\u{200b}\u{ad}", r#""\u00a0\u200b\u00ad""#),
        ] {
            assert_eq!(quoted(text), expected);
        }
        assert_eq!(quoted_bytes(b"a\xc5z"), r#""a\xc5z""#);
    }

    #[test]
    fn unquotes_every_escape() {
        for (literal, expected) in [
            (r#""a\"b""#, "a\"b"),
            (r"'a\'b'", "a'b"),
            (r"`a\b`", r"a\b"),
            (r#""\a\b\f\n\r\t\v\\""#, "\x07\x08\x0c\n\r\t\x0b\\"),
            (r#""\101\x41\u0041\U00000041""#, "AAAA"),
            (r#""äö""#, "äö"),
            (r#""""#, ""),
        ] {
            assert_eq!(unquoted(literal), expected.as_bytes(), "{literal}");
        }
        assert_eq!(unquoted(r#""a\xc5z""#), b"a\xc5z");
    }

    proptest::proptest! {
        #[test]
        fn reads_what_it_writes(text in ".*") {
            proptest::prop_assert_eq!(unquoted(&quoted(&text)), text.into_bytes());
        }
    }
}
