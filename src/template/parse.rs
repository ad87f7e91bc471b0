//! From tokens to a tree. The grammar and its errors are those of Go's text/template/parse.

use std::collections::HashMap;
use std::sync::Arc;

use super::ast::{Command, Node, Operand, OperandKind, Pipe};
use super::builtins::{self, Functions};
use super::lex::{Kind, Token, lex};
use super::number::{self, Literal};
use super::value::TemplateError;

/// How deep blocks and parentheses may nest.
const DEPTH_MAX: usize = 100;

/// The longest text that is parsed, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// A parsed template, with those that it defines. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Template {
    pub(super) name: Arc<str>,
    pub(super) root: Arc<Body>,
    pub(super) defined: Arc<HashMap<String, Arc<Body>>>,
}

/// One tree, and the text that its positions are in.
#[derive(Debug)]
pub(super) struct Body {
    /// The file that the text is known by.
    pub file: Arc<str>,
    pub text: Arc<str>,
    pub nodes: Vec<Node>,
}

impl Template {
    /// Parses `text`; `name` stands in errors. `functions` says what it may call besides Go's builtins.
    ///
    /// # Errors
    /// The first thing that is wrong, as Go says it.
    pub fn parse(name: &str, text: &str, functions: &dyn Functions) -> Result<Template, TemplateError> {
        Self::parse_onto(name, text, functions, None)
    }

    /// As [`Template::parse`]; what `base` defines can be called too, and what `text` defines replaces it.
    ///
    /// # Errors
    /// The first thing that is wrong, as Go says it.
    pub fn parse_onto(
        name: &str,
        text: &str,
        functions: &dyn Functions,
        base: Option<&Template>,
    ) -> Result<Template, TemplateError> {
        let file: Arc<str> = name.into();
        let shared: Arc<str> = text.into();
        if text.len() > TEXT_BYTES_MAX {
            let reason = format!("the text is longer than {TEXT_BYTES_MAX} bytes");
            return Err(TemplateError::at(text, 0, format!("template: {name}:1: {reason}"), reason));
        }
        let mut parser = Parser {
            name,
            text,
            functions,
            tokens: lex(text),
            at: 0,
            variables: vec!["$".to_owned()],
            range_depth: 0,
            depth: 0,
            action_line: 0,
            defined: Vec::new(),
        };
        let nodes = parser.template()?;
        let body = |nodes| Arc::new(Body { file: file.clone(), text: shared.clone(), nodes });
        let mut defined = base.map(|b| (*b.defined).clone()).unwrap_or_default();
        for (n, nodes) in parser.defined {
            // As in Go, an empty definition does not replace one that says something.
            if !defined.contains_key(&n) || !is_empty(&nodes) {
                defined.insert(n, body(nodes));
            }
        }
        Ok(Template { name: file.clone(), root: body(nodes), defined: Arc::new(defined) })
    }
}

fn is_empty(nodes: &[Node]) -> bool {
    nodes.iter().all(|n| matches!(n, Node::Text(t) if t.trim().is_empty()))
}

struct Parser<'a> {
    name: &'a str,
    text: &'a str,
    functions: &'a dyn Functions,
    tokens: Vec<Token>,
    at: usize,
    variables: Vec<String>,
    range_depth: usize,
    depth: usize,
    /// The line of the action that is being parsed; 0 outside of actions.
    action_line: usize,
    defined: Vec<(String, Vec<Node>)>,
}

/// What ends a list of nodes.
enum Ender {
    End,
    Else,
}

impl Ender {
    fn as_str(&self) -> &'static str {
        match self {
            Ender::End => "{{end}}",
            Ender::Else => "{{else}}",
        }
    }
}

enum Item {
    Node(Node),
    Ender(Ender, usize),
    /// A comment or a definition.
    Nothing,
}

type Parsed<T> = Result<T, TemplateError>;

impl Parser<'_> {
    // Tokens.

    fn token(&self) -> &Token {
        // The last token is the end or an error, and stays.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> Kind {
        self.token().kind
    }

    fn next(&mut self) -> Token {
        let token = self.token().clone();
        self.at += 1;
        token
    }

    fn next_non_space(&mut self) -> Token {
        self.skip_space();
        self.next()
    }

    fn peek_non_space(&mut self) -> Kind {
        self.skip_space();
        self.peek()
    }

    fn skip_space(&mut self) {
        while self.peek() == Kind::Space {
            self.at += 1;
        }
    }

    fn line(&self, pos: usize) -> usize {
        self.text[..pos.min(self.text.len())].matches('\n').count() + 1
    }

    fn fail<T>(&self, pos: usize, reason: impl Into<String>) -> Parsed<T> {
        let reason = reason.into();
        let message = format!("template: {}:{}: {reason}", self.name, self.line(pos));
        Err(TemplateError::at(self.text, pos, message, reason))
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Parsed<T> {
        if token.kind == Kind::Error {
            let mut extra = String::new();
            if self.action_line != 0 && self.action_line != self.line(token.pos) {
                let about = if token.value.ends_with(" action") { "" } else { " in action" };
                extra = format!("{about} started at {}:{}", self.name, self.action_line);
            }
            return self.fail(token.pos, format!("{}{extra}", token.value));
        }
        self.fail(token.pos, format!("unexpected {token} in {context}"))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parsed<Token> {
        let token = self.next_non_space();
        if token.kind == kind { Ok(token) } else { self.unexpected(&token, context) }
    }

    fn deeper(&mut self, pos: usize) -> Parsed<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.fail(pos, format!("nested deeper than {DEPTH_MAX} levels"));
        }
        Ok(())
    }

    // Lists of nodes.

    fn template(&mut self) -> Parsed<Vec<Node>> {
        let mut nodes = Vec::new();
        while self.peek() != Kind::Eof {
            match self.item()? {
                Item::Node(n) => nodes.push(n),
                Item::Ender(e, pos) => return self.fail(pos, format!("unexpected {}", e.as_str())),
                Item::Nothing => {}
            }
        }
        Ok(nodes)
    }

    fn list(&mut self) -> Parsed<(Vec<Node>, Ender, usize)> {
        let mut nodes = Vec::new();
        while self.peek_non_space() != Kind::Eof {
            match self.item()? {
                Item::Node(n) => nodes.push(n),
                Item::Ender(e, pos) => return Ok((nodes, e, pos)),
                Item::Nothing => {}
            }
        }
        let pos = self.token().pos;
        self.fail(pos, "unexpected EOF")
    }

    fn item(&mut self) -> Parsed<Item> {
        let token = self.next_non_space();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text(token.value))),
            Kind::LeftDelim => {
                self.action_line = self.line(token.pos);
                let item = self.action();
                self.action_line = 0;
                item
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self) -> Parsed<Item> {
        let before = self.at;
        let token = self.next_non_space();
        Ok(match token.kind {
            Kind::If => {
                let (pipe, body, otherwise) = self.control("if", token.pos)?;
                Item::Node(Node::If { pipe, body, otherwise })
            }
            Kind::With => {
                let (pipe, body, otherwise) = self.control("with", token.pos)?;
                Item::Node(Node::With { pipe, body, otherwise })
            }
            Kind::Range => {
                let (pipe, body, otherwise) = self.control("range", token.pos)?;
                Item::Node(Node::Range { pipe, body, otherwise })
            }
            Kind::Else => {
                if !matches!(self.peek_non_space(), Kind::If | Kind::With) {
                    self.expect(Kind::RightDelim, "else")?;
                }
                Item::Ender(Ender::Else, token.pos)
            }
            Kind::End => {
                self.expect(Kind::RightDelim, "end")?;
                Item::Ender(Ender::End, token.pos)
            }
            Kind::Break | Kind::Continue => {
                let word = format!("{{{{{}}}}}", token.value);
                let after = self.next_non_space();
                if after.kind != Kind::RightDelim {
                    return self.unexpected(&after, &word);
                }
                if self.range_depth == 0 {
                    return self.fail(token.pos, format!("{word} outside {{{{range}}}}"));
                }
                Item::Node(if token.kind == Kind::Break { Node::Break } else { Node::Continue })
            }
            Kind::Template => {
                let name = self.next_non_space();
                let context = "template clause";
                let text = self.template_name(&name, context)?;
                let pipe = if self.peek_non_space() == Kind::RightDelim {
                    self.next();
                    None
                } else {
                    Some(self.pipeline(context, Kind::RightDelim)?)
                };
                Item::Node(Node::Template { name: text, pipe, pos: name.pos })
            }
            Kind::Block => {
                let name = self.next_non_space();
                let text = self.template_name(&name, "block clause")?;
                let pipe = self.pipeline("block clause", Kind::RightDelim)?;
                self.definition(text.clone(), "block clause", token.pos)?;
                Item::Node(Node::Template { name: text, pipe: Some(pipe), pos: name.pos })
            }
            Kind::Define => {
                if self.depth > 0 {
                    return self.unexpected(&token, "command");
                }
                let name = self.next_non_space();
                let text = self.template_name(&name, "define clause")?;
                self.expect(Kind::RightDelim, "define clause")?;
                self.definition(text, "define clause", token.pos)?;
                Item::Nothing
            }
            _ => {
                self.at = before;
                Item::Node(Node::Action(self.pipeline("command", Kind::RightDelim)?))
            }
        })
    }

    fn template_name(&self, token: &Token, context: &str) -> Parsed<String> {
        match token.kind {
            Kind::String | Kind::RawString => {
                unquote(&token.value).map_or_else(|| self.fail(token.pos, "invalid syntax"), Ok)
            }
            _ => self.unexpected(token, context),
        }
    }

    /// The body of `define` or `block`, which sees no variables from outside.
    fn definition(&mut self, name: String, context: &str, pos: usize) -> Parsed<()> {
        self.deeper(pos)?;
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.range_depth);
        let (nodes, ender, end_pos) = self.list()?;
        if matches!(ender, Ender::Else) {
            return self.fail(end_pos, format!("unexpected {} in {context}", ender.as_str()));
        }
        self.variables = outer;
        self.range_depth = ranges;
        self.depth -= 1;
        self.defined.push((name, nodes));
        Ok(())
    }

    /// `if`, `with` and `range`, from after the word to `{{end}}`.
    fn control(&mut self, context: &str, pos: usize) -> Parsed<(Pipe, Vec<Node>, Vec<Node>)> {
        self.deeper(pos)?;
        let variables = self.variables.len();
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        let is_range = context == "range";
        self.range_depth += usize::from(is_range);
        let (body, ender, _) = self.list()?;
        self.range_depth -= usize::from(is_range);
        let mut otherwise = Vec::new();
        if matches!(ender, Ender::Else) {
            let next = self.peek();
            if context == "if" && next == Kind::If {
                let pos = self.next().pos;
                let (pipe, body, rest) = self.control("if", pos)?;
                otherwise.push(Node::If { pipe, body, otherwise: rest });
            } else if context == "with" && next == Kind::With {
                let pos = self.next().pos;
                let (pipe, body, rest) = self.control("with", pos)?;
                otherwise.push(Node::With { pipe, body, otherwise: rest });
            } else {
                let (nodes, ender, end_pos) = self.list()?;
                if matches!(ender, Ender::Else) {
                    return self.fail(end_pos, format!("expected end; found {}", ender.as_str()));
                }
                otherwise = nodes;
            }
        }
        self.variables.truncate(variables);
        self.depth -= 1;
        Ok((pipe, body, otherwise))
    }

    // Pipelines.

    fn pipeline(&mut self, context: &str, end: Kind) -> Parsed<Pipe> {
        let start = self.token().pos;
        let (variables, assign) = self.declarations(context)?;
        let mut commands: Vec<(Command, usize)> = Vec::new();
        loop {
            let token = self.next_non_space();
            match token.kind {
                k if k == end => break,
                Kind::Bool
                | Kind::CharConstant
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    self.at -= 1;
                    commands.push((self.command()?, token.pos));
                }
                _ => return self.unexpected(&token, context),
            }
        }
        if commands.is_empty() {
            return self.fail(start, format!("missing value for {context}"));
        }
        for (i, (command, pos)) in commands.iter().enumerate().skip(1) {
            if matches!(
                command.args[0].kind,
                OperandKind::Bool(_)
                    | OperandKind::Dot
                    | OperandKind::Nil
                    | OperandKind::Number { .. }
                    | OperandKind::String { .. }
            ) {
                return self.fail(*pos, format!("non executable command in pipeline stage {}", i + 1));
            }
        }
        Ok(Pipe { variables, assign, commands: commands.into_iter().map(|(c, _)| c).collect() })
    }

    /// `$x :=`, `$x =`, and in a range also `$i, $x :=`.
    fn declarations(&mut self, context: &str) -> Parsed<(Vec<String>, bool)> {
        let mut names = Vec::new();
        loop {
            let before = self.at;
            if self.peek_non_space() != Kind::Variable {
                return Ok((names, false));
            }
            let variable = self.next();
            let kind = self.peek_non_space();
            if matches!(kind, Kind::Assign | Kind::Declare) {
                self.next();
                names.push(variable.value.clone());
                self.variables.push(variable.value);
                return Ok((names, kind == Kind::Assign));
            }
            if kind == Kind::Char && self.token().value == "," {
                let pos = self.next().pos;
                names.push(variable.value.clone());
                self.variables.push(variable.value);
                if context == "range" && names.len() < 2 {
                    match self.peek_non_space() {
                        Kind::Variable | Kind::RightDelim | Kind::RightParen => continue,
                        _ => return self.fail(pos, "range can only initialize variables"),
                    }
                }
                return self.fail(pos, format!("too many declarations in {context}"));
            }
            self.at = before;
            return Ok((names, false));
        }
    }

    fn command(&mut self) -> Parsed<Command> {
        let mut args = Vec::new();
        self.skip_space();
        let start = self.token().pos;
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                args.push(operand);
            }
            let token = self.next();
            match token.kind {
                Kind::Space => {}
                Kind::RightDelim | Kind::RightParen => {
                    self.at -= 1;
                    break;
                }
                Kind::Pipe => break,
                _ => return self.unexpected(&token, "operand"),
            }
        }
        if args.is_empty() {
            return self.fail(start, "empty command");
        }
        Ok(Command { args })
    }

    fn operand(&mut self) -> Parsed<Option<Operand>> {
        let Some(mut operand) = self.term()? else { return Ok(None) };
        if self.peek() != Kind::Field {
            return Ok(Some(operand));
        }
        let pos = self.token().pos;
        let mut names = Vec::new();
        while self.peek() == Kind::Field {
            names.push(self.next().value[1..].to_owned());
        }
        match &mut operand.kind {
            OperandKind::Field(own) | OperandKind::Variable { fields: own, .. } => {
                own.extend(names);
                operand.pos = pos;
                Ok(Some(operand))
            }
            OperandKind::Bool(_)
            | OperandKind::String { .. }
            | OperandKind::Number { .. }
            | OperandKind::Nil
            | OperandKind::Dot => {
                self.fail(pos, format!("unexpected . after term {:?}", operand.to_string()))
            }
            _ => Ok(Some(Operand { kind: OperandKind::Chain { of: Box::new(operand), fields: names }, pos })),
        }
    }

    fn term(&mut self) -> Parsed<Option<Operand>> {
        let token = self.next_non_space();
        let kind = match token.kind {
            Kind::Identifier => {
                if builtins::signature(&token.value).is_none()
                    && self.functions.signature(&token.value).is_none()
                {
                    return self.fail(token.pos, format!("function {:?} not defined", token.value));
                }
                OperandKind::Function(token.value)
            }
            Kind::Dot => OperandKind::Dot,
            Kind::Nil => OperandKind::Nil,
            Kind::Variable => {
                if !self.variables.contains(&token.value) {
                    return self.fail(token.pos, format!("undefined variable {:?}", token.value));
                }
                OperandKind::Variable { name: token.value, fields: Vec::new() }
            }
            Kind::Field => OperandKind::Field(vec![token.value[1..].to_owned()]),
            Kind::Bool => OperandKind::Bool(token.value == "true"),
            Kind::Number => match number::parse_literal(&token.value) {
                Ok(value) => OperandKind::Number { value, text: token.value },
                Err(reason) => return self.fail(token.pos, reason),
            },
            Kind::CharConstant => {
                let inner = token.value.trim_matches('\'').replace("\\'", "'").replace('"', "\\\"");
                let text = unquote(&format!("\"{inner}\"")).unwrap_or_default();
                let mut chars = text.chars();
                match (chars.next(), chars.next()) {
                    (Some(c), None) => OperandKind::Number {
                        value: Literal::Int(i64::from(u32::from(c))),
                        text: token.value,
                    },
                    _ => {
                        return self
                            .fail(token.pos, format!("malformed character constant: {}", token.value));
                    }
                }
            }
            Kind::LeftParen => {
                self.deeper(token.pos)?;
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                self.depth -= 1;
                OperandKind::Pipe(Box::new(pipe))
            }
            Kind::String | Kind::RawString => match unquote(&token.value) {
                Some(value) => OperandKind::String { value, text: token.value },
                None => return self.fail(token.pos, "invalid syntax"),
            },
            _ => {
                self.at -= 1;
                return Ok(None);
            }
        };
        Ok(Some(Operand { kind, pos: token.pos }))
    }
}

/// Go's `strconv.Unquote` of a quoted or raw string. Bytes that make no UTF-8 become U+FFFD.
fn unquote(text: &str) -> Option<String> {
    if let Some(raw) = text.strip_prefix('`') {
        return Some(raw.strip_suffix('`')?.replace('\r', ""));
    }
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut out: Vec<u8> = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    let mut buffer = [0; 4];
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            continue;
        }
        match chars.clone().next()? {
            'x' => {
                chars.next();
                let mut two = || chars.next()?.to_digit(16);
                out.push((two()? * 16 + two()?) as u8);
            }
            'u' | 'U' => {
                let n = if chars.next()? == 'u' { 4 } else { 8 };
                let mut value = 0u32;
                for _ in 0..n {
                    value = value.checked_mul(16)? + chars.next()?.to_digit(16)?;
                }
                out.extend_from_slice(char::from_u32(value)?.encode_utf8(&mut buffer).as_bytes());
            }
            '0'..='7' => {
                let mut digit = || chars.next()?.to_digit(8);
                out.push(u8::try_from(digit()? * 64 + digit()? * 8 + digit()?).ok()?);
            }
            c => {
                chars.next();
                out.push(match c {
                    'a' => 7,
                    'b' => 8,
                    'f' => 12,
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    'v' => 11,
                    '\\' => b'\\',
                    '"' => b'"',
                    _ => return None,
                });
            }
        }
    }
    Some(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}
