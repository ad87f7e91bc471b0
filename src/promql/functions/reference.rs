//! What the language has besides its functions, and all of it as a page: the source of `docs/promql.md`, of the API's
//! description of the language, and with that of completion.

use std::fmt::Write as _;

use super::table::{self, FunctionSpec};
use crate::promql::ast::AggregateOp;
use crate::promql::ast::ValueType::{self, Scalar, String as Text};
use crate::promql::{FEATURES, MAX_LENGTH};

/// An aggregation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AggregationSpec {
    pub op: AggregateOp,
    /// The type of the parameter in front of the vector, if it takes one.
    pub param: Option<ValueType>,
    /// Only with `promql-experimental-functions`.
    pub experimental: bool,
    /// What it answers, without a full stop.
    pub doc: &'static str,
}

impl AggregationSpec {
    /// `topk(scalar, instant vector)`
    #[must_use]
    pub fn signature(&self) -> String {
        let param = self.param.map_or(String::new(), |p| format!("{}, ", p.documented()));
        format!("{}({param}instant vector)", self.op.as_str())
    }
}

/// A word of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeywordSpec {
    pub word: &'static str,
    /// The `--enable-feature` name that it needs.
    pub feature: Option<&'static str>,
    /// What it does, without a full stop.
    pub doc: &'static str,
}

const fn a(
    op: AggregateOp,
    param: Option<ValueType>,
    experimental: bool,
    doc: &'static str,
) -> AggregationSpec {
    AggregationSpec { op, param, experimental, doc }
}

#[rustfmt::skip]
static AGGREGATIONS: &[AggregationSpec] = &[
    a(AggregateOp::Avg, None, false, "the mean of the elements"),
    a(AggregateOp::BottomK, Some(Scalar), false, "the k smallest elements, with all their labels"),
    a(AggregateOp::Count, None, false, "how many elements there are"),
    a(AggregateOp::CountValues, Some(Text), false, "how many elements have each value; the value becomes a label of that name"),
    a(AggregateOp::Group, None, false, "1 for each group"),
    a(AggregateOp::LimitRatio, Some(Scalar), true, "a share of the elements, with all their labels; a negative one gives the others"),
    a(AggregateOp::LimitK, Some(Scalar), true, "k elements, with all their labels"),
    a(AggregateOp::Max, None, false, "the greatest element"),
    a(AggregateOp::Min, None, false, "the smallest element"),
    a(AggregateOp::Quantile, Some(Scalar), false, "the quantile of the elements"),
    a(AggregateOp::Stddev, None, false, "the population standard deviation of the elements"),
    a(AggregateOp::Stdvar, None, false, "the population variance of the elements"),
    a(AggregateOp::Sum, None, false, "the sum of the elements"),
    a(AggregateOp::TopK, Some(Scalar), false, "the k greatest elements, with all their labels"),
];

const fn k(word: &'static str, feature: Option<&'static str>, doc: &'static str) -> KeywordSpec {
    KeywordSpec { word, feature, doc }
}

const EXTENDED: Option<&str> = Some("promql-extended-range-selectors");
const FILL: Option<&str> = Some("promql-binop-fill-modifiers");

#[rustfmt::skip]
static KEYWORDS: &[KeywordSpec] = &[
    k("anchored", EXTENDED, "after a range selector: the range begins with the sample that held at its left edge"),
    k("and", None, "the elements of the left side that have a partner on the right"),
    k("atan2", None, "the arctangent of the quotient of both sides, in radians"),
    k("bool", None, "after a comparison: 0 or 1 instead of dropping elements"),
    k("by", None, "after an aggregation: one group for each value of these labels"),
    k("fill", FILL, "after an operator: this number stands in where one side has no partner"),
    k("fill_left", FILL, "after an operator: this number stands in where the left side has none"),
    k("fill_right", FILL, "after an operator: this number stands in where the right side has none"),
    k("group_left", None, "after on or ignoring: many elements of the left side match one of the right"),
    k("group_right", None, "after on or ignoring: many elements of the right side match one of the left"),
    k("ignoring", None, "after an operator: elements match by all labels but these"),
    k("offset", None, "after a selector or subquery: so much earlier, or later if it is negative"),
    k("on", None, "after an operator: elements match by these labels"),
    k("or", None, "all elements of the left side, and those of the right that have no partner"),
    k("smoothed", EXTENDED, "after a selector: values at its edges are interpolated"),
    k("unless", None, "the elements of the left side that have no partner on the right"),
    k("without", None, "after an aggregation: one group for each value of all labels but these"),
];

/// All aggregations, by name.
#[must_use]
pub fn aggregations() -> &'static [AggregationSpec] {
    AGGREGATIONS
}

/// The aggregation's entry.
#[must_use]
pub fn aggregation(op: AggregateOp) -> &'static AggregationSpec {
    AGGREGATIONS.iter().find(|a| a.op == op).expect("every aggregation has an entry, as a test holds")
}

/// All words that are neither functions nor aggregations, by name.
#[must_use]
pub fn keywords() -> &'static [KeywordSpec] {
    KEYWORDS
}

impl FunctionSpec {
    /// `round(instant vector, [scalar])`; `…` stands for any number more.
    #[must_use]
    pub fn signature(&self) -> String {
        let mut args: Vec<String> = self.args.iter().map(|t| t.documented().to_owned()).collect();
        if self.variadic != 0
            && let Some(last) = args.last_mut()
        {
            *last = match self.variadic {
                1 => format!("[{last}]"),
                _ => format!("[{last}, …]"),
            };
        }
        format!("{}({})", self.name, args.join(", "))
    }
}

/// The page `docs/promql.md`.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(
        "# PromQL\n\n\
         <!-- Written by a test from the tables in src/promql/functions: UPDATE_GOLDEN=1 cargo test --lib promql::functions -->\n\n\
         The language is that of Prometheus 3.14; its own documentation explains it at length. Here stand the words that\n\
         this version knows. Those marked † need `--enable-feature=promql-experimental-functions`; others name the feature\n\
         that they need.\n\n",
    );
    let mark = |experimental: bool| if experimental { " †" } else { "" };
    out.push_str("## Functions\n\n| function | gives | what |\n|---|---|---|\n");
    for f in table::all() {
        let (signature, returns) = (f.signature(), f.returns.documented());
        _ = writeln!(out, "| `{signature}`{} | {returns} | {} |", mark(f.experimental), f.doc);
    }
    out.push_str("\n## Aggregations\n\nEach may be followed or preceded by `by (…)` or `without (…)`.\n\n| aggregation | what |\n|---|---|\n");
    for a in AGGREGATIONS {
        _ = writeln!(out, "| `{}`{} | {} |", a.signature(), mark(a.experimental), a.doc);
    }
    out.push_str("\n## Words\n\n| word | what | needs |\n|---|---|---|\n");
    for k in KEYWORDS {
        let feature = k.feature.map_or(String::new(), |f| format!("`{f}`"));
        _ = writeln!(out, "| `{}` | {} | {feature} |", k.word, k.doc);
    }
    out.push_str("\n## Features\n\n`--enable-feature` takes these names, separated by commas.\n\n| name | what it allows |\n|---|---|\n");
    for f in FEATURES {
        _ = writeln!(out, "| `{}` | {} |", f.name, f.doc);
    }
    _ = write!(
        out,
        "\n## Bounds\n\nAn expression may have {} KiB, parentheses, calls, signs and `^` may stand {} deep within each other, and\n\
         other operators may form chains of {} (`--query.max-expression-depth`). Its regular expressions may take {} MiB once they\n\
         are compiled (`--query.max-regex-memory`). What a query may cost has limits of its own: see `docs/api.md`.\n",
        MAX_LENGTH / 1024,
        crate::promql::MAX_NESTING,
        crate::promql::MAX_DEPTH,
        crate::promql::RegexMemory::DEFAULT.0 >> 20,
    );
    out.push_str(REGULAR_EXPRESSIONS);
    out
}

/// What bounds a regular expression, beside its memory.
const REGULAR_EXPRESSIONS: &str = "\
\n\
A single regular expression is refused as too large if compiling it could take longer than some 50 ms, for that cannot be interrupted:\n\
if it has more than 90,000 items that are no plain letters and digits, or names classes of Unicode some 1,600 times. Patterns that\n\
repeat large classes are no such thing: `(\\pL{1,100}){1,9}` takes a third of a millisecond. Matching is interrupted like all else. What groups\n\
capture is kept for every state of the pattern, so `label_replace` takes a pattern of up to some thousand groups, and refuses\n\
a value that the pattern could take longer than some 50 ms for, such as one of 30,000 bytes for `((y?){0,300}x?)*`.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_tables_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/promql.md");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == markdown(), "docs/promql.md is out of date: run this test with UPDATE_GOLDEN=1");
    }

    #[test]
    fn every_word_of_the_tables_is_one_of_the_parser() {
        let all = crate::promql::Features::all();
        assert!(KEYWORDS.windows(2).all(|w| w[0].word < w[1].word));
        assert!(AGGREGATIONS.windows(2).all(|w| w[0].op.as_str() < w[1].op.as_str()));
        for a in AGGREGATIONS {
            assert_eq!(a.param.is_some(), a.op.takes_param());
            let param = match a.param {
                None => "",
                Some(Text) => "\"v\", ",
                Some(_) => "1, ",
            };
            let text = format!("{}({param}x)", a.op.as_str());
            assert!(crate::promql::parse_with(&text, all).is_ok(), "{text}");
            assert_eq!(crate::promql::parse(&text).is_err(), a.experimental, "{text}");
        }
        for k in KEYWORDS {
            let text = match k.word {
                "anchored" => "rate(x[1m] anchored)".to_owned(),
                "smoothed" => "x smoothed".to_owned(),
                "bool" => "x > bool y".to_owned(),
                "by" | "without" => format!("sum {} (a) (x)", k.word),
                "on" | "ignoring" => format!("x + {} (a) y", k.word),
                "group_left" | "group_right" => format!("x + on (a) {} (b) y", k.word),
                "fill" | "fill_left" | "fill_right" => format!("x + {} (0) y", k.word),
                "offset" => "x offset 5m".to_owned(),
                operator => format!("x {operator} y"),
            };
            assert!(crate::promql::parse_with(&text, all).is_ok(), "{text}");
            assert_eq!(crate::promql::parse(&text).is_err(), k.feature.is_some(), "{text}");
            assert!(k.feature.is_none_or(|f| FEATURES.iter().any(|spec| spec.name == f)), "{text}");
        }
    }

    #[test]
    fn signatures_show_what_may_be_left_out() {
        for (name, signature) in [
            ("rate", "rate(range vector)"),
            ("time", "time()"),
            ("round", "round(instant vector, [scalar])"),
            ("label_join", "label_join(instant vector, string, string, [string, …])"),
        ] {
            assert_eq!(table::lookup(name).unwrap().signature(), signature);
        }
    }
}
