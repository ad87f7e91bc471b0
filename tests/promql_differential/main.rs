//! The same data and random expressions in a real Prometheus and in this crate's binary: values, errors, warnings and
//! infos must be the same.
//!
//! `$STREAMGATE_PROMETHEUS` names a folder with the binary `prometheus`; without it the test skips, and says so.
//! `$STREAMGATE_DIFFERENTIAL_CASES` and `$STREAMGATE_DIFFERENTIAL_SEED` choose how many cases and which.
//!
//! `data` makes the series, `generator` the expressions of what `constructs` lists, `server` runs both sides, `answer`
//! compares, `cause` finds the part that differs, `known` lists what 3.14 does otherwise.

#![allow(clippy::unwrap_used, reason = "a test stops at what it cannot do")]

use std::io::Write as _;
mod answer;
mod cause;
mod constructs;
mod data;
mod generator;
mod known;
mod odd;
mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use streamgate::promql::ast::{AggregateOp, Expr, ExprKind};
use streamgate::promql::{Features, parse_with};

use answer::{Full, Laid, Order, ROUNDING, difference};
use cause::Cause;
use constructs::{Counts, NEWER, NEWER_FUNCTIONS, constructs, count};
use data::{Random, START};
use generator::Generator;
use known::{EXAMPLES_AT, KNOWN, KNOWN_ERRORS};
use server::{Request, Server};

/// How often each construct of the language has to occur among the expressions that have a result.
const EACH: usize = 10;
/// Fewer cases than this are a look at something, not a comparison of all.
const CASES_MIN: usize = 2000;

/// What both sides have on.
fn features() -> Features {
    Features { experimental_functions: true, ..Features::default() }
}

/// Both sides with the same features on.
pub struct Pair {
    prometheus: Server,
    streamgate: Server,
}

impl Pair {
    fn new(folder: &Path, delayed_name_removal: bool) -> Pair {
        let delayed = if delayed_name_removal { ",promql-delayed-name-removal" } else { "" };
        let names = format!("promql-experimental-functions,promql-duration-expr{delayed}");
        Pair { prometheus: Server::prometheus(folder, &names), streamgate: Server::streamgate(&names) }
    }

    /// Theirs, and ours.
    fn ask(&self, query: &str, request: &Request) -> (Full, Full) {
        (self.prometheus.ask(query, request), self.streamgate.ask(query, request))
    }
}

/// What the expression lays down of its result.
fn laid(expr: &Expr) -> Laid {
    // The order in which Prometheus adds up what is not a selector is random, and a variance of large numbers shows it.
    let mut counts = Counts::new();
    count(expr, &mut counts);
    let is_variance = ["aggregation stddev", "aggregation stdvar"].iter().any(|v| counts.contains_key(*v));
    Laid { order: order(expr), slack: if is_variance { 1e-6 } else { ROUNDING } }
}

/// What of the order of the result the expression lays down in an instant query.
fn order(expr: &Expr) -> Order {
    match &expr.kind {
        ExprKind::Paren(inner) => order(inner),
        ExprKind::Call(c) => match c.function {
            "sort" | "sort_desc" => Order::Values,
            "sort_by_label" | "sort_by_label_desc" => Order::Labels,
            _ => Order::None,
        },
        ExprKind::Aggregate(a) if matches!(a.op, AggregateOp::TopK | AggregateOp::BottomK) => {
            if a.labels.is_empty() && !a.without { Order::Values } else { Order::None }
        }
        _ => Order::None,
    }
}

struct Case {
    query: String,
    request: Request,
    /// Whether names are removed at the end.
    delayed: bool,
}

fn cases(count: usize, seed: u64) -> Vec<Case> {
    let mut generator = Generator(Random(0x9E37_79B9_7F4A_7C15 ^ (seed << 17 | seed)));
    let constructs = constructs();
    let mut directed = constructs.iter().cycle();
    let mut case = |i: usize| {
        let query = match i % 20 {
            0 => generator.wrong(),
            1..=6 => generator.any(),
            _ => generator.directed(directed.next().unwrap()),
        };
        let mut at = START + 1_800_000 + generator.0.below(4_000_000) as i64 / 1000 * 1000;
        if generator.0.chance(5) {
            at += generator.0.below(1000) as i64;
        }
        let request = if generator.0.chance(50) {
            Request::instant(at)
        } else {
            let step_ms = [15_000, 60_000, 300_000][generator.0.below(3)];
            Request { start: at, end: at + 1_200_000, step_ms }
        };
        Case { query, request, delayed: generator.0.chance(25) }
    };
    (0..count).map(&mut case).collect()
}

/// What became of a case.
struct Outcome {
    has_result: bool,
    is_error: bool,
    causes: Vec<Cause>,
}

fn run(case: &Case, pairs: &[Pair; 2]) -> Outcome {
    let pair = &pairs[usize::from(case.delayed)];
    let (theirs, ours) = pair.ask(&case.query, &case.request);
    let expr = parse_with(&case.query, features());
    let laid = expr.as_ref().map_or(Laid::ANY_ORDER, laid);
    let mut causes = Vec::new();
    if let Some(why) = difference(&theirs, &ours, laid) {
        let found = match &expr {
            Ok(expr) => cause::find(pair, expr, &case.request, &mut causes),
            Err(_) => {
                known::explain_error(&theirs, &ours).map(|reason| causes.push(Cause::Known(reason))).is_some()
            }
        };
        if !found {
            causes.push(Cause::New(format!("{} for {:?}", case.query, case.request), why));
        }
    }
    Outcome { has_result: theirs.has_result(), is_error: theirs.is_error(), causes }
}

/// Runs all cases, two at a time.
fn run_all(cases: &[Case], pairs: &[Pair; 2]) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(i) else { return done };
            done.push((i, run(case, pairs)));
        }
    };
    let mut all = std::thread::scope(|scope| {
        let workers = [(); 2].map(|()| scope.spawn(work));
        workers.into_iter().flat_map(|w| w.join().unwrap()).collect::<Vec<_>>()
    });
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Runs the cases that differ in a new way once more, with servers that have answered nothing yet; how many of them no
/// longer differ. Prometheus 3.5 now and then gives a histogram the buckets of another: it takes histograms from a pool, and
/// two of them share memory, until the pool is emptied.
fn run_again(cases: &[Case], outcomes: &mut [Outcome], folder: &Path) -> usize {
    let is_new = |o: &Outcome| o.causes.iter().any(|c| matches!(c, Cause::New(..)));
    if !outcomes.iter().any(is_new) {
        return 0;
    }
    let pairs = [Pair::new(folder, false), Pair::new(folder, true)];
    let mut gone = 0;
    for (case, outcome) in cases.iter().zip(outcomes).filter(|(_, o)| is_new(o)) {
        *outcome = run(case, &pairs);
        gone += usize::from(!is_new(outcome));
    }
    gone
}

#[test]
fn answers_are_prometheus_answers() {
    let Some(folder) = std::env::var_os("STREAMGATE_PROMETHEUS").map(PathBuf::from) else {
        // Printing macros are silent in a test that passes.
        std::io::stderr()
            .write_all(b"\nSKIPPED: set STREAMGATE_PROMETHEUS to a folder with prometheus\n")
            .unwrap();
        return;
    };
    let pairs = [Pair::new(&folder, false), Pair::new(&folder, true)];
    let stale = no_longer_differ(&pairs);

    let from_env =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let count_of_cases = from_env("STREAMGATE_DIFFERENTIAL_CASES", 3000) as usize;
    let cases = cases(count_of_cases, from_env("STREAMGATE_DIFFERENTIAL_SEED", 1));
    let mut outcomes = run_all(&cases, &pairs);
    let unsteady = run_again(&cases, &mut outcomes, &folder);

    let mut counts: Counts = constructs().into_iter().map(|c| (c, 0)).collect();
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut differ, mut errors, mut results) = (Vec::new(), 0, 0);
    for (case, outcome) in cases.iter().zip(&outcomes) {
        errors += usize::from(outcome.is_error);
        results += usize::from(outcome.has_result);
        if outcome.has_result
            && let Ok(expr) = parse_with(&case.query, features())
        {
            count(&expr, &mut counts);
        }
        let mut new = Vec::new();
        for cause in &outcome.causes {
            match cause {
                Cause::Known(reason) => *known.entry(reason).or_default() += 1,
                Cause::New(text, why) => new.push(format!("  {text}\n    {why}")),
            }
        }
        if !new.is_empty() {
            let delayed = if case.delayed { ", names removed at the end" } else { "" };
            differ.push(format!("{}{delayed}\n{}", case.query, new.join("\n")));
        }
    }

    let counted: Vec<String> = counts.iter().map(|(n, c)| format!("{n} {c}")).collect();
    println!("\noccurrences: {}", counted.join(", "));
    println!("differences between the versions: {known:#?}\n{}", differ.join("\n"));
    println!("{unsteady} differed with servers that had answered others before, and not with new ones");
    println!(
        "{count_of_cases} cases: {results} with a result, {} empty, {errors} errors, {} differ as listed, {} otherwise",
        count_of_cases - results - errors,
        outcomes.iter().filter(|o| !o.causes.is_empty()).count() - differ.len(),
        differ.len()
    );
    println!("answers as of prometheus: {} of {count_of_cases}", count_of_cases - differ.len());
    assert!(stale.is_empty(), "known differences that are not as listed:\n{}", stale.join("\n"));
    assert!(differ.is_empty(), "{} answers differ", differ.len());
    if count_of_cases >= CASES_MIN {
        let rare: Vec<_> = counts.iter().filter(|(_, n)| **n < EACH).collect();
        assert!(rare.is_empty(), "too rare: {rare:?}");
    }
    assert!(results * 100 >= 80 * count_of_cases, "only {results} of {count_of_cases} have a result");
}

/// What is said to differ between the versions and does not, or not so.
fn no_longer_differ(pairs: &[Pair; 2]) -> Vec<String> {
    let mut wrong = Vec::new();
    for known in KNOWN {
        let expr = parse_with(known.example, features()).unwrap();
        let mut causes = Vec::new();
        cause::find(&pairs[usize::from(known.delayed)], &expr, &EXAMPLES_AT, &mut causes);
        if !matches!(causes[..], [Cause::Known(reason)] if reason == known.reason) {
            wrong.push(format!("{}: {}: {causes:?}", known.reason, known.example));
        }
    }
    for known in KNOWN_ERRORS {
        let (theirs, ours) = pairs[0].ask(known.example, &EXAMPLES_AT);
        if known::explain_error(&theirs, &ours) != Some(known.reason) {
            wrong.push(format!("{}: {}: {theirs:?}, ours {ours:?}", known.reason, known.example));
        }
    }
    for (name, example) in NEWER_FUNCTIONS.iter().chain(NEWER) {
        let theirs = pairs[0].prometheus.ask(example, &EXAMPLES_AT);
        if !theirs.is_error() || parse_with(example, Features::all()).is_err() {
            wrong.push(format!("{name} is not newer: {example}: {theirs:?}"));
        }
    }
    wrong
}
