//! Go's syntax.
//!
//! Source: the description of RE2's syntax and Go's `regexp/syntax` with the flags `Perl` (and `DotNL` if asked for).

use regex_syntax::hir::{Capture, Class, ClassUnicode, ClassUnicodeRange, Hir, Look, Repetition};

use super::RegexError;
use super::perl::{perl, posix, ranges, unicode};

/// How many groups may stand within each other, as in Go.
const MAX_DEPTH: usize = 1000;

/// How many ranges the named classes of a pattern may have together, which is a bound on time: some 30 ns each. `\pL` has some
/// six hundred.
const MAX_RANGES: usize = 1 << 20;

/// How many items other than letters and digits that stand for themselves a pattern may have, repetitions counted as well:
/// a bound on time, too, for reading and compiling takes some 400 ns each at the worst.
const MAX_ITEMS: usize = 90_000;

/// What a range counts that has to be looked through for capitals and small letters.
const FOLDED_RANGE: usize = 8;

/// How often something may be repeated, nested repetitions multiplied.
const MAX_REPEAT: u32 = 1000;

/// A pattern that has been read.
pub(super) struct Parsed {
    pub(super) hir: Hir,
    /// Names of groups with their numbers; a name may come twice.
    pub(super) names: Vec<(String, usize)>,
}

/// Reads a pattern; with `dot_newline` as if within `(?s:…)`.
pub(super) fn parse(pattern: &str, dot_newline: bool) -> Result<Parsed, RegexError> {
    let flags = Flags { dot_newline, ..Flags::default() };
    let mut parser = Parser {
        pattern,
        at: 0,
        flags,
        groups: 0,
        names: Vec::new(),
        depth: 0,
        ranges: 0,
        items: 0,
        folded: [const { None }; 128],
    };
    let (hir, _) = parser.alternation()?;
    if parser.at < pattern.len() {
        return Err(error("unexpected )", pattern));
    }
    Ok(Parsed { hir, names: parser.names })
}

#[derive(Clone, Copy, Default)]
struct Flags {
    fold_case: bool,
    multi_line: bool,
    dot_newline: bool,
    /// `(?U)`: `x*` takes as little as possible, `x*?` as much.
    lazy: bool,
}

struct Parser<'a> {
    pattern: &'a str,
    at: usize,
    flags: Flags,
    groups: u32,
    names: Vec<(String, usize)>,
    depth: usize,
    /// Ranges of named classes so far.
    ranges: usize,
    /// Items so far that count against [`MAX_ITEMS`].
    items: usize,
    /// What ASCII characters are when capitals and small letters are the same: looking that up takes longer than all else.
    folded: [Option<Hir>; 128],
}

fn error(what: &str, text: &str) -> RegexError {
    RegexError { message: format!("error parsing regexp: {what}: `{text}`") }
}

/// An item, and how often it repeats what is within it at most.
type Item = (Hir, u32);

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.pattern[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, text: &str) -> bool {
        let ok = self.rest().starts_with(text);
        self.at += if ok { text.len() } else { 0 };
        ok
    }

    fn alternation(&mut self) -> Result<Item, RegexError> {
        let (first, mut repeats) = self.concatenation()?;
        let mut branches = vec![first];
        while self.accept("|") {
            let (branch, r) = self.concatenation()?;
            branches.push(branch);
            repeats = repeats.max(r);
        }
        Ok((Hir::alternation(branches), repeats))
    }

    fn concatenation(&mut self) -> Result<Item, RegexError> {
        let mut items: Vec<Item> = Vec::new();
        // Where the repetition began that ended just here.
        let mut repetition: Option<usize> = None;
        while let Some(c) = self.peek() {
            let start = self.at;
            let before = repetition.take();
            let counts = if c.is_alphabetic() {
                self.flags.fold_case
            } else {
                !matches!(c, '|' | ')' | '-' | '0'..='9')
            };
            self.items += usize::from(counts);
            if self.items > MAX_ITEMS {
                return Err(super::too_large(self.pattern));
            }
            match c {
                '|' | ')' => break,
                '*' | '+' | '?' => {
                    self.at += 1;
                    let (min, max) = match c {
                        '*' => (0, None),
                        '+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    self.repeat(&mut items, start, before, min, max)?;
                    repetition = Some(start);
                }
                '{' => match self.counts()? {
                    Some((min, max)) => {
                        self.repeat(&mut items, start, before, min, max)?;
                        repetition = Some(start);
                    }
                    None => {
                        self.at += 1;
                        items.push((self.literal('{'), 1));
                    }
                },
                '(' => items.extend(self.group()?),
                '\\' if self.accept("\\Q") => {
                    let rest = self.rest();
                    let (text, skipped) = match rest.find("\\E") {
                        Some(end) => (&rest[..end], end + 2),
                        None => (rest, rest.len()),
                    };
                    self.at += skipped;
                    items.extend(text.chars().map(|c| (self.literal(c), 1)));
                }
                _ => items.push((self.atom(c)?, 1)),
            }
        }
        let repeats = items.iter().map(|(_, r)| *r).max().unwrap_or(1);
        Ok((Hir::concat(items.into_iter().map(|(hir, _)| hir).collect()), repeats))
    }

    /// What stands for itself, or for one character, or for a place.
    fn atom(&mut self, c: char) -> Result<Hir, RegexError> {
        let look = match c {
            '^' if self.flags.multi_line => Look::StartLF,
            '^' => Look::Start,
            '$' if self.flags.multi_line => Look::EndLF,
            '$' => Look::End,
            '.' => {
                self.at += 1;
                let mut class = ranges(&[('\0', char::MAX)]);
                if !self.flags.dot_newline {
                    class = ranges(&[('\0', '\t'), ('\x0b', char::MAX)]);
                }
                return Ok(Hir::class(Class::Unicode(class)));
            }
            '[' => return self.class(),
            '\\' => return self.escaped(),
            _ => {
                self.at += c.len_utf8();
                return Ok(self.literal(c));
            }
        };
        self.at += 1;
        Ok(Hir::look(look))
    }

    fn escaped(&mut self) -> Result<Hir, RegexError> {
        let look = match self.rest().as_bytes().get(1) {
            Some(b'A') => Some(Look::Start),
            Some(b'z') => Some(Look::End),
            Some(b'b') => Some(Look::WordAscii),
            Some(b'B') => Some(Look::WordAsciiNegate),
            _ => None,
        };
        if let Some(look) = look {
            self.at += 2;
            return Ok(Hir::look(look));
        }
        if let Some(class) = self.named_class()? {
            return Ok(Hir::class(Class::Unicode(class)));
        }
        let c = self.escape()?;
        Ok(self.literal(c))
    }

    fn literal(&mut self, c: char) -> Hir {
        if !self.flags.fold_case {
            return Hir::literal(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        if let Some(Some(known)) = self.folded.get(c as usize) {
            return known.clone();
        }
        let hir = Hir::class(Class::Unicode(self.folded(ranges(&[(c, c)]))));
        if let Some(slot) = self.folded.get_mut(c as usize) {
            *slot = Some(hir.clone());
        }
        hir
    }

    fn folded(&self, mut class: ClassUnicode) -> ClassUnicode {
        if self.flags.fold_case {
            class.case_fold_simple();
        }
        class
    }

    /// Repeats the last item. `start` is where the operator stands, `before` where the one right in front of it began.
    fn repeat(
        &mut self,
        items: &mut Vec<Item>,
        start: usize,
        before: Option<usize>,
        min: u32,
        max: Option<u32>,
    ) -> Result<(), RegexError> {
        let counted = self.at;
        let greedy = self.accept("?") == self.flags.lazy;
        if let Some(before) = before {
            return Err(error("invalid nested repetition operator", &self.pattern[before..self.at]));
        }
        let Some((sub, within)) = items.pop() else {
            return Err(error("missing argument to repetition operator", &self.pattern[start..self.at]));
        };
        let most = max.unwrap_or(min);
        let repeats = if most == 0 { 1 } else { within.saturating_mul(most) };
        if most >= 2 && repeats > MAX_REPEAT {
            return Err(error("invalid repeat count", &self.pattern[start..counted]));
        }
        items.push((Hir::repetition(Repetition { min, max, greedy, sub: Box::new(sub) }), repeats));
        Ok(())
    }

    /// `{2}`, `{2,}` or `{2,5}`, taken; `None` if it is something else, and so a literal brace.
    fn counts(&mut self) -> Result<Option<(u32, Option<u32>)>, RegexError> {
        let Some(end) = self.rest().find('}') else { return Ok(None) };
        let whole = &self.rest()[..=end];
        let inner = &whole[1..end];
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let plain = digits && (text.len() == 1 || !text.starts_with('0'));
            // A number too large to hold is too large in any case.
            plain.then(|| text.parse::<u32>().unwrap_or(u32::MAX))
        };
        let (min, max) = match inner.split_once(',') {
            None => (number(inner), number(inner).map(Some)),
            Some((min, "")) => (number(min), Some(None)),
            Some((min, max)) => (number(min), number(max).map(Some)),
        };
        let (Some(min), Some(max)) = (min, max) else { return Ok(None) };
        if min > MAX_REPEAT || max.is_some_and(|max| max > MAX_REPEAT || max < min) {
            return Err(error("invalid repeat count", whole));
        }
        self.at += whole.len();
        Ok(Some((min, max)))
    }

    /// A group, or flags for what follows (then there is no item).
    fn group(&mut self) -> Result<Option<Item>, RegexError> {
        let start = self.at;
        let outside = self.flags;
        let mut capture = None;
        if self.rest().starts_with("(?P<") || self.rest().starts_with("(?<") {
            capture = Some(self.capture_name()?);
        } else if self.accept("(?") {
            if !self.group_flags(start)? {
                return Ok(None);
            }
        } else {
            self.at += 1;
            capture = Some(None);
        }
        let index = capture.as_ref().map(|name| {
            self.groups += 1;
            if let Some(name) = name {
                self.names.push((name.to_string(), self.groups as usize));
            }
            self.groups
        });
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(error("expression nests too deeply", &super::shortened(self.pattern)));
        }
        let (hir, repeats) = self.alternation()?;
        self.depth -= 1;
        if !self.accept(")") {
            return Err(error("missing closing )", self.pattern));
        }
        self.flags = outside;
        let hir = match index {
            Some(index) => Hir::capture(Capture { index, name: None, sub: Box::new(hir) }),
            None => hir,
        };
        Ok(Some((hir, repeats)))
    }

    /// `(?P<name>` or `(?<name>`.
    fn capture_name(&mut self) -> Result<Option<String>, RegexError> {
        let open = self.rest().find('<').map_or(0, |i| i + 1);
        // What looks behind, `(?<=`, is no name.
        if matches!(self.rest().as_bytes().get(open), Some(b'=' | b'!')) && open == 3 {
            return Err(error("invalid or unsupported Perl syntax", &self.rest()[..=open]));
        }
        let Some(end) = self.rest().find('>') else {
            return Err(error("invalid named capture", self.rest()));
        };
        let name = &self.rest()[open..end];
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(error("invalid named capture", &self.rest()[..=end]));
        }
        self.at += end + 1;
        Ok(Some(name.to_owned()))
    }

    /// Flags behind `(?`; true if a group follows (`:`), false if they hold from here on (`)`).
    fn group_flags(&mut self, start: usize) -> Result<bool, RegexError> {
        let mut flags = self.flags;
        let (mut on, mut any) = (true, false);
        loop {
            match self.take() {
                Some('i') => flags.fold_case = on,
                Some('m') => flags.multi_line = on,
                Some('s') => flags.dot_newline = on,
                Some('U') => flags.lazy = on,
                Some('-') if on => {
                    on = false;
                    any = false;
                    continue;
                }
                Some(c @ (':' | ')')) if on || any => {
                    self.flags = flags;
                    return Ok(c == ':');
                }
                _ => return Err(error("invalid or unsupported Perl syntax", &self.pattern[start..self.at])),
            }
            any = true;
        }
    }

    /// `\d` and the like, `\pL`, `\p{Greek}`: taken if there is one.
    fn named_class(&mut self) -> Result<Option<ClassUnicode>, RegexError> {
        let rest = self.rest();
        let mut chars = rest.chars().skip(1);
        let Some(letter) = chars.next() else { return Ok(None) };
        if let Some(class) = perl(letter) {
            self.at += 2;
            return Ok(Some(class));
        }
        if !matches!(letter, 'p' | 'P') {
            return Ok(None);
        }
        let invalid = |text: &str| error("invalid character class range", text);
        let (whole, name) = match chars.next() {
            Some('{') => {
                let end = rest.find('}').ok_or_else(|| invalid(rest))?;
                (&rest[..=end], &rest[3..end])
            }
            Some(c) => (&rest[..2 + c.len_utf8()], &rest[2..2 + c.len_utf8()]),
            None => return Err(invalid(rest)),
        };
        let (caret, name) = name.strip_prefix('^').map_or((false, name), |n| (true, n));
        let class = unicode(name).ok_or_else(|| invalid(whole))?;
        self.ranges += class.ranges().len() * if self.flags.fold_case { FOLDED_RANGE } else { 1 };
        if self.ranges > MAX_RANGES {
            return Err(super::too_large(self.pattern));
        }
        let mut class = self.folded(class);
        if caret != (letter == 'P') {
            class.negate();
        }
        self.at += whole.len();
        Ok(Some(class))
    }

    /// One character behind a backslash.
    fn escape(&mut self) -> Result<char, RegexError> {
        let start = self.at;
        self.at += 1;
        let Some(c) = self.take() else {
            return Err(error("trailing backslash at end of expression", ""));
        };
        let octal = |b: Option<&u8>| b.is_some_and(|b| (b'0'..=b'7').contains(b));
        match c {
            '0'..='7' if c == '0' || octal(self.rest().as_bytes().first()) => {
                let mut value = u32::from(c) - u32::from('0');
                for _ in 0..2 {
                    if !octal(self.rest().as_bytes().first()) {
                        break;
                    }
                    value = value * 8 + u32::from(self.rest().as_bytes()[0] - b'0');
                    self.at += 1;
                }
                return char::from_u32(value).ok_or_else(|| self.bad_escape(start));
            }
            'x' => return self.hex_escape(start),
            'a' => return Ok('\x07'),
            'f' => return Ok('\x0c'),
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            'v' => return Ok('\x0b'),
            _ if c.is_ascii() && !c.is_ascii_alphanumeric() => return Ok(c),
            _ => {}
        }
        Err(self.bad_escape(start))
    }

    fn bad_escape(&self, start: usize) -> RegexError {
        error("invalid escape sequence", &self.pattern[start..self.at])
    }

    /// `\x7F` or `\x{10FFFF}`, up to the digits.
    fn hex_escape(&mut self, start: usize) -> Result<char, RegexError> {
        let mut value = 0u32;
        let mut digits = 0;
        let braces = self.accept("{");
        loop {
            match self.take().map(|c| (c, c.to_digit(16))) {
                Some((_, Some(digit))) => {
                    value = value * 16 + digit;
                    digits += 1;
                    if value > u32::from(char::MAX) {
                        return Err(self.bad_escape(start));
                    }
                    if !braces && digits == 2 {
                        break;
                    }
                }
                Some(('}', None)) if braces && digits > 0 => break,
                _ => return Err(self.bad_escape(start)),
            }
        }
        // A surrogate is no character of its own in UTF-8.
        char::from_u32(value).ok_or_else(|| self.bad_escape(start))
    }

    /// `[…]`
    fn class(&mut self) -> Result<Hir, RegexError> {
        let start = self.at;
        self.at += 1;
        let negated = self.accept("^");
        let mut class = ClassUnicode::empty();
        let mut first = true;
        while first || self.peek() != Some(']') {
            first = false;
            if self.rest().starts_with("[:")
                && let Some(length) = self.rest()[2..].find(":]")
            {
                let whole = &self.rest()[..length + 4];
                let named = posix(&whole[2..length + 2])
                    .ok_or_else(|| error("invalid character class range", whole))?;
                class.union(&self.folded(named));
                self.at += whole.len();
                continue;
            }
            if self.peek() == Some('\\')
                && let Some(named) = self.named_class()?
            {
                class.union(&named);
                continue;
            }
            let range = self.at;
            let low = self.class_char(start)?;
            let mut high = low;
            if self.rest().starts_with('-') && self.rest().len() >= 2 && !self.rest().starts_with("-]") {
                self.at += 1;
                high = self.class_char(start)?;
                if high < low {
                    return Err(error("invalid character class range", &self.pattern[range..self.at]));
                }
            }
            class.push(ClassUnicodeRange::new(low, high));
        }
        self.at += 1;
        let mut class = self.folded(class);
        if negated {
            class.negate();
        }
        Ok(Hir::class(Class::Unicode(class)))
    }

    fn class_char(&mut self, start: usize) -> Result<char, RegexError> {
        match self.peek() {
            None => Err(error("missing closing ]", &self.pattern[start..])),
            Some('\\') => self.escape(),
            Some(c) => {
                self.at += c.len_utf8();
                Ok(c)
            }
        }
    }
}
