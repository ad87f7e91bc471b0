//! From a place inside a decoded scalar back to the place in the file.

/// The byte offset into `raw`, the text of a scalar as the file has it, of the byte `offset` of its decoded `value`.
/// `raw` may run on past the scalar. `None` if the two do not fit together.
///
/// Folding and indentation change nothing but white space, so the n-th other character of the value is the n-th
/// other character of the text, whatever the style, once the escapes of quoted styles are read. An offset at white
/// space or at the end gives the place behind the character before it.
pub(super) fn offset_in_text(raw: &str, value: &str, offset: usize) -> Option<usize> {
    let offset = (0..=offset.min(value.len())).rev().find(|at| value.is_char_boundary(*at))?;
    let at_character = value[offset..].chars().next().is_some_and(|c| !c.is_whitespace());
    let mut wanted = value.chars().filter(|c| !c.is_whitespace());
    let before = value[..offset].chars().filter(|c| !c.is_whitespace()).count();
    let mut found = Characters::new(raw).filter(|(_, _, c)| !c.is_whitespace());
    let mut end = 0;
    for _ in 0..before {
        let (_, past, c) = found.next()?;
        if wanted.next() != Some(c) {
            return None;
        }
        end = past;
    }
    if at_character {
        let (start, _, c) = found.next()?;
        return (wanted.next() == Some(c)).then_some(start);
    }
    Some(end)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
}

/// The decoded characters of a scalar with the bytes of the text that each stands for: start, end, character.
struct Characters<'a> {
    raw: &'a str,
    at: usize,
    style: Style,
}

impl<'a> Characters<'a> {
    fn new(raw: &'a str) -> Self {
        let style = match raw.as_bytes().first() {
            Some(b'\'') => Style::Single,
            Some(b'"') => Style::Double,
            _ => Style::Plain,
        };
        Characters { raw, at: usize::from(style != Style::Plain), style }
    }
}

impl Iterator for Characters<'_> {
    type Item = (usize, usize, char);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        let rest = self.raw.get(start..)?;
        let mut chars = rest.chars();
        let c = chars.next()?;
        let second = chars.next();
        let (len, decoded) = match (self.style, c, second) {
            (Style::Single, '\'', Some('\'')) => (2, '\''),
            (Style::Single, '\'', _) | (Style::Double, '"', _) => return None,
            (Style::Double, '\\', Some(escape)) => escaped(rest, escape)?,
            _ => (c.len_utf8(), c),
        };
        self.at = start + len;
        Some((start, self.at, decoded))
    }
}

/// The length and meaning of an escape in a double-quoted scalar. A line continuation counts as white space.
fn escaped(rest: &str, escape: char) -> Option<(usize, char)> {
    let digits = match escape {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => 0,
    };
    if digits > 0 {
        let code = u32::from_str_radix(rest.get(2..2 + digits)?, 16).ok()?;
        return Some((2 + digits, char::from_u32(code)?));
    }
    let c = match escape {
        '0' => '\0',
        'a' => '\x07',
        'b' => '\x08',
        't' => '\t',
        'n' => '\n',
        'v' => '\x0b',
        'f' => '\x0c',
        'r' => '\r',
        'e' => '\x1b',
        'N' => '\u{85}',
        '_' => '\u{a0}',
        'L' => '\u{2028}',
        'P' => '\u{2029}',
        other => other,
    };
    Some((1 + escape.len_utf8(), c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, value: &str, decoded: &str, in_text: &str) {
        let offset = value.find(decoded).unwrap();
        let expected = raw.find(in_text).unwrap();
        assert_eq!(offset_in_text(raw, value, offset), Some(expected), "{decoded:?} of {value:?} in {raw:?}");
    }

    #[test]
    fn every_style_leads_back() {
        check("sum(x)", "sum(x)", "x", "x");
        check("'a ''b'' c'", "a 'b' c", "c", "c");
        check(r#""a \"b\" \x41 é c" # c"#, "a \"b\" A é c", "c", "c");
        check("a\n        + b", "a + b", "b", "b");
        check("up == 0\n    and rte(x)\n", "up == 0\n  and rte(x)\n", "rte", "rte");
        check("\"a \\\n   b\"", "a b", "b", "b");
    }

    #[test]
    fn the_end_is_behind_the_last_character() {
        assert_eq!(offset_in_text("sum(  \n", "sum(\n", 5), Some(4));
        assert_eq!(offset_in_text("'sum('", "sum(", 4), Some(5));
        assert_eq!(offset_in_text("", "", 0), Some(0));
        assert_eq!(offset_in_text("other", "value", 3), None);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(raw in ".{0,30}", value in ".{0,30}", offset in 0usize..40) {
            let at = offset_in_text(&raw, &value, offset);
            proptest::prop_assert!(at.is_none_or(|at| raw.is_char_boundary(at)));
        }
    }
}
