//! The tree of an expression. Every node knows its place in the text.

use std::ops::Range;

use crate::model::{Matcher, Timestamp};

/// Byte range in the text of the query.
pub type Pos = Range<usize>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    Scalar,
    Vector,
    Matrix,
    String,
}

impl ValueType {
    /// Prometheus's name in the API: `vector`, `matrix`, `scalar`, `string`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "vector",
            ValueType::Matrix => "matrix",
            ValueType::String => "string",
        }
    }

    /// Prometheus's name in errors: `instant vector`, `range vector`, `scalar`, `string`.
    #[must_use]
    pub fn documented(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            ValueType::String => "string",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub pos: Pos,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    Number(f64),
    /// A number written as a duration (`5m`), in seconds.
    Duration(f64),
    String(String),
    Paren(Box<Expr>),
    Unary {
        negate: bool,
        expr: Box<Expr>,
    },
    Binary(Box<Binary>),
    Aggregate(Box<Aggregate>),
    Call(Call),
    /// An instant vector selector.
    Vector(VectorSelector),
    /// A range vector selector.
    Matrix(MatrixSelector),
    Subquery(Box<Subquery>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
    And,
    Or,
    Unless,
    /// `</`: keeps what of a histogram lies below a bound.
    TrimUpper,
    /// `>/`: keeps what of a histogram lies above a bound.
    TrimLower,
}

impl BinaryOp {
    /// `==`, `!=`, `<`, `<=`, `>`, `>=`.
    #[must_use]
    pub fn is_comparison(self) -> bool {
        use BinaryOp::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        matches!(self, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual)
    }

    /// `and`, `or`, `unless`.
    #[must_use]
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Greater => ">",
            BinaryOp::Less => "<",
            BinaryOp::GreaterEqual => ">=",
            BinaryOp::LessEqual => "<=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    pub op: BinaryOp,
    pub lhs: Expr,
    pub rhs: Expr,
    /// `bool` after a comparison.
    pub return_bool: bool,
    /// How vectors match; `None` unless both sides are vectors.
    pub matching: Option<Matching>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cardinality {
    #[default]
    OneToOne,
    /// `group_left`.
    ManyToOne,
    /// `group_right`.
    OneToMany,
    /// Set operators.
    ManyToMany,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matching {
    pub cardinality: Cardinality,
    /// `true` for `on (labels)`, `false` for `ignoring (labels)` (also the default, with no labels).
    pub on: bool,
    pub labels: Vec<String>,
    /// Labels of `group_left (…)` or `group_right (…)`.
    pub include: Vec<String>,
    /// `fill (x)` or `fill_left (x)`: the value where only the right side has a series.
    pub fill_left: Option<f64>,
    pub fill_right: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    TopK,
    BottomK,
    CountValues,
    Quantile,
    LimitK,
    LimitRatio,
}

impl AggregateOp {
    /// Whether a parameter stands in front of the vector, as in `topk(3, x)`.
    #[must_use]
    pub fn takes_param(self) -> bool {
        use AggregateOp::{BottomK, CountValues, LimitK, LimitRatio, Quantile, TopK};
        matches!(self, TopK | BottomK | CountValues | Quantile | LimitK | LimitRatio)
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AggregateOp::Sum => "sum",
            AggregateOp::Avg => "avg",
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Count => "count",
            AggregateOp::Group => "group",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::TopK => "topk",
            AggregateOp::BottomK => "bottomk",
            AggregateOp::CountValues => "count_values",
            AggregateOp::Quantile => "quantile",
            AggregateOp::LimitK => "limitk",
            AggregateOp::LimitRatio => "limit_ratio",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    pub op: AggregateOp,
    pub expr: Expr,
    pub param: Option<Expr>,
    /// `without (labels)` instead of `by (labels)`.
    pub without: bool,
    pub labels: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The name of a function that the table knows.
    pub function: &'static str,
    pub args: Vec<Expr>,
}

/// The start or end of the query, or a fixed time, that `@` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Time(Timestamp),
    Start,
    End,
}

/// A duration that stands in the text, or has to be calculated (`[5m * 2]`).
#[derive(Clone, Debug, PartialEq)]
pub enum DurationExpr {
    /// Milliseconds.
    Literal(i64),
    /// `step()`
    Step,
    /// `range()`
    Range,
    Negate(Box<DurationExpr>),
    Binary {
        op: BinaryOp,
        lhs: Box<DurationExpr>,
        rhs: Box<DurationExpr>,
        pos: Pos,
    },
    Min(Box<DurationExpr>, Box<DurationExpr>),
    Max(Box<DurationExpr>, Box<DurationExpr>),
    Paren(Box<DurationExpr>),
    /// A plain number in a calculation; as a duration it counts seconds.
    Number(f64),
}

/// What shifts a selector or a subquery in time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimeShift {
    /// `offset …`; negative looks ahead.
    pub offset: Option<DurationExpr>,
    pub at: Option<At>,
}

/// Words after a range selector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RangeMode {
    #[default]
    Plain,
    Anchored,
    Smoothed,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The metric name in front of the braces; it is also among `matchers`.
    pub name: Option<String>,
    pub matchers: Vec<Matcher>,
    pub shift: TimeShift,
    pub mode: RangeMode,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    pub vector: VectorSelector,
    pub range: DurationExpr,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    pub expr: Expr,
    pub range: DurationExpr,
    /// `None` is the engine's default step.
    pub step: Option<DurationExpr>,
    pub shift: TimeShift,
}

/// All selectors of an expression, in their order.
#[must_use]
pub fn selectors(expr: &Expr) -> Vec<&VectorSelector> {
    fn walk<'e>(expr: &'e Expr, found: &mut Vec<&'e VectorSelector>) {
        match &expr.kind {
            ExprKind::Number(_) | ExprKind::String(_) | ExprKind::Duration(_) => {}
            ExprKind::Paren(e) => walk(e, found),
            ExprKind::Unary { expr, .. } => walk(expr, found),
            ExprKind::Binary(b) => {
                walk(&b.lhs, found);
                walk(&b.rhs, found);
            }
            ExprKind::Aggregate(a) => {
                a.param.iter().for_each(|p| walk(p, found));
                walk(&a.expr, found);
            }
            ExprKind::Call(c) => c.args.iter().for_each(|a| walk(a, found)),
            ExprKind::Vector(v) => found.push(v),
            ExprKind::Matrix(m) => found.push(&m.vector),
            ExprKind::Subquery(s) => walk(&s.expr, found),
        }
    }
    let mut found = Vec::new();
    walk(expr, &mut found);
    found
}
