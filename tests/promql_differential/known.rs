//! Where Prometheus 3.14 answers otherwise than the 3.5 that is compared with. Each entry has an expression that shows it:
//! the test fails when one no longer differs.

use streamgate::promql::ast::{AggregateOp, Binary, BinaryOp, Expr, ExprKind};

use crate::answer::{Answer, Full, Laid, Order, Point, ROUNDING, same_point, values};
use crate::data::START;
use crate::server::Request;

/// A difference between the versions.
pub struct Known {
    pub reason: &'static str,
    /// An expression that differs by it though none of its parts does.
    pub example: &'static str,
    /// Whether the servers that show it have `promql-delayed-name-removal` on.
    pub delayed: bool,
    /// Whether an expression may differ by it, in this way.
    pub explains: fn(&Expr, theirs: &Full, ours: &Full) -> bool,
}

/// When the examples are asked: over most of the data.
pub const EXAMPLES_AT: Request =
    Request { start: START + 1_800_000, end: START + 7_000_000, step_ms: 15_000 };

/// Why an expression differs of which no part does, if that is known.
pub fn explain(expr: &Expr, theirs: &Full, ours: &Full) -> Option<&'static str> {
    KNOWN.iter().find(|k| (k.explains)(expr, theirs, ours)).map(|k| k.reason)
}

/// A text of an error that is another one in 3.14.
pub struct KnownError {
    pub reason: &'static str,
    pub example: &'static str,
    /// What 3.5 says, and what 3.14 says instead.
    texts: &'static [(&'static str, &'static str)],
}

pub const KNOWN_ERRORS: &[KnownError] = &[
    KnownError {
        reason: "what is expected in the place of a duration has more members (prometheus#16777)",
        example: "memory[(4m+30s]",
        texts: &[
            (
                "in offset, expected number or duration",
                "in offset, expected number, duration, step(), or range()",
            ),
            (
                "unexpected character in duration expression: ','",
                "unexpected \",\" in subquery or range selector, expected number, duration, step(), or range()",
            ),
            (
                "in subquery selector, expected number or duration",
                "in subquery or range selector, expected number, duration, step(), or range()",
            ),
        ],
    },
    KnownError {
        reason: "a word behind a colon in brackets is no second colon (prometheus#16777)",
        example: "memory[10m:offset",
        texts: &[
            ("unexpected colon 'o'", "unexpected character: 'o', expected ':'"),
            ("unexpected colon 'b'", "unexpected character: 'b', expected ':'"),
        ],
    },
];

/// Why what no longer parses differs, if that is known.
pub fn explain_error(theirs: &Full, ours: &Full) -> Option<&'static str> {
    let (Answer::Error(kind, text), Answer::Error(our_kind, our_text)) = (&theirs.answer, &ours.answer)
    else {
        return None;
    };
    let newer = |k: &&KnownError| {
        k.texts.iter().any(|(old, new)| text.contains(old) && text.replace(old, new) == *our_text)
    };
    KNOWN_ERRORS.iter().filter(|_| kind == our_kind).find(newer).map(|k| k.reason)
}

fn call<'e>(expr: &'e Expr, names: &[&str]) -> Option<&'e [Expr]> {
    match &expr.kind {
        ExprKind::Call(c) if names.contains(&c.function) => Some(&c.args),
        _ => None,
    }
}

fn is_aggregation(expr: &Expr, ops: &[AggregateOp]) -> bool {
    matches!(&expr.kind, ExprKind::Aggregate(a) if ops.contains(&a.op))
}

fn is_binary(expr: &Expr, ops: &[BinaryOp]) -> bool {
    matches!(&expr.kind, ExprKind::Binary(b) if ops.contains(&b.op))
}

fn same_values(theirs: &Full, ours: &Full) -> bool {
    values(&theirs.answer, &ours.answer, Laid::ANY_ORDER).is_none()
}

/// Whether the annotations of both are the same once each text was put through `f`; what gives `None` counts as absent.
fn same_notes(theirs: &Full, ours: &Full, f: impl Fn(&str) -> Option<String>) -> bool {
    let all = |full: &Full| -> Vec<String> {
        let mut all: Vec<String> = full.warnings.iter().chain(&full.infos).filter_map(|n| f(n)).collect();
        all.sort();
        all.dedup();
        all
    };
    all(theirs) == all(ours)
}

/// Whether only we have annotations with the text, and nothing else differs.
fn only_ours(theirs: &Full, ours: &Full, text: &str) -> bool {
    let rest = |n: &str| (!n.contains(text)).then(|| n.to_owned());
    // Of more than ten, which ten are shown is open.
    let is_cut = |full: &Full| full.warnings.iter().any(|n| n.ends_with("annotations omitted"));
    if is_cut(theirs) && is_cut(ours) {
        return same_values(theirs, ours) && theirs.infos == ours.infos;
    }
    let theirs_has = theirs.warnings.iter().chain(&theirs.infos).any(|n| n.contains(text));
    !theirs_has && same_values(theirs, ours) && same_notes(theirs, ours, rest)
}

/// Whether only we have annotations with the text, and lack points that they have; all else is the same.
fn leaves_out(theirs: &Full, ours: &Full, text: &str) -> bool {
    let has = |full: &Full| full.warnings.iter().any(|n| n.contains(text));
    let rest = |n: &str| (!n.contains(text)).then(|| n.to_owned());
    let (all, left) = (theirs.points(), ours.points());
    let same = left.iter().all(|(at, b)| all.get(at).is_some_and(|a| same_point(a, b, ROUNDING)));
    has(ours) && !has(theirs) && same && left.len() < all.len() && same_notes(theirs, ours, rest)
}

/// Whether both have the same points, and `f` holds for each pair that differs.
fn where_points_differ(theirs: &Full, ours: &Full, f: impl Fn(&Point, &Point) -> bool) -> bool {
    let (theirs, ours) = (theirs.points(), ours.points());
    theirs.keys().eq(ours.keys())
        && theirs.values().zip(ours.values()).all(|(a, b)| same_point(a, b, ROUNDING) || f(a, b))
}

fn is_nan(p: &Point) -> bool {
    matches!(p, Point::Float(v) if v.is_nan())
}

/// Whether b is a times a factor below 1.
fn is_scaled_down(a: &Point, b: &Point) -> bool {
    let (Point::Histogram(count, sum, buckets), Point::Histogram(our_count, ..)) = (a, b) else {
        return false;
    };
    let factor = our_count / count;
    let scaled = buckets.iter().map(|b| (b.0, b.1, b.2, b.3 * factor)).collect();
    let a = Point::Histogram(count * factor, sum * factor, scaled);
    factor < 1.0 && same_point(&a, b, ROUNDING)
}

/// Without the place at its end, `(line:column)`.
fn without_place(note: &str) -> Option<String> {
    Some(note.rsplit_once(" (").map_or(note, |(text, _)| text).to_owned())
}

/// Whether `@` makes it the same at all steps, or it is so by itself.
fn is_pinned(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => true,
        ExprKind::Paren(e) | ExprKind::Unary { expr: e, .. } => is_pinned(e),
        ExprKind::Binary(b) => is_pinned(&b.lhs) && is_pinned(&b.rhs),
        ExprKind::Aggregate(a) => is_pinned(&a.expr),
        ExprKind::Call(c) if c.args.is_empty() => c.function == "pi",
        ExprKind::Call(c) => c.args.iter().all(is_pinned),
        ExprKind::Vector(v) => v.shift.at.is_some(),
        ExprKind::Matrix(m) => m.vector.shift.at.is_some(),
        ExprKind::Subquery(s) => s.shift.at.is_some(),
    }
}

/// Whether it is more than a selector.
fn is_computed(expr: &Expr) -> bool {
    !matches!(expr.kind, ExprKind::Vector(_) | ExprKind::Matrix(_))
}

const SORTS: &[&str] = &["sort", "sort_desc", "sort_by_label", "sort_by_label_desc"];

pub const KNOWN: &[Known] = &[
    Known {
        reason: "mad_over_time() is NaN as soon as one sample is (prometheus#19040)",
        example: "mad_over_time(special[1h])",
        delayed: false,
        explains: |expr, theirs, ours| {
            call(expr, &["mad_over_time"]).is_some() && where_points_differ(theirs, ours, |_, b| is_nan(b))
        },
    },
    Known {
        reason: "pairs that an operator drops count in the check that matches are unique (prometheus#17668)",
        example: "requests_total > on (job) max by (job) (requests_total)",
        delayed: false,
        explains: |expr, theirs, ours| {
            let drops = |b: &Binary| {
                let dropped = "incompatible sample types encountered for binary operator";
                (b.op.is_comparison() && !b.return_bool) || theirs.infos.iter().any(|n| n.contains(dropped))
            };
            matches!(&expr.kind, ExprKind::Binary(b) if drops(b))
                && !theirs.is_error()
                && matches!(&ours.answer, Answer::Error(_, e) if e.starts_with("multiple matches for labels"))
        },
    },
    Known {
        reason: "the info on monotonicity says which buckets and how far (prometheus#15578)",
        example: "histogram_quantile(0.5, -latency_bucket)",
        delayed: false,
        explains: |expr, theirs, ours| {
            const TEXT: &str = "needed to be fixed for monotonicity";
            // The place stays, the details in front of it go; and without a name nothing is said of it (#16794).
            let plain = |n: &str| {
                let n = n.replace(" for metric name \"\"", "");
                let Some((text, place)) = n.rsplit_once(" (") else { return Some(n) };
                match text.split_once(", from buckets ") {
                    Some((text, _)) if text.contains(TEXT) => Some(format!("{text} ({place}")),
                    _ => Some(n),
                }
            };
            call(expr, &["histogram_quantile"]).is_some()
                && ours.infos.iter().any(|n| n.contains(TEXT))
                && same_values(theirs, ours)
                && same_notes(theirs, ours, plain)
        },
    },
    Known {
        reason: "annotations of histogram functions leave an empty metric name out (prometheus#16794)",
        example: "histogram_quantile(0, mixed / 3)",
        delayed: false,
        explains: |expr, theirs, ours| {
            call(expr, &["histogram_quantile", "histogram_fraction"]).is_some()
                && same_values(theirs, ours)
                && same_notes(theirs, ours, |n| Some(n.replace(" for metric name \"\"", "")))
        },
    },
    Known {
        reason: "sorting warns in a range query that it has no effect (prometheus#18498)",
        example: "sort(memory)",
        delayed: false,
        explains: |expr, theirs, ours| {
            call(expr, SORTS).is_some() && only_ours(theirs, ours, "sort is ineffective for range queries")
        },
    },
    Known {
        reason: "sums and differences of histograms warn of counter resets that conflict, and those of two operands are left out (prometheus#17051, #17094, #17312)",
        example: "histogram_sum((hist - hist offset 5m))",
        delayed: false,
        explains: |expr, theirs, ours| {
            // Hints are known to `histogram_sum` and the like alone, so that their operand does not warn by itself.
            let read = call(expr, &["histogram_count", "histogram_sum", "histogram_avg"]).is_some();
            let added = is_binary(expr, &[BinaryOp::Add, BinaryOp::Sub])
                || is_aggregation(expr, &[AggregateOp::Sum, AggregateOp::Avg])
                || call(expr, &["sum_over_time", "avg_over_time"]).is_some();
            let said = "conflicting counter resets during histogram";
            (read || added) && (only_ours(theirs, ours, said) || leaves_out(theirs, ours, said))
        },
    },
    Known {
        reason: "rate() and increase() of histograms do not extrapolate their count below zero (prometheus#16828)",
        example: "increase(hist_custom[5m])",
        delayed: false,
        explains: |expr, theirs, ours| {
            call(expr, &["rate", "increase"]).is_some() && where_points_differ(theirs, ours, is_scaled_down)
        },
    },
    Known {
        reason: "histogram_fraction() interpolates in the lowest bucket of a classic histogram (prometheus#17424)",
        example: "histogram_fraction(0, 3, latency_bucket)",
        delayed: false,
        explains: |expr, theirs, ours| {
            call(expr, &["histogram_fraction"]).is_some()
                && where_points_differ(theirs, ours, |a, b| is_nan(a) && !is_nan(b))
        },
    },
    Known {
        reason: "annotations point within the parentheses around an operand (prometheus#16896)",
        example: "stddev((hist))",
        delayed: false,
        explains: |expr, theirs, ours| {
            let paren = |e: &Expr| matches!(e.kind, ExprKind::Paren(_));
            let has = match &expr.kind {
                ExprKind::Call(c) => c.args.iter().any(paren),
                ExprKind::Aggregate(a) => paren(&a.expr) || a.param.as_ref().is_some_and(paren),
                _ => false,
            };
            // Of one without a metric name the text differs too, see above.
            let plain = |n: &str| without_place(&n.replace(" for metric name \"\"", ""));
            has && same_values(theirs, ours) && same_notes(theirs, ours, plain)
        },
    },
    Known {
        reason: "last_over_time() of a subquery keeps it dropped a name that is to be dropped (prometheus#18409)",
        example: "last_over_time(abs(memory)[5m:1m])",
        delayed: true,
        explains: |expr, theirs, ours| {
            let of_subquery = call(expr, &["last_over_time"])
                .is_some_and(|args| matches!(args[0].kind, ExprKind::Subquery(_)));
            let laid = Laid { order: Order::None, ..crate::laid(expr) };
            let nameless = theirs.without_names();
            let collide = matches!(&ours.answer, Answer::Error(_, e) if e.contains("metrics with the same labelset"))
                && nameless.has_duplicates();
            of_subquery && (collide || values(&nameless.answer, &ours.answer, laid).is_none())
        },
    },
    Known {
        reason: "custom buckets with different bounds are brought together (prometheus#17278)",
        example: "sum by (job) (hist_bounds)",
        delayed: false,
        explains: |_, theirs, ours| {
            let incompatible = |n: &String| {
                n.contains("incompatible custom buckets") || n.contains("incompatible bucket layout")
            };
            theirs.warnings.iter().any(incompatible)
                && ours.infos.iter().any(|n| n.contains("mismatched custom buckets were reconciled"))
        },
    },
    Known {
        reason: "info() does not bring a name back that is to be dropped (prometheus#19413)",
        example: "info(rate(requests_total[5m]))",
        delayed: true,
        explains: |expr, theirs, ours| {
            call(expr, &["info"]).is_some_and(|args| is_computed(&args[0]))
                && same_values(&theirs.without_names(), ours)
        },
    },
    Known {
        reason: "of several infos on one step of an operator Prometheus keeps one, this engine all",
        example: "mixed @ 1760005801.2 > on (job, instance) mixed_total @ 1760005801.2",
        delayed: false,
        explains: |expr, theirs, ours| {
            const TEXT: &str = "incompatible sample types encountered for binary operator";
            let all_are_ours = theirs.infos.iter().all(|n| ours.infos.contains(n));
            matches!(expr.kind, ExprKind::Binary(_))
                && all_are_ours
                && ours.infos.iter().all(|n| theirs.infos.contains(n) || n.contains(TEXT))
                && same_values(theirs, ours)
                && theirs.warnings == ours.warnings
        },
    },
    Known {
        reason: "where `@` pins the operand of an aggregation, Prometheus takes the parameter of the first step for all steps",
        example: "quantile(scalar(mixed{job=\"api\", instance=\"0\"} / 1000), memory @ start())",
        delayed: false,
        explains: |expr, _, _| match &expr.kind {
            ExprKind::Aggregate(a) => a.param.as_ref().is_some_and(|p| !is_pinned(p)) && is_pinned(&a.expr),
            _ => false,
        },
    },
    Known {
        reason: "averages of histograms add up first and divide then, so that infinities stay what they are (prometheus#15687)",
        example: "avg(hist_custom * Inf)",
        delayed: false,
        explains: |expr, theirs, ours| {
            let infinite = |a: &Point, b: &Point| matches!((a, b), (Point::Histogram(n, ..), Point::Histogram(m, ..)) if n.is_nan() && m.is_infinite());
            (is_aggregation(expr, &[AggregateOp::Avg]) || call(expr, &["avg_over_time"]).is_some())
                && where_points_differ(theirs, ours, infinite)
        },
    },
    Known {
        reason: "a histogram that was subtracted from or negated is a gauge (prometheus#17004)",
        example: "delta((-hist)[5m:1m])",
        delayed: false,
        explains: |expr, theirs, ours| {
            const NOT_A_GAUGE: &str = "this native histogram metric is not a gauge";
            const NOT_A_COUNTER: &str = "this native histogram metric is not a counter";
            let has = |full: &Full, text: &str| full.warnings.iter().any(|n| n.contains(text));
            let became_gauge = |functions: &[&str], by: &Full, text: &str| {
                let of_subquery =
                    call(expr, functions).is_some_and(|args| matches!(args[0].kind, ExprKind::Subquery(_)));
                of_subquery
                    && has(by, text)
                    && same_notes(theirs, ours, |n| (!n.contains(text)).then(|| n.to_owned()))
            };
            same_values(theirs, ours)
                && (became_gauge(&["delta", "idelta"], theirs, NOT_A_GAUGE)
                    || became_gauge(&["rate", "increase", "irate"], ours, NOT_A_COUNTER))
        },
    },
    Known {
        reason: "negated series that are the same without their names unite if they have no time in common (prometheus#17708)",
        example: "-(mixed{job=\"db\"} or on (job, instance) hist{job!=\"api\"})",
        delayed: false,
        explains: |expr, theirs, ours| {
            matches!(expr.kind, ExprKind::Unary { .. })
                && matches!(&theirs.answer, Answer::Error(_, e) if e.contains("cannot contain metrics with the same labelset"))
                && !ours.is_error()
        },
    },
    Known {
        reason: "so do series whose names are removed at the end (prometheus#17678)",
        example: "sgn(mixed{job!=\"api\"} offset -3m) or ignoring (instance, code) idelta(hist_custom{job=\"db\"}[1h30m])",
        delayed: true,
        explains: |expr, theirs, ours| {
            is_binary(expr, &[BinaryOp::Or])
                && matches!(&theirs.answer, Answer::Error(_, e) if e.contains("cannot contain metrics with the same labelset"))
                && !ours.is_error()
        },
    },
    Known {
        reason: "Go's exponential function on amd64 is infinite from half of the greatest double, in any version",
        example: "exp(vector(709.5))",
        delayed: false,
        explains: |expr, theirs, ours| {
            let overflows = |a: &Point, b: &Point| matches!((a, b), (Point::Float(a), Point::Float(b)) if a.is_infinite() && b.abs() > 4e307 && a.signum() == b.signum());
            call(expr, &["exp", "sinh", "cosh"]).is_some() && where_points_differ(theirs, ours, overflows)
        },
    },
];
