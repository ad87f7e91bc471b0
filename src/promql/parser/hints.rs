//! What may have been meant by a text that is no expression.

use super::error::nearest;
use crate::promql::functions;
use crate::promql::lexer::{Kind, Token};

/// Names that may stand in front of a parenthesis.
pub(super) fn callable() -> impl Iterator<Item = &'static str> {
    let aggregations = functions::aggregations().iter().map(|a| a.op.as_str());
    let keywords = functions::keywords().iter().map(|k| k.word);
    let before_labels = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    let keywords = keywords.filter(move |k| before_labels.contains(k) || k.starts_with("fill"));
    functions::all().iter().map(|f| f.name).chain(aggregations).chain(keywords)
}

/// The hint for a fault at `at` in `text`: a word that is nearly one of the language, there or in front of a parenthesis
/// before, or an operator of another language.
pub(super) fn of(text: &str, tokens: &[Token], at: usize) -> Option<String> {
    let fault = tokens.iter().position(|t| t.pos.start >= at || t.pos.end > at).unwrap_or(tokens.len());
    operator(text, tokens, fault, at)
        .or_else(|| keyword(text, tokens, fault))
        .or_else(|| call(text, tokens, fault))
}

/// What others write for an operator.
fn operator(text: &str, tokens: &[Token], fault: usize, at: usize) -> Option<String> {
    let rest = text.get(at..)?;
    let meant = if rest.starts_with("&&") {
        "and"
    } else if rest.starts_with("||") {
        "or"
    } else if rest.starts_with("<>") {
        "!="
    } else if tokens.get(fault)?.kind == Kind::Assign && !within_braces(&tokens[..fault]) {
        "=="
    } else {
        return None;
    };
    Some(format!("did you mean \"{meant}\"?"))
}

fn within_braces(before: &[Token]) -> bool {
    before.iter().rev().find_map(|t| match t.kind {
        Kind::LeftBrace => Some(true),
        Kind::RightBrace => Some(false),
        _ => None,
    }) == Some(true)
}

/// A word at the fault or just before it that is nearly a keyword or an aggregation.
fn keyword(text: &str, tokens: &[Token], fault: usize) -> Option<String> {
    let words = || functions::keywords().iter().map(|k| k.word);
    let here = tokens.get(fault)?;
    if here.kind == Kind::Identifier {
        let word = &text[here.pos.clone()];
        // A keyword in a place where it means nothing is no slip of the pen.
        let is_keyword = words().any(|w| w.eq_ignore_ascii_case(word));
        return if is_keyword { None } else { nearest(word, words()) };
    }
    let before = tokens.get(fault.checked_sub(1)?)?;
    if before.kind == Kind::Identifier && matches!(here.kind, Kind::By | Kind::Without) {
        return nearest(&text[before.pos.clone()], functions::aggregations().iter().map(|a| a.op.as_str()));
    }
    None
}

/// The last call before the fault whose name nobody knows.
fn call(text: &str, tokens: &[Token], fault: usize) -> Option<String> {
    let before = &tokens[..fault.min(tokens.len())];
    before.windows(2).rev().find_map(|pair| {
        let name = &text[pair[0].pos.clone()];
        let unknown = pair[0].kind == Kind::Identifier
            && pair[1].kind == Kind::LeftParen
            && functions::lookup(name).is_none();
        if unknown { nearest(name, callable()) } else { None }
    })
}
