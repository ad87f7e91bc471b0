//! Text to tokens.
//!
//! The language's lexer has modes: within braces every word is a label name, within brackets stand durations. They
//! depend on the tokens before alone, so the whole text is cut at once; a fault becomes the last token, and counts
//! only if the parser gets that far.

use super::ast::Pos;

/// What a token is. Words of the language keep their own kind although most of them may also name a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Eof,
    Error,
    Identifier,
    /// A word with a colon in it: only ever a metric name.
    MetricIdentifier,
    Number,
    Duration,
    String,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=` between a label and its value.
    Assign,
    // Operators.
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    RegexMatch,
    RegexNotMatch,
    TrimUpper,
    TrimLower,
    At,
    And,
    Or,
    Unless,
    Atan2,
    // Aggregations.
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    TopK,
    BottomK,
    CountValues,
    Quantile,
    LimitK,
    LimitRatio,
    // Keywords.
    Offset,
    Smoothed,
    Anchored,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Bool,
    // Words that are functions as well.
    Start,
    End,
    Step,
    Range,
    MinOf,
    MaxOf,
}

/// How a kind is called in errors.
#[derive(PartialEq, Eq)]
enum Class {
    Keyword,
    Operator,
    Aggregation,
    Punctuation,
    /// With the name in front of the text.
    Named(&'static str),
}

impl Kind {
    fn word(lower: &str) -> Option<Kind> {
        use Kind::*;
        Some(match lower {
            "and" => And,
            "or" => Or,
            "unless" => Unless,
            "atan2" => Atan2,
            "sum" => Sum,
            "avg" => Avg,
            "count" => Count,
            "min" => Min,
            "max" => Max,
            "group" => Group,
            "stddev" => Stddev,
            "stdvar" => Stdvar,
            "topk" => TopK,
            "bottomk" => BottomK,
            "count_values" => CountValues,
            "quantile" => Quantile,
            "limitk" => LimitK,
            "limit_ratio" => LimitRatio,
            "offset" => Offset,
            "smoothed" => Smoothed,
            "anchored" => Anchored,
            "by" => By,
            "without" => Without,
            "on" => On,
            "ignoring" => Ignoring,
            "group_left" => GroupLeft,
            "group_right" => GroupRight,
            "fill" => Fill,
            "fill_left" => FillLeft,
            "fill_right" => FillRight,
            "bool" => Bool,
            "start" => Start,
            "end" => End,
            "step" => Step,
            "range" => Range,
            "min_of" => MinOf,
            "max_of" => MaxOf,
            "inf" | "nan" => Number,
            _ => return None,
        })
    }

    fn class(self) -> Class {
        use Kind::*;
        match self {
            Eof => Class::Named("end of input"),
            Error => Class::Named("error"),
            Identifier => Class::Named("identifier"),
            MetricIdentifier => Class::Named("metric identifier"),
            Number => Class::Named("number"),
            Duration => Class::Named("duration"),
            String => Class::Named("string"),
            LeftParen | RightParen | LeftBrace | RightBrace | LeftBracket | RightBracket | Comma | Colon
            | Assign | Start | End | Step | Range | MinOf | MaxOf => Class::Punctuation,
            Add | Sub | Mul | Div | Mod | Pow | Equal | NotEqual | Less | LessEqual | Greater
            | GreaterEqual | RegexMatch | RegexNotMatch | TrimUpper | TrimLower | At | And | Or | Unless
            | Atan2 => Class::Operator,
            Offset | Smoothed | Anchored | By | Without | On | Ignoring | GroupLeft | GroupRight | Fill
            | FillLeft | FillRight | Bool => Class::Keyword,
            _ => Class::Aggregation,
        }
    }

    /// Whether this is an aggregation such as `sum`.
    pub fn is_aggregation(self) -> bool {
        self.class() == Class::Aggregation
    }

    /// Whether a metric may have this token as its name.
    pub fn is_metric_name(self) -> bool {
        use Kind::*;
        self.is_aggregation()
            || matches!(
                self,
                Identifier
                    | MetricIdentifier
                    | And
                    | Or
                    | Unless
                    | By
                    | Without
                    | Offset
                    | Anchored
                    | Smoothed
                    | Start
                    | End
                    | Step
                    | Range
                    | MinOf
                    | MaxOf
            )
    }

    /// Whether a label in a list (`by (…)`, `on (…)`) may have this token as its name.
    pub fn is_label_name(self) -> bool {
        use Kind::*;
        self.is_metric_name()
            || matches!(
                self,
                Bool | On | Ignoring | GroupLeft | GroupRight | Atan2 | Fill | FillLeft | FillRight
            )
    }
}

/// A piece of the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub kind: Kind,
    pub pos: Pos,
}

/// The tokens of a text; the last one is [`Kind::Eof`] or [`Kind::Error`].
pub struct Tokens {
    pub tokens: Vec<Token>,
    /// What is wrong, if the last token is an error.
    pub error: String,
}

/// Cuts `text` into tokens.
pub fn tokenize(text: &str) -> Tokens {
    let mut lexer =
        Lexer { text, at: 0, start: 0, tokens: Vec::new(), parens: 0, bracket: None, in_braces: false };
    let error = lexer.run().err().unwrap_or_default();
    if !error.is_empty() {
        lexer.tokens.push(Token { kind: Kind::Error, pos: lexer.start..text.len() });
    }
    Tokens { tokens: lexer.tokens, error }
}

/// How the token reads in an error: `identifier "foo"`, `<op:+>`, `"("`, `end of input`.
pub fn describe(token: &Token, text: &str) -> String {
    let value = text.get(token.pos.clone()).unwrap_or_default();
    match token.kind.class() {
        Class::Keyword => format!("<{value}>"),
        Class::Operator => format!("<op:{value}>"),
        Class::Aggregation => format!("<aggr:{value}>"),
        Class::Punctuation => shortened(value),
        Class::Named(name) => match token.kind {
            Kind::Eof => name.to_owned(),
            Kind::Identifier | Kind::MetricIdentifier => format!("{name} {}", super::quote::quoted(value)),
            _ => format!("{name} {}", shortened(value)),
        },
    }
}

/// In quotes, cut after ten characters.
fn shortened(value: &str) -> String {
    if value.len() > 10 {
        let head: String = value.chars().take(10).collect();
        format!("{}...", super::quote::quoted(&head))
    } else {
        super::quote::quoted(value)
    }
}

/// Within brackets: what has been seen so far.
#[derive(Clone, Copy, Default)]
struct Bracket {
    /// A number or duration.
    duration: bool,
    colon: bool,
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Where the current token begins.
    start: usize,
    tokens: Vec<Token>,
    parens: usize,
    bracket: Option<Bracket>,
    in_braces: bool,
}

type Step = Result<(), String>;

impl Lexer<'_> {
    fn run(&mut self) -> Step {
        while self.next_token()? {}
        Ok(())
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn peek_byte(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    fn emit(&mut self, kind: Kind, len: usize) {
        self.at += len;
        self.tokens.push(Token { kind, pos: self.start..self.at });
        self.start = self.at;
    }

    /// Cuts off one token (or blank, or comment); `false` at the end.
    fn next_token(&mut self) -> Result<bool, String> {
        self.start = self.at;
        let Some(c) = self.peek() else {
            return self.end().map(|()| false);
        };
        if matches!(c, ' ' | '\t' | '\n' | '\r') {
            self.at += 1;
            return Ok(true);
        }
        if c == '#' {
            let rest = &self.text[self.at..];
            self.at += rest.find(['\n', '\r']).unwrap_or(rest.len());
            return Ok(true);
        }
        if self.in_braces {
            self.in_braces_token(c)?;
        } else if self.bracket.is_some() {
            self.in_brackets_token(c)?;
        } else {
            self.token(c)?;
        }
        Ok(true)
    }

    fn end(&mut self) -> Step {
        if self.in_braces {
            return Err("unexpected end of input inside braces".into());
        }
        if self.bracket.is_some_and(|b| !b.duration) {
            return Err("unexpected end of input in duration expression".into());
        }
        if self.parens != 0 {
            return Err("unclosed left parenthesis".into());
        }
        if self.bracket.is_some() {
            return Err("unclosed left bracket".into());
        }
        self.emit(Kind::Eof, 0);
        Ok(())
    }

    fn token(&mut self, c: char) -> Step {
        match c {
            '{' => {
                self.emit(Kind::LeftBrace, 1);
                self.in_braces = true;
            }
            '[' => {
                self.emit(Kind::LeftBracket, 1);
                self.bracket = Some(Bracket::default());
            }
            ']' => return Err("unexpected right bracket ']'".into()),
            '@' => self.emit(Kind::At, 1),
            '=' => match self.peek_byte(1) {
                b'=' => self.emit(Kind::Equal, 2),
                b'~' => return Err("unexpected character after '=': '~'".into()),
                _ => self.emit(Kind::Assign, 1),
            },
            '!' => match self.text[self.at + 1..].chars().next() {
                Some('=') => self.emit(Kind::NotEqual, 2),
                other => return Err(format!("unexpected character after '!': {}", go_char(other))),
            },
            '<' => match self.peek_byte(1) {
                b'=' => self.emit(Kind::LessEqual, 2),
                b'/' => self.emit(Kind::TrimUpper, 2),
                _ => self.emit(Kind::Less, 1),
            },
            '>' => match self.peek_byte(1) {
                b'=' => self.emit(Kind::GreaterEqual, 2),
                b'/' => self.emit(Kind::TrimLower, 2),
                _ => self.emit(Kind::Greater, 1),
            },
            '"' | '\'' => return self.string(c),
            '`' => return self.raw_string(),
            _ if is_alpha(c) || c == ':' => self.word(),
            _ if self.arithmetic(c)? => {}
            _ if self.number_ahead() => return self.number(),
            _ => return Err(format!("unexpected character: {}", go_char(Some(c)))),
        }
        Ok(())
    }

    /// What may stand within brackets as well as outside.
    fn arithmetic(&mut self, c: char) -> Result<bool, String> {
        let kind = match c {
            '+' => Kind::Add,
            '-' => Kind::Sub,
            '*' => Kind::Mul,
            '/' => Kind::Div,
            '%' => Kind::Mod,
            '^' => Kind::Pow,
            ',' => Kind::Comma,
            '(' => {
                self.parens += 1;
                Kind::LeftParen
            }
            ')' => {
                let Some(parens) = self.parens.checked_sub(1) else {
                    // The place is behind the parenthesis, as upstream.
                    self.start += 1;
                    return Err("unexpected right parenthesis ')'".into());
                };
                self.parens = parens;
                Kind::RightParen
            }
            _ => return Ok(false),
        };
        self.emit(kind, 1);
        Ok(true)
    }

    fn in_brackets_token(&mut self, c: char) -> Step {
        let bracket = self.bracket.unwrap_or_default();
        match c {
            ']' => {
                self.emit(Kind::RightBracket, 1);
                self.bracket = None;
            }
            '[' => return Err("unexpected left bracket '['".into()),
            ':' if !bracket.duration => {
                self.start += 1;
                return Err("unexpected colon before duration in duration expression".into());
            }
            ':' => {
                if bracket.colon {
                    return Err("unexpected colon ':'".into());
                }
                self.emit(Kind::Colon, 1);
                self.bracket = Some(Bracket { colon: true, ..bracket });
            }
            _ if is_alpha(c) => {
                let len = self.text[self.at..].bytes().take_while(|b| is_alpha(char::from(*b))).count();
                let word = self.text[self.at..self.at + len].to_ascii_lowercase();
                match Kind::word(&word) {
                    Some(kind @ (Kind::Step | Kind::Range | Kind::MinOf | Kind::MaxOf)) => {
                        // A colon after `range()` or `step()` follows a duration too.
                        self.bracket = Some(Bracket { duration: true, ..bracket });
                        self.emit(kind, len);
                    }
                    _ if bracket.duration => {
                        return Err(format!("unexpected character: {}, expected ':'", go_char(Some(c))));
                    }
                    _ => return Err(unexpected_in_duration(c)),
                }
            }
            _ if self.arithmetic(c)? => {}
            _ if self.number_ahead() => {
                self.bracket = Some(Bracket { duration: true, ..bracket });
                return self.number();
            }
            // Behind a duration all tokens are known again, and the parser says which it expects.
            _ if bracket.duration => return self.token(c),
            _ => return Err(unexpected_in_duration(c)),
        }
        Ok(())
    }

    fn in_braces_token(&mut self, c: char) -> Step {
        match c {
            ',' => self.emit(Kind::Comma, 1),
            '"' | '\'' => return self.string(c),
            '`' => return self.raw_string(),
            '=' if self.peek_byte(1) == b'~' => self.emit(Kind::RegexMatch, 2),
            '=' => self.emit(Kind::Assign, 1),
            '!' => match self.text[self.at + 1..].chars().next() {
                Some('~') => self.emit(Kind::RegexNotMatch, 2),
                Some('=') => self.emit(Kind::NotEqual, 2),
                other => {
                    return Err(format!("unexpected character after '!' inside braces: {}", go_char(other)));
                }
            },
            '{' => return Err("unexpected left brace '{'".into()),
            '}' => {
                self.emit(Kind::RightBrace, 1);
                self.in_braces = false;
            }
            _ if is_alpha(c) => {
                let len = self.text[self.at..].bytes().take_while(|b| is_alphanumeric(*b)).count();
                self.emit(Kind::Identifier, len);
            }
            _ => return Err(format!("unexpected character inside braces: {}", go_char(Some(c)))),
        }
        Ok(())
    }

    fn word(&mut self) {
        let rest = &self.text[self.at..];
        let len = rest.bytes().take_while(|b| is_alphanumeric(*b) || *b == b':').count();
        let (word, tail) = rest.split_at(len);
        let kind = match Kind::word(&word.to_ascii_lowercase()) {
            // `fill` is a word of the language only in front of its value, so that a metric may be called so.
            Some(Kind::Fill | Kind::FillLeft | Kind::FillRight)
                if !tail.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('(') =>
            {
                Kind::Identifier
            }
            Some(kind) => kind,
            None if word.contains(':') => Kind::MetricIdentifier,
            None => Kind::Identifier,
        };
        self.emit(kind, len);
    }

    fn string(&mut self, quote: char) -> Step {
        self.at += 1;
        loop {
            let c = self.peek();
            self.at += c.map_or(0, char::len_utf8);
            match c {
                Some('\\') => self.escape(quote)?,
                None | Some('\n') => return Err("unterminated quoted string".into()),
                Some(c) if c == quote => break,
                Some(_) => {}
            }
        }
        self.emit(Kind::String, 0);
        Ok(())
    }

    fn raw_string(&mut self) -> Step {
        let Some(len) = self.text[self.at + 1..].find('`') else {
            return Err("unterminated raw string".into());
        };
        self.emit(Kind::String, len + 2);
        Ok(())
    }

    /// Checks the escape behind a backslash.
    fn escape(&mut self, quote: char) -> Step {
        let Some(c) = self.peek() else { return Err("escape sequence not terminated".into()) };
        self.at += c.len_utf8();
        let (mut digits, base, max) = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            _ if c == quote => return Ok(()),
            '0'..='7' => {
                self.at -= 1;
                (3, 8, 255)
            }
            'x' => (2, 16, 255),
            'u' => (4, 16, 0x10_ffff),
            'U' => (8, 16, 0x10_ffff),
            _ => return Err(format!("unknown escape sequence {}", unicode_char(c))),
        };
        let mut value = 0u32;
        while digits > 0 {
            let Some(c) = self.peek() else { return Err("escape sequence not terminated".into()) };
            let Some(digit) = c.to_digit(base) else {
                return Err(format!("illegal character {} in escape sequence", unicode_char(c)));
            };
            value = value.saturating_mul(base).saturating_add(digit);
            self.at += 1;
            digits -= 1;
        }
        if value > max || (0xd800..0xe000).contains(&value) {
            return Err("escape sequence is an invalid Unicode code point".into());
        }
        Ok(())
    }

    fn number_ahead(&self) -> bool {
        let first = self.peek_byte(0);
        first.is_ascii_digit() || (first == b'.' && self.peek_byte(1).is_ascii_digit())
    }

    fn number(&mut self) -> Step {
        if self.scan_number() {
            self.emit(Kind::Number, 0);
            return Ok(());
        }
        if self.scan_rest_of_duration() {
            self.emit(Kind::Duration, 0);
            return Ok(());
        }
        let bad = super::quote::quoted(&self.text[self.start..self.at]);
        Err(format!("bad number or duration syntax: {bad}"))
    }

    fn accept(&mut self, set: &[u8]) -> bool {
        let ok = self.text.as_bytes().get(self.at).is_some_and(|b| set.contains(b));
        self.at += usize::from(ok);
        ok
    }

    /// Takes digits, at most one dot and one exponent, and single underscores between digits; true if what follows
    /// is no letter or digit.
    fn scan_number(&mut self) -> bool {
        let hex = self.peek_byte(0) == b'0' && matches!(self.peek_byte(1), b'x' | b'X');
        if hex {
            self.at += 2;
            self.accept(b"_");
        }
        let is_digit = |b: u8| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() };
        let (mut dot, mut exponent) = (false, false);
        loop {
            let b = self.peek_byte(0);
            if is_digit(b) {
                self.at += 1;
            } else if b == b'.' {
                self.at += 1;
                if dot || hex || self.accept(b"_.") {
                    return false;
                }
                dot = true;
            } else if !hex && matches!(b, b'e' | b'E') {
                self.at += 1;
                if exponent {
                    return false;
                }
                exponent = true;
                self.accept(b"+-");
                if self.accept(b"._eE") || self.at == self.text.len() {
                    return false;
                }
            } else if b == b'_' {
                self.at += 1;
                if self.accept(b"._eE") || self.at == self.text.len() {
                    return false;
                }
            } else {
                return !is_alphanumeric(b);
            }
        }
    }

    /// After the digits of a number: a unit, then further digits with their units.
    fn scan_rest_of_duration(&mut self) -> bool {
        if !self.accept(b"smhdwy") {
            return false;
        }
        self.accept(b"s");
        while self.accept(b"0123456789") {
            while self.accept(b"0123456789") {}
            if !self.accept(b"smhdw") {
                return false;
            }
            self.accept(b"s");
        }
        // The character that does not fit belongs to the text that the error shows.
        let fits = !is_alphanumeric(self.peek_byte(0));
        self.at += usize::from(!fits);
        fits
    }
}

fn unexpected_in_duration(c: char) -> String {
    format!("unexpected character in duration expression: {}", go_char(Some(c)))
}

fn is_alpha(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_alphanumeric(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// A character as Go's `%q` prints it; the end of the text is U+FFFD.
fn go_char(c: Option<char>) -> String {
    match c.unwrap_or(char::REPLACEMENT_CHARACTER) {
        '\'' => r"'\''".into(),
        '"' => "'\"'".into(),
        c => {
            let quoted = super::quote::quoted(c.encode_utf8(&mut [0; 4]));
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

/// A character as Go's `%#U` prints it.
fn unicode_char(c: char) -> String {
    let code = u32::from(c);
    if c.is_control() { format!("U+{code:04X}") } else { format!("U+{code:04X} '{c}'") }
}
