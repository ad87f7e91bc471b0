//! Vector selectors, label lists and matchers.

use super::ParseError;
use super::expr::Parser;
use crate::model::{GoRegex, METRIC_NAME, MatchOp, Matcher};
use crate::promql::ast::{Expr, ExprKind, RangeMode, TimeShift, VectorSelector};
use crate::promql::lexer::Kind;

impl Parser<'_> {
    /// `name`, `name{…}` or `{…}`; the next token is a name or a brace.
    pub(super) fn selector(&mut self) -> Result<Expr, ParseError> {
        let start = self.peek_token().pos.start;
        let name = if self.peek() == Kind::LeftBrace {
            None
        } else {
            let token = self.take();
            Some(self.text_of(&token).to_owned())
        };
        let mut matchers = if self.peek() == Kind::LeftBrace { self.matchers()? } else { Vec::new() };
        if let Some(name) = &name {
            matchers.push(Matcher::equal(METRIC_NAME, name));
        }
        let selector = VectorSelector { name, matchers, shift: TimeShift::default(), mode: RangeMode::Plain };
        Ok(Expr { kind: ExprKind::Vector(selector), pos: start..self.taken_end() })
    }

    fn matchers(&mut self) -> Result<Vec<Matcher>, ParseError> {
        self.take();
        let mut matchers = Vec::new();
        loop {
            if self.accept(Kind::RightBrace) {
                return Ok(matchers);
            }
            matchers.push(self.matcher()?);
            if !self.accept(Kind::Comma) {
                if self.accept(Kind::RightBrace) {
                    return Ok(matchers);
                }
                return Err(self.unexpected("label matching", r#""," or "}""#));
            }
        }
    }

    fn matcher(&mut self) -> Result<Matcher, ParseError> {
        let label = match self.peek() {
            Kind::Identifier | Kind::String => self.take(),
            _ => return Err(self.unexpected("label matching", r#"identifier or "}""#)),
        };
        let op = match self.peek() {
            Kind::Assign => MatchOp::Equal,
            Kind::NotEqual => MatchOp::NotEqual,
            Kind::RegexMatch => MatchOp::Regex,
            Kind::RegexNotMatch => MatchOp::NotRegex,
            // A string alone is the metric name.
            _ if label.kind == Kind::String => {
                return Ok(Matcher::equal(METRIC_NAME, self.utf8_value(&label, "invalid metric name ")?));
            }
            _ => return Err(self.unexpected("label matching", "label matching operator")),
        };
        self.take();
        if self.peek() != Kind::String {
            return Err(self.unexpected("label matching", "string"));
        }
        let value = self.take();
        let name = match label.kind {
            Kind::String => self.utf8_value(&label, "invalid label name ")?,
            _ => self.text_of(&label).to_owned(),
        };
        let pos = label.pos.start..value.pos.end;
        let value = match op {
            MatchOp::Equal | MatchOp::NotEqual => self.string_value(&value),
            MatchOp::Regex | MatchOp::NotRegex => {
                self.utf8_value(&value, "error parsing regexp: invalid UTF-8: ")?
            }
        };
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) && (self.stop)() {
            return Err(self.error(pos, "parsing was stopped"));
        }
        let matcher = Matcher::new(op, name, value).map_err(|e| self.error(pos.clone(), e.message))?;
        let bytes = matcher.regex().map_or(0, GoRegex::bytes);
        let counted = self.features.regexes.count(&mut self.regex_bytes, bytes);
        counted.map_err(|reason| self.error(pos, reason))?;
        Ok(matcher)
    }

    /// `(a, b)` behind `by`, `on`, `group_left` and the like.
    pub(super) fn labels(&mut self) -> Result<Vec<String>, ParseError> {
        const CONTEXT: &str = "grouping opts";
        if !self.accept(Kind::LeftParen) {
            return Err(self.unexpected(CONTEXT, r#""(""#));
        }
        let mut labels = Vec::new();
        if self.accept(Kind::RightParen) {
            return Ok(labels);
        }
        loop {
            labels.push(match self.peek() {
                Kind::String => {
                    let token = self.take();
                    self.label_name_value(&token)?
                }
                kind if kind.is_label_name() => {
                    let token = self.take();
                    self.text_of(&token).to_owned()
                }
                _ => return Err(self.unexpected(CONTEXT, "label")),
            });
            if !self.accept(Kind::Comma) {
                if self.accept(Kind::RightParen) {
                    return Ok(labels);
                }
                return Err(self.unexpected(CONTEXT, r#""," or ")""#));
            }
            if self.accept(Kind::RightParen) {
                return Ok(labels);
            }
        }
    }
}
