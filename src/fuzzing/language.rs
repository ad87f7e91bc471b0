//! PromQL's text: parsing and printing.

use crate::promql::ast::{DurationExpr, Expr, ExprKind, TimeShift, VectorSelector};
use crate::promql::{Features, ParseError, parse, parse_selector, parse_with};

/// Any text gives a tree or an error with a place in the text.
pub fn parser(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for features in [Features::default(), Features::all()] {
        check_error(&text, parse_with(&text, features).err());
    }
    check_error(&text, parse_selector(&text).err());
    assert_eq!(parse(&text).is_ok(), parse_with(&text, Features::default()).is_ok());
}

fn check_error(text: &str, error: Option<ParseError>) {
    let Some(e) = error else { return };
    assert!(e.pos.start <= e.pos.end && e.pos.end <= text.len(), "{e:?} in {} bytes", text.len());
    assert!(e.line >= 1 && e.column >= 1, "{e:?}");
    assert!(!e.to_string().is_empty());
}

/// Both printers' texts parse to the tree that was printed, and print the same again.
pub fn printer(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    // Printing makes texts longer, and there is a limit on the length.
    if text.len() > 4096 {
        return;
    }
    let Ok(expr) = parse_with(text, Features::all()) else { return };
    for printed in [expr.to_string(), expr.pretty()] {
        let again = parse_with(&printed, Features::all());
        let again = again.unwrap_or_else(|e| panic!("{text:?} is printed as {printed:?}: {e}"));
        assert_eq!(placeless(&again), placeless(&expr), "{text:?} is printed as {printed:?}");
        assert_eq!(again.to_string(), expr.to_string());
    }
}

/// The tree without the places in the text, which printing moves, and the order of matchers. As text, so that NaN equals NaN.
pub fn placeless(expr: &Expr) -> String {
    let mut expr = expr.clone();
    forget_places(&mut expr);
    format!("{expr:?}")
}

fn forget_places(expr: &mut Expr) {
    expr.pos = 0..0;
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => {}
        ExprKind::Paren(e) | ExprKind::Unary { expr: e, .. } => forget_places(e),
        ExprKind::Binary(b) => {
            forget_places(&mut b.lhs);
            forget_places(&mut b.rhs);
        }
        ExprKind::Aggregate(a) => {
            forget_places(&mut a.expr);
            a.param.iter_mut().for_each(forget_places);
        }
        ExprKind::Call(c) => c.args.iter_mut().for_each(forget_places),
        ExprKind::Vector(v) => forget_in_selector(v),
        ExprKind::Matrix(m) => {
            forget_in_selector(&mut m.vector);
            forget_in_duration(&mut m.range);
        }
        ExprKind::Subquery(s) => {
            forget_places(&mut s.expr);
            forget_in_duration(&mut s.range);
            s.step.iter_mut().for_each(forget_in_duration);
            forget_in_shift(&mut s.shift);
        }
    }
}

/// The order of matchers goes as well, as both printers sort them.
fn forget_in_selector(selector: &mut VectorSelector) {
    selector.matchers.sort_by_cached_key(ToString::to_string);
    forget_in_shift(&mut selector.shift);
}

fn forget_in_shift(shift: &mut TimeShift) {
    shift.offset.iter_mut().for_each(forget_in_duration);
}

fn forget_in_duration(duration: &mut DurationExpr) {
    match duration {
        DurationExpr::Literal(_) | DurationExpr::Step | DurationExpr::Range | DurationExpr::Number(_) => {}
        DurationExpr::Negate(d) | DurationExpr::Paren(d) => forget_in_duration(d),
        DurationExpr::Binary { lhs, rhs, pos, .. } => {
            *pos = 0..0;
            forget_in_duration(lhs);
            forget_in_duration(rhs);
        }
        DurationExpr::Min(a, b) | DurationExpr::Max(a, b) => {
            forget_in_duration(a);
            forget_in_duration(b);
        }
    }
}
