//! The texts in `matchers` of a route: `severity="page"`, `{a=~"b|c", "utf-8 näme"!=d}`.
//!
//! There are two syntaxes. The newer one lets names and values be quoted or not and knows Go's escapes; the classic
//! one is older and laxer. As upstream does unless told otherwise, a text is read by both: where only the classic
//! one understands it, or where both do and disagree, the classic reading holds.
//!
//! Source: alertmanager, `matcher/parse`, `matcher/compat`, `pkg/labels/parse.go`.

use crate::model::{MatchOp, Matcher, is_legacy_label_name};

/// Why a text is no list of matchers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct MatcherError {
    /// The byte where it stops making sense.
    pub offset: usize,
    pub message: String,
}

type Conditions = Vec<(MatchOp, String, String, usize)>;

/// Reads a text that holds any number of matchers.
///
/// # Errors
/// When neither syntax understands the text, or when a regular expression is invalid.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, MatcherError> {
    let strip = |c: &Conditions| -> Vec<(MatchOp, String, String)> {
        c.iter().map(|(op, n, v, _)| (*op, n.clone(), v.clone())).collect()
    };
    let conditions = match (parse_utf8(text), parse_classic(text)) {
        (Ok(new), Ok(classic)) if strip(&new) != strip(&classic) => classic,
        (Ok(new), _) => new,
        (Err(_), Ok(classic)) => classic,
        (Err(error), Err(_)) => return Err(error),
    };
    conditions
        .into_iter()
        .map(|(op, name, value, offset)| {
            Matcher::new(op, name, value).map_err(|e| MatcherError { offset, message: e.to_string() })
        })
        .collect()
}

/// Characters that end a text without quotes.
fn is_reserved(c: char) -> bool {
    c.is_whitespace() || "{}!=~,\\\"'`".contains(c)
}

/// Operators, the longer ones first.
const OPERATORS: [(&str, MatchOp); 4] =
    [("=~", MatchOp::Regex), ("!~", MatchOp::NotRegex), ("!=", MatchOp::NotEqual), ("=", MatchOp::Equal)];

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, MatcherError> {
        Err(MatcherError { offset: self.at, message: message.into() })
    }

    /// A name or a value, quoted or not.
    fn word(&mut self, what: &str) -> Result<String, MatcherError> {
        self.skip_space();
        if self.rest().starts_with('"') {
            return self.quoted();
        }
        let len = self.rest().find(is_reserved).unwrap_or(self.rest().len());
        if len == 0 {
            return match self.rest().chars().next() {
                None => self.error(format!("unexpected end of input, expected {what}")),
                Some(c) => self.error(format!("unexpected {c:?}, expected {what}")),
            };
        }
        let word = &self.rest()[..len];
        self.at += len;
        Ok(word.to_owned())
    }

    fn quoted(&mut self) -> Result<String, MatcherError> {
        let begin = self.at;
        let mut bytes = self.rest().char_indices().skip(1);
        let (mut escaped, mut end) = (false, None);
        for (i, c) in bytes.by_ref() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    end = Some(i);
                    break;
                }
                _ => {}
            }
        }
        let Some(end) = end else { return self.error("missing end \"") };
        let inside = &self.rest()[1..end];
        self.at += end + 1;
        go_unquote(inside)
            .ok_or_else(|| MatcherError { offset: begin, message: "invalid escape in quotes".to_owned() })
    }
}

fn parse_utf8(text: &str) -> Result<Conditions, MatcherError> {
    let mut scanner = Scanner { text, at: 0 };
    let mut conditions = Conditions::new();
    let braces = scanner.take("{");
    loop {
        scanner.skip_space();
        if scanner.rest().is_empty() || scanner.rest().starts_with('}') {
            break;
        }
        let name = scanner.word("a label name")?;
        scanner.skip_space();
        let operator = OPERATORS.iter().find(|(token, _)| scanner.rest().starts_with(token));
        let Some((token, op)) = operator else {
            return scanner.error("expected an operator such as '=', '!=', '=~' or '!~'");
        };
        scanner.at += token.len();
        scanner.skip_space();
        let value_at = scanner.at;
        let value = scanner.word("a label value")?;
        conditions.push((*op, name, value, value_at));
        if !scanner.take(",") {
            break;
        }
    }
    if scanner.take("}") != braces {
        return scanner.error(if braces { "expected a closing '}'" } else { "'}' without '{'" });
    }
    scanner.skip_space();
    if !scanner.rest().is_empty() {
        return scanner.error("expected a comma or the end of input");
    }
    Ok(conditions)
}

/// A number of exactly `digits` digits.
fn number(chars: &mut std::str::Chars<'_>, digits: usize, radix: u32) -> Option<u32> {
    (0..digits).try_fold(0u32, |n, _| n.checked_mul(radix)?.checked_add(chars.next()?.to_digit(radix)?))
}

/// What Go's `strconv.Unquote` makes of the inside of a text in double quotes.
fn go_unquote(inside: &str) -> Option<String> {
    let mut out: Vec<u8> = Vec::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        if c == '\n' {
            return None;
        }
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let simple = match chars.next()? {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            c @ ('\\' | '"') => c as u8,
            'x' => u8::try_from(number(&mut chars, 2, 16)?).ok()?,
            first @ '0'..='7' => u8::try_from(first.to_digit(8)? * 64 + number(&mut chars, 2, 8)?).ok()?,
            long @ ('u' | 'U') => {
                let c = char::from_u32(number(&mut chars, if long == 'u' { 4 } else { 8 }, 16)?)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return None,
        };
        out.push(simple);
    }
    String::from_utf8(out).ok()
}

fn parse_classic(text: &str) -> Result<Conditions, MatcherError> {
    let inner = text.strip_prefix('{').unwrap_or(text);
    let base = text.len() - inner.len();
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let (mut conditions, mut begin) = (Conditions::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (i, c) in inner.char_indices() {
        match c {
            ',' if !quoted => {
                conditions.push(classic_matcher(&inner[begin..i], base + begin)?);
                begin = i + 1;
            }
            _ if escaped => escaped = false,
            '"' => quoted = !quoted,
            '\\' => escaped = true,
            _ => {}
        }
    }
    if begin < inner.len() {
        conditions.push(classic_matcher(&inner[begin..], base + begin)?);
    }
    Ok(conditions)
}

fn classic_matcher(text: &str, base: usize) -> Result<(MatchOp, String, String, usize), MatcherError> {
    let fail =
        |offset: usize, message: String| -> MatcherError { MatcherError { offset: base + offset, message } };
    let name_end = text.find(['=', '!']).unwrap_or(text.len());
    let name = text[..name_end].trim();
    let valid = !name.is_empty() && is_legacy_label_name(&name.replace(':', "_"));
    let operator = OPERATORS.iter().find(|(token, _)| text[name_end..].starts_with(token));
    let (Some((token, op)), true) = (operator, valid) else {
        return Err(fail(0, format!("bad matcher format: {text}")));
    };
    let raw_at = name_end + token.len();
    let raw = text[raw_at..].trim();
    let value_at = raw_at + (text.len() - raw_at - text[raw_at..].trim_start().len());
    let unescaped_quote = || fail(value_at, format!("matcher value contains unescaped double quote: {raw}"));
    let (mut rest, mut closed) = match raw.strip_prefix('"') {
        Some(rest) => (rest, false),
        None => (raw, true),
    };
    if !closed {
        // A quote at the end closes the value if it is not escaped.
        let body = rest.strip_suffix('"').ok_or_else(unescaped_quote)?;
        let backslashes = body.len() - body.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            return Err(unescaped_quote());
        }
        (rest, closed) = (body, true);
    }
    debug_assert!(closed, "an open value has returned");
    let mut value = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Err(unescaped_quote()),
            '\\' => match chars.next() {
                Some('n') => value.push('\n'),
                Some(c @ ('"' | '\\')) => value.push(c),
                // A backslash that escapes nothing stands for itself.
                Some(c) => value.extend(['\\', c]),
                None => value.push('\\'),
            },
            c => value.push(c),
        }
    }
    Ok((*op, name.to_owned(), value, base + value_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let matchers = parse_matchers(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let shown: Vec<String> = matchers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn reads_what_upstream_reads() {
        check("", &[]);
        check("{}", &[]);
        check("a=b", &[r#"a="b""#]);
        check(" a = b ", &[r#"a="b""#]);
        check(
            r#"{a="b",c!="d", e=~"f.*",g!~"h|i",}"#,
            &[r#"a="b""#, r#"c!="d""#, r#"e=~"f.*""#, r#"g!~"h|i""#],
        );
        check(r#""näme 1"="ü""#, &[r#""näme 1"="ü""#]);
        check("üñ=ok", &[r#""üñ"="ok""#]);
        check(r#"a="x,y""#, &[r#"a="x,y""#]);
        check(r#"a="x\"y\n""#, &[r#"a="x\"y\n""#]);
        check(r#"a="\u00fc\x41""#, &[r#"a="\\u00fc\\x41""#]);
        check(r#""a b"="\u00fc\x41""#, &[r#""a b"="üA""#]);
        check(r#"a="""#, &[r#"a="""#]);
        // Only the classic syntax understands these.
        check("a=", &[r#"a="""#]);
        check("a=b c", &[r#"a="b c""#]);
        check(r"a=~\d+", &[r#"a=~"\\d+""#]);
        check(r#"a=~"\d+""#, &[r#"a=~"\\d+""#]);
        check("{a=b", &[r#"a="b""#]);
    }

    #[test]
    fn says_where_it_stops_making_sense() {
        for (text, offset) in [
            ("a", 1),
            ("a=~(", 3),
            (r#"a=~"(""#, 3),
            ("=b", 0),
            (r#"a="b"#, 2),
            ("a=b\"c", 3),
            ("a=b,,c=d", 4),
            (r#"{ä="b""#, 7),
        ] {
            let error = parse_matchers(text).expect_err(text);
            assert_eq!(error.offset, offset, "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[a-z{}!=~,\"\\\\ü ]{0,24}") {
            let _verdict = parse_matchers(&text);
        }

        #[test]
        fn reads_back_what_is_quoted(name in "[a-z ü]{1,8}", value in "[ -~ü\n]{0,12}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let matchers = parse_matchers(&format!("\"{name}\"=\"{quoted}\"")).unwrap();
            proptest::prop_assert_eq!(&matchers, &vec![Matcher::equal(name, value)]);
        }
    }
}
