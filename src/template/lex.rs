//! From text to tokens.

/// What a token is. Keywords have a kind of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `value` is the reason.
    Error,
    Eof,
    Text,
    LeftDelim,
    RightDelim,
    LeftParen,
    RightParen,
    Space,
    Pipe,
    /// `=`
    Assign,
    /// `:=`
    Declare,
    /// Any other printable ASCII character.
    Char,
    CharConstant,
    Bool,
    Number,
    String,
    RawString,
    Identifier,
    /// With its dot.
    Field,
    /// With its dollar sign.
    Variable,
    Dot,
    Nil,
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Range,
    Template,
    With,
}

impl Kind {
    fn is_keyword(self) -> bool {
        matches!(
            self,
            Kind::Dot
                | Kind::Nil
                | Kind::Block
                | Kind::Break
                | Kind::Continue
                | Kind::Define
                | Kind::Else
                | Kind::End
                | Kind::If
                | Kind::Range
                | Kind::Template
                | Kind::With
        )
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub kind: Kind,
    pub pos: usize,
    pub value: String,
}

/// As Go's parser shows a token in an error.
impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Kind::Eof => f.write_str("EOF"),
            Kind::Error => f.write_str(&self.value),
            k if k.is_keyword() => write!(f, "<{}>", self.value),
            _ if self.value.chars().count() > 10 => {
                write!(f, "{:?}...", self.value.chars().take(10).collect::<String>())
            }
            _ => write!(f, "{:?}", self.value),
        }
    }
}

/// Splits `text` into tokens; the last one is [`Kind::Eof`] or [`Kind::Error`]. Comments are left out.
pub(super) fn lex(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { text, pos: 0, tokens: Vec::new(), parens: 0 };
    match lexer.text_and_actions() {
        Ok(()) => lexer.push(Kind::Eof, text.len(), text.len()),
        Err((pos, reason)) => lexer.tokens.push(Token { kind: Kind::Error, pos, value: reason }),
    }
    lexer.tokens
}

struct Lexer<'a> {
    text: &'a str,
    pos: usize,
    tokens: Vec<Token>,
    parens: usize,
}

type Failure = (usize, String);

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Go's `%#U`.
fn code_point(c: char) -> String {
    format!("U+{:04X} '{c}'", u32::from(c))
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn push(&mut self, kind: Kind, from: usize, to: usize) {
        self.tokens.push(Token { kind, pos: from, value: self.text[from..to].to_owned() });
    }

    fn text_and_actions(&mut self) -> Result<(), Failure> {
        let mut trim_left = false;
        loop {
            let start = self.pos;
            let open = self.rest().find("{{");
            let end = open.map_or(self.text.len(), |i| start + i);
            let mut shown = &self.text[start..end];
            let mut from = start;
            if trim_left {
                let trimmed = shown.trim_start_matches(is_space);
                from += shown.len() - trimmed.len();
                shown = trimmed;
            }
            let after_delim = end + 2;
            let trim_right = open.is_some()
                && self.text[after_delim..].starts_with('-')
                && self.text[after_delim + 1..].starts_with(is_space);
            if trim_right {
                shown = shown.trim_end_matches(is_space);
            }
            if !shown.is_empty() {
                self.push(Kind::Text, from, from + shown.len());
            }
            if open.is_none() {
                self.pos = self.text.len();
                return Ok(());
            }
            let inside = after_delim + if trim_right { 2 } else { 0 };
            if self.text[inside..].starts_with("/*") {
                trim_left = self.comment(inside)?;
                continue;
            }
            self.push(Kind::LeftDelim, end, after_delim);
            self.pos = after_delim + usize::from(trim_right);
            self.parens = 0;
            trim_left = self.action()?;
        }
    }

    /// Skips a comment that begins at `start`; says whether the text after it is trimmed.
    fn comment(&mut self, start: usize) -> Result<bool, Failure> {
        let close = self.text[start..].find("*/").ok_or_else(|| (start, "unclosed comment".to_owned()))?;
        self.pos = start + close + 2;
        match self.right_delim() {
            Some((length, trim)) => {
                self.pos += length;
                Ok(trim)
            }
            None => Err((self.pos, "comment ends before closing delimiter".to_owned())),
        }
    }

    /// The length of a right delimiter here, and whether it trims.
    fn right_delim(&self) -> Option<(usize, bool)> {
        let rest = self.rest();
        if rest.starts_with(is_space) && rest[1..].starts_with("-}}") {
            return Some((4, true));
        }
        rest.starts_with("}}").then_some((2, false))
    }

    /// Tokens up to the right delimiter; says whether the text after it is trimmed.
    fn action(&mut self) -> Result<bool, Failure> {
        loop {
            if let Some((length, trim)) = self.right_delim() {
                if self.parens > 0 {
                    return Err((self.pos, "unclosed left paren".to_owned()));
                }
                let start = self.pos + length - 2;
                self.pos += length;
                self.push(Kind::RightDelim, start, self.pos);
                return Ok(trim);
            }
            let start = self.pos;
            let Some(c) = self.peek() else { return Err((start, "unclosed action".to_owned())) };
            self.pos += c.len_utf8();
            match c {
                c if is_space(c) => {
                    // The space of a trimming right delimiter belongs to that.
                    while self.peek().is_some_and(is_space) && self.right_delim().is_none() {
                        self.pos += 1;
                    }
                    self.push(Kind::Space, start, self.pos);
                }
                '=' => self.push(Kind::Assign, start, self.pos),
                ':' => {
                    if self.peek() != Some('=') {
                        return Err((start, "expected :=".to_owned()));
                    }
                    self.pos += 1;
                    self.push(Kind::Declare, start, self.pos);
                }
                '|' => self.push(Kind::Pipe, start, self.pos),
                '"' => self.quoted(start, '"', Kind::String, "unterminated quoted string")?,
                '\'' => self.quoted(start, '\'', Kind::CharConstant, "unterminated character constant")?,
                '`' => {
                    let end = self
                        .rest()
                        .find('`')
                        .ok_or_else(|| (start, "unterminated raw quoted string".to_owned()))?;
                    self.pos += end + 1;
                    self.push(Kind::RawString, start, self.pos);
                }
                '$' => self.field_or_variable(start, Kind::Variable)?,
                '.' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => {
                    self.field_or_variable(start, Kind::Field)?;
                }
                '.' | '+' | '-' | '0'..='9' => {
                    self.pos = start;
                    self.number()?;
                }
                c if is_alphanumeric(c) => {
                    self.pos = start;
                    self.identifier()?;
                }
                '(' => {
                    self.parens += 1;
                    self.push(Kind::LeftParen, start, self.pos);
                }
                ')' => {
                    if self.parens == 0 {
                        return Err((start, "unexpected right paren".to_owned()));
                    }
                    self.parens -= 1;
                    self.push(Kind::RightParen, start, self.pos);
                }
                c if c.is_ascii_graphic() => self.push(Kind::Char, start, self.pos),
                c => return Err((start, format!("unrecognized character in action: {}", code_point(c)))),
            }
        }
    }

    fn quoted(&mut self, start: usize, quote: char, kind: Kind, unterminated: &str) -> Result<(), Failure> {
        loop {
            let c = self.peek();
            self.pos += c.map_or(0, char::len_utf8);
            match c {
                Some('\\') => match self.peek() {
                    Some(c) if c != '\n' => self.pos += c.len_utf8(),
                    _ => return Err((start, unterminated.to_owned())),
                },
                None | Some('\n') => return Err((start, unterminated.to_owned())),
                Some(c) if c == quote => break,
                Some(_) => {}
            }
        }
        self.push(kind, start, self.pos);
        Ok(())
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None => true,
            Some(c) => {
                is_space(c) || matches!(c, '.' | ',' | '|' | ':' | ')' | '(') || self.rest().starts_with("}}")
            }
        }
    }

    fn must_end_here(&self) -> Result<(), Failure> {
        match self.peek() {
            Some(c) if !self.at_terminator() => Err((self.pos, format!("bad character {}", code_point(c)))),
            _ => Ok(()),
        }
    }

    fn skip_word(&mut self) {
        while let Some(c) = self.peek().filter(|c| is_alphanumeric(*c)) {
            self.pos += c.len_utf8();
        }
    }

    fn field_or_variable(&mut self, start: usize, kind: Kind) -> Result<(), Failure> {
        if self.at_terminator() {
            let alone = if kind == Kind::Variable { Kind::Variable } else { Kind::Dot };
            self.push(alone, start, self.pos);
            return Ok(());
        }
        self.skip_word();
        self.must_end_here()?;
        self.push(kind, start, self.pos);
        Ok(())
    }

    fn identifier(&mut self) -> Result<(), Failure> {
        let start = self.pos;
        self.skip_word();
        self.must_end_here()?;
        let kind = match &self.text[start..self.pos] {
            "true" | "false" => Kind::Bool,
            "nil" => Kind::Nil,
            "block" => Kind::Block,
            "break" => Kind::Break,
            "continue" => Kind::Continue,
            "define" => Kind::Define,
            "else" => Kind::Else,
            "end" => Kind::End,
            "if" => Kind::If,
            "range" => Kind::Range,
            "template" => Kind::Template,
            "with" => Kind::With,
            _ => Kind::Identifier,
        };
        self.push(kind, start, self.pos);
        Ok(())
    }

    fn number(&mut self) -> Result<(), Failure> {
        let start = self.pos;
        let bytes = self.text.as_bytes();
        let accept = |pos: &mut usize, set: &str| {
            let ok = bytes.get(*pos).is_some_and(|b| set.as_bytes().contains(b));
            *pos += usize::from(ok);
            ok
        };
        let accept_run = |pos: &mut usize, set: &str| {
            while bytes.get(*pos).is_some_and(|b| set.as_bytes().contains(b)) {
                *pos += 1;
            }
        };
        let pos = &mut self.pos;
        accept(pos, "+-");
        let mut digits = "0123456789_";
        if accept(pos, "0") {
            if accept(pos, "xX") {
                digits = "0123456789abcdefABCDEF_";
            } else if accept(pos, "oO") {
                digits = "01234567_";
            } else if accept(pos, "bB") {
                digits = "01_";
            }
        }
        accept_run(pos, digits);
        if accept(pos, ".") {
            accept_run(pos, digits);
        }
        if (digits.len() == 11 && accept(pos, "eE")) || (digits.len() == 23 && accept(pos, "pP")) {
            accept(pos, "+-");
            accept_run(pos, "0123456789_");
        }
        // What follows a number must not continue it; `1+2i`, a complex number, is of no use in templates.
        if let Some(c) = self.peek().filter(|c| is_alphanumeric(*c) || matches!(c, '+' | '-')) {
            self.pos += c.len_utf8();
            return Err((start, format!("bad number syntax: {:?}", &self.text[start..self.pos])));
        }
        self.push(Kind::Number, start, self.pos);
        Ok(())
    }
}
