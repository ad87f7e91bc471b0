//! Trees back to text: on one line as Prometheus's API shows them, or laid out as promtool formats them.

use std::fmt::{self, Display, Formatter};

use super::ast::{
    Aggregate, At, Binary, BinaryOp, Call, Cardinality, DurationExpr, Expr, ExprKind, Matching,
    MatrixSelector, RangeMode, Subquery, TimeShift, VectorSelector,
};
use super::quote::quoted;
use crate::model::{METRIC_NAME, MatchOp, Matcher, format_duration_ms, is_legacy_label_name};

/// The longest line that [`Expr::pretty`] leaves whole, in bytes.
const MAX_LINE: usize = 100;

impl Display for Expr {
    /// On one line, as Prometheus prints it.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(v) => f.write_str(&format_number(*v)),
            // A zero keeps its sign, which is that of what is divided by it.
            ExprKind::Duration(v) if *v == 0.0 && v.is_sign_negative() => f.write_str("-0s"),
            ExprKind::Duration(v) => f.write_str(&format_duration_ms((v * 1000.0).round() as i64)),
            ExprKind::String(s) => f.write_str(&quoted(s)),
            ExprKind::Paren(inner) => write!(f, "({inner})"),
            ExprKind::Unary { negate, expr } => write!(f, "{}{expr}", sign(*negate)),
            ExprKind::Binary(b) if is_power_of_infinity(b) => write!(f, "Inf {} {}", Operator(b), b.rhs),
            ExprKind::Binary(b) => write!(f, "{} {} {}", b.lhs, Operator(b), b.rhs),
            ExprKind::Aggregate(a) => {
                write!(f, "{}(", Head(a))?;
                if let Some(param) = &a.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", a.expr)
            }
            ExprKind::Call(c) => {
                write!(f, "{}(", c.function)?;
                for (i, arg) in c.args.iter().enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    write!(f, "{comma}{arg}")?;
                }
                f.write_str(")")
            }
            ExprKind::Vector(v) => Display::fmt(v, f),
            ExprKind::Matrix(m) => Display::fmt(m, f),
            ExprKind::Subquery(s) => write!(f, "{}{}", s.expr, SubqueryTail(s)),
        }
    }
}

impl Expr {
    /// The node without its operands, for a tree: `sum by (job)`, `rate`, `+ on (job)`; all of what has none.
    #[must_use]
    pub fn operator(&self) -> String {
        match &self.kind {
            ExprKind::Paren(inner) => inner.operator(),
            ExprKind::Unary { negate, .. } => sign(*negate).to_owned(),
            ExprKind::Binary(b) => Operator(b).to_string(),
            ExprKind::Aggregate(a) => Head(a).to_string().trim_end().to_owned(),
            ExprKind::Call(c) => c.function.to_owned(),
            ExprKind::Subquery(s) => format!("subquery {}", SubqueryTail(s)),
            _ => self.to_string(),
        }
    }

    /// Over several lines where one would get too long, as `promtool promql format` lays it out.
    #[must_use]
    pub fn pretty(&self) -> String {
        self.laid_out(0)
    }

    fn laid_out(&self, level: usize) -> String {
        let indent = "  ".repeat(level);
        let whole = self.to_string();
        let fits = whole.len() <= MAX_LINE;
        match &self.kind {
            ExprKind::Unary { negate, expr } => {
                format!("{indent}{}{}", sign(*negate), expr.laid_out(level).trim())
            }
            ExprKind::Subquery(_) if fits => whole,
            ExprKind::Subquery(s) => format!("{}{}", s.expr.laid_out(level), SubqueryTail(s)),
            ExprKind::Paren(inner) if !fits => {
                format!("{indent}(\n{}\n{indent})", inner.laid_out(level + 1))
            }
            ExprKind::Binary(b) if !fits => {
                let (mut lhs, rhs) = (b.lhs.laid_out(level + 1), b.rhs.laid_out(level + 1));
                if is_power_of_infinity(b) {
                    lhs = format!("{indent}  Inf");
                }
                format!("{lhs}\n{indent}{}\n{rhs}", Operator(b))
            }
            ExprKind::Aggregate(a) if !fits => {
                let param = a.param.as_ref().map_or(String::new(), |p| p.laid_out(level + 1) + ",\n");
                format!("{indent}{}(\n{param}{}\n{indent})", Head(a), a.expr.laid_out(level + 1))
            }
            ExprKind::Call(Call { function, args }) if !fits => {
                let args: Vec<String> = args.iter().map(|a| a.laid_out(level + 1)).collect();
                format!("{indent}{function}(\n{}\n{indent})", args.join(",\n"))
            }
            _ => indent + &whole,
        }
    }
}

/// Whether the left side has to be written without the sign that infinity else has (and has upstream): it would read
/// back as the sign of the whole power.
fn is_power_of_infinity(b: &Binary) -> bool {
    b.op == BinaryOp::Pow && b.lhs.kind == ExprKind::Number(f64::INFINITY)
}

/// The operator of a binary expression with its modifiers.
struct Operator<'a>(&'a Binary);

impl Display for Operator<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        if self.0.return_bool {
            f.write_str(" bool")?;
        }
        self.0.matching.as_ref().map_or(Ok(()), |m| matching(m, f))
    }
}

fn matching(m: &Matching, f: &mut Formatter<'_>) -> fmt::Result {
    let group = match m.cardinality {
        Cardinality::ManyToOne => Some("group_left"),
        Cardinality::OneToMany => Some("group_right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if !m.labels.is_empty() || m.on || group.is_some() {
        let word = if m.on { "on" } else { "ignoring" };
        write!(f, " {word} ({})", LabelNames(&m.labels))?;
    }
    if let Some(group) = group {
        write!(f, " {group} ({})", LabelNames(&m.include))?;
    }
    match (m.fill_left, m.fill_right) {
        (Some(left), Some(right)) if left.to_bits() == right.to_bits() => {
            write!(f, " fill ({})", format_short(left))
        }
        (left, right) => {
            if let Some(left) = left {
                write!(f, " fill_left ({})", format_short(left))?;
            }
            right.map_or(Ok(()), |right| write!(f, " fill_right ({})", format_short(right)))
        }
    }
}

/// An aggregation up to its parenthesis.
struct Head<'a>(&'a Aggregate);

impl Display for Head<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let a = self.0;
        f.write_str(a.op.as_str())?;
        if a.without {
            write!(f, " without ({}) ", LabelNames(&a.labels))
        } else if !a.labels.is_empty() {
            write!(f, " by ({}) ", LabelNames(&a.labels))
        } else {
            Ok(())
        }
    }
}

struct LabelNames<'a>(&'a [String]);

impl Display for LabelNames<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{}", label_name(name))?;
        }
        Ok(())
    }
}

fn label_name(name: &str) -> String {
    if is_legacy_label_name(name) { name.to_owned() } else { quoted(name) }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        bare(self, f)?;
        write!(f, "{}{}{}", AtTail(self.shift.at), mode(self.mode), OffsetTail(&self.shift))
    }
}

/// The name and the matchers.
fn bare(v: &VectorSelector, f: &mut Formatter<'_>) -> fmt::Result {
    let name = v.name.as_deref().unwrap_or("");
    f.write_str(name)?;
    let is_name = |m: &&Matcher| {
        m.name == METRIC_NAME && m.op == MatchOp::Equal && m.value == name && !m.value.is_empty()
    };
    let mut matchers: Vec<String> = v.matchers.iter().filter(|m| !is_name(m)).map(matcher).collect();
    if matchers.is_empty() && !name.is_empty() {
        return Ok(());
    }
    matchers.sort();
    write!(f, "{{{}}}", matchers.join(","))
}

fn matcher(m: &Matcher) -> String {
    format!("{}{}{}", label_name(&m.name), m.op.as_str(), quoted(&m.value))
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let v = &self.vector;
        bare(v, f)?;
        write!(f, "[{}]{}{}{}", self.range, mode(v.mode), AtTail(v.shift.at), OffsetTail(&v.shift))
    }
}

fn mode(mode: RangeMode) -> &'static str {
    match mode {
        RangeMode::Plain => "",
        RangeMode::Anchored => " anchored",
        RangeMode::Smoothed => " smoothed",
    }
}

/// The range of a subquery and what follows.
struct SubqueryTail<'a>(&'a Subquery);

impl Display for SubqueryTail<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:", self.0.range)?;
        if let Some(step) = &self.0.step {
            write!(f, "{step}")?;
        }
        write!(f, "]{}{}", AtTail(self.0.shift.at), OffsetTail(&self.0.shift))
    }
}

struct AtTail(Option<At>);

impl Display for AtTail {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(At::Start) => f.write_str(" @ start()"),
            Some(At::End) => f.write_str(" @ end()"),
            Some(At::Time(ms)) => {
                let (sign, ms) = (if ms < 0 { "-" } else { "" }, ms.unsigned_abs());
                write!(f, " @ {sign}{}.{:03}", ms / 1000, ms % 1000)
            }
        }
    }
}

struct OffsetTail<'a>(&'a TimeShift);

impl Display for OffsetTail<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0.offset {
            None | Some(DurationExpr::Literal(0)) => Ok(()),
            Some(offset) => write!(f, " offset {offset}"),
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            DurationExpr::Literal(ms) => f.write_str(&format_duration_ms(*ms)),
            DurationExpr::Number(seconds) => f.write_str(&format_number(*seconds)),
            DurationExpr::Step => f.write_str("step()"),
            DurationExpr::Range => f.write_str("range()"),
            DurationExpr::Negate(inner) => write!(f, "-{inner}"),
            DurationExpr::Binary { op, lhs, rhs, .. } => write!(f, "{lhs} {} {rhs}", op.as_str()),
            DurationExpr::Min(a, b) => write!(f, "min_of({a}, {b})"),
            DurationExpr::Max(a, b) => write!(f, "max_of({a}, {b})"),
            DurationExpr::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

fn sign(negate: bool) -> &'static str {
    if negate { "-" } else { "+" }
}

/// A number without exponent (Go's `strconv.FormatFloat(v, 'f', -1, 64)`).
#[must_use]
pub fn format_number(v: f64) -> String {
    if v.is_nan() {
        "NaN".to_owned()
    } else if v.is_infinite() {
        if v > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        v.to_string()
    }
}

/// A number with an exponent if it is very small or large (Go's `%v`).
fn format_short(v: f64) -> String {
    let magnitude = v.abs();
    if !v.is_finite() || v == 0.0 || (1e-4..1e21).contains(&magnitude) {
        return format_number(v);
    }
    let text = format!("{v:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
    format!("{mantissa}e{sign}{digits:0>2}")
}
